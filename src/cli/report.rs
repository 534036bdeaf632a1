//! A table on the terminal, or as CSV or JSON: what `stats`, `query` and `compare` answer with. Text comes from captures,
//! so it is made [`printable`] wherever it may reach a terminal.

use std::io::{self, Write};

use clap::Args;

use crate::export::spreadsheet::Csv;
use crate::printable::printable;

/// A longer cell stands out of its column, which is no wider than this.
const WIDEST: usize = 160;

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct Form {
    /// Answer as JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,

    /// Answer as CSV
    #[arg(long)]
    csv: bool,

    #[command(flatten)]
    pub(super) cells: RawCsv,
}

/// How texts stand in CSV.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct RawCsv {
    /// Leave texts in CSV as they are: else one that a spreadsheet would run (=…) has ' in front, and control characters
    /// are spelled out
    #[arg(long)]
    pub(super) raw_csv: bool,
}

/// A table with a title.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) title: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// A value, as it is and as a person reads it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Empty,
    Text(String),
    Int(i64),
    /// With so many decimals on the terminal; a time, which has three, with as many as show three digits.
    Number(f64, usize),
}

impl Report {
    pub(super) fn new(title: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { title: title.to_owned(), columns, rows: Vec::new() }
    }

    /// A list of objects. A column that has the name of one before it is `<name>_2`, and so on: an object has each name
    /// once.
    fn json(&self) -> serde_json::Value {
        let mut names: Vec<String> = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let others = (2..).map(|number| format!("{column}_{number}"));
            names.extend(std::iter::once(column.clone()).chain(others).find(|name| !names.contains(name)));
        }
        let row = |row: &Vec<Cell>| -> serde_json::Map<String, serde_json::Value> {
            names.iter().cloned().zip(row.iter().map(Cell::json)).collect()
        };
        self.rows.iter().map(row).collect()
    }

    fn write_csv(&self, out: &mut impl Write) -> io::Result<()> {
        let mut csv = Csv::new(out);
        csv.write_record(&self.columns)?;
        for row in &self.rows {
            csv.write_record(row.iter().map(Cell::exact))?;
        }
        csv.flush()
    }

    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let shown: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(Cell::shown).collect()).collect();
        let columns: Vec<String> = self.columns.iter().map(|name| printable(name).into_owned()).collect();
        let width = |column: usize| {
            let cells = shown.iter().filter_map(|row| row.get(column)).chain(columns.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default().min(WIDEST)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        // Texts stand to the left, numbers to the right.
        let is_text = |column: usize| {
            self.rows.iter().any(|row| matches!(row.get(column), Some(Cell::Text(_))))
                || self.rows.iter().all(|row| matches!(row.get(column), Some(Cell::Empty) | None))
        };
        let is_text: Vec<bool> = (0..self.columns.len()).map(is_text).collect();
        let mut line = |cells: &[String]| {
            let mut text = String::new();
            for ((cell, width), is_text) in cells.iter().zip(&widths).zip(&is_text) {
                let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
                text.push_str(if text.is_empty() { "" } else { "  " });
                let (before, after) = if *is_text { ("", gap.as_str()) } else { (gap.as_str(), "") };
                text.extend([before, cell, after]);
            }
            writeln!(out, "{}", text.trim_end())
        };
        line(&columns)?;
        line(&widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>())?;
        shown.iter().try_for_each(|row| line(row))
    }
}

/// Prints a line to stdout.
pub(super) fn say(line: impl std::fmt::Display) {
    // A reader that has gone away (`| head`) is no reason to fail.
    let _ = writeln!(io::stdout(), "{}", printable(&line.to_string()));
}

/// Prints the tables to stdout.
pub(super) fn print(reports: &[Report], form: Form) {
    let mut out = io::BufWriter::new(io::stdout());
    let print = |out: &mut io::BufWriter<io::Stdout>| {
        if form.json {
            let value = match reports {
                [one] => one.json(),
                all => all
                    .iter()
                    .map(|report| (report.title.clone(), report.json()))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
            };
            writeln!(out, "{}", printable(&value.to_string()))?;
            return out.flush();
        }
        for (number, report) in reports.iter().enumerate() {
            if form.csv {
                report.write_csv(out)?;
                continue;
            }
            if !report.title.is_empty() {
                writeln!(out, "{}{}", if number > 0 { "\n" } else { "" }, printable(&report.title))?;
            }
            report.write_text(out)?;
        }
        out.flush()
    };
    // A reader that has gone away (`| head`) is no reason to fail.
    let _ = print(&mut out);
}

