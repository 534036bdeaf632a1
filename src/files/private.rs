//! The folder in which one user's processes keep what they share: status pages, session notes, rings that can't be
//! beside their capture. Its name can be guessed, so what is found there is trusted only if nobody else can have made
//! or changed it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;

/// Why a folder of the right name is not used.
#[derive(Debug, Error)]
enum Untrusted {
    #[error("it is no folder")]
    NoFolder,
    #[error("it belongs to user {0}")]
    Foreign(u32),
    #[error("others may enter it (its mode is {0:o}, not 700)")]
    Open(u32),
}

/// This user's private folder, made if there is none.
///
/// # Errors
/// There is no place for one, or somebody else has taken its name in each.
pub fn private_folder() -> io::Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let mut first_error = None;
    for folder in candidates(user) {
        match make(&folder, user) {
            Ok(()) => return Ok(folder),
            Err(error) => {
                if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Untrusted>) {
                    tell(&folder, &error);
                }
                let with_path = io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
                first_error.get_or_insert(with_path);
            }
        }
    }
    Err(first_error.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// The private folders that a user has: for those who read.
pub fn private_folders_of(user: u32) -> impl Iterator<Item = PathBuf> {
    candidates(user).into_iter().filter(move |folder| check(folder, user).is_ok())
}

/// Shared memory comes first. A session's own folder below `/run` may be small, goes when its user logs out, and most
/// servers have none. No place depends on the environment: the processes of a server must meet in the same folder,
/// whether a shell, systemd, `sudo` or another machine's ssh has started them.
fn candidates(user: u32) -> [PathBuf; 3] {
    [
        format!("/dev/shm/msprof_rs-{user}").into(),
        format!("/run/user/{user}/msprof_rs").into(),
        format!("/tmp/msprof_rs-{user}").into(),
    ]
}

fn make(folder: &Path, user: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // What was made now may be another's by now, too.
        _ => check(folder, user),
    }
}

fn check(folder: &Path, user: u32) -> io::Result<()> {
    let metadata = folder.symlink_metadata()?;
    let mode = metadata.permissions().mode() & 0o777;
    let reason = if !metadata.is_dir() {
        Untrusted::NoFolder
    } else if metadata.uid() != user {
        Untrusted::Foreign(metadata.uid())
    } else if mode & 0o077 != 0 {
        Untrusted::Open(mode)
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

/// Once a process: it will be so each time.
fn tell(folder: &Path, error: &io::Error) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        log::warn!(
            "{} is not used: {error}. Remove it, if it was not put there on purpose",
            folder.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_is_made_for_this_user_alone_and_then_found() {
        let user = rustix::process::geteuid().as_raw();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("private");
        for _ in 0..2 {
            make(&path, user).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert!(make(&folder.path().join("no/private"), user).is_err());
    }

    #[test]
    fn what_somebody_else_may_have_made_is_not_trusted() {
        let user = rustix::process::geteuid().as_raw();
        let folder = tempfile::tempdir().unwrap();
        let [private, link, file] = ["private", "link", "file"].map(|name| folder.path().join(name));
        make(&private, user).unwrap();
        std::os::unix::fs::symlink(&private, &link).unwrap();
        fs::write(&file, "").unwrap();
        assert!(check(&private, user + 1).unwrap_err().to_string().contains("belongs to user"));
        assert!(make(&link, user).unwrap_err().to_string().contains("no folder"));
        assert!(make(&file, user).unwrap_err().to_string().contains("no folder"));
        fs::set_permissions(&private, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(make(&private, user).unwrap_err().to_string().contains("mode is 770"));
    }

    #[test]
    fn a_users_folder_is_the_same_for_all_processes_and_readers() {
        let folder = private_folder().unwrap();
        assert_eq!(folder, private_folder().unwrap());
        let user = rustix::process::geteuid().as_raw();
        assert!(private_folders_of(user).any(|known| known == folder));
    }
}
