//! Reading the quantization of a QDQ graph: which tensors are quantized and how.

use ndarray::ArrayD;

use super::super::program::Quant;
use crate::model::graph::{self, Index};
use crate::model::pb::{GraphProto, NodeProto, TensorProto};
use crate::model::shapes::Shapes;

/// A graph with what lowering asks of it.
pub(super) struct Qdq<'a> {
    pub graph: &'a GraphProto,
    pub index: Index,
    pub shapes: &'a Shapes,
    /// Version of the ONNX operators.
    pub opset: i64,
    /// Whether anything of it is quantized.
    pub is_quantized: bool,
}

/// Constant s8 weights with a symmetric scale per tensor or per channel of `axis`.
pub(super) struct Weight {
    pub values: ArrayD<i8>,
    pub scales: Vec<f32>,
    pub axis: usize,
}

/// Why a pattern did not match, in words for `calib8 inspect`.
pub(super) type Reason = String;

impl<'a> Qdq<'a> {
    pub fn new(graph: &'a GraphProto, shapes: &'a Shapes, opset: i64) -> Qdq<'a> {
        let is_quantized = graph.node.iter().any(|n| n.op_type == "QuantizeLinear");
        Qdq { graph, index: Index::new(graph), shapes, opset, is_quantized }
    }

    pub fn producer(&self, tensor: &str) -> Option<&'a NodeProto> {
        self.index.producer(tensor).map(|p| &self.graph.node[p])
    }

    pub fn initializer(&self, tensor: &str) -> Option<&'a TensorProto> {
        self.index.initializer(tensor).map(|p| &self.graph.initializer[p])
    }

    pub fn shape(&self, tensor: &str) -> Result<&'a [usize], Reason> {
        self.shapes
            .get(tensor)
            .map(Vec::as_slice)
            .ok_or_else(|| format!("the shape of '{tensor}' is not known"))
    }

    /// Per-tensor scale and zero point of a `QuantizeLinear` or `DequantizeLinear`, in the u8 domain.
    pub fn quant(&self, node: &NodeProto) -> Result<Quant, Reason> {
        let name = node.input.get(1).map_or("", String::as_str);
        let scale = self
            .initializer(name)
            .and_then(graph::to_array::<f32>)
            .ok_or("its scale is not a constant f32")?;
        let [scale] = scale.as_slice().unwrap_or(&[]) else {
            return Err("its activation scale is per channel".into());
        };
        let zero_point = match node.input.get(2).filter(|n| !n.is_empty()) {
            None => 0,
            Some(name) => {
                let tensor = self.initializer(name).ok_or("its zero point is not a constant")?;
                let unsigned = graph::to_array::<u8>(tensor).and_then(|a| a.first().copied());
                let signed = graph::to_array::<i8>(tensor).and_then(|a| a.first().copied());
                match (unsigned, signed) {
                    (Some(z), _) => z,
                    (_, Some(z)) => (i16::from(z) + 128) as u8,
                    _ => return Err("its zero point is neither u8 nor s8".into()),
                }
            }
        };
        if !scale.is_finite() || *scale <= 0.0 {
            return Err(format!("its scale is {scale}"));
        }
        Ok(Quant { scale: *scale, zero_point })
    }

    /// The quantized activation behind `tensor`, if it is made by a `DequantizeLinear` of the result
    /// of a `QuantizeLinear`: the name of the u8 tensor and its parameters.
    pub fn activation(&self, tensor: &str) -> Result<(&'a str, Quant), Reason> {
        let dequantize = self
            .producer(tensor)
            .filter(|n| n.op_type == "DequantizeLinear")
            .ok_or_else(|| format!("its input '{tensor}' is not quantized"))?;
        let quantized = dequantize.input[0].as_str();
        let quantize =
            self.producer(quantized).filter(|n| n.op_type == "QuantizeLinear").ok_or_else(|| {
                format!("its input '{quantized}' is stored as integers but is not made by QuantizeLinear")
            })?;
        let readers = self.index.consumers(quantized);
        let plain = readers.iter().any(|r| self.graph.node[*r].op_type != "DequantizeLinear");
        if plain || self.index.is_output(quantized) {
            return Err(format!("'{quantized}' is also read as integers"));
        }
        self.shape(&quantize.input[0])?;
        self.shape(tensor)?;
        let (to, from) = (self.quant(quantize)?, self.quant(dequantize)?);
        if to != from {
            return Err(format!("'{quantized}' is quantized and dequantized with different parameters"));
        }
        Ok((quantized, from))
    }

    /// Values (C order, in the u8 domain) and parameters of `tensor`, if it is made by a per-tensor
    /// `DequantizeLinear` of a constant; `None` if it is not made from a constant.
    pub fn constant_activation(&self, tensor: &str) -> Option<Result<(Vec<u8>, Quant), Reason>> {
        let dequantize = self.producer(tensor).filter(|n| n.op_type == "DequantizeLinear")?;
        let stored = self.initializer(&dequantize.input[0])?;
        let signed = graph::to_array::<i8>(stored).map(|a| a.mapv(|v| (i16::from(v) + 128) as u8));
        let is_signed = signed.is_some();
        let values = graph::to_array::<u8>(stored).or(signed);
        Some(self.quant(dequantize).and_then(|mut quant| {
            let values = values.ok_or("its constant operand is neither u8 nor s8")?;
            if is_signed && dequantize.input.get(2).is_none_or(String::is_empty) {
                quant.zero_point = 128;
            }
            Ok((values.into_iter().collect(), quant))
        }))
    }

    /// The value of a constant of one element, as stored or quantized.
    pub fn scalar(&self, tensor: &str) -> Option<f32> {
        let plain = self.initializer(tensor).and_then(graph::to_array::<f32>);
        if let Some(values) = plain {
            return values.first().copied().filter(|_| values.len() == 1);
        }
        let (values, quant) = self.constant_activation(tensor)?.ok()?;
        values.first().filter(|_| values.len() == 1).map(|q| quant.dequantize(*q))
    }

    /// Constant quantized weights behind `tensor`: `DequantizeLinear` of an s8 (or u8 with zero
    /// point 128) initializer, zero points symmetric.
    pub fn weight(&self, tensor: &str) -> Result<Weight, Reason> {
        let dequantize = self
            .producer(tensor)
            .filter(|n| n.op_type == "DequantizeLinear")
            .ok_or("its weights are not quantized")?;
        let stored = self.initializer(&dequantize.input[0]).ok_or("its weights are not constant")?;
        let zero_point = dequantize.input.get(2).filter(|n| !n.is_empty()).and_then(|n| self.initializer(n));
        let all = |wanted: i32| match zero_point {
            None => wanted == 0,
            Some(z) => {
                let signed = graph::to_array::<i8>(z).map(|a| a.iter().all(|v| i32::from(*v) == wanted));
                let unsigned = graph::to_array::<u8>(z).map(|a| a.iter().all(|v| i32::from(*v) == wanted));
                signed.or(unsigned).unwrap_or(false)
            }
        };
        let values = if let Some(values) = graph::to_array::<i8>(stored).filter(|_| all(0)) {
            values
        } else if let Some(values) = graph::to_array::<u8>(stored).filter(|_| all(128)) {
            values.mapv(|v| (i16::from(v) - 128) as i8)
        } else {
            return Err("its weights are not symmetric 8-bit integers".into());
        };
        let scales = self
            .initializer(&dequantize.input[1])
            .and_then(graph::to_array::<f32>)
            .ok_or("its weight scale is not a constant f32")?;
        let axis = graph::attr_int(dequantize, "axis").unwrap_or(1);
        let rank = values.ndim() as i64;
        let axis = if axis < 0 { axis + rank } else { axis };
        Ok(Weight { scales: scales.iter().copied().collect(), axis: axis.clamp(0, rank) as usize, values })
    }

    /// The i32 bias behind `tensor` for the given accumulator scales: taken as stored where its
    /// scales are these, rounded from its float value otherwise.
    pub fn bias(&self, tensor: &str, scales: &[f32]) -> Result<Vec<i32>, Reason> {
        if let Some(floats) = self.initializer(tensor).and_then(graph::to_array::<f32>) {
            return quantize_bias(floats.iter().copied(), scales);
        }
        let dequantize = self
            .producer(tensor)
            .filter(|n| n.op_type == "DequantizeLinear")
            .ok_or("its bias is not constant")?;
        let stored = self
            .initializer(&dequantize.input[0])
            .and_then(graph::to_array::<i32>)
            .ok_or("its bias is neither f32 nor i32")?;
        let steps = self
            .initializer(&dequantize.input[1])
            .and_then(graph::to_array::<f32>)
            .ok_or("the scale of its bias is not constant")?;
        let step = |i: usize| steps.get([i]).or(steps.first()).copied().unwrap_or(0.0);
        let near = |a: f32, b: f32| (a - b).abs() <= 1e-5 * b.abs();
        if (0..stored.len()).all(|i| near(step(i), scales[i % scales.len()])) {
            return Ok(stored.iter().copied().collect());
        }
        quantize_bias(stored.iter().enumerate().map(|(i, v)| *v as f32 * step(i)), scales)
    }

    /// Both bounds of a Relu or Clip as real numbers, if `node` is one with constant bounds.
    pub fn clamp(&self, node: &NodeProto) -> Option<(f32, f32)> {
        match node.op_type.as_str() {
            "Relu" => Some((0.0, f32::INFINITY)),
            "Clip" => {
                let bound = |slot: usize, attribute: &str, default: f32| match node
                    .input
                    .get(slot)
                    .filter(|n| !n.is_empty())
                {
                    Some(name) => self.initializer(name).and_then(graph::to_array::<f32>)?.first().copied(),
                    None => Some(graph::attr_float(node, attribute).unwrap_or(default)),
                };
                Some((bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?))
            }
            _ => None,
        }
    }
}

fn quantize_bias(values: impl Iterator<Item = f32>, scales: &[f32]) -> Result<Vec<i32>, Reason> {
    values
        .enumerate()
        .map(|(i, v)| {
            let q = (f64::from(v) / f64::from(scales[i % scales.len()])).round_ties_even();
            if q.abs() <= f64::from(i32::MAX) {
                Ok(q as i32)
            } else {
                Err("its bias does not fit 32 bits".into())
            }
        })
        .collect()
}
