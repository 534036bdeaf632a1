//! From tracks to places: which process, thread and lane a track stands for, and each host's offset from boot time
//! to unix time. Used while captures are opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::folder::CaptureFiles;
use super::machines::{Kernel, machines};
use super::stated::Stated;
use crate::clock::{Nanos, Snapshot};
use crate::event::{Entries, Places, Process, ProcessId, Thread, ThreadId, View};
use crate::stem;
use crate::trace::{EventKind, Index, META_DOMAIN, Part, TrackKind};

/// Where a track's events happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) process: ProcessId,
    pub(super) thread: ThreadId,
    pub(super) lane: u32,
}

/// What a process has said about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) format: Option<String>,
    host: Option<String>,
    kernel: Kernel,
    /// What tells the process from all others.
    recorder: String,
    parent: Option<u32>,
    dp_rank: Option<u32>,
    pub(super) clocks: Option<Snapshot>,
    /// From `CLOCK_BOOTTIME` to unix time when the capture began: snapshots tell it with an error of some nanoseconds, and
    /// the first may be damaged.
    unix_offset: Option<i64>,
    /// What is not in the capture.
    pub(super) stated: Stated,
}

impl Facts {
    /// Takes the known keys out of a meta record of this name.
    pub(super) fn add(&mut self, name: &str, attributes: &[u8]) {
        self.stated.add(name, attributes);
        let number = |value: &View<'_>| value.as_int().and_then(|n| u32::try_from(n).ok());
        for (key, value) in Entries::of(attributes) {
            match key {
                "format" => self.format = value.as_str().map(Into::into),
                "hostname" => self.host = value.as_str().map(Into::into),
                "boot_id" => self.kernel.boot_id = value.as_str().unwrap_or_default().into(),
                "pid_namespace" => self.kernel.pid_namespace = value.as_str().unwrap_or_default().into(),
                "recorder" => self.recorder = value.as_str().unwrap_or_default().into(),
                "ppid" => self.parent = number(&value),
                "unix_offset_ns" => {
                    self.unix_offset = value.as_str().and_then(|offset| offset.parse().ok());
                }
                // -1 stands for none.
                "dpRankId" => self.dp_rank = number(&value),
                _ => {}
            }
        }
    }
}

/// What the records of domain `Meta` say about each process, by its track. They lie on the few packet sequences
/// that belong to a process as a whole.
pub(super) fn facts(index: &Index, parts: &Arc<[Part]>) -> FxHashMap<u64, Facts> {
    let mut facts: FxHashMap<u64, Facts> = FxHashMap::default();
    for (position, sequence) in index.sequences.iter().enumerate() {
        let is_process =
            index.tracks.get(&sequence.track).is_some_and(|t| matches!(t.kind, TrackKind::Process { .. }));
        if !is_process {
            continue;
        }
        let known = facts.entry(sequence.track).or_default();
        known.clocks = known.clocks.or(sequence.clocks);
        let mut reader = index.read(position, parts.clone());
        while reader.advance() {
            let event = reader.event();
            let Some(label) = event.label.filter(|_| event.kind == EventKind::Instant) else { continue };
            if label.domain().as_str() == META_DOMAIN {
                known.add(label.name().as_str(), &event.attributes);
            }
        }
    }
    for known in facts.values_mut() {
        if let (Some(clocks), Some(offset)) = (&mut known.clocks, known.unix_offset) {
            clocks.real = Nanos(clocks.boot.0.wrapping_add_signed(offset));
        }
    }
    facts
}

/// Collects the places of all captures.
#[derive(Debug, Default)]
pub(super) struct Gazetteer {
    places: Places,
    /// Each process's own clocks, and where its capture has none, another's of the same capture.
    clocks: Vec<Option<Snapshot>>,
    /// Where each runs.
    kernels: Vec<Kernel>,
    /// By folder and what they say of themselves: a process may have several captures in a session.
    recorders: FxHashMap<(PathBuf, String), Place>,
}

