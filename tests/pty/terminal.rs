//! A pseudo-terminal with the program in it, and an emulator that shows what its user would see. It
//! answers no query, as the dumbest of terminals would.

use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// How long anything may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    master: Option<Box<dyn MasterPty + Send>>,
    writer: Option<Box<dyn Write + Send>>,
    reader: JoinHandle<()>,
    seen: Arc<Mutex<(vt100::Parser, Vec<u8>)>>,
}

fn pty_size((cols, rows): (u16, u16)) -> PtySize {
    PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }
}

impl Terminal {
    /// Starts the workbench on a workspace.
    pub fn open(workspace: &Path, variables: &[(&str, &str)], size: (u16, u16)) -> Self {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_calib8"));
        command.arg("--workspace");
        command.arg(workspace);
        for name in ["NO_COLOR", "TMUX", "STY", "SSH_TTY", "SSH_CONNECTION", "LC_ALL", "LC_CTYPE"] {
            command.env_remove(name);
        }
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        command.env("CALIB8_CACHE", "off");
        command.env("XDG_CONFIG_HOME", "/nonexistent");
        for (name, value) in variables {
            command.env(name, value);
        }
        Self::run(command, size)
    }

    /// Starts any program.
    pub fn run(command: CommandBuilder, size: (u16, u16)) -> Self {
        let pair = native_pty_system().openpty(pty_size(size)).unwrap();
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let parser = vt100::Parser::new(rows(size.1), rows(size.0), 0);
        let seen = Arc::new(Mutex::new((parser, Vec::new())));
        let mut reader = pair.master.try_clone_reader().unwrap();
        let into = Arc::clone(&seen);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = reader.read(&mut buffer) {
                if count == 0 {
                    return;
                }
                let mut seen = into.lock().unwrap();
                seen.0.process(&buffer[..count]);
                seen.1.extend_from_slice(&buffer[..count]);
            }
        });
        let writer = Some(pair.master.take_writer().unwrap());
        Terminal { child, master: Some(pair.master), writer, reader, seen }
    }

    /// Everything that was sent.
    pub fn bytes(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap().1).into_owned()
    }

    /// What stands on the screen.
    pub fn screen(&self) -> String {
        self.seen.lock().unwrap().0.screen().contents()
    }

    /// Waits until the screen shows a text.
    pub fn shows(&mut self, text: &str) {
        let start = Instant::now();
        while !self.screen().contains(text) {
            assert!(start.elapsed() < PATIENCE, "no {text:?} on\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn press(&mut self, keys: &str) {
        let writer = self.writer.as_mut().unwrap();
        writer.write_all(keys.as_bytes()).unwrap();
        writer.flush().unwrap();
    }

    pub fn resize(&mut self, cols: u16, height: u16) {
        self.seen.lock().unwrap().0.screen_mut().set_size(rows(height), rows(cols));
        self.master.as_ref().unwrap().resize(pty_size((cols, height))).unwrap();
        std::thread::sleep(Duration::from_millis(3));
    }

    pub fn pid(&self) -> u32 {
        self.child.process_id().unwrap()
    }

    /// How many bytes were sent so far.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().1.len()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        super::kill(self.pid(), signal);
    }

    /// The terminal goes away, as when a connection is lost.
    pub fn hang_up(&mut self) {
        // The reading thread holds the other end as well; the signal is what the kernel would send.
        self.writer = None;
        self.master = None;
        self.signal(rustix::process::Signal::HUP);
    }

    /// Waits for the end.
    pub fn exit_code(&mut self) -> u32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // What was written last is still on its way; nothing comes after the end of the program.
                if self.reader.is_finished() {
                    return status.exit_code();
                }
            }
            assert!(start.elapsed() < PATIENCE, "it does not end:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn rows(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}

/// Waits for something.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
