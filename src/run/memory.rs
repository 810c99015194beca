//! What a run may take of the machine's memory, and what it will take.
//!
//! A process that takes too much is killed by the kernel, at any moment and without a word. So a run counts
//! before it starts: it is refused with figures if it can't fit, takes fewer threads if that makes it fit, and
//! gives images that are being decoded the rest.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::plan::{Count, Plan};
use super::stages::recipe::most_images;
use crate::measure::host as cgroup;
use crate::model::Model;
use crate::model::shapes::{self, Shapes};
use crate::project::host;
use crate::quantize::BiasCorrection;

/// Part of the machine's or the container's memory that a run takes unless told otherwise. The rest is for the
/// system, its cache of files, and whatever the estimate overlooks.
const AUTO_SHARE: f64 = 0.8;
/// The program, its threads, the page of results.
const PROGRAM: u64 = 64 << 20;
/// Copies of the weights that are held at the same time: the file, the simplified graph, packed for one session
/// of the parent and for one that gives out every tensor, and the INT8 model on its way.
const COPIES: u64 = 8;
/// Copies of the weights that are held beside these while forms of the parent are tried: two forms in FP32, and the
/// INT8 model of each.
const COPIES_OF_FORMS: u64 = 3;
/// A histogram and what stands beside it, for each tensor that is observed.
const STATISTICS_PER_TENSOR: u64 = 70 << 10;
/// What must be left for images being decoded: one of 12 million pixels.
const LEAST_FOR_DECODING: u64 = 12_000_000 * 9;
/// Preprocessed images that wait for each thread, and the one at work.
const IMAGES_PER_THREAD: u64 = 3;

/// How much a run may take, and who said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes.
    pub bytes: u64,
    /// Where the number comes from.
    pub source: Source,
}

/// Where a budget comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `memory_limit` of the run file.
    RunFile,
    /// The limit of a cgroup.
    Cgroup,
    /// The memory of the machine.
    Machine,
    /// Nothing is known, so nothing limits.
    Unknown,
}

impl Budget {
    /// The limit of `plan`; left out, 80 % of what the cgroup grants or the machine has.
    pub fn of(plan: &Plan) -> Budget {
        plan.memory_limit.map_or_else(Budget::available, |bytes| Budget { bytes, source: Source::RunFile })
    }

    /// What there is without a plan: 80 % of what the cgroup grants or the machine has.
    pub fn available() -> Budget {
        let machine = Some(host::Host::probe().memory_bytes).filter(|bytes| *bytes > 0);
        Budget::choose(cgroup::memory_limit(), machine)
    }

    fn choose(cgroup: Option<u64>, machine: Option<u64>) -> Budget {
        let share = |bytes: u64| (bytes as f64 * AUTO_SHARE) as u64;
        match (cgroup, machine) {
            (Some(group), machine) if machine.is_none_or(|machine| group < machine) => {
                Budget { bytes: share(group), source: Source::Cgroup }
            }
            (_, Some(machine)) => Budget { bytes: share(machine), source: Source::Machine },
            _ => Budget { bytes: u64::MAX, source: Source::Unknown },
        }
    }

    /// Bytes that tensors may take that are computed from a model's constants: they are held beside its weights.
    pub fn room_for_constants(&self) -> u64 {
        self.bytes / 2
    }

    /// The largest model file, with its data, that can be worked with: more is refused before it is read.
    pub fn largest_model(&self) -> u64 {
        self.bytes.saturating_sub(PROGRAM) / COPIES
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let size = size(self.bytes);
        match self.source {
            Source::RunFile => write!(f, "memory_limit is {size}"),
            Source::Cgroup => write!(f, "the limit is {size}, 80 % of what the cgroup grants"),
            Source::Machine => write!(f, "the limit is {size}, 80 % of this machine's memory"),
            Source::Unknown => f.write_str("there is no limit"),
        }
    }
}

