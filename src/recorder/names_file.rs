//! The texts behind the numbers in the rings, in a mapped file beside the capture: for whoever reads the rings of a process
//! that was killed.
//!
//! A thread that makes up a name puts it there itself, before anybody can record with it, and makes no system call for
//! that. Making the file and letting it grow is the flusher's part.
//!
//! The file also says that its recorder lives: by a lock, which is there before anything counts that is in it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use memmap2::MmapRaw;
use parking_lot::Mutex;

use super::ring_places::RingPlaces;
use crate::event;
use crate::event::names_log::{COMMITTED, Entry, FILED_RINGS, HEAD, IDENTITY, MAGIC, PRIVATE_RINGS};
use crate::own_file::{Claim, map_longer, map_new};
use crate::ring::names_name;
use crate::stem::CaptureId;

/// What the file has at first, unless it needs more.
const FIRST_SIZE: usize = 64 << 10;

/// The running session's file.
static NAMES: ArcSwapOption<NamesFile> = ArcSwapOption::const_empty();

/// A session's file.
#[derive(Debug)]
pub(super) struct NamesFile {
    /// Whose it is: in a forked child nothing of it may be touched, its lock least of all.
    pid: u32,
    path: PathBuf,
    /// Nobody waits for a disk while he has it.
    log: Mutex<Log>,
}

/// The mapped file, and how far it has come.
#[derive(Debug)]
struct Log {
    map: MmapRaw,
    /// Bytes behind the head that are taken.
    length: usize,
    /// The next name and label to be noted.
    names: u32,
    labels: u32,
    /// Bytes that found no room.
    missing: usize,
}

/// Makes `<stem>.names` for a capture, and notes from now on each name as it is made. Gives it, and the lock by which readers
/// know that this recorder lives.
///
/// # Errors
/// The file can't be made, mapped or locked: without it, nobody can read the rings.
pub(super) fn open(
    places: &RingPlaces,
    stem: &str,
    identity: CaptureId,
) -> io::Result<(Arc<NamesFile>, Claim)> {
    let mut log = Log {
        map: MmapRaw::from(memmap2::MmapMut::map_anon(HEAD)?),
        length: 0,
        names: 0,
        labels: 0,
        missing: 0,
    };
    log.append(); // which finds out how much there is
    let size = size_for(log.missing);
    let (path, map) = make(places, &names_name(stem), size)?;
    let claim = Claim::take(&path).inspect_err(|_| {
        // It is of no use; that it can't be removed either adds nothing to the first error.
        let _ = std::fs::remove_file(&path);
    })?;
    log.move_to(map);
    log.word(IDENTITY).store(identity.0, Ordering::Relaxed);
    log.word(0).store(MAGIC, Ordering::Release);
    let names = Arc::new(NamesFile { pid: std::process::id(), path, log: Mutex::new(log) });
    NAMES.store(Some(names.clone()));
    event::listen_to_names(note);
    note(); // what has been made since
    Ok((names, claim))
}

