//! What other tools have recorded: each file is read once, and its records are kept in the order in which they ended.
//! The importers give their processes, threads and records to [`Imports`].

use std::path::{Path, PathBuf};

use super::json::Keys;
use crate::clock::Nanos;
use crate::event::{Kind, Label, Places, Process, ProcessId, Record, Thread, ThreadId};
use crate::spool::Spool;

/// Most characters of a name: of a span, a process, a thread.
const LONGEST_NAME: usize = 1_000;

/// Most bytes of names. They stay in memory for good, and a packed file may have a thousand times as many as its own.
const MOST_NAMES: usize = 256 << 20;

/// What each name takes beside its text.
const NAME_OVERHEAD: usize = 100;

/// What stands for names beyond.
const OTHER: &str = "other";

/// The name, as far as it is kept.
pub(super) fn short(name: &str) -> &str {
    name.char_indices().nth(LONGEST_NAME).map_or(name, |(end, _)| &name[..end])
}

/// Takes in what importers read.
#[derive(Debug)]
pub(super) struct Imports {
    pub(super) places: Places,
    pub(super) records: Spool<Record>,
    pub(super) keys: Keys,
    pub(super) spans: u64,
    pub(super) instants: u64,
    pub(super) counters: u64,
    /// Rows that made no sense.
    pub(super) malformed: u64,
    /// The earliest beginning.
    pub(super) first: Option<Nanos>,
    /// Bytes that names may still take.
    room: usize,
}

/// A file that was read only in part, or not at all, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The file.
    pub file: PathBuf,
    /// What is wrong, as a sentence.
    pub reason: String,
}

impl Damaged {
    pub(super) fn new(file: &Path, reason: impl ToString) -> Self {
        Self { file: file.to_owned(), reason: reason.to_string() }
    }
}

impl Imports {
    /// Adds to these places.
    pub(super) fn new(places: Places) -> Self {
        Self {
            places,
            records: Spool::default(),
            keys: Keys::default(),
            spans: 0,
            instants: 0,
            counters: 0,
            malformed: 0,
            first: None,
            room: MOST_NAMES,
        }
    }

    /// The label of a domain and a name that a file has; of long ones, the beginning. Those for which there is no room
    /// share one.
    pub(super) fn label(&mut self, domain: &str, name: &str) -> Label {
        let (domain, name) = (short(domain), short(name));
        if let Some(label) = Label::find(domain, name) {
            return label;
        }
        if self.has_room_for(domain.len() + name.len()) {
            Label::new(domain, name)
        } else {
            Label::new(OTHER, OTHER)
        }
    }

    /// Whether this much more may be kept of what files call things. If not, that is told once.
    pub(super) fn has_room_for(&mut self, bytes: usize) -> bool {
        let left = self.room.checked_sub(bytes + NAME_OVERHEAD);
        if left.is_none() && std::mem::take(&mut self.room) > 0 {
            log::warn!("more than {} MB of names: new ones are shown as {OTHER}", MOST_NAMES >> 20);
        }
        self.room = left.unwrap_or_default();
        left.is_some()
    }

    /// The process; one that is known already (same host and pid) stays as it is, but learns what it did not know.
    pub(super) fn process(&mut self, process: Process) -> ProcessId {
        let same = |known: &Process| {
            known.pid == process.pid
                && (known.host == process.host || known.host.is_empty() || process.host.is_empty())
        };
        if let Some(position) = self.places.processes.iter().position(same) {
            let known = &mut self.places.processes[position];
            known.parent = known.parent.or(process.parent);
            known.dp_rank = known.dp_rank.or(process.dp_rank);
            return ProcessId(position as u32);
        }
        let id = ProcessId(self.places.processes.len() as u32);
        self.places.threads.push(Thread { process: id, tid: process.pid, name: String::new() });
        self.places.processes.push(process);
        id
    }

    /// The thread of that process.
    pub(super) fn thread(&mut self, process: ProcessId, tid: u32, name: &str) -> ThreadId {
        let same = |known: &Thread| known.process == process && known.tid == tid && known.name == name;
        let position = self.places.threads.iter().position(same).unwrap_or_else(|| {
            self.places.threads.push(Thread { process, tid, name: name.to_owned() });
            self.places.threads.len() - 1
        });
        ThreadId(position as u32)
    }

    /// Takes a record in.
    pub(super) fn push(&mut self, record: &Record) {
        match record.kind {
            Kind::Span | Kind::Unfinished => self.spans += 1,
            Kind::Instant => self.instants += 1,
            Kind::Counter(_) => self.counters += 1,
        }
        self.first = Some(self.first.map_or(record.start, |first| first.min(record.start)));
        self.records.push(record.end.0, record);
    }
}
