//! The table of layers: one line a layer, or a line for all layers of a kind.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::engine::Precision;
use crate::measure::layers::LayerRow;
use crate::model::csv_field;

/// A layer, or all layers of a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerLine {
    /// Name of the layer, or the kind.
    pub name: String,
    /// The kind, or how many layers there are.
    pub kind: String,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Time in the parent, in microseconds; `None` where it has no such layer.
    pub parent_us: Option<f64>,
    /// Time in the optimized model, in microseconds; `None` where it has no such layer.
    pub optimized_us: Option<f64>,
    /// Number format in the optimized model.
    pub runs_in: &'static str,
    /// What explains the time, in a few words.
    pub why: Cow<'static, str>,
}

impl LayerLine {
    /// Time in the parent ÷ time in the optimized model.
    pub fn ratio(&self) -> Option<f64> {
        let (parent, optimized) = (self.parent_us?, self.optimized_us?);
        (parent > 0.0 && optimized > 0.0).then(|| parent / optimized)
    }

    /// Microseconds that the optimization saved.
    pub fn saved_us(&self) -> f64 {
        self.parent_us.unwrap_or(0.0) - self.optimized_us.unwrap_or(0.0)
    }

    /// Whether a filter's words are in it.
    pub fn holds(&self, words: &str) -> bool {
        let text = format!("{} {} {} {}", self.name, self.kind, self.runs_in, self.why).to_lowercase();
        words.to_lowercase().split_whitespace().all(|word| text.contains(word))
    }
}

fn precision(precision: Precision) -> &'static str {
    match precision {
        Precision::Int8 => "INT8",
        Precision::Fp32 => "FP32",
        Precision::Border => "border",
    }
}

/// A line for each layer.
pub fn each(rows: &[LayerRow]) -> Vec<LayerLine> {
    let line = |row: &LayerRow| {
        let runs_in = row.optimized.as_ref().map_or("", |layer| precision(layer.precision));
        let derived = match (&row.parent, &row.optimized) {
            (Some(_), None) => "goes into another layer",
            (None, Some(layer)) if layer.precision == Precision::Border => "changes the number format",
            (None, Some(_)) => "only in the optimized",
            (Some(_), Some(layer)) if layer.precision == Precision::Fp32 => "stays in float",
            (Some(_), Some(_)) if row.ratio.is_some_and(|ratio| ratio < 1.0) => "slower in INT8",
            _ => "",
        };
        let why = row.note.clone().map_or(Cow::Borrowed(derived), Cow::Owned);
        let macs = row.parent.as_ref().or(row.optimized.as_ref()).map_or(0, |layer| layer.macs);
        LayerLine {
            name: row.name.clone(),
            kind: row.kind.clone(),
            macs,
            parent_us: row.parent.as_ref().map(|layer| layer.median_us),
            optimized_us: row.optimized.as_ref().map(|layer| layer.median_us),
            runs_in,
            why,
        }
    };
    rows.iter().map(line).collect()
}

/// A line for all layers of a kind.
pub fn by_kind(rows: &[LayerRow]) -> Vec<LayerLine> {
    let mut kinds: Vec<(usize, LayerLine)> = Vec::new();
    for line in each(rows) {
        let at = kinds.iter().position(|(_, known)| known.name == line.kind).unwrap_or_else(|| {
            let new = LayerLine {
                name: line.kind.clone(),
                kind: String::new(),
                macs: 0,
                parent_us: None,
                optimized_us: None,
                runs_in: line.runs_in,
                why: "".into(),
            };
            kinds.push((0, new));
            kinds.len() - 1
        });
        let (layers, known) = &mut kinds[at];
        *layers += 1;
        known.macs += line.macs;
        let add = |sum: &mut Option<f64>, us: Option<f64>| {
            if let Some(us) = us {
                *sum = Some(sum.unwrap_or(0.0) + us);
            }
        };
        add(&mut known.parent_us, line.parent_us);
        add(&mut known.optimized_us, line.optimized_us);
        known.runs_in = match (known.runs_in, line.runs_in) {
            ("", one) | (one, "") => one,
            (a, b) if a == b => a,
            _ => "mixed",
        };
    }
    let named = |(layers, line): (usize, LayerLine)| {
        let kind = if layers == 1 { "1 layer".to_string() } else { format!("{layers} layers") };
        LayerLine { kind, ..line }
    };
    kinds.into_iter().map(named).collect()
}

/// The lines as a CSV file, numbers unrounded.
pub fn csv(lines: &[LayerLine]) -> String {
    let mut text = String::from("Layer,Kind,MACs,Parent us,Optimized us,Ratio,Saved us,Runs in,Why\n");
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for line in lines {
        let fields = [
            csv_field(&line.name),
            csv_field(&line.kind),
            line.macs.to_string(),
            number(line.parent_us),
            number(line.optimized_us),
            number(line.ratio()),
            line.saved_us().to_string(),
            line.runs_in.to_string(),
            csv_field(&line.why),
        ];
        text += &fields.join(",");
        text.push('\n');
    }
    text
}

