//! How the processes of one server agree on a session folder, however they were started: through a small shared
//! file that is found by the config file's path.
//!
//! The first that starts collecting makes the folder and notes it; the others join it while somebody still
//! collects into it. Liveness is a shared file lock, which the kernel takes back when a process dies in any way.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::own_file::OwnFile;

/// Nobody holds a note for longer than a few writes, unless it is stopped meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of a note. What is written later is never longer, so that it needs no further room.
const NOTE_SIZE: usize = 4096;

/// Most bytes of a note that are read: paths may be long.
const NOTE_LIMIT: u64 = 1 << 16;

/// One process's end of the meeting point.
#[derive(Debug)]
pub(super) struct Rendezvous {
    /// Hash of the config's path.
    name: String,
    /// The two files, once a session was joined.
    files: Option<Files>,
    /// Whether it was said that there can be none.
    told: bool,
}

/// Where processes meet.
#[derive(Clone, Debug)]
struct Files {
    /// Its content is changed only under its exclusive lock.
    note: PathBuf,
    /// Locked, shared, by each process that collects.
    live: PathBuf,
}

/// What the note says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    /// Counts sessions, so that a process sees that another one has begun a new session.
    generation: u64,
    /// The newest session's folder.
    folder: PathBuf,
    /// False once a process was told to stop: the next start is a new session.
    open: bool,
}

/// Membership in a session; the lock goes with it.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) folder: PathBuf,
    generation: u64,
    /// None: the session is this process's alone.
    live: Option<OwnFile>,
}

impl Rendezvous {
    /// The meeting point of all processes that were given this config file.
    pub(super) fn new(config: &Path) -> Self {
        let path = std::path::absolute(config).unwrap_or_else(|_| config.into());
        let path = path.canonicalize().unwrap_or(path);
        let hash =
            path.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| {
                (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Self { name: format!("{hash:016x}"), files: None, told: false }
    }

    /// Joins the running session, or begins one in a new folder below `prof_dir` named by `stamp`. Where processes
    /// can't meet, each has a session of its own.
    ///
    /// # Errors
    /// The session's folder can't be made.
    pub(super) fn join(&mut self, prof_dir: &Path, stamp: &str) -> io::Result<Membership> {
        let met = files::private_folder().and_then(|folder| {
            sweep(&folder, &self.name);
            let files = self.files.insert(Files::of(&folder, &self.name)).clone();
            files.meet()
        });
        let error = match met {
            Ok(meeting) if !meeting.is_deserted && meeting.note.open && meeting.note.folder.is_dir() => {
                return Ok(meeting.joined());
            }
            Ok(mut meeting) => {
                let (generation, folder) = (meeting.note.generation + 1, new_folder(prof_dir, stamp)?);
                match meeting.write(Note { generation, folder: folder.clone(), open: true }) {
                    Ok(()) => return Ok(meeting.joined()),
                    Err(error) => {
                        self.tell(&error);
                        return Ok(Membership::alone(folder));
                    }
                }
            }
            Err(error) => error,
        };
        self.tell(&error);
        new_folder(prof_dir, stamp).map(Membership::alone)
    }

    /// Says that the session is over for everybody, if it is still the newest.
    pub(super) fn conclude(&self, membership: &Membership) -> io::Result<()> {
        let Some(files) = self.files_of(membership) else { return Ok(()) };
        let (mut file, note) = files.lock_note(PATIENCE)?;
        if note.generation == membership.generation {
            write(&mut file, &Note { open: false, ..note })
        } else {
            Ok(())
        }
    }

    /// Removes the files unless another process collects: for a process that ends.
    pub(super) fn tidy_up(&self) -> io::Result<()> {
        self.files.as_ref().map_or(Ok(()), Files::remove_if_deserted)
    }

    /// Whether another process has begun a newer session than this one: its folder is then where everybody
    /// collects, even a process that never saw the switch off between the two.
    pub(super) fn has_newer(&self, membership: &Membership) -> bool {
        let Some(files) = self.files_of(membership) else { return false };
        let file = files::open_unlinked(&files.note).and_then(|file| OwnFile::new(file, &files.note));
        let note = file.map(|mut file| read(&mut file));
        note.is_ok_and(|note| note.open && note.generation > membership.generation)
    }

    fn files_of(&self, membership: &Membership) -> Option<&Files> {
        self.files.as_ref().filter(|_| membership.live.is_some())
    }

    fn tell(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.told, true) {
            log::warn!(
                "the processes of this server can't agree on a session: {error}. Each captures into a folder of its own"
            );
        }
    }
}

impl Membership {
    fn alone(folder: PathBuf) -> Self {
        Self { folder, generation: 0, live: None }
    }