/// The error for a model of `bytes`, or more, which `budget` has no room for.
pub fn too_large(path: &Path, bytes: u64, budget: &Budget) -> MemoryError {
    MemoryError::Model {
        path: path.into(),
        bytes,
        needs: PROGRAM.saturating_add(COPIES.saturating_mul(bytes)),
        budget: *budget,
    }
}

/// Why a run does not fit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The model alone takes too much.
    #[error(
        "{}: the model holds {}; a run keeps up to {COPIES} copies of its weights in different forms, about {}, but \
         {budget}; take a machine with more memory, or raise memory_limit", path.display(), size(*.bytes), size(*.needs)
    )]
    Model {
        /// The model file.
        path: PathBuf,
        /// Its bytes, with its data.
        bytes: u64,
        /// Bytes in all.
        needs: u64,
        /// What there is.
        budget: Budget,
    },
    /// Not even one thread can calibrate.
    #[error(
        "calibration takes about {} with one thread (model {}, its tensors {}), but {budget}; take a machine with more \
         memory, raise memory_limit, or give the model a smaller input", size(*.needs), size(*.model), size(*.tensors)
    )]
    Calibration {
        /// Bytes in all.
        needs: u64,
        /// Bytes of the model file.
        model: u64,
        /// Bytes of all tensors of one inference.
        tensors: u64,
        /// What there is.
        budget: Budget,
    },
    /// A setting of the measurement does not fit.
    #[error(
        "measuring with {streams} streams and batch {batch} takes about {}, but {budget}; lower performance.streams \
         or performance.batch, or raise memory_limit", size(*.needs)
    )]
    Measuring {
        /// Bytes in all.
        needs: u64,
        /// Streams of the setting.
        streams: usize,
        /// Batch of the setting.
        batch: usize,
        /// What there is.
        budget: Budget,
    },
}

/// A run that fits, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Threads that calibrate and report: those of the plan, or fewer.
    pub threads: usize,
    /// Bytes for images being decoded, all threads together.
    pub decoding: u64,
    /// Bytes that the run is expected to take at most, without very large images.
    pub needs: u64,
    /// What it may take.
    pub budget: Budget,
}

/// Bytes that the parts of a run take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needs {
    model: u64,
    /// Copies of the model, in one form or another.
    copies: u64,
    /// All tensors of one inference: observing keeps them until they are counted.
    tensors: u64,
    /// The most that is alive at a time in one inference.
    alive: u64,
    statistics: u64,
    input: u64,
    /// Images that are held to try corrections on.
    trial: u64,
}

/// What is tried on images to find the best INT8 model.
#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    forms: bool,
    images: u64,
}

impl Needs {
    fn of(source: &Model, parent: &Model, input: u64, tries: &Tries) -> Needs {
        // Without shapes nothing can be said of tensors; the model itself still counts.
        let shapes = shapes::infer(parent, 1).unwrap_or_default();
        let tensors = parent.graph().node.iter().flat_map(|node| &node.output);
        let tensors: Vec<u64> =
            tensors.filter_map(|name| shapes.get(name)).map(|shape| bytes_of(shape)).collect();
        Needs {
            model: source.bytes,
            copies: COPIES + if tries.forms { COPIES_OF_FORMS } else { 0 },
            trial: tries.images.saturating_mul(input),
            statistics: tensors.len() as u64 * STATISTICS_PER_TENSOR,
            tensors: sum(tensors),
            alive: alive(parent, &shapes),
            input,
        }
    }

    fn fixed(&self) -> u64 {
        // The merged statistics, and a copy on its way to the checkpoint.
        PROGRAM
            .saturating_add(self.copies.saturating_mul(self.model))
            .saturating_add(2 * self.statistics)
            .saturating_add(self.trial)
    }

    /// Observing, or running both models for the reports.
    fn per_thread(&self) -> u64 {
        let work = self.tensors.saturating_add(self.statistics).max(self.alive.saturating_mul(2));
        work.saturating_add(IMAGES_PER_THREAD.saturating_mul(self.input))
    }

