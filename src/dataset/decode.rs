//! Any image file to 8-bit RGB, upright.
//!
//! What becomes of each kind of image is decided as Pillow's `convert("RGB")` decides, because
//! that is what models were trained on: alpha is dropped, not blended; gray is copied to all
//! channels; CMYK is multiplied out. 16-bit values keep their high byte. Colour profiles and gamma
//! are ignored.

use super::memory::{self, Reservation};
use super::{ImageError, jpeg};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The largest image that is decoded, in pixels. A header of a few bytes can declare more than any
/// machine can hold.
pub const MAX_PIXELS: u64 = 100_000_000;

/// Bytes that a decoder may allocate: the largest image at 16 bits and four channels, and half as
/// much again for its work.
const MAX_DECODER_BYTES: u64 = MAX_PIXELS * 8 * 3 / 2;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Decodes a JPEG, PNG, BMP, WebP or GIF file (the first frame of an animation), told apart by
/// content, and turns it upright as its EXIF orientation says.
///
/// # Errors
/// [`ImageError`]: unreadable, another format, damaged or cut short, without pixels, or larger than
/// [`MAX_PIXELS`] or than [`super::limit_decoding`] lets it be (found before anything of that size is allocated).
pub fn decode(path: &Path) -> Result<RgbImage, ImageError> {
    decode_held(path).map(|(image, _)| image)
}

/// As [`decode`], with the memory that stays set aside for it until it has become something smaller.
pub(super) fn decode_held(path: &Path) -> Result<(RgbImage, Reservation<'static>), ImageError> {
    let bytes = read(path)?;
    let format = format_of(&bytes).map_err(|found| ImageError::Format { path: path.into(), found })?;
    let damaged = |what: String| ImageError::Decode { path: path.into(), format: name_of(format), what };
    if format == ImageFormat::Jpeg && !is_complete_jpeg(&bytes) {
        return Err(damaged("the file is cut short (no end-of-image marker)".into()));
    }

    // A decoder that panics on damaged data must not take the run with it.
    catch_unwind(AssertUnwindSafe(|| decode_as(path, &bytes, format)))
        .unwrap_or_else(|_| Err(damaged("the decoder crashed on it".into())))
}

/// Bytes that decoding takes at most: the file, the image as it is stored, as much again for what progressive and
/// interlaced images keep or for turning it, and the RGB that is made of it.
fn needs(file: usize, decoder: &impl ImageDecoder) -> u64 {
    let (width, height) = decoder.dimensions();
    let rgb = u64::from(width) * u64::from(height) * 3;
    (file as u64).saturating_add(decoder.total_bytes().saturating_mul(2)).saturating_add(rgb)
}

fn decode_as(
    path: &Path,
    bytes: &[u8],
    format: ImageFormat,
) -> Result<(RgbImage, Reservation<'static>), ImageError> {
    let damaged = |what: String| ImageError::Decode { path: path.into(), format: name_of(format), what };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| damaged(error.to_string()))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(ImageError::TooLarge { path: path.into(), width, height });
    }
    if width == 0 || height == 0 {
        return Err(damaged(format!("its size is {width}x{height}")));
    }
    let needs = needs(bytes.len(), &decoder);
    let reservation = memory::reserve(needs).map_err(|limit| ImageError::Memory {
        path: path.into(),
        width,
        height,
        needs,
        limit,
    })?;
    // Damaged metadata is no reason to refuse an image that decodes.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let from_libjpeg = match format {
        ImageFormat::Jpeg => jpeg::decode(bytes).map_err(&damaged)?,
        _ => None,
    };
    let mut image = match from_libjpeg {
        Some(image) => DynamicImage::ImageRgb8(image),
        None => DynamicImage::from_decoder(decoder).map_err(|error| damaged(error.to_string()))?,
    };
    image.apply_orientation(orientation);
    Ok((to_rgb8(image), reservation))
}

/// The whole file, if its size is sane.
fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    let failed = |what: String| ImageError::Read { path: path.into(), what };
    let metadata = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() {
        return Err(failed("it is not a regular file".into()));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(failed(format!(
            "the file holds {} bytes, the limit is {MAX_FILE_BYTES}",
            metadata.len()
        )));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}

