//! The journey with the keyboard alone, as far as it goes without a disk: what keys ask for.

use calib8::run::events::Status;
use calib8::run::fit::{Fit, Fits, Said};
use calib8::run::plan::Preprocessing;
use calib8::run::status::Standing;
use calib8::tui::app::Tab;
use calib8::tui::tabs::optimize::{Effect as Optimize, Msg as OptimizeMsg};
use calib8::tui::tabs::projects::import::Msg as ImportMsg;
use calib8::tui::tabs::projects::import::files::{Found, Listing};
use calib8::tui::tabs::projects::{Effect as Projects, Msg as ProjectsMsg};
use calib8::tui::{Effect, Msg, farewell, update};

use super::screens::with_form;
use super::support::*;

#[test]
fn one_key_tries_the_example() {
    let mut app = empty();
    assert_eq!(press(&mut app, "enter"), [Effect::Projects(Projects::Example)]);
    assert_eq!(press(&mut app, "enter"), [], "once is enough");
    let made = ProjectsMsg::Made { id: "cct".into(), text: "made".into() };
    update(&mut app, Msg::Projects(made));
    show(&mut app, workspace(100));
    assert!(screen(&mut app, SIZES[1]).contains("▸ ▾ cct-cifar10"), "the cursor is on what was made");
}

#[test]
fn a_new_project_is_typed_with_completion() {
    let mut app = empty();
    assert_eq!(press(&mut app, "n"), [Effect::Projects(Projects::List(String::new()))]);
    type_text(&mut app, "mod");
    let listing = Listing {
        text: "mod".into(),
        folder: String::new(),
        entries: vec!["models/".into(), "model.onnx".into()],
    };
    update(&mut app, Msg::Projects(ProjectsMsg::Import(ImportMsg::Listed(listing))));
    press(&mut app, "pagedown tab enter");
    type_text(&mut app, "photos");
    let effects = press(&mut app, "down");
    let find = Projects::Find { images: "photos".into(), model: "model.onnx".into() };
    assert!(effects.contains(&Effect::Projects(find)), "{effects:?}");
    let found = Found { labels: Some("/val.txt".into()), classes: None };
    update(&mut app, Msg::Projects(ProjectsMsg::Import(ImportMsg::Found(found))));
    press(&mut app, "down down right down");
    let effects = press(&mut app, "enter");
    let [Effect::Projects(Projects::StopTrying), Effect::Projects(Projects::Create(draft))] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (draft.model.as_str(), draft.images.as_str(), draft.labels.as_str()),
        ("model.onnx", "photos", "/val.txt")
    );
    assert_eq!(draft.name, "model");
    assert_eq!(draft.preprocess, Preprocessing::Preset("imagenet-caffe".into()));
    update(&mut app, Msg::Projects(ProjectsMsg::Import(ImportMsg::Refused("the model: is gone".into()))));
    assert!(screen(&mut app, SIZES[0]).contains("the model: is gone"));
    press(&mut app, "esc");
    assert!(app.projects.import.is_none());
}

#[test]
fn tab_waits_for_the_listing_of_what_was_typed() {
    let mut app = empty();
    press(&mut app, "n");
    type_text(&mut app, "mod");
    // Quicker than the disk: what is listed still belongs to what stood there before.
    assert_eq!(press(&mut app, "tab"), []);
    let listed = |app: &mut calib8::tui::App, text: &str, entries: &[&str]| {
        let entries = entries.iter().map(|entry| (*entry).to_string()).collect();
        let listing = Listing { text: text.into(), folder: String::new(), entries };
        update(app, Msg::Projects(ProjectsMsg::Import(ImportMsg::Listed(listing))))
    };
    listed(&mut app, "mo", &["movies/"]);
    assert!(screen(&mut app, SIZES[0]).contains("▸ Model           mod"));
    let effects = listed(&mut app, "mod", &["model.onnx"]);
    assert_eq!(effects, [Effect::Projects(Projects::List("model.onnx".into()))]);
    listed(&mut app, "model.onnx", &["model.onnx"]);
    press(&mut app, "tab");
    let text = screen(&mut app, SIZES[0]);
    assert!(text.contains("▸ Images"), "nothing is left to complete: {text}");
}

