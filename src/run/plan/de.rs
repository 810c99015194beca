//! From the tree to the structs of [`super::file`], with errors that say which path was at fault.
//!
//! `serde` tells an error type of its own what exactly was wrong (an unknown key and the known
//! ones, a found and an expected type); the YAML library would flatten that to a sentence.

use std::fmt::Display;

use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};

use super::node::{Node, Segment, Target, dotted};
use super::problem::{Problem, nearest};

/// What was wrong with the shape of the tree, and where.
#[derive(Debug)]
pub struct ShapeError {
    kind: Kind,
    place: Option<(Vec<Segment>, Target)>,
}

#[derive(Debug)]
enum Kind {
    UnknownKey { known: &'static [&'static str] },
    UnknownWord { word: String, known: &'static [&'static str] },
    Type { found: String, expected: String },
    Missing { key: &'static str },
    Other(String),
}

impl ShapeError {
    fn new(kind: Kind) -> Self {
        ShapeError { kind, place: None }
    }

    fn at(mut self, trail: &Trail, target: Target) -> Self {
        self.place.get_or_insert_with(|| (trail.segments(), target));
        self
    }

    /// The message for the user.
    pub fn into_problem(self) -> Problem {
        let (path, target) = self.place.unwrap_or((Vec::new(), Target::Value));
        let name = dotted(&path);
        let this = if name.is_empty() { "the run file".to_string() } else { format!("'{name}'") };
        let problem = match self.kind {
            Kind::UnknownKey { known } => {
                let (key, parent) = match path.split_last() {
                    Some((Segment::Key(key), parent)) => (key.clone(), dotted(parent)),
                    _ => (name, String::new()),
                };
                let within = if parent.is_empty() { String::new() } else { format!(" in '{parent}'") };
                Problem::new(format!("unknown key '{key}'{within}"))
                    .expected(format!("one of {}", known.join(", ")))
                    .hint_option(nearest(&key, known).map(|word| format!("did you mean '{word}'?")))
            }
            Kind::UnknownWord { word, known } => Problem::new(format!("{this} is '{word}'"))
                .expected(match known {
                    [only] => format!("'{only}', the only choice so far"),
                    _ => format!("one of {}", known.join(", ")),
                })
                .hint_option(nearest(&word, known).map(|word| format!("did you mean '{word}'?"))),
            Kind::Type { found, expected } => {
                let hint = (expected == "text" && found != "empty" && !found.starts_with("a "))
                    .then(|| "put the value in quotes".to_string());
                Problem::new(format!("{this} is {found}")).expected(expected).hint_option(hint)
            }
            Kind::Missing { key } => {
                let within = if name.is_empty() { String::new() } else { format!(" in '{name}'") };
                Problem::new(format!("the key '{key}' is missing{within}")).hint_option(missing_hint(key))
            }
            Kind::Other(what) => Problem::new(format!("{this}: {what}")),
        };
        problem.at(path, target)
    }
}

/// What to write for a required key.
fn missing_hint(key: &str) -> Option<String> {
    let text = match key {
        "version" => "begin the file with `version: 1`",
        "name" => "give the run a name, such as `name: mobilenet-v2`",
        "model" => "add `model: {path: model.onnx}`, relative to the run file",
        "dataset" => "add `dataset: {path: images/}`, relative to the run file",
        "preprocess" => {
            "add a preset, such as `preprocess: imagenet-torchvision`, or the steps of the training"
        }
        "path" => "add `path: …`, relative to the run file",
        _ => return None,
    };
    Some(text.to_string())
}

impl std::fmt::Display for ShapeError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for ShapeError {}

impl de::Error for ShapeError {
    fn custom<T: Display>(message: T) -> Self {
        ShapeError::new(Kind::Other(message.to_string()))
    }

    fn invalid_type(unexpected: Unexpected, expected: &dyn Expected) -> Self {
        ShapeError::new(Kind::Type { found: found(unexpected), expected: plain(&expected.to_string()) })
    }

    fn invalid_value(unexpected: Unexpected, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        let found = format!("a list of {length}");
        ShapeError::new(Kind::Type { found, expected: plain(&expected.to_string()) })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        ShapeError::new(Kind::UnknownWord { word: variant.to_string(), known: expected })
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        ShapeError::new(Kind::UnknownKey { known: expected })
    }

    fn missing_field(field: &'static str) -> Self {
        ShapeError::new(Kind::Missing { key: field })
    }
}

fn found(unexpected: Unexpected) -> String {
    match unexpected {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(value) => format!("the text '{value}'"),
        Unexpected::Unit | Unexpected::Option => "empty".to_string(),
        Unexpected::Seq => "a list".to_string(),
        Unexpected::Map => "a mapping".to_string(),
        other => other.to_string(),
    }
}

/// Serde's name of a type in the words of a run file.
fn plain(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "f32" | "f64" => "a number",
        "a string" => "text",
        "a boolean" => "true or false",
        "a sequence" => "a list, such as [1]",
        "an array of length 2" => "a list of two numbers: [width, height]",
        _ if expected.starts_with("struct ") => "a mapping with keys of its own",
        _ if expected.starts_with("variant identifier") => "a word",
        _ => expected,
    }
    .to_string()
}

