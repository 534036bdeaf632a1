//! The tracks of a capture: what the writer says of its process, threads, lanes and counters.

use std::hash::BuildHasher;

use super::packet::{Encode, field};
use super::writer::{Sequence, Writer};
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

/// A track for spans that overlap others on their thread; one span at a time.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) track: u64,
    thread: u64,
    domain: Name,
    pub(super) busy: bool,
}

impl Writer {
    /// A new thread's track and packet sequence.
    pub fn thread(&mut self, thread: &Thread) -> Sequence {
        let track = self.seed.hash_one(("thread", thread.sequence, thread.tid));
        self.describe_thread(thread, track);
        Sequence::new(thread.sequence, track)
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
        if let Some((_, track)) = self.counters.iter().find(|(known, _)| *known == label) {
            return *track;
        }
        let track = self.seed.hash_one(("counter", label.index()));
        self.counters.push((label, track));
        self.describe_counter(label, track);
        track
    }

    pub(super) fn describe_counter(&mut self, label: Label, track: u64) {
        let parent = self.process_track;
        self.track_descriptor(|out, _| {
            out.number(field::track_descriptor::UUID, track);
            out.number(field::track_descriptor::PARENT_UUID, parent);
            out.bytes(field::track_descriptor::NAME, label.name().as_str().as_bytes());
            out.bytes(field::track_descriptor::COUNTER, &[]);
        });
    }

    pub(super) fn free_lane(&mut self, thread: u64, domain: Name) -> usize {
        let free = |lane: &Lane| !lane.busy && lane.thread == thread && lane.domain == domain;
        let index = self.lanes.iter().position(free).unwrap_or_else(|| {
            let track = self.seed.hash_one(("lane", self.lanes.len()));
            self.lanes.push(Lane { track, thread, domain, busy: false });
            self.describe_lane(self.lanes.len() - 1);
            self.lanes.len() - 1
        });
        self.lanes[index].busy = true;
        index
    }

    pub(super) fn describe_lane(&mut self, index: usize) {
        let Lane { track, thread, domain, .. } = self.lanes[index];
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
