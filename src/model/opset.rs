//! Raising a model to operator set 13, the first with quantization per channel.
//!
//! Only operators whose form or meaning changed between 7 and 13 need work; the list follows the
//! ONNX change log (github.com/onnx/onnx/blob/main/docs/Changelog.md).

use tract_onnx::pb::{AttributeProto, NodeProto, OperatorSetIdProto, TensorProto};

use super::{
    Model, ModelError,
    graph::{self, attr_int, attr_str, attribute, node, tensor, with_int},
    printable,
    rewrite::{self, Names},
    shapes::{self, Shapes},
};

/// The operator set that [`upgrade_opset`] raises to.
pub const TARGET: i64 = 13;

/// The first IR version that may hold [`TARGET`].
const TARGET_IR: i64 = 7;

/// Raises a model below operator set 13 to it, and leaves newer ones as they are. Returns how many
/// nodes changed their form.
///
/// # Errors
/// [`ModelError::Node`] for an operator whose meaning changed and that can't be converted.
pub fn upgrade_opset(model: &mut Model) -> Result<usize, ModelError> {
    let version = model.opset();
    if version >= TARGET {
        return Ok(0);
    }
    let mut upgrade = Upgrade {
        version,
        names: Names::new(model.graph()),
        initializers: Vec::new(),
        shapes: None,
        converted: 0,
    };
    upgrade.all(model, Upgrade::node)?;
    model.proto.opset_import.retain(|o| !graph::is_default_domain(&o.domain));
    let import = OperatorSetIdProto { domain: String::new(), version: TARGET };
    model.proto.opset_import.insert(0, import);
    model.proto.ir_version = model.proto.ir_version.max(TARGET_IR);
    // Last, because it needs shapes, and tract does not know all old forms.
    upgrade.all(model, Upgrade::softmax)?;
    Ok(upgrade.converted)
}

/// Operators that [`Upgrade::node`] may have to change.
const CHANGED: [&str; 17] = [
    "BatchNormalization",
    "Clip",
    "Dropout",
    "Hardmax",
    "LogSoftmax",
    "Pad",
    "ReduceSum",
    "Resize",
    "Scan",
    "Scatter",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "TopK",
    "Unsqueeze",
    "Upsample",
];

struct Upgrade {
    version: i64,
    names: Names,
    initializers: Vec<TensorProto>,
    /// Inferred when the first node needs them.
    shapes: Option<Shapes>,
    converted: usize,
}

type Step = fn(&mut Upgrade, &Model, NodeProto) -> Result<Vec<NodeProto>, String>;

impl Upgrade {
    /// Replaces each node of the graph by what `step` makes of it.
    fn all(&mut self, model: &mut Model, step: Step) -> Result<(), ModelError> {
        let mut nodes = Vec::with_capacity(model.graph().node.len());
        for old in &model.graph().node {
            nodes.extend(step(self, model, old.clone()).map_err(|what| ModelError::Node {
                path: model.path.clone(),
                node: printable(&old.name).into_owned(),
                op_type: printable(&old.op_type).into_owned(),
                what: format!("{what}; export the model with opset_version={TARGET} or newer"),
            })?);
        }
        if let Some(graph) = model.proto.graph.as_mut() {
            graph.node = nodes;
            graph.initializer.append(&mut self.initializers);
        }
        Ok(())
    }

    /// The nodes that take the place of `old`, or why there are none.
    fn node(&mut self, _: &Model, mut old: NodeProto) -> Result<Vec<NodeProto>, String> {
        if let Some(inner) = rewrite::subgraphs(&old).flat_map(|g| &g.node).find(|n| holds_changed(n)) {
            return Err(format!(
                "its subgraph holds '{}' ({}), whose form in operator set {} differs from {TARGET}",
                printable(&inner.name),
                inner.op_type,
                self.version
            ));
        }
        if !graph::is_default_domain(&old.domain) {
            return Ok(vec![old]);
        }
        let before = old.clone();
        match (old.op_type.as_str(), self.version) {
            ("BatchNormalization", ..9) => {
                if attr_int(&old, "spatial") == Some(0) {
                    return Err(format!(
                        "spatial=0 of operator set {} has no form in {TARGET}",
                        self.version
                    ));
                }
                take(&mut old, "spatial");
            }
            ("Clip", ..11) => self.clip(&mut old),
            ("Dropout", ..12) => drop(take(&mut old, "ratio")),
            ("Pad", ..11) => self.pad(&mut old)?,
            ("ReduceSum" | "Squeeze" | "Unsqueeze", ..13) => self.ints_to_input(&mut old, "axes", 1),
            ("Resize", ..11) | ("Upsample", _) => self.resize(&mut old)?,
            ("Scan", ..9) => {
                return Err(format!("Scan of operator set {} has no form in {TARGET}", self.version));
            }
            ("Scatter", ..11) => old.op_type = "ScatterElements".into(),
            ("Slice", ..10) => {
                for (position, name) in ["starts", "ends", "axes"].into_iter().enumerate() {
                    self.ints_to_input(&mut old, name, position + 1);
                }
            }
            ("Split", ..13) => self.ints_to_input(&mut old, "split", 1),
            ("TopK", ..10) => {
                let k = take(&mut old, "k").map_or(1, |a| a.i);
                let name = self.constant(&old.name, "k", tensor("", &[1], &[k]));
                set_input(&mut old, 1, name);
            }
            _ => {}
        }
        self.converted += usize::from(old != before);
        Ok(vec![old])
    }

