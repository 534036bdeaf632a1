//! A page in shared memory in which a process says how its recorder does. Only it writes; who reads costs it nothing.

#![allow(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::own_file::OwnFile;

const MAGIC: u64 = u64::from_le_bytes(*b"msprofS\x01");
const SIZE: usize = 8192;
/// Bytes for the facts.
const TEXT: usize = SIZE - size_of::<Head>();

/// What a recorder does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for collection to be switched on.
    Idle = 0,
    /// It writes events to its capture.
    Recording = 1,
    /// It keeps the newest events in memory.
    Flight = 2,
}

/// Numbers, each true at some instant of the last few milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Events that were taken from the rings since the session began.
    pub events: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// Events that found their thread's ring full.
    pub dropped: u64,
    /// Threads that record.
    pub threads: u64,
    /// Bytes of the rings that are filled.
    pub ring_filled: u64,
    /// Bytes of all rings.
    pub ring_size: u64,
}

/// What seldom changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What the process is called.
    pub role: String,
    /// Its collection config.
    pub config: PathBuf,
    /// The running session's folder.
    pub session: Option<PathBuf>,
}

/// A recorder as its page shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Live {
    /// Process id.
    pub pid: u32,
    /// What it does.
    pub state: State,
    /// What seldom changes.
    #[serde(flatten)]
    pub facts: Facts,
    /// Its numbers.
    #[serde(flatten)]
    pub figures: Figures,
}

#[repr(C)]
struct Head {
    magic: AtomicU64,
    pid: AtomicU32,
    state: AtomicU32,
    figures: [AtomicU64; 6],
    /// Odd while the text is being changed.
    version: AtomicU64,
    length: AtomicU64,
}

/// The page of this process; it goes when the process ends in an orderly way.
#[derive(Debug)]
pub struct Page {
    path: PathBuf,
    map: MmapRaw,
    /// Locked as long as the process lives.
    file: OwnFile,
}

impl Page {
    /// Makes this process's page.
    ///
    /// # Errors
    /// The file can't be made or mapped.
    pub fn create(facts: &Facts) -> io::Result<Self> {
        sweep();
        let path = folder().join(format!("{}{}", prefix(), std::process::id()));
        // One of this name is left from a process that had the same number.
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let mut file = OwnFile::new(file, &path)?;
        flock(file.get()?, FlockOperation::NonBlockingLockExclusive)?;
        file.get()?.set_len(SIZE as u64)?;
        let map = MmapOptions::new().len(SIZE).map_raw(file.get()?)?;
        let page = Self { path, map, file };
        page.head().pid.store(std::process::id(), Ordering::Relaxed);
        page.set_facts(facts);
        page.head().magic.store(MAGIC, Ordering::Release);
        Ok(page)
    }

    /// Locks the page again if the program has closed its descriptor: the lock went with that.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn hold(&mut self) -> io::Result<()> {
        if self.file.restore()? {
            flock(self.file.get()?, FlockOperation::NonBlockingLockExclusive)?;
        }
        Ok(())
    }

    /// States what it does, and its numbers.
    pub fn set(&self, state: State, figures: Figures) {
        let Figures { events, bytes, dropped, threads, ring_filled, ring_size } = figures;
        let head = self.head();
        head.state.store(state as u32, Ordering::Relaxed);
        let values = [events, bytes, dropped, threads, ring_filled, ring_size];
        for (place, value) in head.figures.iter().zip(values) {
            place.store(value, Ordering::Relaxed);
        }
    }

    /// States what seldom changes. Paths that are too long for the page are left out.
    pub fn set_facts(&self, facts: &Facts) {
        let text = serde_json::to_vec(facts).unwrap_or_default();
        let text: &[u8] = if text.len() > TEXT { b"{}" } else { &text };
        let head = self.head();
        head.version.fetch_add(1, Ordering::AcqRel);
        for (at, byte) in text.iter().enumerate() {
            // SAFETY: `at` is below `TEXT`, which the mapping has behind its head. Readers copy byte by byte and look
            // at the version afterwards.
            unsafe { self.map.as_mut_ptr().add(size_of::<Head>() + at).write_volatile(*byte) };
        }
        head.length.store(text.len() as u64, Ordering::Relaxed);
        head.version.fetch_add(1, Ordering::AcqRel);
    }

    fn head(&self) -> &Head {
        // SAFETY: page-aligned, longer than a head, and all of it atomics.
        unsafe { &*self.map.as_ptr().cast::<Head>() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // A forked child has a copy of its parent's.
        if self.head().pid.load(Ordering::Relaxed) == std::process::id() {
            let _ = std::fs::remove_file(&self.path); // nobody misses it if it is gone
        }
    }
}

