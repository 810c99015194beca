//! Taking the terminal and giving it back, whatever happens.
//!
//! The terminal is in raw mode on its alternate screen from [`Guard::enter`] to [`leave`], which runs when
//! the guard is dropped, when the program stops or panics, and may run twice.

use std::io::{self, BufWriter, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::clipboard::CopyToClipboard;
use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
};
use crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute, queue};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::image;

/// A whole frame fits, so that it goes out in one piece.
const FRAME_BYTES: usize = 64 << 10;

/// The backend that the workbench draws to.
pub type Screen = Terminal<CrosstermBackend<BufWriter<Stdout>>>;

/// Whether the terminal is ours at the moment.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether wheel and clicks are asked for.
static MOUSE: AtomicBool = AtomicBool::new(false);

/// Says whether [`enter`] asks for wheel and clicks. Off, they stay with the terminal, which selects text by them.
pub fn take_mouse(taken: bool) {
    MOUSE.store(taken, Ordering::SeqCst);
}

/// Gives the terminal back when it is dropped.
#[derive(Debug)]
pub struct Guard(());

impl Guard {
    /// Takes the terminal, and makes sure that a panic on any thread gives it back before its message
    /// is printed, and ends the program: a workbench without its loop can't go on.
    ///
    /// # Errors
    /// It is no terminal, or it went away.
    pub fn enter() -> io::Result<Self> {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            print(panic);
            std::process::exit(101);
        }));
        let guard = Guard(());
        enter()?;
        Ok(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        leave();
    }
}

/// Takes the terminal; again after a stop.
///
/// # Errors
/// It went away.
pub fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide)?;
    if MOUSE.load(Ordering::SeqCst) {
        execute!(io::stdout(), EnableMouseCapture)?;
    }
    Ok(())
}

/// Gives the terminal back as it was. What fails is not told: there may be nobody left to tell.
pub fn leave() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut out = io::stdout();
        image::print::clean(&mut out);
        if MOUSE.load(Ordering::SeqCst) {
            let _ = execute!(out, DisableMouseCapture);
        }
        let _ =
            execute!(out, EndSynchronizedUpdate, DisableBracketedPaste, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

/// A screen over standard output.
///
/// # Errors
/// Its size can't be asked for.
pub fn screen() -> io::Result<Screen> {
    Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(FRAME_BYTES, io::stdout())))
}

/// Whether frames are enclosed in a synchronized update (DEC 2026), so that none is seen half drawn.
/// Terminals without it ignore it; tmux 3.7 loses what follows a clear inside of it, and screen may
/// print it.
pub fn synchronized(variable: impl Fn(&str) -> String) -> bool {
    let term = variable("TERM");
    let inside = !variable("TMUX").is_empty() || !variable("STY").is_empty();
    !inside && !["tmux", "screen", "dumb", "linux"].iter().any(|name| term.starts_with(name))
}

/// Draws one frame; `sync` as [`synchronized`] says. The bytes go out at its end, in one write where
/// they fit.
///
/// # Errors
/// The terminal went away.
pub fn draw<W: Write>(
    screen: &mut Terminal<CrosstermBackend<W>>,
    sync: bool,
    render: impl FnOnce(&mut ratatui::Frame),
) -> io::Result<()> {
    if sync {
        queue!(screen.backend_mut(), BeginSynchronizedUpdate)?;
    }
    let drawn = screen.draw(render).map(|_| ());
    if sync {
        // Also where drawing failed: a terminal that waits for the end shows nothing.
        queue!(screen.backend_mut(), EndSynchronizedUpdate)?;
        Write::flush(screen.backend_mut())?;
    }
    drawn
}

/// Puts text into the clipboard of the user's terminal, wherever that is (OSC 52).
///
/// # Errors
/// The terminal went away.
pub fn copy(screen: &mut Screen, text: &str) -> io::Result<()> {
    execute!(screen.backend_mut(), CopyToClipboard::to_clipboard_from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_synchronized_except_where_that_loses_something() {
        let with = |pairs: &'static [(&str, &str)]| {
            synchronized(|name| {
                pairs.iter().find(|(key, _)| *key == name).map_or(String::new(), |(_, value)| (*value).into())
            })
        };
        assert!(with(&[("TERM", "xterm-256color")]));
        assert!(!with(&[("TERM", "xterm"), ("TMUX", "/tmp/x")]));
        assert!(!with(&[("TERM", "tmux-256color")]));
        assert!(!with(&[("TERM", "screen")]));
    }
}
