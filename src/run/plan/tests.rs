#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use super::*;

const VALID: &str = "\
version: 1
name: demo
model:
  path: model.onnx
preprocess: {resize_short: 128, crop: 112, color: rgb, scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}
dataset:
  path: images
  labels: labels.txt
optimize:
  dataset: {path: calib}
  preset: performance
performance:
  streams: [1]
  seconds: 2
gates: {min_speedup: 1.2, min_agreement: 0.9}
";

fn workspace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["images", "calib"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    for name in ["model.onnx", "other.onnx", "labels.txt"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    folder
}

fn parse(folder: &Path, text: &str, set: &[&str]) -> Result<Plan, PlanError> {
    let set: Vec<String> = set.iter().map(|s| s.to_string()).collect();
    Plan::parse(Path::new("run.yaml"), folder, text, &set)
}

/// Replaces `from` in the valid file by `to`.
fn edited(from: &str, to: &str) -> String {
    assert!(VALID.contains(from), "{from:?} is not in the valid file");
    VALID.replacen(from, to, 1)
}

#[test]
fn defaults_are_filled_in_and_paths_made_absolute() {
    let folder = workspace();
    let plan = parse(folder.path(), VALID, &[]).unwrap();
    let base = folder.path().canonicalize().unwrap();
    assert_eq!(plan.model.path, base.join("model.onnx"));
    assert_eq!(plan.output, base.join("out/demo"));
    assert_eq!(plan.optimize.subset_size, 300);
    assert_eq!(plan.optimize.bias_correction, BiasCorrection::Sequential);
    assert_eq!(plan.reports.len(), 3);
    assert_eq!(plan.performance.engines, [EngineName::Builtin]);
    assert!(plan.performance.layers);
    assert_eq!(plan.gates.max_drop, None);
    assert!(plan.warnings().is_empty(), "{:?}", plan.warnings());
}

#[test]
fn a_plan_written_out_is_a_run_file_with_the_same_plan() {
    let folder = workspace();
    let plan = parse(folder.path(), VALID, &["performance.streams=[auto, 1, 3, 3]"]).unwrap();
    let again = Plan::parse(Path::new("run.yaml"), Path::new("/"), &plan.to_yaml().unwrap(), &[]).unwrap();
    assert_eq!(again, plan);
}

#[test]
fn overrides_win_over_the_file() {
    let folder = workspace();
    let set = ["optimize.preset=mixed", "performance.seconds=0.5", "output=elsewhere", "optimize.dataset="];
    let plan = parse(folder.path(), VALID, &set).unwrap();
    assert_eq!(plan.optimize.preset, Preset::Mixed);
    assert_eq!(plan.performance.seconds, 0.5);
    assert!(plan.output.ends_with("elsewhere"));
    assert_eq!(plan.warnings().len(), 2, "no calibration dataset, and short timing");
}

#[test]
fn a_section_whose_keys_are_all_commented_out_has_its_defaults() {
    let folder = workspace();
    let text = edited(
        "optimize:\n  dataset: {path: calib}\n  preset: performance\n",
        "optimize:\n  # preset: performance\n",
    );
    assert_eq!(parse(folder.path(), &text, &[]).unwrap().optimize.preset, Preset::Mixed);
}

#[test]
fn auto_streams_are_the_cores_and_none_stands_twice() {
    let folder = workspace();
    let plan = parse(folder.path(), VALID, &["performance.streams=[auto, auto, 1, 1]"]).unwrap();
    let mut expected = vec![crate::project::host::cores()];
    if !expected.contains(&1) {
        expected.push(1);
    }
    assert_eq!(*plan.performance.streams, expected[..]);
}

#[test]
fn auto_stays_a_word_for_other_machines() {
    let folder = workspace();
    let set = ["performance.streams=[1, auto]", "performance.on=[avx2, {nodes: 'node[1-2]'}, avx2]"];
    let plan = parse(folder.path(), VALID, &set).unwrap();
    let named = Nodes::Named(NamedNodes { nodes: "node[1-2]".into() });
    assert_eq!(plan.performance.on, [Nodes::Constraint("avx2".into()), named]);
    let text = plan.to_yaml().unwrap();
    assert!(text.contains("streams:\n  - 1\n  - auto\n"), "{text}");
    let again = Plan::parse(Path::new("run.yaml"), Path::new("/"), &text, &[]).unwrap();
    assert_eq!(again, plan);
}

#[test]
fn threads_beyond_the_cores_are_warned_of() {
    let folder = workspace();
    let warnings = |threads: usize| {
        let set = [format!("performance.threads=[1, {threads}]")];
        let plan = parse(folder.path(), VALID, &[set[0].as_str()]).unwrap();
        assert_eq!(*plan.performance.threads, *if threads == 1 { vec![1] } else { vec![1, threads] });
        plan.warnings().join(" ")
    };
    let cores = crate::project::host::cores();
    assert!(!warnings(cores).contains("performance.threads"));
    assert!(warnings(cores + 1).contains("performance.streams × performance.threads"));
    assert_eq!(parse(folder.path(), VALID, &[]).unwrap().performance.threads[..], [1], "as a rule, one");
}

/// Every message that an invalid run file can give. Name, the file, `--set` arguments.
fn invalid() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let model = "model:\n  path: model.onnx\n";
    let preprocess = "{resize_short: 128, crop: 112,";
    vec![
        ("empty", String::new(), vec![]),
        ("only_comments", "# a run\n\n# to come\n".into(), vec![]),
        ("not_a_mapping", "- version: 1\n".into(), vec![]),
        ("only_text", "hello\n".into(), vec![]),
        ("two_documents", format!("{VALID}---\nversion: 1\n"), vec![]),
        ("tab_indentation", edited("  path: model.onnx", "\tpath: model.onnx"), vec![]),
        ("unclosed_bracket", edited("streams: [1]", "streams: [1"), vec![]),
        ("bad_indentation", edited("  preset: performance", "   preset: performance"), vec![]),
        ("unclosed_quote", edited("name: demo", "name: \"demo"), vec![]),
        ("unknown_anchor", edited("name: demo", "name: *demo"), vec![]),
        ("tag", edited("name: demo", "name: !env NAME"), vec![]),
        ("duplicate_key", edited("gates:", "name: again\ngates:"), vec![]),
        ("duplicate_nested_key", edited("  seconds: 2", "  seconds: 2\n  seconds: 3"), vec![]),
        ("unknown_key_top", edited("optimize:", "optimise:"), vec![]),
        ("unknown_key_nested", edited("  preset:", "  presett:"), vec![]),
        ("unknown_key_flow", edited("crop: 112", "crp: 112"), vec![]),
        ("unknown_key_no_hint", edited("gates: {", "gates: {beauty: 1, "), vec![]),
        ("missing_version", edited("version: 1\n", ""), vec![]),
        ("missing_model", edited(model, ""), vec![]),
        ("missing_model_path", edited(model, "model: {}\n"), vec![]),
        (
            "missing_preprocess",
            VALID.lines().filter(|l| !l.starts_with("preprocess")).map(|l| format!("{l}\n")).collect(),
            vec![],
        ),
        ("missing_calibration_path", edited("dataset: {path: calib}", "dataset: {}"), vec![]),
        ("version_text", edited("version: 1", "version: one"), vec![]),
        ("version_unsupported", edited("version: 1", "version: 2"), vec![]),
        ("type_number_for_text", edited("name: demo", "name: 2024"), vec![]),
        ("type_bool_for_text", edited("name: demo", "name: true"), vec![]),
        ("type_null_for_text", edited("name: demo", "name:"), vec![]),
        ("type_text_for_mapping", edited(model, "model: model.onnx\n"), vec![]),
        ("type_text_for_number", edited("seconds: 2", "seconds: ten"), vec![]),
        ("type_fraction_for_whole", edited("preset: performance", "subset_size: 2.5"), vec![]),
        ("type_negative_for_whole", edited("preset: performance", "subset_size: -3"), vec![]),
        ("type_text_for_bool", edited("seconds: 2", "layers: maybe"), vec![]),
        ("type_scalar_for_list", edited("streams: [1]", "streams: 1"), vec![]),
        ("type_mapping_for_text", edited("name: demo", "name: {a: b}"), vec![]),
        ("type_list_for_preprocess", edited("preprocess: {", "preprocess: [1]\nx: {"), vec![]),
        ("word_preset", edited("preset: performance", "preset: fast"), vec![]),
        ("word_preset_slip", edited("preset: performance", "preset: Performance"), vec![]),
        ("word_precision", edited("preset: performance", "precision: fp16"), vec![]),
        ("word_report", edited("gates:", "reports: [prediction]\ngates:"), vec![]),
        ("word_color", edited("color: rgb", "color: RGBA"), vec![]),
        ("word_streams", edited("streams: [1]", "streams: [1, all]"), vec![]),
        ("streams_zero", edited("streams: [1]", "streams: [1, 0]"), vec![]),
        ("streams_negative", edited("streams: [1]", "streams: [-1]"), vec![]),
        ("inference_threads_zero", edited("streams: [1]", "threads: [0]"), vec![]),
        ("inference_threads_empty", edited("streams: [1]", "threads: []"), vec![]),
        ("streams_empty", edited("streams: [1]", "streams: []"), vec![]),
        ("batch_zero", edited("streams: [1]", "batch: [1, 0]"), vec![]),
        ("threads_too_many", edited("gates:", "threads: 5000\ngates:"), vec![]),
        ("seconds_zero", edited("seconds: 2", "seconds: 0"), vec![]),
        ("seconds_nan", edited("seconds: 2", "seconds: .nan"), vec![]),
        ("subset_size_zero", edited("preset: performance", "subset_size: 0"), vec![]),
        ("max_drop_negative", edited("preset: performance", "max_drop: -1"), vec![]),
        ("agreement_in_percent", edited("min_agreement: 0.9", "min_agreement: 95"), vec![]),
        ("agreement_negative", edited("min_agreement: 0.9", "min_agreement: -0.1"), vec![]),
        ("speedup_negative", edited("min_speedup: 1.2", "min_speedup: -2"), vec![]),
        ("gate_without_report", edited("gates:", "reports: [tensor_distance]\ngates:"), vec![]),
        (
            "drop_gate_without_report",
            edited("gates: {", "reports: [predictions]\ngates: {max_drop: 1.0, "),
            vec![],
        ),
        ("name_with_slash", edited("name: demo", "name: a/b"), vec![]),
        ("name_empty", edited("name: demo", "name: ''"), vec![]),
        ("engine_unknown", edited("streams: [1]", "engines: [builtin, tensorrt]"), vec![]),
        (
            "library_missing",
            edited("streams: [1]", "libraries: {openvino: nowhere/libopenvino_c.so}"),
            vec![],
        ),
        ("latency_limit", edited("streams: [1]", "latency_limit_ms: 0"), vec![]),
        ("time_budget_without_search", edited("preset: performance", "time_budget_seconds: 60"), vec![]),
        (
            "time_budget_too_short",
            edited("preset: performance", "method: accuracy_aware\n  time_budget_seconds: 0.5"),
            vec![],
        ),
        ("engines_empty", edited("streams: [1]", "engines: []"), vec![]),
        ("preprocess_preset", edited("preprocess: {", "preprocess: imagenet-torchvison\n# {"), vec![]),
        ("resize_three_numbers", edited(preprocess, "{resize: [128, 128, 3], crop: 112,"), vec![]),
        ("resize_one_number", edited(preprocess, "{resize: 128, crop: 112,"), vec![]),
        (
            "resize_and_resize_short",
            edited(preprocess, "{resize: [128, 128], resize_short: 128, crop: 112,"),
            vec![],
        ),
        ("resize_zero", edited(preprocess, "{resize_short: 0,"), vec![]),
        ("crop_too_large", edited("crop: 112", "crop: 224"), vec![]),
        ("scale_as_division", edited("scale: 0.00392156862745098", "scale: 1/255"), vec![]),
        ("scale_zero", edited("scale: 0.00392156862745098", "scale: 0"), vec![]),
        ("mean_two_values", edited("mean: [0.485, 0.456, 0.406]", "mean: [0.485, 0.456]"), vec![]),
        ("mean_for_luma", edited("color: rgb", "color: y"), vec![]),
        ("std_zero", edited("std: [0.229, 0.224, 0.225]", "std: [0.229, 0, 0.225]"), vec![]),
        ("model_missing", edited("path: model.onnx", "path: modle.onnx"), vec![]),
        ("model_missing_elsewhere", edited("path: model.onnx", "path: nowhere/model.onnx"), vec![]),
        ("model_is_folder", edited("path: model.onnx", "path: images"), vec![]),
        ("home_folder", edited("path: images", "path: ~/images"), vec![]),
        ("labels_missing", edited("labels: labels.txt", "labels: label.txt"), vec![]),
        ("labels_is_folder", edited("labels: labels.txt", "labels: images"), vec![]),
        (
            "two_missing_files",
            edited("path: images\n  labels: labels.txt", "path: image\n  labels: label.txt"),
            vec![],
        ),
        ("calibration_missing", edited("{path: calib}", "{path: calibration}"), vec![]),
        ("output_is_file", edited("gates:", "output: labels.txt\ngates:"), vec![]),
        ("on_is_no_list", edited("seconds: 2", "seconds: 2\n  on: avx512"), vec![]),
        ("on_holds_a_number", edited("seconds: 2", "seconds: 2\n  on: [avx2, 512]"), vec![]),
        ("on_holds_nothing", edited("seconds: 2", "seconds: 2\n  on: [avx2, '']"), vec![]),
        ("on_holds_two_words", edited("seconds: 2", "seconds: 2\n  on:\n    - {nodes: node1 node2}"), vec![]),
        ("on_unknown_key", edited("seconds: 2", "seconds: 2\n  on: [{node: node1}]"), vec![]),
        ("set_without_equals", VALID.into(), vec!["optimize.preset"]),
        ("set_without_key", VALID.into(), vec!["=3"]),
        ("set_not_yaml", VALID.into(), vec!["performance.streams=[1"]),
        ("set_below_a_value", VALID.into(), vec!["name.first=x"]),
        ("set_unknown_key", VALID.into(), vec!["optimize.presets=mixed"]),
        ("set_wrong_type", VALID.into(), vec!["performance.seconds=long"]),
        ("set_wrong_word", VALID.into(), vec!["optimize.preset=fast"]),
        ("set_out_of_range", VALID.into(), vec!["performance.streams=[0]"]),
        ("set_missing_file", VALID.into(), vec!["model.path=gone.onnx"]),
    ]
}

