//! Functions of one number: what elementwise operators between two tensors of a graph amount to, when only
//! one of the tensors they read is not a scalar constant. Swish (`x · sigmoid(x)`), HardSwish and GELU are
//! written so, in three to six nodes.
//!
//! Over a quantized tensor such a function has 256 values, whatever it is made of.

use super::graph::{self, Index};
use super::pb::{GraphProto, NodeProto};

/// The longest chain that is followed: no activation function is written with more operators, and a
/// recursion must end.
const DEEPEST: usize = 24;

/// The operators that functions are made of.
pub const OPERATORS: [&str; 26] = [
    "Abs",
    "Add",
    "Clip",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Log",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "PRelu",
    "Pow",
    "Reciprocal",
    "Relu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Tanh",
];

/// A function of one number, evaluated as a runtime would in FP32: every operator rounds once.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    root: Expression,
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    X,
    Constant(f32),
    Unary(Unary, Box<Expression>),
    Binary(Binary, Box<Expression>, Box<Expression>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Unary {
    Clamp { lo: f32, hi: f32 },
    LeakyRelu { alpha: f32 },
    Elu { alpha: f32 },
    HardSigmoid { alpha: f32, beta: f32 },
    HardSwish,
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
    Erf,
    Gelu,
    GeluByTanh,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Abs,
    Neg,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    PRelu,
}

/// The tensor that a [`Function`] is a function of.
#[derive(Debug, Clone, PartialEq)]
pub struct OneTensor<'a> {
    /// Its name.
    pub source: &'a str,
    /// What is computed of each of its elements.
    pub function: Function,
}

impl Function {
    /// `tensor` as a function of one other tensor, through elementwise operators. `is_source` tells where to
    /// stop; a tensor where it says yes is never looked behind. `None` if there is no such function.
    pub fn behind<'a>(
        graph: &'a GraphProto,
        index: &Index,
        tensor: &'a str,
        is_source: &dyn Fn(&str) -> bool,
    ) -> Option<OneTensor<'a>> {
        let mut source = None;
        let root = expression(graph, index, tensor, is_source, &mut source, DEEPEST)?;
        Some(OneTensor { source: source?, function: Function { root } })
    }

    /// The value at `x`.
    pub fn at(&self, x: f32) -> f32 {
        self.root.at(x)
    }

    /// The part of `lo..=hi` outside of which the function hardly changes: by less than half of one of the
    /// 255 steps between its smallest and its largest value there.
    pub fn varying_part(&self, lo: f32, hi: f32) -> (f32, f32) {
        const PARTS: usize = 2048;
        let x = |i: usize| lo + (hi - lo) * (i as f32 / PARTS as f32);
        let values: Vec<f32> = (0..=PARTS).map(|i| self.at(x(i))).collect();
        let extremes = |(low, high): (f32, f32), v: &f32| (low.min(*v), high.max(*v));
        let none = (f32::INFINITY, f32::NEG_INFINITY);
        if values.iter().any(|v| !v.is_finite()) {
            return (lo, hi);
        }
        let (low, high) = values.iter().fold(none, extremes);
        let half_step = (high - low) / 510.0;
        // How many values from an end on lie within half a step.
        let flat = |values: &mut dyn Iterator<Item = &f32>| {
            let mut seen = none;
            let within = values.take_while(|v| {
                seen = extremes(seen, v);
                seen.1 - seen.0 < half_step
            });
            within.count().saturating_sub(1)
        };
        let first = flat(&mut values.iter());
        let last = PARTS - flat(&mut values.iter().rev()).min(PARTS - first);
        (x(first), x(last))
    }
}

impl Expression {
    fn at(&self, x: f32) -> f32 {
        match self {
            Expression::X => x,
            Expression::Constant(c) => *c,
            Expression::Unary(f, a) => f.of(a.at(x)),
            Expression::Binary(f, a, b) => f.of(a.at(x), b.at(x)),
        }
    }
}

impl Unary {
    fn of(self, x: f32) -> f32 {
        let d = f64::from(x);
        match self {
            Unary::Clamp { lo, hi } => x.max(lo).min(hi),
            Unary::LeakyRelu { alpha } if x < 0.0 => alpha * x,
            Unary::LeakyRelu { .. } => x,
            Unary::Elu { alpha } if x < 0.0 => alpha * x.exp_m1(),
            Unary::Elu { .. } => x,
            Unary::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
            Unary::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Unary::Sigmoid => (1.0 / (1.0 + (-d).exp())) as f32,
            Unary::Softplus => (d.max(0.0) + (-d.abs()).exp().ln_1p()) as f32,
            Unary::Softsign => x / (1.0 + x.abs()),
            Unary::Tanh => d.tanh() as f32,
            Unary::Erf => erf(d) as f32,
            Unary::Gelu => (0.5 * d * (1.0 + erf(d * std::f64::consts::FRAC_1_SQRT_2))) as f32,
            Unary::GeluByTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (d + 0.044_715 * d * d * d);
                (0.5 * d * (1.0 + inner.tanh())) as f32
            }
            Unary::Exp => d.exp() as f32,
            Unary::Log => d.ln() as f32,
            Unary::Sqrt => x.sqrt(),
            Unary::Reciprocal => 1.0 / x,
            Unary::Abs => x.abs(),
            Unary::Neg => -x,
        }
    }
}

