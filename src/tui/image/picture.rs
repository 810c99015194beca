//! From a file to what the terminal gets: decoded, fitted into its place, within its bytes. Runs on a
//! thread.

use std::path::PathBuf;
use std::sync::Arc;

use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};

use super::Protocol;
use crate::dataset::{ImageError, Preprocess, decode};

/// Bytes that kitty takes for a pixel: RGBA in base64.
const KITTY_BYTES_A_PIXEL: f64 = 16.0 / 3.0;
/// Bytes that a photograph takes in a PNG in base64 for a pixel, at the worst.
const PNG_BYTES_A_PIXEL: f64 = 4.0;
/// Bytes that sixels take for a pixel of a photograph, measured: 34 kB for 14 400 pixels.
const SIXEL_BYTES_A_PIXEL: f64 = 2.5;
/// Pixels of a cell as viuer draws sixels, whatever cells really are.
const SIXEL_CELL: (u32, u32) = (6, 12);
/// viuer never finishes a picture that fits into its first chunk of 768 pixels.
const SMALLEST_SIDE: u32 = 32;

/// A picture to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// A number of its own for whatever leads to other pixels.
    pub id: u64,
    /// The file.
    pub path: PathBuf,
    /// Show what the network sees, which these steps make of it.
    pub network: Option<Preprocess>,
    /// Columns and rows that it may take.
    pub room: (u16, u16),
    /// Width and height of a cell in pixels.
    pub cell: (u16, u16),
    /// How it will be shown.
    pub protocol: Protocol,
    /// Bytes that it may take.
    pub budget: usize,
}

/// A picture, ready to be shown.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Of the request.
    pub id: u64,
    /// Width and height of the image in pixels: the file's, or the network's.
    pub pixels: (u32, u32),
    /// Columns and rows that it takes.
    pub size: (u16, u16),
    /// Whether it was made smaller than its place to save bytes.
    pub reduced: Option<(u32, u32)>,
    /// What is shown: for half blocks, one pixel a column and two a row.
    pub image: Arc<DynamicImage>,
}

/// Makes it.
///
/// # Errors
/// The file can't be read or decoded.
pub fn prepare(request: &Request) -> Result<Picture, ImageError> {
    let mut image = decode(&request.path)?;
    if let Some(steps) = &request.network {
        image = steps.pixels(&image);
    }
    Ok(fitted(request, image))
}

fn fitted(request: &Request, image: RgbImage) -> Picture {
    let pixels = image.dimensions();
    let mut size = fit(pixels, request.room, request.cell);
    let image = DynamicImage::ImageRgb8(image);
    let (image, reduced) = match request.protocol {
        Protocol::Kitty => within(image, size, request, KITTY_BYTES_A_PIXEL),
        Protocol::Iterm2 => within(image, size, request, PNG_BYTES_A_PIXEL),
        Protocol::Sixel => {
            // viuer scales to its own cells, so fewer cells are the only way to fewer bytes.
            let bytes = |(columns, rows): (u16, u16)| {
                let cells = f64::from(columns) * f64::from(rows);
                cells * f64::from(SIXEL_CELL.0 * SIXEL_CELL.1) * SIXEL_BYTES_A_PIXEL
            };
            let whole = size;
            while bytes(size) > request.budget as f64 && size.0 > 4 && size.1 > 2 {
                size = fit(pixels, (size.0 - 1, size.1), request.cell);
            }
            let target = (u32::from(size.0) * SIXEL_CELL.0, u32::from(size.1) * SIXEL_CELL.1);
            (scaled(image, target), (size != whole).then_some(target))
        }
        Protocol::Blocks | Protocol::Off => {
            (viuer::resize(&image, Some(u32::from(size.0)), Some(u32::from(size.1))), None)
        }
    };
    Picture { id: request.id, pixels, size, reduced, image: Arc::new(image) }
}

/// Scales to the pixels of its place, to fewer where the budget says so, and to no fewer than viuer bears.
fn within(
    image: DynamicImage,
    size: (u16, u16),
    request: &Request,
    bytes_a_pixel: f64,
) -> (DynamicImage, Option<(u32, u32)>) {
    let place =
        (u32::from(size.0) * u32::from(request.cell.0), u32::from(size.1) * u32::from(request.cell.1));
    // The terminal can enlarge it as well as this can.
    let wanted = (place.0.min(image.width()), place.1.min(image.height()));
    let most = request.budget as f64 / bytes_a_pixel;
    let shrink = (most / (f64::from(wanted.0) * f64::from(wanted.1))).sqrt().min(1.0);
    let side = |pixels: u32| ((f64::from(pixels) * shrink) as u32).max(SMALLEST_SIDE);
    let target = (side(wanted.0), side(wanted.1));
    (scaled(image, target), (shrink < 1.0).then_some(target))
}

