//! One question with a time-out: what the terminal says of itself (primary device attributes, DA1).
//!
//! Every terminal answers it, so one that does not within the time is asked nothing more. It is asked once,
//! however long the answer takes: a second question would leave an answer over, which whoever reads next
//! would take for its own. One that comes too late does no harm, as crossterm knows it for what it is. Keys
//! that are pressed meanwhile are kept.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::termios::{OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

/// The longest that one reading waits, in tenths of a second.
const SLICE: u8 = 1;
/// A reading that ends without a byte and without having waited tells that the terminal is gone.
const SHORTEST_SLICE: Duration = Duration::from_millis(20);

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether there was an answer.
    pub came: bool,
    /// All that is no part of it.
    pub typed: Vec<u8>,
}

/// Asks the terminal, which must be in raw mode, and waits for the answer for at most `patience`.
///
/// # Errors
/// Standard input is no terminal, or it went away.
pub fn device_attributes(patience: Duration) -> io::Result<Answer> {
    let input = io::stdin();
    if !input.is_terminal() {
        return Ok(Answer::default());
    }
    let input = input.as_fd();
    let before = tcgetattr(input)?;
    let mut patient = before.clone();
    patient.special_codes[SpecialCodeIndex::VMIN] = 0;
    patient.special_codes[SpecialCodeIndex::VTIME] = SLICE;
    tcsetattr(input, OptionalActions::Now, &patient)?;
    let answer = ask(patience, &mut io::stdout(), |buffer| rustix::io::read(input, buffer));
    tcsetattr(input, OptionalActions::Now, &before)?;
    answer
}

fn ask(
    patience: Duration,
    out: &mut impl Write,
    mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> io::Result<Answer> {
    out.write_all(b"\x1b[c")?;
    out.flush()?;
    let start = Instant::now();
    let (mut taken, mut buffer) = (Vec::new(), [0; 256]);
    while start.elapsed() < patience {
        let began = Instant::now();
        match read(&mut buffer) {
            Ok(0) if began.elapsed() < SHORTEST_SLICE => break,
            Err(Errno::INTR) | Ok(0) => {}
            Ok(count) => {
                taken.extend_from_slice(&buffer[..count]);
                if let Some((start, end)) = answer_in(&taken) {
                    taken.drain(start..end);
                    return Ok(Answer { came: true, typed: taken });
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Answer { came: false, typed: taken })
}

/// Where `ESC [ ? numbers c` stands.
fn answer_in(bytes: &[u8]) -> Option<(usize, usize)> {
    const START: &[u8] = b"\x1b[?";
    let starts = bytes.windows(START.len()).enumerate().filter(|(_, window)| *window == START);
    starts.map(|(at, _)| at).find_map(|at| {
        let rest = &bytes[at + START.len()..];
        let length = rest.iter().position(|byte| !(byte.is_ascii_digit() || *byte == b';'))?;
        (rest[length] == b'c').then_some((at, at + START.len() + length + 1))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answer(parts: &[&[u8]]) -> Answer {
        let mut parts = parts.iter();
        let read = |buffer: &mut [u8]| {
            let part = parts.next().copied().unwrap_or_default();
            buffer[..part.len()].copy_from_slice(part);
            Ok(part.len())
        };
        ask(Duration::from_secs(60), &mut Vec::new(), read).unwrap()
    }

    #[test]
    fn an_answer_is_known_in_pieces_and_among_keys() {
        let whole = answer(&[b"4\x1b[?6", b"2;4", b"c\r"]);
        assert_eq!(whole, Answer { came: true, typed: b"4\r".to_vec() });
        let other = answer(&[b"\x1b[?1u", b"\x1b[?62c"]);
        assert_eq!(other, Answer { came: true, typed: b"\x1b[?1u".to_vec() });
    }

    #[test]
    fn a_terminal_that_is_gone_is_not_waited_for() {
        assert_eq!(answer(&[b"q"]), Answer { came: false, typed: b"q".to_vec() });
    }
}
