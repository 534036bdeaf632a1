//! `.msprof_rs.json` in a folder of outputs: which files in it were written by us, and of which session they are. A file
//! that is not in the list, or that was changed since, is the user's.

use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::files;

/// Its name.
pub(super) const MANIFEST: &str = ".msprof_rs.json";

/// What it begins with; another version of ours would have another.
const FORMAT: &str = "msprof_rs outputs 1";

/// The list.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: String,
    pub(super) files: Vec<Entry>,
}

/// A file that we have written, and how to tell that it is still the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Below the folder of outputs.
    pub(super) path: String,
    /// What it was made from.
    pub(super) session: String,
    bytes: u64,
    /// Unix time in nanoseconds.
    modified: i64,
}

impl Entry {
    pub(super) fn new(path: &str, session: &str, metadata: &Metadata) -> Self {
        let (bytes, modified) = (metadata.len(), modified(metadata));
        Self { path: path.to_owned(), session: session.to_owned(), bytes, modified }
    }

    /// Whether the file in this folder is the one that we have written.
    fn is_there(&self, folder: &Path) -> bool {
        let path = Path::new(&self.path);
        let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
        is_below
            && folder.join(path).symlink_metadata().is_ok_and(|found| {
                found.is_file()
                    && found.uid() == rustix::process::geteuid().as_raw()
                    && (found.len(), modified(&found)) == (self.bytes, self.modified)
            })
    }
}

fn modified(metadata: &Metadata) -> i64 {
    metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec())
}

impl Manifest {
    /// What we have written into a folder and is still there as it was. Nothing, if there is no list of ours.
    pub(super) fn read(folder: &Path) -> Vec<Entry> {
        let path = folder.join(MANIFEST);
        let read = || {
            let file = files::open_unlinked(&path)?;
            if file.metadata()?.uid() != rustix::process::geteuid().as_raw() {
                return Err(io::Error::other("it is another user's"));
            }
            let bytes = files::read_to_limit(file, files::TEXT_LIMIT)?;
            let manifest: Self = serde_json::from_slice(&bytes)?;
            if manifest.format != FORMAT {
                return Err(io::Error::other(format!("its format is not {FORMAT:?}")));
            }
            Ok(manifest.files)
        };
        match read() {
            Ok(mut entries) => {
                entries.retain(|entry| entry.is_there(folder));
                entries
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    log::warn!("{}: not used: {error}", path.display());
                }
                Vec::new()
            }
        }
    }

    /// Writes the list of these files to a new file.
    pub(super) fn write(path: &Path, files: Vec<Entry>) -> io::Result<()> {
        let manifest = Self { format: FORMAT.to_owned(), files };
        let mut text = serde_json::to_vec_pretty(&manifest)?;
        text.push(b'\n');
        files::create_private(path)?.write_all(&text)
    }
}
