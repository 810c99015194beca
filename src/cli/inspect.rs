//! `calib8 inspect`: what a model holds and what of it can become INT8.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::engine::builtin;
use crate::model::inspect::{Inspection, NodeInfo, PortInfo, inspect};
use crate::model::{Model, check, printable, qoperator, simplify::simplify};
use crate::run::memory::Budget;

/// Show inputs, outputs, operators, size and work of a model, and what can become INT8
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX file
    pub model: PathBuf,
    /// Print JSON, unrounded, with every node
    #[arg(long)]
    pub json: bool,
    /// List every node with its output shape, multiply-accumulates and parameters
    #[arg(long, conflicts_with = "json")]
    pub layers: bool,
}

/// Runs the command; the exit code is 0.
///
/// # Errors
/// The model can't be read, or the page can't be written.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let loaded = Model::load(&args.model)?.with_room(Budget::available().room_for_constants());
    let model = qoperator::as_qdq(&loaded);
    let found = inspect(&model)?;
    let page = if args.json {
        serde_json::to_string_pretty(&found)? + "\n"
    } else {
        let note = match model {
            Cow::Owned(_) => {
                "Written in ONNX Runtime's QOperator format; shown is the QDQ graph that it stands for.\n"
            }
            Cow::Borrowed(_) => "",
        };
        page(&model, &found, args.layers) + note
    };
    super::print(&page)?;
    Ok(0)
}

/// Writing to a `String` can't fail, so the results of `write!` are dropped here.
fn page(model: &Model, found: &Inspection, layers: bool) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", printable(&model.path.display().to_string()));
    let producer = if found.producer.is_empty() { "an unnamed exporter" } else { &found.producer };
    let _ = writeln!(
        out,
        "{} · opset {} · IR {} · by {}\n",
        bytes(found.bytes),
        found.opset,
        found.ir_version,
        printable(producer)
    );
    ports(&mut out, "Inputs", &found.inputs);
    ports(&mut out, "Outputs", &found.outputs);
    let operators: Vec<String> =
        found.operators.iter().map(|(name, count)| format!("{} {count}", printable(name))).collect();
    wrapped(&mut out, "Operators", &operators);
    let _ = writeln!(out, "{:<12}{}", "Parameters", with_unit(found.parameters));
    match (found.macs, &found.shapes_unknown) {
        (Some(macs), _) => {
            let _ = writeln!(out, "{:<12}{} per inference at batch 1", "MACs", with_unit(macs));
        }
        (None, reason) => {
            let reason = reason.as_deref().unwrap_or("shapes are not known");
            let _ = writeln!(out, "{:<12}unknown: {reason}", "MACs");
        }
    }
    out.push('\n');
    precision(&mut out, model, found);
    if layers {
        out.push('\n');
        table(&mut out, &found.nodes);
    }
    out
}

fn ports(out: &mut String, title: &str, ports: &[PortInfo]) {
    for (i, port) in ports.iter().enumerate() {
        let title = if i == 0 { title } else { "" };
        let _ = writeln!(out, "{title:<12}{}  {} {}", printable(&port.name), port.elem_type, port.shape);
    }
}