impl Live {
    /// All recorders of this user on this machine, by process id.
    pub fn all() -> Vec<Self> {
        let mut all: Vec<Self> = pages().iter().filter_map(|(_, path)| Self::read(path)).collect();
        all.sort_by_key(|live| live.pid);
        all
    }

    /// None: it is no page, or its process has ended.
    fn read(path: &Path) -> Option<Self> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
        let metadata = file.metadata().ok()?;
        let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
        if !is_ours || metadata.len() < SIZE as u64 {
            return None;
        }
        let page = Mapped::new(&file)?;
        let head = page.head();
        if head.magic.load(Ordering::Acquire) != MAGIC {
            return None;
        }
        let pid = head.pid.load(Ordering::Relaxed);
        if !is_alive(pid) {
            return None;
        }
        let [events, bytes, dropped, threads, ring_filled, ring_size] =
            head.figures.each_ref().map(|figure| figure.load(Ordering::Relaxed));
        let state = match head.state.load(Ordering::Relaxed) {
            1 => State::Recording,
            2 => State::Flight,
            _ => State::Idle,
        };
        let figures = Figures { events, bytes, dropped, threads, ring_filled, ring_size };
        Some(Self { pid, state, facts: page.facts(), figures })
    }
}

/// Another process's page.
struct Mapped(MmapRaw);

impl Mapped {
    fn new(file: &File) -> Option<Self> {
        MmapOptions::new().len(SIZE).map_raw_read_only(file).ok().map(Self)
    }

    fn head(&self) -> &Head {
        // SAFETY: page-aligned, longer than a head, and all of it atomics, which are only read.
        unsafe { &*self.0.as_ptr().cast::<Head>() }
    }

    fn facts(&self) -> Facts {
        let head = self.head();
        for _ in 0..100 {
            let before = head.version.load(Ordering::Acquire);
            let length = (head.length.load(Ordering::Relaxed) as usize).min(TEXT);
            // SAFETY: below `TEXT`; a byte that is just being changed makes a text that is thrown away.
            let byte = |at| unsafe { self.0.as_ptr().add(size_of::<Head>() + at).read_volatile() };
            let text: Vec<u8> = (0..length).map(byte).collect();
            std::sync::atomic::fence(Ordering::Acquire);
            if before.is_multiple_of(2) && head.version.load(Ordering::Relaxed) == before {
                return serde_json::from_slice(&text).unwrap_or_default();
            }
            std::thread::yield_now();
        }
        Facts::default()
    }
}

/// The pages of this user, with the process ids in their names.
fn pages() -> Vec<(u32, PathBuf)> {
    let prefix = prefix();
    let entries = std::fs::read_dir(folder()).into_iter().flatten().flatten();
    let page = |entry: std::fs::DirEntry| {
        Some((entry.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()?, entry.path()))
    };
    entries.filter_map(page).collect()
}

/// Removes what killed processes have left. Their numbers say little: they may be another container's.
fn sweep() {
    let is_abandoned = |path: &Path| {
        let file = File::open(path);
        file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
    };
    for (_, path) in pages().iter().filter(|(_, path)| is_abandoned(path)) {
        // Another process may be doing the same.
        let _ = std::fs::remove_file(path);
    }
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).is_dir()
}

fn folder() -> PathBuf {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() { shared_memory.into() } else { std::env::temp_dir() }
}

fn prefix() -> String {
    format!("msprof_rs-{}-status-", rustix::process::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_what_was_put_on_it_until_it_is_dropped() {
        let facts = Facts { role: "engine".into(), config: "/c.json".into(), session: None };
        let page = Page::create(&facts).unwrap();
        let ours = || Live::all().into_iter().find(|live| live.pid == std::process::id());
        let live = ours().unwrap();
        assert_eq!((live.state, live.facts, live.figures), (State::Idle, facts, Figures::default()));

        let facts = Facts { session: Some("/s".into()), ..Facts::default() };
        let figures = Figures { events: 1, bytes: 2, dropped: 3, threads: 4, ring_filled: 5, ring_size: 6 };
        page.set_facts(&facts);
        page.set(State::Flight, figures);
        let live = ours().unwrap();
        assert_eq!((live.state, live.facts, live.figures), (State::Flight, facts, figures));
        drop(page);
        assert!(ours().is_none());
    }
}
