//! Images on terminals of several kinds: the real program in a pseudo-terminal whose other end answers as
//! kitty, iTerm2, a terminal with sixels, a plain one, or not at all.

use std::io::{Read, Write};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::recorded::run_directory;

const SIZE: (u16, u16) = (120, 40);
/// How long anything may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(90);
const DELETE_ALL: &str = "\x1b_Gq=2,a=d,d=A\x1b\\";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Mute,
    Plain,
    Kitty,
    Sixel,
    Iterm2,
}

impl Kind {
    /// How many questions it answers: whether it answers at all, whether it takes kitty's graphics, whether sixels.
    fn questions(self) -> usize {
        match self {
            Kind::Mute | Kind::Iterm2 => 0,
            Kind::Kitty => 2,
            Kind::Plain | Kind::Sixel => 3,
        }
    }
}

struct Terminal {
    output: Arc<Mutex<Vec<u8>>>,
    input: Arc<Mutex<Box<dyn Write + Send>>>,
    answered: Arc<AtomicUsize>,
    reader: JoinHandle<()>,
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    _folder: tempfile::TempDir,
}

impl Terminal {
    /// Opens the recorded run in a terminal of this kind, and waits until all that is asked of it was answered:
    /// viuer reads what comes before its answer, and a key would be lost.
    fn open(kind: Kind) -> Terminal {
        let folder = run_directory();
        let pair = native_pty_system()
            .openpty(PtySize { rows: SIZE.1, cols: SIZE.0, pixel_width: 0, pixel_height: 0 })
            .unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_calib8"));
        command.env_clear();
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        command.env("HOME", folder.path());
        command.env("XDG_DATA_HOME", folder.path());
        if kind != Kind::Mute {
            // However slow the machine is, it waits for the answer.
            command.env("CALIB8_TERMINAL_SECONDS", "90");
        }
        if kind == Kind::Iterm2 {
            command.env("LC_TERMINAL", "iTerm2");
        }
        command.args([std::ffi::OsStr::new("--open"), folder.path().as_os_str()]);
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let input = Arc::new(Mutex::new(pair.master.take_writer().unwrap()));
        let output = Arc::new(Mutex::new(Vec::new()));
        let (answers, kept) = (Arc::clone(&input), Arc::clone(&output));
        let answered = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&answered);
        let reader = std::thread::spawn(move || {
            let mut answered = 0;
            let mut buffer = [0; 65536];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                let mut kept = kept.lock().unwrap();
                kept.extend_from_slice(&buffer[..length]);
                // Each DA1 is answered once, and before it kitty's own question if there was one.
                while let Some(at) = find(&kept[answered..], b"\x1b[c") {
                    let asked = &kept[answered..answered + at];
                    let mut answer = Vec::new();
                    if kind == Kind::Kitty && find(asked, b"a=q").is_some() {
                        answer.extend_from_slice(b"\x1b_Gi=31;OK\x1b\\");
                    }
                    let attributes: &[u8] =
                        if kind == Kind::Sixel { b"\x1b[?62;4;6c" } else { b"\x1b[?62;6c" };
                    answer.extend_from_slice(attributes);
                    answered += at + 3;
                    if kind != Kind::Mute {
                        let mut answers = answers.lock().unwrap();
                        answers.write_all(&answer).unwrap();
                        answers.flush().unwrap();
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        });
        let master = pair.master;
        let terminal = Terminal { output, input, answered, reader, child, master, _folder: folder };
        terminal.wait_for("Accuracy", 0);
        let start = Instant::now();
        while terminal.answered.load(Ordering::SeqCst) < kind.questions() {
            assert!(start.elapsed() < PATIENCE, "it does not ask:\n{}", terminal.text());
            std::thread::sleep(Duration::from_millis(10));
        }
        terminal
    }

    /// All that was written, to be read by people.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output()).escape_debug().to_string()
    }

    fn output(&self) -> Vec<u8> {
        self.output.lock().unwrap().clone()
    }

