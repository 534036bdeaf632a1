//! One capture of this process: its files, its threads' rings, and the draining of one into the other.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::capture_file::{Begin, CaptureFile};
use super::door::{self, Door, Hall, Newcomer};
use super::flight::Forgotten;
use super::names_file::NamesFile;
use super::ring_places::RingPlaces;
use super::stock::Origin;
use super::trouble::{Losses, Stall};
use super::{Options, facts, names_file, role, thread};
use crate::clock::{self, Anchor, Calibration, Nanos, Snapshot, Ticks};
use crate::config::{Mode, Storage};
use crate::control::Figures;
use crate::event::{Attributes, Label, Name};
use crate::machine;
use crate::own_file::Claim;
use crate::ring::{Consumer, Kind, Record, Ring, State, remove_moved};
use crate::stem::CaptureId;
use crate::trace::{Clocks, Lost, META_DOMAIN, Process, Sequence, Thread, Writer};

/// So much of a ring is taken to the file at once. Its room is freed afterwards: a kill in between loses nothing.
const PIECE: usize = 128 << 10;

/// How often the clocks are stated again, which lets a reader see drift and steps.
const SNAPSHOT_PERIOD: Nanos = Nanos(10_000_000_000);

static NEXT_SESSION: AtomicU64 = AtomicU64::new(1);

/// A running capture; the flusher owns it.
#[derive(Debug)]
pub(super) struct Session {
    id: u64,
    pub(super) mode: Mode,
    process_name: Option<String>,
    pub(super) stem: PathBuf,
    pub(super) file: CaptureFile,
    /// Whether dumps are to be compressed.
    compress: bool,
    pub(super) writer: Writer,
    pub(super) calibration: Calibration,
    next_snapshot: Nanos,
    door: Arc<Door>,
    pub(super) hall: Hall,
    places: Arc<RingPlaces>,
    names: Option<Arc<NamesFile>>,
    /// By which readers know that this recorder lives. None: nothing of it outlives the process.
    claim: Option<Claim>,
    pub(super) threads: Vec<Recorded>,
    pub(super) forgotten: Forgotten,
    pub(super) figures: Figures,
    pub(super) losses: Losses,
    /// Events of threads without a ring, and such threads, that the capture does not count yet.
    pub(super) unstated_ringless: (u64, u64),
    /// What an earlier session of this process has lost, as it could not be followed by this one.
    pub(super) inherited: Losses,
    /// Events that were taken before something was last written.
    pub(super) events_written: u64,
    /// It can't be written at the moment.
    pub(super) stall: Option<Stall>,
    /// When that was told.
    pub(super) told_stall: Option<Instant>,
    /// Whether it was said that no new part can be made.
    told_part: bool,
    /// How often the role had changed when it was last told.
    role_changes: u64,
    /// Whether it was said that too many spans are open.
    has_told: bool,
}

/// A span of a thread whose beginning was forgotten.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenSpan {
    /// How many of the thread's spans were open with it when it began.
    pub(super) number: u32,
    pub(super) label: u32,
    pub(super) begin: Ticks,
}

/// A thread that records into this session.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) thread: Thread,
    pub(super) sequence: Sequence,
    /// What it wrote to, oldest first; the last one is where it writes now.
    pub(super) rings: VecDeque<Consumer>,
    /// Its spans that began in forgotten records.
    pub(super) open: Vec<OpenSpan>,
}