    /// Locks the file again if the program has closed it: the lock went with that.
    pub(super) fn hold(&mut self) -> io::Result<()> {
        if let Some(live) = &mut self.live
            && live.restore()?
        {
            flock(live.get()?, FlockOperation::NonBlockingLockShared)?;
        }
        Ok(())
    }
}

/// The note, under its lock as long as this lives.
struct Meeting {
    file: OwnFile,
    note: Note,
    live: OwnFile,
    /// Whether nobody collects.
    is_deserted: bool,
}

impl Meeting {
    fn write(&mut self, note: Note) -> io::Result<()> {
        write(&mut self.file, &note)?;
        self.note = note;
        Ok(())
    }

    fn joined(self) -> Membership {
        Membership { folder: self.note.folder, generation: self.note.generation, live: Some(self.live) }
    }
}

impl Files {
    fn of(folder: &Path, name: &str) -> Self {
        Self { note: folder.join(format!("{name}.session")), live: folder.join(format!("{name}.live")) }
    }

    fn meet(&self) -> io::Result<Meeting> {
        let (file, note) = self.lock_note(PATIENCE)?;
        let mut live = open(&self.live)?;
        // Both are at hand: who wants the other kind must have the note first.
        let is_deserted = flock(live.get()?, FlockOperation::NonBlockingLockExclusive).is_ok();
        flock(live.get()?, FlockOperation::NonBlockingLockShared)?;
        Ok(Meeting { file, note, live, is_deserted })
    }

    fn remove_if_deserted(&self) -> io::Result<()> {
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

fn open(path: &Path) -> io::Result<OwnFile> {
    OwnFile::new(files::open_or_create_private(path)?, path)
}

/// Removes what killed processes have left of their meetings at other points than this one.
fn sweep(folder: &Path, own: &str) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".session"))
            && name != own
            && let Err(error) = Files::of(folder, name).remove_if_deserted()
        {
            log::debug!("{}: {error}", entry.path().display());
        }
    }
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
    file.get()?.write_all_at(&text, 0)
}