impl Binary {
    fn of(self, a: f32, b: f32) -> f32 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Pow => f64::from(a).powf(f64::from(b)) as f32,
            Binary::Min => a.min(b),
            Binary::Max => a.max(b),
            Binary::PRelu if a < 0.0 => a * b,
            Binary::PRelu => a,
        }
    }
}

/// The error function within 1.5 · 10⁻⁷ (Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26).
fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let polynomial = series.into_iter().fold(0.0, |sum, c| (sum + c) * t);
    (1.0 - polynomial * (-x * x).exp()).copysign(x)
}

fn expression<'a>(
    graph: &'a GraphProto,
    index: &Index,
    tensor: &'a str,
    is_source: &dyn Fn(&str) -> bool,
    source: &mut Option<&'a str>,
    depth: usize,
) -> Option<Expression> {
    if let Some(at) = index.initializer(tensor) {
        let values = graph::to_array::<f32>(&graph.initializer[at])?;
        return (values.len() == 1).then(|| values.first().map(|v| Expression::Constant(*v)))?;
    }
    if is_source(tensor) {
        return (*source.get_or_insert(tensor) == tensor).then_some(Expression::X);
    }
    let node = &graph.node[index.producer(tensor)?];
    if depth == 0 || node.output.len() != 1 || !graph::is_default_domain(&node.domain) {
        return None;
    }
    let mut operand = |slot: usize| {
        Some(Box::new(expression(graph, index, node.input.get(slot)?, is_source, source, depth - 1)?))
    };
    if let Some(unary) = unary(graph, index, node) {
        return Some(Expression::Unary(unary, operand(0)?));
    }
    let binary = binary(node)?;
    let (a, b) = (operand(0)?, operand(1)?);
    Some(Expression::Binary(binary, a, b))
}

fn unary(graph: &GraphProto, index: &Index, node: &NodeProto) -> Option<Unary> {
    let attribute = |name: &str, default: f32| graph::attr_float(node, name).unwrap_or(default);
    Some(match node.op_type.as_str() {
        "Relu" => Unary::Clamp { lo: 0.0, hi: f32::INFINITY },
        "Clip" => {
            let bound = |slot: usize, name: &str, default: f32| match node.input.get(slot) {
                Some(input) if !input.is_empty() => {
                    let at = index.initializer(input)?;
                    graph::to_array::<f32>(&graph.initializer[at])?.first().copied()
                }
                _ => Some(attribute(name, default)),
            };
            let (lo, hi) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
            Unary::Clamp { lo, hi }
        }
        "LeakyRelu" => Unary::LeakyRelu { alpha: attribute("alpha", 0.01) },
        "Elu" => Unary::Elu { alpha: attribute("alpha", 1.0) },
        "HardSigmoid" => Unary::HardSigmoid { alpha: attribute("alpha", 0.2), beta: attribute("beta", 0.5) },
        "HardSwish" => Unary::HardSwish,
        "Sigmoid" => Unary::Sigmoid,
        "Softplus" => Unary::Softplus,
        "Softsign" => Unary::Softsign,
        "Tanh" => Unary::Tanh,
        "Erf" => Unary::Erf,
        "Gelu" if graph::attr_str(node, "approximate") == Some("tanh") => Unary::GeluByTanh,
        "Gelu" => Unary::Gelu,
        "Exp" => Unary::Exp,
        "Log" => Unary::Log,
        "Sqrt" => Unary::Sqrt,
        "Reciprocal" => Unary::Reciprocal,
        "Abs" => Unary::Abs,
        "Neg" => Unary::Neg,
        _ => return None,
    })
}