impl Session {
    /// Makes the trace file in this folder; [`Session::let_in`] lets the threads in.
    pub(super) fn start(folder: &Path, options: &Options, mode: Mode, storage: Storage) -> io::Result<Self> {
        let identity = CaptureId::random();
        let name = identity.stem(&machine::hostname(), std::process::id());
        let stem = folder.join(&name);
        let writer =
            writer(facts::process(options.process_name.as_deref()), None).in_blocks(storage.compress, None);
        let file = CaptureFile::create(&stem, Begin { stream: writer.stream(), records: 0 }, storage)?;
        let mut places = RingPlaces::of(&stem);
        let opened = names_file::open(&places, &name, identity).inspect_err(|error| {
            places.keep_private();
            log::warn!(
                "no file for names can be mapped: a kill would lose what is still in the rings: {error}"
            );
        });
        let (names, claim) = opened.ok().unzip();
        let places = Arc::new(places);
        let first = Anchor::now();
        let calibration = Calibration::new(first, later_than(first));
        calibration.publish();
        let now = Snapshot::now();
        let id = NEXT_SESSION.fetch_add(1, Ordering::Relaxed);
        let origin = Origin { places: places.clone(), identity, names: names.clone() };
        let (door, mut hall) = door::make(id, origin, storage, options.thread_name);
        hall.stock.refill(calibration.line());
        let role_changes = role::changes();
        let mut session = Self {
            id,
            mode,
            process_name: options.process_name.clone(),
            writer,
            door,
            hall,
            stem,
            file,
            places,
            names,
            claim,
            compress: storage.compress,
            calibration,
            next_snapshot: Nanos(now.boot.0 + SNAPSHOT_PERIOD.0),
            threads: Vec::new(),
            forgotten: Forgotten::default(),
            figures: Figures::default(),
            losses: Losses::default(),
            unstated_ringless: (0, 0),
            inherited: Losses::default(),
            events_written: 0,
            stall: None,
            told_stall: None,
            told_part: false,
            role_changes,
            has_told: false,
        };
        if let Err(error) = session.write_pending() {
            session.stall(&error);
        }
        Ok(session)
    }

    /// From now on the threads' events belong to this session.
    pub(super) fn let_in(&self) {
        door::open(self.door.clone());
        thread::open_session(self.id);
    }

    /// The trace file that is being written.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// What it has done so far, and what waits in the rings.
    pub(super) fn figures(&self) -> Figures {
        let rings =
            || self.threads.iter().flat_map(|thread| &thread.rings).map(|consumer| &**consumer.ring());
        let (ring_filled, ring_size) = rings()
            .fold((0, 0), |(filled, all), ring| (filled + ring.filled(), all + ring.capacity() as u64));
        let untold: u64 = rings().map(Ring::dropped_lately).sum();
        let dropped = untold + self.losses.all() + self.inherited.all();
        Figures { threads: self.threads.len() as u64, ring_filled, ring_size, dropped, ..self.figures }
    }

    /// Looks after the rings: takes what the threads have committed to the file, or in flight mode forgets what is
    /// old. Returns the number of records.
    pub(super) fn visit(&mut self) -> u64 {
        let before = self.figures.events;
        if let Some(Err(error)) = self.claim.as_mut().map(Claim::hold) {
            log::debug!("readers take this recorder for gone: {error}");
        }
        if self.is_stalled() {
            self.look_at_line();
            self.count_ringless();
            self.hall.stock.refill(self.calibration.line());
        } else if let Err(error) = self.try_to_visit() {
            self.meet_with(&error);
        }
        self.figures.events - before
    }

    fn try_to_visit(&mut self) -> io::Result<()> {
        self.look_at_clocks();
        self.look_at_role();
        self.names.iter().for_each(|names| names.look_after());
        self.welcome();
        match self.mode {
            Mode::Capture => self.drain()?,
            Mode::Flight { keep, .. } => self.forget(keep),
        }
        self.state_ringless();
        self.write_pending()?;
        self.announce_length(self.file.length());
        Ok(())
    }

    fn look_at_line(&mut self) {
        self.calibration.advance(Anchor::now());
        self.calibration.publish();
        self.hall.stock.set_line(self.calibration.line());
    }

    /// Notes in the rings how long the file is: who reads it after a kill can tell whether it was cut since.
    pub(super) fn announce_length(&self, length: u64) {
        self.threads
            .iter()
            .filter_map(|thread| thread.rings.front())
            .for_each(|ring| ring.announce(length, length));
    }

