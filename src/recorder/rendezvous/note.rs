//! The two files of a meeting point: the note, which says what session there is, and the file that all who collect keep
//! locked, so that the kernel tells whether anybody still does.

use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::own_file::{self, Identity, OwnFile};

/// Nobody holds a note for longer than it takes to make a folder and write a few lines; but that may wait for a disk that
/// others keep busy, and the process may be stopped meanwhile.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// For who only looks, again and again.
pub(super) const GLANCE: Duration = Duration::from_millis(100);

/// Bytes of a note. What is written later is never longer, so that it needs no further room.
const NOTE_SIZE: usize = 4096;

/// Most bytes of a note that are read: paths may be long.
const NOTE_LIMIT: u64 = 1 << 16;

/// What a note's file is called, behind the point's name.
const ENDING: &str = ".session";

/// Where processes meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// Its content is changed only under its exclusive lock.
    pub(super) note: PathBuf,
    /// Locked, shared, by each process that collects.
    pub(super) live: PathBuf,
}

/// What the note says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Note {
    /// Counts sessions, so that a process sees that another one has begun a new session.
    pub(super) generation: u64,
    /// The newest session's folder.
    pub(super) folder: PathBuf,
    /// Which folder that is: another container may have another one at this path.
    pub(super) folder_identity: Option<Identity>,
    /// False once a process was told to stop: the next start is a new session.
    pub(super) open: bool,
    /// Where the config lies, as the process sees it that has begun the session.
    pub(super) config: String,
    /// The mounts that this process sees.
    pub(super) mounts: u64,
}

/// The note, under its lock as long as this lives.
pub(super) struct Meeting {
    point: Point,
    file: OwnFile,
    pub(super) note: Note,
    live: OwnFile,
    /// Whether somebody else collects.
    is_attended: bool,
}

impl Point {
    pub(super) fn of(folder: &Path, name: &str) -> Self {
        Self { note: folder.join(format!("{name}{ENDING}")), live: folder.join(format!("{name}.live")) }
    }

    /// All that have a note in this folder.
    pub(super) fn all(folder: &Path) -> impl Iterator<Item = Self> {
        let names = own_file::names_in(folder).unwrap_or_default();
        names.into_iter().filter_map(move |name| Some(Self::of(folder, name.to_str()?.strip_suffix(ENDING)?)))
    }

    /// Takes the note's lock, and that of those who collect.
    pub(super) fn meet(&self) -> io::Result<Meeting> {
        self.meet_within(PATIENCE)
    }

    fn meet_within(&self, patience: Duration) -> io::Result<Meeting> {
        let (file, note) = self.lock_note(patience)?;
        let mut live = open(&self.live)?;
        // Both are at hand: who wants the other kind must have the note first.
        let is_attended = flock(live.get()?, FlockOperation::NonBlockingLockExclusive).is_err();
        flock(live.get()?, FlockOperation::NonBlockingLockShared)?;
        Ok(Meeting { point: self.clone(), file, note, live, is_attended })
    }

    /// What the note says, which may change at once. An unreadable note is an empty one.
    pub(super) fn look(&self) -> Note {
        let file = files::open_unlinked(&self.note).and_then(|file| OwnFile::new(file, &self.note));
        file.map(|mut file| read(&mut file)).unwrap_or_default()
    }

    /// What the note says, if somebody collects in that session.
    pub(super) fn running(&self, patience: Duration) -> Option<Note> {
        if !self.note.exists() {
            return None;
        }
        let meeting = self.meet_within(patience).ok()?;
        meeting.is_running().then_some(meeting.note)
    }

    /// Changes the note.
    pub(super) fn update(&self, change: impl FnOnce(&mut Note)) -> io::Result<()> {
        let (mut file, mut note) = self.lock_note(PATIENCE)?;
        change(&mut note);
        write(&mut file, &note)
    }

    pub(super) fn remove_if_deserted(&self) -> io::Result<()> {
        if !self.note.exists() {
            return Ok(());
        }
        let _note = self.lock_note(Duration::ZERO)?;
        let mut live = open(&self.live)?;
        if flock(live.get()?, FlockOperation::NonBlockingLockExclusive).is_ok() {
            std::fs::remove_file(&self.live)?;
            std::fs::remove_file(&self.note)?;
        }
        Ok(())
    }

    /// The note under its lock. One that was removed while this waited for the lock is made anew.
    fn lock_note(&self, patience: Duration) -> io::Result<(OwnFile, Note)> {
        let deadline = Instant::now() + patience;
        loop {
            let mut file = open(&self.note)?;
            match flock(file.get()?, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                outcome => outcome?,
            }
            let ours = file.get()?.metadata()?;
            if std::fs::symlink_metadata(&self.note).is_ok_and(|there| there.ino() == ours.ino()) {
                let note = read(&mut file);
                return Ok((file, note));
            }
        }
    }
}

impl Meeting {
    /// Whether there is a session into which somebody collects, and which was not stopped.
    pub(super) fn is_running(&self) -> bool {
        self.is_attended && self.note.open
    }

    /// Another session is taken over, into which somebody collects.
    pub(super) fn attend(&mut self) {
        self.is_attended = true;
    }

    pub(super) fn write(&mut self, note: Note) -> io::Result<()> {
        write(&mut self.file, &note)?;
        self.note = note;
        Ok(())
    }

    /// Ends the meeting: from now on this process collects. Gives the file that it keeps locked.
    pub(super) fn joined(self) -> (Note, Point, OwnFile) {
        (self.note, self.point, self.live)
    }
}

/// Removes what killed processes have left of their meetings.
pub(super) fn sweep(folder: &Path, but: &[Point]) {
    for point in Point::all(folder).filter(|point| !but.contains(point)) {
        if let Err(error) = point.remove_if_deserted() {
            log::debug!("{}: {error}", point.note.display());
        }
    }
}

fn open(path: &Path) -> io::Result<OwnFile> {
    OwnFile::new(files::open_or_create_private(path)?, path)
}

/// An unreadable note is an empty one: the next session begins anew.
fn read(file: &mut OwnFile) -> Note {
    let bytes = file.get().and_then(|file| {
        let mut bytes = vec![0; file.metadata()?.len().min(NOTE_LIMIT) as usize];
        file.read_exact_at(&mut bytes, 0).map(|()| bytes)
    });
    bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn write(file: &mut OwnFile, note: &Note) -> io::Result<()> {
    let mut text = serde_json::to_vec(note)?;
    // Blanks, which mean nothing.
    text.resize(text.len().max(NOTE_SIZE), b'\n');
    let file = file.get()?;
    file.write_all_at(&text, 0)?;
    if file.metadata()?.len() > text.len() as u64 {
        file.set_len(text.len() as u64)?; // a longer path stood there
    }
    Ok(())
}
