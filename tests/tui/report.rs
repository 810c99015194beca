//! The Accuracy Report tab over a recorded run.

use calib8::report::Format;
use calib8::tui::image::Protocol;
use calib8::tui::tabs::report::{self, Effect as ReportEffect};
use calib8::tui::{Effect, Msg};
use ratatui::style::Color;

use super::recorded::Recorded;
use super::support::*;

#[test]
fn every_kind_of_report() {
    let mut run = Recorded::open("4");
    run.snapshots("report_predictions");
    run.press("]");
    run.snapshots("report_annotations");
    run.press("]");
    run.snapshots("report_distance");
}

#[test]
fn a_row_opened() {
    let mut run = Recorded::open("4");
    run.press("n enter");
    run.snapshots("report_open");
    // Narrow: the row is under the table, with as many classes of both models as fit.
    let text = run.screen(SIZES[0]);
    assert!(text.contains('▀') && text.contains("optimized\n") && text.contains("parent\n"), "{text}");
    run.press("q");
    assert!(run.app.exit.is_none(), "q closes the row first");
}

#[test]
fn only_erroneous_and_from_one_to_the_next() {
    let mut run = Recorded::open("4");
    let all = run.screen(SIZES[1]);
    assert!(all.contains("[ ] only erroneous 6   rows 40"), "{all}");
    run.press("v");
    let few = run.screen(SIZES[1]);
    assert!(few.contains("[x] only erroneous 6   rows 6 of 40"), "{few}");
    run.press("n n n n n");
    run.press("n");
    let end = run.screen(SIZES[1]);
    assert!(end.contains("can't go to the next erroneous image: none comes after this row"), "{end}");
    run.press("v g n N");
    assert!(run.screen(SIZES[1]).contains("none comes before this row"));
}

#[test]
fn a_filter_is_applied_while_it_is_typed_and_says_where_it_is_wrong() {
    let mut run = Recorded::open("4");
    run.press("/");
    run.type_text("class ~ o and confidenc < 0.5");
    run.snapshots("report_filter_error");
    for _ in 0.." < 0.5".len() {
        run.press("backspace");
    }
    run.type_text("e < 50%");
    run.press("enter");
    run.snapshots("report_filter");
    run.press("esc");
    assert!(run.screen(SIZES[0]).contains("rows 40"), "Esc takes the filter away");
}

#[test]
fn sorting_keeps_the_row_under_the_cursor() {
    let mut run = Recorded::open("4");
    run.press("j j j j j");
    let image = |text: &str| {
        let line = text.lines().find(|line| line.contains('▸')).unwrap().to_string();
        line.split_whitespace().nth(1).unwrap().to_string()
    };
    let before = image(&run.screen(SIZES[0]));
    run.press("s s S");
    let text = run.screen(SIZES[0]);
    assert_eq!(image(&text), before);
    assert!(text.contains("Optimized▾"), "{text}");
}

#[test]
fn pairs_lead_to_their_images() {
    let mut run = Recorded::open("4");
    run.press("x");
    run.snapshots("report_pairs");
    run.press("enter");
    let text = run.screen(SIZES[0]);
    assert!(text.contains("/ parent = \"") && text.contains("\" and class = \""), "{text}");
    assert!(text.contains(" of 40"), "{text}");
    run.press("] ]");
    run.press("x");
    assert!(run.screen(SIZES[0]).contains("tensor distance knows no classes"));
}

#[test]
fn what_is_shown_is_exported_as_it_is_shown() {
    let mut run = Recorded::open("4");
    run.press("v s s s s s S");
    let effects = run.press("e");
    let [Effect::Report(ReportEffect::Export { rows, format, path, .. })] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!((rows.len(), *format, path), (6, Format::Csv, &run.file("predictions.shown.csv")));
    let effects = run.press("E ctrl-e");
    assert_eq!(effects.len(), 2);
    assert!(
        matches!(&run.press("y")[..], [Effect::Copy(path)] if path.ends_with(".jpg") || path.ends_with(".png"))
    );
}

