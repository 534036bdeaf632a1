//! Dumps of the flight recorders of one server lie together, in `<session>-dump-1`, `-2` … Whoever makes the next of
//! these folders asks all processes of the session for a dump.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::stem::DUMP_MARK;

/// The dumps of one session.
#[derive(Debug)]
pub struct Dumps {
    session: PathBuf,
    next: u32,
}

impl Dumps {
    /// Those to come: dumps that are there were others'.
    pub fn of(session: &Path) -> Self {
        let mut dumps = Self { session: session.into(), next: 1 };
        while dumps.folder().exists() {
            dumps.next += 1;
        }
        dumps
    }

    /// Asks all processes of the session for a dump; gives the folder where they will be.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn ask(&self) -> io::Result<PathBuf> {
        let folder = self.folder();
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(folder),
        }
    }

    /// The folder of a dump that was asked for; each is told once.
    pub fn asked(&mut self) -> Option<PathBuf> {
        let folder = self.folder();
        folder.is_dir().then(|| {
            self.next += 1;
            folder
        })
    }

    fn folder(&self) -> PathBuf {
        let mut name = self.session.as_os_str().to_owned();
        name.push(format!("{DUMP_MARK}{}", self.next));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_processes_of_a_session_are_asked_once() {
        let folder = tempfile::tempdir().unwrap();
        let session = folder.path().join("1122-2130");
        let [mut first, mut second] = [Dumps::of(&session), Dumps::of(&session)];
        assert_eq!(first.asked(), None);
        let asked = first.ask().unwrap();
        assert_eq!(second.ask().unwrap(), asked, "both wanted one at the same time");
        assert_eq!((first.asked(), second.asked()), (Some(asked.clone()), Some(asked)));
        assert_eq!((first.asked(), second.asked()), (None, None));
        assert!(Dumps::of(&session).ask().unwrap().ends_with("1122-2130-dump-2"));
    }
}