    pub(super) fn look_at_clocks(&mut self) {
        self.look_at_line();
        let now = Snapshot::now();
        if now.boot >= self.next_snapshot {
            self.next_snapshot = Nanos(now.boot.0 + SNAPSHOT_PERIOD.0);
            self.writer.rename_process(facts::process(self.process_name.as_deref()));
            self.writer.snapshot();
        }
    }

    fn look_at_role(&mut self) {
        let changes = role::changes();
        if changes == self.role_changes {
            return;
        }
        self.role_changes = changes;
        self.writer.rename_process(facts::process(self.process_name.as_deref()));
        let role = role::role().unwrap_or_default();
        let facts: Vec<_> = role.facts.iter().map(|(key, value)| (*key, value.as_str())).collect();
        self.writer.learn(&facts);
    }

    /// Gets to know the threads that came since the last visit, and makes rings for those to come.
    pub(super) fn welcome(&mut self) {
        self.hall.stock.refill(self.calibration.line());
        for newcomer in self.hall.newcomers.try_iter() {
            match newcomer {
                Newcomer::Thread(ring, thread) => {
                    let sequence = self.writer.thread(&thread);
                    let rings = VecDeque::from([Consumer::new(ring)]);
                    self.threads.push(Recorded { thread, sequence, rings, open: Vec::new() });
                }
                Newcomer::Next(ring) => {
                    let sequence = ring.owner().sequence;
                    // There is one: a thread announces itself before it outgrows anything.
                    if let Some(thread) = self.threads.iter_mut().find(|it| it.thread.sequence == sequence) {
                        thread.rings.push_back(Consumer::new(ring));
                    }
                }
            }
        }
    }

    fn drain(&mut self) -> io::Result<()> {
        let mut index = 0;
        while index < self.threads.len() {
            // Asked before draining: what a thread wrote before it left a ring is then taken.
            let state = self.threads[index].rings[0].ring().state();
            self.drain_ring(index)?;
            self.hall.stock.refill(self.calibration.line()); // a visit may take long
            if !self.leave_behind(index, state) {
                index += 1;
            }
        }
        for thread in &mut self.threads {
            self.writer.settle(&mut thread.sequence);
        }
        let lost = self.writer.next_visit();
        self.count_lost(lost);
        Ok(())
    }

    /// States what could not be put into the capture.
    fn count_lost(&mut self, lost: Lost) {
        if lost.spans > 0 && !std::mem::replace(&mut self.has_told, true) {
            log::warn!(
                "too many spans are open at once that overlap others: new ones are not recorded. Something begins spans \
                 and does not end them"
            );
        }
        state_lost(&mut self.writer, lost);
    }

    /// Puts a ring aside that was drained to its end, and a thread that has ended. Whether there is something else at
    /// this index now.
    pub(super) fn leave_behind(&mut self, index: usize, state: State) -> bool {
        let thread = &mut self.threads[index];
        // A larger ring is announced before this one is left, but may have been too late for this visit.
        if state == State::Open || state == State::Outgrown && thread.rings.len() == 1 {
            return false;
        }
        if let Some(consumer) = thread.rings.pop_front() {
            consumer.ring().forget_file();
            self.hall.stock.take_back(consumer.ring().clone());
        }
        if thread.rings.is_empty() {
            let gone = self.threads.swap_remove(index);
            self.writer.retire(gone.sequence);
        }
        true
    }