#[test]
fn a_project_is_made_once_and_can_be_stopped() {
    let mut app = empty();
    press(&mut app, "n down down down down down");
    assert!(
        screen(&mut app, SIZES[0]).contains(" Enter make the project  ↑ ↓ fields  Esc leave  Ctrl-C quit")
    );
    let effects = press(&mut app, "enter");
    assert!(matches!(&effects[..], [Effect::Projects(Projects::Create(_))]), "{effects:?}");
    assert_eq!(press(&mut app, "enter a tab"), []);
    let text = screen(&mut app, SIZES[0]);
    assert!(text.contains("the model is run once, to see that all fits and how fast it is"), "{text}");
    assert!(text.contains(" Esc stop  Ctrl-C quit"), "{text}");
    assert_eq!(press(&mut app, "esc"), [Effect::Projects(Projects::StopTrying)]);
    assert!(screen(&mut app, SIZES[0]).contains("No projects yet"));
}

#[test]
fn the_footer_shows_the_keys_of_what_has_the_keyboard() {
    let mut app = filled();
    press(&mut app, "/");
    let footer = |app: &mut calib8::tui::App| {
        screen(app, SIZES[0]).rsplit('\n').next().unwrap_or_default().to_string()
    };
    assert_eq!(footer(&mut app), " Enter keep the filter  Esc take it away  ↑ ↓ rows  Ctrl-C quit");
    press(&mut app, "esc R");
    assert_eq!(footer(&mut app), " Enter do it  Esc leave it  Ctrl-C quit");
    press(&mut app, "esc ?");
    assert_eq!(footer(&mut app), "", "the keys stand on the border of the box");
}

#[test]
fn a_field_that_does_nothing_says_why() {
    let mut app = with_form();
    press(&mut app, "j j j");
    let text = screen(&mut app, SIZES[1]);
    assert!(text.contains("▸ Largest drop    only AccuracyAware keeps to a limit"), "{text}");
    press(&mut app, "enter");
    assert!(screen(&mut app, SIZES[1]).contains(": only AccuracyAware keeps to a limit"));
    press(&mut app, "k right j enter");
    assert!(screen(&mut app, SIZES[1]).contains(" Enter done  Ctrl-U empty it  Ctrl-C quit"));
    press(&mut app, "enter k right j j");
    assert!(screen(&mut app, SIZES[1]).contains("▸ Preset          Auto tries them and chooses"));
}

fn fits() -> Fits {
    let said = |image: &str, class: &str, probability| Said {
        image: image.into(),
        label: Some("ring".into()),
        class: class.into(),
        probability,
    };
    let fit = |name: &str, top1, said| Fit {
        name: name.into(),
        preprocess: Preprocessing::Preset(name.into()),
        top1: Some(top1),
        label_offset: 0,
        confidence: 0.75,
        score: 1.5,
        classes_predicted: 7,
        said,
    };
    let right =
        vec![said("eval/a_ring.png", "ring", 0.97), said("eval/b_ring_that_is_hard.png", "arrow", 0.51)];
    let wrong = vec![said("eval/a_ring.png", "bolt", 0.2)];
    Fits {
        images: 48,
        labelled: 48,
        classes: 10,
        fits: vec![fit("tf-mobilenet", 0.875, right), fit("imagenet-torchvision", 0.25, wrong)],
    }
}

/// The form with model and images, on its way to the preprocessing.
fn with_trial() -> (calib8::tui::App, Vec<Effect>) {
    let mut app = empty();
    press(&mut app, "n");
    type_text(&mut app, "model.onnx");
    press(&mut app, "enter");
    type_text(&mut app, "photos");
    let effects = press(&mut app, "down down down");
    (app, effects)
}

