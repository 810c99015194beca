//! Images in the terminal.
//!
//! ```text
//! environment, answers of the terminal ── detect ── Protocol, once at start
//! file ── prepare, on a thread ── Picture ──┬─ blocks ── cells of the frame
//!                                           └─ Slot: after the frame, out of band, by viuer
//! ```
//!
//! Half blocks are cells like all others: popups, resizing, snapshots need nothing special. The protocols of
//! kitty, iTerm2 and sixel paint over cells that the rest of the program knows nothing of; [`slot`] keeps
//! account of what is painted where, so that nothing stays when the view moves on.
//!
//! What viuer 0.11 does not bear, and what is done about it:
//!
//! | trap | here |
//! |---|---|
//! | its queries wait for ever on a terminal that does not answer | asked only after the terminal has answered a query with a time-out (`ask`, [`detect`]) |
//! | with files that kitty reads, each print reads standard input | no folder for temporary files: kitty is always sent the pixels |
//! | an image of one chunk is never finished | never less than 32 × 32 pixels ([`picture`]) |
//! | what ends on the last row scrolls the screen | refused ([`slot`]) |
//! | images have no number | all are deleted, as there is only one |
//! | kitty stretches, iTerm2 leaves borders, sixel takes cells for 6 × 12 | the cells are chosen for the picture ([`picture`]) |

mod ask;
pub mod blocks;
pub mod detect;
pub mod picture;
pub mod print;
pub mod slot;

pub use detect::{Decision, Protocol};
pub use picture::{Picture, Request};
pub use slot::{Op, Slot, Want};

/// Kibibytes that one image may take over SSH, where the line is thin.
const REMOTE_KIB: usize = 64;
/// Kibibytes that one image may take otherwise.
const LOCAL_KIB: usize = 512;
/// Width and height of a cell in pixels where the terminal does not say.
const USUAL_CELL: (u16, u16) = (8, 16);

/// How images are shown in this terminal, and what is shown.
#[derive(Debug, Clone)]
pub struct Images {
    /// How, and why so.
    pub decision: Decision,
    /// Colours of half blocks.
    pub depth: blocks::Depth,
    /// Bytes that one image may take.
    pub budget: usize,
    /// Width and height of a cell in pixels.
    pub cell: (u16, u16),
    /// What the terminal shows over its cells.
    pub slot: Slot,
}

impl Images {
    /// As the environment says, without having asked the terminal; `variable` reads the environment.
    pub fn of_environment(variable: impl Fn(&str) -> String) -> Images {
        let remote = ["SSH_CONNECTION", "SSH_TTY"].iter().any(|name| !variable(name).is_empty());
        let usual = if remote { REMOTE_KIB } else { LOCAL_KIB };
        let kib = variable("CALIB8_IMAGE_KIB").parse().unwrap_or(usual);
        Images {
            decision: Decision::not_asked(),
            depth: blocks::Depth::of_environment(&variable),
            budget: kib.max(4) << 10,
            cell: USUAL_CELL,
            slot: Slot::default(),
        }
    }

    /// Takes the size of a cell from the size of the terminal in cells and pixels; 0 pixels are none.
    pub fn measure(&mut self, cells: (u16, u16), pixels: (u16, u16)) {
        let cell = (pixels.0.checked_div(cells.0), pixels.1.checked_div(cells.1));
        self.cell = match cell {
            (Some(width), Some(height)) if width >= 2 && height >= 4 => (width, height),
            _ => USUAL_CELL,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_decides_how_many_bytes_an_image_may_take() {
        let of = |pairs: &'static [(&str, &str)]| {
            Images::of_environment(|name| {
                pairs.iter().find(|(key, _)| *key == name).map_or(String::new(), |(_, value)| (*value).into())
            })
            .budget
        };
        assert_eq!(of(&[]), 512 << 10);
        assert_eq!(of(&[("SSH_TTY", "/dev/pts/1")]), 64 << 10);
        assert_eq!(of(&[("SSH_TTY", "/dev/pts/1"), ("CALIB8_IMAGE_KIB", "100")]), 100 << 10);
        assert_eq!(of(&[("CALIB8_IMAGE_KIB", "many")]), 512 << 10);
    }

    #[test]
    fn cells_without_pixels_are_taken_for_the_usual_ones() {
        let mut images = Images::of_environment(|_| String::new());
        images.measure((100, 50), (1000, 1100));
        assert_eq!(images.cell, (10, 22));
        for pixels in [(0, 0), (100, 50)] {
            images.measure((100, 50), pixels);
            assert_eq!(images.cell, USUAL_CELL);
        }
        images.measure((0, 0), (10, 10));
        assert_eq!(images.cell, USUAL_CELL);
    }
}
