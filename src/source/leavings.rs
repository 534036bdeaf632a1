//! What the recorder of a capture has left beside it or in shared memory, and whether it still lives: looked at once, before
//! anything is read, so that all that follows from it fits together.

use std::path::{Path, PathBuf};

use super::folder::CaptureFiles;
use crate::own_file::Life;
use crate::ring::{Elsewhere, folders_of, names_name, recorder_of, rings_left};
use crate::{files, machine, stem};

/// A capture's rings, and the names for them.
#[derive(Debug)]
pub(super) struct Leavings {
    /// Whether their recorder still writes to them.
    pub(super) life: Life,
    /// In the order in which they were made.
    pub(super) rings: Vec<PathBuf>,
    /// The newest last. Earlier versions made one for each beginning of a collection.
    pub(super) names: Vec<PathBuf>,
    /// Whose the capture is: what others have put beside it is not taken in.
    pub(super) owner: u32,
    /// Why its rings are not here.
    elsewhere: Option<String>,
}

/// Rings that are not read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The last file of their capture.
    pub capture: PathBuf,
    /// How many of them are here.
    pub rings: usize,
    /// Why, as a sentence.
    pub reason: String,
    /// Whether nothing is lost by that: their recorder takes them to the capture in time.
    pub is_recording: bool,
}

impl Leavings {
    pub(super) fn of(capture: &CaptureFiles) -> Self {
        let last = capture.parts.last().map_or(Path::new(""), PathBuf::as_path);
        let owner = files::owner(last).unwrap_or_else(|_| files::user());
        let (mut names, rings) = (names_files(capture), rings_left(last, &capture.name));
        if names.is_empty() && !rings.is_empty() {
            names = names_files(capture); // its recorder may just have begun
        }
        let life = match names.last().map(|newest| recorder_of(newest, owner)) {
            Some(Ok(Some(life))) => life,
            Some(Ok(None)) => older(&capture.name),
            // What can't be read without names is told then, and left.
            Some(Err(_)) | None => Life::Gone,
        };
        let is_here = !names.is_empty() || !rings.is_empty();
        let elsewhere = if is_here { None } else { Elsewhere::of(last, &capture.name).map(|it| told(&it)) };
        Self { life, rings, names, owner, elsewhere }
    }

    /// Whether the rings are to be read: all that will come into them is there.
    pub(super) fn are_final(&self) -> bool {
        self.life == Life::Gone
    }

    /// What is to be said of rings that are not read.
    pub(super) fn unread(&self, capture: &CaptureFiles) -> Option<Unread> {
        let (reason, is_recording) = match (&self.life, &self.elsewhere) {
            (_, Some(reason)) => (reason.clone(), false),
            (Life::Gone, None) => return None,
            _ if self.rings.is_empty() => return None,
            (Life::Lives, None) => ("its process still records".to_owned(), true),
            (Life::Unknown(reason), None) => (reason.clone(), false),
        };
        let capture = capture.parts.last().cloned().unwrap_or_default();
        Some(Unread { capture, rings: self.rings.len(), reason, is_recording })
    }

    /// All files, the names last: a command that is killed while it removes them leaves no rings without names.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.rings.iter().chain(&self.names)
    }
}

/// The names for a capture's rings, beside it or in shared memory; the newest last. In earlier versions such a file was
/// called like the part that was the first when collection began.
fn names_files(capture: &CaptureFiles) -> Vec<PathBuf> {
    let places = |part: &PathBuf| {
        let name = names_name(&part.file_stem().unwrap_or_default().to_string_lossy());
        let folders = folders_of(part, &capture.name).into_iter().rev();
        folders.map(move |folder| folder.join(&name)).collect::<Vec<_>>()
    };
    let mut names: Vec<_> = match capture.parts.last() {
        // The first parts may have been removed.
        Some(last) if stem::has_identity(&capture.name) => {
            let name = names_name(&capture.name);
            folders_of(last, &capture.name).into_iter().rev().map(|folder| folder.join(&name)).collect()
        }
        _ => capture.parts.iter().flat_map(places).collect(),
    };
    names.retain(|names| names.symlink_metadata().is_ok());
    names
}

