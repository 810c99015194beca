//! `calib8 run` with several run files: one after another, or several at once on cores of their own.
//!
//! Each run is a worker in a process of its own: one that fails, crashes or is cancelled by somebody does
//! not end the others. With several at once, each place in the queue has its share of the cores: its workers
//! inherit them, so that what one measures is not disturbed by what another calibrates.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use serde::Serialize;

use super::columns::table;
use super::follow::{follow, summary, what_happened};
use super::progress_bar::duration;
use super::{dry_run, run};
use crate::measure::host::{allowed_cores, keep_to};
use crate::project::ProjectError;
use crate::run::directory::{self, Existing};
use crate::run::event_log::Listener;
use crate::run::events::Entry;
use crate::run::fold::Phase;
use crate::run::interrupt::{EXIT_INTERRUPTED, Interrupt};
use crate::run::launch;
use crate::run::plan::Plan;
use crate::run::status::{self, Standing};
use crate::run::summary::Summary;

/// The run files that arguments name: files as they are, folders as the YAML files in them.
///
/// # Errors
/// A folder can't be listed, or holds no run file.
pub fn files(arguments: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for argument in arguments {
        if !argument.is_dir() {
            files.push(argument.clone());
            continue;
        }
        let entries = fs::read_dir(argument).map_err(|source| ProjectError::read(argument, source))?;
        let is_yaml =
            |path: &PathBuf| path.extension().is_some_and(|e| e == "yaml" || e == "yml") && path.is_file();
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_yaml).collect();
        if found.is_empty() {
            let what = format!(
                "{}: holds no run file (*.yaml); name files, or a folder of them",
                argument.display()
            );
            return Err(super::Usage(what).into());
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

/// Runs the files; gives the exit code of the worst.
///
/// # Errors
/// The arguments do not fit together, or standard output can't be written.
pub fn run(args: &run::Args, files: Vec<PathBuf>) -> anyhow::Result<u8> {
    if args.plan.output.is_some() {
        return Err(super::Usage(
            "--output names one folder, and there are several runs; give each its own `output`".into(),
        )
        .into());
    }
    if args.dry_run {
        return forecast(args, &files);
    }
    let cores = allowed_cores();
    let jobs = (args.jobs as usize).min(files.len());
    if jobs > cores.len().max(1) {
        let what =
            format!("--jobs {jobs}: there are {} cores for them, and each needs one of its own", cores.len());
        return Err(super::Usage(what).into());
    }
    if args.detach {
        return detach(args.json);
    }
    let interrupt = if args.in_session {
        // Fails for the first process of a group only, which a shell that started it by hand makes it.
        let _ = rustix::process::setsid();
        Interrupt::install_detached()
    } else {
        Interrupt::install()
    };
    let queue = Queue {
        args,
        files: &files,
        alone: jobs == 1,
        interrupt: interrupt.context("cannot listen to Ctrl-C")?,
        next: AtomicUsize::new(0),
        outputs: Mutex::default(),
        rows: Mutex::default(),
    };
    if jobs == 1 {
        queue.serve();
    } else {
        std::thread::scope(|scope| {
            for place in 0..jobs {
                let share: Vec<usize> = cores.iter().copied().skip(place).step_by(jobs).collect();
                let queue = &queue;
                scope.spawn(move || {
                    // Of this thread: what it starts inherits them.
                    if !keep_to(&share) {
                        super::warn(
                            "the runs can't be kept to cores of their own and disturb each other's timing",
                        );
                    }
                    queue.serve();
                });
            }
        });
    }
    let mut rows = queue.rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|row| row.index);
    if !args.json {
        super::print(&format!("\n{}", table(&HEADER, &rows.iter().map(Row::cells).collect::<Vec<_>>())))?;
    }
    if queue.interrupt.is_set() {
        return Ok(EXIT_INTERRUPTED);
    }
    Ok(worst(rows.iter().map(|row| row.exit_code)))
}

/// The code that says most: failed, wrong run file, interrupted, a gate failed, passed.
fn worst(codes: impl Iterator<Item = u8>) -> u8 {
    let weight = |code: &u8| [0, 3, EXIT_INTERRUPTED, 2, 1].iter().position(|known| known == code);
    codes.max_by_key(weight).unwrap_or(0)
}

/// Prints what each run would be and take.
fn forecast(args: &run::Args, files: &[PathBuf]) -> anyhow::Result<u8> {
    let mut codes = Vec::new();
    for file in files {
        if !args.json {
            super::print(&format!("# {}\n", super::sanitized(&file.display().to_string())))?;
        }
        let result =
            args.plan.plan(file).and_then(|plan| dry_run::run(&plan, args.plan.existing(), args.json));
        codes.push(result.unwrap_or_else(|error| {
            let _ = writeln!(io::stderr(), "error: {}", super::error_text(&error));
            super::exit_code(&error)
        }));
    }
    Ok(worst(codes.into_iter()))
}

/// Starts this very command again in a session of its own, with a file for what it has to say.
fn detach(json: bool) -> anyhow::Result<u8> {
    let same = std::env::args_os().skip(1).filter(|argument| argument != "--detach");
    let queue = launch::spawn_queue(same.chain(["--in-session".into()]))?;
    let text = if json {
        format!("{}\n", serde_json::json!({ "pid": queue.pid, "log": queue.log }))
    } else {
        let (pid, log) = (queue.pid, queue.log.display());
        super::sanitized(&format!("process {pid} does one run after another; {log} says how far it is\n"))
    };
    super::print(&text)?;
    Ok(0)
}

struct Queue<'a> {
    args: &'a run::Args,
    files: &'a [PathBuf],
    /// One run at a time, which may show its progress.
    alone: bool,
    interrupt: Interrupt,
    next: AtomicUsize,
    /// Folders that runs of this queue write to.
    outputs: Mutex<HashSet<PathBuf>>,
    rows: Mutex<Vec<Row>>,
}