impl Cell {
    pub(super) fn count(count: u64) -> Self {
        Self::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Nanoseconds, as milliseconds.
    pub(super) fn millis(nanos: f64) -> Self {
        Self::Number(nanos / 1e6, 3)
    }

    pub(super) fn or_empty<T>(value: Option<T>, cell: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Empty, cell)
    }

    fn shown(&self) -> String {
        match self {
            Self::Empty => "-".to_owned(),
            Self::Number(number, decimals) => {
                let decimals = decimals_of(*number, *decimals);
                format!("{number:.decimals$}")
            }
            Self::Text(text) => printable(text).into_owned(),
            Self::Int(number) => number.to_string(),
        }
    }

    /// What it takes of memory.
    pub(super) fn bytes(&self) -> usize {
        let text = if let Self::Text(text) = self { text.capacity() } else { 0 };
        size_of::<Self>() + text
    }

    fn exact(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Number(number, _) => number.to_string(),
        }
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Self::Empty => serde_json::Value::Null,
            Self::Text(text) => text.as_str().into(),
            Self::Int(number) => (*number).into(),
            Self::Number(number, _) => (*number).into(),
        }
    }
}

/// So many decimals, or as many as show three digits of a small number. A calculation's rounding error, far below a
/// nanosecond in milliseconds, is no small number.
fn decimals_of(number: f64, least: usize) -> usize {
    const MOST: usize = 8;
    let size = number.abs();
    if least < 3 || size < 0.1_f64.powi(MOST as i32) {
        return least;
    }
    least.max((2.0 - size.log10().floor()) as usize).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stand_to_the_left_and_numbers_to_the_right() {
        let mut report = Report::new("", &["Name", "Count"]);
        report.rows.push(vec![Cell::Text("a".into()), Cell::Int(12_345)]);
        report.rows.push(vec![Cell::Text("longer".into()), Cell::Empty]);
        let mut out = Vec::new();
        report.write_text(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Name    Count\n------  -----\na       12345\nlonger      -\n"
        );
        let mut out = Vec::new();
        report.write_csv(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "Name,Count\na,12345\nlonger,\n");
        assert_eq!(
            report.json().to_string(),
            r#"[{"Name":"a","Count":12345},{"Name":"longer","Count":null}]"#
        );
    }

    #[test]
    fn a_time_of_nanoseconds_is_shown_with_three_digits() {
        for (nanos, shown) in [
            (59.0, "0.0000590"),
            (59.26, "0.0000593"),
            (-1_234.0, "-0.00123"),
            (0.0, "0.000"),
            (1e-9, "0.000"),
            (1.0, "0.00000100"),
            (99_960.0, "0.1000"),
            (123_456_789.0, "123.457"),
        ] {
            let cell = Cell::millis(nanos);
            assert_eq!(cell.shown(), shown);
            assert_eq!(cell.json(), serde_json::json!(nanos / 1e6), "JSON has all of it");
        }
        assert_eq!(Cell::Number(0.01, 1).shown(), "0.0", "per cent");
    }

    #[test]
    fn columns_of_one_name_stay_apart_in_json() {
        let mut report = Report::new("", &["a", "a_2", "a", "a"]);
        report.rows.push([1, 2, 3, 4].map(Cell::Int).to_vec());
        assert_eq!(report.json().to_string(), r#"[{"a":1,"a_2":2,"a_3":3,"a_4":4}]"#);
    }

    #[test]
    fn a_cell_is_one_line_without_control_characters_and_stretches_no_column_beyond_measure() {
        let mut report = Report::new("", &["\u{1b}[2J", "N"]);
        report.rows.push(vec![Cell::Text("a\n\u{202e}b".into()), Cell::Int(1)]);
        report.rows.push(vec![Cell::Text("x".repeat(10_000)), Cell::Int(2)]);
        let mut out = Vec::new();
        report.write_text(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("\\u001b[2J ") && lines[2].starts_with("a\\n\\u202eb "), "{text}");
        assert_eq!(lines[2].chars().count(), WIDEST + 3);
    }
}