/// Whether the recorder of an earlier version lives, which held no lock: on this machine by its pid, as far as that says
/// anything. Elsewhere it can't be seen, and its files lie still.
fn older(name: &str) -> Life {
    let is_here = name
        .rsplit_once('-')
        .is_some_and(|(host, pid)| host == machine::hostname() && Path::new("/proc").join(pid).is_dir());
    if is_here {
        Life::Unknown(
            "a version of msprof_rs that held no lock has made them, and a process has the pid of theirs"
                .into(),
        )
    } else {
        Life::Gone
    }
}

/// Why rings that a note speaks of are not here.
fn told(Elsewhere { host, boot_id, folder }: &Elsewhere) -> String {
    let folder = folder.display();
    if *boot_id == machine::boot_id() {
        format!("they were in {folder}, which is gone or can't be seen from here")
    } else if *host == machine::hostname() {
        format!("they were in {folder}, and the machine has been restarted")
    } else {
        format!("they are in {folder} on {host}; read the capture there if its process was killed")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::event::names_log::MAGIC;
    use crate::own_file::Claim;

    const STEM: &str = "h-7-00c0ffee";

    fn capture(folder: &Path, stem: &str) -> CaptureFiles {
        let part = folder.join(format!("{stem}.pftrace"));
        fs::write(&part, "").unwrap();
        CaptureFiles { name: stem.into(), parts: vec![part] }
    }

    #[test]
    fn the_lock_on_the_names_says_whether_the_recorder_lives_and_the_pid_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let stem = format!("{}-{}-00c0ffee", machine::hostname(), std::process::id());
        let capture = capture(folder.path(), &stem);
        let names = folder.path().join(format!("{stem}.names"));
        fs::write(&names, MAGIC.to_le_bytes()).unwrap();
        fs::write(folder.path().join(format!("{stem}-0.ring")), "").unwrap();
        assert_eq!(Leavings::of(&capture).life, Life::Gone);
        assert_eq!(Leavings::of(&capture).unread(&capture), None);
        let claim = Claim::take(&names).unwrap();
        let left = Leavings::of(&capture);
        assert_eq!((left.life.clone(), left.rings.len()), (Life::Lives, 1));
        assert!(left.unread(&capture).unwrap().is_recording);
        drop(claim);
        assert_eq!(Leavings::of(&capture).life, Life::Gone);
    }

    #[test]
    fn a_recorder_without_a_lock_is_unknown_where_its_pid_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        for (host, pid, expected) in [
            (machine::hostname(), std::process::id(), false),
            (machine::hostname(), 99_999_999, true),
            ("elsewhere".into(), std::process::id(), true),
        ] {
            let stem = format!("{host}-{pid}");
            let capture = capture(folder.path(), &stem);
            fs::write(folder.path().join(format!("{stem}.names")), "[\"n\",5,\"rid\"]\n").unwrap();
            fs::write(folder.path().join(format!("{stem}-0.ring")), "").unwrap();
            let left = Leavings::of(&capture);
            assert_eq!(left.are_final(), expected, "{stem}");
            assert_eq!(left.unread(&capture).map(|unread| unread.is_recording), (!expected).then_some(false));
        }
    }

    #[test]
    fn rings_that_a_note_speaks_of_and_that_are_not_here_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let capture = capture(folder.path(), STEM);
        assert_eq!(Leavings::of(&capture).unread(&capture), None);
        let mut note = Elsewhere {
            host: "there".into(),
            boot_id: "another".into(),
            folder: "/dev/shm/msprof_rs-0/rings-h-7-00c0ffee".into(),
        };
        let told = |note: &Elsewhere| {
            let path = folder.path().join(format!("{STEM}.rings"));
            fs::write(path, serde_json::to_vec(note).unwrap()).unwrap();
            let unread = Leavings::of(&capture).unread(&capture).unwrap();
            assert!(!unread.is_recording);
            unread.reason
        };
        assert!(told(&note).contains("on there; read the capture there"));
        note.host = machine::hostname();
        assert!(told(&note).contains("has been restarted"));
        note.boot_id = machine::boot_id();
        assert!(told(&note).contains("is gone or can't be seen"));
    }
}
