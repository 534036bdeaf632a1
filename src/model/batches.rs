//! One row for each scheduled batch and each execution of one: its requests, tokens, and the state of the KV cache.

use std::io;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::ids::{Ids, RequestId};
use super::kv_cache::{KvState, is_kv_domain};
use super::resources::{Amount, Phase, Resource, Resources, Shape};
use crate::clock::Nanos;
use crate::event::{Kind, Name, ProcessId, Record, View};
use crate::spool::{Sorted, Spool};

/// Names of spans in which a batch is put together; only the first of them that a session has is shown.
pub const SCHEDULE_NAMES: [&str; 3] = ["BatchSchedule", "batchFrameworkProcessing", "Schedule"];

/// Names of spans in which a batch runs.
pub const BATCH_NAMES: [&str; 4] = ["modelExec", "modelRunnerExec", "Execute", "specDecoding"];

/// So many rows of a process wait for what a later record says of them; then they go without.
const MOST_WAITING: usize = 64;

/// A row: a batch that was scheduled or run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Batch {
    /// Name of the span.
    pub name: Name,
    /// When it began, in unix nanoseconds.
    pub start: Nanos,
    /// When it ended, in unix nanoseconds.
    pub end: Nanos,
    /// Where.
    pub process: ProcessId,
    /// Its requests.
    pub resources: Box<[Resource]>,
    /// How the record wrote them.
    pub shape: Shape,
    /// What it does.
    pub batch_type: Option<Name>,
    /// The cache after it was scheduled.
    pub kv: Option<Box<KvState>>,
    /// What came of its drafts, if it is one of speculative decoding.
    pub draft: Option<Box<Draft>>,
}

/// What came of the tokens that a draft model proposed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// Requests in prefill and in decode of the execution before it; a draft itself has no phases.
    pub sizes: Option<(u32, u32)>,
    /// Tokens that were accepted, by request of the batch.
    pub accepted: Box<[Amount]>,
}

/// Builds the rows.
#[derive(Debug, Default)]
pub struct Batches {
    rows: Spool<Batch>,
    processes: FxHashMap<ProcessId, Waiting>,
    /// Which of [`SCHEDULE_NAMES`] there are.
    schedules: [bool; SCHEDULE_NAMES.len()],
}

/// The finished rows.
#[derive(Debug, Default)]
pub struct BatchTable {
    rows: Sorted<Batch>,
    /// Names of schedules that are not shown beside a better one.
    hidden: Vec<Name>,
}

/// What a process has said around its schedules and drafts.
#[derive(Debug, Default)]
struct Waiting {
    /// States of the cache since the last schedule ended, and the last one before.
    states: Vec<(Nanos, KvState)>,
    /// Schedules that no state has followed yet.
    schedules: Vec<Batch>,
    /// Drafts that no execution has followed yet.
    drafts: Vec<Batch>,
    /// Requests in prefill and decode of the last execution.
    sizes: Option<(u32, u32)>,
}

impl Batch {
    /// Whether it was put together, rather than run.
    pub fn is_schedule(&self) -> bool {
        SCHEDULE_NAMES.contains(&self.name.as_str())
    }

    /// How many of its requests are in the phase; None if it tells of none what it does.
    pub fn size(&self, phase: Phase) -> Option<u32> {
        let (prefill, decode) = match self.draft.as_ref().and_then(|draft| draft.sizes) {
            Some(sizes) => sizes,
            None => self.sizes()?,
        };
        Some(if phase == Phase::Prefill { prefill } else { decode })
    }

    /// How many of its requests are in prefill and in decode, if it tells.
    fn sizes(&self) -> Option<(u32, u32)> {
        let mut phases = self.resources.iter().filter_map(Resource::phase).peekable();
        phases.peek()?;
        Some(phases.fold((0, 0), |(prefill, decode), phase| match phase {
            Phase::Prefill => (prefill + 1, decode),
            Phase::Decode => (prefill, decode + 1),
        }))
    }

