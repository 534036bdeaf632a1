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

    /// Whether the file in this folder is the one that we have written. One behind a link never is.
    fn is_there(&self, folder: &Path, owner: u32) -> bool {
        let path = Path::new(&self.path);
        let look = |path: &Path| folder.join(path).symlink_metadata();
        let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
        let mut folders = path.ancestors().skip(1).filter(|above| *above != Path::new(""));
        is_below
            && folders.all(|above| look(above).is_ok_and(|found| found.is_dir()))
            && look(path).is_ok_and(|found| {
                found.is_file()
                    && found.uid() == owner
                    && (found.len(), modified(&found)) == (self.bytes, self.modified)
            })
    }
}

fn modified(metadata: &Metadata) -> i64 {
    metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec())
}

impl Manifest {
    /// What we have written into a folder, as files of this owner, and is still there as it was. Nothing, if there is no
    /// list.
    ///
    /// # Errors
    /// There is something of that name which is no list of ours, or can't be read.
    pub(super) fn read(folder: &Path, owner: u32) -> io::Result<Vec<Entry>> {
        let file = match files::open_own(&folder.join(MANIFEST), owner) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        let manifest: Self = serde_json::from_slice(&files::read_to_limit(file, files::TEXT_LIMIT)?)?;
        if manifest.format != FORMAT {
            return Err(io::Error::other(format!("its format is not {FORMAT:?}")));
        }
        Ok(manifest.files.into_iter().filter(|entry| entry.is_there(folder, owner)).collect())
    }

    /// Writes the list of these files to a new file.
    pub(super) fn write(path: &Path, files: Vec<Entry>) -> io::Result<()> {
        let manifest = Self { format: FORMAT.to_owned(), files };
        let mut text = serde_json::to_vec_pretty(&manifest)?;
        text.push(b'\n');
        files::create_private(path)?.write_all(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with this list in it.
    fn listed(folder: &Path, entries: Vec<Entry>) -> Vec<Entry> {
        let _ = std::fs::remove_file(folder.join(MANIFEST));
        Manifest::write(&folder.join(MANIFEST), entries).unwrap();
        Manifest::read(folder, files::user()).unwrap()
    }

    fn entry(folder: &Path, path: &str) -> Entry {
        Entry::new(path, "a", &folder.join(path).metadata().unwrap())
    }

    #[test]
    fn either_version_of_a_file_is_ours_while_one_takes_the_others_place() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for (path, text) in [("former.csv", "1"), ("new.csv", "22")] {
            std::fs::write(folder.join(path), text).unwrap();
        }
        let under_one_name = |path: &str| Entry { path: "batch.csv".into(), ..entry(folder, path) };
        let both = vec![under_one_name("former.csv"), under_one_name("new.csv")];
        for (path, expected) in [("former.csv", both[0].clone()), ("new.csv", both[1].clone())] {
            std::fs::rename(folder.join(path), folder.join("batch.csv")).unwrap();
            assert_eq!(listed(folder, both.clone()), [expected]);
        }
        std::fs::write(folder.join("batch.csv"), "changed").unwrap();
        assert_eq!(listed(folder, both), []);
    }

    #[test]
    fn what_lies_elsewhere_is_not_ours_whatever_a_list_says() {
        let folder = tempfile::tempdir().unwrap();
        let (outputs, elsewhere) = (folder.path().join("outputs"), folder.path().join("elsewhere"));
        for folder in [&outputs, &elsewhere] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("requests.parquet"), "1").unwrap();
        }
        std::os::unix::fs::symlink(&elsewhere, outputs.join("tables")).unwrap();
        std::os::unix::fs::symlink("requests.parquet", outputs.join("link")).unwrap();
        let absolute = elsewhere.join("requests.parquet").to_string_lossy().into_owned();
        let foreign = ["tables/requests.parquet", "../elsewhere/requests.parquet", "link", &absolute];
        let entries = foreign.into_iter().chain(["requests.parquet"]).map(|path| entry(&outputs, path));
        assert_eq!(listed(&outputs, entries.collect()), [entry(&outputs, "requests.parquet")]);
    }

    #[test]
    fn what_is_no_list_of_ours_is_an_error_and_none_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let read = || Manifest::read(folder.path(), files::user());
        assert_eq!(read().unwrap(), []);
        for text in ["", "{}", r#"{"format": "msprof_rs outputs 2", "files": []}"#] {
            std::fs::write(folder.path().join(MANIFEST), text).unwrap();
            assert!(read().is_err(), "{text:?}");
        }
    }
}
