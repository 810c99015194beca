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
        snapshots(name, &mut app);
    }
}

#[test]
fn projects_and_variants() {
    let mut app = filled();
    snapshots("projects", &mut app);
    press(&mut app, "down");
    snapshots("projects_finished", &mut app);
    press(&mut app, "down");
    snapshots("projects_running", &mut app);
    press(&mut app, "down");
    snapshots("projects_failed", &mut app);
    press(&mut app, "G");
    snapshots("projects_unreadable", &mut app);
}

#[test]
fn questions() {
    let mut app = filled();
    press(&mut app, "d");
    snapshots("delete", &mut app);
    assert!(app.hint.is_some(), "a run is at work in it");
    press(&mut app, "down d");
    snapshots("delete_variant", &mut app);
    press(&mut app, "esc R");
    snapshots("rename", &mut app);
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
    snapshots("run_failed", &mut app);
    press(&mut app, "1 down enter");
    snapshots("run_queued", &mut app);
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
    snapshots("notice", &mut app);
    press(&mut app, "M");
    snapshots("messages", &mut app);
}

#[test]
fn a_terminal_that_is_too_small_is_told_what_is_needed() {
    let text = screen(&mut app(), (59, 20));
    assert!(text.contains("calib8 needs 60 columns and 16 rows; this terminal has 59"), "{text}");
    assert!(screen(&mut app(), (60, 15)).contains("this terminal has 60"));
}
