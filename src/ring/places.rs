//! Where rings, and the names for them, lie: beside their capture, or in shared memory, in a folder for their session
//! within its user's private one. Here the recorder and the readers find each other.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::files;

/// What a folder for a session's rings is called, with a number behind it.
const PREFIX: &str = "rings-";

/// In such a folder: a link to the session's own.
const LINK: &str = "session";

/// The name of a ring of the capture `<host>-<pid>`.
pub fn ring_name(capture: &str, number: u32) -> String {
    format!("{capture}-{number}.ring")
}

/// The folders in which a capture's rings, and the names for them, may be: its own first.
pub fn folders_of(capture: &Path) -> Vec<PathBuf> {
    let session = match capture.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut folders = vec![session.to_owned()];
    // Another user, root for one, reads what the capture's owner has left and nobody else.
    if let Ok(owner) = files::owner(capture) {
        let shared = files::private_folders_of(owner).filter_map(|it| SharedFolder::of(&it, session).ok());
        folders.extend(shared.map(|shared| shared.path));
    }
    folders
}

/// The rings that the process of a capture has left, in the order in which they were made: a thread may have gone from
/// one to the next.
pub fn rings_left(capture: &Path, name: &str) -> Vec<PathBuf> {
    let prefix = format!("{name}-");
    let number = |path: PathBuf| {
        let number = path.file_name()?.to_str()?.strip_prefix(&prefix)?.strip_suffix(".ring")?;
        Some((number.parse::<u32>().ok()?, path))
    };
    let folders = folders_of(capture);
    let mut rings: Vec<_> = folders.iter().flat_map(|folder| entries(folder)).filter_map(number).collect();
    rings.sort();
    rings.into_iter().map(|(_, path)| path).collect()
}

/// A session's folder in shared memory.
#[derive(Debug)]
pub struct SharedFolder {
    path: PathBuf,
    session: PathBuf,
}

impl SharedFolder {
    /// That of a session, within a user's private folder (see [`files::private_folder`]).
    ///
    /// # Errors
    /// The session's folder is not there.
    pub fn of(private: &Path, session: &Path) -> io::Result<Self> {
        // A session that is moved within its file system keeps its number.
        let number = fs::metadata(session)?.ino();
        Ok(Self { path: private.join(format!("{PREFIX}{number:x}")), session: std::path::absolute(session)? })
    }

    /// The folder, made if there is none.
    ///
    /// # Errors
    /// It can't be made.
    pub fn make(&self) -> io::Result<&Path> {
        let link = |folder: &Path| symlink(&self.session, folder.join(LINK));
        for made in [DirBuilder::new().mode(0o700).create(&self.path), link(&self.path)] {
            if let Err(error) = made
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(error);
            }
        }
        Ok(&self.path)
    }

    /// Removes it, if it is empty. A process that wants it at this instant makes it anew.
    pub fn remove_if_empty(&self) {
        if entries(&self.path).all(|entry| entry.ends_with(LINK)) {
            let _ = fs::remove_file(self.path.join(LINK)); // there was no folder
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Removes what processes of this host have left in a private folder for sessions that are no more.
pub fn sweep(private: &Path, host: &str) {
    let is_rings =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    for path in entries(private).filter(is_rings) {
        let Ok(session) = fs::read_link(path.join(LINK)) else { continue };
        // Where even the folder above is missing, it may be another container's, which has other folders.
        if session.exists() || !session.parent().is_some_and(Path::is_dir) {
            continue;
        }
        let prefix = format!("{host}-");
        // A process that lives may see the session where this one does not: it may have mounts of its own.
        let is_left = |name: &str| {
            let process = name.strip_prefix(&prefix).and_then(|rest| rest.split(['-', '.']).next());
            process.is_some_and(|process| !Path::new("/proc").join(process).exists())
        };
        for ring in entries(&path) {
            if ring.file_name().is_some_and(|name| is_left(&name.to_string_lossy())) {
                let _ = fs::remove_file(ring); // another process may be doing the same
            }
        }
        SharedFolder { path, session }.remove_if_empty();
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_in_shared_memory_are_found_by_their_capture_even_when_the_session_was_moved() {
        let folder = tempfile::tempdir().unwrap();
        let session = folder.path().join("1122-2130");
        fs::create_dir(&session).unwrap();
        let capture = session.join("h-7.pftrace");
        fs::write(&capture, "").unwrap();
        fs::write(session.join(ring_name("h-7", 10)), "").unwrap();
        let shared = SharedFolder::of(&files::private_folder().unwrap(), &session).unwrap();
        let ring = shared.make().unwrap().join(ring_name("h-7", 9));
        fs::write(&ring, "").unwrap();
        fs::write(shared.make().unwrap().join(ring_name("h-77", 1)), "").unwrap();
        assert_eq!(rings_left(&capture, "h-7"), [ring.clone(), session.join("h-7-10.ring")]);
        let moved = folder.path().join("moved");
        fs::rename(&session, &moved).unwrap();
        assert_eq!(rings_left(&moved.join("h-7.pftrace"), "h-7"), [ring, moved.join("h-7-10.ring")]);
        fs::remove_dir_all(&shared.path).unwrap();
    }

    #[test]
    fn rings_go_when_their_session_is_gone_and_only_those_of_this_host() {
        let folder = tempfile::tempdir().unwrap();
        let (private, sessions) = (folder.path().join("private"), folder.path().join("sessions"));
        let session = sessions.join("1122-2130");
        fs::create_dir_all(&session).unwrap();
        fs::create_dir(&private).unwrap();
        let shared = SharedFolder::of(&private, &session).unwrap();
        let [ours, others] =
            ["here-99999999-0.ring", "there-99999999-0.ring"].map(|name| shared.path.join(name));
        shared.make().unwrap();
        fs::write(&ours, "").unwrap();
        fs::write(&others, "").unwrap();
        shared.remove_if_empty();
        sweep(&private, "here");
        assert!(ours.exists(), "the session is there");
        let hidden = folder.path().join("hidden");
        fs::rename(&sessions, &hidden).unwrap();
        sweep(&private, "here");
        assert!(ours.exists(), "its folder may be another container's");
        fs::rename(&hidden, &sessions).unwrap();
        fs::remove_dir(&session).unwrap();
        sweep(&private, "here");
        assert!(!ours.exists() && others.exists());
        sweep(&private, "there");
        assert!(!shared.path.exists());
    }
}
