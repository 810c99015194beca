//! The Performance tab over a recorded run.

use calib8::tui::Msg;
use calib8::tui::app::Subject;

use super::recorded::{Recorded, run_directory};
use super::support::*;

#[test]
fn bars_and_layers() {
    let mut run = Recorded::open("3");
    run.snapshots("performance");
    run.press("v");
    insta::assert_snapshot!("performance_kinds", run.screen(SIZES[1]));
}

#[test]
fn streams_by_batch_with_the_best_point_under_a_limit() {
    let mut run = Recorded::open("3");
    run.press("b");
    run.snapshots("performance_settings");
    run.press("-");
    let text = run.screen(SIZES[1]);
    assert!(text.contains("p90 ≤ 30 ms"), "{text}");
    for _ in 0..20 {
        run.press("-");
    }
    assert!(run.screen(SIZES[1]).contains("nothing keeps to the limit"));
    for _ in 0..20 {
        run.press("+");
    }
    assert!(run.screen(SIZES[1]).contains("no latency limit"));
    run.press("v");
    assert!(run.screen(SIZES[1]).contains("built-in, parent"));
    run.press("q");
    assert!(run.app.exit.is_none(), "q goes back to the layers first");
}

#[test]
fn layers_are_filtered_by_words_and_sorted_by_any_column() {
    let mut run = Recorded::open("3");
    run.press("/");
    run.type_text("conv block3");
    run.press("enter");
    let text = run.screen(SIZES[1]);
    assert!(text.contains("/ conv block3"), "{text}");
    assert!(!text.contains("block1"), "{text}");
    run.press("esc");
    for _ in 0..10 {
        run.press("s S");
        run.screen(SIZES[1]);
    }
}

#[test]
fn a_variant_is_held_to_compare_others_with() {
    let mut run = Recorded::open("3");
    run.press("=");
    assert!(run.screen(SIZES[1]).contains("shapes · int8 default is held; open another variant to see both"));
    let other = run_directory();
    let directory = other.path().to_path_buf();
    run.tell(Msg::Open(Subject { title: "shapes · int8 mixed".into(), directory }));
    let text = run.screen(SIZES[1]);
    assert!(text.contains("1.00× of shapes · int8 default, measured apart: no interval"), "{text}");
}

#[test]
fn a_run_without_measurements_says_so() {
    let mut run = Recorded::open("1");
    std::fs::remove_file(run.file("performance.json")).unwrap();
    let directory = run.folder.path().to_path_buf();
    run.tell(Msg::Open(Subject { title: "x".into(), directory }));
    run.press("3");
    assert!(run.screen(SIZES[0]).contains("Nothing was measured yet"));
    run.press("b");
    assert!(run.screen(SIZES[0]).contains("nothing was measured"));
}

#[test]
fn measuring_again_asks_first_and_reads_what_came_of_it() {
    use calib8::run::events::Status;
    use calib8::run::status::Standing;
    use calib8::tui::tabs::performance::{Effect as Performance, Msg as PerformanceMsg};
    use calib8::tui::{Effect, update};

    let mut app = filled();
    press(&mut app, "down enter r");
    assert!(app.hint.as_ref().unwrap().0.ends_with("a run is at work, which would disturb the timing"));
    let mut snapshot = workspace(200);
    snapshot.projects[0].variants.truncate(2);
    snapshot.projects[0].variants[1].standing = Standing::Interrupted;
    show(&mut app, snapshot.clone());
    assert_eq!(press(&mut app, "r"), []);
    let run = directory("int8-performance");
    let measure = Effect::Performance(Performance::Measure(run.clone()));
    assert_eq!(press(&mut app, "enter"), [measure]);
    update(&mut app, Msg::Performance(PerformanceMsg::Begun(run.clone(), 4711)));
    assert_eq!(show(&mut app, snapshot.clone()), [], "the end of the run before");
    snapshot.projects[0].variants[0].state.pid = Some(4711);
    snapshot.projects[0].variants[0].standing = Standing::Running;
    assert_eq!(show(&mut app, snapshot.clone()), []);
    snapshot.projects[0].variants[0].standing = Standing::Finished(Status::Passed);
    let load = Effect::Performance(Performance::Load(run));
    assert_eq!(show(&mut app, snapshot.clone()), [load]);
    assert_eq!(show(&mut app, snapshot), []);
}
