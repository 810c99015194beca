//! The only place that sends pictures to the terminal.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Op, Picture, Protocol, Want};

/// Deletes all pictures, without an answer.
const DELETE_ALL: &[u8] = b"\x1b_Gq=2,a=d,d=A\x1b\\";

/// Whether kitty shows something of ours, for whoever gives the terminal back.
static KITTY: AtomicBool = AtomicBool::new(false);

/// Sends what [`super::Slot::step`] asked for, after the frame went out. `picture` is the one that is wanted.
///
/// # Errors
/// The terminal went away, or viuer can't print the picture.
pub fn send(ops: &[Op], protocol: Protocol, picture: Option<&Picture>) -> io::Result<()> {
    for op in ops {
        match op {
            Op::DeleteAll => delete_all(&mut io::stdout())?,
            Op::Print(want) => {
                if let Some(picture) = picture.filter(|picture| picture.id == want.picture) {
                    print(*want, protocol, picture)?;
                }
            }
        }
    }
    Ok(())
}

fn print(want: Want, protocol: Protocol, picture: &Picture) -> io::Result<()> {
    let config = viuer::Config {
        x: want.rect.x,
        y: i16::try_from(want.rect.y).unwrap_or(i16::MAX),
        width: Some(u32::from(want.rect.width)),
        height: Some(u32::from(want.rect.height)),
        absolute_offset: true,
        restore_cursor: true,
        transparent: false,
        premultiplied_alpha: false,
        truecolor: true,
        // Exactly one, so that viuer's own order of protocols plays no part.
        use_kitty: protocol == Protocol::Kitty,
        use_iterm: protocol == Protocol::Iterm2,
        use_sixel: protocol == Protocol::Sixel,
    };
    if protocol == Protocol::Kitty {
        KITTY.store(true, Ordering::SeqCst);
    }
    viuer::print(&picture.image, &config).map_err(|error| match error {
        viuer::ViuError::Io(error) => error,
        other => io::Error::other(other.to_string()),
    })?;
    Ok(())
}

fn delete_all(out: &mut impl Write) -> io::Result<()> {
    KITTY.store(false, Ordering::SeqCst);
    out.write_all(DELETE_ALL)?;
    out.flush()
}

/// Takes our pictures away before the terminal is given back; does nothing where there are none. kitty's
/// would stay above the shell's text.
pub fn clean(out: &mut impl Write) {
    if KITTY.load(Ordering::SeqCst) {
        // There may be nobody left to tell.
        let _ = delete_all(out);
    }
}
