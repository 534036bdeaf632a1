//! Folders for what is not whole yet. A command writes in one, moves what is whole to its place, and the folder goes with
//! the command, however that ends.
//!
//! The folder lies where its files will, so that moving them is a rename. Its name can't be guessed and nobody else can
//! enter it, so nobody can have put a link where a file is made. What a killed command has left goes when another makes
//! a folder beside it: a lock tells that its owner is gone.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::{create_private, open_unlinked};

/// What the names of these folders begin with. Readers pass them over.
pub const SCRATCH_PREFIX: &str = ".msprof-rs-";

/// A file in each, which has this name once its owner holds a lock on it.
const MARK: &str = "not-whole-yet";

/// How often a folder is removed that another thread may be writing to.
const ATTEMPTS: usize = 8;

/// All that there are in this process.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder of files that are not whole yet. It is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Holds the lock. None where the file system has no locks: what is left there stays.
    _lock: Option<File>,
}

impl Scratch {
    /// Makes one in the folder `parent`.
    ///
    /// # Errors
    /// Nothing can be made there.
    pub fn create(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent);
        let mut folders = FOLDERS.lock();
        let made = tempfile::Builder::new()
            .prefix(SCRATCH_PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        let unlocked = made.path().join("lock");
        let lock = create_private(&unlocked)?;
        let is_locked = lock.lock().is_ok();
        if is_locked {
            std::fs::rename(unlocked, made.path().join(MARK))?;
        } else {
            std::fs::remove_file(unlocked)?;
        }
        let path = made.keep();
        folders.push(path.clone());
        Ok(Self { path, _lock: is_locked.then_some(lock) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files in it, as paths below it.
    ///
    /// # Errors
    /// It can't be read.
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(folder) = folders.pop() {
            for entry in self.path.join(&folder).read_dir()? {
                let entry = entry?;
                let path = folder.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                } else if path != Path::new(MARK) {
                    files.push(path);
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// The permissions of a file that anybody would make here: what the umask leaves of reading and writing.
    ///
    /// # Errors
    /// No file can be made.
    pub fn usual_permissions(&self) -> io::Result<Permissions> {
        let probe = self.path.join("usual-permissions");
        let file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(&probe)?;
        let mode = file.metadata()?.mode() & 0o666;
        std::fs::remove_file(probe)?;
        Ok(Permissions::from_mode(mode))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut folders = FOLDERS.lock();
        if let Some(position) = folders.iter().position(|path| *path == self.path) {
            folders.swap_remove(position);
            remove(&self.path);
        }
    }
}

/// Makes a file in a scratch folder, and the folders on the way. Only this user can read it.
///
/// # Errors
/// Something of this name is there, or it can't be made.
pub fn create_in_scratch(path: &Path) -> io::Result<File> {
    // Nothing is made any more once the folders are being removed.
    let _folders = FOLDERS.lock();
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    create_private(path)
}

/// Does something that must not be interrupted half way: a program that is about to end waits for it.
pub fn undisturbed<T>(act: impl FnOnce() -> T) -> T {
    let _folders = FOLDERS.lock();
    act()
}

/// Removes all scratch folders, for a program that is about to end. Whoever wants to make a file in one, or to move one
/// out of it, waits from now on, for ever.
pub fn remove_scratch() {
    let mut folders = FOLDERS.lock();
    for path in folders.drain(..) {
        remove(&path);
    }
    std::mem::forget(folders);
}

fn remove(path: &Path) {
    for _ in 0..ATTEMPTS {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            // Nothing can be done about one that can't be removed, and its name says what it is.
            _ => return,
        }
    }
}

/// Removes what killed commands of this user have left in a folder.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = parent.read_dir() else { return };
    let user = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX) {
            continue;
        }
        let path = entry.path();
        let is_ours = path.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == user);
        // One without a mark is just being made.
        if is_ours && open_unlinked(&path.join(MARK)).is_ok_and(|mark| mark.try_lock().is_ok()) {
            log::info!("{}: removed, a command that was killed has left it", path.display());
            remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_was_not_moved_out_goes_and_only_this_user_can_have_seen_it() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(parent.path()).unwrap();
        let path = scratch.path().join("deep/down/file");
        create_in_scratch(&path).unwrap().write_all(b"half").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
        assert_eq!((mode(scratch.path()), mode(&path)), (0o700, 0o600));
        assert_eq!(create_in_scratch(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(scratch.files().unwrap(), [Path::new("deep/down/file")]);
        drop(scratch);
        assert_eq!(parent.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_file_gets_the_permissions_that_the_umask_leaves() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(parent.path()).unwrap();
        let usual = parent.path().join("usual");
        std::fs::write(&usual, "").unwrap();
        assert_eq!(
            scratch.usual_permissions().unwrap().mode() & 0o777,
            usual.metadata().unwrap().mode() & 0o777
        );
    }

    #[test]
    fn what_a_killed_command_left_goes_and_what_a_living_one_uses_stays() {
        let parent = tempfile::tempdir().unwrap();
        let [abandoned, unmarked, theirs] =
            ["killed", "young", "theirs"].map(|name| parent.path().join(format!("{SCRATCH_PREFIX}{name}")));
        let theirs = theirs.with_file_name("theirs");
        for folder in [&abandoned, &unmarked, &theirs] {
            std::fs::create_dir(folder).unwrap();
        }
        std::fs::write(abandoned.join(MARK), "").unwrap();
        std::fs::write(theirs.join(MARK), "").unwrap();
        let living = Scratch::create(parent.path()).unwrap();
        assert!(!abandoned.exists() && unmarked.exists() && theirs.exists());
        let _other = Scratch::create(parent.path()).unwrap();
        assert!(living.path().exists());
    }
}