    fn measuring(&self, streams: usize, batch: usize) -> u64 {
        let inference = self.alive.saturating_add(self.input).saturating_mul(2);
        self.fixed().saturating_add(inference.saturating_mul((streams * batch) as u64))
    }

    fn allow(&self, plan: &Plan, budget: Budget) -> Result<Allowance, MemoryError> {
        let rest = budget.bytes.saturating_sub(self.fixed().saturating_add(LEAST_FOR_DECODING));
        let threads =
            usize::try_from(rest / self.per_thread().max(1)).unwrap_or(usize::MAX).min(plan.threads);
        let with =
            |threads: usize| self.per_thread().saturating_mul(threads as u64).saturating_add(self.fixed());
        if threads == 0 {
            let needs = with(1).saturating_add(LEAST_FOR_DECODING);
            return Err(MemoryError::Calibration { needs, model: self.model, tensors: self.tensors, budget });
        }
        let mut needs = with(threads).saturating_add(LEAST_FOR_DECODING);
        for streams in plan.performance.streams.iter() {
            for batch in &plan.performance.batch {
                // `auto` looks at the memory itself.
                let Count::Number(batch) = *batch else { continue };
                let (streams, batch) = (*streams, batch as usize);
                let setting = self.measuring(streams, batch);
                if setting > budget.bytes {
                    return Err(MemoryError::Measuring { needs: setting, streams, batch, budget });
                }
                needs = needs.max(setting);
            }
        }
        Ok(Allowance { threads, decoding: budget.bytes - with(threads), needs, budget })
    }
}

/// Shares `budget` out to the run of `plan` on a model, whose simplified form is `parent` and which takes
/// `input` values.
///
/// # Errors
/// It does not fit; the message has the figures.
pub fn allow(
    plan: &Plan,
    source: &Model,
    parent: &Model,
    input: usize,
    budget: Budget,
) -> Result<Allowance, MemoryError> {
    let bytes = input * size_of::<f32>();
    let corrects = plan.optimize.bias_correction != BiasCorrection::None;
    let images = plan.optimize.subset_size.min(most_images(bytes)) as u64;
    let tries =
        Tries { forms: corrects && plan.optimize.equalization, images: if corrects { images } else { 0 } };
    Needs::of(source, parent, bytes as u64, &tries).allow(plan, budget)
}

fn bytes_of(shape: &[usize]) -> u64 {
    shape.iter().fold(size_of::<f32>() as u64, |bytes, side| bytes.saturating_mul(*side as u64))
}

fn sum(bytes: impl IntoIterator<Item = u64>) -> u64 {
    bytes.into_iter().fold(0, u64::saturating_add)
}

