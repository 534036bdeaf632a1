//! Where rings, and the names for them, lie: beside their capture, or in shared memory, in a folder of their capture's
//! within its user's private one. Here the recorder and the readers find each other.

use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::event::names_log::has_lock;
use crate::own_file::{self, Life, life_of};
use crate::{files, machine};

/// What a folder for a capture's rings is called, with the stem of its files behind it.
const PREFIX: &str = "rings-";

/// In such a folder: a link to the session's own.
const LINK: &str = "session";

/// Most bytes of a note that says where rings are.
const NOTE_LIMIT: u64 = 1 << 14;

/// The name of a ring of the capture of this stem.
pub fn ring_name(stem: &str, number: u32) -> String {
    format!("{stem}-{number}.ring")
}

/// The name of the file with the texts for a capture's rings.
pub fn names_name(stem: &str) -> String {
    format!("{stem}.names")
}

/// The folders in which a capture's rings, and the names for them, may be: its own first.
pub fn folders_of(capture: &Path, stem: &str) -> Vec<PathBuf> {
    let session = folder_of(capture);
    let mut folders = vec![session.to_owned()];
    // Another user, root for one, reads what the capture's owner has left and nobody else.
    if let Ok(owner) = files::owner(capture) {
        // In earlier versions all of a session's were together. One that is moved within its file system keeps its number.
        let former = fs::metadata(session).map(|session| format!("{PREFIX}{:x}", session.ino())).ok();
        let names: Vec<_> = former.into_iter().chain([format!("{PREFIX}{stem}")]).collect();
        for private in files::private_folders_of(owner) {
            folders.extend(names.iter().map(|name| private.join(name)));
        }
    }
    folders
}

/// The rings that the process of a capture has left, in the order in which they were made: a thread may have gone from
/// one to the next.
pub fn rings_left(capture: &Path, stem: &str) -> Vec<PathBuf> {
    let numbered = |path: PathBuf| Some((ring_number(&path, stem)?, path));
    let folders = folders_of(capture, stem);
    let mut rings: Vec<_> = folders.iter().flat_map(|folder| entries(folder)).filter_map(numbered).collect();
    rings.sort();
    rings.into_iter().map(|(_, path)| path).collect()
}

/// Removes a capture's rings, the names for them, and the note that says where they are, from the folder into which somebody
/// has moved them: whoever finds them there would take their process for one that was killed.
pub fn remove_moved(folder: &Path, stem: &str) {
    let rings = entries(folder).filter(|path| ring_number(path, stem).is_some());
    for file in rings.chain([folder.join(names_name(stem)), note(folder, stem)]) {
        if let Err(error) = fs::remove_file(&file)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::debug!("{}: {error}", file.display());
        }
    }
}

/// The number of a ring of this capture.
fn ring_number(path: &Path, stem: &str) -> Option<u32> {
    let rest = path.file_name()?.to_str()?.strip_prefix(stem)?;
    rest.strip_prefix('-')?.strip_suffix(".ring")?.parse().ok()
}

/// Whether the recorder lives that has made a names file of this user's. None: earlier versions held no lock.
///
/// # Errors
/// It can't be read, or is another user's.
pub fn recorder_of(names: &Path, user: u32) -> io::Result<Option<Life>> {
    let mut file = files::open_own(names, user)?;
    let mut magic = [0; size_of::<u64>()];
    match file.read_exact(&mut magic) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    Ok(match u64::from_le_bytes(magic) {
        first if has_lock(first) => Some(life_of(&file)),
        0 => Some(Life::Unknown("its recorder was still beginning".into())),
        _ => None,
    })
}

/// A capture's folder in shared memory.
#[derive(Debug)]
pub struct SharedFolder {
    path: PathBuf,
    session: PathBuf,
    /// Beside the capture, for who reads it where this memory is not.
    note: PathBuf,
}

/// What the note says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The machine's name.
    pub host: String,
    /// Its kernel's run: a restart empties shared memory.
    pub boot_id: String,
    /// The folder.
    pub folder: PathBuf,
}

impl Elsewhere {
    /// Where the rings of a capture are, if not beside it.
    pub fn of(capture: &Path, stem: &str) -> Option<Self> {
        let file = files::open_own(&note(folder_of(capture), stem), files::owner(capture).ok()?).ok()?;
        serde_json::from_slice(&files::read_to_limit(file, NOTE_LIMIT).ok()?).ok()
    }
}

impl SharedFolder {
    /// That of the capture of this stem, within a user's private folder (see [`files::private_folder`]).
    ///
    /// # Errors
    /// The session's path can't be made absolute.
    pub fn of(private: &Path, session: &Path, stem: &str) -> io::Result<Self> {
        let path = private.join(format!("{PREFIX}{stem}"));
        Ok(Self { path, session: std::path::absolute(session)?, note: note(session, stem) })
    }

