#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::report::{Outcome, Prediction, PredictionRow};

const CLASSES: [&str; 4] = ["Norfolk terrier", "Norwich terrier", "tench, Tinca tinca", "cowboy boot"];

fn row(image: &str, parent: u32, optimized: u32, confidence: f64) -> PredictionRow {
    let outcome = Outcome::Measured(Prediction {
        class_optimized: optimized,
        class_parent: parent,
        rank_of_parent_class: u64::from(parent != optimized),
        confidence_optimized: confidence,
        confidence_optimized_in_parent: confidence / 2.0,
        confidence_parent: 1.0 - confidence,
        margin: 0.0,
        kl: 0.25,
        erroneous: parent != optimized,
        top5_parent: Vec::new(),
        top5_optimized: Vec::new(),
    });
    PredictionRow { image: image.into(), label: None, outcome }
}

fn sheet() -> Sheet {
    let failed = PredictionRow {
        image: "x/broken.jpg".into(),
        label: Some(2),
        outcome: Outcome::Failed { failed: "truncated, at byte 7".into() },
    };
    let rows = [
        row("a/dog 1.jpg", 0, 1, 0.4),
        row("a/dog 2.jpg", 1, 1, 0.9),
        row("b/fish.jpg", 2, 2, 0.6),
        row("b/boot.jpg", 3, 0, 0.3),
        failed,
    ];
    Sheet::new(rows, CLASSES.map(String::from).to_vec())
}

fn passing(text: &str) -> Vec<usize> {
    let sheet = sheet();
    let filter = Filter::parse(text, &sheet).unwrap();
    (0..sheet.len()).filter(|row| filter.as_ref().is_none_or(|f| f.passes(&sheet, *row))).collect()
}

#[test]
fn filters_keep_the_rows_that_they_name() {
    let cases: &[(&str, &[usize])] = &[
        ("", &[0, 1, 2, 3, 4]),
        ("confidence < 0.5", &[0, 3]),
        ("confidence<=60%", &[0, 2, 3]),
        ("class ~ terrier and rank > 0", &[0, 3]),
        ("class = \"norwich terrier\"", &[0, 1]),
        ("class = tench or parent = 3", &[2, 3]),
        ("class = #2", &[2]),
        ("not class ~ terrier", &[2, 4]),
        ("class !~ terrier and not failed", &[2]),
        ("erroneous", &[0, 3]),
        ("erroneous = no", &[1, 2]),
        ("failed", &[4]),
        ("failed contains 'byte 7'", &[4]),
        ("image ~ DOG and (confidence > .5 or rank >= 1)", &[0, 1]),
        ("parent != 0 AND NOT (parent = 1 or failed)", &[2, 3]),
        ("confidence != 0.4", &[1, 2, 3, 4]),
        ("dog 2", &[1]),
        ("terrier", &[0, 1, 3]),
        ("'tinca'", &[2, 4]),
        ("terrier and rank = 0", &[1]),
        ("class < 2", &[0, 1, 3]),
        ("image >= b", &[2, 3, 4]),
        ("label = tench", &[4]),
        ("!erroneous && !failed", &[1, 2]),
    ];
    for (text, rows) in cases {
        assert_eq!(passing(text), *rows, "{text}");
    }
}

#[test]
fn every_slip_has_its_message() {
    let texts = [
        "confidence < high",
        "confidenc < 0.5",
        "colour = red",
        "class = terrier",
        "class = zebra",
        "class > terrier",
        "rank ~ 3",
        "erroneous > 1",
        "erroneous = maybe",
        "(rank > 0",
        "rank > 0)",
        "rank >",
        "rank > 0 confidence < 1",
        "and rank > 0",
        "rank > 0 and",
        "image = \"dog",
        "= 3",
    ];
    let sheet = sheet();
    let messages: Vec<String> =
        texts.iter().map(|text| Filter::parse(text, &sheet).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(messages.join("\n\n"));
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let text = "(".repeat(100_000);
    assert!(Filter::parse(&text, &sheet()).unwrap_err().message.contains("within each other"));
    let text = "not ".repeat(100_000) + "erroneous";
    assert!(Filter::parse(&text, &sheet()).unwrap_err().message.contains("within each other"));
}

proptest! {
    #[test]
    fn no_text_panics(text in "[ a-z()<>=!~\"'0-9.%and or not class rank]{0,40}|.{0,40}") {
        let sheet = sheet();
        match Filter::parse(&text, &sheet) {
            Ok(filter) => for row in 0..sheet.len() {
                let _ = filter.as_ref().is_none_or(|f| f.passes(&sheet, row));
            },
            Err(error) => {
                prop_assert!(error.at <= text.chars().count());
                prop_assert!(!error.message.is_empty());
                prop_assert!(!error.text.contains(char::is_control));
            }
        }
    }

    #[test]
    fn not_keeps_what_the_filter_does_not(low in 0.0f64..1.0, class in 0u32..4) {
        let sheet = sheet();
        let text = format!("confidence > {low} or class = {class}");
        let one = Filter::parse(&text, &sheet).unwrap().unwrap();
        let other = Filter::parse(&format!("not ({text})"), &sheet).unwrap().unwrap();
        for row in 0..sheet.len() {
            prop_assert!(one.passes(&sheet, row) != other.passes(&sheet, row));
        }
    }
}