    /// Takes what is in the first ring of a thread.
    fn drain_ring(&mut self, index: usize) -> io::Result<()> {
        let ring = self.threads[index].rings[0].ring();
        // Once around: a thread that never stops must not keep the others waiting.
        for _ in 0..=ring.capacity() / PIECE {
            let Self { writer, calibration, threads, figures, .. } = self;
            let Recorded { rings, sequence, .. } = &mut threads[index];
            let more = rings[0].drain(PIECE, |record| {
                figures.events += 1;
                write(writer, sequence, calibration.to_boot(record.ticks), &record);
            });
            writer.seal();
            let (before, pending) = (self.file.length(), self.writer.pending().len() as u64);
            self.threads[index].rings[0].announce(before, before + pending);
            self.write_pending()?;
            self.threads[index].rings[0].release();
            self.turn_page()?;
            match more {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    log::error!("a thread's ring was damaged, which is a defect of msprof_rs: {error}");
                    break;
                }
            }
        }
        self.count_dropped(index);
        Ok(())
    }

    pub(super) fn count_dropped(&mut self, index: usize) {
        let Self { writer, threads, losses, .. } = self;
        let Recorded { rings, sequence, .. } = &mut threads[index];
        let lost = rings[0].newly_dropped();
        if lost > 0 {
            losses.dropped += lost;
            let mut attributes = Attributes::default();
            attributes.key(Name::new("count")).int(lost as i64);
            let label = Label::new(META_DOMAIN, "dropped");
            // Just encoded, so it is whole.
            let _ = writer.instant(sequence, clock::boottime(), label, attributes.as_bytes());
        }
    }

    /// A fact about the process that a ring forgets: the file keeps it.
    pub(super) fn keep_fact(&mut self, time: Nanos, label: Label, attributes: &[u8]) {
        self.writer.meta(time, label, attributes);
    }

    pub(super) fn write_pending(&mut self) -> io::Result<()> {
        self.writer.seal();
        let bytes = self.writer.pending();
        if !bytes.is_empty() {
            self.file.write(bytes)?;
            self.figures.bytes += bytes.len() as u64;
            self.writer.written();
        }
        self.events_written = self.figures.events;
        Ok(())
    }

    /// Begins a new file if this one is full. It says what tracks and clocks there are, so it can be read alone.
    fn turn_page(&mut self) -> io::Result<()> {
        if !self.file.is_full() {
            return Ok(());
        }
        self.announce_length(0); // of the next part
        let begin = Begin { stream: self.writer.stream(), records: self.figures.events };
        let removed = match self.file.next_part(begin) {
            Ok(removed) => removed,
            Err(error) => {
                if !std::mem::replace(&mut self.told_part, true) {
                    log::warn!("no new part of the capture can be made, it goes on in this one: {error}");
                }
                return Ok(());
            }
        };
        self.state_again();
        self.state_removed(removed);
        self.write_pending()
    }

    /// States in a new file what its packets lean on.
    pub(super) fn state_again(&mut self) {
        let Self { writer, threads, .. } = self;
        writer.state_again(threads.iter().map(|thread| (&thread.thread, &thread.sequence)));
    }

    /// Lets no more events in, unless another session has them already, takes the last ones to the file, and removes the
    /// rings. Gives what it has lost.
    pub(super) fn stop(mut self) -> io::Result<Losses> {
        thread::close_session(self.id);
        door::close(self.id);
        self.writer.rename_process(facts::process(self.process_name.as_deref()));
        let outcome = self.take_the_rest();
        // What could not be written is still in those that are not ready, for whoever reads the capture afterwards.
        self.hall.stock.remove_files(outcome.is_ok());
        // After the rings, which nobody could read without; and the lock goes last of all.
        self.names.iter().for_each(|names| names.close(outcome.is_ok()));
        self.places.tidy_up();
        if outcome.is_ok()
            && let Some(folder) = self.file.moved_to()
        {
            remove_moved(&folder, &self.stem.file_name().unwrap_or_default().to_string_lossy());
        }
        self.tell_losses();
        log::debug!("capture {} closed", self.stem.display());
        outcome.map(|()| self.losses())
    }

    fn take_the_rest(&mut self) -> io::Result<()> {
        self.write_what_waits()?;
        self.look_at_clocks();
        self.welcome();
        self.recall();
        let abandoned = self.writer.abandoned();
        // A thread may have left several rings behind, one of which goes at each turn.
        while {
            let before: usize = self.threads.iter().map(|thread| thread.rings.len()).sum();
            self.drain()?;
            self.threads.iter().map(|thread| thread.rings.len()).sum::<usize>() < before
        } {}
        let lost = self.writer.last_visit();
        self.count_lost(lost);
        self.state_ringless();
        self.state_ends_missed(abandoned);
        self.writer.close();
        self.write_pending()
    }

    /// States the spans that began in forgotten records, so that their ends find them.
    fn recall(&mut self) {
        let Self { writer, threads, forgotten, calibration, .. } = self;
        for thread in threads {
            forgotten.recall(writer, &mut thread.sequence, thread.thread.sequence, &thread.open, calibration);
            thread.open.clear();
        }
    }

    /// Counts records that were taken from the rings.
    pub(super) fn count(&mut self, records: u64) {
        self.figures.events += records;
    }

    pub(super) fn compresses(&self) -> bool {
        self.compress
    }

    pub(super) fn process(&self) -> Process {
        facts::process(self.process_name.as_deref())
    }
}