fn scaled(image: DynamicImage, (width, height): (u32, u32)) -> DynamicImage {
    match image.width() == width && image.height() == height {
        true => image,
        false => image.resize_exact(width, height, FilterType::Triangle),
    }
}

/// The columns and rows that an image takes within `room`, its proportions kept.
pub fn fit(pixels: (u32, u32), room: (u16, u16), cell: (u16, u16)) -> (u16, u16) {
    let (width, height) = (f64::from(pixels.0.max(1)), f64::from(pixels.1.max(1)));
    let space = (f64::from(room.0) * f64::from(cell.0), f64::from(room.1) * f64::from(cell.1));
    let scale = (space.0 / width).min(space.1 / height);
    let cells = |length: f64, cell: u16, room: u16| {
        ((length * scale / f64::from(cell)).round() as u16).clamp(1, room.max(1))
    };
    (cells(width, cell.0, room.0), cells(height, cell.1, room.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(protocol: Protocol, budget: usize) -> Request {
        Request {
            id: 7,
            path: PathBuf::new(),
            network: None,
            room: (40, 20),
            cell: (8, 16),
            protocol,
            budget,
        }
    }

    #[test]
    fn proportions_are_kept_for_cells_of_any_shape() {
        assert_eq!(fit((100, 100), (40, 20), (8, 16)), (40, 20));
        assert_eq!(fit((200, 100), (40, 20), (8, 16)), (40, 10));
        assert_eq!(fit((100, 200), (40, 20), (8, 16)), (20, 20));
        assert_eq!(fit((100, 100), (40, 20), (10, 16)), (32, 20));
        assert_eq!(fit((1, 10_000), (40, 20), (8, 16)), (1, 20));
    }

    #[test]
    fn a_thin_line_gets_fewer_pixels_on_the_same_cells() {
        let image = RgbImage::new(640, 480);
        let picture = fitted(&request(Protocol::Kitty, 64 << 10), image.clone());
        assert_eq!(picture.size, (40, 15));
        assert_eq!(picture.reduced, Some((128, 96)));
        assert_eq!((picture.image.width(), picture.image.height()), (128, 96));
        let picture = fitted(&request(Protocol::Kitty, 1 << 20), image);
        assert_eq!((picture.reduced, picture.image.width()), (None, 320));
    }

    #[test]
    fn sixels_take_fewer_cells_instead() {
        let picture = fitted(&request(Protocol::Sixel, 64 << 10), RgbImage::new(500, 500));
        assert!(picture.size.0 < 40 && picture.reduced.is_some());
        let cells = usize::from(picture.size.0) * usize::from(picture.size.1);
        assert!(cells * 72 * 5 / 2 <= 64 << 10, "{:?}", picture.size);
    }

    #[test]
    fn blocks_have_a_pixel_a_column_and_two_a_row() {
        let picture = fitted(&request(Protocol::Blocks, 1 << 20), RgbImage::new(33, 33));
        assert_eq!((picture.size, picture.pixels), ((40, 20), (33, 33)));
        // viuer leaves the last half row out where the height is odd.
        assert_eq!((picture.image.width(), picture.image.height()), (40, 39));
    }

    proptest! {
        #[test]
        fn pictures_keep_to_their_place_and_never_are_what_viuer_does_not_finish(
            width in 1u32..400, height in 1u32..400, columns in 4u16..60, rows in 2u16..30, kib in 4usize..600,
        ) {
            for protocol in Protocol::ALL {
                let request =
                    Request { room: (columns, rows), budget: kib << 10, ..request(protocol, 0) };
                let picture = fitted(&request, RgbImage::new(width, height));
                prop_assert!(picture.size.0 <= columns && picture.size.1 <= rows);
                prop_assert!(picture.size.0 >= 1 && picture.size.1 >= 1);
                if matches!(protocol, Protocol::Kitty | Protocol::Iterm2) {
                    let (w, h) = (picture.image.width(), picture.image.height());
                    prop_assert!(w >= 32 && h >= 32);
                    let most = (request.budget as f64 / KITTY_BYTES_A_PIXEL).max(32.0 * 400.0);
                    prop_assert!(protocol == Protocol::Iterm2 || f64::from(w * h) <= most);
                }
            }
        }
    }
}
