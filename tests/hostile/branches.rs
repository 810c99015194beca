//! What [`constants`](super::constants) asks for, inside of the branches of an `If`.

use calib8::model::graph::{node, tensor, value};
use calib8::model::pb::{GraphProto, ModelProto};
use prost::Message;

use super::constants::{self, Case};
use super::models::graph_attribute;
use super::{entries, limits, model};

/// How an `If` is written around a case.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// Which branch asks for much.
    branch: &'static str,
    /// Whether the numbers that it asks with stand inside of the branch, not around it.
    inside: bool,
    /// Whether the condition depends on the image.
    depends: bool,
}

const FORMS: [Form; 4] = [
    Form { branch: "then_branch", inside: true, depends: false },
    Form { branch: "else_branch", inside: true, depends: true },
    Form { branch: "then_branch", inside: false, depends: true },
    Form { branch: "else_branch", inside: false, depends: false },
];

fn around(case: &Case, form: Form) -> ModelProto {
    let mut nodes = case.nodes.clone();
    if let Some(last) = nodes.last_mut() {
        last.output = vec!["z".into()];
    }
    let asks = GraphProto {
        node: nodes,
        initializer: if form.inside { case.initializer.clone() } else { vec![] },
        output: vec![value("z", 1, &[])],
        ..Default::default()
    };
    let harmless = GraphProto {
        node: vec![node("Relu", "relu", &["x"], &["r"])],
        output: vec![value("r", 1, &[])],
        ..Default::default()
    };
    let other = if form.branch == "then_branch" { "else_branch" } else { "then_branch" };
    let mut branches = node("If", "if", &["condition"], &["y"]);
    branches.attribute = vec![graph_attribute(form.branch, asks), graph_attribute(other, harmless)];
    let mut initializer = if form.inside { vec![] } else { case.initializer.clone() };
    let mut nodes = vec![branches];
    if form.depends {
        nodes.splice(
            0..0,
            [
                node("ReduceMax", "max", &["x"], &["most"]),
                node("Reshape", "scalar", &["most", "no_axes"], &["number"]),
                node("Greater", "greater", &["number", "zero"], &["condition"]),
            ],
        );
        initializer.extend([tensor("no_axes", &[0], &[0i64; 0]), tensor("zero", &[], &[0f32])]);
    } else {
        let mut condition = tensor("condition", &[], &[u8::from(form.branch == "then_branch")]);
        // Of the type bool.
        condition.data_type = 9;
        initializer.push(condition);
    }
    model::of(model::graph(&["1", "3", "4", "4"], &[], nodes, initializer))
}

#[test]
fn what_constants_in_a_branch_ask_for_is_refused_before_it_is_computed() {
    limits::in_child("branches::refused", &[]);
}

#[test]
#[ignore = "run in a child process by what_constants_in_a_branch_ask_for_is_refused_before_it_is_computed"]
fn refused() {
    limits::confine();
    entries::quiet();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    for case in constants::cases() {
        for form in FORMS {
            let what = format!("{} in {form:?}", case.what);
            println!("{what}");
            let bytes = around(&case, form).encode_to_vec();
            assert!(bytes.len() < 2000, "{what}: {} bytes", bytes.len());
            constants::check(&path, &what, &bytes, case.held);
        }
    }
}