/// Where in the tree the deserializer is: a list that grows with the call stack.
#[derive(Debug, Clone, Copy)]
pub enum Trail<'a> {
    /// The whole file.
    Root,
    /// Behind a key.
    Key(&'a Trail<'a>, &'a str),
    /// In a list.
    Index(&'a Trail<'a>, usize),
}

impl Trail<'_> {
    fn segments(&self) -> Vec<Segment> {
        match self {
            Trail::Root => Vec::new(),
            Trail::Key(parent, key) => {
                let mut segments = parent.segments();
                segments.push(Segment::Key((*key).to_string()));
                segments
            }
            Trail::Index(parent, index) => {
                let mut segments = parent.segments();
                segments.push(Segment::Index(*index));
                segments
            }
        }
    }
}

/// Reads a value out of a tree.
///
/// # Errors
/// The tree has another shape than `T`.
pub fn from_node<'de, T: serde::Deserialize<'de>>(node: &'de Node) -> Result<T, ShapeError> {
    T::deserialize(NodeDeserializer { node, trail: Trail::Root })
}

#[derive(Clone, Copy)]
struct NodeDeserializer<'de, 't> {
    node: &'de Node,
    trail: Trail<'t>,
}

impl<'de> NodeDeserializer<'de, '_> {
    fn located<T>(&self, result: Result<T, ShapeError>) -> Result<T, ShapeError> {
        result.map_err(|error| error.at(&self.trail, Target::Value))
    }

    fn seq<V: Visitor<'de>>(&self, items: &'de [Node], visitor: V) -> Result<V::Value, ShapeError> {
        let mut access = ListAccess { items, next: 0, trail: &self.trail };
        let value = visitor.visit_seq(&mut access)?;
        if access.next < items.len() {
            return Err(de::Error::invalid_length(items.len(), &"an array of length 2"));
        }
        Ok(value)
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer<'de, '_> {
    type Error = ShapeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        self.located(match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Int(value) => visitor.visit_i64(*value),
            Node::Unsigned(value) => visitor.visit_u64(*value),
            Node::Float(value) => visitor.visit_f64(*value),
            Node::Text(value) => visitor.visit_borrowed_str(value),
            Node::List(items) => self.seq(items, visitor),
            Node::Map(entries) => visitor.visit_map(EntryAccess { entries, next: 0, trail: &self.trail }),
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        match self.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A key with nothing behind it (all its own keys commented out) is an empty mapping.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        match self.node {
            Node::Null => {
                self.located(visitor.visit_map(EntryAccess { entries: &[], next: 0, trail: &self.trail }))
            }
            Node::Map(_) => self.deserialize_any(visitor),
            // Serde's structs would take a list, by position.
            other => self.located(Err(de::Error::invalid_type(unexpected(other), &visitor))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        self.located(match self.node {
            Node::Text(word) => visitor.visit_enum(word.as_str().into_deserializer()),
            other => Err(de::Error::invalid_type(unexpected(other), &"a word")),
        })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

fn unexpected(node: &Node) -> Unexpected<'_> {
    match node {
        Node::Null => Unexpected::Unit,
        Node::Bool(value) => Unexpected::Bool(*value),
        Node::Int(value) => Unexpected::Signed(*value),
        Node::Unsigned(value) => Unexpected::Unsigned(*value),
        Node::Float(value) => Unexpected::Float(*value),
        Node::Text(value) => Unexpected::Str(value),
        Node::List(_) => Unexpected::Seq,
        Node::Map(_) => Unexpected::Map,
    }
}

struct ListAccess<'de, 't> {
    items: &'de [Node],
    next: usize,
    trail: &'t Trail<'t>,
}

impl<'de> SeqAccess<'de> for &mut ListAccess<'de, '_> {
    type Error = ShapeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ShapeError> {
        let Some(node) = self.items.get(self.next) else { return Ok(None) };
        let trail = Trail::Index(self.trail, self.next);
        self.next += 1;
        seed.deserialize(NodeDeserializer { node, trail })
            .map(Some)
            .map_err(|error| error.at(&trail, Target::Value))
    }
}

struct EntryAccess<'de, 't> {
    entries: &'de [(String, Node)],
    next: usize,
    trail: &'t Trail<'t>,
}

impl<'de> MapAccess<'de> for EntryAccess<'de, '_> {
    type Error = ShapeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ShapeError> {
        let Some((key, _)) = self.entries.get(self.next) else { return Ok(None) };
        let deserializer: de::value::StrDeserializer<ShapeError> = key.as_str().into_deserializer();
        seed.deserialize(deserializer)
            .map(Some)
            .map_err(|error| error.at(&Trail::Key(self.trail, key), Target::Key(0)))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ShapeError> {
        let Some((key, node)) = self.entries.get(self.next) else {
            return Err(de::Error::custom("a value was asked for without its key"));
        };
        self.next += 1;
        let trail = Trail::Key(self.trail, key);
        seed.deserialize(NodeDeserializer { node, trail }).map_err(|error| error.at(&trail, Target::Value))
    }
}
