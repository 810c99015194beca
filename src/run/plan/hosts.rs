//! The `performance.on` key: kinds of node to measure on.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

/// Nodes to measure on: features that they must have, or their names. One node of them is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Nodes {
    /// Features, as Slurm writes a constraint.
    Constraint(String),
    /// Names.
    Named(NamedNodes),
}

/// Nodes by their names.
#[derive(Debug, Clone, PartialEq, Eq, DeriveDeserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedNodes {
    /// A list of nodes as Slurm writes it, such as node[1-4].
    pub nodes: String,
}

impl Nodes {
    /// The text of a run file.
    pub fn text(&self) -> &str {
        match self {
            Nodes::Constraint(text) => text,
            Nodes::Named(named) => &named.nodes,
        }
    }

    /// What is wrong with it, if anything is. The text becomes an argument of `sbatch`.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let text = self.text();
        if text.trim().is_empty() {
            return Some("is empty");
        }
        if text.len() > 500 {
            return Some("is longer than 500 characters");
        }
        text.contains(|c: char| c.is_control() || c.is_whitespace()).then_some("holds white space")
    }
}

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodesVisitor;
        impl<'de> Visitor<'de> for NodesVisitor {
            type Value = Nodes;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("features of nodes such as avx512, or their names as in {nodes: 'node[1-4]'}")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Nodes, E> {
                Ok(Nodes::Constraint(value.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Nodes, A::Error> {
                NamedNodes::deserialize(MapAccessDeserializer::new(access)).map(Nodes::Named)
            }
        }
        deserializer.deserialize_any(NodesVisitor)
    }
}
