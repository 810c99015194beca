use std::cell::{Cell, RefCell};

use super::*;
use crate::engine::builtin::Builtin;
use crate::progress::Silent;

/// A small model held against itself.
struct Bed {
    model: Model,
    file: PathBuf,
    image: Array3<f32>,
}

impl Bed {
    fn new() -> Bed {
        let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tiny/tiny.onnx"));
        let model = Model::load(&file).unwrap();
        let session = Builtin.load(&model, &LoadOptions::default()).unwrap();
        let shape = session.inputs()[0].shape.clone();
        Bed { image: Array3::from_elem((shape[1], shape[2], shape[3]), 0.5), model, file }
    }

    /// Measures in `streams`, `threads` and `batch`, each setting for a moment; `save` sees what there is after
    /// each.
    fn measure(
        &self,
        (streams, threads, batch): (&[usize], &[usize], &[Count]),
        latency_limit_ms: Option<f64>,
        start: Performance,
        save: &mut dyn FnMut(&Performance) -> Result<(), StageError>,
    ) -> Result<Performance, StageError> {
        let subjects = Subjects {
            parent: &self.model,
            optimized: &self.model,
            parent_file: &self.file,
            image: &self.image,
            second_engine: None,
        };
        let matrix = Matrix {
            engines: &[EngineName::Builtin],
            libraries: &Libraries::default(),
            streams,
            threads,
            batch,
            seconds: 0.01,
            memory_bytes: u64::MAX,
            latency_limit_ms,
            layers: false,
        };
        measure(&subjects, &matrix, start, save, &Silent)
    }
}

fn settings(found: &Performance) -> Vec<(usize, usize, usize)> {
    found.speedup.iter().map(|s| (s.streams, s.threads, s.batch)).collect()
}

const AUTO: Count = Count::Word(Auto::Auto);

#[test]
fn a_sweep_that_was_interrupted_goes_on_with_what_is_missing() {
    let bed = Bed::new();
    let sweep: (&[usize], &[usize], &[Count]) = (&[1, 2], &[1, 2], &[Count::Number(1)]);
    let stored = RefCell::new(String::new());
    let mut stop_after_two = |found: &Performance| -> Result<(), StageError> {
        *stored.borrow_mut() = serde_json::to_string(found)?;
        if found.speedup.len() == 2 { Err("the power is gone".into()) } else { Ok(()) }
    };
    bed.measure(sweep, None, Performance::default(), &mut stop_after_two).unwrap_err();
    let half: Performance = serde_json::from_str(&stored.borrow()).unwrap();
    assert_eq!((settings(&half), half.complete), (vec![(1, 1, 1), (2, 1, 1)], false));
    assert!(half.record(EngineName::Builtin).unwrap().version.is_some(), "what it was measured on is known");

    let saved = Cell::new(0);
    let mut count = |_: &Performance| -> Result<(), StageError> {
        saved.set(saved.get() + 1);
        Ok(())
    };
    let whole = bed.measure(sweep, None, half.clone(), &mut count).unwrap();
    assert_eq!(saved.get(), 2, "two settings were missing");
    assert_eq!(settings(&whole), [(1, 1, 1), (2, 1, 1), (1, 2, 1), (2, 2, 1)]);
    assert_eq!((&whole.rows[..4], &whole.speedup[..2]), (&half.rows[..], &half.speedup[..]), "not touched");
    assert!(whole.complete && whole.engines.len() == 1, "{:?}", whole.engines);
    bed.measure(sweep, None, whole.clone(), &mut count).unwrap();
    assert_eq!(saved.get(), 2, "nothing was missing");
}

#[test]
fn batch_auto_doubles_for_as_long_as_that_is_worth_it() {
    let bed = Bed::new();
    let sweep: (&[usize], &[usize], &[Count]) = (&[1, 2], &[1], &[AUTO]);
    let found = bed.measure(sweep, None, Performance::default(), &mut |_| Ok(())).unwrap();
    let tried: Vec<&PerformanceRow> =
        found.rows.iter().filter(|row| row.model == ModelRole::Optimized && row.streams == 2).collect();
    assert!(tried.len() >= 2, "what 2 brings is only known afterwards: {tried:?}");
    for (at, row) in tried.iter().enumerate() {
        assert_eq!(row.batch, 1 << at, "with as many streams as were asked for at most: {tried:?}");
        let before = if at == 0 { 0.0 } else { tried[at - 1].fps.median };
        let last = at + 1 == tried.len();
        let worth = worth_doubling(row, before, None);
        assert!(worth != last || row.batch == LARGEST_AUTO, "{tried:?}");
    }
    let single = found.speedup.iter().filter(|s| s.streams == 1).map(|s| s.batch);
    assert_eq!(single.collect::<Vec<_>>(), [1], "fewer streams have no more throughput to find");
    let mut nothing = |_: &Performance| -> Result<(), StageError> { panic!("all was measured") };
    bed.measure(sweep, None, found, &mut nothing).unwrap();
}

#[test]
fn batch_auto_stops_at_the_latency_limit() {
    let bed = Bed::new();
    let sweep: (&[usize], &[usize], &[Count]) = (&[1], &[1], &[AUTO]);
    let found = bed.measure(sweep, Some(1e-6), Performance::default(), &mut |_| Ok(())).unwrap();
    assert_eq!(settings(&found), [(1, 1, 1)]);
    assert!(found.best.iter().all(|best| !best.within_limit));
}

#[test]
fn twice_the_batch_is_tried_where_throughput_grew_within_the_limit() {
    let bed = Bed::new();
    let found = bed.measure((&[1], &[1], &[Count::Number(1)]), None, Performance::default(), &mut |_| Ok(()));
    let mut row = found.unwrap().rows.remove(1);
    (row.fps.median, row.latency_ms.p99) = (100.0, 5.0);
    assert!(worth_doubling(&row, 98.0, None) && worth_doubling(&row, 98.0, Some(5.0)));
    assert!(!worth_doubling(&row, 99.0, None), "one percent is not worth it");
    assert!(!worth_doubling(&row, 0.0, Some(4.9)));
}

#[test]
fn results_of_another_library_are_not_kept() {
    let record = |version: &str| EngineRecord {
        engine: EngineName::Openvino,
        version: Some(version.into()),
        library: Some("/lib/libopenvino_c.so".into()),
        error: None,
    };
    let earlier = Performance {
        schema: SCHEMA.into(),
        host: Some(Host::probe()),
        engines: vec![record("2025.1")],
        complete: true,
        ..Performance::default()
    };
    let fresh = Performance { host: earlier.host.clone(), ..Performance::default() };
    let complete =
        |version: &str| kept(Some(earlier.clone()), fresh.clone(), &|_| Some(record(version))).complete;
    assert!(complete("2025.1"));
    assert!(!complete("2026.4"));
}
