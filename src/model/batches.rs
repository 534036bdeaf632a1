//! One row for each scheduled batch and each execution of one: its requests, tokens, and the state of the KV cache.

use rustc_hash::FxHashMap;

use super::kv_cache::{KvState, is_kv_domain};
use super::resources::{Phase, Resource, Resources, Shape, batch_type};
use crate::clock::Nanos;
use crate::event::{Kind, Name, ProcessId, Record};

/// Names of spans in which a batch is put together; only the first of them that a session has is shown.
pub const SCHEDULE_NAMES: [&str; 3] = ["BatchSchedule", "batchFrameworkProcessing", "Schedule"];

/// Names of spans in which a batch runs.
pub const BATCH_NAMES: [&str; 4] = ["modelExec", "modelRunnerExec", "Execute", "specDecoding"];

/// A row: a batch that was scheduled or run.
#[derive(Clone, Debug)]
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
}

/// Builds the rows.
#[derive(Debug, Default)]
pub struct Batches {
    rows: Vec<Batch>,
    processes: FxHashMap<ProcessId, CacheStates>,
}

/// What a process's cache has said around its schedules.
#[derive(Debug, Default)]
struct CacheStates {
    /// States since the last schedule ended, and the last one before.
    recent: Vec<(Nanos, KvState)>,
    /// Rows that no state has followed yet.
    waiting: Vec<usize>,
}

impl Batch {
    /// How many of its requests are in the phase.
    pub fn size(&self, phase: Phase) -> usize {
        self.resources.iter().filter(|resource| resource.phase() == Some(phase)).count()
    }

    /// Tokens computed for its requests in the phase.
    pub fn tokens(&self, phase: Phase) -> u64 {
        let of_phase = self.resources.iter().filter(|resource| resource.phase() == Some(phase));
        of_phase.filter_map(|resource| resource.scheduled.get()).map(u64::from).sum()
    }

    /// Tokens computed for all its requests.
    pub fn total_tokens(&self) -> u64 {
        self.resources.iter().filter_map(|resource| resource.scheduled.get()).map(u64::from).sum()
    }
}

impl Batches {
    /// Takes a record in.
    pub fn push(&mut self, record: &Record, resources: &Resources) {
        let name = record.name();
        if name == "KVCacheStatus" && is_kv_domain(record.domain()) {
            let state = KvState::of(record);
            let states = self.processes.entry(record.process).or_default();
            for row in states.waiting.drain(..) {
                self.rows[row].kv = Some(Box::new(state));
            }
            states.recent.push((record.start, state));
            return;
        }
        let is_schedule = SCHEDULE_NAMES.contains(&name);
        if !matches!(record.kind, Kind::Span)
            || resources.list.is_empty()
            || !(is_schedule || BATCH_NAMES.contains(&name))
        {
            return;
        }
        let kv = if is_schedule { self.state_for(record) } else { None };
        self.rows.push(Batch {
            name: record.label.name(),
            start: record.start,
            end: record.end,
            process: record.process,
            resources: resources.list.as_slice().into(),
            shape: resources.shape,
            batch_type: batch_type(record, resources),
            kv: kv.map(Box::new),
        });
    }

    /// The rows by start; of the schedules, only those of the name that goes first.
    pub fn finish(mut self) -> Vec<Batch> {
        for states in self.processes.into_values() {
            let Some((_, last)) = states.recent.last() else { continue };
            for row in states.waiting {
                self.rows[row].kv = Some(Box::new(*last));
            }
        }
        let is = |row: &Batch, name: &str| row.name.as_str() == name;
        let shown = SCHEDULE_NAMES.iter().find(|name| self.rows.iter().any(|row| is(row, name)));
        let is_hidden = |row: &Batch| SCHEDULE_NAMES.iter().any(|name| Some(name) != shown && is(row, name));
        self.rows.retain(|row| !is_hidden(row));
        self.rows.sort_by_key(|row| row.start);
        self.rows
    }

    /// The first state since the schedule began. If there is none yet, the next one will do, or the last before
    /// should none follow.
    fn state_for(&mut self, schedule: &Record) -> Option<KvState> {
        let states = self.processes.entry(schedule.process).or_default();
        let found = states.recent.iter().find(|(time, _)| *time >= schedule.start).map(|(_, state)| *state);
        if found.is_none() {
            states.waiting.push(self.rows.len());
        }
        let last = states.recent.pop();
        states.recent.clear();
        states.recent.extend(last);
        found
    }
}
