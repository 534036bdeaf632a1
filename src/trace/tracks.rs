//! The tracks of a capture: what the writer says of its process, threads, lanes and counters.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::BuildHasher;

use rustc_hash::FxHashMap;

use super::packet::{Encode, field};
use super::writer::{Sequence, Writer};
use crate::clock::Nanos;
use crate::event::{Label, Name};

/// A process, as its track shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// A name that a person knows it by.
    pub name: String,
    /// Its command line, word by word.
    pub command: Vec<String>,
}

/// A thread, as its track shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Kernel thread id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// The packet sequence that is its own.
    pub sequence: u32,
}

/// Tracks for spans that overlap others on their thread; one span at a time on each.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    by_track: FxHashMap<u64, Lane>,
    made: u64,
    /// Those without a span, by thread and domain; the one that has been so for longest comes first.
    free: FxHashMap<u64, FxHashMap<Name, Free>>,
}

/// Since when, and which.
type Free = BinaryHeap<Reverse<(Nanos, u64)>>;

#[derive(Clone, Copy, Debug)]
struct Lane {
    number: u64,
    thread: u64,
    domain: Name,
    /// The group of packets in which it was described last.
    group: u32,
}

impl Lanes {
    /// A lane that a span can have which begins at `time`. Spans come in no strict order of time: those of other threads
    /// that ended later may have been seen before.
    fn take(&mut self, thread: u64, domain: Name, time: Nanos) -> Option<u64> {
        let free = self.free.entry(thread).or_default().get_mut(&domain)?;
        let Reverse((since, track)) = *free.peek()?;
        (since < time).then(|| {
            free.pop();
            track
        })
    }

    /// The span on a lane has ended at `time`.
    pub(super) fn give_back(&mut self, track: u64, time: Nanos) {
        let Some(Lane { thread, domain, .. }) = self.by_track.get(&track).copied() else { return };
        match self.free.get_mut(&thread) {
            Some(domains) => domains.entry(domain).or_default().push(Reverse((time, track))),
            // Its thread has ended: nobody needs it any more.
            None => drop(self.by_track.remove(&track)),
        }
    }

    /// A thread has ended: its lanes are not used again.
    pub(super) fn retire(&mut self, thread: u64) {
        for (_, free) in self.free.remove(&thread).into_iter().flatten() {
            for Reverse((_, track)) in free {
                self.by_track.remove(&track);
            }
        }
    }

    /// All that may be used again, in the order in which they were made.
    pub(super) fn tracks(&self) -> Vec<u64> {
        let mut tracks: Vec<_> = self.by_track.iter().map(|(track, lane)| (lane.number, *track)).collect();
        tracks.sort_unstable();
        tracks.into_iter().map(|(_, track)| track).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_track.len()
    }
}

impl Writer {
    /// A new thread's track and packet sequence.
    pub fn thread(&mut self, thread: &Thread) -> Sequence {
        let track = self.seed.hash_one(("thread", thread.sequence, thread.tid));
        self.describe_thread(thread, track);
        Sequence::of(thread, track)
    }

    pub(super) fn describe_thread(&mut self, thread: &Thread, track: u64) {
        let (pid, parent) = (self.process.pid, self.process_track);
        self.track_descriptor(|out, scratch| {
            out.number(field::track_descriptor::UUID, track);
            out.number(field::track_descriptor::PARENT_UUID, parent);
            out.message(field::track_descriptor::THREAD, scratch, |out| {
                out.number(field::thread::PID, u64::from(pid));
                out.number(field::thread::TID, u64::from(thread.tid));
                out.bytes(field::thread::THREAD_NAME, thread.name.as_bytes());
            });
        });
    }

    pub(super) fn counter_track(&mut self, label: Label) -> u64 {
        let group = self.group.number;
        let known = self.counters.insert(label, (0, group));
        let track = known.map_or_else(|| self.seed.hash_one(("counter", label.index())), |(track, _)| track);
        self.counters.insert(label, (track, group));
        if known.is_none_or(|(_, described)| described != group) {
            self.describe_counter(label, track);
        }
        track
    }

    fn describe_counter(&mut self, label: Label, track: u64) {
        let parent = self.process_track;
        self.track_descriptor(|out, _| {
            out.number(field::track_descriptor::UUID, track);
            out.number(field::track_descriptor::PARENT_UUID, parent);
            out.bytes(field::track_descriptor::NAME, label.name().as_str().as_bytes());
            out.bytes(field::track_descriptor::COUNTER, &[]);
        });
    }

    /// A lane for a span that begins at `time`.
    pub(super) fn lane(&mut self, thread: u64, domain: Name, time: Nanos) -> u64 {
        if let Some(track) = self.lanes.take(thread, domain, time) {
            let is_described =
                self.lanes.by_track.get(&track).is_some_and(|lane| lane.group == self.group.number);
            if !is_described {
                self.describe_lane(track);
            }
            return track;
        }
        let number = self.lanes.made;
        let track = self.seed.hash_one(("lane", number));
        self.lanes.made += 1;
        self.lanes.by_track.insert(track, Lane { number, thread, domain, group: 0 });
        self.describe_lane(track);
        track
    }

    pub(super) fn describe_lane(&mut self, track: u64) {
        let Some(lane) = self.lanes.by_track.get_mut(&track) else { return };
        lane.group = self.group.number;
        let Lane { thread, domain, .. } = *lane;
        self.track_descriptor(|out, _| {
            out.number(field::track_descriptor::UUID, track);
            out.number(field::track_descriptor::PARENT_UUID, thread);
            out.bytes(field::track_descriptor::NAME, domain.as_str().as_bytes());
        });
    }

    /// Says how the process is called now, if that has changed (servers rename themselves). Trace processors show the
    /// first name that they are told; our reader takes the last.
    pub fn rename_process(&mut self, process: Process) {
        if process != self.process {
            let former = std::mem::replace(&mut self.process, process);
            self.describe_process(Some(&former));
        }
    }

    pub(super) fn describe_process(&mut self, former: Option<&Process>) {
        let process = self.process.clone();
        let track = self.process_track;
        self.track_descriptor(|out, scratch| {
            out.number(field::track_descriptor::UUID, track);
            out.message(field::track_descriptor::PROCESS, scratch, |out| {
                out.number(field::process::PID, u64::from(process.pid));
                if former.is_none_or(|former| former.command != process.command) {
                    for word in &process.command {
                        out.bytes(field::process::CMDLINE, word.as_bytes());
                    }
                }
                out.bytes(field::process::PROCESS_NAME, process.name.as_bytes());
            });
        });
    }

    fn track_descriptor(&mut self, build: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
        let (id, mut inner) = (self.own.id, Vec::new());
        self.packet(id, |out, scratch| {
            out.message(field::packet::TRACK_DESCRIPTOR, scratch, |out| build(out, &mut inner));
        });
    }
}
