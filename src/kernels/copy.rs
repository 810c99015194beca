//! Copies in another order: transpositions, slices, shuffles of channels, padding.

/// One dimension of a copy: how many elements, and how far apart they lie where they come from and where they
/// go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stride {
    /// Elements.
    pub count: usize,
    /// Distance in the source.
    pub from: usize,
    /// Distance in the result.
    pub to: usize,
}

/// Rows and columns of the blocks that a transposition moves, so that both sides stay in the cache.
const BLOCK: usize = 16;

/// `out[Σ iₐ·to] = x[Σ iₐ·from]` for every combination of indices `iₐ` of the dimensions, outermost first.
/// Elements of `out` that none of them names stay as they are.
///
/// # Panics
/// A combination lies outside a slice.
pub fn copy_strided<T: Copy>(x: &[T], dims: &[Stride], out: &mut [T]) {
    if dims.iter().any(|d| d.count == 0) {
        return;
    }
    match dims {
        [] => out[0] = x[0],
        [Stride { count, from: 1, to: 1 }] => out[..*count].copy_from_slice(&x[..*count]),
        [Stride { count, from, to }] => {
            let last = count - 1;
            let (x, out) = (&x[..last * from + 1], &mut out[..last * to + 1]);
            for i in 0..*count {
                out[i * to] = x[i * from];
            }
        }
        [outer, Stride { count: 2, from: 1, to: 1 }] => copy_runs::<T, 2>(x, *outer, out),
        [outer, Stride { count: 3, from: 1, to: 1 }] => copy_runs::<T, 3>(x, *outer, out),
        [outer, Stride { count: 4, from: 1, to: 1 }] => copy_runs::<T, 4>(x, *outer, out),
        [outer @ Stride { from: 1, .. }, inner] if inner.from > 1 => transpose(x, *outer, *inner, out),
        [outer, rest @ ..] => {
            for i in 0..outer.count {
                copy_strided(&x[i * outer.from..], rest, &mut out[i * outer.to..]);
            }
        }
    }
}

/// Runs too short for a call of `memcpy` each, as those of DepthToSpace are.
fn copy_runs<T: Copy, const LEN: usize>(x: &[T], runs: Stride, out: &mut [T]) {
    let last = runs.count - 1;
    let (x, out) = (&x[..last * runs.from + LEN], &mut out[..last * runs.to + LEN]);
    for i in 0..runs.count {
        if let (Some(from), Some(to)) =
            (x[i * runs.from..].first_chunk::<LEN>(), out[i * runs.to..].first_chunk_mut::<LEN>())
        {
            *to = *from;
        }
    }
}

/// Two dimensions of which the outer one is consecutive in the source.
fn transpose<T: Copy>(x: &[T], outer: Stride, inner: Stride, out: &mut [T]) {
    for row in (0..outer.count).step_by(BLOCK) {
        let rows = row..(row + BLOCK).min(outer.count);
        for column in (0..inner.count).step_by(BLOCK) {
            for r in rows.clone() {
                for c in column..(column + BLOCK).min(inner.count) {
                    out[r * outer.to + c * inner.to] = x[r * outer.from + c * inner.from];
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every element on its own.
    fn plainly(x: &[u32], dims: &[Stride], out: &mut [u32]) {
        let total: usize = dims.iter().map(|d| d.count).product();
        for index in 0..total {
            let (mut rest, mut from, mut to) = (index, 0, 0);
            for d in dims.iter().rev() {
                from += rest % d.count * d.from;
                to += rest % d.count * d.to;
                rest /= d.count;
            }
            out[to] = x[from];
        }
    }

    proptest! {
        #[test]
        fn permuted_dimensions_agree_with_single_elements(
            counts in proptest::collection::vec(1usize..40, 1..4),
            order in Just(vec![0usize, 1, 2]).prop_shuffle(), gap in 0usize..3,
        ) {
            // A permutation of a tensor, with gaps in the result as padding leaves them.
            let strides = |of: &[usize], gap: usize| -> Vec<usize> {
                (0..of.len()).map(|a| of[a + 1..].iter().map(|n| n + gap).product()).collect()
            };
            let from = strides(&counts, 0);
            let axes: Vec<usize> = order.into_iter().filter(|a| *a < counts.len()).collect();
            let permuted: Vec<usize> = axes.iter().map(|a| counts[*a]).collect();
            let to = strides(&permuted, gap);
            let dims: Vec<Stride> = axes
                .iter()
                .zip(to)
                .map(|(a, to)| Stride { count: counts[*a], from: from[*a], to })
                .collect();
            let x: Vec<u32> = (0..counts.iter().product::<usize>() as u32).collect();
            let len = permuted.iter().map(|n| n + gap).product();
            let (mut got, mut want) = (vec![u32::MAX; len], vec![u32::MAX; len]);
            copy_strided(&x, &dims, &mut got);
            plainly(&x, &dims, &mut want);
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn nothing_is_copied_of_an_empty_dimension() {
        let mut out = [7u8; 2];
        copy_strided(
            &[1u8],
            &[Stride { count: 0, from: 1, to: 1 }, Stride { count: 2, from: 0, to: 1 }],
            &mut out,
        );
        assert_eq!(out, [7, 7]);
    }
}
