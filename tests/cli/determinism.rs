//! Same inputs and options, same bytes: whatever the number of threads, and on every instruction set that this
//! processor has.

use std::fs;

use calib8::kernels::Isa;

use super::support::{Done, Workspace, fixture, names};

/// What holds no times and not the plan, which names the threads.
const RESULTS: [&str; 6] = [
    "model.int8.onnx",
    "checkpoint",
    "predictions.csv",
    "predictions.json",
    "tensor_distance.csv",
    "tensor_distance.json",
];
/// Images of the larger model: the slowest tier runs them too.
const IMAGES: usize = 6;

/// The tiny model, and the classifier that comes with calib8.
fn workspaces() -> [(&'static str, Workspace); 2] {
    let shapes = Workspace::empty();
    fs::create_dir(shapes.path("images")).unwrap();
    for name in names(&fixture("shapes/calib")).into_iter().take(IMAGES) {
        fs::copy(fixture("shapes/calib").join(&name), shapes.path("images").join(&name)).unwrap();
    }
    let text = format!(
        "version: 1
name: shapes
model: {{path: '{}'}}
preprocess: {{resize_short: 128, crop: 112, scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}
dataset: {{path: images}}
performance: {{streams: [1], seconds: 0.1, layers: false}}
output: out
",
        fixture("shapes/shapes.onnx").display()
    );
    fs::write(shapes.path("run.yaml"), text).unwrap();
    [("tiny", Workspace::tiny()), ("shapes", shapes)]
}

#[test]
fn neither_threads_nor_the_instruction_set_change_a_byte() {
    for (name, workspace) in workspaces() {
        let mut first: Option<(String, Vec<Vec<u8>>)> = None;
        for isa in Isa::available().into_iter().map(Isa::name) {
            for threads in ["1", "2"] {
                let what = format!("{name}, {isa}, {threads} threads");
                let threads = format!("threads={threads}");
                let mut command = workspace.command(&["run", "run.yaml", "--force", "--set", &threads]);
                let done = Done::of(&command.env("CALIB8_ISA", isa).output().unwrap());
                assert_eq!(done.code, Some(0), "{what}: {done}");
                let found: Vec<Vec<u8>> = RESULTS.iter().map(|name| workspace.output(name)).collect();
                let (other, expected) = first.get_or_insert_with(|| (what.clone(), found.clone()));
                for ((file, found), expected) in RESULTS.iter().zip(&found).zip(expected.iter()) {
                    assert!(found == expected, "{file}: {what} and {other} differ");
                }
            }
        }
    }
}
