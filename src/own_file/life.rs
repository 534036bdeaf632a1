//! Whether a recorder lives: the one answer for all who read, complete or sweep what recorders leave.
//!
//! A recorder holds a lock on a file of its own. The kernel takes it back when the process is gone: a zombie has none,
//! a pid that is in use again means nothing, and containers that share the file share its locks. It is `flock`'s lock
//! because that belongs to the open file: another open and close of the file within the process does not end it, an
//! `exec` does, and what a forked child inherits it closes (see [`super::inherited`]).

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{OwnFile, inherited};
use crate::files;

/// How often a file is opened anew because the program has forked meanwhile.
const ATTEMPTS: u32 = 100;

/// This process's lock on a file; it is free again once this is dropped, or the process is gone.
#[derive(Debug)]
pub struct Claim(OwnFile);

/// What became of a recorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// It holds its lock.
    Lives,
    /// Nobody does.
    Gone,
    /// Why that can't be known here, as a sentence.
    Unknown(String),
}

impl Claim {
    /// Locks a file of this user's that is there. It is opened for this: what a mapping keeps open, children inherit.
    ///
    /// # Errors
    /// It is another's or no regular file, somebody else has the lock, or there are no locks.
    pub fn take(path: &Path) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let forks = inherited::forks();
            let mut file = OwnFile::new(files::open_own_to_write(path, files::user())?, path)?;
            if inherited::forks() == forks {
                flock(file.get()?, FlockOperation::NonBlockingLockExclusive)?;
                return Ok(Self(file));
            }
        }
        Err(io::Error::other(format!("{}: the program forks all the time", path.display())))
    }

    /// Takes the lock again if the program has closed the file.
    ///
    /// # Errors
    /// The file is gone, or somebody has the lock.
    pub fn hold(&mut self) -> io::Result<()> {
        if self.0.restore()? {
            flock(self.0.get()?, FlockOperation::NonBlockingLockExclusive)?;
        }
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Whether somebody holds the lock on a file. Asking takes it for an instant, shared, so that others may ask as well.
pub fn life_of(file: &File) -> Life {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = flock(file, FlockOperation::Unlock); // else it goes with the file
            Life::Gone
        }
        Err(Errno::WOULDBLOCK) => Life::Lives,
        Err(error) => Life::Unknown(format!("its file system has no locks ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn new_file(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("life");
        files::create_private(&path).unwrap();
        path
    }

    fn life(path: &Path) -> Life {
        life_of(&files::open_unlinked(path).unwrap())
    }

    #[test]
    fn who_holds_the_lock_lives_until_it_lets_go_and_whoever_asks_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = new_file(&folder);
        assert_eq!(life(&path), Life::Gone);
        let claim = Claim::take(&path).unwrap();
        assert_eq!((life(&path), life(&path)), (Life::Lives, Life::Lives));
        assert!(Claim::take(&path).is_err());
        drop(claim);
        assert_eq!(life(&path), Life::Gone);
    }

    #[test]
    fn a_lock_whose_file_the_program_has_closed_is_taken_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = new_file(&folder);
        let mut claim = Claim::take(&path).unwrap();
        let other = File::create(folder.path().join("theirs")).unwrap();
        claim.0.lose_to(&other);
        assert_eq!(life(&path), Life::Gone);
        claim.hold().unwrap();
        assert_eq!(life(&path), Life::Lives);
    }

    #[test]
    fn a_forked_child_keeps_no_lock_of_its_parents() {
        let folder = tempfile::tempdir().unwrap();
        let path = new_file(&folder);
        let claim = Claim::take(&path).unwrap();
        let (outlet, inlet) = io::pipe().unwrap();
        super::super::before_fork();
        // SAFETY: the child makes no call but those that a signal handler may make.
        let child = unsafe { libc::fork() };
        if child == 0 {
            super::super::close_parents();
            drop(inlet);
            // Lives until its parent lets it go.
            let _ = io::Read::read(&mut &outlet, &mut [0]);
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        drop(outlet);
        // The child may not have come to it yet.
        assert_eq!(life(&path), Life::Lives);
        drop(claim);
        while life(&path) == Life::Lives {
            std::thread::yield_now();
        }
        drop(inlet);
        // SAFETY: of the child of this test.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    }
}
