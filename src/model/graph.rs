//! A small vocabulary over `GraphProto`: who makes a tensor, who reads it, what a node's
//! attributes say, tensors to and from arrays.

use std::borrow::Cow;
use std::collections::HashMap;

use ndarray::ArrayD;
use tract_onnx::pb::{
    self, AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_proto::DataType,
};

use super::{Dim, Port};

/// Who makes and who reads each tensor of a graph, by position of the node.
#[derive(Debug, Default)]
pub struct Index {
    producer: HashMap<String, usize>,
    consumers: HashMap<String, Vec<usize>>,
    initializer: HashMap<String, usize>,
    outputs: Vec<String>,
}

impl Index {
    /// Indexes `graph`. Rebuild it after every change of the graph.
    pub fn new(graph: &GraphProto) -> Index {
        let mut index = Index::default();
        for (position, node) in graph.node.iter().enumerate() {
            for output in node.output.iter().filter(|o| !o.is_empty()) {
                index.producer.insert(output.clone(), position);
            }
            for input in super::rewrite::reads(node) {
                index.consumers.entry(input.into()).or_default().push(position);
            }
        }
        for (position, tensor) in graph.initializer.iter().enumerate() {
            index.initializer.insert(tensor.name.clone(), position);
        }
        index.outputs = graph.output.iter().map(|o| o.name.clone()).collect();
        index
    }

    /// Position of the node that makes `tensor`.
    pub fn producer(&self, tensor: &str) -> Option<usize> {
        self.producer.get(tensor).copied()
    }

    /// Positions of the nodes that read `tensor`, once per use; uses inside a subgraph count for the
    /// node that has it.
    pub fn consumers(&self, tensor: &str) -> &[usize] {
        self.consumers.get(tensor).map_or(&[], Vec::as_slice)
    }

    /// Position of the initializer named `tensor`.
    pub fn initializer(&self, tensor: &str) -> Option<usize> {
        self.initializer.get(tensor).copied()
    }

    /// Whether `tensor` is an output of the graph.
    pub fn is_output(&self, tensor: &str) -> bool {
        self.outputs.iter().any(|o| o == tensor)
    }
}

/// The tensors that are known before the model runs: initializers, and `value` of `Constant` nodes.
pub fn constants(graph: &GraphProto) -> HashMap<&str, &TensorProto> {
    let made = graph.node.iter().filter(|n| n.op_type == "Constant" && is_default_domain(&n.domain));
    let made = made.filter_map(|n| Some((n.output.first()?.as_str(), attribute(n, "value")?.t.as_ref()?)));
    graph.initializer.iter().map(|t| (t.name.as_str(), t)).chain(made).collect()
}

/// Whether `domain` names the operators of ONNX itself.
pub fn is_default_domain(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Version of the default operator set; 1 if the file names none.
pub fn opset(model: &pb::ModelProto) -> i64 {
    model.opset_import.iter().find(|o| is_default_domain(&o.domain)).map_or(1, |o| o.version)
}

/// What a `ValueInfoProto` declares.
pub fn port(value: &ValueInfoProto) -> Port {
    use pb::tensor_shape_proto::dimension::Value;
    let tensor =
        value.r#type.as_ref().and_then(|t| t.value.as_ref()).map(|pb::type_proto::Value::TensorType(t)| t);
    let dims = tensor.and_then(|t| t.shape.as_ref()).map(|s| {
        s.dim
            .iter()
            .map(|d| match &d.value {
                Some(Value::DimValue(n)) if *n > 0 => Dim::Fixed(*n as usize),
                Some(Value::DimParam(s)) => Dim::Symbol(s.clone()),
                _ => Dim::Symbol(String::new()),
            })
            .collect()
    });
    Port {
        name: value.name.clone(),
        elem_type: tensor.map_or(0, |t| t.elem_type),
        dims: dims.unwrap_or_default(),
    }
}

/// Declares an input or output: its name, ONNX element type (1 is float), and dimensions, each a
/// number or the name of a symbol.
pub fn value(name: &str, elem_type: i32, dims: &[&str]) -> ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |d: &&str| match d.parse() {
        Ok(n) => Value::DimValue(n),
        Err(_) => Value::DimParam(d.to_string()),
    };
    let dim = |d: &&str| Dimension { value: Some(dim(d)), ..Default::default() };
    let shape = Some(pb::TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = pb::type_proto::Tensor { elem_type, shape };
    let r#type =
        pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
}

/// Attribute `name` of `node`.
pub fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// Integer attribute, if present.
pub fn attr_int(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name).map(|a| a.i)
}

/// Float attribute, if present.
pub fn attr_float(node: &NodeProto, name: &str) -> Option<f32> {
    attribute(node, name).map(|a| a.f)
}

