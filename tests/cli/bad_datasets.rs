//! Datasets that can't be used, and images that can't be read among those that can.

use std::fs;

use super::support::{TRACES, Workspace, fixture, names};

/// Runs on a dataset that can't be used; gives the message.
fn refused(workspace: &Workspace, arguments: &[&str]) -> String {
    let done = workspace.run(arguments);
    assert_eq!(done.code, Some(1), "{done}");
    assert_eq!(names(&workspace.path("out")), TRACES, "{done}");
    workspace.normalized(done.error()) + "\n\n"
}

/// With these lines as labels of the tiny model's images.
fn with_labels(lines: &str) -> Workspace {
    let workspace = Workspace::tiny_with_images();
    fs::write(workspace.path("labels.txt"), lines).unwrap();
    workspace.set_dataset("dataset: {path: images, labels: labels.txt}");
    workspace
}

/// On a folder of images that holds these fixtures.
fn with_files(files: &[&str]) -> Workspace {
    let workspace = Workspace::tiny();
    fs::create_dir(workspace.path("images")).unwrap();
    for file in files {
        let name = file.rsplit('/').next().unwrap();
        fs::copy(fixture(file), workspace.path("images").join(name)).unwrap();
    }
    workspace.set_dataset("dataset: {path: images}");
    workspace
}

const CORRUPT: [&str; 2] = ["odd/corrupt.jpg", "odd/not_an_image.png"];

#[test]
fn every_bad_dataset_has_its_message() {
    let mut messages = refused(&with_files(&[]), &[]);
    messages += &refused(&with_files(&["odd/text.onnx"]), &[]);
    messages += &refused(&with_files(&CORRUPT), &[]);
    for labels in [
        "",
        "tiny_00.png 0\ntiny_98.png 1\ntiny_99.png 2\n",
        "tiny_00.png 0\ntiny_01.png 4\n",
        "tiny_00.png 1\ntiny_01.png 4\n",
        "tiny_00.png 0\ntiny_01.png 1\ntiny_00.png 0\n",
        "tiny_00.png cat\n",
        "tiny_00.png -1\n",
        "tiny_00.png\n",
    ] {
        messages += &refused(&with_labels(labels), &[]);
    }
    let workspace = with_labels("tiny_00.png 3\n");
    fs::write(workspace.path("classes.txt"), "one\ntwo\n").unwrap();
    messages += &refused(&workspace, &["--set", "dataset.classes=classes.txt"]);
    insta::assert_snapshot!(messages);
}

