//! Whether a file is still the one that was read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What tells one version of a file from another. `sed -i` makes a new inode with the old size; an editor may keep
/// the inode; both may happen within one tick of the file system's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stamp {
    modified: (i64, i64),
    size: u64,
    inode: (u64, u64),
}

impl Stamp {
    /// The file as it is now; None if there is none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.size(),
            inode: (metadata.dev(), metadata.ino()),
        })
    }
}
