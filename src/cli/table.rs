//! Tables: as wide as the terminal, plain where there is none.

use std::io::{self, IsTerminal};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width, presets};

use crate::clock::{Clock, SystemClock, Timestamp};

/// Spaces between two columns.
const GAP: u16 = 2;
/// A column of text is not made narrower, whatever the terminal: it could not be read.
const TEXT_WIDTH_MIN: u16 = 8;

/// Rows of text under a header.
pub(super) struct Table(comfy_table::Table);

/// How a column is written.
pub(super) enum Column {
    /// From the left; it may be broken where the terminal is narrow.
    Text(&'static str),
    /// From the left, never broken: somebody will copy it.
    Whole(&'static str),
    /// From the right.
    Number(&'static str),
}

impl Table {
    pub(super) fn new(columns: &[Column]) -> Table {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        let names = columns.iter().map(|column| match column {
            Column::Text(name) | Column::Whole(name) | Column::Number(name) => *name,
        });
        table.set_header(names.collect::<Vec<_>>());
        if let Some(width) = terminal_width() {
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        }
        for (number, column) in columns.iter().enumerate() {
            let Some(drawn) = table.column_mut(number) else { continue };
            let is_first = number == 0;
            drawn.set_padding((if is_first { 0 } else { GAP }, 0));
            drawn.set_constraint(match column {
                Column::Text(_) => ColumnConstraint::LowerBoundary(Width::Fixed(TEXT_WIDTH_MIN)),
                _ => ColumnConstraint::ContentWidth,
            });
            if matches!(column, Column::Number(_)) {
                drawn.set_cell_alignment(CellAlignment::Right);
            }
        }
        Table(table)
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells.into_iter().map(|cell| printable(&cell)).collect::<Vec<_>>());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of it, each line with its end.
    pub(super) fn text(&self) -> String {
        let lines = self.0.lines().map(|line| format!("{}\n", line.trim_end()));
        lines.collect()
    }
}

/// The columns of the terminal; `None` where the output goes elsewhere.
pub(super) fn terminal_width() -> Option<u16> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

/// The text with what would move the cursor, change colours or break the line made visible.
pub(super) fn printable(text: &str) -> String {
    let shown = text.chars().map(|each| if each.is_control() { '·' } else { each });
    shown.collect()
}

/// A span of time as a person says it.
pub(super) fn span(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    let unit = UNITS.into_iter().find(|(unit_ms, _)| ms >= *unit_ms);
    match unit {
        Some((unit_ms, name)) if ms < 10 * unit_ms => {
            format!("{}.{} {name}", ms / unit_ms, ms % unit_ms * 10 / unit_ms)
        }
        Some((unit_ms, name)) => format!("{} {name}", ms / unit_ms),
        None => format!("{ms} ms"),
    }
}

/// How far a moment is from now, as a person says it; "" for what is no moment.
pub(super) fn from_now(moment: &str) -> String {
    let now = SystemClock.now();
    match moment.parse::<Timestamp>() {
        Ok(moment) if moment > now => format!("in {}", span(moment.ms_since(now))),
        Ok(moment) => format!("{} ago", span(now.ms_since(moment))),
        Err(_) => String::new(),
    }
}

/// "1 job", "2 jobs".
pub(super) fn jobs(count: u64) -> String {
    if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_stands_in_columns() {
        let mut table =
            Table::new(&[Column::Whole("ID"), Column::Number("N"), Column::Text("ERROR")]);
        assert!(table.is_empty());
        table.row(["a".to_owned(), "1".to_owned(), "no\x1b[31m\nroute".to_owned()]);
        table.row(["bcd".to_owned(), "234".to_owned(), String::new()]);
        assert_eq!(table.text(), "ID     N  ERROR\na      1  no·[31m·route\nbcd  234\n");
    }

    #[test]
    fn spans_are_short() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_250, "1.2 s"),
            (59_999, "59 s"),
            (90_000, "1.5 min"),
            (7_200_000, "2.0 h"),
            (864_000_000, "10 d"),
        ] {
            assert_eq!(span(ms), text);
        }
    }
}
