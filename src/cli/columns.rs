//! Tables of text: columns as wide as their widest cell.

use unicode_width::UnicodeWidthStr;

/// Lines of `rows` under `header`. The last column is not padded.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    let rows: Vec<Vec<String>> = std::iter::once(&header)
        .chain(rows)
        .map(|row| row.iter().map(|cell| super::sanitized(cell).replace('\n', " ")).collect())
        .collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
    let widths: Vec<usize> = (0..header.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.width() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_cells_are_one_line() {
        let rows =
            [vec!["1".into(), "日本".into(), "x\ny\u{1b}".into()], vec!["22".into(), "a".into(), "".into()]];
        let text = table(&["N", "NAME", "END"], &rows);
        assert_eq!(text, "N   NAME  END\n1   日本  x y\\u{1b}\n22  a\n");
    }
}
