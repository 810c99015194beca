//! A run as it could have been, for the tests of the page.

use std::collections::BTreeMap;

use super::page::{
    Best, Fact, Gate, Host, LayerRow, Load, ModelFacts, Page, Performance, Speedup, Thumbnail, TradeoffPoint,
};
use crate::report::{Collector, Compare, Head, Kind, Reports};

/// What a [`Page`] borrows.
pub(super) struct Sample {
    pub reports: Reports,
    pub classes: Vec<String>,
    pub thumbnails: BTreeMap<String, Thumbnail>,
    pub warnings: Vec<String>,
    pub files: Vec<String>,
    pub tradeoff: Vec<TradeoffPoint>,
}

fn class_names() -> Vec<String> {
    let names = [
        "<script>alert(1)</script>",
        "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias",
        "Norfolk terrier",
        "Norwich terrier",
        "sunglass",
        "sunglasses, dark glasses, shades",
        "miniature poodle",
        "toy poodle",
        "cowboy boot",
        "jean, blue jean, denim",
    ];
    names.map(String::from).to_vec()
}

/// Logits with `best` first, `second` behind it by `gap`, and the rest far behind.
fn logits(best: usize, second: usize, gap: f32) -> Vec<f32> {
    let mut values: Vec<f32> = (0..10).map(|i| 0.15 * i as f32).collect();
    values[second] = 5.0 - gap;
    values[best] = 5.0;
    values
}

/// Reports on 300 images, of which 14 change, one fails, and two can't be read.
pub(super) fn reports(kinds: &[Kind], head: Head) -> Reports {
    let outputs = vec!["prob".into(), "features/pool".into()];
    let mut collector = Collector::new(Compare::new(kinds, outputs, head, true));
    let pooled: Vec<f32> = (0..32).map(|i| (i as f32 * 0.37).sin()).collect();
    for i in 0..300usize {
        let class = i % 10;
        let twin = class ^ 1;
        let changes = i % 21 == 4;
        let parent = logits(class, twin, if changes { 0.05 + 0.02 * (i % 7) as f32 } else { 2.5 });
        let mut optimized = logits(class, twin, 2.4);
        if changes {
            optimized = logits(twin, class, 0.1 * (1 + i % 9) as f32);
        }
        if i == 150 {
            optimized[3] = f32::NAN;
        }
        let noisy: Vec<f32> =
            pooled.iter().enumerate().map(|(k, v)| v + 0.01 * ((i + k) % 5) as f32).collect();
        let label = if i % 9 == 0 { twin } else { class };
        let image =
            if i == 4 { "dogs/a & b <i>.jpg".to_string() } else { format!("val/ILSVRC2012_{i:05}.JPEG") };
        let pushed =
            collector.push(&image, u32::try_from(label).ok(), &[&parent, &pooled], &[&optimized, &noisy]);
        assert!(pushed.is_ok());
    }
    collector.push_failed(
        "val/broken.JPEG",
        Some(3),
        "not a JPEG file: it begins with 3c 68 74 6d (\"<htm\")",
    );
    collector.push_failed("val/empty.png", Some(3), "the file is empty");
    collector.all().0
}

impl Sample {
    pub(super) fn new(kinds: &[Kind], head: Head) -> Sample {
        let reports = reports(kinds, head);
        Sample {
            reports,
            classes: class_names(),
            thumbnails: BTreeMap::from([(
                "dogs/a & b <i>.jpg".to_string(),
                Thumbnail { mime: "image/jpeg", bytes: vec![0xff, 0xd8, 0xff] },
            )]),
            warnings: vec![
                "12 calibration images are also in the evaluated set: agreement may be flattered".into(),
            ],
            files: vec![
                "model.int8.onnx".into(),
                "summary.json".into(),
                "predictions.csv".into(),
                "100 %.csv".into(),
            ],
            tradeoff: vec![
                TradeoffPoint { fp32_layers: Vec::new(), fps: 331.0, drop: 2.5, kl: 0.031, taken: false },
                TradeoffPoint {
                    fp32_layers: (1..=10).map(|i| format!("conv<{i}>")).collect(),
                    fps: 260.5,
                    drop: 0.75,
                    kl: 0.0093,
                    taken: true,
                },
            ],
        }
    }

