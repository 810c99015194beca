//! Bars and histograms of one row.

use ratatui::text::{Line, Span};

use crate::tui::theme::Theme;

/// A bar of `width` columns of which a fraction is full.
pub fn gauge(fraction: f64, width: usize, theme: &Theme) -> Line<'static> {
    let full = (fraction.clamp(0.0, 1.0) * width as f64).floor() as usize;
    Line::from(vec![
        Span::styled("▓".repeat(full), theme.accent),
        Span::styled("░".repeat(width - full), theme.dim),
    ])
}

/// A histogram of at most `width` columns, each as high as the largest of its bins is against the
/// largest of all; a column with anything in it is seen.
pub fn histogram<T: Copy + Into<u64>>(bins: &[T], width: usize) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let per_column = bins.len().div_ceil(width.max(1)).max(1);
    let columns: Vec<u64> = bins
        .chunks(per_column)
        .map(|chunk| chunk.iter().map(|bin| (*bin).into()).max().unwrap_or(0))
        .collect();
    let most = columns.iter().copied().max().unwrap_or(0).max(1);
    let level = |count: u64| match count {
        0 => ' ',
        _ => LEVELS[((count as f64 / most as f64 * 7.0).round() as usize).min(7)],
    };
    columns.into_iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::theme::ThemeName;

    #[test]
    fn a_bar_is_full_only_at_the_end() {
        let theme = Theme::new(ThemeName::Default, false);
        let text = |fraction| gauge(fraction, 10, &theme).to_string();
        assert_eq!(text(0.0), "░░░░░░░░░░");
        assert_eq!(text(0.999), "▓▓▓▓▓▓▓▓▓░");
        assert_eq!(text(1.0), "▓▓▓▓▓▓▓▓▓▓");
        assert_eq!(text(f64::NAN), "░░░░░░░░░░");
    }

    #[test]
    fn a_histogram_shows_its_largest_and_its_empty_columns() {
        assert_eq!(histogram(&[0u64, 1, 100, 50], 4), " ▁█▅");
        assert_eq!(histogram(&[0u64, 1, 100, 50], 2), "▁█");
        assert_eq!(histogram::<u64>(&[], 4), "");
    }
}
