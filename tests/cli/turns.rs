//! The queue of a workspace, which goes on without a workbench.

use std::path::Path;

use calib8::project::workspace::{DatasetDefinition, Definition, NewProject, Workspace as Projects};
use calib8::run::directory::{Existing, RunDirectory};
use calib8::run::fold::Phase;
use calib8::run::plan::{OptimizeOptions, Plan, for_project};
use calib8::run::status::{self, Standing};

use super::support::{Workspace, fixture};

const PREPROCESS: &str = "{resize_short: 18, crop: 16, scale: 0.00392156862745098, \
                          mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}";

/// Prepares a run that waits; gives its directory.
fn prepare(root: &Path, name: &str, model: &Path) -> std::path::PathBuf {
    let projects = Projects::open(root).unwrap();
    let definition = Definition {
        model: model.into(),
        preprocess: serde_yaml::from_str(PREPROCESS).unwrap(),
        dataset: DatasetDefinition { path: fixture("tiny/images"), labels: None, classes: None },
    };
    let project = projects.create(&NewProject { name: name.into(), definition }).unwrap();
    let mut options = OptimizeOptions::new(name);
    options.performance.seconds = 0.1;
    options.reports = Vec::new();
    let plan = for_project(&project, &options).unwrap();
    let variant = projects.new_variant(&project, name).unwrap();
    let plan = Plan { output: variant.path.clone(), ..plan };
    drop(RunDirectory::create(&variant.path, &plan, Existing::Refuse).unwrap());
    variant.path
}

#[test]
fn runs_that_wait_have_their_turn_one_after_another_and_one_that_fails_does_not_stop_the_next() {
    let workspace = Workspace::empty();
    let root = workspace.path("projects");
    let tiny = fixture("tiny/tiny.onnx");
    let first = prepare(&root, "first", &tiny);
    let broken = prepare(&root, "broken", &tiny);
    let last = prepare(&root, "last", &tiny);
    // Its plan was fine when it was made. It takes so long to read that the worker is seen at it, not only its end.
    let long = "# \n".repeat(300_000);
    std::fs::write(broken.join("run.yaml"), format!("version: 1\nmodel: {{path: gone.onnx}}\n{long}"))
        .unwrap();
    let done = workspace.calib8(&["take-turns", root.to_str().unwrap()]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let order: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(order, [&first, &broken, &last].map(|path| path.to_str().unwrap()));
    // The last one may still be at work when nobody waits any more.
    super::support::wait_for(&last, "its end", |status| matches!(status.standing, Standing::Finished(_)));
    let (first, broken, last) = (status::of(&first), status::of(&broken), status::of(&last));
    assert!(matches!(first.standing, Standing::Finished(_)), "{first:?}");
    let Phase::Failed { message } = &broken.state.phase else { panic!("{broken:?}") };
    assert!(message.contains("the key 'name' is missing"), "{message}");
    assert!(matches!(last.standing, Standing::Finished(_)), "{last:?}");
}

#[test]
fn a_second_queue_leaves_the_work_to_the_first() {
    let workspace = Workspace::empty();
    let root = workspace.path("projects");
    std::fs::create_dir(&root).unwrap();
    let _held = calib8::project::lock::RunLock::take(&root).unwrap();
    prepare(&root, "waits", &fixture("tiny/tiny.onnx"));
    let done = workspace.calib8(&["take-turns", root.to_str().unwrap()]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), ""));
}
