//! A page in shared memory in which a process says how its recorder does. Only it writes; who reads costs it nothing.

#![allow(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::MmapRaw;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::own_file::{self, Claim, Identity, Life, life_of};
use crate::stem::CaptureId;

const MAGIC: u64 = u64::from_le_bytes(*b"msprofS\x01");
const SIZE: usize = 8192;
/// Ending of a page's file. It is called by its process's number and a random one: another container has the first, too.
const ENDING: &str = ".status";
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
    /// Events that are lost: they found their thread's ring full, their thread got none, or they went with a file that
    /// somebody removed.
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
    /// Which file that is, whatever it is called elsewhere.
    #[serde(default)]
    pub config_file: Option<Identity>,
    /// The mounts that it sees: its paths are to be understood in them.
    #[serde(default)]
    pub mounts: u64,
    /// The running session's folder.
    pub session: Option<PathBuf>,
    /// Why nothing is recorded or written, though collection is on.
    #[serde(default)]
    pub trouble: Option<String>,
}

/// A recorder as its page shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Live {
    /// Its page's file, which no other process has had.
    #[serde(skip)]
    pub page: PathBuf,
    /// Process id, in the process's own pid namespace.
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
    map: MmapRaw,
    /// By which readers know that this process lives.
    claim: Claim,
}

impl Page {
    /// Makes this process's page.
    ///
    /// # Errors
    /// The file can't be made, mapped or locked, or there is no room for it.
    pub fn create(facts: &Facts) -> io::Result<Self> {
        let folder = files::private_folder()?;
        sweep(&folder);
        let path = folder.join(format!("{}-{:016x}{ENDING}", std::process::id(), CaptureId::random().0));
        let map = own_file::map_new(&path, SIZE)?;
        let claim = Claim::take(&path).inspect_err(|_| {
            // It is of no use; that it can't be removed either adds nothing to the first error.
            let _ = std::fs::remove_file(&path);
        })?;
        let page = Self { map, claim };
        page.head().pid.store(std::process::id(), Ordering::Relaxed);
        page.set_facts(facts);
        page.head().magic.store(MAGIC, Ordering::Release); // from now on it counts
        Ok(page)
    }

    /// Locks the page again if the program has closed its descriptor: the lock went with that.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn hold(&mut self) -> io::Result<()> {
        self.claim.hold()
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
            let _ = std::fs::remove_file(self.claim.path()); // nobody misses it if it is gone
        }
    }
}

impl Live {
    /// All recorders of this user on this machine, by process id.
    pub fn all() -> Vec<Self> {
        let folders = files::private_folders_of(files::user());
        let mut all: Vec<Self> =
            folders.flat_map(|folder| pages(&folder)).filter_map(|path| Self::read(&path)).collect();
        all.sort_by_key(|live| live.pid);
        all
    }

    /// None: it is no page, or its process has ended.
    fn read(path: &Path) -> Option<Self> {
        let file = files::open_own(path, files::user()).ok()?;
        let copy = Copy::of(&file)?;
        if copy.word(offset_of!(Head, magic)) != MAGIC || life_of(&file) == Life::Gone {
            return None;
        }
        let state = match copy.half(offset_of!(Head, state)) {
            1 => State::Recording,
            2 => State::Flight,
            _ => State::Idle,
        };
        let [events, bytes, dropped, threads, ring_filled, ring_size] =
            std::array::from_fn(|number| copy.word(offset_of!(Head, figures) + number * size_of::<u64>()));
        let figures = Figures { events, bytes, dropped, threads, ring_filled, ring_size };
        let pid = copy.half(offset_of!(Head, pid));
        Some(Self { page: path.into(), pid, state, facts: facts(&file), figures })
    }
}

/// Another process's page, as it was at an instant. It is read rather than mapped: its file may be cut meanwhile.
struct Copy([u8; SIZE]);

impl Copy {
    /// None: it is shorter than a page.
    fn of(file: &File) -> Option<Self> {
        let mut bytes = [0; SIZE];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Some(Self(bytes))
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_ne_bytes(std::array::from_fn(|byte| self.0[at + byte]))
    }

    fn half(&self, at: usize) -> u32 {
        u32::from_ne_bytes(std::array::from_fn(|byte| self.0[at + byte]))
    }

    fn version(&self) -> u64 {
        self.word(offset_of!(Head, version))
    }
}

/// What is on the page's file, read at a time when it was not being changed.
fn facts(file: &File) -> Facts {
    for _ in 0..100 {
        let (Some(copy), Some(later)) = (Copy::of(file), Copy::of(file)) else { break };
        if copy.version().is_multiple_of(2) && copy.version() == later.version() {
            let length = (copy.word(offset_of!(Head, length)) as usize).min(TEXT);
            let text = &copy.0[size_of::<Head>()..][..length];
            return serde_json::from_slice(text).unwrap_or_default();
        }
        std::thread::yield_now();
    }
    Facts::default()
}

/// The pages in a folder.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let names = own_file::names_in(folder).unwrap_or_default();
    names
        .into_iter()
        .map(|name| folder.join(name))
        .filter(|path| path.to_string_lossy().ends_with(ENDING))
        .collect()
}

/// Removes what killed processes have left. A page without its magic number may be one that is being made.
fn sweep(folder: &Path) {
    let is_abandoned = |path: &Path| {
        let file = files::open_own(path, files::user()).ok()?;
        let has_magic = Copy::of(&file)?.word(offset_of!(Head, magic)) == MAGIC;
        Some(has_magic && life_of(&file) == Life::Gone)
    };
    for path in pages(folder).iter().filter(|path| is_abandoned(path) == Some(true)) {
        // Another process may be doing the same.
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_what_was_put_on_it_until_it_is_dropped() {
        let facts = Facts { role: "engine".into(), config: "/c.json".into(), ..Facts::default() };
        let page = Page::create(&facts).unwrap();
        let path = page.claim.path().to_owned();
        let ours = || Live::all().into_iter().find(|live| live.page == path);
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

    #[test]
    fn a_page_whose_process_is_gone_shows_nothing_and_is_swept_whatever_has_its_pid() {
        let page = Page::create(&Facts::default()).unwrap();
        let (path, pid) = (page.claim.path().to_owned(), std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join(path.file_name().unwrap());
        std::fs::copy(&path, &copy).unwrap();
        assert_eq!(Live::read(&path).map(|live| live.pid), Some(pid));
        assert!(Live::read(&copy).is_none(), "nobody holds its lock");
        let half_made = folder.path().join(format!("7{ENDING}"));
        std::fs::write(&half_made, [0; SIZE]).unwrap();
        sweep(folder.path());
        assert!(!copy.exists() && half_made.exists());
        sweep(path.parent().unwrap());
        assert!(path.exists());
    }
}
