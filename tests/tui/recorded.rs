//! A run that was recorded: `fixtures/recorded`, with a plan that points at the images it was made on.

use std::path::{Path, PathBuf};

use calib8::tui::app::Subject;
use calib8::tui::image::{Decision, Protocol, blocks, picture};
use calib8::tui::tabs::{performance, report};
use calib8::tui::{App, Effect, Msg, update};
use tempfile::TempDir;

use super::support::*;

pub struct Recorded {
    pub app: App,
    pub folder: TempDir,
}

/// A copy of the recorded run, as its worker left it.
pub fn run_directory() -> TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root.join("fixtures/recorded")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let shapes = root.join("fixtures/shapes");
    let plan = format!(
        "dataset: {{path: {0}/eval, labels: {0}/eval_labels.txt, classes: {0}/classes.txt}}\n\
         preprocess: {{resize_short: 128, crop: 112, color: rgb, scale: 0.00392156862745098}}\n",
        shapes.display()
    );
    std::fs::write(folder.path().join("run.yaml"), plan).unwrap();
    folder
}

impl Recorded {
    /// The workbench with the recorded run open, on the tab of this key; images as half blocks.
    pub fn open(tab: &str) -> Recorded {
        let mut app = app();
        app.size = (120, 40);
        app.images.decision = Decision { protocol: Protocol::Blocks, reason: "a test".into() };
        app.images.depth = blocks::Depth::True;
        let mut this = Recorded { app, folder: run_directory() };
        let directory = this.folder.path().to_path_buf();
        this.tell(Msg::Open(Subject { title: "shapes · int8 default".into(), directory }));
        this.press(tab);
        this
    }

    /// Sends a message and runs what comes of it; gives the effects that are not of the tabs.
    pub fn tell(&mut self, msg: Msg) -> Vec<Effect> {
        let effects = update(&mut self.app, msg);
        self.run(effects)
    }

    fn run(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let mut others = Vec::new();
        for effect in effects {
            let answer = match effect {
                Effect::Report(report::Effect::Load(directory)) => {
                    let loaded = Box::new(report::load(&directory));
                    Msg::Report(report::Msg::Loaded(directory, loaded))
                }
                Effect::Report(report::Effect::Picture(request)) => {
                    let made = picture::prepare(&request).map_err(|error| error.to_string());
                    Msg::Report(report::Msg::Picture(request.id, made))
                }
                Effect::Performance(performance::Effect::Load(directory)) => {
                    let measured = Box::new(performance::load(&directory));
                    Msg::Performance(performance::Msg::Loaded(directory, measured))
                }
                Effect::Performance(performance::Effect::Hosts { directory, places }) => {
                    let hosts = performance::hosts(&places);
                    Msg::Performance(performance::Msg::Hosts(directory, hosts))
                }
                other => {
                    others.push(other);
                    continue;
                }
            };
            others.extend(self.tell(answer));
        }
        others
    }

    pub fn press(&mut self, keys: &str) -> Vec<Effect> {
        let effects = press(&mut self.app, keys);
        self.run(effects)
    }

    pub fn type_text(&mut self, text: &str) {
        let effects = type_text(&mut self.app, text);
        self.run(effects);
    }

    /// Lets the cursor rest, so that pictures are made.
    pub fn rest(&mut self) {
        let effects = wait(&mut self.app, 0.2);
        self.run(effects);
    }

    pub fn screen(&mut self, size: (u16, u16)) -> String {
        self.tell(Msg::Resize(size.0, size.1));
        self.rest();
        screen(&mut self.app, size)
    }

    /// The screen in each size, with the picture of that size, and at 80×24 in mono and ASCII.
    pub fn snapshots(&mut self, name: &str) {
        for size in SIZES {
            let text = self.screen(size);
            insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), text);
        }
        snapshots_in_mono(name, &mut self.app);
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
