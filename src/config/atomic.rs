//! Files that are there whole or not at all: written beside their place, then moved into it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Makes a file that is not there yet. A file that another process made first stays as it is.
///
/// # Errors
/// The file can't be written there.
pub(crate) fn create_file(path: &Path, text: &str) -> io::Result<()> {
    let temporary = write_beside(path, text, 0o640)?;
    // A link, unlike a rename, never replaces what is there. Some file systems have none.
    match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => rename(&temporary, path),
        _ => fs::remove_file(&temporary),
    }
}

/// Replaces a file's content, keeping its permissions. A symbolic link stays one.
///
/// # Errors
/// The file is gone, or can't be written.
pub(crate) fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let mode = fs::metadata(&path)?.permissions().mode();
    let temporary = write_beside(&path, text, mode)?;
    rename(&temporary, &path)
}

fn rename(temporary: &Path, path: &Path) -> io::Result<()> {
    fs::rename(temporary, path).inspect_err(|_| {
        // The first error is the one to tell.
        let _ = fs::remove_file(temporary);
    })
}

fn write_beside(path: &Path, text: &str, mode: u32) -> io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_file_name(format!(".{name}.{}-{count}.tmp", std::process::id()));
    let written = (|| {
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())
    })();
    match written {
        Ok(()) => Ok(temporary),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_is_already_there_is_not_replaced_by_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        create_file(&path, "first").unwrap();
        create_file(&path, "second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(names(folder.path()), ["a.json"], "nothing else is left behind");
    }

    #[test]
    fn replacing_keeps_permissions_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o604)).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        replace_file(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o604);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(folder.path()), ["link", "real"]);
    }

    #[test]
    fn a_folder_that_is_missing_is_an_error_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(create_file(&folder.path().join("no/a.json"), "x").is_err());
        assert!(names(folder.path()).is_empty());
    }
}
