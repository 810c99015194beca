//! Tables: cursor, order and scrolling as plain state; drawing that asks only for the rows that are
//! seen, so that fifty thousand rows cost no more than thirty.

use std::cell::Cell;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;

use crate::tui::action::Move;
use crate::tui::text::fit;
use crate::tui::theme::Theme;

/// Cursor, order and scrolling of a table.
///
/// The first row that is seen and their number come from the last drawing, which alone knows the
/// height. They are where the eye is, not what the table holds, so drawing may write them.
#[derive(Debug, Clone, Default)]
pub struct TableState {
    selected: usize,
    len: usize,
    columns: usize,
    sort: Option<Sort>,
    offset: Cell<usize>,
    page: Cell<usize>,
    top: Cell<u16>,
}

/// The order of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// By which column.
    pub column: usize,
    /// Largest first.
    pub descending: bool,
}

impl TableState {
    /// A table that can be sorted by so many columns.
    pub fn sortable(columns: usize) -> Self {
        TableState { columns, ..TableState::default() }
    }

    /// The row under the cursor; 0 in an empty table.
    pub fn selected(&self) -> usize {
        self.selected
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// By how many columns it can be sorted.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The order; `None` is the order of the file.
    pub fn sort(&self) -> Option<Sort> {
        self.sort
    }

    /// Says how many rows there are; the cursor stays within.
    pub fn set_len(&mut self, len: usize) {
        self.len = len;
        self.selected = self.selected.min(len.saturating_sub(1));
    }

    /// Puts the cursor on a row.
    pub fn select(&mut self, row: usize) {
        self.selected = row.min(self.len.saturating_sub(1));
    }

    /// Puts the cursor on the row that was last drawn on row `y` of the screen, if one was.
    pub fn click(&mut self, y: u16) {
        let Some(line) = y.checked_sub(self.top.get()).map(usize::from) else { return };
        let row = self.offset.get() + line;
        if line < self.page.get() && row < self.len {
            self.selected = row;
        }
    }

    /// Moves the cursor.
    pub fn step(&mut self, step: Move) {
        let page = self.page.get().max(2) - 1;
        let last = self.len.saturating_sub(1);
        self.selected = match step {
            Move::Up => self.selected.saturating_sub(1),
            Move::Down => (self.selected + 1).min(last),
            Move::PageUp => self.selected.saturating_sub(page),
            Move::PageDown => (self.selected + page).min(last),
            Move::First => 0,
            Move::Last => last,
        };
    }

    /// Sorts by a column.
    pub fn sort_by(&mut self, sort: Option<Sort>) {
        self.sort = sort.filter(|sort| sort.column < self.columns);
    }

    /// Sorts by the next column; after the last one, the order of the file again.
    pub fn sort_by_next(&mut self) {
        let next = self.sort.map_or(0, |sort| sort.column + 1);
        self.sort_by(Some(Sort { column: next, descending: false }));
    }

    /// Turns the order round.
    pub fn reverse(&mut self) {
        let sort = self.sort.unwrap_or(Sort { column: 0, descending: false });
        self.sort_by(Some(Sort { descending: !sort.descending, ..sort }));
    }

    /// The first of `height` rows to show, so that the cursor is among them and the list moves as
    /// little as it can.
    pub fn scrolled(&self, height: usize) -> usize {
        let lowest = (self.selected + 1).saturating_sub(height);
        let offset = self.offset.get().clamp(lowest, self.selected.max(lowest));
        let offset = offset.min(self.len.saturating_sub(height));
        self.offset.set(offset);
        self.page.set(height);
        offset
    }
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// The least width; a column that `grows` takes what is left.
    pub width: u16,
    /// Whether it takes what is left.
    pub grows: bool,
    /// Whether it is aligned to the right, as numbers are.
    pub right: bool,
    /// Columns of a higher number leave first where it is narrow; 0 stays.
    pub leaves: u8,
}

impl Column {
    /// Text that takes what is left, and at least `width`.
    pub const fn growing(title: &'static str, width: u16) -> Self {
        Column { title, width, grows: true, right: false, leaves: 0 }
    }

    /// Text of a fixed width.
    pub const fn text(title: &'static str, width: u16, leaves: u8) -> Self {
        Column { title, width, grows: false, right: false, leaves }
    }