#[test]
fn every_bad_calibration_dataset_has_its_message() {
    let mut messages = String::new();
    for files in [&[][..], &CORRUPT] {
        let workspace = with_files(files);
        workspace.set_dataset(&format!("dataset: {{path: '{}'}}", fixture("tiny/images").display()));
        messages += &refused(&workspace, &["--set", "optimize.dataset.path=images"]);
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn images_that_do_not_fit_the_model_say_which_step_to_change() {
    let workspace = Workspace::tiny();
    let mut messages = refused(&workspace, &["--set", "preprocess.crop=12"]);
    let gray = Workspace::tiny();
    let steps = "preprocess={resize_short: 18, crop: 16, color: y, scale: 1}";
    messages += &refused(&gray, &["--set", steps]);
    insta::assert_snapshot!(messages);
}

#[test]
fn a_dataset_that_is_not_there_is_an_error_of_the_run_file() {
    let workspace = Workspace::tiny();
    workspace.set_dataset("dataset: {path: gone, labels: gone.txt}");
    let done = workspace.run(&[]);
    assert_eq!(done.code, Some(2), "{done}");
    insta::assert_snapshot!(workspace.normalized(done.error()));
    assert_eq!(names(&workspace.root()), ["run.yaml"]);
}

#[test]
fn a_corrupt_image_among_good_ones_is_listed_and_counted_and_the_run_goes_on() {
    let workspace = Workspace::tiny_with_images();
    for file in CORRUPT {
        let name = file.rsplit('/').next().unwrap();
        // One sorts before the good images, one between them.
        let name = if name.ends_with(".jpg") { "a_corrupt.jpg" } else { "tiny_05x.png" };
        fs::copy(fixture(file), workspace.path("images").join(name)).unwrap();
    }
    let done = workspace.run(&["--set", "dataset.max_unreadable=0.2"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stderr.contains("2 of 18 calibration images can't be read"), "{done}");
    assert!(done.stderr.contains("2 of 18 images can't be read and count in no report"), "{done}");
    assert!(done.stderr.contains("a_corrupt.jpg: "), "{done}");
    let summary = workspace.summary();
    assert_eq!(summary["calibration"]["images"], 16);
    let reports = &summary["reports"];
    assert_eq!(reports["predictions"]["images"], 16);
    assert_eq!(reports["predictions"]["unreadable"], 2);
    let unreadable: Vec<_> = reports["unreadable"].as_array().unwrap().iter().map(|u| &u["image"]).collect();
    assert_eq!(unreadable, ["a_corrupt.jpg", "tiny_05x.png"]);
    let csv = String::from_utf8(workspace.output("predictions.csv")).unwrap();
    for name in ["a_corrupt.jpg", "tiny_05x.png"] {
        let row = csv.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row.contains("image"), "the reason stands in the row: {row}");
    }
    let page = String::from_utf8(workspace.output("report.html")).unwrap();
    assert!(page.contains("a_corrupt.jpg") && page.contains("tiny_05x.png"));
}

/// Whether an image can be cropped shows only once it is decoded; it is then as unreadable as one that
/// can't be.
#[test]
fn an_image_smaller_than_the_crop_does_not_stop_the_run() {
    let workspace = Workspace::tiny_with_images();
    fs::copy(fixture("odd/one_pixel.png"), workspace.path("images/a_pixel.png")).unwrap();
    let done = workspace.run(&["--set", "preprocess={crop: 16, scale: 0.0039}"]);
    assert_eq!(done.code, Some(0), "{done}");
    let unreadable = &workspace.summary()["reports"]["unreadable"];
    assert_eq!(unreadable[0]["image"], "a_pixel.png");
    assert!(unreadable[0]["reason"].as_str().unwrap().contains("smaller than the crop"), "{unreadable}");
    assert_eq!(unreadable.as_array().unwrap().len(), 1);
}

/// Without a crop, images keep their sizes; the first fits the model, the others don't.
#[test]
fn images_of_other_sizes_than_the_first_do_not_stop_the_run() {
    let workspace = Workspace::tiny();
    fs::create_dir(workspace.path("images")).unwrap();
    for (name, side) in [("a.png", 16), ("b.png", 20), ("c.png", 16)] {
        let image =
            image::RgbImage::from_fn(side, side, |x, y| image::Rgb([(16 * x) as u8, (16 * y) as u8, 99]));
        image.save(workspace.path("images").join(name)).unwrap();
    }
    workspace.set_dataset("dataset: {path: images}");
    let done = workspace.run(&["--set", "preprocess={scale: 0.0039}", "--set", "dataset.max_unreadable=0.4"]);
    assert_eq!(done.code, Some(0), "{done}");
    let summary = workspace.summary();
    assert_eq!(summary["calibration"]["images"], 2);
    assert_eq!(summary["reports"]["unreadable"][0]["image"], "b.png");
    let reason = summary["reports"]["unreadable"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("[3, 20, 20]") && reason.contains("[3, 16, 16]"), "{reason}");
}

#[test]
fn every_format_of_image_runs() {
    let files = [
        "odd/gray.png",
        "odd/gray16.png",
        "odd/rgba.png",
        "odd/palette.png",
        "odd/cmyk.jpg",
        "odd/exif_rotated.jpg",
        "odd/animated.gif",
        "odd/photo.webp",
        "odd/photo.bmp",
        "odd/one_pixel.png",
    ];
    let summary = with_files(&files).passes(&[]);
    assert_eq!(summary["reports"]["predictions"]["images"], files.len());
    assert_eq!(summary["reports"]["unreadable"].as_array().unwrap().len(), 0);
}

/// A folder with the 16 images of the tiny model and `broken` files that are none.
fn with_broken(broken: usize) -> Workspace {
    let workspace = Workspace::tiny_with_images();
    for number in 0..broken {
        let bytes: &[u8] = if number % 2 == 0 { b"" } else { b"\xff\xd8\xff\xe0 cut short" };
        fs::write(workspace.path(&format!("images/broken_{number:04}.jpg")), bytes).unwrap();
    }
    workspace
}

fn listed(workspace: &Workspace) -> Vec<String> {
    let list = String::from_utf8(workspace.output("unreadable.csv")).unwrap();
    list.lines().map(String::from).collect()
}

#[test]
fn hundreds_of_broken_images_are_listed_and_counted_if_so_many_are_allowed() {
    let workspace = with_broken(400);
    workspace.set_dataset("dataset: {path: images, max_unreadable: 0.97}");
    let done = workspace.run(&["--set", "optimize.subset_size=1000"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stderr.contains("400 of 416 images can't be read and count in no report"), "{done}");
    let summary = workspace.summary();
    assert_eq!(summary["calibration"]["images"], 16);
    assert_eq!(summary["reports"]["predictions"]["unreadable"], 400);
    let rows = listed(&workspace);
    assert_eq!((rows[0].as_str(), rows.len()), ("set,image,reason", 801));
    assert_eq!(rows.iter().filter(|row| row.starts_with("calibration,broken_")).count(), 400);
    assert!(
        rows.iter()
            .any(|row| row.starts_with("dataset,broken_0000.jpg,") && row.contains("the file is empty"))
    );
}

#[test]
fn a_run_stops_once_more_than_the_share_are_unreadable() {
    let workspace = with_broken(400);
    let done = workspace.run(&["--set", "optimize.subset_size=1000"]);
    assert_eq!(done.code, Some(1), "{done}");
    let error = done.error();
    assert!(
        error.contains("statistics: ") && error.contains("42 of 416 images can't be read so far"),
        "{error}"
    );
    assert!(
        error.contains("more than dataset.max_unreadable (0.1) allows; unreadable.csv lists them"),
        "{error}"
    );
    assert_eq!(listed(&workspace).len(), 43);
    assert!(!workspace.path("out/model.int8.onnx").exists());
    // The images to calibrate on are good ones, those of the reports are not.
    workspace.copy_images("good");
    let own = ["--force", "--set", "optimize.dataset={path: good}"];
    let done = workspace.run(&own);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(
        done.error().contains("report: ") && done.error().contains("of 416 images can't be read"),
        "{done}"
    );
    assert!(listed(&workspace)[1].starts_with("dataset,broken_"), "{:?}", listed(&workspace));
    assert!(workspace.path("out/model.int8.onnx").exists(), "what was finished stays");
    // Mended, the list of the earlier run goes.
    fs::remove_dir_all(workspace.path("images")).unwrap();
    workspace.copy_images("images");
    let resumed = workspace.run(&["--resume", "--set", "optimize.dataset={path: good}"]);
    assert_eq!(resumed.code, Some(0), "{resumed}");
    assert!(!workspace.path("out/unreadable.csv").exists());
}

#[test]
fn a_share_that_is_none_is_an_error_of_the_run_file() {
    let workspace = Workspace::tiny();
    let done = workspace.run(&["--set", "dataset.max_unreadable=5"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("'dataset.max_unreadable' is 5"), "{done}");
}
