//! The memory that a run may take: what does not fit is refused before it starts, what fits stays within it.

use std::fs;

use super::support::Workspace;

#[test]
fn a_model_that_is_too_large_is_refused_with_figures() {
    let workspace = Workspace::tiny();
    // 64 MiB are the program itself.
    let limit = ["--set", "memory_limit=65 MiB", "--set", "performance.streams=[1]"];
    let model = workspace.path("large.onnx");
    let mut bytes = fs::read(super::support::fixture("tiny/tiny.onnx")).unwrap();
    // Bytes behind the fields that are known: a model file may have fields of others.
    bytes.extend([0xa2, 0xa0, 0x1f]);
    let padding = 200_000usize;
    bytes.extend([(padding & 0x7f | 0x80) as u8, (padding >> 7 & 0x7f | 0x80) as u8, (padding >> 14) as u8]);
    bytes.extend(vec![0u8; padding]);
    fs::write(&model, bytes).unwrap();
    for more in [&[][..], &["--dry-run"]] {
        let done =
            workspace.run(&[&limit[..], &["--force", "--set", "model.path=large.onnx"], more].concat());
        assert_eq!(done.code, Some(1), "{done}");
        let error = workspace.normalized(done.error());
        assert!(
            error.contains("[folder]/large.onnx: the model holds 0 MB; a run keeps up to 8 copies"),
            "{error}"
        );
        assert!(error.contains("but memory_limit is 68 MB; take a machine with more memory"), "{error}");
    }
}

#[test]
fn a_run_that_does_not_fit_is_refused_before_it_starts() {
    let workspace = Workspace::tiny();
    let done = workspace.run(&["--set", "memory_limit=100 MB"]);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(
        done.error().contains("calibration takes about ") && done.error().contains("memory_limit is 100 MB"),
        "{done}"
    );
    let done = workspace.run(&[
        "--force",
        "--set",
        "memory_limit=400 MB",
        "--set",
        "performance={streams: [1024], batch: [1024]}",
    ]);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("measuring with 1024 streams and batch 1024 takes about "), "{done}");
}

#[test]
fn fewer_threads_are_used_where_more_would_not_fit() {
    let workspace = Workspace::tiny();
    let done = workspace.run(&["--set", "threads=1024", "--set", "memory_limit=400 MB"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(
        done.stderr
            .contains("of 1024 threads are used, as more would take too much memory: memory_limit is 400 MB"),
        "{done}"
    );
    let dry = workspace.run(&[
        "--dry-run",
        "--json",
        "--force",
        "--set",
        "threads=1024",
        "--set",
        "memory_limit=400 MB",
    ]);
    let forecast: serde_json::Value = serde_json::from_str(&dry.stdout).unwrap();
    assert_eq!(forecast["memory_limit_bytes"], 400_000_000);
    assert!(forecast["memory_bytes"].as_u64() <= Some(400_000_000), "{forecast}");
    assert!((1..1024).contains(&forecast["threads"].as_u64().unwrap()), "{forecast}");
}

#[test]
fn an_image_that_takes_too_much_is_listed_and_the_run_goes_on() {
    let workspace = Workspace::tiny_with_images();
    // The header of a BMP of 9000 by 9000 pixels of 24 bits.
    let words = [54 + 243_000_000u32, 0, 54, 40, 9000, 9000, 1 | 24 << 16, 0, 0, 0, 0, 0, 0];
    let header = [b"BM".to_vec(), words.iter().flat_map(|word| word.to_le_bytes()).collect()].concat();
    fs::write(workspace.path("images/a_huge.bmp"), header).unwrap();
    let done = workspace.run(&["--set", "memory_limit=400 MB"]);
    assert_eq!(done.code, Some(0), "{done}");
    let list = String::from_utf8(workspace.output("unreadable.csv")).unwrap();
    assert!(list.contains("the image is 9000x9000 pixels and takes "), "{list}");
    assert!(list.contains("`memory_limit` leaves "), "{list}");
    let limits = ["8 GB", "2.5 GiB", "8000000000", "auto"];
    for limit in limits {
        let set = format!("memory_limit={limit}");
        assert_eq!(workspace.run(&["--dry-run", "--force", "--set", &set]).code, Some(0), "{limit}");
    }
}

#[test]
fn a_limit_that_makes_no_sense_is_an_error_of_the_run_file() {
    let workspace = Workspace::tiny();
    for (limit, expected) in [
        ("8", "'memory_limit' is 8 bytes"),
        ("8 gigabytes", "bytes, a number with a unit such as 8 GB or 512 MiB, or auto"),
        ("-1", "bytes, a number with a unit such as 8 GB or 512 MiB, or auto"),
    ] {
        let set = format!("memory_limit={limit}");
        let done = workspace.run(&["--set", &set]);
        assert_eq!(done.code, Some(2), "{limit}: {done}");
        assert!(done.error().contains(expected), "{limit}: {done}");
    }
}