/// `<prof_dir>/<stamp>`, or with `-2`, `-3` … behind it: never a folder that was there already.
fn new_folder(prof_dir: &Path, stamp: &str) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o750).create(prof_dir)?;
    let prof_dir = std::path::absolute(prof_dir)?;
    for attempt in 1_u32.. {
        let name = if attempt == 1 { stamp.to_owned() } else { format!("{stamp}-{attempt}") };
        let folder = prof_dir.join(name);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A meeting point of its own, in this user's private folder.
    fn meeting() -> (tempfile::TempDir, Rendezvous) {
        let folder = tempfile::tempdir().unwrap();
        let rendezvous = Rendezvous::new(&folder.path().join("config.json"));
        (folder, rendezvous)
    }

    fn files(rendezvous: &Rendezvous) -> Files {
        Files::of(&files::private_folder().unwrap(), &rendezvous.name)
    }

    #[test]
    fn whoever_starts_while_another_collects_joins_its_folder() {
        let (folder, mut rendezvous) = meeting();
        let first = rendezvous.join(folder.path(), "1122-2130").unwrap();
        let second = rendezvous.join(folder.path(), "1122-2131").unwrap();
        assert_eq!(first.folder, second.folder);
        assert!(first.folder.ends_with("1122-2130"));
    }

    #[test]
    fn a_member_whose_lock_the_program_has_closed_takes_it_again() {
        let (folder, mut rendezvous) = meeting();
        let mut member = rendezvous.join(folder.path(), "1122-2130").unwrap();
        let theirs = std::fs::File::create(folder.path().join("theirs")).unwrap();
        member.live.as_ref().unwrap().lose_to(&theirs);
        member.hold().unwrap();
        let next = rendezvous.join(folder.path(), "1122-2131").unwrap();
        assert_eq!(next.folder, member.folder, "somebody collects there");
    }

    #[test]
    fn a_session_that_was_stopped_is_never_joined() {
        let (folder, mut rendezvous) = meeting();
        let slow = rendezvous.join(folder.path(), "1122-2130").unwrap();
        let quick = rendezvous.join(folder.path(), "1122-2130").unwrap();
        rendezvous.conclude(&quick).unwrap();
        drop(quick);
        assert!(!rendezvous.has_newer(&slow));
        let next = rendezvous.join(folder.path(), "1122-2130").unwrap();
        assert!(next.folder.ends_with("1122-2130-2"));
        assert!(rendezvous.has_newer(&slow));
        rendezvous.conclude(&slow).unwrap(); // says nothing about the new session
        assert_eq!(rendezvous.join(folder.path(), "1122-2130").unwrap().folder, next.folder);
    }

    #[test]
    fn a_session_whose_processes_have_all_died_is_never_joined() {
        let (folder, mut rendezvous) = meeting();
        drop(rendezvous.join(folder.path(), "1122-2130").unwrap());
        let next = rendezvous.join(folder.path(), "1122-2130").unwrap();
        assert!(next.folder.ends_with("1122-2130-2"));
    }

    #[test]
    fn the_last_process_that_ends_removes_the_files() {
        let (folder, mut rendezvous) = meeting();
        let member = rendezvous.join(folder.path(), "1122-2130").unwrap();
        let Files { note, live } = files(&rendezvous);
        rendezvous.tidy_up().unwrap();
        assert!(note.exists() && live.exists(), "somebody collects");
        drop(member);
        rendezvous.tidy_up().unwrap();
        assert!(!note.exists() && !live.exists());
        rendezvous.tidy_up().unwrap();
        assert!(rendezvous.join(folder.path(), "1122-2130").is_ok());
        rendezvous.tidy_up().unwrap();
    }

    #[test]
    fn what_killed_processes_have_left_is_swept_by_the_next_of_another_config() {
        let (folder, mut killed) = meeting();
        let member = killed.join(folder.path(), "1122-2130").unwrap();
        let Files { note, live } = files(&killed);
        assert!(note.exists() && live.exists());
        drop(member);
        let (folder, mut next) = meeting();
        let _member = next.join(folder.path(), "1122-2130").unwrap();
        assert!(!note.exists() && !live.exists());
        sweep(&files::private_folder().unwrap(), "another");
        assert!(files(&next).note.exists(), "somebody collects");
    }

    #[test]
    fn where_something_else_lies_at_the_meeting_point_each_process_has_a_session_of_its_own() {
        let (folder, mut rendezvous) = meeting();
        let elsewhere = folder.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, files(&rendezvous).note).unwrap();
        let alone = rendezvous.join(folder.path(), "1122-2130").unwrap();
        let other = rendezvous.join(folder.path(), "1122-2130").unwrap();
        assert!(alone.folder.ends_with("1122-2130") && other.folder.ends_with("1122-2130-2"));
        assert!(rendezvous.told && !elsewhere.exists());
        assert!(!rendezvous.has_newer(&alone));
        rendezvous.conclude(&alone).unwrap();
        std::fs::remove_file(files(&rendezvous).note).unwrap();
    }
}