/// The format by its first bytes, or what was found instead.
fn format_of(bytes: &[u8]) -> Result<ImageFormat, String> {
    match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Jpeg
            | ImageFormat::Png
            | ImageFormat::Bmp
            | ImageFormat::WebP
            | ImageFormat::Gif),
        ) => Ok(format),
        Ok(format) => Err(format!("this is a {format:?} file")),
        Err(_) if bytes.is_empty() => Err("the file is empty".into()),
        Err(_) => Err("this is no image".into()),
    }
}

fn name_of(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::Bmp => "BMP",
        ImageFormat::WebP => "WebP",
        _ => "GIF",
    }
}

/// Whether an end-of-image marker follows the start of the image data. The decoder fills what is
/// missing with gray, so a file that was cut short would count as a good image; Pillow refuses it.
fn is_complete_jpeg(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xDA;
    let mut position = 2;
    // Thumbnails in the segments before the scan have an end-of-image marker of their own.
    while let Some(&[0xFF, marker, high, low]) = bytes.get(position..position + 4) {
        position += match marker {
            START_OF_SCAN => break,
            // A fill byte, and markers without a length.
            0xFF => 1,
            0x01 | 0xD0..=0xD8 => 2,
            _ => 2 + usize::from(u16::from_be_bytes([high, low])),
        };
    }
    bytes.get(position..).is_some_and(|scans| scans.windows(2).rev().any(|pair| pair == [0xFF, 0xD9]))
}