/// A writer that has stated the process and its facts, among them why this was written.
pub(super) fn writer(process: Process, reason: Option<&str>) -> Writer {
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let (host, parent) = (machine::hostname(), parent.to_string());
    let (boot_id, namespace, recorder) = (machine::boot_id(), machine::pid_namespace(), facts::recorder());
    let mut facts = vec![
        ("hostname", host.as_str()),
        ("boot_id", &boot_id),
        ("pid_namespace", &namespace),
        ("recorder", &recorder),
        ("ppid", &parent),
        ("clock", clock::source().as_str()),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    facts.extend(reason.map(|reason| ("reason", reason)));
    let role = role::role().unwrap_or_default();
    facts.extend(role.facts.iter().map(|(key, value)| (*key, value.as_str())));
    Writer::new(process, Clocks::Real, &facts)
}

/// States in a capture what could not be put into it.
pub(super) fn state_lost(writer: &mut Writer, lost: Lost) {
    for (name, count) in [("unmatched", lost.ends), ("unfollowed", lost.spans)] {
        if count > 0 {
            let mut attributes = Attributes::default();
            attributes.key(Name::new("count")).int(count as i64);
            writer.meta(clock::boottime(), Label::new(META_DOMAIN, name), attributes.as_bytes());
        }
    }
}

pub(super) fn write(writer: &mut Writer, sequence: &mut Sequence, time: Nanos, record: &Record<'_>) {
    if record.kind == Kind::EndWithin {
        // Its number stands where others have their label.
        if let Err(error) = writer.end_within(sequence, time, record.label, record.attributes) {
            log::debug!("the end of a span: {error}");
        }
        return;
    }
    let Some(label) = Label::from_index(record.label) else { return };
    let outcome = match record.kind {
        Kind::Begin => {
            writer.begin(sequence, time, label);
            Ok(())
        }
        Kind::End => writer.end(sequence, time, record.attributes),
        Kind::Instant => writer.instant(sequence, time, label, record.attributes),
        Kind::AsyncBegin => {
            writer.async_begin(sequence, time, label, record.id);
            Ok(())
        }
        Kind::LooseBegin => {
            writer.loose_begin(sequence, time, label, record.id);
            Ok(())
        }
        Kind::AsyncEnd => writer.async_end(sequence, time, record.id, record.attributes),
        Kind::EndWithin => Ok(()), // above
        Kind::Counter => {
            writer.counter(sequence, time, label, f64::from_bits(record.id));
            Ok(())
        }
        Kind::Meta => {
            writer.meta(time, label, record.attributes);
            Ok(())
        }
    };
    if let Err(error) = outcome {
        log::debug!("{}: {error}", label.name().as_str());
    }
}

/// A second anchor a millisecond later, for a first slope that is exact to some 50 ppm; the next visit betters it.
fn later_than(first: Anchor) -> Anchor {
    std::thread::sleep(std::time::Duration::from_millis(1));
    let next = Anchor::now();
    if next.ticks > first.ticks { next } else { first }
}

#[cfg(test)]
mod tests;