    fn send(&self, keys: &str) {
        let mut input = self.input.lock().unwrap();
        input.write_all(keys.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    fn resize(&self, cols: u16, rows: u16) {
        self.master.resize(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }).unwrap();
    }

    /// Waits until `wanted` was written after position `from`; gives the position behind it.
    fn wait_for(&self, wanted: &str, from: usize) -> usize {
        let start = Instant::now();
        loop {
            let output = self.output();
            if let Some(at) = output.get(from..).and_then(|rest| find(rest, wanted.as_bytes())) {
                return from + at + wanted.len();
            }
            assert!(start.elapsed() < PATIENCE, "{wanted:?} did not come:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Leaves, and gives all that was written.
    fn quit(mut self) -> Vec<u8> {
        self.send("\x03");
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status:?}");
                break;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        // What was written last is still on its way; nothing comes after the end of the program.
        self.reader.join().unwrap();
        let output = self.output.lock().unwrap();
        output.clone()
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn count(text: &[u8], wanted: &str) -> usize {
    text.windows(wanted.len()).filter(|window| *window == wanted.as_bytes()).count()
}

/// The first and the last row of what a terminal would show: they tell whether anything scrolled.
fn first_and_last(output: &[u8]) -> (String, String) {
    let size = |n| NonZero::new(n).unwrap();
    let mut parser = vt100::Parser::new(size(SIZE.1), size(SIZE.0), 0);
    parser.process(output);
    let rows: Vec<String> = parser.screen().rows(0, SIZE.0).collect();
    (rows[0].clone(), rows[usize::from(SIZE.1) - 1].clone())
}

fn shows_header_and_footer(output: &[u8]) {
    let (first, last) = first_and_last(output);
    assert!(first.contains("calib8") && first.contains("Accuracy Report"), "{first}");
    assert!(last.contains("help"), "{last}");
}

#[test]
fn kitty_gets_one_image_and_it_is_deleted_whenever_it_must_not_be_seen() {
    let terminal = Terminal::open(Kind::Kitty);
    terminal.send("4");
    let shown = terminal.wait_for("\x1b_Gf=32,a=T,t=d", 0);
    let end = terminal.wait_for("m=0;", shown);
    terminal.wait_for("\x1b8", end);
    shows_header_and_footer(&terminal.output());
    let image = &terminal.output()[shown..end];
    assert!(image.len() < 512 << 10, "{} bytes", image.len());
    // A popup hides it, and closing the popup brings it back.
    let from = terminal.output().len();
    terminal.send("?");
    terminal.wait_for(DELETE_ALL, from);
    let from = terminal.output().len();
    terminal.send("\x1b");
    terminal.wait_for("\x1b_Gf=32,a=T,t=d", from);
    // Another tab takes it away, once.
    let end = terminal.wait_for("m=0;", from);
    terminal.send("3");
    let gone = terminal.wait_for(DELETE_ALL, end);
    terminal.send("4");
    terminal.wait_for("\x1b_Gf=32,a=T,t=d", gone);
    let end = terminal.wait_for("m=0;", gone);
    // In another size it goes, and comes back where its place is then.
    terminal.resize(SIZE.0 + 20, SIZE.1 + 4);
    let gone = terminal.wait_for(DELETE_ALL, end);
    terminal.wait_for("\x1b_Gf=32,a=T,t=d", gone);
    let end = terminal.wait_for("m=0;", gone);
    let output = terminal.quit();
    let last = &output[end..];
    let (deleted, left) = (find(last, DELETE_ALL.as_bytes()), find(last, b"\x1b[?1049l"));
    assert!(deleted.is_some() && deleted < left, "deleted before the screen is given back");
    assert_eq!(count(&output, DELETE_ALL), 4);
    assert_eq!(count(&output, "\x1b[5n"), 0, "nothing is asked while keys are read");
}

#[test]
fn a_terminal_with_sixels_gets_sixels_and_the_cells_back() {
    let terminal = Terminal::open(Kind::Sixel);
    terminal.send("4");
    let shown = terminal.wait_for("\x1bP", 0);
    let end = terminal.wait_for("\x1b\\", shown);
    terminal.wait_for("\x1b8", end);
    shows_header_and_footer(&terminal.output());
    let output = terminal.quit();
    assert_eq!((count(&output, "\x1b_Gf"), count(&output, "]1337")), (0, 0));
}

#[test]
fn iterm2_gets_its_inline_images() {
    let terminal = Terminal::open(Kind::Iterm2);
    terminal.send("4");
    let shown = terminal.wait_for("\x1b]1337;File=inline=1;preserveAspectRatio=1;", 0);
    let end = terminal.wait_for("\x07", shown);
    terminal.wait_for("\x1b8", end);
    shows_header_and_footer(&terminal.output());
    let output = terminal.quit();
    assert_eq!(count(&output, "\x1b_G"), 0, "iTerm2 is known by its environment and not asked");
}

#[test]
fn a_plain_terminal_gets_half_blocks() {
    let terminal = Terminal::open(Kind::Plain);
    terminal.send("4");
    terminal.wait_for("▀▀", 0);
    let output = terminal.quit();
    assert_eq!((count(&output, "\x1b_Gf"), count(&output, "\x1bP"), count(&output, "]1337")), (0, 0, 0));
}

#[test]
fn a_mute_terminal_neither_hangs_the_workbench_nor_loses_keys() {
    let terminal = Terminal::open(Kind::Mute);
    // Pressed while an answer is still waited for.
    terminal.send("4");
    terminal.wait_for("▀▀", 0);
    let output = terminal.quit();
    assert_eq!(count(&output, "\x1b_G"), 0, "viuer asks without a time-out, so it must not be asked");
}
