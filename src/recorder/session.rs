//! One capture of this process: its trace file, its rings, and the draining of one into the other.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use super::{Options, facts, thread};
use crate::clock::{self, Anchor, Calibration, Nanos, Snapshot};
use crate::event::{self, Attributes, Label, Name};
use crate::ring::{Consumer, Kind, Owner, Place, Record, Ring};
use crate::trace::{Clocks, META_DOMAIN, Sequence, Thread, Writer, sequence_id};

/// Size of a busy thread's ring: at 16 bytes an event, 260,000 events between two visits of the flusher.
const RING_SIZE: usize = 4 << 20;

/// So much of a ring is taken to the file at once. Its room is freed afterwards: a kill in between loses nothing.
const PIECE: usize = 128 << 10;

/// How often the clocks are stated again, which lets a reader see drift and steps.
const SNAPSHOT_PERIOD: Nanos = Nanos(10_000_000_000);

static NEXT_SESSION: AtomicU64 = AtomicU64::new(1);

/// What a thread needs at its first event.
static DOOR: ArcSwapOption<Door> = ArcSwapOption::const_empty();

/// The running session's file of names.
static NAMES: ArcSwapOption<Mutex<NamesFile>> = ArcSwapOption::const_empty();

/// Where the threads of the running session announce themselves.
#[derive(Debug)]
struct Door {
    session: u64,
    stem: PathBuf,
    next_ring: AtomicU32,
    next_sequence: AtomicU32,
    thread_name: fn() -> Option<String>,
    newcomers: Sender<Newcomer>,
}

#[derive(Debug)]
struct Newcomer {
    ring: Arc<Ring>,
    thread: Thread,
}

/// A running capture; the flusher owns it.
#[derive(Debug)]
pub(super) struct Session {
    process_name: Option<String>,
    stem: PathBuf,
    path: PathBuf,
    file: File,
    /// Bytes in it.
    length: u64,
    writer: Writer,
    calibration: Calibration,
    next_snapshot: Nanos,
    newcomers: Receiver<Newcomer>,
    threads: Vec<Drained>,
    dropped: u64,
}

#[derive(Debug)]
struct Drained {
    consumer: Consumer,
    sequence: Sequence,
}

