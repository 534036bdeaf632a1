//! `request_status.csv`: how long the queues of requests were, over time.

use std::io::{self, Write};

use rustc_hash::FxHashMap;

use super::Outcome;
use super::spreadsheet::Csv;
use super::times::Calendar;
use crate::clock::Nanos;
use crate::event::{Places, ProcessId};
use crate::model::QueueRow;
use crate::spool::Sorted;

/// The queues that have a column.
const QUEUES: [&str; 3] = ["WAITING", "RUNNING", "SWAPPED"];

/// Writes the lengths.
///
/// # Errors
/// The writer fails.
pub fn write(
    rows: &Sorted<QueueRow>,
    places: &Places,
    calendar: &mut Calendar,
    out: impl Write,
) -> io::Result<Outcome> {
    let mut csv = Csv::new(out);
    csv.write_record([
        "hostuid",
        "pid",
        "start_datetime",
        "relative_timestamp(ms)",
        "waiting",
        "running",
        "swapped",
        "timestamp(ms)",
    ])?;
    let (mut count, mut firsts) = (0, FxHashMap::<ProcessId, Nanos>::default());
    for row in rows.iter().filter(|row| QUEUES.contains(&row.queue.as_str())) {
        let process = places.process(row.process);
        let first = *firsts.entry(row.process).or_insert(row.time);
        let millis = |nanos: u64| format!("{:.2}", nanos as f64 / 1e6);
        let [waiting, running, swapped] = QUEUES
            .map(|queue| if queue == row.queue.as_str() { row.size.to_string() } else { String::new() });
        csv.write_record([
            &process.host,
            &process.pid.to_string(),
            calendar.text(row.time),
            &millis(row.time.0.saturating_sub(first.0)),
            &waiting,
            &running,
            &swapped,
            &millis(row.time.0),
        ])?;
        count += 1;
    }
    csv.flush()?;
    Ok(Outcome::of_rows(count, "no record tells the length of a queue (QueueSize= with scope#QueueName)"))
}
