//! Names from files never command the terminal: escape sequences, control characters of 8 bits and characters that
//! change the direction of text, in every name that a model, a dataset or a run file can hold.

use std::fs;

use calib8::model::graph::{node, tensor, value};
use calib8::model::pb::{GraphProto, ModelProto, NodeProto};
use prost::Message;

use super::model;
use super::support::{Done, Workspace, fixture, names};

/// Clears the screen, in 7 and in 8 bits, sets the title, and turns the rest around.
const EVIL: &str = "evil\u{1b}[2J\u{9b}2J\u{1b}]0;x\u{7}\u{202e}";

fn harmless(what: &str, done: &Done) {
    for (name, text) in [("standard output", &done.stdout), ("standard error", &done.stderr)] {
        let obeyed = |c: char| {
            c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        let line = text.lines().find(|line| line.contains(obeyed));
        assert!(line.is_none(), "{what}, {name}: {line:?}");
    }
}

/// The message with each of its names replaced; the graph is sound but for `operator`.
fn evil(operator: Option<&str>, dynamic: bool) -> Vec<u8> {
    let name = |part: &str| format!("{part}{EVIL}");
    let conv = NodeProto {
        doc_string: EVIL.into(),
        ..node("Conv", &name("conv"), &[&name("x"), &name("w")], &[&name("c")])
    };
    let nodes = vec![
        conv,
        node(operator.unwrap_or("Relu"), &name("relu"), &[&name("c")], &[&name("r")]),
        node("GlobalAveragePool", &name("pool"), &[&name("r")], &[&name("p")]),
        node("Flatten", &name("flat"), &[&name("p")], &[&name("y")]),
    ];
    let side = if dynamic { name("H") } else { "16".into() };
    let weights: Vec<f32> = (0..108).map(|i| (i % 13) as f32 / 13.0 - 0.5).collect();
    let graph = GraphProto {
        name: EVIL.into(),
        input: vec![value(&name("x"), 1, &[&name("N"), "3", &side, "16"])],
        output: vec![value(&name("y"), 1, &[&name("N"), "4"])],
        node: nodes,
        initializer: vec![tensor(&name("w"), &[4, 3, 3, 3], &weights)],
        ..Default::default()
    };
    let proto = ModelProto {
        producer_name: EVIL.into(),
        producer_version: EVIL.into(),
        domain: EVIL.into(),
        ..model::of(graph)
    };
    proto.encode_to_vec()
}

#[test]
fn no_name_reaches_the_terminal_as_it_is() {
    let workspace = Workspace::tiny();
    let folder = format!("{EVIL}images");
    fs::create_dir(workspace.path(&folder)).unwrap();
    let mut labels = String::new();
    for (number, name) in names(&fixture("tiny/images")).into_iter().enumerate() {
        let copy = format!("{EVIL}{number:02}.png");
        fs::copy(fixture("tiny/images").join(name), workspace.path(&format!("{folder}/{copy}"))).unwrap();
        labels += &format!("{copy} {}\n", number % 4);
    }
    fs::write(workspace.path(&format!("{folder}/{EVIL}broken.png")), "x").unwrap();
    labels += &format!("{EVIL}broken.png 0\n");
    fs::write(workspace.path("labels.txt"), labels).unwrap();
    fs::write(workspace.path("classes.txt"), format!("a{EVIL}\nb{EVIL}\nc\nd\n")).unwrap();
    let file = format!("m{EVIL}.onnx");
    fs::write(workspace.path(&file), evil(None, false)).unwrap();
    fs::write(workspace.path("dynamic.onnx"), evil(None, true)).unwrap();
    fs::write(workspace.path("unknown.onnx"), evil(Some(EVIL), false)).unwrap();
    // In quotes, as YAML: what is not ASCII by its number.
    let escaped = |c: char| if c.is_ascii_graphic() { c.to_string() } else { format!("\\u{:04x}", c as u32) };
    let quoted = |text: &str| format!("\"{}\"", text.chars().map(escaped).collect::<String>());
    let dataset = format!(
        "dataset: {{path: {}, labels: labels.txt, classes: classes.txt, max_unreadable: 0.5}}",
        quoted(&folder)
    );
    workspace.set_dataset(&dataset);
    let model = format!("model.path={}", quoted(&file));
    let unknown = ["run", "run.yaml", "--output", "other", "--set", "model.path=unknown.onnx"];
    let out = format!("out{EVIL}");
    let int8 = format!("{out}/model.int8.onnx");
    let run = ["run", "run.yaml", "--set", &model, "--output", &out];
    let good: [&[&str]; 14] = [
        &["inspect", &file],
        &["inspect", &file, "--layers"],
        &["inspect", &file, "--json"],
        &["inspect", "dynamic.onnx", "--layers"],
        &["inspect", "dynamic.onnx", "--json"],
        &["inspect", "unknown.onnx", "--layers"],
        &[&run[..], &["--dry-run"]].concat(),
        &[&run[..], &["--dry-run", "--json"]].concat(),
        &run,
        &[&run[..], &["--force", "--json"]].concat(),
        &["ps"],
        &["logs", &out],
        &["inspect", &int8, "--layers"],
        &["compare", &file, &int8, "--dataset", &folder, "--seconds", "0", "--preprocess", "unit"],
    ];
    for arguments in good {
        let done = workspace.calib8(arguments);
        harmless(&format!("{arguments:?}"), &done);
        let shows = done.stdout.contains("evil") || done.stderr.contains("evil");
        assert!(shows, "{arguments:?} shows none of the names, so it tests nothing: {done}");
    }
    let bad: [&[&str]; 8] = [
        &unknown,
        &[&unknown[..], &["--json"]].concat(),
        &["run", "run.yaml", "--set", "model.path=dynamic.onnx", "--output", "other", "--force"],
        &["run", EVIL],
        &["run", "run.yaml", "--set", EVIL],
        &["run", "run.yaml", "--set", &format!("name={}", quoted(EVIL))],
        &["inspect", EVIL],
        &["export", EVIL, "package"],
    ];
    for arguments in bad {
        let done = workspace.calib8(arguments);
        assert_ne!(done.code, Some(0), "{arguments:?}: {done}");
        harmless(&format!("{arguments:?}"), &done);
    }
    // Every CSV file and the page.
    for name in names(&workspace.path(&out)) {
        let text = String::from_utf8_lossy(&fs::read(workspace.path(&format!("{out}/{name}"))).unwrap())
            .into_owned();
        if name == "report.html" {
            assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{name}");
        }
    }
}

#[test]
fn names_of_layers_are_no_formulas_in_tables() {
    let workspace = Workspace::tiny();
    let nodes = vec![
        node("Conv", "=cmd|' /C calc'!A0", &["x", "w"], &["c"]),
        node("Relu", "+relu", &["c"], &["r"]),
        node("GlobalAveragePool", "@pool", &["r"], &["p"]),
        node("Flatten", "-flat", &["p"], &["y"]),
    ];
    let weights: Vec<f32> = (0..108).map(|i| (i % 13) as f32 / 13.0 - 0.5).collect();
    let weights = vec![tensor("w", &[4, 3, 3, 3], &weights)];
    let proto = model::of(model::graph(&["N", "3", "16", "16"], &["N", "4"], nodes, weights));
    fs::write(workspace.path("m.onnx"), proto.encode_to_vec()).unwrap();
    workspace.passes(&["--set", "model.path=m.onnx", "--set", "performance.layers=true"]);
    for name in names(&workspace.path("out")).into_iter().filter(|name| name.ends_with(".csv")) {
        let text = String::from_utf8(workspace.output(&name)).unwrap();
        let starts = |line: &str| line.trim_start_matches('"').starts_with(['=', '+', '-', '@']);
        let line = text.lines().find(|line| starts(line));
        assert!(line.is_none(), "{name}: {line:?}");
    }
    let layers = String::from_utf8(workspace.output("layers.csv")).unwrap();
    assert!(layers.contains("'=cmd|' /C calc'!A0"), "{layers}");
}
