//! Puts what a killed process had left in its rings into its capture, so that other tools see it too.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::captures::{Opened, SourceError, open_with};
use super::folder::{CaptureFiles, find};
use super::leavings::Leavings;
use crate::event::names_log::{COMPLETED, has_lock};
use crate::files::{self, Scratch, undisturbed};
use crate::own_file::Life;
use crate::trace::Elsewhere;

/// What became of one capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// The rings of its process were put into it.
    Completed {
        /// Its last file, which was replaced.
        file: PathBuf,
        /// Events that were added.
        events: u64,
        /// Rings that can't be read, or only in part; they stay.
        damaged: Vec<PathBuf>,
    },
    /// There is nothing to do: its process has left no rings.
    Whole(PathBuf),
    /// Its process still runs and writes it.
    Running(PathBuf),
    /// Whether its process still writes it can't be known here, or its rings are not here; why.
    Unknown(PathBuf, String),
    /// It can't be read.
    Failed(PathBuf, String),
}

/// Completes each capture in a folder (and the folders in it).
///
/// # Errors
/// The folder can't be read, or has no captures. What is wrong with a single capture is told in its place.
pub fn recover(path: &Path) -> Result<Vec<Recovered>, SourceError> {
    let found = find(path).map_err(|error| SourceError::Unreadable { path: path.to_owned(), error })?;
    if found.is_empty() {
        return Err(SourceError::NoCaptures { path: path.to_owned() });
    }
    Ok(found.iter().map(complete).collect())
}

fn complete(files: &CaptureFiles) -> Recovered {
    let last = files.parts.last().cloned().unwrap_or_default();
    let left = Leavings::of(files);
    match &left.life {
        Life::Lives => return Recovered::Running(last),
        Life::Unknown(reason) => return Recovered::Unknown(last, reason.clone()),
        Life::Gone => {}
    }
    if let Some(unread) = left.unread(files) {
        return Recovered::Unknown(last, unread.reason);
    }
    if left.files().next().is_none() {
        return Recovered::Whole(last);
    }
    // As a recorder does: no other command completes it meanwhile, or reads half of it.
    let names = match left.names.iter().map(|path| hold(path, left.owner)).collect::<io::Result<Vec<_>>>() {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Recovered::Running(last),
        Err(error) => return Recovered::Failed(last, format!("the names for its rings: {error}")),
    };
    if left.names.iter().any(|path| !path.exists()) {
        return complete(files); // another command has just done it
    }
    let mut opened = match open_with(files, &left, &Elsewhere::default()) {
        Ok(opened) => opened,
        Err(reason) => return Recovered::Failed(last, reason),
    };
    opened.tell_damage();
    let Opened { intake, kept, capture, .. } = opened;
    let has_any = intake.damaged_rings.is_empty() || !capture.tail().is_empty();
    if has_any && let Err(error) = append(&last, kept, capture.tail(), &names) {
        return Recovered::Failed(last, error.to_string());
    }
    for file in left.files().filter(|_| intake.damaged_rings.is_empty()) {
        if let Err(error) = fs::remove_file(file) {
            log::warn!(
                "{}: its events are in {}, but it can't be removed: {error}",
                file.display(),
                last.display()
            );
        }
    }
    Recovered::Completed { file: last, events: intake.recovered, damaged: intake.damaged_rings }
}

/// Opens a names file and takes its lock; what can't be locked has no recorder either.
fn hold(path: &Path, owner: u32) -> io::Result<File> {
    let file = files::open_own_to_write(path, owner)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(file),
    }
}

/// Replaces a file by its first `kept` bytes and more. It is whole at each instant: the old one, or the new one. The
/// names files tell the new one by its length, so what is in it is not read from the rings again, should this command be
/// killed.
fn append(last: &Path, kept: u64, tail: &[u8], names: &[File]) -> io::Result<()> {
    let mut former = files::open_regular(last)?;
    let length = former.metadata()?.len();
    let completed = kept + tail.len() as u64;
    let scratch = Scratch::create(last.parent().unwrap_or(Path::new(".")))?;
    let whole = scratch.path().join("capture");
    let mut file = files::create_in_scratch(&whole)?;
    io::copy(&mut io::Read::take(&mut former, kept), &mut file)?;
    file.write_all(tail)?;
    file.set_permissions(former.metadata()?.permissions())?;
    file.sync_all()?;
    for names in names.iter().filter(|_| completed != length) {
        let mut magic = [0; size_of::<u64>()];
        names.read_exact_at(&mut magic, 0)?;
        if has_lock(u64::from_le_bytes(magic)) {
            names.write_all_at(&completed.to_le_bytes(), COMPLETED as u64)?;
        }
    }
    undisturbed(|| fs::rename(&whole, last))
}
