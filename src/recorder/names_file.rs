//! The texts behind the numbers in the rings, in a file beside the capture: for whoever reads the rings of a process that
//! was killed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::event;

/// The running session's file.
static NAMES: ArcSwapOption<Shared> = ArcSwapOption::const_empty();

#[derive(Debug)]
struct Shared {
    /// Whose it is: in a forked child nothing of it may be touched, its lock least of all.
    pid: u32,
    file: Mutex<NamesFile>,
}

/// One JSON array a line, `["n", index, text]` or `["l", index, domain, name]`.
#[derive(Debug)]
struct NamesFile {
    path: PathBuf,
    file: File,
    names: u32,
    labels: u32,
}

/// Makes `<stem>.names` for the capture of this name, and notes from now on each name as it is made.
pub(super) fn open(capture: &Path) -> io::Result<()> {
    let path = capture.with_extension("names");
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let names = NamesFile { path, file, names: 0, labels: 0 };
    NAMES.store(Some(Arc::new(Shared { pid: std::process::id(), file: Mutex::new(names) })));
    event::listen_to_names(note);
    // From here on names are noted as they come; now those that were there before.
    NAMES.load().as_ref().map_or(Ok(()), |names| names.file.lock().append())
}

/// Notes no more names. The file goes if the capture has all of its events, and so every name that was used.
pub(super) fn close(is_complete: bool) {
    if let Some(names) = NAMES.swap(None).filter(|_| is_complete) {
        names.file.lock().remove();
    }
}

/// In a forked child: the file is the parent's.
pub(super) fn forget_parents() {
    std::mem::forget(NAMES.swap(None));
}

/// Notes the names that were added since the last time.
fn note() {
    if let Some(names) = &*NAMES.load()
        && names.pid == std::process::id()
        && let Err(error) = names.file.lock().append()
    {
        log::debug!("a name could not be noted: {error}");
    }
}

impl NamesFile {
    fn append(&mut self) -> io::Result<()> {
        let mut lines = String::new();
        for (index, text) in event::names_from(self.names) {
            lines.push_str(&serde_json::json!(["n", index, text]).to_string());
            lines.push('\n');
            self.names = index + 1;
        }
        for (index, domain, name) in event::labels_from(self.labels) {
            lines.push_str(&serde_json::json!(["l", index, domain, name]).to_string());
            lines.push('\n');
            self.labels = index + 1;
        }
        if lines.is_empty() { Ok(()) } else { self.file.write_all(lines.as_bytes()) }
    }

    fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}
