//! `forward.csv`: one row for each forward pass, with the bubble until the next.

use std::io::{self, Write};

use super::Outcome;
use super::spreadsheet::Csv;
use super::times::{Calendar, Millis};
use crate::event::Places;
use crate::model::Forward;

/// Writes the forward passes.
///
/// # Errors
/// The writer fails.
pub fn write(
    forwards: &[Forward],
    places: &Places,
    calendar: &mut Calendar,
    out: impl Write,
) -> io::Result<Outcome> {
    if forwards.is_empty() {
        return Ok(Outcome::Nothing(
            "no forward pass of a scheduled batch (forward, batchFrameworkProcessing)",
        ));
    }
    let mut csv = Csv::new(out);
    csv.write_record([
        "name",
        "relative_start_time(ms)",
        "start_datetime",
        "end_datetime",
        "during_time(ms)",
        "bubble_time(ms)",
        "batch_size",
        "batch_type",
        "forward_iter",
        "dp_rank",
        "prof_id",
        "hostname",
        "start_time(ms)",
        "end_time(ms)",
    ])?;
    for forward in forwards {
        let process = places.process(forward.process);
        let (start, end) = (calendar.text(forward.start).to_owned(), calendar.text(forward.end).to_owned());
        let millis = |nanos: u64| Millis(nanos as i64).to_string();
        csv.write_record([
            "forward",
            &two_decimals(forward.since_first as i64),
            &start,
            &end,
            &millis(forward.end.0.saturating_sub(forward.start.0)),
            &forward.bubble.map(two_decimals).unwrap_or_default(),
            &forward.batch_size.to_string(),
            forward.batch_type.map_or("", |name| name.as_str()),
            &forward.iter.to_string(),
            &process.dp_rank.map(|rank| rank.to_string()).unwrap_or_default(),
            &process.capture,
            &process.host,
            &millis(forward.start.0),
            &millis(forward.end.0),
        ])?;
    }
    csv.flush()?;
    Ok(Outcome::Rows(forwards.len() as u64))
}

fn two_decimals(nanos: i64) -> String {
    format!("{:.2}", nanos as f64 / 1e6)
}