    /// Tokens computed for its requests in the phase; None if it tells of no request how many.
    pub fn tokens(&self, phase: Phase) -> Option<u64> {
        self.tokens_of(|resource| resource.phase() == Some(phase))
    }

    /// Tokens computed for all its requests; None if it tells of none how many.
    pub fn total_tokens(&self) -> Option<u64> {
        self.tokens_of(|_| true)
    }

    fn tokens_of(&self, is_meant: impl Fn(&Resource) -> bool) -> Option<u64> {
        let mut told = self.resources.iter().filter(|resource| resource.scheduled.get().is_some()).peekable();
        told.peek()?;
        let meant =
            told.filter(|resource| is_meant(resource)).filter_map(|resource| resource.scheduled.get());
        Some(meant.map(u64::from).sum())
    }

    /// Tokens drafted for and accepted by each request, where both are known.
    pub fn drafts(&self) -> impl Iterator<Item = (&Resource, u32, u32)> {
        let accepted = self.draft.as_ref().map_or(&[][..], |draft| &draft.accepted);
        let both = |(resource, accepted): (_, &Amount)| Some((resource, drafted(resource)?, accepted.get()?));
        self.resources.iter().zip(accepted).filter_map(both)
    }

    /// Accepted tokens by drafted ones: Σ accepted / Σ drafted.
    pub fn accepted_share(&self) -> Option<f64> {
        let (drafted, accepted) = self.drafts().fold((0, 0), |sum, (_, drafted, accepted)| {
            (sum.0 + u64::from(drafted), sum.1 + u64::from(accepted))
        });
        (drafted > 0).then(|| accepted as f64 / drafted as f64)
    }

    /// By position p of a draft, from 0 on: requests that accepted p + 1 tokens or more, by those with as many drafted.
    pub fn accepted_by_position(&self) -> Vec<f64> {
        let longest = self.drafts().map(|(_, drafted, _)| drafted).max().unwrap_or_default();
        let share = |position| {
            let reached = self.drafts().filter(|(_, drafted, _)| *drafted > position).count();
            let accepted = self.drafts().filter(|(_, _, accepted)| *accepted > position).count();
            accepted as f64 / reached as f64
        };
        (0..longest).map(share).collect()
    }
}

fn drafted(resource: &Resource) -> Option<u32> {
    resource.drafted.get().or(resource.scheduled.get())
}

impl Batches {
    /// Takes a record in.
    pub fn push(&mut self, record: &Record, resources: &Resources, ids: &mut Ids) {
        let name = record.name();
        if name == "KVCacheStatus" && is_kv_domain(record.domain()) {
            self.take_state(record);
            return;
        }
        let schedule = SCHEDULE_NAMES.iter().position(|known| *known == name);
        if !matches!(record.kind, Kind::Span)
            || resources.list.is_empty()
            || (schedule.is_none() && !BATCH_NAMES.contains(&name))
        {
            return;
        }
        let mut batch = Batch {
            name: record.label.name(),
            start: record.start,
            end: record.end,
            process: record.process,
            resources: resources.list.as_slice().into(),
            shape: resources.shape,
            batch_type: resources.batch_type,
            kv: None,
            draft: None,
        };
        let waiting = self.processes.entry(record.process).or_default();
        match name {
            "specDecoding" => {
                let accepted = vec![Amount::UNKNOWN; batch.resources.len()].into();
                batch.draft = Some(Box::new(Draft { sizes: waiting.sizes, accepted }));
                waiting.drafts.push(batch);
                if waiting.drafts.len() > MOST_WAITING {
                    let oldest = waiting.drafts.remove(0);
                    self.rows.push(oldest.start.0, &oldest);
                }
                return;
            }
            "modelExec" => waiting.sizes = batch.sizes(),
            "modelRunnerExec" => {
                let accepted = accepted_by_request(record, ids);
                let is_before = |draft: &mut Batch| draft.end <= record.start;
                for mut draft in waiting.drafts.extract_if(.., is_before) {
                    draft.take_accepted(&accepted);
                    self.rows.push(draft.start.0, &draft);
                }
            }
            _ => {}
        }
        if let Some(schedule) = schedule {
            self.schedules[schedule] = true;
            if let Some(state) = waiting.state_for(&batch) {
                batch.kv = Some(Box::new(state));
            } else {
                waiting.schedules.push(batch);
                if waiting.schedules.len() > MOST_WAITING {
                    let mut oldest = waiting.schedules.remove(0);
                    oldest.kv = waiting.states.last().map(|(_, state)| Box::new(*state));
                    self.rows.push(oldest.start.0, &oldest);
                }
                return;
            }
        }
        self.rows.push(batch.start.0, &batch);
    }

