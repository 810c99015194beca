//! Small changes of good files: flipped bits, cut ends, parts of other files, numbers made extreme.

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use calib8::model::pb;
use prost::Message;

use super::{entries, limits};

/// Changed files of each kind unless `CALIB8_HOSTILE` says otherwise.
const CHANGES: u64 = 300;

type Entry = fn(&[u8]);

/// Kind of file, folder of its seeds, and what is done with it.
const KINDS: [(&str, &str, Entry); 6] = [
    ("model", "model", entries::model),
    ("session", "model", entries::session),
    ("run_file", "run_file", entries::run_file),
    ("events", "events", entries::events),
    ("labels", "labels", entries::labels),
    ("image", "image", entries::image),
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which may be 0 for 0.
    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}

fn seeds(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} holds no seeds", folder.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One to four changes of bytes.
fn changed(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.one_of(seeds).unwrap().clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => {
                let other = random.one_of(seeds).unwrap();
                let from = random.below(other.len());
                let part = other[from..].iter().take(1 + random.below(64)).copied().collect::<Vec<_>>();
                bytes.splice(at..at, part);
            }
            2 => {
                let end = (at + random.below(32)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            3 => {
                // The largest numbers of protobuf, in ASCII, and of binary headers.
                let extremes: [&[u8]; 5] = [
                    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
                    b"99999999999999999999",
                    b"\0\0\0\0",
                    b"\x7f\xff\xff\xff",
                    b"-1",
                ];
                let extreme = random.one_of(&extremes).unwrap();
                let end = (at + extreme.len()).min(bytes.len());
                bytes.splice(at..end, extreme.iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    bytes
}

/// A change of a graph that keeps it a message: nodes of another model, other tensors, other dimensions.
fn rewired(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let decode = |bytes: &Vec<u8>| pb::ModelProto::decode(&bytes[..]).ok();
    let models: Vec<pb::ModelProto> = seeds.iter().filter_map(decode).collect();
    let mut model = random.one_of(&models).unwrap().clone();
    let donor = random.one_of(&models).unwrap().graph.clone().unwrap();
    let graph = model.graph.as_mut().unwrap();
    for _ in 0..=random.below(3) {
        let at = random.below(graph.node.len());
        let names: Vec<String> =
            graph.node.iter().flat_map(|n| n.output.iter().chain(&n.input).cloned()).collect();
        let strange: [i64; 8] = [0, -1, 1, 7, 1 << 20, 1 << 40, i64::MAX, i64::MIN];
        let number = *random.one_of(&strange).unwrap();
        match random.below(7) {
            0 => {
                if let (Some(node), Some(name)) = (graph.node.get_mut(at), random.one_of(&names)) {
                    let input = random.below(node.input.len());
                    node.input.get_mut(input).into_iter().for_each(|input| input.clone_from(name));
                }
            }
            1 => {
                if let Some(node) = random.one_of(&donor.node) {
                    graph.node.insert(at, node.clone());
                    graph.initializer.extend(donor.initializer.iter().cloned());
                }
            }
            2 => {
                if let Some(node) = graph.node.get_mut(at) {
                    let attribute = random.below(node.attribute.len());
                    if let Some(attribute) = node.attribute.get_mut(attribute) {
                        attribute.i = number;
                        let place = random.below(attribute.ints.len());
                        attribute.ints.get_mut(place).into_iter().for_each(|i| *i = number);
                    }
                }
            }
            3 => {
                let tensor = random.below(graph.initializer.len());
                if let Some(tensor) = graph.initializer.get_mut(tensor) {
                    let axis = random.below(tensor.dims.len());
                    tensor.dims.get_mut(axis).into_iter().for_each(|d| *d = number);
                }
            }
            4 => {
                // A shape or an index that is wrong.
                let whole = |t: &&mut pb::TensorProto| t.data_type == 7 && t.raw_data.len() >= 8;
                for tensor in graph.initializer.iter_mut().filter(whole).take(1 + random.below(2)) {
                    let place = 8 * random.below(tensor.raw_data.len() / 8);
                    tensor.raw_data[place..place + 8].copy_from_slice(&number.to_le_bytes());
                }
            }
            5 => {
                if at < graph.node.len() {
                    graph.node.remove(at);
                }
            }
            _ => {
                if let (Some(node), Some(other)) = (graph.node.get_mut(at), random.one_of(&donor.node)) {
                    node.op_type.clone_from(&other.op_type);
                }
            }
        }
    }
    model.encode_to_vec()
}

#[test]
fn damaged_files_are_an_error_or_a_result() {
    for (kind, ..) in KINDS {
        limits::in_child("damage::one_kind", &[("CALIB8_HOSTILE_KIND", kind)]);
    }
}

#[test]
#[ignore = "run in a child process by damaged_files_are_an_error_or_a_result"]
fn one_kind() {
    let wanted = std::env::var("CALIB8_HOSTILE_KIND").unwrap();
    let (_, folder, entry) = KINDS.into_iter().find(|(kind, ..)| *kind == wanted).unwrap();
    let changes = std::env::var("CALIB8_HOSTILE").map_or(CHANGES, |number| number.parse().unwrap());
    let seeds = seeds(folder);
    limits::confine();
    entries::quiet();
    let mut failed = Vec::new();
    let mut stdout = std::io::stdout();
    let mut judge = |what: String, bytes: &[u8]| {
        writeln!(stdout, "{wanted} {what}").unwrap();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| entry(bytes))) {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("something");
            failed.push(format!("{what}: {said}"));
        }
    };
    for (number, seed) in seeds.iter().enumerate() {
        judge(format!("seed {number}"), seed);
        for length in (0..seed.len()).step_by(1 + seed.len() / 16) {
            judge(format!("seed {number} cut to {length}"), &seed[..length]);
        }
    }
    for number in 0..changes {
        judge(format!("change {number}"), &changed(&seeds, &mut Random(number)));
        if folder == "model" {
            judge(format!("rewired {number}"), &rewired(&seeds, &mut Random(number)));
        }
    }
    // To stdout, as what panics say is not shown here.
    failed.iter().for_each(|failed| writeln!(stdout, "{wanted} panics: {failed}").unwrap());
    assert!(failed.is_empty());
}
