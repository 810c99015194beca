//! The real program in a real pseudo-terminal: start, leave, hang up, die, go on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod figures;
mod terminal;

use std::fs;
use std::path::Path;
use std::time::Duration;

use calib8::project::workspace::{DatasetDefinition, Definition, NewProject, Project, Workspace};
use calib8::run::plan::{CalibrationSection, OptimizeOptions, for_project};
use calib8::run::status::{self, Standing};
use terminal::{Terminal, eventually};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

/// A workspace with a project of the tiny model.
fn tiny(root: &Path) -> (Workspace, Project) {
    let tiny = Path::new(FIXTURES).join("tiny");
    let preprocess = serde_yaml::from_str("{resize_short: 18, crop: 16, scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}").unwrap();
    let definition = Definition {
        model: tiny.join("tiny.onnx"),
        preprocess,
        dataset: DatasetDefinition {
            path: tiny.join("images"),
            labels: Some(tiny.join("labels.txt")),
            classes: Some(tiny.join("classes.txt")),
        },
    };
    let workspace = Workspace::open(root).unwrap();
    let project = workspace.create(&NewProject { name: "tiny".into(), definition }).unwrap();
    (workspace, project)
}

/// Starts a run that measures for a minute, and waits until it does.
fn long_run(workspace: &Workspace, project: &Project) -> calib8::run::launch::Started {
    let mut options = OptimizeOptions::new("long");
    options.performance.seconds = 60.0;
    options.optimize.dataset =
        Some(CalibrationSection { path: project.definition.dataset.path.display().to_string() });
    let variant = workspace.new_variant(project, "long").unwrap();
    let plan = for_project(project, &options).unwrap();
    // The worker is this very test program otherwise.
    let existing = calib8::run::directory::Existing::Refuse;
    drop(
        calib8::run::directory::RunDirectory::create(
            &variant.path,
            &calib8::run::plan::Plan { output: variant.path.clone(), ..plan },
            existing,
        )
        .unwrap(),
    );
    let worker = std::process::Command::new(env!("CARGO_BIN_EXE_calib8"))
        .arg("worker")
        .arg(&variant.path)
        .env("CALIB8_CACHE", "off")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid = worker.id();
    std::thread::spawn(move || {
        let mut worker = worker;
        worker.wait()
    });
    eventually("the worker is at work", || {
        status::of(&variant.path).state.stages.iter().any(|stage| stage.seconds.is_some())
    });
    calib8::run::launch::Started { directory: variant.path, pid }
}

fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

#[test]
fn it_opens_and_leaves_the_terminal_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(folder.path(), &[], (80, 24));
    terminal.shows("No projects yet");
    assert!(terminal.bytes().contains("\u{1b}[?1049h"));
    terminal.press("q");
    assert_eq!(terminal.exit_code(), 0);
    let bytes = terminal.bytes();
    for restored in ["\u{1b}[?1049l", "\u{1b}[?25h", "\u{1b}[?2004l"] {
        assert!(bytes.contains(restored), "{restored:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "looking makes nothing");
}

#[test]
fn a_terminal_that_answers_nothing_is_no_obstacle_and_gets_no_byte_while_nothing_happens() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(folder.path(), &[], (120, 40));
    terminal.shows("No projects yet");
    std::thread::sleep(Duration::from_millis(1500));
    let before = terminal.bytes().len();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(terminal.bytes().len(), before);
}

#[test]
fn without_colour_no_colour_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(folder.path(), &[("NO_COLOR", "1")], (100, 30));
    terminal.shows("No projects yet");
    terminal.press("?");
    terminal.shows("type to search");
    let bytes = terminal.bytes();
    for number in (30..38).chain(40..48).chain(90..98) {
        assert!(!bytes.contains(&format!("\u{1b}[{number}m")), "{number}");
    }
    assert!(!bytes.contains("\u{1b}[38;") && !bytes.contains("\u{1b}[48;"));
}

#[test]
fn a_storm_of_sizes_leaves_a_whole_screen() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(folder.path(), &[], (80, 24));
    terminal.shows("No projects yet");
    for step in 0..60u16 {
        terminal.resize(20 + step * 7 % 150, 5 + step * 5 % 50);
    }
    terminal.resize(59, 20);
    terminal.shows("calib8 needs 60 columns");
    terminal.resize(100, 30);
    terminal.shows("No projects yet");
    terminal.shows("? help");
}

#[test]
fn a_hang_up_ends_the_workbench_and_not_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (workspace, project) = tiny(folder.path());
    let run = long_run(&workspace, &project);
    let mut terminal = Terminal::open(folder.path(), &[], (120, 40));
    terminal.shows("tiny");
    terminal.press("j\r");
    terminal.shows("tiny · long   running");
    terminal.hang_up();
    assert_eq!(terminal.exit_code(), 129);
    assert_eq!(status::of(&run.directory).standing, Standing::Running);
    // Another terminal finds it at work, and its user where the connection was lost.
    let mut again = Terminal::open(folder.path(), &[], (120, 40));
    again.shows("▶ tiny");
    again.shows("tiny · long   running");
    kill(run.pid, rustix::process::Signal::KILL);
    again.shows("interrupted");
}

#[test]
fn two_workbenches_watch_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let (workspace, project) = tiny(folder.path());
    let run = long_run(&workspace, &project);
    let mut both = [(80, 24), (120, 40)].map(|size| Terminal::open(folder.path(), &[], size));
    for terminal in &mut both {
        terminal.shows("▶ tiny");
        terminal.press("j\r");
        terminal.shows("running");
    }
    let [first, second] = &mut both;
    // What one asks for, both see; one that leaves takes nothing with it.
    first.press("\u{3}");
    assert_eq!(first.exit_code(), 0);
    assert_eq!(status::of(&run.directory).standing, Standing::Running);
    second.press("c");
    second.shows("interrupted");
    let mut third = Terminal::open(folder.path(), &[], (80, 24));
    third.shows("interrupted");
}

