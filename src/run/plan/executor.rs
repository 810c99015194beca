//! The `executor` key: the scheduler that spreads a run over a cluster, and what is asked of it.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// Shards of each step, unless the run file says otherwise.
const SHARDS: u32 = 8;

/// The scheduler that spreads a run over a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecutorSection {
    /// Which scheduler.
    pub kind: ExecutorKind,
    /// Shards that each step is cut into; fewer if there are fewer images.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(default = "shards")]
    pub shards: u32,
    /// Partition to submit to; the cluster's default if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Account that pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Time limit of each task, as Slurm writes it; one that does not suffice is gone on with after a requeue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<SlurmTime>,
    /// Cores of each task.
    #[schemars(range(min = 1, max = 1024))]
    #[serde(default = "one")]
    pub cpus_per_task: u32,
    /// Features that nodes must have, as Slurm writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// Shards at work at the same time, at most.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
}

impl ExecutorSection {
    /// Slurm, with its defaults.
    pub fn slurm() -> ExecutorSection {
        ExecutorSection {
            kind: ExecutorKind::Slurm,
            shards: SHARDS,
            partition: None,
            account: None,
            time: None,
            cpus_per_task: 1,
            constraint: None,
            max_parallel: None,
        }
    }
}

/// A scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecutorKind {
    /// Slurm, through `sbatch`.
    Slurm,
}

fn shards() -> u32 {
    SHARDS
}

fn one() -> u32 {
    1
}

/// A time limit as Slurm writes it: minutes, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`,
/// `days-hours:minutes` or `days-hours:minutes:seconds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SlurmTime(String);

impl SlurmTime {
    fn parse(text: &str) -> Option<SlurmTime> {
        let (days, rest) = text.split_once('-').map_or((None, text), |(days, rest)| (Some(days), rest));
        let fields: Vec<&str> = days.into_iter().chain(rest.split(':')).collect();
        let number =
            |field: &&str| !field.is_empty() && field.len() <= 6 && field.bytes().all(|b| b.is_ascii_digit());
        let colons = rest.matches(':').count();
        (fields.iter().all(number) && colons <= 2).then(|| SlurmTime(text.to_string()))
    }
}

impl fmt::Display for SlurmTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for SlurmTime {
    fn schema_name() -> Cow<'static, str> {
        "SlurmTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Minutes, or hours:minutes:seconds, or days-hours:minutes:seconds.",
            "anyOf": [
                { "type": "integer", "minimum": 1 },
                { "type": "string", "pattern": "^([0-9]+-)?[0-9]+(:[0-9]+){0,2}$" }
            ]
        })
    }
}

impl<'de> Deserialize<'de> for SlurmTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeVisitor;
        impl Visitor<'_> for TimeVisitor {
            type Value = SlurmTime;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("minutes, hours:minutes:seconds or days-hours:minutes:seconds, such as 02:00:00")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<SlurmTime, E> {
                let minutes = u32::try_from(value).ok().filter(|minutes| *minutes > 0);
                let minutes =
                    minutes.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(value), &self))?;
                Ok(SlurmTime(minutes.to_string()))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<SlurmTime, E> {
                SlurmTime::parse(value).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(TimeVisitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_slurm() {
        for text in ["30", "30:00", "02:00:00", "1-12", "1-12:30", "1-12:30:15"] {
            assert_eq!(SlurmTime::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "2h", "1-", "1:2:3:4", "-5", "1--2", "--partition=x", "1 2", "UNLIMITED"] {
            assert_eq!(SlurmTime::parse(text), None, "{text}");
        }
    }
}
