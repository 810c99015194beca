//! A run file as a tree, before anything is known about its keys.
//!
//! The tree keeps duplicate keys and their order, so that the checks that follow can speak of them.
//! It holds no positions: [`locate`] finds the position of any one path when an error needs it, by
//! reading the text again and failing on purpose at that spot, since the YAML library tells
//! positions only in errors.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// A YAML value.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `null`, `~`, or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number that fits in 64 bits with a sign.
    Int(i64),
    /// A larger whole number.
    Unsigned(u64),
    /// Any other number.
    Float(f64),
    /// Everything else that is no list or mapping.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the file, duplicates kept.
    Map(Vec<(String, Node)>),
}

/// One step down a [`Node`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// What of an entry to point at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The key itself; of several equal ones, the one with this number, from 0.
    Key(usize),
    /// What stands behind the key.
    Value,
}

impl Node {
    /// The value at `path`, if there is one.
    pub fn get(&self, path: &[Segment]) -> Option<&Node> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        let inner = match (self, first) {
            (Node::Map(entries), Segment::Key(key)) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            (Node::List(items), Segment::Index(index)) => items.get(*index),
            _ => None,
        };
        inner?.get(rest)
    }
}

/// `optimize.dataset.path`, `performance.streams[1]`; empty for the whole file.
pub fn dotted(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Key(key) if text.is_empty() => text.push_str(key),
            Segment::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Segment::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// Line and column, both from 1, of `path` in `text`; `None` when the text has no such path.
pub fn locate(text: &str, path: &[Segment], target: Target) -> Option<(usize, usize)> {
    let probe = Probe { path, target };
    let error = probe.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.location().map(|location| (location.line(), location.column()))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(i64::try_from(value).map_or(Node::Unsigned(value), Node::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_enum<A: de::EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(de::Error::custom("a tag means nothing in a run file"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

/// Walks down `path` and fails at its end, so that the error carries the position.
#[derive(Clone, Copy)]
struct Probe<'p> {
    path: &'p [Segment],
    target: Target,
}

impl<'de> DeserializeSeed<'de> for Probe<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.path.is_empty() {
            deserializer.deserialize_any(Here)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Probe<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the path that is sought")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let mut index = 0;
        loop {
            let found = self.path.first() == Some(&Segment::Index(index));
            let more = if found {
                access.next_element_seed(Probe { path: &self.path[1..], ..self })?.is_some()
            } else {
                access.next_element::<de::IgnoredAny>()?.is_some()
            };
            if !more {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some(Segment::Key(wanted)) = self.path.first() else {
            while access.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        let fail_at = match self.target {
            Target::Key(occurrence) if self.path.len() == 1 => Some(occurrence),
            _ => None,
        };
        let mut seen = 0;
        while let Some(matches) = access.next_key_seed(KeyProbe { wanted, fail: fail_at == Some(seen) })? {
            if matches && fail_at.is_none() {
                access.next_value_seed(Probe { path: &self.path[1..], ..self })?;
            } else {
                access.next_value::<de::IgnoredAny>()?;
            }
            seen += usize::from(matches);
        }
        Ok(())
    }
}

/// Says whether a key is the wanted one; fails on it when told to.
struct KeyProbe<'p> {
    wanted: &'p str,
    fail: bool,
}

impl<'de> DeserializeSeed<'de> for KeyProbe<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyProbe<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        match key == self.wanted {
            true if self.fail => Err(E::custom("found")),
            matches => Ok(matches),
        }
    }
}

/// Accepts nothing.
struct Here;

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("nothing")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const TEXT: &str = "a: 1\nb:\n  c: [10, {d: x}]\n  c: again\n# end\ne: 'q'\n";

    fn key(name: &str) -> Segment {
        Segment::Key(name.to_string())
    }

    #[test]
    fn values_and_keys_are_found_in_block_and_flow_style() {
        let c = [key("b"), key("c")];
        assert_eq!(locate(TEXT, &[key("a")], Target::Value), Some((1, 4)));
        assert_eq!(locate(TEXT, &[key("e")], Target::Key(0)), Some((6, 1)));
        assert_eq!(locate(TEXT, &c, Target::Key(0)), Some((3, 3)));
        assert_eq!(locate(TEXT, &c, Target::Key(1)), Some((4, 3)));
        let d = [key("b"), key("c"), Segment::Index(1), key("d")];
        assert_eq!(locate(TEXT, &d, Target::Value), Some((3, 15)));
    }

    #[test]
    fn what_is_not_there_has_no_place() {
        assert_eq!(locate(TEXT, &[key("z")], Target::Value), None);
        assert_eq!(locate(TEXT, &[key("a"), key("z")], Target::Value).map(|_| ()), Some(()));
        assert_eq!(locate(TEXT, &[key("a")], Target::Key(1)), None);
    }

    #[test]
    fn the_tree_keeps_duplicates() {
        let node: Node = serde_yaml::from_str(TEXT).unwrap();
        let Some(Node::Map(entries)) = node.get(&[key("b")]) else { panic!("no mapping") };
        assert_eq!(entries.iter().map(|(k, _)| k.as_str()).collect::<Vec<_>>(), ["c", "c"]);
        assert_eq!(node.get(&[key("b"), key("c"), Segment::Index(0)]), Some(&Node::Int(10)));
    }
}