    /// Numbers of a fixed width.
    pub const fn number(title: &'static str, width: u16, leaves: u8) -> Self {
        Column { title, width, grows: false, right: true, leaves }
    }
}

/// Columns of air between columns.
const GAP: u16 = 2;
/// Columns for the mark of the row under the cursor.
const MARK: u16 = 2;

/// Which columns fit into `width`, with their widths.
pub fn fitting(columns: &[Column], width: u16) -> Vec<(usize, u16)> {
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    let needed = |kept: &[usize]| kept.iter().map(|at| columns[*at].width + GAP).sum::<u16>();
    let width = width.saturating_sub(MARK) + GAP;
    while needed(&kept) > width {
        let leaving =
            kept.iter().copied().filter(|at| columns[*at].leaves > 0).max_by_key(|at| columns[*at].leaves);
        let Some(leaving) = leaving else { break };
        kept.retain(|at| *at != leaving);
    }
    let growing = kept.iter().filter(|at| columns[**at].grows).count() as u16;
    let mut spare = width.saturating_sub(needed(&kept));
    let share = spare.checked_div(growing).unwrap_or(0);
    let mut left = growing;
    let size = |at: usize| {
        let grown = match columns[at].grows {
            true if left == 1 => spare,
            true => share,
            false => 0,
        };
        left -= u16::from(columns[at].grows);
        spare -= grown;
        (at, columns[at].width + grown)
    };
    kept.into_iter().map(size).collect()
}

/// Draws headings and the rows that fit. `row` gives the cells of a row, one line per column.
pub fn draw(
    area: Rect,
    buffer: &mut Buffer,
    theme: &Theme,
    columns: &[Column],
    state: &TableState,
    row: impl Fn(usize) -> Vec<Line<'static>>,
) {
    if area.height < 2 || area.width < 4 {
        return;
    }
    // The column that the order comes from stays as long as any other.
    let mut columns = columns.to_vec();
    if let Some(column) = state.sort().and_then(|sort| columns.get_mut(sort.column)) {
        column.leaves = column.leaves.min(1);
    }
    let columns = &columns[..];
    let fitting = fitting(columns, area.width);
    let heading = |at: usize| {
        let arrow = match state.sort() {
            Some(sort) if sort.column == at => {
                if sort.descending {
                    "▾"
                } else {
                    "▴"
                }
            }
            _ => "",
        };
        Line::styled(format!("{}{arrow}", columns[at].title), theme.heading)
    };
    let headings = (0..columns.len()).map(heading).collect::<Vec<_>>();
    put(area.x, area.y, area.right(), buffer, columns, &fitting, &headings);
    let height = usize::from(area.height - 1);
    let offset = state.scrolled(height);
    state.top.set(area.y + 1);
    for (line, at) in (offset..state.len().min(offset + height)).enumerate() {
        let y = area.y + 1 + line as u16;
        put(area.x, y, area.right(), buffer, columns, &fitting, &row(at));
        if at == state.selected() {
            let whole = Rect { y, height: 1, ..area };
            let style = if theme.selected.add_modifier.contains(Modifier::REVERSED) {
                Style::new().add_modifier(Modifier::REVERSED)
            } else {
                theme.selected
            };
            buffer.set_style(whole, style);
            buffer.set_string(area.x, y, "▸", theme.selected);
        }
    }
}

fn put(
    x: u16,
    y: u16,
    end: u16,
    buffer: &mut Buffer,
    columns: &[Column],
    fitting: &[(usize, u16)],
    cells: &[Line<'static>],
) {
    let mut x = x + MARK;
    for (at, width) in fitting {
        if x >= end {
            return;
        }
        let width = (*width).min(end - x);
        if let Some(cell) = cells.get(*at) {
            let cell = fit(cell, usize::from(width));
            let air = width - (cell.width() as u16).min(width);
            let start = if columns[*at].right { x + air } else { x };
            buffer.set_line(start, y, &cell, width);
        }
        x += width + GAP;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tui::theme::ThemeName;

    const COLUMNS: [Column; 4] = [
        Column::growing("Name", 10),
        Column::number("FPS", 7, 2),
        Column::number("Size", 8, 3),
        Column::text("Status", 8, 0),
    ];

    #[test]
    fn columns_leave_by_priority_and_the_rest_grows() {
        let shown = |width| fitting(&COLUMNS, width).into_iter().map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(shown(80), [0, 1, 2, 3]);
        assert_eq!(shown(34), [0, 1, 3]);
        assert_eq!(shown(24), [0, 3]);
        assert_eq!(shown(5), [0, 3]);
        assert_eq!(fitting(&COLUMNS, 80).iter().map(|(_, w)| w + GAP).sum::<u16>(), 80 - MARK + GAP);
    }

    #[test]
    fn only_the_rows_that_are_seen_are_asked_for() {
        let mut state = TableState::default();
        state.set_len(50_000);
        state.step(Move::Last);
        let area = Rect::new(0, 0, 60, 21);
        let mut buffer = Buffer::empty(area);
        let asked = Cell::new(0);
        let theme = Theme::new(ThemeName::Default, false);
        draw(area, &mut buffer, &theme, &COLUMNS, &state, |at| {
            asked.set(asked.get() + 1);
            vec![Line::raw(at.to_string())]
        });
        assert_eq!(asked.get(), 20);
        assert_eq!(state.offset.get(), 49_980);
    }

    #[test]
    fn sorting_goes_through_the_columns_and_back_to_the_order_of_the_file() {
        let mut state = TableState::sortable(2);
        let mut seen = Vec::new();
        for _ in 0..3 {
            state.sort_by_next();
            seen.push(state.sort().map(|sort| sort.column));
        }
        assert_eq!(seen, [Some(0), Some(1), None]);
        state.reverse();
        assert_eq!(state.sort(), Some(Sort { column: 0, descending: true }));
    }

    proptest! {
        #[test]
        fn the_cursor_is_always_in_sight(
            len in 0usize..200,
            height in 1usize..40,
            steps in proptest::collection::vec(0usize..7, 0..40),
        ) {
            let mut state = TableState::default();
            state.set_len(len);
            for step in steps {
                match step {
                    0 => state.step(Move::Up),
                    1 => state.step(Move::Down),
                    2 => state.step(Move::PageUp),
                    3 => state.step(Move::PageDown),
                    4 => state.step(Move::First),
                    5 => state.step(Move::Last),
                    _ => state.set_len(len / 2),
                }
                let offset = state.scrolled(height);
                prop_assert!(state.is_empty() || (offset..offset + height).contains(&state.selected()));
                prop_assert!(state.is_empty() || state.selected() < state.len());
            }
        }
    }
}