#[test]
fn every_invalid_run_file_has_its_message() {
    let mut messages = String::new();
    for (name, text, set) in invalid() {
        let folder = workspace();
        let error = match parse(folder.path(), &text, &set) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{name}: the file was accepted:\n{text}"),
        };
        let base = folder.path().canonicalize().unwrap().display().to_string();
        messages.push_str(&format!("## {name}\n{}\n\n", error.replace(&base, "/data")));
    }
    insta::assert_snapshot!(messages);
}

/// The files they name are the user's, so only their shape is checked.
#[test]
fn the_run_files_to_copy_have_the_right_shape() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let node = parse_tree(&path, &read(&path).unwrap()).unwrap();
            let shape: Result<RunFile, _> = de::from_node(&node);
            assert!(shape.is_ok(), "{}: {shape:?}", path.display());
            count += 1;
        }
    }
    assert!(count >= 4, "only {count} run files in config/");
}

#[test]
fn what_is_no_text_file_is_named() {
    let folder = workspace();
    let message = |path: &Path| Plan::load(path, &[]).unwrap_err().to_string();
    assert!(message(&folder.path().join("none.yaml")).contains("cannot read the run file: No such file"));
    assert!(message(folder.path()).contains("is a folder"));
    let binary = folder.path().join("binary.onnx");
    fs::write(&binary, [0x08, 0xff, 0xfe]).unwrap();
    assert!(message(&binary).contains("byte 1 is not UTF-8"), "{}", message(&binary));
    fs::write(&binary, vec![b'a'; (MAX_FILE_BYTES + 1) as usize]).unwrap();
    assert!(message(&binary).contains("too many for a run file"));
}
