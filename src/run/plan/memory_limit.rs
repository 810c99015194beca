//! The `memory_limit` key: bytes, a number with a unit, or `auto`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Below this not even the program and a small model fit.
pub const LEAST: u64 = 64 << 20;

const UNITS: [(&str, u64); 9] = [
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("B", 1),
];

/// Memory that a run may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MemoryLimit {
    /// A share of what the machine or the cgroup has.
    #[default]
    Auto,
    /// This many bytes.
    Bytes(u64),
}

impl MemoryLimit {
    /// The bytes that were given, if any were.
    pub fn bytes(self) -> Option<u64> {
        match self {
            MemoryLimit::Auto => None,
            MemoryLimit::Bytes(bytes) => Some(bytes),
        }
    }

    fn parse(text: &str) -> Option<MemoryLimit> {
        if text == "auto" {
            return Some(MemoryLimit::Auto);
        }
        let (unit, factor) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
        let number: f64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        let bytes = number * factor as f64;
        (number.is_finite() && number >= 0.0 && bytes < 2f64.powi(62))
            .then_some(MemoryLimit::Bytes(bytes as u64))
    }
}

impl JsonSchema for MemoryLimit {
    fn schema_name() -> Cow<'static, str> {
        "MemoryLimit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes, a number with a unit, or auto.",
            "anyOf": [
                { "type": "integer", "minimum": LEAST },
                { "type": "string", "pattern": "^(auto|[0-9]+(\\.[0-9]+)? *(B|[kMGT]B|[KMGT]iB))$" }
            ]
        })
    }
}

impl<'de> Deserialize<'de> for MemoryLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LimitVisitor;
        impl Visitor<'_> for LimitVisitor {
            type Value = MemoryLimit;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("bytes, a number with a unit such as 8 GB or 512 MiB, or auto")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<MemoryLimit, E> {
                let wrong = |_| E::invalid_value(de::Unexpected::Signed(value), &self);
                u64::try_from(value).map(MemoryLimit::Bytes).map_err(wrong)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<MemoryLimit, E> {
                Ok(MemoryLimit::Bytes(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<MemoryLimit, E> {
                MemoryLimit::parse(value).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(LimitVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_bytes() {
        let of = |text| MemoryLimit::parse(text).and_then(MemoryLimit::bytes);
        assert_eq!(of("8 GB"), Some(8_000_000_000));
        assert_eq!(of("1.5GiB"), Some(3 << 29));
        assert_eq!(of("512 MiB"), Some(512 << 20));
        assert_eq!(of("100 B"), Some(100));
        assert_eq!(MemoryLimit::parse("auto"), Some(MemoryLimit::Auto));
        for wrong in ["", "8", "8 G", "GB", "-1 GB", "nan GB", "inf GB", "1e30 GB", "8 gb", "eight GB"] {
            assert_eq!(MemoryLimit::parse(wrong), None, "{wrong:?}");
        }
    }
}
