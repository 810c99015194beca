//! Work in a process of its own that may take only so much memory and time.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Address space of the child: the program, its threads' stacks, and what it may allocate.
const ADDRESS_SPACE: u64 = 2 << 30;
/// Longer than any of this takes on a loaded machine; only a loop without an end takes that long.
const PATIENCE: Duration = Duration::from_secs(900);

/// Runs the ignored test `name` of this program in a child process. The child calls [`confine`] first and prints
/// what it is at, so that a child that dies has said on what.
pub fn in_child(name: &str, variables: &[(&str, &str)]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command.envs(variables.iter().copied()).env("RUST_BACKTRACE", "0");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        stdout.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    });
    let started = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if started.elapsed() > PATIENCE => break None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let said = reader.join().unwrap();
    let last: Vec<&str> = said.lines().rev().take(8).collect();
    let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
    assert!(status.is_some_and(|status| status.success()), "{name}: {status:?}, at the end:\n{last}");
    assert!(said.contains("1 passed"), "{name}: the test was not found:\n{last}");
}

/// Limits the memory of this process from now on.
pub fn confine() {
    let limit = Rlimit { current: Some(ADDRESS_SPACE), ..getrlimit(Resource::As) };
    setrlimit(Resource::As, limit).unwrap();
}

/// The most memory that this process has held so far, in bytes.
pub fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
