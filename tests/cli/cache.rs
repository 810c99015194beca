//! Statistics that one run leaves for the next.

use std::fs;
use std::path::PathBuf;

use super::support::{Done, Workspace, names};

/// Runs into `out`, with the cache in a folder of the workspace.
fn run(workspace: &Workspace, arguments: &[&str]) -> Done {
    let arguments = [&["run", "run.yaml", "--force"], arguments].concat();
    let output = workspace.command(&arguments).env("CALIB8_CACHE", workspace.path("cache")).output().unwrap();
    let done = Done::of(&output);
    assert_eq!(done.code, Some(0), "{done}");
    done
}

fn model(workspace: &Workspace) -> Vec<u8> {
    fs::read(workspace.path("out/model.int8.onnx")).unwrap()
}

fn from_cache(workspace: &Workspace) -> bool {
    workspace.summary()["calibration"]["from_cache"].as_bool().unwrap()
}

fn cached(workspace: &Workspace) -> Vec<PathBuf> {
    let folder = workspace.path("cache/statistics");
    names(&folder).iter().map(|name| folder.join(name)).collect()
}

#[test]
fn a_run_with_other_options_starts_from_the_statistics_of_the_first() {
    let workspace = Workspace::tiny();
    run(&workspace, &["--no-cache"]);
    assert_eq!((from_cache(&workspace), cached(&workspace).len()), (false, 0));
    let without = model(&workspace);
    run(&workspace, &["--set", "optimize.range=entropy"]);
    assert_eq!((from_cache(&workspace), cached(&workspace).len()), (false, 1));
    run(&workspace, &[]);
    assert!(from_cache(&workspace));
    assert!(model(&workspace) == without, "the bytes do not depend on the cache");
}

#[test]
fn damaged_statistics_are_computed_anew_and_said() {
    let workspace = Workspace::tiny();
    run(&workspace, &[]);
    let [file] = &cached(&workspace)[..] else { panic!("{:?}", cached(&workspace)) };
    let whole = fs::read(file).unwrap();
    fs::write(file, &whole[..whole.len() / 3]).unwrap();
    let done = run(&workspace, &[]);
    assert!(!from_cache(&workspace));
    assert!(done.stderr.contains("the cached statistics are not used, it is cut short"), "{done}");
    assert_eq!(fs::read(file).unwrap(), whole);
}
