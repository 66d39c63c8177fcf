//! Medians, ratios, and the table.

use serde::Serialize;

/// What is compared; each is the median of its rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) decimals: usize,
}

pub(crate) const COLUMNS: [Column; 9] = [
    Column { title: "1 client, jobs/s", decimals: 0 },
    Column { title: "p50 µs", decimals: 0 },
    Column { title: "64 clients, jobs/s", decimals: 0 },
    Column { title: "100 × 8, jobs/s", decimals: 0 },
    Column { title: "cycle 64 × 1, jobs/s", decimals: 0 },
    Column { title: "cycle 8 × 10, jobs/s", decimals: 0 },
    Column { title: "memory MB", decimals: 0 },
    Column { title: "disk MB", decimals: 0 },
    Column { title: "s to first job", decimals: 2 },
];

/// A queue's row: its values in the order of the columns, or why there is none.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) peer: &'static str,
    pub(crate) version: String,
    pub(crate) values: [Cell; COLUMNS.len()],
    pub(crate) errors: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cell {
    /// It has no such thing, or nobody asked.
    Nothing,
    Rounds(Vec<f64>),
    Failed(String),
}

impl Cell {
    pub(crate) fn add(&mut self, value: f64) {
        match self {
            Cell::Rounds(rounds) => rounds.push(value),
            Cell::Nothing => *self = Cell::Rounds(vec![value]),
            Cell::Failed(_) => {}
        }
    }

    fn median(&self) -> Option<f64> {
        let Cell::Rounds(rounds) = self else { return None };
        let mut rounds = rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds.get(rounds.len() / 2).copied()
    }
}

/// The whole table as Markdown: in parentheses the ratio to the first row's value.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let titles: Vec<&str> = COLUMNS.iter().map(|column| column.title).collect();
    let mut lines = vec![
        format!("| | {} |", titles.join(" | ")),
        format!("|---{}|", "|---".repeat(COLUMNS.len())),
    ];
    let pulk = rows.iter().find(|row| row.peer == "pulk");
    for row in rows {
        let mut line = format!("| {} |", row.peer);
        for (number, (cell, column)) in row.values.iter().zip(COLUMNS).enumerate() {
            let base = pulk.and_then(|pulk| pulk.values.get(number)?.median());
            line += &format!(" {} |", text(cell, base, column.decimals));
        }
        lines.push(line);
    }
    lines.join("\n")
}

fn text(cell: &Cell, base: Option<f64>, decimals: usize) -> String {
    match (cell, cell.median()) {
        (Cell::Failed(why), _) => why.clone(),
        (_, None) => "–".into(),
        (_, Some(value)) => {
            let number = thousands(&format!("{value:.decimals$}"));
            match base {
                Some(base) if base > 0.0 => format!("{number} ({:.2})", value / base),
                _ => number,
            }
        }
    }
}

/// `1234567` as `1,234,567`; what stands behind a point stays.
fn thousands(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: &'static str, first: Cell) -> Row {
        let mut values = std::array::from_fn(|_| Cell::Nothing);
        values[0] = first;
        Row { peer, version: String::new(), values, errors: Vec::new() }
    }

    #[test]
    fn ratios_are_to_pulk_of_medians() {
        let rows = [
            row("other", Cell::Rounds(vec![500.0, 2_500.0, 1.0])),
            row("pulk", Cell::Rounds(vec![1_000.0, 900.0, 5_000_000.0])),
            row("gone", Cell::Failed("did not come back within 120 s".into())),
        ];
        let table = markdown(&rows);
        assert!(table.contains("| other | 500 (0.50) | – |"), "{table}");
        assert!(table.contains("| pulk | 1,000 (1.00) |"), "{table}");
        assert!(table.contains("| gone | did not come back within 120 s |"), "{table}");
    }

    #[test]
    fn without_pulk_there_is_no_ratio() {
        let table = markdown(&[row("other", Cell::Rounds(vec![1_234_567.0]))]);
        assert!(table.contains("| other | 1,234,567 | –"), "{table}");
    }

    #[test]
    fn a_failure_is_kept() {
        let mut cell = Cell::Failed("why".into());
        cell.add(1.0);
        assert_eq!(cell, Cell::Failed("why".into()));
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands("999"), "999");
        assert_eq!(thousands("1000.25"), "1,000.25");
    }
}
