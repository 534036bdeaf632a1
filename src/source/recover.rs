//! Puts what a killed process had left in its rings into its capture, so that other tools see it too.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::captures::{Opened, SourceError, open_capture};
use super::folder::{CaptureFiles, find};
use super::rings::{certain_length, is_running, leavings};
use crate::files::{self, Scratch, undisturbed};

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
    let leavings = leavings(&last, files);
    if is_running(files) {
        return Recovered::Running(last);
    }
    if leavings.is_empty() {
        return Recovered::Whole(last);
    }
    let Opened { intake, capture, .. } = match open_capture(files) {
        Ok(opened) => opened,
        Err(reason) => return Recovered::Failed(last, reason),
    };
    if let Err(error) = append(files, &last, capture.tail()) {
        return Recovered::Failed(last, error.to_string());
    }
    for file in leavings.iter().filter(|_| intake.damaged_rings.is_empty()) {
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

/// Replaces a file by itself and more. It is whole at each instant: the old one, or the new one.
fn append(files: &CaptureFiles, last: &Path, tail: &[u8]) -> io::Result<()> {
    let mut former = files::open_regular(last)?;
    let certain = certain_length(files, former.metadata()?.len());
    let scratch = Scratch::create(last.parent().unwrap_or(Path::new(".")))?;
    let whole = scratch.path().join("capture");
    let mut file = files::create_in_scratch(&whole)?;
    io::copy(&mut io::Read::take(&mut former, certain), &mut file)?;
    file.write_all(tail)?;
    file.set_permissions(former.metadata()?.permissions())?;
    file.sync_all()?;
    undisturbed(|| fs::rename(&whole, last))
}
