//! `calib8 export`: the package, and its programs where their runtimes are installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use calib8::engine::{EngineName, Libraries};
use sha2::{Digest, Sha256};

use super::support::{Workspace, fixture};

fn exported() -> Workspace {
    exported_after(&[])
}

fn exported_after(arguments: &[&str]) -> Workspace {
    let workspace = Workspace::tiny();
    workspace.passes(arguments);
    let done = workspace.calib8(&["export", "out", "package"]);
    assert_eq!(done.code, Some(0), "{done}");
    workspace
}

/// The optimized model's class of each image, from `predictions.csv`.
fn predicted(workspace: &Workspace) -> BTreeMap<String, usize> {
    let json: serde_json::Value = serde_json::from_slice(&workspace.output("predictions.json")).unwrap();
    let row = |row: &serde_json::Value| {
        (row["image"].as_str().unwrap().to_string(), row["class_optimized"].as_u64().unwrap() as usize)
    };
    json.as_array().unwrap().iter().map(row).collect()
}

/// Runs a program on some images; each must give the class that the report has.
fn gives_the_predictions(workspace: &Workspace, command: &dyn Fn(&Path) -> Command) {
    for (image, class) in predicted(workspace).iter().take(4) {
        let output = command(&fixture("tiny/images").join(image)).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let first: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(first[0].parse::<usize>().unwrap(), *class, "{image}\n{text}");
        assert!(first.len() >= 3, "the class has a name: {text}");
    }
}

/// A Python that can import `modules`: `$CALIB8_TEST_PYTHON`, or that of the environment. Says why there is none.
fn python(modules: &str) -> Option<PathBuf> {
    let named = std::env::var_os("CALIB8_TEST_PYTHON").map(PathBuf::from);
    let environment = std::env::var_os("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("bin/python3"));
    let python = named.or(environment).unwrap_or_else(|| "python3".into());
    let tried = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    match tried {
        Ok(output) if output.status.success() => Some(python),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            println!("skipped: {}: {}", python.display(), said.lines().last().unwrap_or_default());
            None
        }
        Err(error) => {
            println!("skipped: {}: {error}", python.display());
            None
        }
    }
}

/// The environment that a Python belongs to, where calib8 finds its engines.
fn package_folder(python: &Path, engine: &str) -> Option<PathBuf> {
    let ask = "import sys; print(sys.prefix)";
    let output = Command::new(python).args(["-c", ask]).output().unwrap();
    let prefix = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    println!("{engine}: of {}", prefix.display());
    (prefix != Path::new("/usr")).then_some(prefix)
}

#[test]
fn a_variant_is_exported_by_its_name() {
    let workspace = Workspace::tiny();
    workspace.passes(&[]);
    // A workspace with one project of two variants, one of which is the run above.
    let project = workspace.path("work/projects/tiny");
    let tiny = fixture("tiny");
    fs::create_dir_all(project.join("runs")).unwrap();
    let definition = format!(
        "version: 1\nname: My project\ncreated: '2026-01-01T00:00:00Z'\nmodel: '{0}/tiny.onnx'\n\
         preprocess: imagenet-torchvision\ndataset: {{path: '{0}/images'}}\n",
        tiny.display()
    );
    fs::write(project.join("project.yaml"), definition).unwrap();
    for (id, name) in [("first", "First try"), ("second", "Second try")] {
        let folder = project.join("runs").join(id);
        match id {
            "first" => fs::rename(workspace.path("out"), &folder).unwrap(),
            _ => fs::create_dir(&folder).unwrap(),
        }
        let text = format!("version: 1\nname: {name}\ncreated: '2026-01-01T00:00:00Z'\n");
        fs::write(folder.join("variant.yaml"), text).unwrap();
    }
    for name in ["tiny/first", "My project/First try"] {
        let done = workspace.calib8(&["export", name, "package", "--workspace", "work"]);
        assert_eq!(done.code, Some(0), "{name}: {done}");
        assert!(workspace.path("package/package.json").is_file());
    }
    let done = workspace.calib8(&["export", "tiny", "other", "--workspace", "work"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("several variants"), "{done}");
    let done = workspace.calib8(&["export", "tiny/third", "other", "--workspace", "work"]);
    assert!(
        done.error().contains("no variant of the workspace") && done.error().contains("first, second"),
        "{done}"
    );
    let done = workspace.calib8(&["export", "tiny/second", "other", "--workspace", "work"]);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("finished run"), "{done}");
    assert!(!workspace.path("other").exists(), "nothing is written");
}

