//! What is done with bytes of others, one function for each kind of file. Whatever the bytes are, none of these
//! may panic, overflow the stack, take more memory than the limit of its caller, or not come back.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use calib8::dataset::{self, Dataset, DatasetSpec, Preprocess};
use calib8::engine::builtin::{self, Builtin};
use calib8::engine::{Engine, LoadOptions, Value};
use calib8::model::{Model, check, inspect, qoperator, simplify};
use calib8::ndarray::{ArrayD, IxDyn};
use calib8::run::fold::State;
use calib8::run::plan::Plan;

/// Work and values of a model that is run: more would make a run of many inputs slow.
const MOST_MACS: u64 = 5_000_000;
const MOST_VALUES: usize = 100_000;

/// Panics that are caught and become errors (of tract, of decoders of images) are no finding. Whoever runs a
/// single input sees what they said.
pub fn quiet() {
    if std::env::var_os("CALIB8_FUZZ_VERBOSE").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
}

/// Reading and inspecting a model.
pub fn model(bytes: &[u8]) {
    let Ok(model) = Model::load(&in_file("model.onnx", bytes)) else { return };
    let _ = (model.inputs(), model.outputs(), model.opset(), model.image_input());
    let _ = check::unsupported_operators(&model);
    let _ = inspect::inspect(&qoperator::as_qdq(&model));
    if let Ok(simplified) = simplify::simplify(&model) {
        let _ = inspect::inspect(&simplified.model);
    }
}

/// Lowering a model, loading it into a session, and, where that is little work, one inference.
pub fn session(bytes: &[u8]) {
    let Ok(model) = Model::load(&in_file("model.onnx", bytes)) else { return };
    let _ = builtin::unfused(&model);
    let Ok(session) = Builtin.load(&model, &LoadOptions::default()) else { return };
    let values = |shape: &[usize]| shape.iter().fold(1usize, |n, d| n.saturating_mul(*d));
    let all = session.inputs().iter().chain(session.outputs());
    let macs = session.layers().iter().fold(0u64, |sum, layer| sum.saturating_add(layer.macs));
    if macs > MOST_MACS || all.fold(0usize, |n, t| n.saturating_add(values(&t.shape))) > MOST_VALUES {
        return;
    }
    let Ok(mut runner) = session.spawn() else { return };
    let input = |shape: &[usize]| {
        let values = (0..values(shape)).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
        ArrayD::from_shape_vec(IxDyn(shape), values).ok().map(Value::from)
    };
    if let Some(inputs) = session.inputs().iter().map(|t| input(&t.shape)).collect::<Option<Vec<_>>>() {
        let _ = runner.run(&inputs);
    }
}

/// A run file, and its plan written and read again.
pub fn run_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let folder = Path::new("/nonexistent");
    match Plan::parse(Path::new("run.yaml"), folder, text, &[]) {
        Err(error) => drop(error.to_string()),
        Ok(plan) => drop((plan.warnings(), plan.to_yaml())),
    }
    let _ = Plan::parse(Path::new("run.yaml"), folder, BASE, &[text.to_string()]);
}

/// What `--set` is tried on.
const BASE: &str = "version: 1\nname: a\nmodel: {path: m.onnx}\ndataset: {path: d}\n";

/// An event log, and its state written and read again.
pub fn events(bytes: &[u8]) {
    let state = State::of_log(&String::from_utf8_lossy(bytes));
    let _ = state.active();
}

/// A list of labels, one that stands alone, and a list of class names.
pub fn labels(bytes: &[u8]) {
    let list = in_file("list.txt", bytes);
    let folder = list.parent().map(Path::to_path_buf).unwrap_or_default();
    let _ = dataset::class_names(&list).map_err(|error| error.to_string());
    for spec in [
        DatasetSpec { path: folder.clone(), labels: Some(list.clone()), ..Default::default() },
        DatasetSpec { path: list.clone(), ..Default::default() },
        DatasetSpec { path: folder, classes: Some(list.clone()), ..Default::default() },
    ] {
        match Dataset::open(&spec) {
            Ok(dataset) => drop(dataset.check_labels(10)),
            Err(error) => drop(error.to_string()),
        }
    }
}

/// An image, decoded and made a model's input.
pub fn image(bytes: &[u8]) {
    let path = in_file("image", bytes);
    if let Ok(image) = dataset::decode(&path)
        && let Some(preprocess) = Preprocess::preset("imagenet-torchvision")
    {
        let _ = preprocess.apply(&image);
    }
}

/// A file with these bytes in a folder of this thread, which also holds one image for labels to name.
fn in_file(name: &str, bytes: &[u8]) -> PathBuf {
    thread_local! {
        static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
    }
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            std::fs::write(folder.path().join("a.png"), b"").expect("it can be written to");
            folder
        });
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a temporary file can be written");
        path
    })
}
