//! What a protocol has painted over the cells of the screen, and what must be done to change it.
//!
//! Pure: [`Slot::step`] is told before each frame what is wanted, and says what to send after it. In between,
//! the frame itself does half of the work. Cells under a picture are blank in the frame in which it
//! is painted, and skipped in those after it, so that nothing is written over it; once it is no longer
//! wanted, they are cells like all others, and ratatui sends each of them again, as skipped cells are never
//! equal to others. That takes sixels and iTerm2's pictures away; kitty's lie above the cells and are deleted.

use ratatui::buffer::{Buffer, CellDiffOption};
use ratatui::layout::Rect;

use super::Protocol;

/// Columns and rows below which a picture is not worth its bytes.
const SMALLEST: (u16, u16) = (4, 2);

/// A picture and where it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Which picture: equal numbers are equal pixels.
    pub picture: u64,
    /// On these cells.
    pub rect: Rect,
}

/// Something to send after the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Delete all of kitty's pictures.
    DeleteAll,
    /// Paint.
    Print(Want),
}

/// What is painted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slot {
    shown: Option<Want>,
    /// It was painted after the last frame but not yet skipped in one.
    fresh: bool,
}

impl Slot {
    /// Takes in what is wanted in the frame that is about to be drawn on a screen of this height. A
    /// picture that touches the last row, on which terminals scroll, or that is tiny, is not wanted.
    pub fn step(&mut self, protocol: Protocol, want: Option<Want>, height: u16) -> Vec<Op> {
        let fits = |want: &Want| {
            want.rect.bottom() < height && want.rect.width >= SMALLEST.0 && want.rect.height >= SMALLEST.1
        };
        let want = want.filter(|want| protocol.is_out_of_band() && fits(want));
        if want == self.shown {
            self.fresh = false;
            return Vec::new();
        }
        let mut ops = Vec::new();
        if self.shown.is_some() && protocol == Protocol::Kitty {
            ops.push(Op::DeleteAll);
        }
        self.shown = want;
        self.fresh = want.is_some();
        ops.extend(want.map(Op::Print));
        ops
    }

    /// The screen was cleared, or given back to somebody else: nothing is painted any more, once what is
    /// returned has been sent.
    pub fn forget(&mut self, protocol: Protocol) -> Vec<Op> {
        let delete = self.shown.is_some() && protocol == Protocol::Kitty;
        *self = Slot::default();
        if delete { vec![Op::DeleteAll] } else { Vec::new() }
    }

    /// Makes the cells under the picture what they must be in this frame; call it after the view.
    pub fn cover(&self, buffer: &mut Buffer) {
        let Some(want) = self.shown else { return };
        for position in want.rect.intersection(*buffer.area()).positions() {
            let cell = &mut buffer[position];
            cell.reset();
            if !self.fresh {
                cell.set_diff_option(CellDiffOption::Skip);
            }
        }
    }

    /// Whether something is painted.
    pub fn is_shown(&self) -> bool {
        self.shown.is_some()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;
    use std::io::{self, Write};
    use std::rc::Rc;

    use ratatui::Terminal;
    use ratatui::backend::CrosstermBackend;
    use ratatui::{TerminalOptions, Viewport};

    use super::*;

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

    const KITTY: Protocol = Protocol::Kitty;

    fn want(picture: u64) -> Option<Want> {
        Some(Want { picture, rect: Rect::new(10, 3, 20, 10) })
    }

    fn print(picture: u64) -> Op {
        Op::Print(want(picture).unwrap_or(Want { picture, rect: Rect::ZERO }))
    }

    #[test]
    fn a_picture_is_sent_once_and_deleted_once() {
        let mut slot = Slot::default();
        assert_eq!(slot.step(KITTY, None, 24), []);
        assert_eq!(slot.step(KITTY, want(1), 24), [print(1)]);
        assert_eq!(slot.step(KITTY, want(1), 24), []);
        assert_eq!(slot.step(KITTY, want(2), 24), [Op::DeleteAll, print(2)]);
        assert_eq!(slot.step(KITTY, None, 24), [Op::DeleteAll], "the tab was switched, or a popup opened");
        assert_eq!(slot.step(KITTY, None, 24), []);
        assert_eq!(slot.step(KITTY, want(2), 24), [print(2)]);
    }

    #[test]
    fn what_is_painted_into_the_cells_needs_no_deleting() {
        for protocol in [Protocol::Sixel, Protocol::Iterm2] {
            let mut slot = Slot::default();
            assert_eq!(slot.step(protocol, want(1), 24), [print(1)]);
            assert_eq!(slot.step(protocol, None, 24), []);
            assert!(!slot.is_shown());
        }
    }

    #[test]
    fn the_last_row_and_tiny_places_get_no_picture() {
        let mut slot = Slot::default();
        for (rect, height) in
            [((0, 0, 20, 24), 24), ((0, 13, 20, 10), 23), ((0, 0, 3, 9), 24), ((0, 0, 9, 1), 24)]
        {
            let (x, y, w, h) = rect;
            assert_eq!(slot.step(KITTY, Some(Want { picture: 1, rect: Rect::new(x, y, w, h) }), height), []);
        }
        let rect = Rect::new(0, 13, 20, 10);
        assert_eq!(slot.step(KITTY, Some(Want { picture: 1, rect }), 24).len(), 1);
    }

    #[test]
    fn half_blocks_and_none_are_never_out_of_band() {
        for protocol in [Protocol::Blocks, Protocol::Off] {
            assert_eq!(Slot::default().step(protocol, want(1), 24), []);
        }
    }

    #[test]
    fn after_a_cleared_screen_the_picture_is_sent_again() {
        let mut slot = Slot::default();
        slot.step(KITTY, want(1), 24);
        assert_eq!(slot.forget(KITTY), [Op::DeleteAll]);
        assert_eq!(slot.forget(KITTY), []);
        assert_eq!(slot.step(KITTY, want(1), 24), [print(1)]);
    }

    /// The bytes that frames send: few while the picture stands, all of its cells once it goes.
    #[test]
    fn cells_under_a_picture_are_left_alone_and_sent_again_afterwards() {
        let area = Rect::new(0, 0, 40, 20);
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        let bytes = Counter::default();
        let mut terminal = Terminal::with_options(CrosstermBackend::new(bytes.clone()), options).unwrap();
        let mut slot = Slot::default();
        let mut frame = |slot: &Slot, text: &str| -> usize {
            let before = bytes.0.get();
            let drawn = terminal.draw(|frame| {
                let buffer = frame.buffer_mut();
                for y in 0..20 {
                    buffer.set_string(0, y, text, ratatui::style::Style::new());
                }
                slot.cover(buffer);
            });
            drawn.unwrap();
            bytes.0.get() - before
        };
        let text = "a long line of the view behind it";
        frame(&slot, text);
        slot.step(Protocol::Sixel, want(1), 20);
        let blanks = frame(&slot, text);
        assert!(blanks > 200, "the place was made blank: {blanks}");
        slot.step(Protocol::Sixel, want(1), 20);
        frame(&slot, text);
        slot.step(Protocol::Sixel, want(1), 20);
        let standing = frame(&slot, text);
        assert!(standing < 40, "nothing is sent while it stands: {standing}");
        slot.step(Protocol::Sixel, None, 20);
        let leaving = frame(&slot, "");
        assert!(leaving >= 200, "every cell was sent again though all are blank: {leaving}");
    }
}