#[test]
fn the_program_in_rust_depends_on_the_source_that_is_named() {
    let workspace = exported();
    let depends_on = |arguments: &[&str]| {
        let mut command = vec!["export", "out", "package"];
        command.extend(arguments);
        let done = workspace.calib8(&command);
        assert_eq!(done.code, Some(0), "{done}");
        let manifest = fs::read_to_string(workspace.path("package/rust/Cargo.toml")).unwrap();
        let line = manifest.lines().find(|line| line.starts_with("calib8 = ")).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    };
    let source = env!("CARGO_MANIFEST_DIR");
    assert_eq!(depends_on(&["--source", source]), source);
    assert_eq!(depends_on(&[]), "../calib8", "a folder that the user puts there");
    let done = workspace.calib8(&["export", "out", "package", "--source", "out"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("no Cargo.toml"), "{done}");
}

#[test]
fn a_package_lists_its_files_with_their_hashes() {
    let workspace = exported();
    let package = workspace.path("package");
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(package.join("package.json")).unwrap()).unwrap();
    let files = manifest["files"].as_array().unwrap();
    assert_eq!(files.len(), 9);
    for file in files {
        let bytes = fs::read(package.join(file["path"].as_str().unwrap())).unwrap();
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(file["sha256"], hash, "{file}");
        assert_eq!(file["bytes"], bytes.len());
    }
    assert_eq!(fs::read(package.join("model.onnx")).unwrap(), workspace.output("model.int8.onnx"));
    assert_eq!(manifest["best"][0]["engine"], "builtin");
    assert_eq!(manifest["schema"], "calib8/package/1");
    let again = workspace.calib8(&["export", "out", "package"]);
    assert_eq!(again.code, Some(0), "a package is replaced: {again}");
}

#[test]
fn what_is_no_run_and_what_is_no_place_for_a_package_are_refused() {
    let workspace = exported();
    let done = workspace.calib8(&["export", "package", "elsewhere"]);
    assert_eq!(done.code, Some(1));
    assert!(done.error().contains("summary.json") && done.error().contains("finished run"), "{done}");
    fs::create_dir(workspace.path("full")).unwrap();
    fs::write(workspace.path("full/thesis.tex"), "do not overwrite").unwrap();
    let done = workspace.calib8(&["export", "out", "full"]);
    assert!(done.error().contains("is not empty"), "{done}");
    let model = workspace.path("out/model.int8.onnx");
    fs::copy(fixture("tiny/tiny.onnx"), &model).unwrap();
    let done = workspace.calib8(&["export", "out", "third"]);
    assert!(done.error().contains("it was changed since"), "{done}");
}

#[test]
fn the_library_opens_a_package_and_predicts_as_the_report_does() {
    let workspace = exported();
    let package = calib8::Package::open(workspace.path("package")).unwrap();
    let mut session = package.session().unwrap();
    for (image, class) in predicted(&workspace) {
        let input = package.input(fixture("tiny/images").join(&image)).unwrap();
        let scores: Vec<f32> = session.run(&[input]).unwrap()[0].iter().copied().collect();
        let best = (0..scores.len()).rev().max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
        assert_eq!(best, class, "{image}");
    }
    assert_eq!(package.classes.len(), 4);
    fs::write(workspace.path("package/model.onnx"), "another").unwrap();
    assert!(calib8::Package::open(workspace.path("package")).is_err());
}

#[test]
fn the_program_in_rust_gives_the_predictions() {
    let program = Path::new(env!("CARGO_BIN_EXE_calib8")).with_file_name("examples").join("classify");
    if !program.is_file() {
        println!("skipped: {} was not built; cargo test builds examples", program.display());
        return;
    }
    let workspace = exported();
    gives_the_predictions(&workspace, &|image| {
        let mut command = Command::new(&program);
        command.arg(workspace.path("package")).arg(image);
        command
    });
}

#[test]
fn the_programs_in_python_give_the_predictions() {
    for engine in ["onnxruntime", "openvino"] {
        let Some(python) = python(&format!("{engine}, numpy, PIL")) else { continue };
        // The report of the very engine: without VNNI, INT8 differs between engines.
        let name: EngineName = engine.parse().unwrap();
        let library = package_folder(&python, engine);
        let libraries = Libraries { onnxruntime: library.clone(), openvino: library.clone() };
        if let Err(error) = name.open(&libraries) {
            println!("skipped: {error}");
            continue;
        }
        let mut set = vec![format!("reports_engine={engine}")];
        set.extend(library.map(|path| format!("performance.libraries.{engine}={}", path.display())));
        let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set.as_str()]).collect();
        let workspace = exported_after(&set);
        gives_the_predictions(&workspace, &|image| {
            let mut command = Command::new(&python);
            command.arg(workspace.path(&format!("package/classify_{engine}.py"))).arg(image);
            command
        });
    }
}

#[test]
fn history_shows_measurements_of_other_hosts_side_by_side() {
    let workspace = Workspace::tiny();
    workspace.passes(&[]);
    let mut other: serde_json::Value = serde_json::from_slice(&workspace.output("performance.json")).unwrap();
    other["host"]["hostname"] = "zeta".into();
    other["host"]["cpu"] = "Another CPU".into();
    fs::write(workspace.path("zeta.json"), other.to_string()).unwrap();
    let done = workspace.calib8(&["history", "out", "zeta.json"]);
    assert_eq!(done.code, Some(0), "{done}");
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{done}");
    assert!(done.stdout.contains("zeta") && done.stdout.contains("Another CPU"), "{done}");
    assert!(!done.stdout.contains("KIND OF NODE"), "{done}");
    let json = workspace.calib8(&["history", ".", "zeta.json", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(found["measurements"].as_array().unwrap().len(), 2);
    let done = workspace.calib8(&["history", "."]);
    assert_eq!(done.code, Some(0), "folders are searched: {done}");
    fs::write(workspace.path("zeta.json"), "{").unwrap();
    assert!(workspace.calib8(&["history", "zeta.json"]).error().contains("no performance.json"));
}