    /// The rows by start; of the schedules, only those of the name that goes first.
    ///
    /// # Errors
    /// There is no space for temporary files.
    pub fn finish(mut self) -> io::Result<BatchTable> {
        for waiting in self.processes.into_values() {
            let last = waiting.states.last().map(|(_, state)| *state);
            for mut row in waiting.schedules {
                row.kv = last.map(Box::new);
                self.rows.push(row.start.0, &row);
            }
            waiting.drafts.iter().for_each(|row| self.rows.push(row.start.0, row));
        }
        let present = SCHEDULE_NAMES.iter().zip(self.schedules).filter(|(_, is_there)| *is_there);
        let hidden = present.skip(1).map(|(name, _)| Name::new(name)).collect();
        Ok(BatchTable { rows: self.rows.finish()?, hidden })
    }

    fn take_state(&mut self, record: &Record) {
        let state = KvState::of(record);
        let waiting = self.processes.entry(record.process).or_default();
        for mut row in waiting.schedules.drain(..) {
            row.kv = Some(Box::new(state));
            self.rows.push(row.start.0, &row);
        }
        waiting.states.push((record.start, state));
        if waiting.states.len() > MOST_WAITING {
            waiting.states.remove(0);
        }
    }
}

impl Waiting {
    /// The first state since the schedule began. If there is none yet, the next one will do, or the last before
    /// should none follow.
    fn state_for(&mut self, schedule: &Batch) -> Option<KvState> {
        let found = self.states.iter().find(|(time, _)| *time >= schedule.start).map(|(_, state)| *state);
        let last = self.states.pop();
        self.states.clear();
        self.states.extend(last);
        found
    }
}

impl Batch {
    fn take_accepted(&mut self, accepted: &FxHashMap<RequestId, Amount>) {
        let Some(draft) = &mut self.draft else { return };
        for (resource, slot) in self.resources.iter().zip(&mut draft.accepted) {
            *slot = accepted.get(&resource.request).copied().unwrap_or(*slot);
        }
    }
}

/// What an execution says that each request has accepted of its draft.
fn accepted_by_request(record: &Record, ids: &mut Ids) -> FxHashMap<RequestId, Amount> {
    let Some(View::Dict(entries)) = record.get("spec_decode_accepted_by_req") else {
        return FxHashMap::default();
    };
    let accepted = |value: View<'_>| value.as_int().map_or(Amount::UNKNOWN, Amount::new);
    entries.map(|(rid, value)| (ids.engine(rid), accepted(value))).collect()
}

