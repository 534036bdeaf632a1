//! How the processes of one server agree on a session folder, however they were started: through a small shared
//! file that is found by the config file's path.
//!
//! The first that starts collecting makes the folder and notes it; the others join it while somebody still
//! collects into it. Liveness is a shared file lock, which the kernel takes back when a process dies in any way.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::own_file::OwnFile;

/// One process's end of the meeting point.
#[derive(Debug)]
pub(super) struct Rendezvous {
    /// Its content is changed only under its exclusive lock, which nobody holds for longer than a few writes.
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
    pub(super) generation: u64,
    live: OwnFile,
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
        let shared_memory = Path::new("/dev/shm");
        let folder = if shared_memory.is_dir() { shared_memory.into() } else { std::env::temp_dir() };
        let stem = format!("msprof_rs-{}-{hash:016x}", rustix::process::geteuid().as_raw());
        Self { note: folder.join(format!("{stem}.session")), live: folder.join(format!("{stem}.live")) }
    }

    /// Joins the running session, or begins one in a new folder below `prof_dir` named by `stamp`.
    pub(super) fn join(&self, prof_dir: &Path, stamp: &str) -> io::Result<Membership> {
        let mut file = self.lock_note()?;
        let mut note = read(&mut file);
        let mut live = open_private(&self.live)?;
        let deserted = flock(live.get()?, FlockOperation::NonBlockingLockExclusive).is_ok();
        if deserted || !note.open || !note.folder.is_dir() {
            note = Note { generation: note.generation + 1, folder: new_folder(prof_dir, stamp)?, open: true };
            write(&mut file, &note)?;
        }
        flock(live.get()?, FlockOperation::LockShared)?;
        Ok(Membership { folder: note.folder, generation: note.generation, live })
    }

    /// Says that the session is over for everybody, if it is still the newest.
    pub(super) fn conclude(&self, membership: &Membership) -> io::Result<()> {
        let mut file = self.lock_note()?;
        let mut note = read(&mut file);
        if note.generation == membership.generation {
            note.open = false;
            write(&mut file, &note)?;
        }
        Ok(())
    }

    /// Removes the files unless another process collects: for a process that ends.
    pub(super) fn tidy_up(&self) -> io::Result<()> {
        if !self.note.exists() {
            return Ok(());
        }
        let _note = self.lock_note()?;
        let mut live = open_private(&self.live)?;
        if flock(live.get()?, FlockOperation::NonBlockingLockExclusive).is_ok() {
            std::fs::remove_file(&self.live)?;
            std::fs::remove_file(&self.note)?;
        }
        Ok(())
    }

    /// The note under its lock. One that was removed while this waited for the lock is made anew.
    fn lock_note(&self) -> io::Result<OwnFile> {
        loop {
            let mut file = open_private(&self.note)?;
            flock(file.get()?, FlockOperation::LockExclusive)?;
            let ours = file.get()?.metadata()?;
            if std::fs::metadata(&self.note).is_ok_and(|there| there.ino() == ours.ino()) {
                return Ok(file);
            }
        }
    }

    /// Whether another process has begun a newer session than this one: its folder is then where everybody
    /// collects, even a process that never saw the switch off between the two.
    pub(super) fn has_newer(&self, membership: &Membership) -> bool {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&self.note);
        let note = file.and_then(|file| OwnFile::new(file, &self.note)).map(|mut file| read(&mut file));
        note.is_ok_and(|note| note.open && note.generation > membership.generation)
    }
}

impl Membership {
    /// Locks the file again if the program has closed it: the lock went with that.
    pub(super) fn hold(&mut self) -> io::Result<()> {
        if self.live.restore()? {
            flock(self.live.get()?, FlockOperation::LockShared)?;
        }
        Ok(())
    }
}

/// An unreadable note is an empty one: the next session begins anew.
fn read(file: &mut OwnFile) -> Note {
    let mut text = String::new();
    let outcome = file.get().and_then(|mut file| file.read_to_string(&mut text));
    outcome.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn write(file: &mut OwnFile, note: &Note) -> io::Result<()> {
    let text = serde_json::to_vec(note)?;
    let file = file.get()?;
    file.set_len(0)?;
    file.write_all_at(&text, 0)
}

/// Opens a file of this user's own: the folder is everybody's, so a file or link that another user put there is
/// refused.
fn open_private(path: &Path) -> io::Result<OwnFile> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    if file.metadata()?.uid() == rustix::process::geteuid().as_raw() {
        OwnFile::new(file, path)
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} belongs to another user", path.display()),
        ))
    }
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

    fn meeting() -> (tempfile::TempDir, Rendezvous) {
        let folder = tempfile::tempdir().unwrap();
        let rendezvous =
            Rendezvous { note: folder.path().join("x.session"), live: folder.path().join("x.live") };
        (folder, rendezvous)
    }

    #[test]
    fn whoever_starts_while_another_collects_joins_its_folder() {
        let (folder, rendezvous) = meeting();
        let first = rendezvous.join(folder.path(), "1122-2130").unwrap();
        let second = rendezvous.join(folder.path(), "1122-2131").unwrap();
        assert_eq!(first.folder, second.folder);
        assert!(first.folder.ends_with("1122-2130"));
    }

    #[test]
    fn a_session_that_was_stopped_is_never_joined() {
        let (folder, rendezvous) = meeting();
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
        let (folder, rendezvous) = meeting();
        drop(rendezvous.join(folder.path(), "1122-2130").unwrap());
        let next = rendezvous.join(folder.path(), "1122-2130").unwrap();
        assert!(next.folder.ends_with("1122-2130-2"));
    }

    #[test]
    fn the_last_process_that_ends_removes_the_files() {
        let (folder, rendezvous) = meeting();
        let member = rendezvous.join(folder.path(), "1122-2130").unwrap();
        rendezvous.tidy_up().unwrap();
        assert!(rendezvous.note.exists() && rendezvous.live.exists(), "somebody collects");
        drop(member);
        rendezvous.tidy_up().unwrap();
        assert!(!rendezvous.note.exists() && !rendezvous.live.exists());
        rendezvous.tidy_up().unwrap();
        assert!(rendezvous.join(folder.path(), "1122-2130").is_ok());
    }

    #[test]
    fn a_link_in_the_shared_folder_is_not_followed() {
        let (folder, rendezvous) = meeting();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &rendezvous.note).unwrap();
        assert!(rendezvous.join(folder.path(), "1122-2130").is_err());
    }
}
