//! A workbench that is driven by messages and drawn into a buffer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use calib8::project::workspace::{DatasetDefinition, Definition, Project, Unreadable, Variant, Workspace};
use calib8::run::events::Status;
use calib8::run::fold::{Phase, State};
use calib8::run::plan::{Preset, RangeMethod};
use calib8::run::status::Standing;
use calib8::tui::keymap::{Key, Keymap};
use calib8::tui::snapshot::{Asked, ProjectEntry, Snapshot, VariantEntry};
use calib8::tui::theme::{Theme, ThemeName};
use calib8::tui::{App, Effect, Msg, update, view};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

/// The sizes that every screen is looked at in.
pub const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 50)];

/// The log of a real run of `config/quickstart.yaml`, and what it came to.
const LOG: &str = include_str!("../../fixtures/events/quickstart.jsonl");
const SUMMARY: &str = include_str!("../../fixtures/events/quickstart.summary.json");

/// A workbench whose workspace was not read yet.
pub fn app() -> App {
    let workspace = Workspace::open(Path::new("/data/calib8")).unwrap();
    App::new(workspace, "ml-07".into(), Theme::new(ThemeName::Default, false), Keymap::default())
}

/// A workbench with an empty workspace.
pub fn empty() -> App {
    let mut app = app();
    show(&mut app, Snapshot::default());
    app
}

/// A workbench with a workspace as it is after some work.
pub fn filled() -> App {
    let mut app = app();
    show(&mut app, workspace(200));
    app
}

pub fn show(app: &mut App, snapshot: Snapshot) -> Vec<Effect> {
    update(app, Msg::Workspace(Box::new(snapshot)))
}

/// The state of the recorded run after so many of its entries.
pub fn state_after(entries: usize) -> State {
    let text: String = LOG.split_inclusive('\n').take(entries).collect();
    State::of_log(&text)
}

/// How many entries the log has before the one that holds `text`.
pub fn entries_until(text: &str) -> usize {
    LOG.lines().position(|line| line.contains(text)).unwrap()
}

pub fn directory(id: &str) -> PathBuf {
    format!("/data/calib8/projects/shapes/runs/{id}").into()
}

pub fn variant(id: &str, name: &str, standing: Standing, entries: usize) -> VariantEntry {
    let created = "2026-11-28T09:00:00.000Z".into();
    let finished = matches!(standing, Standing::Finished(_));
    VariantEntry {
        variant: Variant { id: id.into(), path: directory(id), name: name.into(), created },
        standing,
        state: state_after(entries),
        summary: finished.then(|| Box::new(serde_json::from_str(SUMMARY).unwrap())),
        asked: Some(Asked {
            preset: Some(Preset::Performance),
            range: Some(RangeMethod::Mse),
            calibration: "calib".into(),
        }),
    }
}

pub fn project(id: &str, name: &str, variants: Vec<VariantEntry>) -> ProjectEntry {
    let path = PathBuf::from("/data/models").join(id);
    let definition = Definition {
        model: path.join("model.onnx"),
        preprocess: "imagenet-torchvision".into(),
        dataset: DatasetDefinition {
            path: path.join("eval"),
            labels: Some(path.join("eval_labels.txt")),
            classes: None,
        },
    };
    let project = Project {
        id: id.into(),
        path: PathBuf::from("/data/calib8/projects").join(id),
        name: name.into(),
        created: "2026-11-27T08:30:00.000Z".into(),
        definition,
        baseline: None,
        variants: variants.iter().map(|entry| entry.variant.clone()).collect(),
    };
    ProjectEntry { project, model_bytes: Some(1_687_552), variants }
}

/// A workspace in which a run has come to its `entries`th entry.
pub fn workspace(entries: usize) -> Snapshot {
    let mut failed = variant("int8-min-max", "int8 min-max", Standing::Failed, 40);
    failed.state.phase =
        Phase::Failed { message: "/data/models/shapes/calib: holds no image that can be read".into() };
    let all = usize::MAX;
    let variants = vec![
        variant("int8-performance", "int8 performance", Standing::Finished(Status::Passed), all),
        variant("int8-mixed", "int8 mixed", Standing::Running, entries),
        failed,
        variant("int8-queued", "int8 mean min-max", Standing::Waiting, 0),
    ];
    let mut gone = project("mobilenet-v2", "mobilenet-v2 with a rather long name, 224 × 224", Vec::new());
    gone.model_bytes = None;
    let interrupted = variant("int8-night", "int8 over night", Standing::Interrupted, 60);
    Snapshot {
        projects: vec![
            project("shapes", "shapes", variants),
            gone,
            project("cct", "cct-cifar10", vec![interrupted]),
        ],
        unreadable: vec![Unreadable {
            id: "broken".into(),
            path: "/data/calib8/projects/broken".into(),
            reason: "/data/calib8/projects/broken/project.yaml: is not as calib8 writes it".into(),
        }],
        failure: None,
    }
}

/// Presses keys, separated by spaces.
pub fn press(app: &mut App, keys: &str) -> Vec<Effect> {
    let keys = keys.split_whitespace().map(|key| key.parse::<Key>().unwrap());
    keys.flat_map(|key| update(app, Msg::Key(key))).collect()
}

/// Types text as it is.
pub fn type_text(app: &mut App, text: &str) -> Vec<Effect> {
    text.chars().flat_map(|c| update(app, Msg::Key(Key::char(c)))).collect()
}

/// Lets time pass.
pub fn wait(app: &mut App, seconds: f64) -> Vec<Effect> {
    app.now += Duration::from_secs_f64(seconds);
    update(app, Msg::Time)
}

pub fn draw(app: &mut App, (width, height): (u16, u16)) -> Buffer {
    update(app, Msg::Resize(width, height));
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view(app, frame)).unwrap();
    terminal.backend().buffer().clone()
}

/// The screen as text, without the spaces at the ends of its lines.
pub fn screen(app: &mut App, size: (u16, u16)) -> String {
    let buffer = draw(app, size);
    let rows = buffer.content.chunks(usize::from(size.0)).map(|row| {
        let mut line = String::new();
        let mut skip = 0;
        for cell in row {
            if skip == 0 {
                line.push_str(cell.symbol());
                skip = unicode_width::UnicodeWidthStr::width(cell.symbol()).saturating_sub(1);
            } else {
                skip -= 1;
            }
        }
        line.trim_end().to_string()
    });
    rows.collect::<Vec<_>>().join("\n")
}

/// A snapshot of the screen in each size, and at 80×24 in mono and ASCII.
pub fn snapshots(name: &str, app: &mut App) {
    for size in SIZES {
        insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), screen(app, size));
    }
    snapshots_in_mono(name, app);
}

/// A snapshot of the screen at 80×24 in mono and ASCII.
pub fn snapshots_in_mono(name: &str, app: &mut App) {
    let theme = app.theme.clone();
    app.theme = Theme::new(ThemeName::Mono, true);
    let buffer = draw(app, SIZES[0]);
    assert!(buffer.content.iter().all(|cell| cell.symbol().is_ascii()), "{name}: not ASCII");
    let reset = ratatui::style::Color::Reset;
    assert!(buffer.content.iter().all(|cell| cell.fg == reset && cell.bg == reset), "{name}: coloured");
    insta::assert_snapshot!(format!("{name}_ascii"), screen(app, SIZES[0]));
    app.theme = theme;
}
