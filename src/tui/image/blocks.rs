//! Pictures of half blocks: `▀` with a colour above and one below, two pixels a cell.

use image::DynamicImage;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;

/// How many colours there are for pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// 24 bits.
    True,
    /// The 256 of xterm.
    Ansi256,
}

/// Terminals that have 24 bits whether or not they say so; over SSH their name is all that arrives.
const TRUE: [&str; 6] = ["xterm-kitty", "xterm-ghostty", "foot", "alacritty", "wezterm", "contour"];

impl Depth {
    /// What the environment says; `variable` reads it.
    pub fn of_environment(variable: impl Fn(&str) -> String) -> Depth {
        let (colour, term) = (variable("COLORTERM"), variable("TERM"));
        let says = colour.contains("truecolor") || colour.contains("24bit") || term.ends_with("-direct");
        if says || TRUE.iter().any(|name| term.starts_with(name)) { Depth::True } else { Depth::Ansi256 }
    }

    fn colour(self, [red, green, blue]: [u8; 3]) -> Color {
        match self {
            Depth::True => Color::Rgb(red, green, blue),
            Depth::Ansi256 => Color::Indexed(nearest([red, green, blue])),
        }
    }
}

/// Draws a picture that has a pixel for each column and two for each row of `area`. In ASCII a cell has one
/// colour, that of the pixel above.
pub fn draw(image: &DynamicImage, area: Rect, buffer: &mut Buffer, depth: Depth, ascii: bool) {
    let Some(image) = image.as_rgb8() else { return };
    let visible = area.intersection(*buffer.area());
    for position in visible.positions() {
        let (x, y) = (u32::from(position.x - area.x), 2 * u32::from(position.y - area.y));
        if x >= image.width() || y >= image.height() {
            continue;
        }
        let above = image.get_pixel(x, y).0;
        let below = image.get_pixel(x, (y + 1).min(image.height() - 1)).0;
        let cell = &mut buffer[position];
        cell.reset();
        cell.set_char(if ascii { ' ' } else { '▀' });
        if ascii {
            cell.set_bg(depth.colour(above));
        } else {
            cell.set_fg(depth.colour(above)).set_bg(depth.colour(below));
        }
    }
}

/// The nearest of the 6 × 6 × 6 cube and the 24 greys; the first sixteen are the user's own.
fn nearest(rgb: [u8; 3]) -> u8 {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let level = |value: u8| -> usize {
        let distance = |at: &usize| LEVELS[*at].abs_diff(value);
        (0..LEVELS.len()).min_by_key(distance).unwrap_or(0)
    };
    let far =
        |other: [u8; 3]| -> u32 { rgb.iter().zip(other).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum() };
    let [r, g, b] = rgb.map(level);
    let cube = (16 + 36 * r + 6 * g + b, far([LEVELS[r], LEVELS[g], LEVELS[b]]));
    let mean = rgb.iter().map(|value| u32::from(*value)).sum::<u32>() / 3;
    let step = (mean.saturating_sub(3) / 10).min(23) as usize;
    let value = (8 + 10 * step) as u8;
    let grey = (232 + step, far([value; 3]));
    (if grey.1 < cube.1 { grey.0 } else { cube.0 }) as u8
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    #[test]
    fn colours_find_their_nearest() {
        let cases: [([u8; 3], u8); 6] = [
            ([0, 0, 0], 16),
            ([255, 255, 255], 231),
            ([255, 0, 0], 196),
            ([128, 128, 128], 244),
            ([95, 135, 175], 67),
            ([10, 10, 10], 232),
        ];
        for (rgb, index) in cases {
            assert_eq!(nearest(rgb), index, "{rgb:?}");
        }
    }

    #[test]
    fn the_environment_says_how_many_colours_there_are() {
        let of = |name: &'static str, value: &'static str| {
            Depth::of_environment(|asked| if asked == name { value.into() } else { String::new() })
        };
        assert_eq!(of("COLORTERM", "truecolor"), Depth::True);
        assert_eq!(of("TERM", "xterm-kitty"), Depth::True);
        assert_eq!(of("TERM", "xterm-direct"), Depth::True);
        assert_eq!(of("TERM", "xterm-256color"), Depth::Ansi256);
    }

    #[test]
    fn a_cell_holds_two_pixels() {
        let mut image = RgbImage::new(2, 3);
        image.put_pixel(0, 0, Rgb([255, 0, 0]));
        image.put_pixel(0, 1, Rgb([0, 255, 0]));
        image.put_pixel(1, 2, Rgb([0, 0, 255]));
        let image = DynamicImage::ImageRgb8(image);
        let area = Rect::new(1, 1, 2, 2);
        let mut buffer = Buffer::empty(Rect::new(0, 0, 4, 3));
        draw(&image, area, &mut buffer, Depth::True, false);
        assert_eq!(buffer[(1, 1)].symbol(), "▀");
        assert_eq!((buffer[(1, 1)].fg, buffer[(1, 1)].bg), (Color::Rgb(255, 0, 0), Color::Rgb(0, 255, 0)));
        assert_eq!(buffer[(2, 2)].bg, Color::Rgb(0, 0, 255), "an odd last row fills its cell");
        assert_eq!(buffer[(0, 0)].symbol(), " ");
        draw(&image, area, &mut buffer, Depth::Ansi256, true);
        assert_eq!((buffer[(1, 1)].symbol(), buffer[(1, 1)].bg), (" ", Color::Indexed(196)));
    }

    #[test]
    fn what_lies_outside_of_the_screen_is_left_out() {
        let image = DynamicImage::ImageRgb8(RgbImage::new(30, 40));
        let mut buffer = Buffer::empty(Rect::new(0, 0, 10, 4));
        draw(&image, Rect::new(5, 2, 30, 20), &mut buffer, Depth::True, false);
        assert_eq!(buffer[(9, 3)].symbol(), "▀");
    }
}