impl Session {
    /// Makes the trace file `<folder>/<host>-<pid>.pftrace` and lets the threads in.
    pub(super) fn start(folder: &Path, options: &Options) -> io::Result<Self> {
        let host = facts::hostname();
        let stem = folder.join(format!("{host}-{}", std::process::id()));
        let (path, file) = new_trace_file(&stem)?;
        NAMES.store(Some(Arc::new(Mutex::new(NamesFile::create(&path)?))));
        event::listen_to_names(note_names);
        let first = Anchor::now();
        let calibration = Calibration::new(first, later_than(first));
        calibration.publish();
        let now = Snapshot::now();
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        let facts = [
            ("hostname", host.as_str()),
            ("ppid", &parent.to_string()),
            ("clock", clock::source().as_str()),
            ("version", env!("CARGO_PKG_VERSION")),
        ];
        let writer = Writer::new(facts::process(options.process_name.as_deref()), Clocks::Real, &facts);
        let (sender, newcomers) = crossbeam_channel::unbounded();
        let session = NEXT_SESSION.fetch_add(1, Ordering::Relaxed);
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), &path) as u32;
        let door = Door {
            session,
            stem: stem.clone(),
            next_ring: AtomicU32::new(0),
            next_sequence: AtomicU32::new(seed),
            thread_name: options.thread_name,
            newcomers: sender,
        };
        DOOR.store(Some(Arc::new(door)));
        thread::open_session(session);
        let next_snapshot = Nanos(now.boot.0 + SNAPSHOT_PERIOD.0);
        let threads = Vec::new();
        let process_name = options.process_name.clone();
        let mut session = Self {
            process_name,
            stem,
            path,
            file,
            length: 0,
            writer,
            calibration,
            next_snapshot,
            newcomers,
            threads,
            dropped: 0,
        };
        session.write_pending()?;
        Ok(session)
    }

    /// The trace file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes what the threads have committed to the file. Returns the number of records.
    pub(super) fn drain(&mut self) -> io::Result<usize> {
        self.calibration.advance(Anchor::now());
        self.calibration.publish();
        let now = Snapshot::now();
        if now.boot >= self.next_snapshot {
            self.next_snapshot = Nanos(now.boot.0 + SNAPSHOT_PERIOD.0);
            self.writer.rename_process(facts::process(self.process_name.as_deref()));
            self.writer.snapshot();
        }
        for newcomer in self.newcomers.try_iter() {
            let sequence = self.writer.thread(&newcomer.thread);
            self.threads.push(Drained { consumer: Consumer::new(newcomer.ring), sequence });
        }
        let mut records = 0;
        let mut index = 0;
        while index < self.threads.len() {
            // Asked before draining: what a thread wrote before it ended is then taken.
            let ended = self.threads[index].consumer.ring().is_closed();
            records += self.drain_thread(index, now)?;
            if ended {
                self.threads.swap_remove(index).consumer.ring().remove_file();
            } else {
                index += 1;
            }
        }
        self.write_pending()?;
        Ok(records)
    }

    fn drain_thread(&mut self, index: usize, now: Snapshot) -> io::Result<usize> {
        let mut records = 0;
        let ring = self.threads[index].consumer.ring();
        ring.set_line(self.calibration.line());
        // Once around: a thread that never stops must not keep the others waiting.
        for _ in 0..=ring.capacity() / PIECE {
            let Self { writer, calibration, threads, length, .. } = self;
            let Drained { consumer, sequence } = &mut threads[index];
            let more = consumer.drain(PIECE, |record| {
                records += 1;
                write(writer, sequence, calibration.to_boot(record.ticks), &record);
            });
            consumer.announce(*length, *length + writer.pending().len() as u64);
            self.write_pending()?;
            self.threads[index].consumer.release();
            match more {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    log::error!("a thread's ring was damaged, which is a defect of msprof_rs: {error}");
                    break;
                }
            }
        }
        let Self { writer, threads, dropped, .. } = self;
        let Drained { consumer, sequence } = &mut threads[index];
        let lost = consumer.newly_dropped();
        if lost > 0 {
            *dropped += lost;
            let mut attributes = Attributes::default();
            attributes.key(Name::new("count")).int(lost as i64);
            let label = Label::new(META_DOMAIN, "dropped");
            // Just encoded, so it is whole.
            let _ = writer.instant(sequence, now.boot, label, attributes.as_bytes());
        }
        Ok(records)
    }

    fn write_pending(&mut self) -> io::Result<()> {
        let pending = self.writer.pending();
        if !pending.is_empty() {
            self.file.write_all(pending)?;
            self.length += pending.len() as u64;
            self.writer.written();
        }
        Ok(())
    }

    /// Lets no more events in, takes the last ones to the file, and removes the rings.
    pub(super) fn stop(mut self) -> io::Result<u64> {
        thread::close_session();
        DOOR.store(None);
        self.writer.rename_process(facts::process(self.process_name.as_deref()));
        let outcome = self.drain();
        let late = self.newcomers.try_iter().map(|newcomer| newcomer.ring);
        for ring in self.threads.iter().map(|thread| thread.consumer.ring().clone()).chain(late) {
            ring.remove_file();
        }
        let names = NAMES.swap(None);
        if let (Ok(_), Some(names)) = (&outcome, names) {
            names.lock().remove(); // the trace file has every name that was used
        }
        if self.dropped > 0 {
            let (count, path) = (self.dropped, self.path.display());
            log::warn!("{count} events found their thread's ring full and were dropped; {path} counts them");
        }
        log::debug!("capture {} closed", self.stem.display());
        outcome.map(|_| self.dropped)
    }
}