/// How two lines are ordered by a column of [`super::view::COLUMNS`].
pub fn order(a: &LayerLine, b: &LayerLine, column: usize) -> Ordering {
    let number = |a: Option<f64>, b: Option<f64>| a.unwrap_or(-1.0).total_cmp(&b.unwrap_or(-1.0));
    match column {
        0 => a.name.cmp(&b.name),
        1 => a.kind.cmp(&b.kind),
        2 => a.macs.cmp(&b.macs),
        3 => number(a.parent_us, b.parent_us),
        4 => number(a.optimized_us, b.optimized_us),
        5 => number(a.ratio(), b.ratio()),
        6 => a.saved_us().total_cmp(&b.saved_us()),
        7 => a.runs_in.cmp(b.runs_in),
        _ => a.why.cmp(&b.why),
    }
}

/// How much of the optimized model runs in which number format.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// The format.
    pub runs_in: &'static str,
    /// Layers.
    pub layers: usize,
    /// Share of the time, 0 to 1.
    pub time: f64,
}

/// The formats of the optimized model: INT8, FP32, borders.
pub fn shares(lines: &[LayerLine]) -> Vec<Share> {
    let total: f64 = lines.iter().filter_map(|line| line.optimized_us).sum();
    let share = |runs_in: &'static str| {
        let those =
            || lines.iter().filter(move |line| line.optimized_us.is_some() && line.runs_in == runs_in);
        let time = those().filter_map(|line| line.optimized_us).sum::<f64>() / total.max(f64::MIN_POSITIVE);
        Share { runs_in, layers: those().count(), time }
    };
    ["INT8", "FP32", "border"].into_iter().map(share).filter(|share| share.layers > 0).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::measure::layers::LayerTime;

    fn layer(kind: &str, precision: Precision, median_us: f64) -> Option<LayerTime> {
        Some(LayerTime { name: String::new(), kind: kind.into(), precision, macs: 10, median_us })
    }

    fn rows() -> Vec<LayerRow> {
        let row = |name: &str, kind: &str, parent, optimized, ratio| LayerRow {
            name: name.into(),
            kind: kind.into(),
            parent,
            optimized,
            ratio,
            parent_share: None,
            optimized_share: None,
            note: None,
        };
        let (fp32, int8) = (Precision::Fp32, Precision::Int8);
        vec![
            row("a", "Conv", layer("Conv", fp32, 90.0), layer("Conv", int8, 30.0), Some(3.0)),
            row("b", "Conv", layer("Conv", fp32, 10.0), layer("Conv", fp32, 20.0), Some(0.5)),
            row("r", "Relu", layer("Relu", fp32, 5.0), None, None),
            row("q", "Quantize", None, layer("Quantize", Precision::Border, 10.0), None),
        ]
    }

    #[test]
    fn each_line_says_what_became_of_its_layer() {
        let lines = each(&rows());
        let words: Vec<_> = lines.iter().map(|line| (line.runs_in, line.why.as_ref())).collect();
        let expected = [
            ("INT8", ""),
            ("FP32", "stays in float"),
            ("", "goes into another layer"),
            ("border", "changes the number format"),
        ];
        assert_eq!(words, expected);
        let saved: Vec<f64> = lines.iter().map(LayerLine::saved_us).collect();
        assert_eq!(saved, [60.0, -10.0, 5.0, -10.0]);
        assert_eq!(lines[2].ratio(), None);
        assert!(lines[1].holds("CONV float") && !lines[1].holds("conv int8"));
    }

    #[test]
    fn kinds_add_up() {
        let kinds = by_kind(&rows());
        assert_eq!(kinds.len(), 3);
        let conv = &kinds[0];
        assert_eq!((conv.name.as_str(), conv.kind.as_str(), conv.runs_in), ("Conv", "2 layers", "mixed"));
        assert_eq!((conv.parent_us, conv.optimized_us, conv.ratio()), (Some(100.0), Some(50.0), Some(2.0)));
        let saved = |lines: &[LayerLine]| lines.iter().map(LayerLine::saved_us).sum::<f64>();
        assert_eq!(saved(&kinds), saved(&each(&rows())));
        assert_eq!(kinds[1].optimized_us, None);
    }

    #[test]
    fn shares_of_the_time_add_up() {
        let shares = shares(&each(&rows()));
        let words: Vec<_> = shares.iter().map(|share| (share.runs_in, share.layers)).collect();
        assert_eq!(words, [("INT8", 1), ("FP32", 1), ("border", 1)]);
        assert!((shares.iter().map(|share| share.time).sum::<f64>() - 1.0).abs() < 1e-9);
        assert_eq!(super::shares(&[]), []);
    }

    #[test]
    fn every_column_orders() {
        let lines = each(&rows());
        for column in 0..9 {
            let mut sorted = lines.clone();
            sorted.sort_by(|a, b| order(a, b, column));
            assert!(sorted.windows(2).all(|pair| order(&pair[0], &pair[1], column).is_le()));
        }
    }
}
