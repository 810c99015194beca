//! The forms that a dataset can have, and names that are unkind to terminals, tables and pages.

use std::fs;
use std::process::Stdio;

use super::support::{Done, Workspace, fixture, names};

fn labels() -> Vec<(String, usize)> {
    let text = fs::read_to_string(fixture("tiny/labels.txt")).unwrap();
    let pair = |line: &str| {
        let (name, index) = line.split_once(' ').unwrap();
        (name.to_string(), index.parse().unwrap())
    };
    text.lines().map(pair).collect()
}

/// The same labels as a list, as a list that is the dataset itself, and as folders.
#[test]
fn every_form_of_labels_gives_the_same_accuracy() {
    // Sums over all images do not depend on their order, which the folders change.
    let by_sums = ["--set", "optimize.bias_correction=fast"];
    let expected = Workspace::tiny().passes(&by_sums)["reports"]["annotations"].clone();
    assert_eq!(expected["images"], 16);

    let list = Workspace::tiny_with_images();
    fs::copy(fixture("tiny/labels.txt"), list.path("images/val.txt")).unwrap();
    list.set_dataset("dataset: {path: images/val.txt}");
    assert_eq!(list.passes(&by_sums)["reports"]["annotations"], expected, "a list");

    let folders = Workspace::tiny_with_images();
    for (name, index) in labels() {
        let class = folders.path(&format!("classes/class_{index}"));
        fs::create_dir_all(&class).unwrap();
        fs::rename(folders.path("images").join(&name), class.join(&name)).unwrap();
    }
    folders.set_dataset("dataset: {path: classes}");
    assert_eq!(folders.passes(&by_sums)["reports"]["annotations"], expected, "class folders");
}

#[test]
fn a_list_can_name_the_images_to_calibrate_on() {
    let workspace = Workspace::tiny_with_images();
    fs::write(workspace.path("images/calib.txt"), "tiny_03.png 3\ntiny_07.png 3\n").unwrap();
    let summary = workspace.passes(&["--set", "optimize.dataset.path=images/calib.txt"]);
    assert_eq!(summary["calibration"]["images"], 2);
}

#[test]
fn a_list_as_path_and_as_labels_is_an_error() {
    let workspace = Workspace::tiny_with_images();
    fs::write(workspace.path("images/val.txt"), "tiny_03.png 3\n").unwrap();
    workspace.set_dataset("dataset: {path: images/val.txt, labels: images/val.txt}");
    let done = workspace.run(&[]);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(
        done.error()
            .contains("val.txt: this is a file, expected a folder of images, as `labels` are given too"),
        "{done}"
    );
}

#[test]
fn a_subset_is_calibrated_on_and_all_images_are_reported_on() {
    let summary = Workspace::tiny().passes(&["--set", "optimize.subset_size=5"]);
    assert_eq!(summary["calibration"]["images"], 5);
    assert_eq!(summary["reports"]["predictions"]["images"], 16);
}

#[test]
fn images_in_both_sets_are_found_by_content_and_warned_of() {
    let workspace = Workspace::tiny();
    workspace.copy_images("calib");
    // Only two are shared, under other names; the rest is made to differ by a byte behind the image.
    for (at, name) in names(&workspace.path("calib")).iter().enumerate() {
        let path = workspace.path("calib").join(name);
        let mut bytes = fs::read(&path).unwrap();
        if at >= 2 {
            bytes.push(0);
        }
        fs::remove_file(&path).unwrap();
        fs::write(workspace.path("calib").join(format!("renamed_{at}.png")), bytes).unwrap();
    }
    let done = workspace.run(&["--set", "optimize.dataset.path=calib"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stderr.contains("2 of the 16 evaluated images are also calibrated on"), "{done}");
}

#[test]
fn unkind_names_reach_neither_terminal_nor_page_raw() {
    let workspace = Workspace::tiny_with_images();
    let unkind = ["\u{1b}[31mred\n.png", "<img src=x onerror=alert(1)>.png", "=1+1, \"quoted\" ünï.png"];
    for (at, name) in unkind.iter().enumerate() {
        // One of them can't be read, so that its name is in warnings and lists.
        let from = if at == 1 { "tiny/images/tiny_01.png" } else { "odd/not_an_image.png" };
        fs::copy(fixture(from), workspace.path("images").join(name)).unwrap();
    }
    let done = workspace.run(&["--set", "dataset.max_unreadable=0.2"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(!done.stderr.contains('\u{1b}') && !done.stdout.contains('\u{1b}'), "{done}");
    let page = String::from_utf8(workspace.output("report.html")).unwrap();
    assert!(!page.contains("<img src=x") && !page.contains('\u{1b}'));
    let csv = String::from_utf8(workspace.output("predictions.csv")).unwrap();
    assert!(csv.contains("\"'=1+1, \"\"quoted\"\" ünï.png\""), "{csv}");
    assert_eq!(workspace.summary()["reports"]["predictions"]["images"], 17);
}

/// `calib8 run --json | head -1`: the reader goes, the run goes on.
#[test]
fn a_run_outlives_the_reader_of_its_events() {
    let workspace = Workspace::tiny();
    let mut command = workspace.command(&["run", "run.yaml", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let done = Done::of(&child.wait_with_output().unwrap());
    assert_eq!(done.code, Some(0), "{done}");
    assert_eq!(workspace.summary()["status"], "passed");
}