/// The most that tensors take at a time when each is dropped behind its last reader.
fn alive(model: &Model, shapes: &Shapes) -> u64 {
    let graph = model.graph();
    let size = |name: &String| shapes.get(name).map_or(0, |shape| bytes_of(shape));
    let mut last = HashMap::new();
    for (position, node) in graph.node.iter().enumerate() {
        last.extend(node.input.iter().map(|name| (name, position)));
    }
    let made: HashSet<&String> = graph.node.iter().flat_map(|node| &node.output).collect();
    let (mut now, mut most) = (0u64, 0u64);
    for (position, node) in graph.node.iter().enumerate() {
        now = now.saturating_add(sum(node.output.iter().map(size)));
        most = most.max(now);
        let gone = node.input.iter().filter(|name| last.get(name) == Some(&position) && made.contains(name));
        now = now.saturating_sub(sum(gone.map(size)));
    }
    most
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        1e9.. => format!("{:.1} GB", bytes / 1e9),
        _ => format!("{:.0} MB", bytes / 1e6),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::{node, tensor, value};
    use crate::model::pb::{GraphProto, ModelProto, OperatorSetIdProto};

    const GIB: u64 = 1 << 30;

    fn plan(more: &str) -> Plan {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("images")).unwrap();
        std::fs::write(folder.path().join("m.onnx"), "x").unwrap();
        let text = format!(
            "{{version: 1, name: a, model: {{path: m.onnx}}, dataset: {{path: images}}, preprocess: unit, threads: 8, \
             performance: {{streams: [1], batch: [1]}}{more}}}"
        );
        Plan::parse(Path::new("run.yaml"), folder.path(), &text, &[]).unwrap()
    }

    fn needs() -> Needs {
        Needs {
            model: 100 << 20,
            copies: COPIES,
            tensors: 200 << 20,
            alive: 30 << 20,
            statistics: 10 << 20,
            input: 1 << 20,
            trial: 0,
        }
    }

    fn budget(bytes: u64) -> Budget {
        Budget { bytes, source: Source::RunFile }
    }

    #[test]
    fn a_budget_is_that_of_the_run_file_the_cgroup_or_the_machine() {
        assert_eq!(Budget::of(&plan(", memory_limit: 5 GB")), budget(5_000_000_000));
        let of = Budget::choose;
        assert_eq!(of(Some(100), Some(200)), Budget { bytes: 80, source: Source::Cgroup });
        assert_eq!(of(Some(300), Some(200)), Budget { bytes: 160, source: Source::Machine });
        assert_eq!(of(None, None).bytes, u64::MAX);
    }

    #[test]
    fn threads_are_as_many_as_fit_and_images_get_the_rest() {
        let plan = plan("");
        let ample = needs().allow(&plan, budget(8 * GIB)).unwrap();
        assert_eq!(ample.threads, 8);
        assert_eq!(ample.decoding, 8 * GIB - needs().fixed() - 8 * needs().per_thread());
        assert!(ample.needs < 8 * GIB);
        let tight = needs().allow(&plan, budget(2 * GIB)).unwrap();
        assert!((1..8).contains(&tight.threads), "{tight:?}");
        assert!(tight.decoding >= LEAST_FOR_DECODING && tight.needs <= 2 * GIB);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_figures() {
        let error = needs().allow(&plan(""), budget(GIB)).unwrap_err().to_string();
        assert!(error.starts_with("calibration takes about 1.3 GB with one thread (model 105 MB"), "{error}");
        assert!(error.contains("but memory_limit is 1.1 GB; take a machine with more memory"), "{error}");
        let mut plan = plan("");
        plan.performance.streams = vec![1, 64].into();
        plan.performance.batch = vec![Count::Number(32)];
        let error = needs().allow(&plan, budget(8 * GIB)).unwrap_err().to_string();
        assert!(error.starts_with("measuring with 64 streams and batch 32 takes about "), "{error}");
    }

    #[test]
    fn tensors_are_alive_until_their_last_reader() {
        let nodes = vec![
            node("Relu", "a", &["x"], &["a"]),
            node("Relu", "b", &["a"], &["b"]),
            node("Add", "c", &["a", "b"], &["c"]),
            node("Relu", "d", &["c"], &["y"]),
        ];
        let graph = GraphProto {
            input: vec![value("x", 1, &["1", "3", "8", "8"])],
            output: vec![value("y", 1, &[])],
            node: nodes,
            initializer: vec![tensor("w", &[1], &[0f32])],
            ..Default::default()
        };
        let proto = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
            graph: Some(graph),
            ..Default::default()
        };
        let model = Model::from_proto("m.onnx", proto);
        let needs = Needs::of(&model, &model, 10, &Tries::default());
        let trying = Needs::of(&model, &model, 10, &Tries { forms: true, images: 3 });
        assert!(trying.copies > needs.copies && trying.tensors == needs.tensors);
        assert_eq!((needs.trial, trying.trial), (0, 30));
        let one = 4 * 3 * 64;
        assert_eq!((needs.tensors, needs.alive), (4 * one, 3 * one));
    }
}
