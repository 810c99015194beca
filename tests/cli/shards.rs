//! A run cut into shards ends in the bytes of the same run in one piece, however it was cut, in whatever order the
//! shards came, and whatever happened to them on the way.

use std::fs;
use std::process::Stdio;

use calib8::run::shards::{Shards, Step};
use rustix::process::{Pid, Signal, kill_process};

use super::support::{Done, Workspace, names};

/// Files without times in them.
pub const RESULTS: [&str; 11] = [
    "model.int8.onnx",
    "manifest.json",
    "checkpoint",
    "layers.csv",
    "predictions.csv",
    "predictions.json",
    "annotations.csv",
    "annotations.json",
    "tensor_distance.csv",
    "tensor_distance.json",
    "unreadable.csv",
];

/// `out` as it is compared: files without times, and of the summary what is no time and no speed.
pub fn results(workspace: &Workspace) -> Vec<(String, Vec<u8>)> {
    let files = RESULTS.iter().filter(|name| workspace.path("out").join(name).is_file());
    let mut found: Vec<_> = files.map(|name| (name.to_string(), workspace.output(name))).collect();
    let mut summary = workspace.summary();
    for timed in ["stages", "performance", "speedup", "engines"] {
        summary[timed] = serde_json::Value::Null;
    }
    summary.as_object_mut().unwrap().shift_remove("hosts");
    // Those about the measurement are about this moment.
    let warnings = summary["warnings"].as_array().unwrap().iter();
    let lasting: Vec<_> = warnings.filter(|w| w.as_str().unwrap().contains("image")).cloned().collect();
    summary["warnings"] = lasting.into();
    for timed in ["seconds", "images_per_second", "peak_rss_bytes"] {
        summary["calibration"][timed] = serde_json::Value::Null;
    }
    // Sensitivities stand beside times.
    let rows = String::from_utf8(workspace.output("sensitivity.csv")).unwrap();
    let untimed: Vec<String> =
        rows.lines().map(|row| row.rsplitn(4, ',').last().unwrap().to_string()).collect();
    found.push(("summary.json".into(), serde_json::to_vec_pretty(&summary).unwrap()));
    found.push(("sensitivity.csv".into(), untimed.join("\n").into_bytes()));
    found
}

/// Asserts that two runs are the same, and says in which file they are not.
pub fn assert_same(found: &[(String, Vec<u8>)], expected: &[(String, Vec<u8>)], what: &str) {
    let names = |of: &[(String, Vec<u8>)]| of.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(3000).collect::<String>();
        assert!(found == expected, "{what}: {name} differs:\n{}\n{}", text(found), text(expected));
    }
}

/// The tiny model on its own images, two of which can't be read.
pub fn workspace() -> Workspace {
    let workspace = Workspace::tiny_with_images();
    let tiny = names(&workspace.path("images"));
    fs::write(workspace.path("images/broken.png"), "not an image").unwrap();
    let labels = tiny.iter().enumerate().map(|(at, name)| format!("{name} {}\n", at % 3)).collect::<String>();
    fs::write(workspace.path("labels.txt"), labels + "broken.png 1\n").unwrap();
    workspace.set_dataset("dataset: {path: images, labels: labels.txt, max_unreadable: 0.5}");
    workspace
}

/// What the run gives in one piece. The folder is empty again afterwards.
pub fn undivided(workspace: &Workspace) -> Vec<(String, Vec<u8>)> {
    workspace.passes(&[]);
    let expected = results(workspace);
    fs::remove_dir_all(workspace.path("out")).unwrap();
    expected
}

fn shard(workspace: &Workspace, arguments: &[&str]) -> Done {
    workspace.calib8(&[&["shard"], arguments].concat())
}

fn ok(workspace: &Workspace, arguments: &[&str]) -> Done {
    let done = shard(workspace, arguments);
    assert_eq!(done.code, Some(0), "shard {arguments:?}: {done}");
    done
}

fn plan(workspace: &Workspace, shards: usize) -> Shards {
    ok(workspace, &["plan", "run.yaml", "--shards", &shards.to_string()]);
    Shards::open(&workspace.path("out")).unwrap()
}

