//! How the files are written that users edit: a new one is there whole or not at all; one that is there stays the same
//! file, with its owner, its permissions, and whatever links to it or is mounted on it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::files;

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

/// Replaces a file's content, and nothing else of it. One call writes the text, with blank lines as far as the old one
/// reached, so the text must be of a kind in which these mean nothing. Only who reads in the very instant of that call
/// can find a part of both, and has to read again.
///
/// # Errors
/// The file is gone, is no regular file, or can't be written.
pub(crate) fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let file = match files::open_regular_to_write(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return replace_by_another(path, text).map_err(|_| error);
        }
        opened => opened?,
    };
    let former = file.metadata()?.len();
    let (text, length) = covering(text, former);
    match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, length) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => {}
        outcome => outcome?, // no room: the old text stays
    }
    file.write_all_at(&text, 0)?;
    file.set_len(length)
}

/// The bytes that cover a text of `former` bytes, and how many of them are to stay: never as many, so that a change is
/// seen that comes within one tick of the file system's clock after another.
fn covering(text: &str, former: u64) -> (Vec<u8>, u64) {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.len() as u64 == former {
        bytes.push(b'\n');
    }
    let length = bytes.len() as u64;
    bytes.resize(bytes.len().max(former as usize), b'\n');
    (bytes, length)
}

/// For a user's own file that is write-protected: a new one of the same permissions takes its place.
fn replace_by_another(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let former = fs::metadata(&path)?;
    if former.uid() != rustix::process::geteuid().as_raw() || former.nlink() > 1 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let temporary = write_beside(&path, text, former.permissions().mode())?;
    if fs::metadata(&temporary)?.gid() != former.gid() {
        // Where this user is no member of the group, it can't be kept.
        let _ = chown(&temporary, None, Some(former.gid()));
    }
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
    let (temporary, mut file) = loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_file_name(format!(".{name}.{}-{count}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary) {
            // Left by a process of the same number that was killed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => break (temporary, opened?),
        }
    };
    let written =
        file.write_all(text.as_bytes()).and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)));
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
    fn a_file_whose_text_is_replaced_stays_the_same_file_under_all_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let [real, link, hard] = ["real", "link", "hard"].map(|name| folder.path().join(name));
        fs::write(&real, "old text").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o604)).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        fs::hard_link(&real, &hard).unwrap();
        let former = fs::metadata(&real).unwrap();
        for text in ["new", "a much longer text than before"] {
            replace_file(&link, text).unwrap();
            assert_eq!(fs::read_to_string(&hard).unwrap(), text);
        }
        let metadata = fs::metadata(&real).unwrap();
        assert_eq!((metadata.ino(), metadata.mode()), (former.ino(), former.mode()));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(folder.path()), ["hard", "link", "real"]);
    }

    #[test]
    fn each_replacement_is_seen_whatever_the_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "0\n").unwrap();
        for text in ["1\n", "0\n", "1\n", "0\n"] {
            let before = fs::metadata(&path).unwrap().len();
            replace_file(&path, text).unwrap();
            assert_ne!(fs::metadata(&path).unwrap().len(), before);
            assert_eq!(fs::read_to_string(&path).unwrap().trim(), text.trim());
        }
    }

    #[test]
    fn what_is_written_makes_sense_before_the_rest_of_the_old_text_is_cut_off() {
        for former in 0..20 {
            let (bytes, length) = covering("[1, 2]", former);
            assert!(bytes.len() as u64 >= former.max(length) && length != former);
            for bytes in [&bytes[..], &bytes[..length as usize]] {
                assert_eq!(serde_json::from_slice::<[u8; 2]>(bytes).unwrap(), [1, 2]);
            }
        }
    }

    #[test]
    fn what_is_no_regular_file_is_not_written_to() {
        let error = replace_file(Path::new("/dev/null"), "{}").unwrap_err();
        assert!(error.to_string().contains("a device"), "{error}");
    }

    #[test]
    fn a_folder_that_is_missing_is_an_error_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(create_file(&folder.path().join("no/a.json"), "x").is_err());
        assert!(names(folder.path()).is_empty());
    }
}