fn make(places: &RingPlaces, name: &str, size: usize) -> io::Result<(PathBuf, MmapRaw)> {
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for path in places.files(name.to_owned(), size as u64) {
        match map_new(&path, size) {
            Ok(map) => return Ok((path, map)),
            Err(error) => outcome = Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
    outcome
}

impl NamesFile {
    /// There are so many more rings in private memory: who reads the others after a kill is to know.
    pub(super) fn count_private(&self, rings: i64) {
        self.count(PRIVATE_RINGS, rings);
    }

    /// There are so many more rings in files. No file is counted that is not there.
    pub(super) fn count_files(&self, rings: i64) {
        self.count(FILED_RINGS, rings);
    }

    fn count(&self, word: usize, rings: i64) {
        if self.pid == std::process::id() {
            self.log.lock().word(word).fetch_add(rings as u64, Ordering::Relaxed);
        }
    }

    /// Lets the file grow where half of it is taken, and notes what found no room. For the flusher.
    pub(super) fn look_after(&self) {
        let size = {
            let log = self.log.lock();
            if log.missing == 0 && log.length <= log.map.len() / 2 {
                return;
            }
            size_for(log.length + log.missing)
        };
        match map_longer(&self.path, size) {
            Ok(map) => {
                let former = self.log.lock().move_to(map);
                drop(former); // not under the lock
            }
            Err(error) => log::debug!("{}: a kill would lose names: {error}", self.path.display()),
        }
    }

    /// Notes no more names. The file goes if the capture has all of its events, and so every name that was used.
    pub(super) fn close(self: &Arc<Self>, is_complete: bool) {
        NAMES.rcu(|running| running.clone().filter(|running| !Arc::ptr_eq(running, self)));
        if is_complete && let Err(error) = std::fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

/// In a forked child: the file is the parent's.
pub(super) fn forget_parents() {
    std::mem::forget(NAMES.swap(None));
}

/// Notes the names that were added since the last time.
fn note() {
    if let Some(names) = &*NAMES.load()
        && names.pid == std::process::id()
    {
        names.log.lock().append();
    }
}

/// Twice as much as is needed.
fn size_for(bytes: usize) -> usize {
    (2 * (HEAD + bytes)).next_power_of_two().max(FIRST_SIZE)
}

impl Log {
    /// Notes what is new. What finds no room is noted once there is some.
    fn append(&mut self) {
        if self.missing > 0 {
            return; // the flusher comes within one of its periods
        }
        let (mut bytes, room) = (Vec::new(), self.map.len() - HEAD - self.length);
        let (mut names, mut labels, mut fitting) = (self.names, self.labels, 0);
        for (index, text) in event::names_from(self.names) {
            Entry::Name { index, text }.encode(&mut bytes);
            if bytes.len() <= room {
                (names, fitting) = (index + 1, bytes.len());
            }
        }
        for (index, domain, name) in event::labels_from(self.labels) {
            Entry::Label { index, domain, name }.encode(&mut bytes);
            if bytes.len() <= room {
                (labels, fitting) = (index + 1, bytes.len());
            }
        }
        (self.names, self.labels, self.missing) = (names, labels, bytes.len() - fitting);
        if fitting > 0 {
            // SAFETY: `fitting` bytes behind what is taken are in the mapping, and whoever writes there has the lock.
            unsafe {
                let end = self.map.as_mut_ptr().add(HEAD + self.length);
                end.copy_from_nonoverlapping(bytes.as_ptr(), fitting);
            }
            self.length += fitting;
            self.word(COMMITTED).store(self.length as u64, Ordering::Release);
        }
    }

    /// Goes on in another mapping, of the same file or of a new one. Gives the former.
    fn move_to(&mut self, map: MmapRaw) -> MmapRaw {
        let former = std::mem::replace(&mut self.map, map);
        self.missing = 0;
        self.append();
        former
    }

    /// A word of the head.
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < HEAD);
        #[allow(
            clippy::cast_ptr_alignment,
            reason = "a mapping begins at a page, the words are at multiples of 8"
        )]
        let word = self.map.as_ptr().wrapping_add(at).cast::<AtomicU64>();
        // SAFETY: a mapping has a whole head; nobody uses these words but as atomics.
        unsafe { &*word }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::event::names_log::{entries, identity};
    use crate::files;
    use crate::own_file::Life;
    use crate::ring::recorder_of;

    fn texts(path: &Path) -> Vec<String> {
        let bytes = std::fs::read(path).unwrap();
        let text = |entry| if let Entry::Name { text, .. } = entry { Some(text.to_owned()) } else { None };
        entries(&bytes).unwrap().filter_map(text).collect()
    }

    #[test]
    fn a_name_is_in_the_file_before_anybody_can_use_it_and_the_flusher_makes_room_for_more() {
        let folder = tempfile::tempdir().unwrap();
        let (names, claim) = open(&RingPlaces::of(&folder.path().join("h-1")), "h-1", CaptureId(7)).unwrap();
        let path = folder.path().join("h-1.names");
        assert_eq!(recorder_of(&path, files::user()).unwrap(), Some(Life::Lives));
        let mut known = Vec::new();
        for round in 0..4 {
            for n in 0..100 {
                let text =
                    format!("a name of some length, in round {round}, number {n}: {}", "x".repeat(200));
                event::Name::new(&text);
                known.push(text);
            }
            names.look_after();
            let noted = texts(&path);
            assert!(known.iter().all(|name| noted.contains(name)), "in round {round}");
        }
        // More at once than there is room for: noted at the flusher's next visit.
        let long = "y".repeat(path.metadata().unwrap().len() as usize);
        event::Name::new(&long);
        event::Name::new("behind it");
        assert!(!texts(&path).contains(&long));
        names.look_after();
        assert!(texts(&path).contains(&long) && texts(&path).contains(&"behind it".into()));
        assert_eq!(identity(&std::fs::read(&path).unwrap()), Some(7));
        assert_eq!(recorder_of(&path, files::user()).unwrap(), Some(Life::Lives));
        drop(claim);
        assert_eq!(recorder_of(&path, files::user()).unwrap(), Some(Life::Gone));
        names.close(true);
        assert!(!path.exists());
    }
}
