//! Flight mode: the rings forget what is old, and nothing is written until somebody asks for what is left.
//!
//! What was forgotten leaves two things behind: spans that are still open, and facts about the process.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use super::session::{OpenSpan, Session, state_lost, write, writer};
use crate::clock::{Calibration, Nanos, Ticks};
use crate::event::Label;
use crate::own_file::OwnFile;
use crate::ring::Kind;
use crate::trace::{Lost, MOST_OPEN, Sequence, Writer};

/// So many facts of the user's are kept for dumps, the newest ones. The capture's own file has all.
const MOST_FACTS: usize = 1024;

/// What forgotten records have left behind.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    /// Overlapping spans that are still open, by id: label, begin, and the packet sequence of the thread.
    open: FxHashMap<u64, (u32, Ticks, u32)>,
    /// Those whose end was forgotten before their begin: a busy thread forgets sooner than an idle one.
    ended: FxHashSet<u64>,
    facts: VecDeque<(Nanos, Label, Vec<u8>)>,
    /// Open spans that were too many to keep.
    lost: u64,
}

impl Forgotten {
    fn begun(&mut self, id: u64, label: u32, ticks: Ticks, sequence: u32) {
        if self.ended.remove(&id) {
            return;
        }
        if self.open.len() < MOST_OPEN {
            self.open.insert(id, (label, ticks, sequence));
        } else {
            self.lost += 1;
        }
    }

    fn ended(&mut self, id: u64) {
        if self.open.remove(&id).is_none() {
            self.ended.insert(id);
        }
    }

    /// States the spans of a thread that began in forgotten records, so that their ends find them. `open` are those
    /// that nest.
    pub(super) fn recall(
        &self,
        writer: &mut Writer,
        sequence: &mut Sequence,
        thread: u32,
        open: &[OpenSpan],
        calibration: &Calibration,
    ) {
        for span in open {
            if let Some(label) = Label::from_index(span.label) {
                writer.begin_numbered(sequence, calibration.to_boot(span.begin), label, span.number);
            }
        }
        for (id, (label, ticks, of)) in &self.open {
            if let Some(label) = Label::from_index(*label).filter(|_| *of == thread) {
                writer.async_begin(sequence, calibration.to_boot(*ticks), label, *id);
            }
        }
    }
}

impl Session {
    /// Forgets what is older than `keep`, and more where a ring of the largest size is half full: the rest is for what
    /// comes until the next visit.
    pub(super) fn forget(&mut self, keep: Duration) {
        let (nanos_per_tick, _) = self.calibration.line();
        let age = keep.as_nanos() as f64 / nanos_per_tick;
        let oldest = Ticks(Ticks::now().0.saturating_sub(age as u64));
        let mut index = 0;
        while index < self.threads.len() {
            let state = self.threads[index].rings[0].ring().state();
            self.forget_in(index, oldest);
            self.count_dropped(index);
            let is_empty = self.threads[index].rings[0].ring().filled() == 0;
            if !(is_empty && self.leave_behind(index, state)) {
                index += 1;
            }
        }
    }

    fn forget_in(&mut self, index: usize, oldest: Ticks) {
        let mut facts = Vec::new();
        let thread = &mut self.threads[index];
        let is_crowded = |ring: &crate::ring::Ring| ring.filled() > ring.capacity() as u64 / 2;
        let ring = thread.rings[0].ring();
        let capacity = ring.capacity() as u64;
        let keep = match thread.rings.get(1) {
            // The ring before the one where a thread writes now goes first.
            Some(next) if is_crowded(next.ring()) => 0,
            Some(_) => capacity,
            // The thread is about to go on in a larger one.
            None if self.hall.stock.has_better_than(ring) => capacity / 4 * 3,
            None => capacity / 2,
        };
        let sequence = thread.thread.sequence;
        let (open, forgotten, calibration) = (&mut thread.open, &mut self.forgotten, &self.calibration);
        let mut records = 0;
        let outcome = thread.rings[0].forget(keep, oldest, |record| {
            records += 1;
            match record.kind {
                Kind::Begin => {
                    let number = open.last().map_or(0, |outer| outer.number) + 1;
                    open.push(OpenSpan { number, label: record.label, begin: record.ticks });
                }
                Kind::End => {
                    open.pop();
                }
                Kind::EndWithin => open.retain(|span| span.number != record.label),
                Kind::AsyncBegin | Kind::LooseBegin => {
                    forgotten.begun(record.id, record.label, record.ticks, sequence);
                }
                Kind::AsyncEnd => forgotten.ended(record.id),
                Kind::Meta => {
                    if let Some(label) = Label::from_index(record.label) {
                        facts.push((calibration.to_boot(record.ticks), label, record.attributes.to_vec()));
                    }
                }
                Kind::Instant | Kind::Counter => {}
            }
        });
        if let Err(error) = outcome {
            log::error!("a thread's ring was damaged, which is a defect of msprof_rs: {error}");
        }
        self.count(records);
        for (time, label, attributes) in facts {
            self.keep_fact(time, label, &attributes);
            self.forgotten.facts.push_back((time, label, attributes));
            if self.forgotten.facts.len() > MOST_FACTS {
                self.forgotten.facts.pop_front();
            }
        }
    }

    /// Writes what the rings remember to a new file, which has its name only once it is whole. The rings keep it.
    pub(super) fn dump(&mut self, path: &Path, reason: &str) -> io::Result<()> {
        self.look_at_clocks();
        self.welcome();
        let unfinished = path.with_extension("part");
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&unfinished)?;
        let mut file = OwnFile::new(file, &unfinished)?;
        let mut writer = writer(self.process(), Some(reason)).in_blocks(self.compresses(), None);
        for (time, label, attributes) in &self.forgotten.facts {
            writer.meta(*time, *label, attributes);
        }
        let mut sequences = Vec::new();
        for thread in &self.threads {
            let mut sequence = writer.thread(&thread.thread);
            let number = thread.thread.sequence;
            self.forgotten.recall(&mut writer, &mut sequence, number, &thread.open, &self.calibration);
            for ring in &thread.rings {
                let outcome = ring.peek(|record| {
                    write(&mut writer, &mut sequence, self.calibration.to_boot(record.ticks), &record);
                });
                if let Err(error) = outcome {
                    log::error!("a thread's ring was damaged, which is a defect of msprof_rs: {error}");
                }
            }
            file.write_all(writer.pending())?;
            writer.written();
            sequences.push(sequence);
        }
        for sequence in &mut sequences {
            writer.settle(sequence);
        }
        let lost = writer.last_visit();
        state_lost(&mut writer, Lost { spans: lost.spans + self.forgotten.lost, ..lost });
        writer.close();
        file.write_all(writer.pending())?;
        fs::rename(unfinished, path)
    }
}