/// What became of a run file.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip)]
    index: usize,
    file: PathBuf,
    directory: Option<PathBuf>,
    /// A word.
    result: &'static str,
    exit_code: u8,
    seconds: Option<f64>,
    speedup: Option<f64>,
    agreement: Option<f64>,
    drop: Option<f64>,
    /// Why there are no numbers.
    reason: Option<String>,
}

const HEADER: [&str; 7] = ["RUN FILE", "RESULT", "SPEED-UP", "AGREEMENT", "DROP", "TIME", "FOLDER"];

impl Queue<'_> {
    /// Takes one run after another until none is left.
    fn serve(&self) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = self.files.get(index) else { return };
            let row = self.work(index, file).unwrap_or_else(|error| Row {
                result: "failed",
                exit_code: super::exit_code(&error),
                reason: Some(super::error_text(&error)),
                ..Row::new(index, file)
            });
            self.tell(&row);
            self.rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
        }
    }

    fn work(&self, index: usize, file: &Path) -> anyhow::Result<Row> {
        let row = Row::new(index, file);
        if self.interrupt.is_set() {
            let reason = Some("the queue was stopped".into());
            return Ok(Row { result: "not begun", exit_code: EXIT_INTERRUPTED, reason, ..row });
        }
        let plan = self.args.plan.plan(file)?;
        let directory = plan.output.clone();
        let row = Row { directory: Some(directory.clone()), ..row };
        if !self.outputs.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.clone()) {
            let what = format!(
                "{}: another run of this queue puts its results there; give each its own `output`",
                directory.display()
            );
            return Err(super::Usage(what).into());
        }
        if self.args.plan.resume && is_done(&plan) {
            let row = row.with(&summary(&directory)?);
            return Ok(Row { result: "done before", ..row });
        }
        self.say(index, &format!("{}: started in {}", plan.name, directory.display()));
        launch::start_detached(&plan, &directory, self.args.plan.existing())?;
        let mut asked = false;
        let stops = || {
            if self.interrupt.is_set() && !std::mem::replace(&mut asked, true) {
                // One that can't be asked ends by itself, and is waited for.
                let _ = launch::cancel(&directory);
            }
            false
        };
        let mut listener = if self.alone { run::view(false) } else { Box::new(Deaf) as Box<dyn Listener> };
        let status = follow(&directory, listener.as_mut(), stops)?.unwrap_or_else(|| status::of(&directory));
        let row = Row { seconds: Some(status.state.elapsed), ..row };
        Ok(match status.standing {
            Standing::Finished(_) => row.with(&summary(&directory)?),
            Standing::Interrupted if status.state.phase == Phase::Interrupted => Row {
                result: "interrupted",
                exit_code: EXIT_INTERRUPTED,
                reason: Some("--resume goes on".into()),
                ..row
            },
            _ => Row {
                result: "failed",
                exit_code: 1,
                reason: Some(what_happened(&directory, &status)),
                ..row
            },
        })
    }

    fn tell(&self, row: &Row) {
        if self.args.json {
            if let Ok(line) = serde_json::to_string(row) {
                // A reader that has gone away is no reason to stop the others.
                let _ = super::print(&(line + "\n"));
            }
            return;
        }
        let time = row.seconds.map_or(String::new(), |seconds| format!(" after {}", duration(seconds)));
        let reason = row.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        self.say(row.index, &format!("{}: {}{time}{reason}", row.file.display(), row.result));
    }

    fn say(&self, index: usize, text: &str) {
        let line = format!("[{}/{}] {text}", index + 1, self.files.len());
        let _ = writeln!(io::stderr(), "{}", super::sanitized(&line));
    }
}