/// All shards of a step, from the last to the first.
fn run_all(workspace: &Workspace, shards: &Shards, step: Step) {
    for number in (0..shards.cut(step).shards).rev() {
        ok(workspace, &["run", "out", step.name(), &number.to_string()]);
    }
}

/// The whole run, step by step.
fn all_steps(workspace: &Workspace, shards: &Shards) {
    for step in Step::ALL {
        run_all(workspace, shards, step);
        let merged = !step.needs_model() && shards.cut(step).shards > 0;
        if merged {
            ok(workspace, &["merge", "out", step.name()]);
        }
    }
    ok(workspace, &["merge", "out", "report"]);
}

#[test]
fn candidates_of_auto_are_scored_in_shards() {
    let workspace = Workspace::long(2);
    let text = fs::read_to_string(workspace.path("run.yaml")).unwrap();
    fs::write(workspace.path("run.yaml"), text.replace("optimize: {", "optimize: {method: auto, ")).unwrap();
    let expected = undivided(&workspace);
    for count in [2, 20] {
        let shards = plan(&workspace, count);
        assert_eq!(shards.cut(Step::Candidates).shards, count.min(10));
        if count == 2 {
            run_all(&workspace, &shards, Step::Statistics);
            let early = shard(&workspace, &["run", "out", "candidates", "0"]);
            assert!(early.error().contains("the statistics are not put together yet"), "{early}");
        }
        all_steps(&workspace, &shards);
        assert_same(&results(&workspace), &expected, &format!("{count} shards"));
        // All of it once more changes nothing.
        ok(&workspace, &["run", "out", "candidates", "1"]);
        ok(&workspace, &["merge", "out", "candidates"]);
        ok(&workspace, &["merge", "out", "report"]);
        assert_same(&results(&workspace), &expected, "again");
        fs::remove_dir_all(workspace.path("out")).unwrap();
    }
}

#[test]
fn any_number_of_shards_gives_the_bytes_of_the_run_in_one_piece() {
    let workspace = workspace();
    let expected = undivided(&workspace);
    for count in [1, 3, 8] {
        let shards = plan(&workspace, count);
        all_steps(&workspace, &shards);
        assert_same(&results(&workspace), &expected, &format!("{count} shards"));
        fs::remove_dir_all(workspace.path("out")).unwrap();
    }
}

