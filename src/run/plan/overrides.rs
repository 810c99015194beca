//! `--set key.path=value`: the command line laid over the run file.

use super::node::{Node, Segment, dotted};
use super::problem::Problem;

/// One `--set` argument.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// The argument as it was given.
    pub argument: String,
    /// The path to set.
    pub path: Vec<Segment>,
    /// The value, read as YAML.
    pub value: Node,
}

impl Override {
    /// Reads `key.path=value`.
    ///
    /// # Errors
    /// There is no `=`, the path is empty, or the value isn't YAML.
    pub fn parse(argument: &str) -> Result<Self, Problem> {
        let example = "such as optimize.preset=mixed or performance.streams=[1,2]";
        let Some((path, value)) = argument.split_once('=') else {
            return Err(Problem::new("there is no '='").expected(format!("key.path=value, {example}")));
        };
        let keys: Vec<&str> = path.split('.').map(str::trim).collect();
        if keys.iter().any(|key| key.is_empty()) {
            return Err(Problem::new("the key is empty").expected(format!("key.path=value, {example}")));
        }
        let value = match serde_yaml::from_str(value) {
            Ok(value) => value,
            Err(_) if value.trim().is_empty() => Node::Null,
            Err(error) => {
                return Err(Problem::new(format!("the value is not YAML: {error}"))
                    .hint("put the argument in single quotes for the shell, and text with special characters in double quotes inside"));
            }
        };
        let path = keys.into_iter().map(|key| Segment::Key(key.to_string())).collect();
        Ok(Override { argument: argument.to_string(), path, value })
    }

    /// Lays the value over `root`; mappings on the way are made.
    ///
    /// # Errors
    /// A key on the way holds a list or plain value.
    pub fn apply(&self, root: &mut Node) -> Result<(), Problem> {
        let mut node = root;
        for (depth, segment) in self.path.iter().enumerate() {
            let Segment::Key(key) = segment else { continue };
            if *node == Node::Null {
                *node = Node::Map(Vec::new());
            }
            let Node::Map(entries) = node else {
                return Err(Problem::new(format!(
                    "'{}' has no keys of its own",
                    dotted(&self.path[..depth])
                ))
                .hint(format!("set the whole of it: --set {}=…", dotted(&self.path[..depth]))));
            };
            let index = entries.iter().position(|(name, _)| name == key).unwrap_or_else(|| {
                entries.push((key.clone(), Node::Null));
                entries.len() - 1
            });
            node = &mut entries[index].1;
        }
        *node = self.value.clone();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn set(text: &str, argument: &str) -> Node {
        let mut node = serde_yaml::from_str(text).unwrap();
        Override::parse(argument).unwrap().apply(&mut node).unwrap();
        node
    }

    #[test]
    fn values_replace_or_are_added() {
        assert_eq!(set("{a: {b: 1}}", "a.b=[1, auto]"), serde_yaml::from_str("{a: {b: [1, auto]}}").unwrap());
        assert_eq!(set("{a: 1}", "x.y.z=text"), serde_yaml::from_str("{a: 1, x: {y: {z: text}}}").unwrap());
        assert_eq!(set("a:", "a.b=0.5"), serde_yaml::from_str("{a: {b: 0.5}}").unwrap());
        assert_eq!(set("{a: 1}", "a="), serde_yaml::from_str("{a: null}").unwrap());
        assert_eq!(set("{a: 1}", "a=k=v"), serde_yaml::from_str("{a: k=v}").unwrap());
    }

    #[test]
    fn a_plain_value_has_no_keys() {
        let mut node = serde_yaml::from_str("{a: 1}").unwrap();
        assert!(Override::parse("a.b=2").unwrap().apply(&mut node).is_err());
    }
}