/// Makes the ring of the calling thread and announces it, if `session` still runs.
pub(super) fn ring_for_this_thread(session: u64) -> Option<Arc<Ring>> {
    let door = DOOR.load_full().filter(|door| door.session == session)?;
    let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    let sequence = sequence_id(door.next_sequence.fetch_add(0x9e_377a, Ordering::Relaxed));
    let owner = Owner { pid: std::process::id(), tid, sequence };
    let number = door.next_ring.fetch_add(1, Ordering::Relaxed);
    let ring = Arc::new(make_ring(&door.stem, number, owner)?);
    let name = (door.thread_name)().unwrap_or_else(|| system_thread_name(tid));
    let thread = Thread { tid, name, sequence };
    if door.newcomers.send(Newcomer { ring: ring.clone(), thread }).is_err() {
        ring.remove_file(); // the session has ended meanwhile
        return None;
    }
    Some(ring)
}

/// In a forked child: the door is the parent's, and so is what hangs on it.
pub(super) fn forget_parents() {
    std::mem::forget((DOOR.swap(None), NAMES.swap(None)));
}

/// In the session's folder, so that it outlives the process; else in shared memory, else in private memory.
fn make_ring(stem: &Path, number: u32, owner: Owner) -> Option<Ring> {
    let name = format!("{}-{number}.ring", stem.file_name().unwrap_or_default().to_string_lossy());
    let places = [
        Place::File(stem.with_file_name(&name)),
        Place::File(Path::new("/dev/shm").join(format!("msprof_rs-{name}"))),
        Place::Private,
    ];
    for place in places {
        let is_private = place == Place::Private;
        match Ring::create(place, RING_SIZE, owner) {
            Ok(ring) => {
                if is_private {
                    log::warn!(
                        "a thread records into private memory: a kill of this process would lose its last events"
                    );
                }
                return Some(ring);
            }
            Err(error) => log::debug!("{error}"),
        }
    }
    log::error!("no memory for a ring: the events of thread {} are not recorded", owner.tid);
    None
}

fn system_thread_name(tid: u32) -> String {
    std::fs::read_to_string(format!("/proc/self/task/{tid}/comm"))
        .map_or_else(|_| "thread".into(), |s| s.trim().into())
}

fn write(writer: &mut Writer, sequence: &mut Sequence, time: Nanos, record: &Record<'_>) {
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
        Kind::AsyncEnd => writer.async_end(sequence, time, record.id, record.attributes),
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

/// `<stem>.pftrace`, or `<stem>.1.pftrace` … where this process captured into the same folder before.
fn new_trace_file(stem: &Path) -> io::Result<(PathBuf, File)> {
    for part in 0_u32.. {
        let suffix = if part == 0 { ".pftrace".into() } else { format!(".{part}.pftrace") };
        let path = PathBuf::from(format!("{}{suffix}", stem.display()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Notes the names that were added since the last time. Where another thread is just doing that, it may come too late
/// for the newest name, which then waits for the next one.
fn note_names() {
    if let Some(names) = &*NAMES.load()
        && let Some(mut names) = names.try_lock()
        && let Err(error) = names.append()
    {
        log::debug!("a name could not be noted: {error}");
    }
}

/// The texts behind the numbers in the rings, for whoever reads the rings of a process that was killed: one JSON
/// array a line, `["n", index, text]` or `["l", index, domain, name]`.
#[derive(Debug)]
struct NamesFile {
    path: PathBuf,
    file: File,
    names: u32,
    labels: u32,
}

impl NamesFile {
    fn create(trace: &Path) -> io::Result<Self> {
        let path = trace.with_extension("names");
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let mut names = Self { path, file, names: 0, labels: 0 };
        names.append()?;
        Ok(names)
    }

    fn append(&mut self) -> io::Result<()> {
        let mut lines = String::new();
        for (index, text) in event::names_from(self.names) {
            lines.push_str(&serde_json::json!(["n", index, text]).to_string());
            lines.push('\n');
            self.names = index + 1;
        }
        for (index, domain, name) in event::labels_from(self.labels) {
            lines.push_str(&serde_json::json!(["l", index, domain, name]).to_string());
            lines.push('\n');
            self.labels = index + 1;
        }
        if lines.is_empty() { Ok(()) } else { self.file.write_all(lines.as_bytes()) }
    }

    fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}