impl Row {
    fn new(index: usize, file: &Path) -> Row {
        Row {
            index,
            file: file.to_path_buf(),
            directory: None,
            result: "",
            exit_code: 0,
            seconds: None,
            speedup: None,
            agreement: None,
            drop: None,
            reason: None,
        }
    }

    fn with(self, summary: &Summary) -> Row {
        Row {
            result: Standing::Finished(summary.status).name(),
            exit_code: summary.status.exit_code(),
            speedup: summary.speedup.first().map(|speedup| speedup.ratio),
            agreement: summary.reports.predictions.as_ref().map(|report| report.agreement),
            drop: summary.reports.annotations.as_ref().map(|report| report.drop * 100.0),
            ..self
        }
    }

    fn cells(&self) -> Vec<String> {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let directory = self.directory.as_ref().map(|path| path.display().to_string());
        vec![
            self.file.display().to_string(),
            self.result.into(),
            or_dash(self.speedup.map(|ratio| format!("{ratio:.2} ×"))),
            or_dash(self.agreement.map(|fraction| format!("{:.1} %", fraction * 100.0))),
            or_dash(self.drop.map(|points| format!("{points:.2}"))),
            or_dash(self.seconds.map(duration)),
            or_dash(directory),
        ]
    }
}

/// Whether the run of this very plan came to its end before.
fn is_done(plan: &Plan) -> bool {
    let same =
        plan.to_yaml().is_ok_and(|yaml| directory::check(&plan.output, Existing::Resume, &yaml).is_ok());
    same && matches!(status::of(&plan.output).standing, Standing::Finished(_))
}

/// Hears nothing.
struct Deaf;

impl Listener for Deaf {
    fn hear(&mut self, _entry: &Entry) {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_weighs_more_than_a_gate_and_a_gate_more_than_nothing() {
        let of = |codes: &[u8]| worst(codes.iter().copied());
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[0, 3, 0]), 3);
        assert_eq!(of(&[3, 130, 0]), 130);
        assert_eq!(of(&[2, 130, 1, 3]), 1);
    }

    #[test]
    fn a_folder_stands_for_the_run_files_in_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "notes.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = files(&["x.yaml".into(), folder.path().into()]).unwrap();
        assert_eq!(found, ["x.yaml".into(), folder.path().join("a.yml"), folder.path().join("b.yaml")]);
        fs::create_dir(folder.path().join("empty")).unwrap();
        let message = files(&[folder.path().join("empty")]).unwrap_err().to_string();
        assert!(message.contains("empty: holds no run file"), "{message}");
    }
}
