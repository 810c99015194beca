//! Which layers did not get faster, and why; how much of a model runs in which number format.

use serde::{Deserialize, Serialize};

use super::layers::{LayerRow, LayerTime};
use crate::engine::Precision;
use crate::engine::builtin::Unfused;

/// A layer counts as faster from this ratio on; single layers are timed less exactly than models.
const FASTER: f64 = 1.1;

/// What runs in one number format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FormatShare {
    /// The format; `border` is conversions between the others.
    pub precision: Precision,
    /// Layers in it.
    pub layers: usize,
    /// Multiply-accumulates of one inference in it.
    pub macs: u64,
    /// Time of one inference in it, in microseconds.
    pub median_us: f64,
    /// Share (0 to 1) of the model's time.
    pub share: f64,
}

/// How a model's work is spread over the number formats, those that occur in it.
pub fn formats(layers: &[LayerTime]) -> Vec<FormatShare> {
    let total: f64 = layers.iter().map(|layer| layer.median_us).sum();
    let of = |precision: Precision| {
        let here: Vec<&LayerTime> = layers.iter().filter(|layer| layer.precision == precision).collect();
        let median_us: f64 = here.iter().map(|layer| layer.median_us).sum();
        (!here.is_empty()).then(|| FormatShare {
            precision,
            layers: here.len(),
            macs: here.iter().map(|layer| layer.macs).sum(),
            median_us,
            share: if total > 0.0 { median_us / total } else { 0.0 },
        })
    };
    [Precision::Int8, Precision::Fp32, Precision::Border].into_iter().filter_map(of).collect()
}

/// Writes into each row that did not get faster why that is so. `unfused` are the operators of the
/// optimized model that do not run in INT8.
pub fn explain(rows: &mut [LayerRow], unfused: &[Unfused]) {
    let int8 =
        rows.iter().filter_map(|row| row.optimized.as_ref()).filter(|o| o.precision == Precision::Int8);
    let fastest = int8.filter_map(LayerTime::gmac_per_s).fold(0.0, f64::max);
    for row in rows {
        row.note = why(row, unfused, fastest);
    }
}

fn why(row: &LayerRow, unfused: &[Unfused], fastest: f64) -> Option<String> {
    let Some(optimized) = &row.optimized else {
        return Some("done inside another layer of the optimized model".into());
    };
    if optimized.precision == Precision::Border {
        return Some("conversion between FP32 and INT8, or of the layout".into());
    }
    let slow = row.ratio.is_some_and(|ratio| ratio < FASTER);
    if !slow {
        return None;
    }
    if optimized.precision == Precision::Fp32 {
        let reason = unfused.iter().find(|u| u.node == row.name).map(|u| u.reason.clone());
        return Some(match reason {
            Some(reason) => format!("runs in FP32, not fused: {reason}"),
            None => "runs in FP32, as it was not quantized".into(),
        });
    }
    Some(match optimized.gmac_per_s() {
        Some(rate) => format!(
            "{rate:.1} GMAC/s, where the fastest INT8 layer reaches {fastest:.1}: limited by memory traffic or by \
             its small size"
        ),
        None => "moves data without multiplying: limited by memory traffic".into(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::measure::layers::join;

    fn layer(name: &str, precision: Precision, macs: u64, median_us: f64) -> LayerTime {
        LayerTime { name: name.into(), kind: "Conv".into(), precision, macs, median_us }
    }

    #[test]
    fn what_did_not_get_faster_says_why() {
        let fp32 = |name, macs| layer(name, Precision::Fp32, macs, 100.0);
        let parent =
            [fp32("fast", 9_000_000), fp32("small", 90_000), fp32("add", 0), fp32("odd", 9), fp32("gone", 0)];
        let optimized = [
            layer("quantize", Precision::Border, 0, 5.0),
            layer("fast", Precision::Int8, 9_000_000, 30.0),
            layer("small", Precision::Int8, 90_000, 95.0),
            layer("add", Precision::Int8, 0, 99.0),
            layer("odd", Precision::Fp32, 9, 100.0),
        ];
        let mut rows = join(&parent, &optimized);
        explain(&mut rows, &[]);
        let note =
            |name: &str| rows.iter().find(|r| r.name == name).unwrap().note.clone().unwrap_or_default();
        assert_eq!(note("fast"), "");
        assert!(note("small").starts_with("0.9 GMAC/s, where the fastest INT8 layer reaches 300.0"));
        assert!(note("add").contains("memory traffic"));
        assert_eq!(note("odd"), "runs in FP32, as it was not quantized");
        assert!(note("gone").contains("inside another layer"));
        assert!(note("quantize").starts_with("conversion"));
    }

    #[test]
    fn shares_of_the_formats_add_up() {
        let layers = [
            layer("a", Precision::Int8, 10, 60.0),
            layer("b", Precision::Int8, 5, 20.0),
            layer("c", Precision::Border, 0, 20.0),
        ];
        let found = formats(&layers);
        let expected = |precision, layers, macs, median_us, share| FormatShare {
            precision,
            layers,
            macs,
            median_us,
            share,
        };
        assert_eq!(
            found,
            [expected(Precision::Int8, 2, 15, 80.0, 0.8), expected(Precision::Border, 1, 0, 20.0, 0.2),]
        );
        assert!(formats(&[]).is_empty());
    }
}
