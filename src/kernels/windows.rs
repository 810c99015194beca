//! Where the taps of depthwise windows lie, for kernels that take any geometry.

use super::types::Geometry;

/// Calls `each(output pixel, taps)` for every window, with the first byte of the input pixel under each tap,
/// or `padding`. Taps beyond the kernel's, up to `taps`, point to `padding`.
pub(super) fn for_each_window(
    x: &[u8],
    channels: usize,
    geometry: &Geometry,
    padding: *const u8,
    taps: usize,
    mut each: impl FnMut(usize, &[*const u8]),
) {
    let step = geometry.stride[1] * channels;
    let inside = geometry.inside_columns();
    let mut pointers = vec![padding; taps];
    let mut steps = vec![0; taps];
    for oy in 0..geometry.out_height {
        for ox in 0..geometry.out_width {
            if ox > inside.start && ox < inside.end {
                // No tap enters or leaves the image: all move alike. Wrapping, as padding rows stay put.
                for (pointer, step) in pointers.iter_mut().zip(&steps) {
                    *pointer = pointer.wrapping_add(*step);
                }
            } else {
                geometry.taps(oy, ox, |tap, at| {
                    pointers[tap] = at.map_or(padding, |at| x[at * channels..].as_ptr());
                    steps[tap] = if at.is_some() { step } else { 0 };
                });
            }
            each(oy * geometry.out_width + ox, &pointers);
        }
    }
}