impl BatchTable {
    /// The rows, by start.
    pub fn iter(&self) -> impl Iterator<Item = Batch> {
        self.rows.iter().filter(|row| !self.hidden.contains(&row.name))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;
    use crate::model::Ids;
    use crate::source::fixture::{ids, record, step, text};

    fn build(records: &[Record]) -> Vec<Batch> {
        let (mut known, mut resources, mut batches) =
            (Ids::default(), Resources::default(), Batches::default());
        for record in records {
            resources.read(record, &mut known);
            batches.push(record, &resources, &mut known);
        }
        batches.finish().unwrap().iter().collect()
    }

    fn schedule(times: (u64, u64), name: &str) -> Record {
        record(times, "Schedule", name, &[("rid", ids(&["a"]))])
    }

    fn cache(time: u64, free: i64) -> Record {
        let blocks = [("TotalBlocks=", Value::Int(10)), ("FreeBlocks=", Value::Int(free))];
        record((time, time), "Schedule.KVCache", "KVCacheStatus", &blocks)
    }

    #[test]
    fn a_schedule_shows_the_first_state_of_the_cache_since_it_began() {
        let name = "batchFrameworkProcessing";
        for (records, expected) in [
            (vec![cache(1, 9), cache(12, 8), cache(13, 7), schedule((10, 20), name)], [Some(8)]),
            (vec![cache(1, 9), schedule((10, 20), name), cache(25, 6)], [Some(6)]),
            (vec![cache(1, 9), schedule((10, 20), name)], [Some(9)]),
            (vec![schedule((10, 20), name)], [None]),
        ] {
            let free: Vec<_> =
                build(&records).iter().map(|row| row.kv.as_ref().and_then(|kv| kv.free)).collect();
            assert_eq!(free, expected);
        }
    }

    #[test]
    fn of_several_names_of_schedules_only_the_first_is_shown() {
        let rows = build(&[
            schedule((1, 2), "Schedule"),
            schedule((3, 4), "batchFrameworkProcessing"),
            schedule((5, 6), "modelExec"),
        ]);
        let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["batchFrameworkProcessing", "modelExec"]);
    }

    #[test]
    fn tokens_are_summed_by_what_is_done_for_each_request() {
        let steps =
            Value::Array(vec![step("a", 0, 60, 60, 0), step("b", 3, 1, 8, 10), step("c", 1, 4, 9, 5)]);
        let row = &build(&[record((1, 2), "Execute", "modelExec", &[("rid", steps)])])[0];
        assert_eq!((row.size(Phase::Prefill), row.size(Phase::Decode)), (Some(2), Some(1)));
        assert_eq!(
            (row.tokens(Phase::Prefill), row.tokens(Phase::Decode), row.total_tokens()),
            (Some(64), Some(1), Some(65))
        );
        assert_eq!(row.batch_type.map(Name::as_str), Some("Prefill,Decode"));
    }

    #[test]
    fn a_draft_learns_from_the_next_execution_what_was_accepted() {
        let drafted = |rid: &str, count| {
            let number = |key: &str, value| (key.into(), Value::Int(value));
            Value::Dict(vec![
                ("rid".into(), text(rid)),
                number("iter", 3),
                number("num_spec_output_tokens", count),
            ])
        };
        let accepted = |a, b| {
            let by_request = Value::Dict(vec![("a".into(), Value::Int(a)), ("b".into(), Value::Int(b))]);
            [("rid", ids(&["a", "b"])), ("spec_decode_accepted_by_req", by_request)]
        };
        let rows = build(&[
            record((1, 9), "Execute", "modelExec", &[("rid", Value::Array(vec![step("a", 3, 1, 8, 10)]))]),
            record(
                (10, 20),
                "Execute",
                "specDecoding",
                &[("rid", Value::Array(vec![drafted("a", 3), drafted("b", 1)]))],
            ),
            // It was running before: what it says is of the draft before.
            record((15, 22), "Execute", "modelRunnerExec", &accepted(9, 9)),
            record((20, 30), "Execute", "modelRunnerExec", &accepted(2, 0)),
        ]);
        let draft = rows.iter().find(|row| row.name.as_str() == "specDecoding").unwrap();
        assert_eq!((draft.size(Phase::Prefill), draft.size(Phase::Decode)), (Some(0), Some(1)));
        assert_eq!((draft.accepted_share(), draft.accepted_by_position()), (Some(0.5), vec![0.5, 1.0, 0.0]));
    }
}
