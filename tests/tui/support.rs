//! A workbench that is driven by messages and drawn into a buffer.

use std::time::Duration;

use calib8::tui::keymap::{Key, Keymap};
use calib8::tui::theme::{Theme, ThemeName};
use calib8::tui::{App, Effect, Msg, update, view};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

/// The sizes that every screen is looked at in.
pub const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 50)];

pub fn app() -> App {
    App::new("ml-07".into(), Theme::new(ThemeName::Default, false), Keymap::default())
}

/// Presses keys, separated by spaces.
pub fn press(app: &mut App, keys: &str) -> Vec<Effect> {
    let keys = keys.split_whitespace().map(|key| key.parse::<Key>().unwrap());
    keys.flat_map(|key| update(app, Msg::Key(key))).collect()
}

/// Types text as it is.
pub fn type_text(app: &mut App, text: &str) -> Vec<Effect> {
    text.chars().flat_map(|c| update(app, Msg::Key(Key::char(c)))).collect()
}

/// Lets time pass.
pub fn wait(app: &mut App, seconds: f64) -> Vec<Effect> {
    app.now += Duration::from_secs_f64(seconds);
    update(app, Msg::Time)
}

pub fn draw(app: &mut App, (width, height): (u16, u16)) -> Buffer {
    update(app, Msg::Resize(width, height));
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view(app, frame)).unwrap();
    terminal.backend().buffer().clone()
}

/// The screen as text, without the spaces at the ends of its lines.
pub fn screen(app: &mut App, size: (u16, u16)) -> String {
    let buffer = draw(app, size);
    let rows = buffer.content.chunks(usize::from(size.0)).map(|row| {
        let mut line = String::new();
        let mut skip = 0;
        for cell in row {
            if skip == 0 {
                line.push_str(cell.symbol());
                skip = unicode_width::UnicodeWidthStr::width(cell.symbol()).saturating_sub(1);
            } else {
                skip -= 1;
            }
        }
        line.trim_end().to_string()
    });
    rows.collect::<Vec<_>>().join("\n")
}

/// A snapshot of the screen in each size, and at 80×24 in mono and ASCII.
pub fn snapshots(name: &str, app: &mut App) {
    for size in SIZES {
        insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), screen(app, size));
    }
    let theme = app.theme.clone();
    app.theme = Theme::new(ThemeName::Mono, true);
    let buffer = draw(app, SIZES[0]);
    assert!(buffer.content.iter().all(|cell| cell.symbol().is_ascii()), "{name}: not ASCII");
    let reset = ratatui::style::Color::Reset;
    assert!(buffer.content.iter().all(|cell| cell.fg == reset && cell.bg == reset), "{name}: coloured");
    insta::assert_snapshot!(format!("{name}_ascii"), screen(app, SIZES[0]));
    app.theme = theme;
}