    /// The folder, made if there is none.
    ///
    /// # Errors
    /// It can't be made.
    pub fn make(&self) -> io::Result<&Path> {
        match DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(&self.path),
            made => made?,
        }
        symlink(&self.session, self.path.join(LINK))?;
        let (host, boot_id) = (machine::hostname(), machine::boot_id());
        let note = Elsewhere { host, boot_id, folder: self.path.clone() };
        let noted = serde_json::to_vec(&note).map_err(io::Error::from);
        let noted = noted.and_then(|text| files::create_private(&self.note)?.write_all(&text));
        if let Err(error) = noted {
            log::debug!("{}: where the rings are is not noted: {error}", self.note.display());
        }
        Ok(&self.path)
    }

    /// Removes it, if it is empty.
    pub fn remove_if_empty(&self) {
        if self.path.is_dir() && entries(&self.path).all(|entry| entry.ends_with(LINK)) {
            for gone in [
                fs::remove_file(self.path.join(LINK)),
                fs::remove_dir(&self.path),
                fs::remove_file(&self.note),
            ] {
                if let Err(error) = gone {
                    log::debug!("{}: {error}", self.path.display());
                }
            }
        }
    }
}

/// Removes what recorders that are gone have left in this user's private folder for sessions that are no more.
pub fn sweep(private: &Path) {
    for path in entries(private) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(stem) = name.strip_prefix(PREFIX) else { continue };
        let Ok(session) = fs::read_link(path.join(LINK)) else { continue };
        // Where even the folder above is missing, it may be another container's, which has other folders.
        if session.exists() || !session.parent().is_some_and(Path::is_dir) {
            continue;
        }
        // One that lives may see the session where this process does not: it may have mounts of its own. Where the names
        // are not here, they were with the session, and nothing can be known.
        let names = names_name(stem);
        if !matches!(recorder_of(&path.join(&names), files::user()), Ok(Some(Life::Gone))) {
            continue;
        }
        let prefix = format!("{stem}-");
        let rings = entries(&path).filter(|entry| {
            entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        });
        for file in rings.chain([path.join(names)]) {
            let _ = fs::remove_file(file); // another process may be doing the same
        }
        if let Ok(folder) = SharedFolder::of(private, &session, stem) {
            folder.remove_if_empty();
        }
    }
}

fn note(session: &Path, stem: &str) -> PathBuf {
    session.join(format!("{stem}.rings"))
}

fn folder_of(capture: &Path) -> &Path {
    match capture.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    own_file::names_in(folder).unwrap_or_default().into_iter().map(|name| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::names_log::MAGIC;
    use crate::own_file::Claim;

    #[test]
    fn rings_in_shared_memory_are_found_by_their_capture_even_when_the_session_was_moved() {
        let folder = tempfile::tempdir().unwrap();
        let session = folder.path().join("1122-2130");
        fs::create_dir(&session).unwrap();
        let stem = crate::stem::CaptureId::random().stem("h", 7);
        let capture = session.join(format!("{stem}.pftrace"));
        fs::write(&capture, "").unwrap();
        fs::write(session.join(ring_name(&stem, 10)), "").unwrap();
        let private = files::private_folder().unwrap();
        let shared = SharedFolder::of(&private, &session, &stem).unwrap();
        let ring = shared.make().unwrap().join(ring_name(&stem, 9));
        fs::write(&ring, "").unwrap();
        let other = ring_name(&crate::stem::CaptureId::random().stem("h", 7), 1);
        fs::write(shared.make().unwrap().join(other), "").unwrap();
        let moved = folder.path().join("moved");
        let beside = ring_name(&stem, 10);
        assert_eq!(rings_left(&capture, &stem), [ring.clone(), session.join(&beside)]);
        fs::rename(&session, &moved).unwrap();
        let capture = moved.join(format!("{stem}.pftrace"));
        assert_eq!(rings_left(&capture, &stem), [ring, moved.join(beside)]);
        assert_eq!(Elsewhere::of(&capture, &stem).unwrap().folder, shared.path);
        fs::remove_dir_all(&shared.path).unwrap();
    }

    #[test]
    fn rings_go_when_their_session_is_gone_and_their_recorder_too() {
        let folder = tempfile::tempdir().unwrap();
        let (private, sessions) = (folder.path().join("private"), folder.path().join("sessions"));
        let session = sessions.join("1122-2130");
        fs::create_dir_all(&session).unwrap();
        fs::create_dir(&private).unwrap();
        let shared = SharedFolder::of(&private, &session, "h-1-00c0ffee").unwrap();
        shared.make().unwrap();
        let [ring, names] = ["h-1-00c0ffee-0.ring", "h-1-00c0ffee.names"].map(|name| shared.path.join(name));
        fs::write(&ring, "").unwrap();
        fs::write(&names, MAGIC.to_le_bytes()).unwrap();
        let claim = Claim::take(&names).unwrap();
        shared.remove_if_empty();
        sweep(&private);
        assert!(ring.exists(), "the session is there");
        let hidden = folder.path().join("hidden");
        fs::rename(&sessions, &hidden).unwrap();
        sweep(&private);
        assert!(ring.exists(), "its folder may be another container's");
        fs::rename(&hidden, &sessions).unwrap();
        fs::remove_dir_all(&session).unwrap();
        sweep(&private);
        assert!(ring.exists(), "its recorder lives");
        drop(claim);
        fs::write(&names, [0; 8]).unwrap();
        sweep(&private);
        assert!(ring.exists(), "its recorder is beginning");
        fs::write(&names, MAGIC.to_le_bytes()).unwrap();
        sweep(&private);
        assert!(!shared.path.exists());
    }
}