/// List of integers, if present.
pub fn attr_ints<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    attribute(node, name).map(|a| a.ints.as_slice())
}

/// String attribute, if present and UTF-8.
pub fn attr_str<'a>(node: &'a NodeProto, name: &str) -> Option<&'a str> {
    attribute(node, name).and_then(|a| std::str::from_utf8(&a.s).ok())
}

/// A node; attributes are added with [`with_int`] and its siblings.
pub fn node(op_type: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op_type.into(),
        name: name.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        ..Default::default()
    }
}

/// Adds an integer attribute.
pub fn with_int(mut node: NodeProto, name: &str, value: i64) -> NodeProto {
    let attribute = AttributeProto {
        name: name.into(),
        i: value,
        r#type: AttributeType::Int as i32,
        ..Default::default()
    };
    node.attribute.push(attribute);
    node
}

/// Adds a list of integers.
pub fn with_ints(mut node: NodeProto, name: &str, values: &[i64]) -> NodeProto {
    let attribute = AttributeProto {
        name: name.into(),
        ints: values.to_vec(),
        r#type: AttributeType::Ints as i32,
        ..Default::default()
    };
    node.attribute.push(attribute);
    node
}

/// Adds a float attribute.
pub fn with_float(mut node: NodeProto, name: &str, value: f32) -> NodeProto {
    let attribute = AttributeProto {
        name: name.into(),
        f: value,
        r#type: AttributeType::Float as i32,
        ..Default::default()
    };
    node.attribute.push(attribute);
    node
}

/// Adds a tensor attribute.
pub fn with_tensor(mut node: NodeProto, name: &str, value: TensorProto) -> NodeProto {
    let attribute = AttributeProto {
        name: name.into(),
        t: Some(value),
        r#type: AttributeType::Tensor as i32,
        ..Default::default()
    };
    node.attribute.push(attribute);
    node
}

/// Element types that [`to_array`] and [`tensor`] move between ONNX and arrays.
pub trait Element: Copy + Default + 'static {
    /// The ONNX number of this type.
    const DATA_TYPE: DataType;
    /// Reads the typed field of a tensor, which is used when `raw_data` is empty.
    fn typed(tensor: &TensorProto) -> Vec<Self>;
    /// Elements from their little-endian bytes, without a rest that is none.
    fn all_from_le(bytes: &[u8]) -> Vec<Self>;
    /// The little-endian bytes of elements.
    fn all_to_le(values: &[Self]) -> Vec<u8>;
}

macro_rules! element {
    ($type:ty, $data_type:ident, $field:ident) => {
        impl Element for $type {
            const DATA_TYPE: DataType = DataType::$data_type;
            fn typed(tensor: &TensorProto) -> Vec<Self> {
                tensor.$field.iter().map(|v| *v as $type).collect()
            }
            fn all_from_le(bytes: &[u8]) -> Vec<Self> {
                let (words, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
                words.iter().map(|word| <$type>::from_le_bytes(*word)).collect()
            }
            fn all_to_le(values: &[Self]) -> Vec<u8> {
                let mut bytes = vec![0; size_of_val(values)];
                let (words, _) = bytes.as_chunks_mut::<{ size_of::<$type>() }>();
                for (word, value) in words.iter_mut().zip(values) {
                    *word = value.to_le_bytes();
                }
                bytes
            }
        }
    };
}
element!(f32, Float, float_data);
element!(f64, Double, double_data);
element!(i8, Int8, int32_data);
element!(u8, Uint8, int32_data);
element!(i32, Int32, int32_data);
element!(i64, Int64, int64_data);

/// The values of a tensor as an array in C order, or `None` if it holds another type, external
/// data, or a number of elements that its shape does not have.
pub fn to_array<T: Element>(tensor: &TensorProto) -> Option<ArrayD<T>> {
    if tensor.data_type != T::DATA_TYPE as i32 || tensor.data_location == Some(1) {
        return None;
    }
    let shape: Vec<usize> = tensor.dims.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<_>>()?;
    let values = if tensor.raw_data.is_empty() { T::typed(tensor) } else { T::all_from_le(&tensor.raw_data) };
    ArrayD::from_shape_vec(shape, values).ok()
}

/// The values of an array in C order, copied only where they do not lie so.
pub fn in_order<T: Copy>(array: &ArrayD<T>) -> Cow<'_, [T]> {
    array.as_slice().map_or_else(|| array.iter().copied().collect(), Cow::Borrowed)
}

/// A tensor named `name` of the given shape, C order, stored raw.
pub fn tensor<T: Element>(name: &str, shape: &[usize], values: &[T]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: shape.iter().map(|d| *d as i64).collect(),
        data_type: T::DATA_TYPE as i32,
        raw_data: T::all_to_le(values),
        ..Default::default()
    }
}