/// Drops alpha, copies gray to all channels, keeps the high byte of 16-bit values.
fn to_rgb8(image: DynamicImage) -> RgbImage {
    fn gray<const N: usize, T>(width: u32, height: u32, raw: &[T], byte: impl Fn(&T) -> u8) -> RgbImage {
        let values = raw.chunks_exact(N).flat_map(|pixel| [byte(&pixel[0]); 3]).collect();
        RgbImage::from_raw(width, height, values).unwrap_or_default()
    }
    fn color<const N: usize, T>(width: u32, height: u32, raw: &[T], byte: impl Fn(&T) -> u8) -> RgbImage {
        let values = raw
            .chunks_exact(N)
            .flat_map(|pixel| [byte(&pixel[0]), byte(&pixel[1]), byte(&pixel[2])])
            .collect();
        RgbImage::from_raw(width, height, values).unwrap_or_default()
    }
    let (width, height) = (image.width(), image.height());
    let same = |value: &u8| *value;
    let high_byte = |value: &u16| (value >> 8) as u8;
    match image {
        DynamicImage::ImageRgb8(image) => image,
        DynamicImage::ImageRgba8(image) => color::<4, _>(width, height, &image, same),
        DynamicImage::ImageLuma8(image) => gray::<1, _>(width, height, &image, same),
        DynamicImage::ImageLumaA8(image) => gray::<2, _>(width, height, &image, same),
        DynamicImage::ImageRgb16(image) => color::<3, _>(width, height, &image, high_byte),
        DynamicImage::ImageRgba16(image) => color::<4, _>(width, height, &image, high_byte),
        DynamicImage::ImageLuma16(image) => gray::<1, _>(width, height, &image, high_byte),
        DynamicImage::ImageLumaA16(image) => gray::<2, _>(width, height, &image, high_byte),
        other => other.to_rgb8(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use image::codecs::{gif::GifEncoder, jpeg::JpegEncoder};
    use image::{Frame, GrayImage, ImageBuffer, Luma, LumaA, Rgb, Rgba, RgbaImage};

    fn decode_bytes(bytes: &[u8]) -> Result<RgbImage, String> {
        let dir = tempfile::tempdir().unwrap();
        // The ending says nothing: decoding goes by content.
        let path = dir.path().join("image.dat");
        std::fs::write(&path, bytes).unwrap();
        decode(&path).map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
    }

    fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn photo(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 9) as u8, (y * 5) as u8, (x + y) as u8]))
    }

    fn jpeg(image: &RgbImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(image).unwrap();
        bytes
    }

    /// A PNG chunk with its checksum (CRC-32, reflected).
    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut body = kind.to_vec();
        body.extend(data);
        let crc = !body.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(
                crc ^ u32::from(*byte),
                |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 },
            )
        });
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc.to_be_bytes()].concat()
    }

    /// A PNG whose image data is `rows` as they are (one stored deflate block).
    fn png(width: u32, height: u32, depth_and_color: [u8; 2], extra: &[Vec<u8>], rows: &[u8]) -> Vec<u8> {
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &depth_and_color, &[0, 0, 0]].concat();
        let (a, b) = rows.iter().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        let length = rows.len() as u16;
        let zlib = [
            &[0x78, 0x01, 0x01][..],
            &length.to_le_bytes(),
            &(!length).to_le_bytes(),
            rows,
            &(b << 16 | a).to_be_bytes(),
        ]
        .concat();
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        bytes.extend(chunk(b"IHDR", &header));
        bytes.extend(extra.concat());
        bytes.extend(chunk(b"IDAT", &zlib));
        bytes.extend(chunk(b"IEND", &[]));
        bytes
    }

    #[test]
    fn lossless_formats_come_back_as_they_were() {
        let image = photo(20, 10);
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
            let bytes = encode(&DynamicImage::ImageRgb8(image.clone()), format);
            assert_eq!(decode_bytes(&bytes).unwrap(), image, "{format:?}");
        }
    }

    #[test]
    fn a_jpeg_comes_back_nearly_as_it_was() {
        let image = photo(24, 40);
        let decoded = decode_bytes(&jpeg(&image)).unwrap();
        let worst = image.iter().zip(decoded.iter()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst < Some(24), "{worst:?}");
        assert_eq!(decoded.dimensions(), (24, 40));
    }

    #[test]
    fn alpha_is_dropped_not_blended() {
        let image = RgbaImage::from_fn(4, 3, |x, y| Rgba([200, 10 * x as u8, 7, 80 * y as u8]));
        let expected = RgbImage::from_fn(4, 3, |x, _| Rgb([200, 10 * x as u8, 7]));
        for format in [ImageFormat::Png, ImageFormat::Bmp] {
            let bytes = encode(&DynamicImage::ImageRgba8(image.clone()), format);
            assert_eq!(decode_bytes(&bytes).unwrap(), expected, "{format:?}");
        }
        let gray = ImageBuffer::from_fn(2, 1, |x, _| LumaA([50 + x as u8, 3]));
        let decoded = decode_bytes(&encode(&DynamicImage::ImageLumaA8(gray), ImageFormat::Png)).unwrap();
        assert_eq!(decoded.as_raw(), &[50, 50, 50, 51, 51, 51]);
    }

    #[test]
    fn gray_is_copied_to_all_channels() {
        let gray = GrayImage::from_fn(3, 1, |x, _| Luma([90 * x as u8]));
        let expected = [0, 0, 0, 90, 90, 90, 180, 180, 180];
        let bytes = encode(&DynamicImage::ImageLuma8(gray.clone()), ImageFormat::Png);
        assert_eq!(decode_bytes(&bytes).unwrap().as_raw(), &expected);
        let flat = GrayImage::from_pixel(8, 8, Luma([77]));
        let bytes = encode(&DynamicImage::ImageLuma8(flat), ImageFormat::Jpeg);
        assert!(decode_bytes(&bytes).unwrap().iter().all(|value| *value == 77));
    }

    #[test]
    fn sixteen_bits_keep_their_high_byte() {
        let gray = ImageBuffer::from_fn(3, 1, |x, _| Luma([[255u16, 256, 0x80FF][x as usize]]));
        let bytes = encode(&DynamicImage::ImageLuma16(gray), ImageFormat::Png);
        assert_eq!(decode_bytes(&bytes).unwrap().as_raw(), &[0, 0, 0, 1, 1, 1, 128, 128, 128]);
        let color = ImageBuffer::from_pixel(1, 1, Rgba([0xFFFFu16, 0x1234, 0x00FF, 0]));
        let bytes = encode(&DynamicImage::ImageRgba16(color), ImageFormat::Png);
        assert_eq!(decode_bytes(&bytes).unwrap().as_raw(), &[255, 0x12, 0]);
    }

    #[test]
    fn a_palette_gives_its_colours_even_where_transparent() {
        let palette = chunk(b"PLTE", &[1, 2, 3, 40, 50, 60]);
        let alpha = chunk(b"tRNS", &[0, 255]);
        let bytes = png(2, 1, [8, 3], &[palette, alpha], &[0, 0, 1]);
        assert_eq!(decode_bytes(&bytes).unwrap().as_raw(), &[1, 2, 3, 40, 50, 60]);
    }

    #[test]
    fn an_animation_gives_its_first_frame() {
        let mut bytes = Vec::new();
        let mut encoder = GifEncoder::new(&mut bytes);
        for color in [Rgba([255, 0, 0, 255]), Rgba([0, 0, 255, 255])] {
            encoder.encode_frame(Frame::new(RgbaImage::from_pixel(5, 4, color))).unwrap();
        }
        drop(encoder);
        assert_eq!(decode_bytes(&bytes).unwrap(), RgbImage::from_pixel(5, 4, Rgb([255, 0, 0])));
    }

    #[test]
    fn cmyk_is_multiplied_out_as_pillow_does() {
        // 16x16, four flat quarters; written, and its expected values read, by Pillow.
        let image = decode_bytes(include_bytes!("testdata/cmyk.jpg")).unwrap();
        let quarters =
            [(4, 4, [0, 255, 255]), (12, 4, [205, 44, 205]), (4, 12, [127, 127, 63]), (12, 12, [53, 51, 49])];
        for (x, y, expected) in quarters {
            let got = image.get_pixel(x, y).0;
            assert!(
                got.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 1),
                "{got:?}, expected {expected:?}"
            );
        }
    }

    #[test]
    fn an_image_that_was_taken_sideways_is_turned_upright() {
        // Left half red, right half blue; orientation 6: turn by 90 degrees clockwise.
        let image =
            RgbImage::from_fn(32, 16, |x, _| if x < 16 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
        let plain = jpeg(&image);
        let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
        let mut bytes = plain[..2].to_vec();
        bytes.extend([0xFF, 0xE1]);
        bytes.extend((exif.len() as u16 + 2).to_be_bytes());
        bytes.append(&mut exif);
        bytes.extend(&plain[2..]);
        let upright = decode_bytes(&bytes).unwrap();
        assert_eq!(upright.dimensions(), (16, 32));
        assert!(upright.get_pixel(8, 4).0[0] > 200 && upright.get_pixel(8, 28).0[2] > 200);
    }

    #[test]
    fn a_header_that_declares_ten_gigapixels_is_refused_before_allocation() {
        let bytes = png(100_000, 100_000, [8, 2], &[], &[0; 10]);
        assert_eq!(
            decode_bytes(&bytes).unwrap_err(),
            "image.dat: the image is 100000x100000 pixels, the limit is 100 million; scale it down or leave it out"
        );
        let mut bytes = jpeg(&photo(8, 8));
        let frame = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
        bytes[frame + 5..frame + 9].fill(0xFF);
        assert!(decode_bytes(&bytes).unwrap_err().contains("65535x65535"));
    }

    #[test]
    fn a_size_of_zero_is_refused() {
        assert!(
            decode_bytes(&png(0, 5, [8, 2], &[], &[])).unwrap_err().contains("damaged or unsupported PNG")
        );
    }

    #[test]
    fn a_file_that_was_cut_short_is_refused() {
        let jpeg = jpeg(&photo(64, 64));
        for keep in [jpeg.len() - 1, jpeg.len() / 2, 20, 4] {
            let message = decode_bytes(&jpeg[..keep]).unwrap_err();
            assert!(
                message.starts_with("image.dat: damaged or unsupported JPEG image: "),
                "{keep}: {message}"
            );
        }
        let png = encode(&DynamicImage::ImageRgb8(photo(64, 64)), ImageFormat::Png);
        assert!(
            decode_bytes(&png[..png.len() / 2]).unwrap_err().contains("damaged or unsupported PNG image")
        );
    }

    #[test]
    fn bytes_after_the_end_of_a_jpeg_do_no_harm() {
        let image = photo(16, 16);
        let plain = jpeg(&image);
        let padded = [&plain[..], &[0; 100]].concat();
        assert_eq!(decode_bytes(&padded), decode_bytes(&plain));
    }

    #[test]
    fn what_is_no_image_is_named() {
        let advice = "expected a JPEG, PNG, BMP, WebP or GIF image; convert it or leave it out";
        for (bytes, found) in [
            (&b""[..], "the file is empty"),
            (b"hello, world, this is text", "this is no image"),
            (b"II*\0\x08\0\0\0", "this is a Tiff file"),
        ] {
            assert_eq!(decode_bytes(bytes).unwrap_err(), format!("image.dat: {found}, {advice}"));
        }
        let message = decode(Path::new("no/such.png")).unwrap_err().to_string();
        assert!(message.starts_with("no/such.png: cannot read the image: "), "{message}");
    }
}
