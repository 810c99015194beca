//! The journey with the keyboard alone, as far as it goes without a disk: what keys ask for.

use calib8::run::events::Status;
use calib8::run::status::Standing;
use calib8::tui::app::Tab;
use calib8::tui::tabs::optimize::{Effect as Optimize, Msg as OptimizeMsg};
use calib8::tui::tabs::projects::import::{Found, Listing, Msg as ImportMsg};
use calib8::tui::tabs::projects::{Effect as Projects, Msg as ProjectsMsg};
use calib8::tui::{Effect, Msg, update};

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
    let [Effect::Projects(Projects::Create(draft))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(
        (draft.model.as_str(), draft.images.as_str(), draft.labels.as_str()),
        ("model.onnx", "photos", "/val.txt")
    );
    assert_eq!((draft.name.as_str(), draft.preset), ("model", "imagenet-caffe"));
    update(&mut app, Msg::Projects(ProjectsMsg::Import(ImportMsg::Refused("the model: is gone".into()))));
    assert!(screen(&mut app, SIZES[0]).contains("the model: is gone"));
    press(&mut app, "esc");
    assert!(app.projects.import.is_none());
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
    let begin = Effect::Optimize(Optimize::Begin(directory("int8-queued")));
    assert_eq!(show(&mut app, snapshot.clone()), [begin]);
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
