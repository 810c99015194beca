//! A process that answers a question of the form, and ends when nobody wants its answer any more.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often it is looked whether the process has ended.
const LOOK: Duration = Duration::from_millis(30);

/// The process at work; there is one form, so there is one.
static AT_WORK: Mutex<Option<Child>> = Mutex::new(None);

fn at_work() -> MutexGuard<'static, Option<Child>> {
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the process at work, whose answer nobody hears then.
pub fn stop() {
    if let Some(mut child) = at_work().take() {
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// What the process writes to its output, once it has ended; `None` if it was stopped. One that is still at work is
/// stopped first.
///
/// # Errors
/// What the process complains of.
pub fn ask(command: &mut Command) -> Result<Option<Vec<u8>>, String> {
    let text = |error: io::Error| error.to_string();
    // In the system's own folder: that of the tempfile crate is turned elsewhere for viuer.
    let file = || tempfile::tempfile_in(std::env::temp_dir()).map_err(text);
    let (mut said, mut complaint) = (file()?, file()?);
    stop();
    let child = command
        .stdin(Stdio::null())
        .stdout(said.try_clone().map_err(text)?)
        .stderr(complaint.try_clone().map_err(text)?)
        .spawn()
        .map_err(text)?;
    let pid = child.id();
    *at_work() = Some(child);
    let Some(status) = end_of(pid).map_err(text)? else { return Ok(None) };
    if status.success() {
        return content(&mut said).map(Some).map_err(text);
    }
    let complaint = content(&mut complaint).map_err(text)?;
    Err(complained(&String::from_utf8_lossy(&complaint)))
}

/// What went wrong, behind the lines of progress that stand before it.
pub fn complained(text: &str) -> String {
    let at = if text.starts_with("error: ") { Some(0) } else { text.rfind("\nerror: ").map(|at| at + 1) };
    let text = &text[at.unwrap_or(0)..];
    text.trim().trim_start_matches("error: ").to_string()
}

/// Waits for the end of the process; `None` if another one took its place, or none.
fn end_of(pid: u32) -> io::Result<Option<ExitStatus>> {
    loop {
        std::thread::sleep(LOOK);
        let mut at_work = at_work();
        let Some(child) = at_work.as_mut().filter(|child| child.id() == pid) else { return Ok(None) };
        if let Some(status) = child.try_wait()? {
            *at_work = None;
            return Ok(Some(status));
        }
    }
}

fn content(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_complains_of_stands_behind_its_progress() {
        assert_eq!(complained("error: x.onnx: is no model\n"), "x.onnx: is no model");
        assert_eq!(
            complained("prepare …\nerror: prepare: no images\nhint: look"),
            "prepare: no images\nhint: look"
        );
        assert_eq!(complained("Segmentation fault\n"), "Segmentation fault");
    }
}
