//! Windows of pools and convolutions that cost more than any real one: what a window is made of is computed before
//! the first inference, element by element, and a border of the same size makes a small result of it.

use std::any::Any;

use tract_onnx::tract_hir::infer::InferenceOp;
use tract_onnx::tract_hir::ops::cnn::{Conv, HirMaxPool, HirSumPool, PaddingSpec, PoolSpec};
use tract_onnx::tract_hir::ops::expandable::Expansion;

/// Bytes that tract keeps of all windows of a graph, at most: 32 convolutions of 31 × 31 with borders take as
/// much.
pub(super) const MOST_BYTES: u64 = 512 << 20;
/// Bytes for each element of a window: where it lies, in two forms.
const ELEMENT: u64 = 24;
/// Bytes for each element of each form that borders make of a window.
const ELEMENT_OF_FORM: u64 = 16;

/// Products, or comparisons, of one node: an hour on a core. Layers of large models with large images and batches have
/// a hundredth of it.
const MOST_WORK: u64 = 1 << 44;
/// The same of a node that is computed while the model is loaded: a minute.
const MOST_WORK_AT_LOADING: u64 = 1 << 36;

/// Products that one node may take; `constant` says whether it depends on constants only.
pub(super) fn most_work(constant: bool) -> u64 {
    if constant { MOST_WORK_AT_LOADING } else { MOST_WORK }
}

/// The window of an operator, as far as the operator says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Window {
    /// It has none.
    None,
    /// Of a pool.
    Pool { sides: Vec<usize>, has_borders: bool },
    /// Of a convolution: that of its weights, which are this input.
    Conv { weights: usize, has_borders: bool },
    /// Of a transposed convolution: that of its weights.
    Transposed,
}

/// What a window takes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Cost {
    /// Bytes, before the first inference.
    pub bytes: u64,
    /// Products, or comparisons, of an inference.
    pub products: u64,
}

impl Window {
    pub(super) fn of(op: &dyn InferenceOp) -> Window {
        let Some(expansion) = op.as_op().downcast_ref::<Box<dyn Expansion>>() else { return Window::None };
        let inner: &dyn Any = expansion.as_ref();
        let pool = |pool: &PoolSpec| Window::Pool {
            sides: pool.kernel_shape.to_vec(),
            has_borders: has_borders(&pool.padding),
        };
        if let Some(max) = inner.downcast_ref::<HirMaxPool>() {
            pool(&max.pool_spec)
        } else if let Some(sum) = inner.downcast_ref::<HirSumPool>() {
            pool(&sum.pool_spec)
        } else if let Some(conv) = inner.downcast_ref::<Conv>() {
            Window::Conv { weights: conv.k_input.unwrap_or(1), has_borders: has_borders(&conv.padding) }
        } else if expansion.name() == "ConvTranspose" {
            Window::Transposed
        } else {
            Window::None
        }
    }

    /// What it takes to make a tensor of the shape `made`, which is empty where that is unknown; `input` gives the
    /// shapes of inputs.
    pub(super) fn cost(&self, made: &[usize], input: impl Fn(usize) -> Option<Vec<usize>>) -> Cost {
        let bytes = |sides: &[usize], has_borders: bool| {
            let places = made.get(2..).filter(|_| has_borders).unwrap_or_default();
            // Near a border a window has another form at each place, and no more of them than elements.
            let forms = places.iter().zip(sides).map(|(places, side)| *places.min(side));
            let forms = product(&forms.collect::<Vec<_>>());
            product(sides).saturating_mul(ELEMENT_OF_FORM.saturating_mul(forms).saturating_add(ELEMENT))
        };
        let values = if made.is_empty() { 0 } else { product(made) };
        match self {
            Window::None => Cost::default(),
            Window::Pool { sides, has_borders } => {
                Cost { bytes: bytes(sides, *has_borders), products: values.saturating_mul(product(sides)) }
            }
            Window::Conv { weights, has_borders } => match input(*weights).as_deref() {
                Some([_, rest @ ..]) => Cost {
                    bytes: bytes(rest.get(1..).unwrap_or_default(), *has_borders),
                    products: values.saturating_mul(product(rest)),
                },
                _ => Cost::default(),
            },
            Window::Transposed => match input(1).as_deref() {
                Some([_, _, sides @ ..]) => Cost { bytes: bytes(sides, false), products: 0 },
                _ => Cost::default(),
            },
        }
    }
}

fn has_borders(padding: &PaddingSpec) -> bool {
    match padding {
        PaddingSpec::Valid => false,
        PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, _) => {
            before.iter().chain(after).any(|pad| *pad > 0)
        }
        _ => true,
    }
}

fn product(sides: &[usize]) -> u64 {
    sides.iter().fold(1, |product: u64, side| product.saturating_mul(*side as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(side: usize, has_borders: bool) -> Window {
        Window::Pool { sides: vec![side, side], has_borders }
    }

    #[test]
    fn borders_make_a_form_of_a_window_at_each_place() {
        let bytes = |window: Window, out: usize| window.cost(&[1, 8, out, out], |_| None).bytes;
        assert_eq!(bytes(pool(7, false), 100), 49 * (24 + 16));
        assert_eq!(bytes(pool(7, true), 100), 49 * (24 + 49 * 16));
        assert_eq!(bytes(pool(7, true), 2), 49 * (24 + 4 * 16));
        assert_eq!(pool(7, true).cost(&[], |_| None), Cost { bytes: 49 * (24 + 16), products: 0 });
        assert_eq!(bytes(pool(1 << 31, true), 1 << 31), u64::MAX);
        // A network of such convolutions is in use.
        assert!(32 * bytes(pool(31, true), 56) <= MOST_BYTES);
    }

    #[test]
    fn a_convolution_sums_over_the_channels_of_its_weights() {
        let conv = Window::Conv { weights: 1, has_borders: true };
        let weights = |input| (input == 1).then(|| vec![16, 4, 3, 3]);
        let cost = conv.cost(&[2, 16, 10, 10], weights);
        assert_eq!(cost, Cost { bytes: 9 * (24 + 9 * 16), products: 2 * 16 * 100 * 4 * 9 });
        assert_eq!(conv.cost(&[2, 16, 10, 10], |_| None), Cost::default());
        assert_eq!(pool(3, false).cost(&[2, 16, 10, 10], weights).products, 2 * 16 * 100 * 9);
    }
}
