//! What goes over the line.

use std::cell::Cell;
use std::io::{self, Write};
use std::rc::Rc;

use calib8::tui::{App, terminal, view};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::support::*;

/// Counts what is written.
#[derive(Clone, Default)]
struct Counter(Rc<Cell<usize>>);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.set(self.0.get() + bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal of 120×40 whose bytes are counted.
pub struct Line {
    terminal: Terminal<CrosstermBackend<Counter>>,
    counter: Counter,
}

impl Line {
    pub fn new() -> Self {
        crossterm::style::force_color_output(true);
        let options = TerminalOptions { viewport: Viewport::Fixed(Rect::new(0, 0, 120, 40)) };
        let counter = Counter::default();
        let terminal = Terminal::with_options(CrosstermBackend::new(counter.clone()), options).unwrap();
        Line { terminal, counter }
    }

    /// Draws a frame; gives its bytes.
    pub fn draw(&mut self, app: &App) -> usize {
        let before = self.counter.0.get();
        terminal::draw(&mut self.terminal, true, |frame| view(app, frame)).unwrap();
        self.counter.0.get() - before
    }
}

#[test]
fn a_frame_without_change_is_a_few_bytes_and_moving_the_cursor_few_hundred() {
    let mut app = empty();
    press(&mut app, "?");
    let mut line = Line::new();
    let first = line.draw(&app);
    assert!((1_000..12_000).contains(&first), "{first}");
    let same = line.draw(&app);
    assert!(same < 60, "{same}");
    press(&mut app, "down");
    let moved = line.draw(&app);
    assert!(moved < 900, "{moved}");
}

#[test]
fn an_update_of_progress_is_at_most_300_bytes() {
    let begin = entries_until(r#""stage":"statistics","done":2"#);
    for keys in ["", "g down down enter"] {
        let mut app = filled();
        press(&mut app, keys);
        wait(&mut app, 10.0);
        show(&mut app, workspace(begin));
        let mut line = Line::new();
        line.draw(&app);
        let updates: Vec<usize> = (1..40)
            .map(|step| {
                show(&mut app, workspace(begin + step));
                line.draw(&app)
            })
            .collect();
        let largest = updates.iter().max().unwrap();
        assert!(*largest <= 300, "{keys:?}: {updates:?}");
    }
}
