//! One self-contained page: no request leaves it, it reads without JavaScript, on paper, on a phone, in
//! light and dark. Every word that comes from a file is escaped; a policy in the page's head forbids
//! the browser to load anything, should something slip through.
//!
//! [`page`] holds what the page is told, `overview`, `speed`, `hosts`, `tradeoff`, `accuracy` and `facts` write its parts, and `text`
//! rounds numbers and escapes words.

mod accuracy;
mod facts;
mod hosts;
mod overview;
pub mod page;
mod speed;
mod text;
mod tradeoff;

use std::io::{self, Write};

pub use page::{
    Best, Fact, Gate, Host, LayerRow, Load, ModelFacts, Page, Performance, Speedup, Thumbnail, TradeoffPoint,
};

use super::ReportError;
use text::esc;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Writes the page.
///
/// # Errors
/// [`ReportError::Write`].
pub fn render(page: &Page<'_>, out: &mut impl Write) -> Result<(), ReportError> {
    write(page, out).map_err(|source| ReportError::Write { what: "HTML report".into(), source })
}

fn write(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{} · calib8</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        esc(page.title)
    )?;
    overview::header(page, out)?;
    out.write_all(b"<main>\n")?;
    overview::tiles(page, out)?;
    overview::warnings(page, out)?;
    overview::gates(page, out)?;
    speed::throughput(page, out)?;
    hosts::hosts(page, out)?;
    accuracy::changed(page, out)?;
    accuracy::confusions(page, out)?;
    accuracy::annotations(page, out)?;
    accuracy::distances(page, out)?;
    tradeoff::tradeoff(page, out)?;
    speed::layers(page, out)?;
    facts::left_out(page, out)?;
    facts::unusable(page, out)?;
    facts::sheets(page, out)?;
    out.write_all(b"</main>\n")?;
    facts::footer(page, out)?;
    write!(out, "<script>\n{SCRIPT}</script>\n</body>\n</html>\n")
}

#[cfg(test)]
mod sample;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::sample::Sample;
    use super::*;
    use crate::report::{Head, Kind};

    const ALL: [Kind; 3] = [Kind::Predictions, Kind::Annotations, Kind::TensorDistance];

    fn html(page: &Page<'_>) -> String {
        let mut out = Vec::new();
        render(page, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Fails on a tag that is closed in the wrong order or never.
    fn check_nesting(html: &str) {
        let body = html.split_once("</style>").unwrap().1.split_once("<script>").unwrap().0;
        let mut open: Vec<&str> = vec!["html", "head"];
        for tag in body.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').unwrap();
            let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
            match tag {
                _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "at <{tag}>"),
                _ if tag.ends_with('/') || ["img", "input"].contains(&name) => {}
                _ => open.push(name),
            }
        }
        assert_eq!(open, ["html", "body"]);
    }

    #[test]
    fn sets_of_layers_are_listed_from_the_fastest_on() {
        let mut sample = Sample::new(&ALL, Head::Logits);
        sample.tradeoff.reverse();
        let html = html(&sample.page());
        let (fast, slow) = (html.find("<td class=\"name\"></td>"), html.find("conv&lt;1&gt;, "));
        assert!(fast.is_some() && fast < slow, "{fast:?} {slow:?}");
        assert!(html.contains(" and 2 more</td>") && html.matches("<b>taken</b>").count() == 1);
        sample.tradeoff.clear();
        assert!(!self::html(&sample.page()).contains("Accuracy against speed"));
    }

    #[test]
    fn the_page_is_well_formed_and_asks_the_network_for_nothing() {
        let sample = Sample::new(&ALL, Head::Logits);
        let html = html(&sample.page());
        check_nesting(&html);
        for loader in ["http:", "https:", "//", "url(", "@import", "<link rel=\"stylesheet"] {
            let rest = html.replace("// Sorting", "");
            assert!(!rest.contains(loader), "{loader}");
        }
        assert!(html.contains("src=\"data:image/jpeg;base64,/9j/\""));
        assert!(html.contains("default-src 'none'"));
    }

    #[test]
    fn words_from_files_are_escaped_everywhere() {
        let sample = Sample::new(&ALL, Head::Logits);
        let mut page = sample.page();
        page.title = "<img src=x onerror=alert(1)>";
        page.calibration[0].value = "\"><b>".into();
        page.gates[0].name = "<hr>".into();
        let html = html(&page);
        check_nesting(&html);
        assert_eq!(html.matches("<script").count(), 1);
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(html.contains("<h1>&lt;img src=x onerror=alert(1)&gt;</h1>"));
        assert!(html.contains("a &amp; b &lt;i&gt;.jpg"));
        assert!(html.contains("mobilenet &lt;v2&gt;.onnx") && html.contains("href=\"./100%20%25.csv\""));
    }

    #[test]
    fn the_page_says_what_matters() {
        let sample = Sample::new(&ALL, Head::Logits);
        let html = html(&sample.page()).replace('\u{a0}', " ");
        for words in [
            "3.23× faster",
            "95 % interval 3.19 – 3.27×",
            "102 → 331 FPS",
            "14.0 MB → 3.66 MB",
            "52 of 53 layers in INT8",
            "✗ 1 of 3 gates failed",
            "0.958×",
            "softmax was applied",
            "1 image failed",
            "not a JPEG file",
            "optimized output &#39;prob&#39; is NaN",
            "3 more changed images",
            "show all 54 layers",
            "SQNR alone, dB",
            "21.8",
            "12 calibration images are also",
            "openvino: not measured: libopenvino_c was not found",
            "Best throughput",
            "over the limit",
            "Load and memory",
            "limited by memory traffic",
        ] {
            assert!(html.contains(words), "{words}");
        }
        assert_eq!(html.matches("<article").count(), 12);
    }

    #[test]
    fn a_slower_model_is_said_loudly_and_noise_is_named() {
        let sample = Sample::new(&ALL, Head::Logits);
        let mut page = sample.page();
        page.speedup.remove(0);
        page.speedup.swap(0, 1);
        assert!(html(&page).contains("<strong class=\"bad\">slower: 0.958× the speed</strong>"));
        page.speedup[0].high = 1.1;
        let html = html(&page);
        assert!(html.contains("no measurable difference") && html.contains("not distinguishable from 1"));
    }

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        let sample = Sample::new(&ALL, Head::NotAClassifier);
        let mut page = sample.page();
        (page.speedup, page.performance, page.layers, page.gates) = (vec![], vec![], vec![], vec![]);
        let html = html(&page);
        check_nesting(&html);
        assert!(html.contains("the model&#39;s first output is not a vector of class scores"));
        assert!(html.contains("not measured") && !html.contains("<h2>Layers"));
        assert!(html.contains("Tensor distance to the parent"));
    }
}