fn binary(node: &NodeProto) -> Option<Binary> {
    if node.input.len() != 2 {
        return None;
    }
    Some(match node.op_type.as_str() {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Pow" => Binary::Pow,
        "Min" => Binary::Min,
        "Max" => Binary::Max,
        "PRelu" => Binary::PRelu,
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::{node, tensor, with_float};

    fn found(nodes: Vec<NodeProto>) -> Option<(String, Function)> {
        let graph = GraphProto {
            node: nodes,
            initializer: vec![
                tensor("root2", &[1], &[std::f32::consts::SQRT_2]),
                tensor("one", &[], &[1f32]),
                tensor("half", &[1, 1], &[0.5f32]),
                tensor("channels", &[2], &[1f32, 2.0]),
            ],
            ..Default::default()
        };
        let found = Function::behind(&graph, &Index::new(&graph), "y", &|t| t == "x" || t == "z")?;
        Some((found.source.to_string(), found.function))
    }

    #[test]
    fn gelu_in_five_nodes_is_a_function_of_its_input() {
        let (source, gelu) = found(vec![
            node("Div", "a", &["x", "root2"], &["a"]),
            node("Erf", "b", &["a"], &["b"]),
            node("Add", "c", &["b", "one"], &["c"]),
            node("Mul", "d", &["c", "half"], &["d"]),
            node("Mul", "e", &["x", "d"], &["y"]),
        ])
        .unwrap();
        assert_eq!(source, "x");
        // Values of x Φ(x) from a table of the normal distribution.
        for (x, want) in [(0.0, 0.0), (1.0, 0.841_344_7), (-1.0, -0.158_655_3), (3.0, 2.995_950_3)] {
            assert!((gelu.at(x) - want).abs() < 1e-6, "{x}: {}", gelu.at(x));
        }
    }

    #[test]
    fn two_tensors_and_constants_per_channel_are_no_function_of_one_number() {
        assert_eq!(found(vec![node("Mul", "m", &["x", "z"], &["y"])]), None);
        assert_eq!(found(vec![node("Mul", "m", &["x", "channels"], &["y"])]), None);
        assert_eq!(found(vec![node("Add", "m", &["one", "half"], &["y"])]), None);
        assert_eq!(found(vec![node("Softmax", "s", &["x"], &["y"])]), None);
    }

    #[test]
    fn operators_compute_what_onnx_defines() {
        let at = |op: NodeProto, x: f32| found(vec![op]).unwrap().1.at(x);
        let unary = |op: &str, x: f32| at(node(op, "n", &["x"], &["y"]), x);
        assert_eq!(
            at(with_float(node("Elu", "n", &["x"], &["y"]), "alpha", 2.0), -1.0),
            2.0 * (-1f32).exp_m1()
        );
        assert_eq!(unary("HardSwish", 1.0), 1.0 * (1.0f32 / 6.0 + 0.5));
        assert_eq!(unary("HardSwish", -3.0), 0.0);
        assert_eq!(unary("Relu", -2.0), 0.0);
        assert_eq!(unary("Softsign", 1.0), 0.5);
        assert_eq!(unary("Sigmoid", 0.0), 0.5);
        assert!((unary("Softplus", 1.0) - 1.313_261_7).abs() < 1e-6);
        assert!((unary("Gelu", 1.0) - 0.841_344_7).abs() < 1e-6);
        assert_eq!(at(node("Pow", "n", &["x", "half"], &["y"]), 9.0), 3.0);
        assert_eq!(at(node("Sub", "n", &["one", "x"], &["y"]), 0.25), 0.75);
        assert_eq!(at(node("PRelu", "n", &["x", "half"], &["y"]), -4.0), -2.0);
    }

    #[test]
    fn the_list_of_operators_is_complete() {
        for op in OPERATORS {
            let inputs: &[&str] = if binary(&node(op, "n", &["x", "half"], &["y"])).is_some() {
                &["x", "half"]
            } else {
                &["x"]
            };
            assert!(found(vec![node(op, "n", inputs, &["y"])]).is_some(), "{op}");
        }
    }

    #[test]
    fn where_a_function_is_flat_its_input_needs_no_values() {
        let hard_swish = found(vec![node("HardSwish", "n", &["x"], &["y"])]).unwrap().1;
        let (lo, hi) = hard_swish.varying_part(-12.0, 6.0);
        assert!((-3.0..-2.9).contains(&lo) && (5.98..=6.0).contains(&hi), "{lo} {hi}");
        let sigmoid = found(vec![node("Sigmoid", "n", &["x"], &["y"])]).unwrap().1;
        let (lo, hi) = sigmoid.varying_part(-20.0, 20.0);
        assert!((-7.0..-5.5).contains(&lo) && (5.5..7.0).contains(&hi), "{lo} {hi}");
        let log = found(vec![node("Log", "n", &["x"], &["y"])]).unwrap().1;
        assert_eq!(log.varying_part(-1.0, 1.0), (-1.0, 1.0));
    }
}
