//! What the Performance tab does outside of the loop: reads what was measured, and has it measured again.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Hosts, Msg};
use crate::measure::Warning;
use crate::measure::layers::LayerRow;
use crate::project::atomic;
use crate::run::summary::{PerformanceRow, Speedup};
use crate::run::{history, launch};
use crate::tui::app::Level;
use crate::tui::message::{self, Mailer};

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Read the measurements of the run in this directory.
    Load(PathBuf),
    /// Measure the run in this directory again.
    Measure(PathBuf),
    /// Read what was measured in these folders, for the run in this directory.
    Hosts {
        /// The run.
        directory: PathBuf,
        /// Where to look.
        places: Vec<PathBuf>,
    },
    /// Write the layers that are shown.
    Export {
        /// How many they are.
        count: usize,
        /// As CSV.
        text: String,
        /// Where.
        path: PathBuf,
    },
}

/// What a run measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// Speed of each model in each setting.
    pub rows: Vec<PerformanceRow>,
    /// How much faster the optimized model is in each setting.
    pub speedup: Vec<Speedup>,
    /// What makes the numbers doubtful, one of each kind.
    pub warnings: Vec<String>,
    /// The time of each layer in both models.
    pub layers: Vec<LayerRow>,
}

/// Does it, on a thread of its own.
pub fn execute(effect: Effect, mailer: &Mailer) {
    match effect {
        Effect::Load(directory) => {
            let measured = load(&directory);
            mailer.send(message::Msg::Performance(Msg::Loaded(directory, Box::new(measured))));
        }
        Effect::Measure(directory) => mailer.send(match launch::measure_again(&directory) {
            Ok(started) => message::Msg::Performance(Msg::Begun(directory, started.pid)),
            Err(error) => message::Msg::Say(Level::Error, error.to_string()),
        }),
        Effect::Hosts { directory, places } => {
            let found = hosts(&places);
            mailer.send(message::Msg::Performance(Msg::Hosts(directory, found)));
        }
        Effect::Export { count, text, path } => mailer.send(match atomic::write(&path, text.as_bytes()) {
            Ok(()) => {
                message::Msg::Say(Level::Done, format!("{count} lines as they are shown: {}", path.display()))
            }
            Err(error) => message::Msg::Say(Level::Error, error.to_string()),
        }),
    }
}

/// Reads every `performance.json` in these folders. A copy from another host is one more of them: it may be in a
/// folder of its own below the project's, or below `hosts` in the workspace.
///
/// # Errors
/// Why there is nothing to show, in words.
pub fn hosts(places: &[PathBuf]) -> Hosts {
    let there: Vec<PathBuf> = places.iter().filter(|place| place.is_dir()).cloned().collect();
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for file in history::find(&there) {
        match history::read(&file) {
            Ok(measurements) => found.extend(measurements),
            Err(why) => failed.push(why),
        }
    }
    history::sort(&mut found);
    let skipped = match &failed[..] {
        [] => None,
        [why] => Some(why.clone()),
        [why, ..] => Some(format!("{} files can't be read; the first: {why}", failed.len())),
    };
    match (found.is_empty(), skipped) {
        (true, Some(why)) => Err(why),
        (true, None) => Err("nothing was measured in this project".into()),
        (false, skipped) => Ok((found, skipped)),
    }
}

/// Reads `performance.json`.
///
/// # Errors
/// Why there is nothing to show, in words.
pub fn load(directory: &Path) -> Result<Measured, String> {
    let path = directory.join("performance.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err("Nothing was measured yet: the run has not come so far, or was not asked to.".into());
        }
        Err(error) => return Err(format!("{}: cannot be read: {error}", path.display())),
    };
    let value: Value =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(measured(&value))
}

fn measured(value: &Value) -> Measured {
    let (mut kinds, mut warnings) = (Vec::new(), Vec::new());
    for warning in list::<Value>(value, "warnings") {
        let kind = warning.get("kind").and_then(Value::as_str).unwrap_or("unknown").replace('_', " ");
        // Every setting sees the same machine: the first warning of a kind speaks for all.
        if kinds.contains(&kind) {
            continue;
        }
        kinds.push(kind.clone());
        // One that this version does not know still says its name.
        let text = serde_json::from_value::<Warning>(warning).map_or(kind, |warning| warning.to_string());
        warnings.push(text);
    }
    Measured {
        rows: list(value, "rows"),
        speedup: list(value, "speedup"),
        warnings,
        layers: list(value, "layers"),
    }
}

/// The entries of a list that this version knows. A later one may have written others between them.
fn list<T: DeserializeOwned>(value: &Value, key: &str) -> Vec<T> {
    let entries = value.get(key).and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(|entry| serde_json::from_value(entry.clone()).ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        let row = r#"{"engine":"builtin","model":"parent","streams":1,"threads":1,"batch":1,"colour":"red",
            "fps":{"median":2.0,"low":1.0,"high":3.0},"latency_ms":{"p50":1.0,"p90":2.0,"p99":3.0}}"#;
        let text = format!(
            r#"{{"rows":[{row},{{"engine":"abacus"}}],"warnings":[{{"kind":"not_pinned"}},{{"kind":"full_moon"}},
            {{"kind":"full_moon"}}],"sweep":7}}"#
        );
        let measured = measured(&serde_json::from_str(&text).unwrap());
        assert_eq!((measured.rows.len(), measured.speedup.len(), measured.layers.len()), (1, 0, 0));
        assert!(measured.warnings[0].starts_with("the system did not let streams be pinned"));
        assert_eq!(measured.warnings[1..], ["full moon"]);
    }

    #[test]
    fn a_run_that_measured_nothing_says_so() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load(folder.path()).unwrap_err().starts_with("Nothing was measured yet"));
        std::fs::write(folder.path().join("performance.json"), "{").unwrap();
        assert!(load(folder.path()).unwrap_err().contains("performance.json: "));
    }
}