    pub(super) fn page(&self) -> Page<'_> {
        Page {
            title: "mobilenet-v2",
            made: "2026-11-23 21:00 UTC",
            parent: model("models/mobilenet <v2>.onnx", "fp32", 13_964_571, None),
            optimized: model("model.int8.onnx", "int8", 3_655_033, Some((53, 52))),
            speedup: vec![
                speedup("builtin", 1, 3.231, 3.19, 3.27),
                speedup("builtin", 2, 3.18, 3.11, 3.25),
                speedup("onnxruntime", 1, 0.958, 0.951, 0.967),
            ],
            performance: vec![
                performance("builtin", false, 1, 102.4),
                performance("builtin", true, 1, 331.04),
                performance("builtin", false, 2, 199.1),
                performance("builtin", true, 2, 634.2),
                performance("onnxruntime", false, 1, 103.5),
                performance("onnxruntime", true, 1, 99.2),
            ],
            unmeasured: facts(&[("openvino", "libopenvino_c was not found")]),
            hosts: vec![host("avx2", 0.0), host("avx512&amx", 0.99)],
            best: vec![best("builtin", false, true), best("builtin", true, false)],
            loads: vec![load("builtin", false), load("builtin", true)],
            gates: vec![
                gate("min_speedup", 1.2, Some(3.231), true),
                gate("min_agreement", 0.96, Some(0.95), false),
                gate("max_drop", 1.0, None, true),
            ],
            layers: (0..54).map(layer).collect(),
            tradeoff: &self.tradeoff,
            reports: &self.reports,
            classes: &self.classes,
            thumbnails: &self.thumbnails,
            max_cards: 12,
            calibration: facts(&[
                ("Preset", "performance: weights and activations symmetric"),
                ("Method", "default, mean of min-max ranges, fast bias correction"),
                ("Images", "200, in 2.3 s (86.3 images/s)"),
                ("Peak memory", "143 MB"),
            ]),
            measured: facts(&[
                ("Host", "AMD EPYC 9B14, 2 cores"),
                ("Instruction sets", "AVX2, AVX-512 VNNI"),
                ("Threads", "pinned, one for each stream"),
                ("Protocol", "parent and optimized interleaved, median of 40 rounds, bootstrap intervals"),
                ("Versions", "calib8 0.1.0, tract 0.23.9"),
            ]),
            warnings: &self.warnings,
            files: &self.files,
        }
    }
}

fn model(path: &str, precision: &str, bytes: u64, quantized_layers: Option<(usize, usize)>) -> ModelFacts {
    let sha256 = "4f1c0a7be29d5588c1f6630f9b7d1e2a90c3b4d5e6f70811223344556677889a".to_string();
    ModelFacts { path: path.into(), precision: precision.into(), bytes, sha256, quantized_layers }
}

fn speedup(engine: &str, streams: usize, ratio: f64, low: f64, high: f64) -> Speedup {
    Speedup { engine: engine.into(), streams, threads: 1, batch: 1, ratio, low, high }
}

fn performance(engine: &str, optimized: bool, streams: usize, fps: f64) -> Performance {
    let ms = 1000.0 / fps * streams as f64;
    Performance {
        engine: engine.into(),
        optimized,
        streams,
        threads: 1,
        batch: 1,
        precision: if optimized { "int8" } else { "fp32" }.into(),
        fps,
        fps_low: fps * 0.985,
        fps_high: fps * 1.012,
        p50_ms: ms,
        p90_ms: ms * 1.03,
        p99_ms: ms * 1.13,
    }
}

fn host(on: &str, agreement: f64) -> Host {
    let engine = "builtin".to_string();
    let speedup = Speedup { engine, streams: 1, threads: 1, batch: 1, ratio: 3.0, low: 2.9, high: 3.1 };
    Host {
        on: on.into(),
        hostname: "node<7>".into(),
        cpu: "a processor".into(),
        kernels: "avx2".into(),
        cores: 8,
        speedup,
        parent_fps: Some(20.0),
        optimized_fps: Some(60.0),
        agreement: (agreement > 0.0).then_some((agreement, 200)),
    }
}

fn best(engine: &str, optimized: bool, within_limit: bool) -> Best {
    Best {
        engine: engine.into(),
        optimized,
        streams: 2,
        threads: 1,
        batch: 8,
        fps: 700.0,
        p99_ms: 23.5,
        within_limit,
    }
}

fn load(engine: &str, optimized: bool) -> Load {
    Load { engine: engine.into(), optimized, load_ms: 61.5, bytes: 48_000_000 }
}

fn gate(name: &str, limit: f64, value: Option<f64>, passed: bool) -> Gate {
    Gate { name: name.into(), limit, value, passed }
}

fn layer(i: u32) -> LayerRow {
    let depthwise = i % 3 == 1;
    let parent_us = 412.0 / (1.0 + f64::from(i * 7 % 54) * 0.35);
    let border = i == 0;
    let softmax = i == 53;
    LayerRow {
        name: match i {
            0 => "data quantize".into(),
            53 => "prob".into(),
            _ => format!("conv{}_{}/{}", 1 + i / 9, i % 9, if depthwise { "dwise" } else { "expand" }),
        },
        kind: if border {
            "Quantize"
        } else if softmax {
            "Softmax"
        } else {
            "Conv"
        }
        .into(),
        precision_parent: if border { "" } else { "fp32" }.into(),
        precision_optimized: if border {
            "border"
        } else if softmax {
            "fp32"
        } else {
            "int8"
        }
        .into(),
        parent_us: (!border).then_some(parent_us),
        optimized_us: Some(if softmax { parent_us * 1.1 } else { parent_us / (2.0 + f64::from(i % 9)) }),
        macs: if border || softmax { 0 } else { 1_204_224 * u64::from(1 + i % 9) },
        note: if softmax { "limited by memory traffic" } else { "" }.into(),
        alone_db: (!border && !softmax).then_some(35.25),
        in_place_db: (!border && !softmax).then_some(21.75),
    }
}

fn facts(pairs: &[(&str, &str)]) -> Vec<Fact> {
    pairs.iter().map(|(name, value)| Fact { name: name.to_string(), value: value.to_string() }).collect()
}
