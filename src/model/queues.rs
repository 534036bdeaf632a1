//! How long the queues of requests were, over time; and how many requests were in which state, of old senders.

use std::io;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::resources::{Resources, Shape};
use crate::clock::Nanos;
use crate::event::{Name, ProcessId, Record};
use crate::spool::{Sorted, Spool};

/// Names of states in the order of the numbers that old senders give them (`0+` to `15+`).
const STATES: [&str; 16] = [
    "WAITING",
    "PENDING",
    "RUNNING",
    "RUNNING2",
    "SWAPPED",
    "RECOMPUTE",
    "SUSPENDED",
    "END",
    "STOP",
    "PREFILL_HOLD",
    "END_PRE",
    "STOP_PRE",
    "WAITING_PULL",
    "PULLING",
    "PULLED",
    "D2D_PULLING",
];

/// A row: the length of one queue at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueRow {
    /// When, in unix nanoseconds.
    pub time: Nanos,
    /// Where.
    pub process: ProcessId,
    /// Name of the queue or state, in capitals.
    pub queue: Name,
    /// Requests in it.
    pub size: i64,
    /// Whether it is the sum of increments since the beginning of the capture (`WAITING+`), rather than a stated length.
    pub is_sum: bool,
}

/// Builds the rows.
#[derive(Debug, Default)]
pub struct Queues {
    rows: Spool<QueueRow>,
    sums: FxHashMap<(ProcessId, Name), i64>,
}

impl Queues {
    /// Takes a record in.
    pub fn push(&mut self, record: &Record, resources: &Resources) {
        if resources.shape == Shape::Steps || record.attributes.is_empty() {
            return; // a batch: long, and without these
        }
        let mut size = None;
        for (key, value) in record.entries() {
            if key == "QueueSize=" {
                size = value.as_int();
            } else if let (Some(state), Some(change)) = (key.strip_suffix('+'), value.as_int()) {
                let state =
                    state.parse().ok().and_then(|number: usize| STATES.get(number).copied()).unwrap_or(state);
                let queue = Name::new(&state.to_ascii_uppercase());
                let sum = self.sums.entry((record.process, queue)).or_default();
                *sum = sum.saturating_add(change);
                let (time, size) = (record.start, *sum);
                self.rows
                    .push(time.0, &QueueRow { time, process: record.process, queue, size, is_sum: true });
            }
        }
        let Some(size) = size else { return };
        let queue = record.get("status").or_else(|| record.get("scope#QueueName"));
        let Some(queue) = queue.and_then(|queue| queue.as_str()) else { return };
        let row = QueueRow {
            time: record.start,
            process: record.process,
            queue: Name::new(&queue.to_ascii_uppercase()),
            size,
            is_sum: false,
        };
        self.rows.push(row.time.0, &row);
    }

    /// The rows by time.
    ///
    /// # Errors
    /// There is no space for temporary files.
    pub fn finish(self) -> io::Result<Sorted<QueueRow>> {
        self.rows.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;
    use crate::source::fixture::{record, text};

    #[test]
    fn lengths_are_as_stated_and_increments_are_summed() {
        let mut queues = Queues::default();
        let stated = [("scope#QueueName", text("waiting")), ("QueueSize=", Value::Int(7))];
        queues.push(&record((1, 1), "Schedule", "Enqueue", &stated), &Resources::default());
        for (time, change) in [(2, 1), (3, 1), (4, -1)] {
            queues.push(
                &record((time, time), "Request", "ReqState", &[("0+", Value::Int(change))]),
                &Resources::default(),
            );
        }
        let rows: Vec<_> =
            queues.finish().unwrap().iter().map(|r| (r.queue.as_str(), r.size, r.is_sum)).collect();
        assert_eq!(
            rows,
            [("WAITING", 7, false), ("WAITING", 1, true), ("WAITING", 2, true), ("WAITING", 1, true)]
        );
    }
}