#[test]
fn reports_that_are_not_there_say_why() {
    let mut run = Recorded::open("1");
    std::fs::remove_file(run.file("annotations.json")).unwrap();
    std::fs::write(run.file("tensor_distance.json"), "[{]").unwrap();
    let directory = run.folder.path().to_path_buf();
    run.tell(Msg::Report(report::Msg::Loaded(directory.clone(), Box::new(report::load(&directory)))));
    run.press("4 ]");
    let text = run.screen(SIZES[0]);
    assert!(text.contains("There is no such report of this run: the run was not asked for it."), "{text}");
    run.press("e");
    assert!(run.screen(SIZES[0]).contains("the run was not asked for it"));
    run.press("]");
    assert!(run.screen(SIZES[1]).contains("the stored rows of tensor_distance can't be read"));
}

#[test]
fn the_picture_comes_once_the_cursor_has_rested_and_only_then() {
    let mut run = Recorded::open("4");
    run.tell(Msg::Resize(120, 40));
    let before = run.press("j j j");
    assert!(before.is_empty());
    assert!(run.app.report.picture().is_none(), "nothing is made while keys are pressed");
    run.rest();
    let picture = run.app.report.picture().unwrap();
    assert_eq!(picture.image.width(), u32::from(picture.size.0));
    let coloured = |buffer: &ratatui::buffer::Buffer| {
        buffer.content.iter().filter(|cell| cell.symbol() == "▀" && matches!(cell.fg, Color::Rgb(..))).count()
    };
    let cells = usize::from(picture.size.0) * usize::from(picture.size.1);
    assert_eq!(coloured(&draw(&mut run.app, (120, 40))), cells);
    run.press("j");
    assert_eq!(coloured(&draw(&mut run.app, (120, 40))), 0, "the old picture is not that of the new row");
    run.rest();
    assert!(coloured(&draw(&mut run.app, (120, 40))) > 0);
    let original = run.app.report.picture().unwrap().pixels;
    run.press("o");
    run.rest();
    let network = run.app.report.picture().unwrap().pixels;
    assert_eq!(network, (112, 112));
    assert_ne!(original, network);
    run.press("p");
    assert_eq!(coloured(&draw(&mut run.app, (120, 40))), 0);
}

#[test]
fn a_protocol_paints_over_the_cells_that_the_view_leaves_and_nothing_covers_it() {
    let mut run = Recorded::open("4");
    run.app.images.decision.protocol = Protocol::Kitty;
    run.tell(Msg::Resize(120, 40));
    run.rest();
    let want = report::want(&run.app).unwrap();
    assert!(want.rect.bottom() < 39, "{:?}", want.rect);
    let buffer = draw(&mut run.app, (120, 40));
    assert!(want.rect.positions().all(|position| buffer[position].symbol() == " "));
    for keys in ["?", ":", "M"] {
        run.press(keys);
        assert_eq!(report::want(&run.app), None, "{keys} lies over it");
        run.press("esc");
        assert_eq!(report::want(&run.app), Some(want));
    }
    run.press("3");
    assert_eq!(report::want(&run.app), None, "another tab is in front");
}

#[test]
fn an_image_that_is_gone_says_so_in_its_place() {
    let mut run = Recorded::open("4");
    run.tell(Msg::Resize(120, 40));
    let text = run.screen(SIZES[1]);
    assert!(text.contains('▀'), "{text}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("other.png"), b"no image").unwrap();
    let plan = format!("dataset: {{path: {}}}\npreprocess: unit\n", folder.path().display());
    std::fs::write(run.file("run.yaml"), plan).unwrap();
    let directory = run.folder.path().to_path_buf();
    run.tell(Msg::Report(report::Msg::Loaded(directory.clone(), Box::new(report::load(&directory)))));
    run.press("j");
    let text = run.screen(SIZES[1]);
    assert!(text.contains("eval_0001.jpg: cannot be opened") || text.contains("No such file"), "{text}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 24, ..Default::default() })]
    #[test]
    fn random_keys_over_a_run_at_random_sizes_never_panic(
        steps in proptest::collection::vec(
            (proptest::prelude::any::<proptest::sample::Index>(), 1u16..140, 1u16..50), 1..40),
        tab in 3u8..5,
    ) {
        let keys: Vec<String> = calib8::tui::action::specs()
            .flat_map(|spec| spec.keys.iter().map(|key| (*key).to_string()))
            .chain("enter esc backspace a = ~ < 0 \" ( p é 日".split(' ').map(String::from))
            .collect();
        let mut run = Recorded::open(&tab.to_string());
        for (key, width, height) in steps {
            let key: &String = key.get(&keys);
            run.press(key);
            run.app.exit = None;
            run.screen((width, height));
        }
    }
}
