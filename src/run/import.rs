//! What a project is made of, tried out before it is one: model, dataset and preprocessing must fit, and
//! the model is run once, so that the project shows how fast it is.

use std::path::Path;

use super::RunError;
use super::event_log::EventLog;
use super::events::Stage;
use super::interrupt::Interrupt;
use super::plan::{OptimizeOptions, for_definition};
use super::sink::Sink;
use super::stages::baseline::measure_parent;
use super::stages::prepare::prepare;
use crate::project::host::Host;
use crate::project::time;
use crate::project::workspace::{Baseline, Definition};

/// Checks a definition and measures its model; `name` is that of the project. Writes nothing.
///
/// # Errors
/// What a run would fail with before its first image, or the user asked to stop.
pub fn baseline(
    name: &str,
    definition: &Definition,
    log: &EventLog,
    interrupt: &Interrupt,
) -> Result<Baseline, RunError> {
    let failed = |stage| move |source| RunError::Stage { stage, source };
    let stopped = || if interrupt.is_set() { Err(RunError::Interrupted) } else { Ok(()) };
    let plan = for_definition(name, definition, Path::new("."), &OptimizeOptions::new("import"))?;

    let sink = Sink::start(log, interrupt, Stage::Prepare);
    let subject = prepare(&plan, &sink);
    stopped()?;
    let subject = subject.map_err(failed(Stage::Prepare))?;
    sink.finish();

    let sink = Sink::start(log, interrupt, Stage::Baseline);
    let measured = measure_parent(&subject, &sink);
    stopped()?;
    let (_, timing) = measured.map_err(failed(Stage::Baseline))?;
    sink.finish();
    Ok(Baseline { fps: timing.fps, cpu: Host::probe().cpu, measured: time::now() })
}
