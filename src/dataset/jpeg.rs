//! JPEG through libjpeg (Mozilla's fork of libjpeg-turbo), which gives the very pixels that Pillow,
//! OpenCV and torchvision give.
//!
//! The standard leaves the inverse transform and the enlarging of chroma to the decoder. Another
//! decoder's choices change pixels of ordinary photographs by up to 5 of 255, enough to move the
//! top-1 of a model by a point on a few hundred images, which would then be blamed on quantization.

use image::RgbImage;
use mozjpeg::{ColorSpace, Decompress};

/// The pixels of a JPEG file, or `None` for CMYK and YCCK, which libjpeg does not turn into RGB.
///
/// # Errors
/// The file is damaged; a sentence of libjpeg's.
///
/// # Panics
/// libjpeg reports some damage by unwinding: call this inside `catch_unwind`.
pub(super) fn decode(bytes: &[u8]) -> Result<Option<RgbImage>, String> {
    let text = |error: std::io::Error| error.to_string();
    let header = Decompress::new_mem(bytes).map_err(text)?;
    if matches!(header.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK) {
        return Ok(None);
    }
    let mut pixels = header.rgb().map_err(text)?;
    let (width, height) = (pixels.width(), pixels.height());
    let values: Vec<u8> = pixels.read_scanlines::<[u8; 3]>().map_err(text)?.into_flattened();
    pixels.finish().map_err(text)?;
    let image = RgbImage::from_raw(width as u32, height as u32, values);
    image.map(Some).ok_or_else(|| "fewer pixels than its header declares".into())
}
