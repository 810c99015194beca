//! What the workbench takes, measured on the real program: `cargo test --release --test pty figures -- --ignored
//! --nocapture` prints it. No assertion: numbers of a machine that does other things as well say nothing.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use calib8::report::{Kind, Outcome, Prediction, PredictionRow, Rows, Tables};

use super::terminal::Terminal;
use super::tiny;

const SIZE: (u16, u16) = (120, 40);
const STARTS: usize = 20;
const KEYS: usize = 500;
const ROWS: usize = 50_000;
const CLASSES: u32 = 1000;

fn say(text: &str) {
    let mut out = std::io::stderr().lock();
    writeln!(out, "{text}").unwrap();
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |part: f64| ms(times[((times.len() - 1) as f64 * part).round() as usize]);
    format!("median {:.1} ms, p90 {:.1}, p99 {:.1}, largest {:.1}", at(0.5), at(0.9), at(0.99), at(1.0))
}

/// Waits for the answer to a key: the first bytes after it.
fn answer(terminal: &mut Terminal, key: &str) -> Duration {
    let before = terminal.count();
    let start = Instant::now();
    terminal.press(key);
    while terminal.count() == before {
        assert!(start.elapsed() < Duration::from_secs(20), "no answer to {key:?}");
        std::thread::sleep(Duration::from_micros(100));
    }
    start.elapsed()
}

/// Waits until nothing more comes.
fn calm(terminal: &Terminal) {
    let mut before = usize::MAX;
    while before != terminal.count() {
        before = terminal.count();
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Keeps every core busy until it is dropped, as a calibration does.
struct Load(Arc<AtomicBool>);

impl Load {
    fn new() -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut sum = 0f64;
                while !stop.load(Ordering::Relaxed) {
                    sum = (0..10_000).fold(sum, |sum, n| sum + f64::from(n).sqrt());
                }
                std::hint::black_box(sum)
            });
        }
        Load(stop)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn memory(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024.0 / 1e6
    };
    format!("{:.0} MB, at most {:.0} MB", field("VmRSS"), field("VmHWM"))
}

fn rows() -> impl Iterator<Item = PredictionRow> {
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u32
    };
    (0..ROWS).map(move |at| {
        let parent = random() % CLASSES;
        let optimized = if random() % 20 == 0 { random() % CLASSES } else { parent };
        let share = f64::from(random() % 100_000) / 100_000.0;
        let best = |class: u32| (0..5).map(|n| ((class + n) % CLASSES, 0.5 / (n + 1) as f32)).collect();
        PredictionRow {
            image: format!("val/n{:08}/ILSVRC2012_val_{at:08}.JPEG", random() % CLASSES),
            label: Some(random() % CLASSES),
            outcome: Outcome::Measured(Prediction {
                class_optimized: optimized,
                class_parent: parent,
                rank_of_parent_class: u64::from(parent != optimized),
                confidence_optimized: share,
                confidence_optimized_in_parent: share / 2.0,
                confidence_parent: 1.0 - share,
                margin: share / 3.0,
                kl: share * share,
                erroneous: parent != optimized,
                top5_parent: best(parent),
                top5_optimized: best(optimized),
            }),
        }
    })
}

/// A copy of the recorded run with many rows.
fn large_run() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let recorded = Path::new(super::FIXTURES).join("recorded");
    for entry in fs::read_dir(recorded).unwrap().flatten() {
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let mut rows: Vec<PredictionRow> = rows().collect();
    rows.sort_by(|a, b| a.image.cmp(&b.image));
    let create = |name: &str| fs::File::create(folder.path().join(name)).map(std::io::BufWriter::new);
    let mut tables = Tables::create(&[Kind::Predictions], &[], create).unwrap();
    rows.iter().for_each(|row| tables.prediction(row).unwrap());
    drop(tables.finish(|_| true).unwrap());
    let shapes = Path::new(super::FIXTURES).join("shapes");
    let plan = format!("dataset: {{path: {}/eval}}\npreprocess: unit\n", shapes.display());
    fs::write(folder.path().join("run.yaml"), plan).unwrap();
    folder
}

#[test]
#[ignore = "measures, and checks nothing"]
fn figures() {
    let folder = tempfile::tempdir().unwrap();
    let (_workspace, _project) = tiny(folder.path());

    let starts = (0..STARTS).map(|_| {
        let start = Instant::now();
        let terminal = Terminal::open(folder.path(), &[], SIZE);
        while !terminal.screen().contains("Accuracy Report") {
            std::thread::sleep(Duration::from_micros(200));
        }
        start.elapsed()
    });
    say(&format!("start to first frame, {STARTS} starts: {}", spread(starts.collect())));

    let mut terminal = Terminal::open(folder.path(), &[("CALIB8_IMAGES", "blocks")], SIZE);
    terminal.shows("tiny");
    calm(&terminal);
    let before = terminal.count();
    std::thread::sleep(Duration::from_secs(5));
    say(&format!("bytes in 5 idle seconds: {}", terminal.count() - before));
    say(&format!("memory with a small workspace: {}", memory(terminal.pid())));

    let keys = |terminal: &mut Terminal| -> Vec<Duration> {
        let one = |at: usize| {
            let time = answer(terminal, ["2", "1"][at % 2]);
            calm(terminal);
            time
        };
        (0..KEYS).map(one).collect()
    };
    say(&format!("key to screen, {KEYS} keys: {}", spread(keys(&mut terminal))));
    let load = Load::new();
    say(&format!("key to screen while every core is busy, {KEYS} keys: {}", spread(keys(&mut terminal))));
    drop(load);
    terminal.press("\u{3}");
    terminal.exit_code();

    let run = large_run();
    let mut command = portable_pty::CommandBuilder::new(env!("CARGO_BIN_EXE_calib8"));
    command.args([std::ffi::OsStr::new("--open"), run.path().as_os_str()]);
    for (name, value) in [("TERM", "xterm-256color"), ("LANG", "C.UTF-8"), ("CALIB8_IMAGES", "off")] {
        command.env(name, value);
    }
    command.env("XDG_DATA_HOME", folder.path());
    let start = Instant::now();
    let mut terminal = Terminal::run(command, SIZE);
    terminal.press("4");
    terminal.shows("rows 50");
    say(&format!("start to {ROWS} rows on the screen: {:.0} ms", ms(start.elapsed())));
    calm(&terminal);
    let sorts: Vec<Duration> = (0..14)
        .map(|_| {
            let time = answer(&mut terminal, "s");
            calm(&terminal);
            time
        })
        .collect();
    let each: Vec<String> = sorts.iter().map(|time| format!("{:.0}", ms(*time))).collect();
    say(&format!("sorting {ROWS} rows by one column after the other, key to screen, ms: {}", each.join(" ")));
    say(&format!("turning them round: {:.0} ms", ms(answer(&mut terminal, "S"))));
    say(&format!("memory with {ROWS} rows: {}", memory(terminal.pid())));
    terminal.press("\u{3}");
    terminal.exit_code();
}
