//! What every screen looks like.

use calib8::tui::app::Level;

use super::support::*;

#[test]
fn an_empty_workbench() {
    let mut app = app();
    snapshots("empty_projects", &mut app);
    for (key, name) in [("2", "empty_optimize"), ("3", "empty_performance"), ("4", "empty_report")] {
        press(&mut app, key);
        insta::assert_snapshot!(name, screen(&mut app, SIZES[0]));
    }
}

#[test]
fn the_help() {
    let mut app = app();
    press(&mut app, "?");
    snapshots("help", &mut app);
}

#[test]
fn the_messages() {
    let mut app = app();
    app.say(Level::Done, "renamed a to b");
    app.say(Level::Error, "model.onnx: is no ONNX file\nexpected a file that begins with its version");
    insta::assert_snapshot!("notice", screen(&mut app, SIZES[0]));
    press(&mut app, "M");
    insta::assert_snapshot!("messages", screen(&mut app, SIZES[0]));
}

#[test]
fn a_terminal_that_is_too_small_is_told_what_is_needed() {
    let text = screen(&mut app(), (59, 20));
    assert!(text.contains("calib8 needs 60 columns and 16 rows; this terminal has 59"), "{text}");
    assert!(screen(&mut app(), (60, 15)).contains("this terminal has 60"));
}
