//! A record: one span, instant or counter sample, with where and when it happened. Sources yield them, tables are
//! built from them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Entries, Label, View};
use crate::clock::Nanos;
use crate::stem::has_identity;

/// A process of a capture: its position in [`Places`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId(pub u32);

/// A thread of a capture: its position in [`Places`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ThreadId(pub u32);

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Process id on its host.
    pub pid: u32,
    /// Its name, empty if unknown.
    pub name: String,
    /// Its host's name, empty if unknown.
    pub host: String,
    /// Its parent's process id.
    pub parent: Option<u32>,
    /// Its data-parallel rank.
    pub dp_rank: Option<u32>,
    /// What its pid counts in: containers have pids of their own. Empty if unknown.
    pub pid_space: String,
    /// Its machine, where that is not its host alone: see [`Process::machine`].
    pub machine: String,
    /// The capture that it was read from (the file's name without part number and ending).
    pub capture: String,
}

/// What is known of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Its process.
    pub process: ProcessId,
    /// Kernel thread id; the process id for what belongs to the process as a whole.
    pub tid: u32,
    /// Its name, empty if unknown.
    pub name: String,
}

/// The processes and threads that records happened in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// By [`ProcessId`].
    pub processes: Vec<Process>,
    /// By [`ThreadId`].
    pub threads: Vec<Thread>,
}

/// What a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// A span that ended.
    Span,
    /// A span whose end is not in the capture; its `end` is the last instant that its process recorded.
    Unfinished,
    /// Something that happened at one instant.
    #[default]
    Instant,
    /// A sample of a number.
    Counter(f64),
}

/// One span, instant or counter sample. A source yields them in the order in which they ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// Its domain and name.
    pub label: Label,
    /// When it began, in unix nanoseconds.
    pub start: Nanos,
    /// When it ended, in unix nanoseconds, never before its start; the start, if it is no span.
    pub end: Nanos,
    /// Where.
    pub process: ProcessId,
    /// Where.
    pub thread: ThreadId,
    /// 0 for what nests on its thread; otherwise the lane of that thread, for spans that overlap others.
    pub lane: u32,
    /// What was said about it, encoded as [`Attributes`](super::Attributes) does.
    #[serde(with = "serde_bytes")]
    pub attributes: Vec<u8>,
}

impl Process {
    /// What it shares a clock with, and a pid with nobody else on it: its host, told apart from others of that name.
    pub fn machine(&self) -> &str {
        if self.machine.is_empty() { &self.host } else { &self.machine }
    }

    /// Whether `other` is its parent.
    pub fn is_child_of(&self, other: &Self) -> bool {
        self.parent == Some(other.pid) && self.host == other.host && self.pid_space == other.pid_space
    }
}

impl Places {
    /// How many processes and threads there are: a process with captures in several folders (a session that moved, dumps
    /// of a flight recorder) is one, with as many threads as the capture that has the most.
    pub fn count(&self) -> (usize, usize) {
        let mut threads = vec![0; self.processes.len()];
        for thread in &self.threads {
            if let Some(of_process) = threads.get_mut(thread.process.0 as usize) {
                *of_process += 1;
            }
        }
        let mut most: HashMap<_, usize> = HashMap::new();
        for (id, (process, threads)) in self.processes.iter().zip(threads).enumerate() {
            // Without an identity another process may have had the same number.
            let alone = (!has_identity(&process.capture)).then_some(id);
            let known = most.entry((alone, &process.capture, process.pid)).or_default();
            *known = threads.max(*known);
        }
        // One of them stands for the process itself.
        (most.len(), most.values().map(|threads| threads.saturating_sub(1)).sum())
    }

    /// The process; an empty one, should the id be of another capture.
    pub fn process(&self, id: ProcessId) -> &Process {
        static UNKNOWN: Process = Process {
            pid: 0,
            name: String::new(),
            host: String::new(),
            parent: None,
            dp_rank: None,
            pid_space: String::new(),
            machine: String::new(),
            capture: String::new(),
        };
        self.processes.get(id.0 as usize).unwrap_or(&UNKNOWN)
    }

    /// The thread; an empty one, should the id be of another capture.
    pub fn thread(&self, id: ThreadId) -> &Thread {
        static UNKNOWN: Thread = Thread { process: ProcessId(0), tid: 0, name: String::new() };
        self.threads.get(id.0 as usize).unwrap_or(&UNKNOWN)
    }
}

impl Record {
    /// How long it lasted, in nanoseconds.
    pub fn duration(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// An instant without attributes, somewhere.
    pub fn instant(label: Label, time: Nanos) -> Self {
        Self {
            kind: Kind::Instant,
            label,
            start: time,
            end: time,
            process: ProcessId(0),
            thread: ThreadId(0),
            lane: 0,
            attributes: Vec::new(),
        }
    }

    /// The domain's text.
    pub fn domain(&self) -> &'static str {
        self.label.domain().as_str()
    }

    /// The name's text.
    pub fn name(&self) -> &'static str {
        self.label.name().as_str()
    }

    /// Keys and values, in their order.
    pub fn entries(&self) -> Entries<'_> {
        Entries::of(&self.attributes)
    }

    /// The value under `key`; the first, should there be several.
    pub fn get(&self, key: &str) -> Option<View<'_>> {
        self.entries().find(|(k, _)| *k == key).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_captures_in_several_folders_counts_once() {
        let process = |pid, capture: &str| Process { pid, capture: capture.into(), ..Process::default() };
        let thread = |process, tid| Thread { process: ProcessId(process), tid, name: String::new() };
        let places = Places {
            processes: vec![
                process(7, "h-7-0123abcd"),
                process(7, "h-7-0123abcd"),
                process(8, "h-8-0123abcd"),
            ],
            threads: [(0, 7), (0, 70), (1, 7), (1, 70), (1, 71), (2, 8)]
                .map(|(id, tid)| thread(id, tid))
                .into(),
        };
        assert_eq!(places.count(), (2, 2));
        let unnamed = Places { processes: vec![process(7, ""), process(7, "")], threads: Vec::new() };
        assert_eq!(unnamed.count().0, 2);
    }
}