#[test]
fn the_form_shows_what_the_model_says_and_proposes_the_best_preprocessing() {
    let (mut app, effects) = with_trial();
    let [.., Effect::Projects(Projects::Try(request))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((request.model.as_str(), request.images.as_str()), ("model.onnx", "photos"));
    assert!(screen(&mut app, SIZES[0]).contains("under the usual preprocessings …"));
    let tried = |result| Msg::Projects(ProjectsMsg::Import(ImportMsg::Tried(request.clone(), result)));
    update(&mut app, tried(Ok(fits())));
    snapshots("import_tried", &mut app);
    press(&mut app, "right");
    assert!(screen(&mut app, SIZES[0]).contains("bolt"), "what it says with the other one");
    assert_eq!(press(&mut app, "up down"), [Effect::Projects(Projects::List("".into()))], "tried once");
    press(&mut app, "down");
    type_text(&mut app, "x");
    let effects = press(&mut app, "enter");
    let [Effect::Projects(Projects::Create(draft))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(draft.preprocess, Preprocessing::Preset("imagenet-torchvision".into()));
}

#[test]
fn a_trial_ends_with_the_form_and_says_why_it_failed() {
    let (mut app, effects) = with_trial();
    let Some(Effect::Projects(Projects::Try(request))) = effects.last() else { panic!("{effects:?}") };
    let failed = ImportMsg::Tried(request.clone(), Err("model.onnx: is no ONNX file".into()));
    update(&mut app, Msg::Projects(ProjectsMsg::Import(failed.clone())));
    assert!(screen(&mut app, SIZES[0]).contains("None could be tried: model.onnx: is no ONNX file"));
    assert_eq!(press(&mut app, "esc"), []);
    let (mut app, _) = with_trial();
    assert_eq!(press(&mut app, "esc"), [Effect::Projects(Projects::StopTrying)]);
    update(&mut app, Msg::Projects(ProjectsMsg::Import(failed)));
    assert!(app.projects.import.is_none());
}

#[test]
fn projects_are_filtered_by_words() {
    let mut app = filled();
    press(&mut app, "/");
    type_text(&mut app, "int8 SHAPES mixed");
    let text = screen(&mut app, SIZES[1]);
    assert!(text.contains("int8 mixed") && !text.contains("int8 performance"), "{text}");
    assert!(!text.contains("cct-cifar10"), "{text}");
    press(&mut app, "enter down");
    assert!(screen(&mut app, SIZES[1]).contains("shapes · int8 mixed"), "the cursor is on the variant");
    type_text(&mut app, "/zzz");
    press(&mut app, "enter o");
    assert!(app.hint.as_ref().unwrap().0.ends_with("no row holds the words of the filter"));
    press(&mut app, "q");
    assert_eq!(app.exit, None, "q takes the filter away first");
    assert!(screen(&mut app, SIZES[1]).contains("cct-cifar10"));
}

#[test]
fn a_theme_is_kept() {
    use calib8::tui::theme::ThemeName;
    assert_eq!(press(&mut filled(), "t"), [Effect::KeepTheme(ThemeName::Light)]);
}

#[test]
fn wheel_and_clicks_move_the_cursor_and_change_the_tab() {
    use calib8::tui::action::Move;
    let mut app = filled();
    screen(&mut app, SIZES[1]);
    update(&mut app, Msg::Wheel(Move::Down));
    assert_eq!(app.projects.table.selected(), 1);
    update(&mut app, Msg::Click(10, 5));
    assert_eq!(app.projects.table.selected(), 2, "the third row below headings on row 2");
    update(&mut app, Msg::Click(10, 39));
    assert_eq!(app.projects.table.selected(), 2);
    update(&mut app, Msg::Click(30, 0));
    assert_eq!(app.tab, Tab::Optimize);
    update(&mut app, Msg::Click(11, 0));
    assert_eq!(app.tab, Tab::Projects);
    update(&mut app, Msg::Click(119, 0));
    assert_eq!(app.tab, Tab::Projects);
}

#[test]
fn the_form_starts_a_run_and_shows_it() {
    let mut app = with_form();
    show(&mut app, {
        let mut snapshot = workspace(0);
        snapshot.projects[0].variants.clear();
        snapshot
    });
    let effects = press(&mut app, "r");
    let [Effect::Optimize(Optimize::Start { options, wait: false, .. })] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(options.name, "int8 mixed");
    let started = OptimizeMsg::Started(directory("int8-mixed"), "process 1 works".into());
    update(&mut app, Msg::Optimize(started));
    show(&mut app, workspace(60));
    assert!(screen(&mut app, SIZES[0]).contains("shapes · int8 mixed   running"));
    assert_eq!(press(&mut app, "c"), [Effect::Optimize(Optimize::Cancel(directory("int8-mixed")))]);
    press(&mut app, "b");
    assert!(screen(&mut app, SIZES[0]).contains("shapes → INT8"));
}

#[test]
fn a_run_waits_while_another_is_at_work_and_begins_when_that_ends() {
    let mut app = with_form();
    let effects = press(&mut app, "r");
    assert!(matches!(&effects[..], [Effect::Optimize(Optimize::Start { wait: true, .. })]), "{effects:?}");
    let started = OptimizeMsg::Started(directory("int8-queued"), "it is queued".into());
    update(&mut app, Msg::Optimize(started));
    let mut snapshot = workspace(usize::MAX);
    snapshot.projects[0].variants[1].standing = Standing::Finished(Status::Passed);
    assert_eq!(show(&mut app, snapshot.clone()), [Effect::Optimize(Optimize::TakeTurns)]);
    snapshot.projects[0].project.name = "renamed".into();
    assert_eq!(show(&mut app, snapshot), [], "asked once");
}

#[test]
fn a_choice_that_is_not_possible_says_why() {
    let mut app = with_form();
    press(&mut app, "g right");
    assert_eq!(app.hint.as_ref().unwrap().0, "no CPU gains by it");
    press(&mut app, "down enter");
    type_text(&mut app, "qq");
    assert_eq!(app.exit, None, "letters are text");
    press(&mut app, "esc down enter ctrl-u");
    type_text(&mut app, "many");
    press(&mut app, "enter");
    let text = screen(&mut app, SIZES[1]);
    assert!(text.contains("Subset: expected a number of images, found 'many'"), "{text}");
    press(&mut app, "r");
    assert_eq!(
        app.hint.as_ref().unwrap().0.split(": ").nth(1),
        Some("the form has a mistake, which is said below it")
    );
}

#[test]
fn a_run_that_was_opened_from_projects_goes_back_there() {
    let mut app = filled();
    press(&mut app, "down down enter");
    assert_eq!(app.tab, Tab::Optimize);
    press(&mut app, "esc");
    assert_eq!((app.tab, app.exit), (Tab::Projects, None));
    press(&mut app, "enter q");
    assert_eq!((app.tab, app.exit), (Tab::Projects, None));
    // Where it is narrow, the reason stays whole.
    press(&mut app, "d");
    assert!(screen(&mut app, SIZES[0]).ends_with(" can't: a run is at work in it; cancel it first"));
}

#[test]
fn the_last_result_is_told_though_another_run_is_watched() {
    let mut app = filled();
    assert!(!farewell(&app).contains("INT8 is"), "nothing was opened");
    press(&mut app, "down enter 1 down enter");
    assert_eq!(app.tab, Tab::Optimize, "a run that is not finished is watched");
    let text = farewell(&app);
    assert!(text.contains("shapes, int8 performance: INT8 is 8.25 times as fast"), "{text}");
    assert!(
        text.ends_with("shapes, int8 mixed goes on in /data/calib8/projects/shapes/runs/int8-mixed\n"),
        "{text}"
    );
}

#[test]
fn an_interrupted_run_goes_on() {
    let mut app = filled();
    press(&mut app, "G up");
    let effects = press(&mut app, "r");
    assert_eq!(effects, [Effect::Optimize(Optimize::Begin(directory("int8-night")))]);
    assert_eq!(app.tab, Tab::Optimize);
}

#[test]
fn a_finished_variant_opens_the_performance_tab() {
    let mut app = filled();
    press(&mut app, "down enter");
    assert_eq!(app.tab, Tab::Performance);
    assert_eq!(app.subject.unwrap().directory, directory("int8-performance"));
}

#[test]
fn deleting_asks_first() {
    let mut app = filled();
    assert_eq!(press(&mut app, "down d esc"), []);
    let effects = press(&mut app, "d enter");
    assert!(matches!(&effects[..], [Effect::Projects(Projects::Delete(_))]), "{effects:?}");
}

#[test]
fn the_cursor_stays_on_its_row_when_the_workspace_changes() {
    let mut app = filled();
    press(&mut app, "down down down down down");
    let before = app.projects.rows[app.projects.table.selected()].clone();
    let mut snapshot = workspace(100);
    snapshot.projects[0].variants.remove(0);
    show(&mut app, snapshot);
    assert_eq!(app.projects.rows[app.projects.table.selected()], before);
    press(&mut app, "up up space");
    assert!(!screen(&mut app, SIZES[1]).contains("int8 mixed"));
}