#[test]
fn the_example_is_one_key_away_and_shows_how_fast_its_model_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(folder.path(), &[], (120, 40));
    terminal.shows("No projects yet");
    terminal.press("\r");
    terminal.shows("made the project example");
    terminal.shows("one stream");
    let projects = Workspace::open(folder.path()).unwrap().projects().unwrap();
    let [Ok(example)] = &projects[..] else { panic!("{projects:?}") };
    assert!(example.baseline.as_ref().unwrap().fps.median > 0.0);
}

#[test]
fn a_worker_that_was_killed_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let (workspace, project) = tiny(folder.path());
    let run = long_run(&workspace, &project);
    kill(run.pid, rustix::process::Signal::KILL);
    let mut terminal = Terminal::open(folder.path(), &[], (120, 40));
    terminal.shows("interrupted");
    terminal.press("j");
    terminal.press("r");
    eventually("it goes on", || status::of(&run.directory).standing == Standing::Running);
    terminal.shows("running");
    terminal.press("c");
    eventually("it is cancelled", || status::of(&run.directory).standing == Standing::Interrupted);
    terminal.press("\u{3}");
    assert_eq!(terminal.exit_code(), 0);
}

#[test]
fn sigterm_restores_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(folder.path(), &[], (80, 24));
    terminal.shows("No projects yet");
    terminal.signal(rustix::process::Signal::TERM);
    assert_eq!(terminal.exit_code(), 143);
    assert!(terminal.bytes().contains("\u{1b}[?1049l"));
}

#[test]
fn a_stop_gives_the_terminal_back_and_going_on_restores_the_screen() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(folder.path(), &[], (80, 24));
    terminal.shows("No projects yet");
    let state = |terminal: &Terminal| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", terminal.pid())).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    };
    terminal.signal(rustix::process::Signal::TSTP);
    eventually("it is stopped", || state(&terminal) == 'T');
    eventually("the normal screen is back", || terminal.bytes().contains("\u{1b}[?1049l"));
    terminal.signal(rustix::process::Signal::CONT);
    eventually("the screen is taken again", || terminal.bytes().matches("\u{1b}[?1049h").count() == 2);
    terminal.shows("No projects yet");
    // The key for it does the same.
    terminal.press("\u{1a}");
    eventually("it is stopped", || state(&terminal) == 'T');
    terminal.signal(rustix::process::Signal::CONT);
    terminal.press("?");
    terminal.shows("type to search");
    terminal.press("\u{3}");
    assert_eq!(terminal.exit_code(), 0);
}

#[test]
fn a_theme_that_was_chosen_is_there_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("workbench.yaml");
    fs::write(&file, "max_fps: 20\nmouse: true\nkeys: {theme: T}\n").unwrap();
    let mut terminal = Terminal::open(folder.path(), &[], (80, 24));
    terminal.shows("No projects yet");
    terminal.press("T");
    terminal.shows("theme light");
    eventually("it is kept", || fs::read_to_string(&file).unwrap().contains("theme: light"));
    terminal.press("q");
    assert_eq!(terminal.exit_code(), 0);
    let bytes = terminal.bytes();
    for asked in ["\u{1b}[?1000h", "\u{1b}[?1000l"] {
        assert!(bytes.contains(asked), "{asked:?}");
    }
    let mut again = Terminal::open(folder.path(), &[], (80, 24));
    again.shows("No projects yet");
    again.press("T");
    again.shows("theme contrast");
}

#[test]
fn settings_that_are_wrong_are_told_before_the_screen_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("workbench.yaml"), "theme: pink\n").unwrap();
    let mut terminal = Terminal::open(folder.path(), &[], (120, 24));
    assert_eq!(terminal.exit_code(), 1);
    let bytes = terminal.bytes();
    assert!(bytes.contains("workbench.yaml:1: theme is `pink`"), "{bytes}");
    assert!(!bytes.contains("\u{1b}[?1049h"));
}

#[test]
fn a_panic_gives_the_terminal_back_before_its_message() {
    const INSIDE: &str = "CALIB8_TEST_PANICS";
    if std::env::var_os(INSIDE).is_some() {
        let _guard = calib8::tui::terminal::Guard::enter().unwrap();
        let _ = std::thread::spawn(|| panic!("on purpose")).join();
        unreachable!("the hook ends the program");
    }
    let mut command = portable_pty::CommandBuilder::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_panic_gives_the_terminal_back_before_its_message", "--nocapture"]);
    command.env(INSIDE, "1");
    let mut terminal = Terminal::run(command, (100, 30));
    assert_eq!(terminal.exit_code(), 101);
    let bytes = terminal.bytes();
    let (taken, back) = (bytes.find("\u{1b}[?1049h").unwrap(), bytes.find("\u{1b}[?1049l").unwrap());
    assert!(taken < back && back < bytes.find("on purpose").unwrap(), "{bytes}");
}

#[test]
fn keys_that_clash_are_told_before_the_screen_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("calib8");
    fs::create_dir(&config).unwrap();
    fs::write(config.join("keys.yaml"), "theme: j\n").unwrap();
    let home = folder.path().to_str().unwrap().to_string();
    let mut terminal = Terminal::open(folder.path(), &[("XDG_CONFIG_HOME", &home)], (120, 24));
    assert_eq!(terminal.exit_code(), 1);
    let bytes = terminal.bytes();
    assert!(bytes.contains("keys.yaml:1: j is the key of `down` and of `theme`"), "{bytes}");
    assert!(!bytes.contains("\u{1b}[?1049h"));
}
