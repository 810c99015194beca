//! What keys do, and what they say when they can't.

use calib8::tui::app::Tab;
use calib8::tui::{Effect, Exit};

use super::support::*;

#[test]
fn digits_and_tab_go_from_tab_to_tab() {
    let mut app = empty();
    press(&mut app, "3");
    assert_eq!(app.tab, Tab::Performance);
    press(&mut app, "tab tab");
    assert_eq!(app.tab, Tab::Projects);
    press(&mut app, "shift-tab");
    assert_eq!(app.tab, Tab::Report);
}

#[test]
fn a_key_that_cannot_act_says_why_for_two_seconds() {
    let mut app = empty();
    press(&mut app, "3 s");
    assert!(
        screen(&mut app, SIZES[0]).contains("can't sort by the next column: there is no table here to sort")
    );
    wait(&mut app, 1.9);
    assert!(app.hint.is_some());
    wait(&mut app, 0.2);
    assert!(app.hint.is_none());
    press(&mut app, "%");
    assert!(screen(&mut app, SIZES[0]).contains("% does nothing here; ? shows the keys"));
}

#[test]
fn the_help_searches_and_runs_what_it_lists() {
    let mut app = empty();
    press(&mut app, "?");
    type_text(&mut app, "theme change");
    let text = screen(&mut app, SIZES[1]);
    assert!(text.contains("change the theme"), "{text}");
    assert!(!text.contains("draw the screen anew"), "{text}");
    press(&mut app, "enter");
    assert_eq!(app.theme.name.name(), "light");
    assert!(app.overlay.is_none());
}

#[test]
fn keys_are_found_by_the_key_itself() {
    let mut app = empty();
    press(&mut app, "? ctrl-u");
    type_text(&mut app, "Ctrl-L");
    assert!(screen(&mut app, SIZES[1]).contains("draw the screen anew"));
}

#[test]
fn the_palette_goes_where_the_command_is() {
    let mut app = empty();
    press(&mut app, ":");
    type_text(&mut app, "performance");
    press(&mut app, "enter");
    assert_eq!(app.tab, Tab::Performance);
}

#[test]
fn letters_in_the_palette_are_text() {
    let mut app = empty();
    press(&mut app, ": q");
    assert_eq!(app.exit, None);
    press(&mut app, "esc");
    assert_eq!((app.exit, app.overlay.is_none()), (None, true));
    press(&mut app, "q");
    assert_eq!(app.exit, Some(Exit::Quit));
}

#[test]
fn control_c_quits_from_anywhere() {
    let mut app = empty();
    press(&mut app, ": ctrl-c");
    assert_eq!(app.exit, Some(Exit::Quit));
}

#[test]
fn pasted_text_is_never_a_command() {
    let mut app = empty();
    calib8::tui::update(&mut app, calib8::tui::Msg::Paste("q".into()));
    assert_eq!(app.exit, None);
    press(&mut app, ":");
    calib8::tui::update(&mut app, calib8::tui::Msg::Paste("redraw\nrm".into()));
    assert_eq!(press(&mut app, "enter"), [Effect::Redraw]);
}

#[test]
fn keys_of_the_user_are_shown_and_work() {
    let mut app = empty();
    app.keymap.set(calib8::tui::action::Action::Help, vec!["ctrl-h".parse().unwrap()]);
    assert!(screen(&mut app, SIZES[0]).contains("Ctrl-H help"));
    press(&mut app, "ctrl-h");
    assert!(app.overlay.is_some());
}

/// Rewritten by running the tests with `UPDATE_README=1`.
#[test]
fn the_readme_holds_the_table_of_keys() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- keys -->\n", "<!-- /keys -->");
    let (before, rest) = readme.split_once(begin).unwrap();
    let (table, after) = rest.split_once(end).unwrap();
    let expected = calib8::tui::keymap::Keymap::default().markdown();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(path, format!("{before}{begin}{expected}{end}{after}")).unwrap();
    } else {
        assert!(table == expected, "the README's keys are out of date: run the tests with UPDATE_README=1");
    }
}
