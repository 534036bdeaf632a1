//! One row for each forward pass of the model, and the bubble until the next.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};

use super::batches::SCHEDULE_NAMES;
use super::ids::RequestId;
use super::resources::Resources;
use crate::clock::Nanos;
use crate::event::{Kind, Name, Places, ProcessId, Record};

/// A schedule is looked for among the last so many, of all engines: schedulers run a few steps ahead at most.
const SCHEDULES_KEPT: usize = 1024;

/// A row: one forward pass. Times are unix nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// When it began.
    pub start: Nanos,
    /// When it ended.
    pub end: Nanos,
    /// Where.
    pub process: ProcessId,
    /// Number of requests; 0 if it names none.
    pub batch_size: usize,
    /// What it does, as it or the schedule before it says.
    pub batch_type: Option<Name>,
    /// Ordinal in its capture, from 1 on.
    pub iter: usize,
    /// Nanoseconds until the next forward pass of its capture begins; none for the last. Negative if they overlap.
    pub bubble: Option<i64>,
    /// Nanoseconds since the first forward pass of its host.
    pub since_first: u64,
}

/// Builds the rows.
#[derive(Debug, Default)]
pub struct Forwards {
    rows: Vec<Row>,
    /// The last schedules.
    schedules: VecDeque<Schedule>,
    key: Vec<RequestId>,
    has_schedules: bool,
}

#[derive(Clone, Copy, Debug)]
struct Schedule {
    /// Hash of its set of requests.
    requests: u64,
    start: Nanos,
    batch_type: Option<Name>,
}

#[derive(Debug)]
struct Row {
    forward: Forward,
    /// The schedule before it.
    schedule: Option<Schedule>,
}

impl Forwards {
    /// Takes a record in.
    pub fn push(&mut self, record: &Record, resources: &Resources) {
        let is_schedule = SCHEDULE_NAMES[..2].contains(&record.name());
        if !matches!(record.kind, Kind::Span) || !(is_schedule || record.name() == "forward") {
            return;
        }
        self.key.clear();
        self.key.extend(resources.list.iter().map(|resource| resource.request));
        // A worker keeps its batch in an order of its own.
        self.key.sort_unstable();
        let batch_type = resources.batch_type;
        let mut hasher = FxHasher::default();
        self.key.hash(&mut hasher);
        let requests = hasher.finish();
        if is_schedule {
            self.has_schedules = true;
            if self.schedules.len() == SCHEDULES_KEPT {
                self.schedules.pop_front();
            }
            self.schedules.push_back(Schedule { requests, start: record.start, batch_type });
            return;
        }
        let is_before = |s: &&Schedule| s.requests == requests && s.start <= record.start;
        let before = self.schedules.iter().rev().find(is_before);
        self.rows.push(Row {
            forward: Forward {
                start: record.start,
                end: record.end,
                process: record.process,
                batch_size: resources.list.len(),
                batch_type,
                iter: 0,
                bubble: None,
                since_first: 0,
            },
            schedule: before.copied(),
        });
    }

    /// The rows by start. None if the session has no schedules, without which a forward pass can't be told apart
    /// from a warm-up; passes of unknown requests are left out, unless every pass says itself what it does.
    pub fn finish(self, places: &Places) -> Vec<Forward> {
        if !self.has_schedules {
            return Vec::new();
        }
        let all_known =
            self.rows.iter().all(|row| row.forward.batch_type.is_some() && row.forward.batch_size > 0);
        let complete = |mut row: Row| {
            if !all_known {
                row.forward.batch_type = row.schedule?.batch_type.or(row.forward.batch_type);
            }
            Some(row.forward)
        };
        let mut rows: Vec<Forward> = self.rows.into_iter().filter_map(complete).collect();
        rows.sort_by_key(|row| row.start);

        let mut first_of_host: FxHashMap<&str, Nanos> = FxHashMap::default();
        let mut last_of_capture: FxHashMap<&str, usize> = FxHashMap::default();
        for position in 0..rows.len() {
            let process = places.process(rows[position].process);
            let start = rows[position].start;
            let first = *first_of_host.entry(&process.host).or_insert(start);
            rows[position].since_first = start.0.saturating_sub(first.0);
            rows[position].iter = 1;
            if let Some(previous) = last_of_capture.insert(&process.capture, position) {
                rows[previous].bubble = Some(start.0.wrapping_sub(rows[previous].end.0) as i64);
                rows[position].iter = rows[previous].iter + 1;
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;
    use crate::model::Ids;
    use crate::source::fixture::{ids, record, text};

    fn build(records: &[Record]) -> Vec<Forward> {
        let (mut known, mut resources, mut forwards) =
            (Ids::default(), Resources::default(), Forwards::default());
        for record in records {
            resources.read(record, &mut known);
            forwards.push(record, &resources);
        }
        forwards.finish(&Places::default())
    }

    fn schedule(times: (u64, u64), requests: Value, batch_type: &str) -> Record {
        let entries = [("rid", requests), ("batch_type", text(batch_type))];
        record(times, "Schedule", "batchFrameworkProcessing", &entries)
    }

    fn forward(times: (u64, u64), requests: Value) -> Record {
        record(times, "Execute", "forward", &[("rid", requests)])
    }

    #[test]
    fn a_pass_is_of_the_schedule_before_it_also_when_the_scheduler_runs_ahead() {
        let rows = build(&[
            schedule((1, 2), ids(&["a"]), "Prefill"),
            schedule((11, 12), ids(&["a"]), "Decode"),
            forward((10, 20), ids(&["a"])),
            forward((25, 30), ids(&["a"])),
            forward((31, 32), ids(&["warm-up"])),
        ]);
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (row.start.0, row.batch_type.map(Name::as_str), row.iter, row.bubble, row.since_first))
            .collect();
        assert_eq!(seen, [(10, Some("Prefill"), 1, Some(5), 0), (25, Some("Decode"), 2, None, 15)]);
    }

    #[test]
    fn a_worker_may_name_the_requests_of_a_batch_in_another_order() {
        let rows =
            build(&[schedule((1, 2), ids(&["a", "b"]), "Decode"), forward((10, 20), ids(&["b", "a"]))]);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].batch_type.map(Name::as_str), Some("Decode"));
    }

    #[test]
    fn without_schedules_there_are_no_rows() {
        assert!(build(&[forward((1, 2), ids(&["a"]))]).is_empty());
    }
}
