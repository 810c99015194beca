#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn definition() -> Definition {
    Definition {
        model: "/models/m.onnx".into(),
        preprocess: serde_yaml::from_str("{crop: 8, mean: [0.5]}").unwrap(),
        dataset: DatasetDefinition { path: "/images".into(), labels: Some("/val.txt".into()), classes: None },
    }
}

fn setup() -> (tempfile::TempDir, Workspace) {
    let folder = tempfile::tempdir().unwrap();
    let workspace = Workspace::open(&folder.path().join("w")).unwrap();
    (folder, workspace)
}

fn make(workspace: &Workspace, name: &str) -> Project {
    workspace.create(&NewProject { name: name.into(), definition: definition() }).unwrap()
}

fn readable(workspace: &Workspace) -> Vec<Project> {
    workspace.projects().unwrap().into_iter().map(|entry| entry.unwrap()).collect()
}

#[test]
fn a_workspace_that_does_not_exist_is_empty_and_stays_away() {
    let (_folder, workspace) = setup();
    assert_eq!(workspace.projects().unwrap(), []);
    assert!(!workspace.root().exists());
}

#[test]
fn what_was_made_is_listed_as_it_was_made() {
    let (_folder, workspace) = setup();
    let first = make(&workspace, "MobileNet v2");
    let second = make(&workspace, "MobileNet v2");
    assert_eq!((first.id.as_str(), second.id.as_str()), ("mobilenet-v2", "mobilenet-v2-2"));
    assert_eq!(readable(&workspace), [first.clone(), second]);
    assert_eq!(workspace.project("mobilenet-v2").unwrap(), first);
    let message = workspace.project("MobileNet v2").unwrap_err().to_string();
    assert!(message.contains("several projects are called \"MobileNet v2\"; use an id"), "{message}");
    let message = workspace.project("x").unwrap_err().to_string();
    assert!(message.contains("no project \"x\"; there are: mobilenet-v2, mobilenet-v2-2"), "{message}");
}

#[test]
fn a_new_name_changes_neither_id_nor_folder() {
    let (_folder, workspace) = setup();
    let project = make(&workspace, "one");
    let variant = workspace.new_variant(&project, "INT8 mixed").unwrap();
    workspace.rename(&project, "two").unwrap();
    workspace.rename_variant(&variant, "the best").unwrap();
    let again = &readable(&workspace)[0];
    assert_eq!((again.id.as_str(), again.name.as_str()), ("one", "two"));
    assert_eq!(again.definition, definition());
    assert_eq!((again.variants[0].id.as_str(), again.variants[0].name.as_str()), ("int8-mixed", "the best"));
    assert_eq!(again.variants[0].created, variant.created);
    assert!(workspace.rename(&project, "a/b").is_err());
}

#[test]
fn the_speed_of_the_model_stays_with_the_project() {
    let (_folder, workspace) = setup();
    let project = make(&workspace, "one");
    assert_eq!(project.baseline, None);
    let fps = Interval { median: 100.5, low: 99.25, high: 101.0 };
    let baseline = Baseline { fps, cpu: "Some CPU".into(), measured: "2026-01-01T00:00:00.000Z".into() };
    workspace.set_baseline(&project, &baseline).unwrap();
    workspace.rename(&project, "two").unwrap();
    let again = workspace.project("one").unwrap();
    assert_eq!((again.name.as_str(), again.baseline), ("two", Some(baseline)));
}

#[test]
fn deleting_moves_to_the_trash_and_removes_nothing() {
    let (_folder, workspace) = setup();
    let project = make(&workspace, "one");
    let variant = workspace.new_variant(&project, "v").unwrap();
    fs::write(variant.path.join("model.int8.onnx"), "int8").unwrap();
    let place = workspace.trash_variant(&project, &variant).unwrap();
    assert_eq!(place, workspace.root().join("trash/one-v"));
    assert_eq!(fs::read_to_string(place.join("model.int8.onnx")).unwrap(), "int8");
    assert_eq!(readable(&workspace)[0].variants, []);
    assert_eq!(workspace.trash(&project).unwrap(), workspace.root().join("trash/one"));
    assert_eq!(workspace.projects().unwrap(), []);
    let again = make(&workspace, "one");
    assert_eq!(again.id, "one");
    assert_eq!(workspace.trash(&again).unwrap(), workspace.root().join("trash/one-2"));
}

#[test]
fn what_a_run_works_in_is_not_moved_away() {
    let (_folder, workspace) = setup();
    let project = make(&workspace, "one");
    let variant = workspace.new_variant(&project, "v").unwrap();
    let project = workspace.project(&project.id).unwrap();
    let lock = RunLock::take(&variant.path).unwrap();
    assert!(
        workspace.trash_variant(&project, &variant).unwrap_err().to_string().contains("in use by process")
    );
    assert!(workspace.trash(&project).unwrap_err().to_string().contains("in use by process"));
    assert!(variant.path.exists());
    drop(lock);
    workspace.trash(&project).unwrap();
}

#[test]
fn a_project_that_cannot_be_read_is_listed_with_its_reason() {
    let (_folder, workspace) = setup();
    let good = make(&workspace, "good");
    let bad = make(&workspace, "bad");
    fs::write(bad.path.join("project.yaml"), "version: 1\nname: [").unwrap();
    let later = make(&workspace, "later");
    let text = fs::read_to_string(later.path.join("project.yaml")).unwrap();
    fs::write(later.path.join("project.yaml"), text.replace("version: 1", "version: 9")).unwrap();
    fs::create_dir(workspace.root().join("projects/claimed")).unwrap();
    let listed = workspace.projects().unwrap();
    assert_eq!(listed[0], Ok(good));
    let reasons: Vec<&str> = listed[1..].iter().map(|e| e.as_ref().unwrap_err().reason.as_str()).collect();
    assert!(reasons[0].contains("bad/project.yaml: is not as calib8 writes it"), "{reasons:?}");
    assert!(reasons[1].contains("is of version 9, expected 1; a newer calib8"), "{reasons:?}");
    assert_eq!(reasons.len(), 2);
}

#[test]
fn a_variant_without_its_name_file_is_called_by_its_folder() {
    let (_folder, workspace) = setup();
    let project = make(&workspace, "one");
    fs::create_dir_all(project.path.join("runs/lost")).unwrap();
    fs::write(project.path.join("runs/lost/run.yaml"), "x").unwrap();
    assert_eq!(readable(&workspace)[0].variants[0].name, "lost");
}

#[test]
fn a_workspace_that_is_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("w"), "x").unwrap();
    let message = Workspace::open(&folder.path().join("w")).unwrap_err().to_string();
    assert!(message.contains("is a file, expected a folder for the workspace"), "{message}");
}
