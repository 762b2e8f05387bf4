//! Text for a terminal: aligned columns, and nothing in them that a terminal would obey.

/// As the first row's header or any cell.
pub(super) type Row = Vec<String>;

/// Rows in columns as wide as their widest cell, two spaces apart; each line ends in a newline.
pub(super) fn columns(header: &[&str], rows: impl IntoIterator<Item = Row>) -> String {
    let header = header.iter().map(|&title| title.to_owned()).collect();
    let rows: Vec<Row> = std::iter::once(header)
        .chain(rows)
        .map(|row| row.iter().map(|cell| printable(cell)).collect())
        .collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..count).map(width).collect();
    let line = |row: &Row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// With a space for each control character: logs of replicas may hold anything.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A part of the key space.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The value, or a dash for none.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_harmless() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = columns(&["A", "B"], [row(["é\u{1b}[31m", "x"]), row(["long name", ""])]);
        assert_eq!(text, "A          B\né [31m     x\nlong name\n");
    }
}
