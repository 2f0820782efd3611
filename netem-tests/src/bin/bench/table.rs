//! Markdown tables that can be read without rendering them.

/// Returns `rows`, the first of which is the head, with padded cells. The first column is aligned
/// to the left, all others to the right.
pub(crate) fn align(rows: &[Vec<String>]) -> String {
    let n_columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..n_columns).map(|column| width(column).max(3)).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (position, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(&if position == 0 {
                format!("| {cell:<width$} |")
            } else {
                format!(" {cell:>width$} |")
            });
        }
        text.push('\n');
        if number == 0 {
            for (position, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width - 1);
                text.push_str(&if position == 0 {
                    format!("| {dashes}- |")
                } else {
                    format!(" {dashes}: |")
                });
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_padded_to_the_widest_of_their_column() {
        let rows = [
            vec![String::new(), "clean".to_owned()],
            vec!["frp quic".to_owned(), "–".to_owned()],
        ];

        assert_eq!(
            align(&rows),
            "|          | clean |\n| -------- | ----: |\n| frp quic |     – |\n"
        );
    }
}
