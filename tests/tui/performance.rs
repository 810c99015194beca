//! The Performance tab over a recorded run.

use calib8::tui::app::Subject;
use calib8::tui::tabs::performance;
use calib8::tui::{Effect, Msg};

use super::recorded::{Recorded, run_directory};
use super::support::*;

#[test]
fn bars_and_layers() {
    let mut run = Recorded::open("3");
    run.snapshots("performance");
    run.press("v");
    run.snapshots("performance_kinds");
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
fn the_order_is_said_and_its_column_is_seen_however_narrow_the_screen() {
    let mut run = Recorded::open("3");
    run.press("s s");
    let text = run.screen(SIZES[0]);
    assert!(text.contains("sorted by Why, the smallest first"), "{text}");
    assert!(text.contains("Why▴"), "{text}");
    run.press("S");
    assert!(run.screen(SIZES[0]).contains("sorted by Why, the largest first"));
    run.press("s");
    assert!(run.screen(SIZES[0]).contains("in the order of the file"));
}

#[test]
fn layers_are_exported_as_they_are_shown() {
    let mut run = Recorded::open("3");
    run.press("/");
    run.type_text("stem");
    let copied = run.press("enter y");
    assert_eq!(copied, [Effect::Copy("stem.conv".into())]);
    let effects = run.press("E");
    let [Effect::Performance(performance::Effect::Export { count, text, path })] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(*path, run.file("layers.shown.csv"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "Layer,Kind,MACs,Parent us,Optimized us,Ratio,Saved us,Runs in,Why");
    assert_eq!((lines.len(), lines[1..].iter().all(|line| line.contains("stem"))), (count + 1, true));
    run.press("b E");
    assert!(run.screen(SIZES[1]).contains("there are no layers here; Esc goes back to them"));
}

#[test]
fn kinds_of_node_on_one_host_are_told_apart() {
    let mut run = Recorded::open("3");
    let text = std::fs::read_to_string(run.file("performance.json")).unwrap();
    let mut measured: serde_json::Value = serde_json::from_str(&text).unwrap();
    measured["name"] = "int8 default".into();
    measured["host"] = serde_json::json!({
        "hostname": "ml-07", "cpu": "A CPU", "cores": 64, "kernel": "6.8", "memory_bytes": 1,
    });
    for (folder, on) in [("hosts/1", "avx512&bigmem"), ("hosts/2", "amx")] {
        measured["on"] = on.into();
        std::fs::create_dir_all(run.file(folder)).unwrap();
        std::fs::write(run.file(folder).join("performance.json"), measured.to_string()).unwrap();
    }
    run.press("H");
    run.snapshots("performance_nodes");
}

#[test]
fn measurements_of_other_hosts_stand_beside_those_of_this_one() {
    let mut run = Recorded::open("3");
    // A copy from another machine, in a folder of its own.
    let text = std::fs::read_to_string(run.file("performance.json")).unwrap();
    let mut other: serde_json::Value = serde_json::from_str(&text).unwrap();
    other["host"] = serde_json::json!({
        "hostname": "ml-08", "cpu": "Another CPU", "cores": 64, "kernel": "6.8", "memory_bytes": 1,
    });
    std::fs::create_dir(run.file("ml-08")).unwrap();
    std::fs::write(run.file("ml-08/performance.json"), other.to_string()).unwrap();
    run.press("H");
    run.snapshots("performance_hosts");
    std::fs::write(run.file("ml-08/performance.json"), "{").unwrap();
    run.press("H H");
    let text = run.screen(SIZES[2]);
    assert!(text.contains("ml-08/performance.json: is no performance.json"), "{text}");
    run.press("/");
    assert!(run.screen(SIZES[1]).contains("there are no layers here; Esc goes back to them"));
    run.press("esc");
    assert!(run.screen(SIZES[1]).contains("── layers ("));
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