fn wrapped(out: &mut String, title: &str, items: &[String]) {
    const WIDTH: usize = 88;
    let mut line = format!("{title:<12}");
    for (i, item) in items.iter().enumerate() {
        let item = if i + 1 < items.len() { format!("{item}, ") } else { item.clone() };
        if line.trim_end().chars().count() > 12
            && line.chars().count() + item.trim_end().chars().count() > WIDTH
        {
            let _ = writeln!(out, "{}", line.trim_end());
            line = " ".repeat(12);
        }
        line.push_str(&item);
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

/// What of an INT8 model the built-in engine runs in FP32, and why.
fn unfused(out: &mut String, model: &Model) {
    match builtin::unfused(model) {
        Err(e) => {
            let _ = writeln!(out, "Cannot run: {e}");
        }
        Ok(nodes) if nodes.is_empty() => {
            let _ = writeln!(out, "All its operators run in INT8 in the built-in engine.");
        }
        Ok(nodes) => {
            let _ = writeln!(out, "In FP32 in the built-in engine:");
            for node in nodes {
                let (name, reason) = (printable(&node.node), printable(&node.reason));
                let _ = writeln!(out, "  {name} ({}): {reason}", printable(&node.op_type));
            }
        }
    }
}

/// What can become INT8, of the model as it is quantized: simplified.
fn precision(out: &mut String, model: &Model, found: &Inspection) {
    let unsupported = check::unsupported_operators(model);
    for (name, op_type) in unsupported.iter().take(5) {
        let _ = writeln!(out, "Cannot run: node '{}' ({})", printable(name), printable(op_type));
    }
    if unsupported.len() > 5 {
        let _ = writeln!(out, "Cannot run: {} more nodes", unsupported.len() - 5);
    }
    if let Err(e) = model.image_input() {
        let _ = writeln!(out, "Cannot be calibrated: {e}");
    }
    if found.quantized {
        let _ = writeln!(out, "This model is INT8 already.");
        unfused(out, model);
        return;
    }
    let simplified = match simplify(model).and_then(|s| Ok((inspect(&s.model)?, s.notes))) {
        Ok(simplified) => simplified,
        Err(e) => {
            let _ = writeln!(out, "Cannot be INT8: {e}");
            return;
        }
    };
    let (found, notes) = &simplified;
    if !notes.is_empty() {
        wrapped(out, "Simplified", notes);
    }
    let good: Vec<&NodeInfo> = found.nodes.iter().filter(|n| n.not_quantizable.is_none()).collect();
    let share = match found.macs {
        Some(all @ 1..) => {
            let macs: u64 = good.iter().map(|n| n.macs).sum();
            format!(", {:.1} % of the MACs", macs as f64 / all as f64 * 100.0)
        }
        _ => String::new(),
    };
    let _ = writeln!(out, "Can be INT8: {} of {} nodes{share}", good.len(), found.nodes.len());
    let mut rest: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for node in &found.nodes {
        if let Some(reason) = node.not_quantizable {
            *rest.entry((&node.op_type, reason)).or_default() += 1;
        }
    }
    for ((op_type, reason), count) in rest {
        let _ = writeln!(out, "  {count} {} not: {reason}", printable(op_type));
    }
}

fn table(out: &mut String, nodes: &[NodeInfo]) {
    const NAME: usize = 40;
    let shape = |n: &NodeInfo| n.shape.as_ref().map_or("?".into(), |s| format!("{s:?}"));
    let widths = |f: fn(&NodeInfo) -> usize, least: usize| nodes.iter().map(f).fold(least, usize::max);
    let op_width = widths(|n| printable(&n.op_type).chars().count(), 8);
    let shape_width = nodes.iter().map(|n| shape(n).len()).fold(6, usize::max);
    let _ = writeln!(
        out,
        "{:<op_width$}  {:<shape_width$}  {:>14}  {:>12}  Node",
        "Operator", "Output", "MACs", "Parameters"
    );
    for node in nodes {
        let name = printable(&node.name);
        let short: String = name.chars().take(NAME).collect();
        let dots = if short.len() < name.len() { "…" } else { "" };
        let _ = writeln!(
            out,
            "{:<op_width$}  {:<shape_width$}  {:>14}  {:>12}  {short}{dots}",
            printable(&node.op_type),
            shape(node),
            node.macs,
            node.parameters
        );
    }
}

/// A number with a unit and three significant digits, such as `3.50 M`.
fn with_unit(n: u64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.into_iter().find(|(size, _)| n as f64 >= *size) {
        Some((size, unit)) => format!("{} {unit}", digits(n as f64 / size)),
        None => n.to_string(),
    }
}

fn bytes(n: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|(size, _)| n as f64 >= *size) {
        Some((size, unit)) => format!("{} {unit}", digits(n as f64 / size)),
        None => format!("{n} bytes"),
    }
}

fn digits(value: f64) -> String {
    let places = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.places$}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::{node, tensor, value, with_tensor};
    use crate::model::pb::{GraphProto, ModelProto, OperatorSetIdProto};

    fn model(name: &str) -> Model {
        let nodes = vec![
            with_tensor(node("Constant", "k", &[], &["w"]), "value", tensor("", &[2, 3, 1, 1], &[0.5f32; 6])),
            node("Conv", name, &["x", "w"], &["h"]),
            node("Sigmoid", "s", &["h"], &["y"]),
        ];
        let graph = GraphProto {
            input: vec![value("x", 1, &["N", "3", "8", "8"])],
            output: vec![value("y", 1, &["N", "2", "8", "8"])],
            node: nodes,
            ..Default::default()
        };
        let proto = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
            graph: Some(graph),
            ..Default::default()
        };
        Model::from_proto("small.onnx", proto)
    }

    #[test]
    fn the_page_says_what_the_model_holds() {
        let model = model("conv");
        insta::assert_snapshot!(page(&model, &inspect(&model).unwrap(), true));
    }

    #[test]
    fn control_characters_of_names_do_not_reach_the_terminal() {
        let model = model("evil\u{1b}[2J\u{9b}5n");
        let found = inspect(&model).unwrap();
        let text = page(&model, &found, true);
        let json = crate::cli::escaped_json(&serde_json::to_string_pretty(&found).unwrap()).into_owned();
        for out in [text, json] {
            assert!(out.contains("evil"));
            assert!(!out.chars().any(|c| c.is_control() && c != '\n'), "{out:?}");
        }
    }

    #[test]
    fn numbers_get_three_digits_and_a_unit() {
        assert_eq!(with_unit(999), "999");
        assert_eq!(with_unit(3_504_872), "3.50 M");
        assert_eq!(with_unit(300_774_272), "301 M");
        assert_eq!(bytes(13_975_355), "14.0 MB");
    }
}
