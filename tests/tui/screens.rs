//! What every screen looks like.

use calib8::tui::app::Level;
use calib8::tui::tabs::optimize::{Estimate, Msg as OptimizeMsg};
use calib8::tui::{App, Msg, update};

use super::support::*;

/// A workbench with the form of the first project.
pub fn with_form() -> App {
    let mut app = filled();
    press(&mut app, "g o");
    let folder = "/data/models/shapes/calib".into();
    update(&mut app, Msg::Optimize(OptimizeMsg::Calibration { project: "shapes".into(), folder }));
    let estimate = Estimate {
        calibration_images: 150,
        dataset_images: 400,
        quantized_nodes: 35,
        parent_ms: 4.2,
        seconds: 44.0,
        memory_bytes: 61_000_000,
        disk_bytes: 3_100_000,
        warnings: vec!["the disk of the output folder has too little space".into()],
    };
    update(&mut app, Msg::Optimize(OptimizeMsg::Estimated(Ok(estimate))));
    app
}

#[test]
fn an_empty_workbench() {
    let mut app = empty();
    snapshots("empty_projects", &mut app);
    for (key, name) in [("2", "empty_optimize"), ("3", "empty_performance"), ("4", "empty_report")] {
        press(&mut app, key);
        insta::assert_snapshot!(name, screen(&mut app, SIZES[0]));
    }
}

#[test]
fn projects_and_variants() {
    let mut app = filled();
    snapshots("projects", &mut app);
    press(&mut app, "down");
    insta::assert_snapshot!("projects_finished", screen(&mut app, SIZES[1]));
    press(&mut app, "down");
    insta::assert_snapshot!("projects_running", screen(&mut app, SIZES[1]));
    press(&mut app, "down");
    insta::assert_snapshot!("projects_failed", screen(&mut app, SIZES[1]));
    press(&mut app, "G");
    insta::assert_snapshot!("projects_unreadable", screen(&mut app, SIZES[1]));
}

#[test]
fn questions() {
    let mut app = filled();
    press(&mut app, "d");
    insta::assert_snapshot!("delete", screen(&mut app, SIZES[0]));
    assert!(app.hint.is_some(), "a run is at work in it");
    press(&mut app, "down d");
    insta::assert_snapshot!("delete_variant", screen(&mut app, SIZES[0]));
    press(&mut app, "esc R");
    insta::assert_snapshot!("rename", screen(&mut app, SIZES[0]));
}

#[test]
fn the_form_of_a_new_project() {
    let mut app = empty();
    press(&mut app, "n");
    type_text(&mut app, "~/models/resnet.onnx");
    press(&mut app, "enter");
    type_text(&mut app, "~/photos");
    snapshots("import", &mut app);
}

#[test]
fn the_form_of_a_run() {
    snapshots("form", &mut with_form());
}

#[test]
fn a_run_from_its_first_stage_to_its_end() {
    let mut app = filled();
    press(&mut app, "g down down enter");
    for (name, text) in [
        ("run_statistics", r#""stage":"statistics","done":90"#),
        ("run_measure", r#""stage":"measure","done":2"#),
        ("run_report", r#""stage":"report","done":200"#),
    ] {
        let at = entries_until(r#""stage":"statistics","done":9"#);
        let at = if name == "run_statistics" { at } else { entries_until(text) };
        show(&mut app, workspace(at + 1));
        snapshots(name, &mut app);
    }
    press(&mut app, "1 g down down down enter");
    insta::assert_snapshot!("run_failed", screen(&mut app, SIZES[1]));
    press(&mut app, "1 down enter");
    insta::assert_snapshot!("run_queued", screen(&mut app, SIZES[1]));
}

#[test]
fn the_help() {
    let mut app = empty();
    press(&mut app, "?");
    snapshots("help", &mut app);
}

#[test]
fn the_messages() {
    let mut app = empty();
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