#[test]
fn a_shard_that_is_run_twice_or_killed_changes_nothing() {
    let workspace = workspace();
    let expected = undivided(&workspace);
    let shards = plan(&workspace, 3);
    run_all(&workspace, &shards, Step::Statistics);
    let piece = shards.file(Step::Statistics, 1, "piece");
    let before = fs::read(&piece).unwrap();
    let again = ok(&workspace, &["run", "out", "statistics", "1"]);
    assert!(again.stderr.contains("the result of this shard is there already"), "{again}");
    assert_eq!(fs::read(&piece).unwrap(), before);
    fs::remove_file(&piece).unwrap();
    ok(&workspace, &["run", "out", "statistics", "1", "--threads", "1"]);
    assert!(fs::read(&piece).unwrap() == before, "the same shard, the same bytes");
    ok(&workspace, &["merge", "out", "statistics"]);
    for kill in 0..3u64 {
        let mut child = workspace
            .command(&["shard", "run", "out", "report", "2"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(15 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    run_all(&workspace, &shards, Step::Report);
    run_all(&workspace, &shards, Step::Sensitivity);
    ok(&workspace, &["merge", "out", "report"]);
    assert_same(&results(&workspace), &expected, "twice and killed");
    // A merge that is done again, as by a scheduler that was not told of the first, gives the same once more.
    ok(&workspace, &["merge", "out", "report"]);
    assert_same(&results(&workspace), &expected, "merged twice");
}

#[test]
fn a_shard_that_is_stopped_goes_on_where_it_was() {
    let workspace = Workspace::long(120);
    let expected = undivided(&workspace);
    let shards = plan(&workspace, 2);
    let part = shards.file(Step::Statistics, 0, "part");
    let mut child = workspace
        .command(&["shard", "run", "out", "statistics", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Told to stop once it has begun to count, by what it says and not by the clock.
    while child.try_wait().unwrap().is_none()
        && shards.state(Step::Statistics, 0).active().is_none_or(|stage| stage.done == 0)
    {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let _ = kill_process(pid, Signal::USR1);
    let code = child.wait().unwrap().code();
    assert!(matches!(code, Some(130 | 0)), "{code:?}");
    assert_eq!(part.is_file(), code == Some(130), "what it had is kept");
    run_all(&workspace, &shards, Step::Statistics);
    assert!(!part.is_file(), "what was kept goes once there is a result");
    all_steps(&workspace, &shards);
    assert_same(&results(&workspace), &expected, "stopped");
}

#[test]
fn a_merge_names_what_is_missing_damaged_or_of_other_inputs() {
    let workspace = workspace();
    let message = |arguments: &[&str], code| {
        let done = shard(&workspace, arguments);
        assert_eq!(done.code, Some(code), "{done}");
        workspace.normalized(done.error())
    };
    let shards = plan(&workspace, 3);
    for number in ["0", "2"] {
        ok(&workspace, &["run", "out", "statistics", number]);
    }
    insta::assert_snapshot!("shard_missing", message(&["merge", "out", "statistics"], 1));
    insta::assert_snapshot!("shard_too_early", message(&["run", "out", "report", "0"], 1));
    insta::assert_snapshot!("shard_of_no_such_number", message(&["run", "out", "statistics", "3"], 2));
    insta::assert_snapshot!(
        "shard_cut_otherwise",
        message(&["plan", "run.yaml", "--shards", "2", "--resume"], 2)
    );
    ok(&workspace, &["run", "out", "statistics", "1"]);

    let piece = shards.file(Step::Statistics, 1, "piece");
    let whole = fs::read(&piece).unwrap();
    fs::write(&piece, &whole[..whole.len() / 2]).unwrap();
    let damaged = message(&["merge", "out", "statistics"], 1);
    assert!(damaged.contains("statistics/00/0001.piece: is cut short"), "{damaged}");
    let text = String::from_utf8(whole.clone()).unwrap();
    let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    fs::write(&piece, text.replacen(&version, "\"version\":\"0.0.1\"", 1)).unwrap();
    insta::assert_snapshot!("shard_of_another_version", message(&["merge", "out", "statistics"], 1));
    fs::write(&piece, whole).unwrap();
    ok(&workspace, &["merge", "out", "statistics"]);

    run_all(&workspace, &shards, Step::Report);
    run_all(&workspace, &shards, Step::Sensitivity);
    let image = workspace.path("images").join(&names(&workspace.path("images"))[0]);
    let bytes = fs::read(&image).unwrap();
    fs::copy(workspace.path("images").join(&names(&workspace.path("images"))[2]), &image).unwrap();
    let other = message(&["merge", "out", "report"], 1);
    assert!(other.contains("belongs to another model"), "an image has changed: {other}");
    fs::write(&image, bytes).unwrap();
    let labels = fs::read_to_string(workspace.path("labels.txt")).unwrap();
    fs::write(workspace.path("images/new.png"), "x").unwrap();
    fs::write(workspace.path("labels.txt"), format!("{labels}new.png 0\n")).unwrap();
    let more = message(&["merge", "out", "report"], 1);
    assert!(more.contains("images, but the run was cut with"), "{more}");
    fs::write(workspace.path("labels.txt"), labels).unwrap();
    ok(&workspace, &["merge", "out", "report"]);
}

#[test]
fn speeds_on_several_kinds_of_node_stand_side_by_side() {
    let workspace = workspace();
    let on = ["--set", "performance.on=[small, {nodes: big}]"];
    let alone = workspace.run(&on);
    assert_eq!(alone.code, Some(0), "{alone}");
    assert!(alone.stderr.contains("performance.on needs a run in shards"), "{alone}");
    let expected = results(&workspace);
    fs::remove_dir_all(workspace.path("out")).unwrap();
    let planned = ok(&workspace, &["plan", "run.yaml", "--shards", "2", on[0], on[1]]);
    assert!(planned.stdout.contains("performance 1   alone on a machine of big"), "{planned}");
    let shards = Shards::open(&workspace.path("out")).unwrap();
    run_all(&workspace, &shards, Step::Statistics);
    ok(&workspace, &["merge", "out", "statistics"]);
    run_all(&workspace, &shards, Step::Report);
    run_all(&workspace, &shards, Step::Sensitivity);
    ok(&workspace, &["run", "out", "performance", "0"]);
    let early = shard(&workspace, &["merge", "out", "report"]);
    assert_eq!(early.code, Some(1), "{early}");
    assert!(
        early.error().contains("1 of 2 shards of performance have no result: 1 (has not begun)"),
        "{early}"
    );
    ok(&workspace, &["run", "out", "performance", "1"]);
    let merged = ok(&workspace, &["merge", "out", "report"]);
    assert!(merged.stdout.contains("  hosts      small on "), "{merged}");
    assert_same(&results(&workspace), &expected, "measured elsewhere");

    let summary = workspace.summary();
    let hosts = summary["hosts"].as_array().unwrap();
    assert_eq!(hosts.iter().map(|host| host["on"].as_str().unwrap()).collect::<Vec<_>>(), ["small", "big"]);
    for host in hosts {
        assert!(host["speedup"][0]["ratio"].as_f64().unwrap() > 0.0, "{host}");
        assert!(host["agreement"][0]["images"].as_u64().unwrap() > 0, "{host}");
        assert!(!host["host"]["isa"].as_array().unwrap().is_empty(), "{host}");
    }
    assert_eq!(summary["performance"], hosts[0]["performance"], "the first is the run's own");
    let page = String::from_utf8(workspace.output("report.html")).unwrap();
    assert!(page.contains("<h2>Hosts</h2>") && page.contains("<td>big</td>"));
    let history = workspace.calib8(&["history", "out", "--json"]);
    let history: serde_json::Value = serde_json::from_str(&history.stdout).unwrap();
    assert_eq!(history["measurements"].as_array().unwrap().len(), 2, "one of each");
    assert!(history["measurements"][0]["agreement"].is_number());
    let kinds: Vec<&str> =
        history["measurements"].as_array().unwrap().iter().map(|m| m["on"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["big", "small"], "both are called after the run and were measured on one host");
    let table = workspace.calib8(&["history", "out"]).stdout;
    let at = table.find("KIND OF NODE").unwrap_or_else(|| panic!("{table}"));
    for (line, kind) in table.lines().skip(1).zip(kinds) {
        assert!(line[at..].starts_with(kind), "{table}");
    }
}

#[test]
fn a_run_that_is_not_cut_says_so_and_force_begins_anew() {
    let workspace = workspace();
    workspace.passes(&[]);
    let done = shard(&workspace, &["merge", "out", "report"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("is not cut into shards"), "{done}");
    let done = shard(&workspace, &["plan", "run.yaml", "--shards", "2"]);
    assert_eq!(done.code, Some(2), "{done}");
    ok(&workspace, &["plan", "run.yaml", "--shards", "2", "--force"]);
    assert_eq!(names(&workspace.path("out")), ["lock", "run.yaml", "shards"]);
    // The run may still be done in one piece.
    workspace.passes(&["--resume"]);
    workspace.passes(&["--force"]);
    assert!(!workspace.path("out/shards").exists());
}

#[test]
fn too_many_unreadable_images_fail_the_merge_as_they_fail_the_run() {
    let workspace = workspace();
    workspace.set_dataset("dataset: {path: images, labels: labels.txt, max_unreadable: 0.15}");
    for name in names(&workspace.path("images")).iter().rev().take(3) {
        fs::write(workspace.path("images").join(name), "not an image").unwrap();
    }
    let undivided = workspace.run(&[]);
    fs::remove_dir_all(workspace.path("out")).unwrap();
    let shards = plan(&workspace, 3);
    let mut failed = 0;
    for number in 0..shards.cut(Step::Statistics).shards {
        failed +=
            i32::from(shard(&workspace, &["run", "out", "statistics", &number.to_string()]).code != Some(0));
    }
    let merged = shard(&workspace, &["merge", "out", "statistics"]);
    assert_eq!((merged.code, undivided.code), (Some(1), Some(1)), "{merged}");
    let expected = if failed == 0 { "more than dataset.max_unreadable" } else { "have no result" };
    assert!(merged.error().contains(expected), "{merged}");
}