    fn clip(&mut self, node: &mut NodeProto) {
        for (position, name) in ["min", "max"].into_iter().enumerate() {
            if let Some(limit) = take(node, name) {
                let input = self.constant(&node.name, name, tensor("", &[], &[limit.f]));
                set_input(node, position + 1, input);
            }
        }
    }

    fn pad(&mut self, node: &mut NodeProto) -> Result<(), String> {
        if attribute(node, "pads").is_none() {
            return Err("it has no attribute 'pads'".into());
        }
        self.ints_to_input(node, "pads", 1);
        if let Some(value) = take(node, "value") {
            let input = self.constant(&node.name, "value", tensor("", &[], &[value.f]));
            set_input(node, 2, input);
        }
        Ok(())
    }

    /// Before 11, `Resize` and `Upsample` map coordinates as `x / scale`, rounded down.
    fn resize(&mut self, node: &mut NodeProto) -> Result<(), String> {
        let mode = attr_str(node, "mode").unwrap_or("nearest").to_string();
        if !matches!(mode.as_str(), "nearest" | "linear" | "bilinear") {
            return Err(format!("its mode '{}' has no form in {TARGET}", printable(&mode)));
        }
        let scales = match take(node, "scales") {
            Some(scales) => {
                let values = tensor("", &[scales.floats.len()], &scales.floats);
                self.constant(&node.name, "scales", values)
            }
            None => node.input.get(1).filter(|i| !i.is_empty()).cloned().ok_or("it has no scales")?,
        };
        node.op_type = "Resize".into();
        node.input.truncate(1);
        node.input.extend([String::new(), scales]);
        node.attribute.clear();
        let mode = if mode == "nearest" { "nearest" } else { "linear" };
        let settings =
            [("mode", mode), ("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")];
        for (name, value) in settings {
            node.attribute.push(AttributeProto {
                name: name.into(),
                s: value.into(),
                r#type: tract_onnx::pb::attribute_proto::AttributeType::String as i32,
                ..Default::default()
            });
        }
        Ok(())
    }

    /// Before 13, the dimensions from `axis` on are normalised together, as if flattened.
    fn softmax(&mut self, model: &Model, mut old: NodeProto) -> Result<Vec<NodeProto>, String> {
        if !matches!(old.op_type.as_str(), "Softmax" | "LogSoftmax" | "Hardmax")
            || !graph::is_default_domain(&old.domain)
            || attr_int(&old, "axis") == Some(-1)
        {
            return Ok(vec![old]);
        }
        if self.shapes.is_none() {
            let inferred = shapes::infer(model, 1).map_err(|e| format!("its shape is needed: {e}"))?;
            self.shapes = Some(inferred);
        }
        let input = old.input.first().cloned().unwrap_or_default();
        let shape = self.shapes.as_ref().and_then(|s| s.get(&input)).ok_or("its input has no known shape")?;
        let rank = shape.len() as i64;
        let axis = take(&mut old, "axis").map_or(1, |a| a.i);
        let axis = if axis < 0 { axis + rank } else { axis };
        if !(0..=rank).contains(&axis) {
            return Err(format!("its axis {axis} is outside its input of {rank} dimensions"));
        }
        self.converted += 1;
        let mut wide = (axis..rank).filter(|a| shape[*a as usize] != 1);
        if let (only, None) = (wide.next(), wide.next())
            && axis < rank
        {
            return Ok(vec![with_int(old, "axis", only.unwrap_or(axis))]);
        }
        let [shape, flat, done] =
            ["shape", "flat", "normalised"].map(|s| self.names.fresh(&format!("{}_{s}", old.name)));
        let output = old.output.first().cloned().unwrap_or_default();
        old.input = vec![flat.clone()];
        old.output = vec![done.clone()];
        Ok(vec![
            node("Shape", &shape, &[&input], &[&shape]),
            with_int(node("Flatten", &flat, &[&input], &[&flat]), "axis", axis),
            with_int(old, "axis", -1),
            node("Reshape", &done, &[&done, &shape], &[&output]),
        ])
    }

    /// Moves the attribute `name`, if there, to the input at `position`.
    fn ints_to_input(&mut self, node: &mut NodeProto, name: &str, position: usize) {
        if let Some(values) = take(node, name) {
            let input = self.constant(&node.name, name, tensor("", &[values.ints.len()], &values.ints));
            set_input(node, position, input);
        }
    }

    fn constant(&mut self, node: &str, role: &str, mut value: TensorProto) -> String {
        value.name = self.names.fresh(&format!("{node}_{role}"));
        let name = value.name.clone();
        self.initializers.push(value);
        name
    }
}

fn holds_changed(node: &NodeProto) -> bool {
    CHANGED.contains(&node.op_type.as_str())
        || rewrite::subgraphs(node).flat_map(|g| &g.node).any(holds_changed)
}

fn take(node: &mut NodeProto, name: &str) -> Option<AttributeProto> {
    let position = node.attribute.iter().position(|a| a.name == name)?;
    Some(node.attribute.remove(position))
}

fn set_input(node: &mut NodeProto, position: usize, name: String) {
    if node.input.len() <= position {
        node.input.resize(position + 1, String::new());
    }
    node.input[position] = name;
}

#[cfg(test)]
mod tests;