impl Gazetteer {
    /// The places of one capture's tracks, and the place for events whose track is unknown.
    pub(super) fn add(
        &mut self,
        files: &CaptureFiles,
        index: &Index,
        facts: &FxHashMap<u64, Facts>,
    ) -> (FxHashMap<u64, Place>, Place) {
        let name = files.name.as_str();
        let folder = files.parts.first().and_then(|part| part.parent()).unwrap_or(Path::new(""));
        let first = self.places.processes.len();
        let mut nowhere = None;
        let any_clocks = index.sequences.iter().find_map(|sequence| sequence.clocks);
        let mut tracks: FxHashMap<u64, Place> = FxHashMap::default();
        let unknown = Facts::default();
        for uuid in &index.track_order {
            let Some(track) = index.tracks.get(uuid) else { continue };
            if let TrackKind::Process { pid, .. } = track.kind {
                let facts = facts.get(uuid).unwrap_or(&unknown);
                let process = Process {
                    pid,
                    name: track.name.clone(),
                    host: facts.host.clone().unwrap_or_default(),
                    parent: facts.parent,
                    dp_rank: facts.dp_rank,
                    pid_space: facts.kernel.pid_space(),
                    machine: String::new(),
                    capture: name.to_owned(),
                };
                let clocks = facts.clocks.or(any_clocks);
                let key = (folder.to_owned(), facts.recorder.clone());
                let known = self.recorders.get(&key).copied();
                let place = known.unwrap_or_else(|| self.process(first, process, &facts.kernel, clocks));
                if !facts.recorder.is_empty() {
                    self.recorders.insert(key, place);
                }
                tracks.insert(*uuid, place);
                nowhere = nowhere.or(Some(place));
            }
        }
        let nowhere = nowhere.unwrap_or_else(|| {
            let pid = stem::pid(name).unwrap_or_default();
            let process = Process { pid, capture: name.to_owned(), ..Process::default() };
            self.process(first, process, &Kernel::default(), any_clocks)
        });
        if self.places.processes.len() > first + 1 {
            // Several captures joined in one file: each process has its own name, as in files of their own.
            let mut taken = FxHashMap::default();
            for process in &mut self.places.processes[first..] {
                process.capture = format!("{}-{}", process.host, process.pid);
                let count = taken.entry(process.capture.clone()).and_modify(|count| *count += 1).or_insert(1);
                if *count > 1 {
                    process.capture = format!("{} ({count})", process.capture);
                }
            }
        }
        self.threads(first, nowhere, index, &mut tracks);
        lanes(index, &mut tracks);
        (tracks, nowhere)
    }

    /// All places, and each process's offset from `CLOCK_BOOTTIME` to unix time. Processes of one machine share the
    /// offset of its first: they share the clock, so their order stays exact.
    pub(super) fn finish(mut self) -> (Places, Vec<i64>) {
        let machines = machines(&self.places.processes, &self.kernels);
        for (process, machine) in self.places.processes.iter_mut().zip(machines) {
            process.machine = machine;
        }
        let clock = |kernel: &Kernel, process: &Process| match kernel.boot_id.as_str() {
            "" => process.host.clone(),
            boot_id => boot_id.to_owned(),
        };
        let mut offsets: FxHashMap<String, i64> = FxHashMap::default();
        let all = || self.places.processes.iter().zip(&self.kernels);
        for ((process, kernel), clocks) in all().zip(&self.clocks) {
            if let Some(clocks) = clocks {
                let offset = clocks.real.0.wrapping_sub(clocks.boot.0) as i64;
                offsets.entry(clock(kernel, process)).or_insert(offset);
            }
        }
        let offset = |(process, kernel)| offsets.get(&clock(kernel, process)).copied().unwrap_or_default();
        let offsets = all().map(offset).collect();
        (self.places, offsets)
    }

    /// Adds a process with a thread that stands for the process as a whole, or finds it among those from `first` on:
    /// a later part of a capture may describe its process again.
    fn process(
        &mut self,
        first: usize,
        process: Process,
        kernel: &Kernel,
        clocks: Option<Snapshot>,
    ) -> Place {
        let same = |known: &Process| {
            known.pid == process.pid && known.host == process.host && known.pid_space == process.pid_space
        };
        if let Some(known) = self.places.processes[first..].iter().position(same) {
            let id = ProcessId((first + known) as u32);
            let thread =
                self.places.threads.iter().position(|thread| thread.process == id).unwrap_or_default();
            return Place { process: id, thread: ThreadId(thread as u32), lane: 0 };
        }
        let id = ProcessId(self.places.processes.len() as u32);
        let place = Place { process: id, thread: ThreadId(self.places.threads.len() as u32), lane: 0 };
        self.places.threads.push(Thread { process: id, tid: process.pid, name: String::new() });
        self.places.processes.push(process);
        self.clocks.push(clocks);
        self.kernels.push(kernel.clone());
        place
    }

    fn threads(&mut self, first: usize, nowhere: Place, index: &Index, tracks: &mut FxHashMap<u64, Place>) {
        for uuid in &index.track_order {
            let Some(track) = index.tracks.get(uuid) else { continue };
            let TrackKind::Thread { pid, tid } = track.kind else { continue };
            let by_pid = || {
                let position = self.places.processes[first..].iter().position(|process| process.pid == pid);
                position.map_or(nowhere.process, |position| ProcessId((first + position) as u32))
            };
            let process = tracks.get(&track.parent).map_or_else(by_pid, |place| place.process);
            let thread = ThreadId(self.places.threads.len() as u32);
            self.places.threads.push(Thread { process, tid, name: track.name.clone() });
            tracks.insert(*uuid, Place { process, thread, lane: 0 });
        }
    }
}

/// Numbers the lanes of each thread from 1 on.
fn lanes(index: &Index, tracks: &mut FxHashMap<u64, Place>) {
    let mut lanes: FxHashMap<ThreadId, u32> = FxHashMap::default();
    for uuid in &index.track_order {
        let Some(track) = index.tracks.get(uuid) else { continue };
        if track.kind != TrackKind::Lane {
            continue;
        }
        let Some(parent) = tracks.get(&track.parent).copied() else { continue };
        let lane = lanes.entry(parent.thread).or_default();
        *lane += 1;
        tracks.insert(*uuid, Place { lane: *lane, ..parent });
    }
}
