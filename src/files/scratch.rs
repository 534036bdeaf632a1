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

use super::{create_private, open_unlinked, user};

/// What the names of these folders begin with. Readers pass them over.
pub const SCRATCH_PREFIX: &str = ".msprof-rs-";

/// A file in each that its maker holds a lock on.
const MARK: &str = "not-whole-yet";

/// How often a folder is made that another command may take for one that was left, or removed that another thread may be
/// writing to.
const ATTEMPTS: usize = 8;

/// All that there are in this process.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder of files that are not whole yet. It is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    owner: u32,
    /// Holds the lock. Where the file system has no locks, what is left stays.
    _mark: File,
}

impl Scratch {
    /// Makes one in the folder `parent`.
    ///
    /// # Errors
    /// Nothing can be made there.
    pub fn create(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent, user());
        let mut folders = FOLDERS.lock();
        let (path, mark) = make(parent)?;
        folders.push(path.clone());
        drop(folders);
        let scratch = Self { owner: mark.metadata()?.uid(), path, _mark: mark };
        if scratch.owner != user() {
            remove_abandoned(parent, scratch.owner);
        }
        Ok(scratch)
    }

    /// Whose a file is that this process makes here. Remote file systems, and those of other systems, may have it that it is
    /// not this user's.
    pub fn owner(&self) -> u32 {
        self.owner
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

/// Makes a folder, and the mark in it.
fn make(parent: &Path) -> io::Result<(PathBuf, File)> {
    let mut attempts = 1;
    loop {
        let made = tempfile::Builder::new()
            .prefix(SCRATCH_PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        match mark(made.path()) {
            Ok(mark) => return Ok((made.keep(), mark)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < ATTEMPTS => attempts += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Marks a new folder as in use. It is not found if another command was there first and has removed it.
fn mark(folder: &Path) -> io::Result<File> {
    let path = folder.join(MARK);
    let mark = create_private(&path)?;
    let _ = mark.lock(); // not all file systems have locks
    path.symlink_metadata()?;
    Ok(mark)
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

/// Removes what killed commands of a user have left in a folder.
fn remove_abandoned(parent: &Path, owner: u32) {
    let Ok(entries) = parent.read_dir() else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX) {
            continue;
        }
        let path = entry.path();
        let is_ours = path.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == owner);
        if !is_ours {
            continue;
        }
        match open_unlinked(&path.join(MARK)) {
            Ok(mark) if mark.try_lock().is_ok() => {
                log::info!("{}: removed, a command that was killed has left it", path.display());
                remove(&path);
            }
            // Perhaps it is just being made; then its maker notices, and makes another.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _ = std::fs::remove_dir(&path); // if nothing is in it
            }
            _ => {}
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
        let [abandoned, empty, unmarked, theirs] =
            [".msprof-rs-1", ".msprof-rs-2", ".msprof-rs-3", "theirs"].map(|name| parent.path().join(name));
        for folder in [&abandoned, &empty, &unmarked, &theirs] {
            std::fs::create_dir(folder).unwrap();
        }
        for file in [abandoned.join(MARK), abandoned.join("half"), unmarked.join("half"), theirs.join(MARK)] {
            std::fs::write(file, "").unwrap();
        }
        let living = Scratch::create(parent.path()).unwrap();
        assert!(!abandoned.exists() && !empty.exists() && unmarked.exists() && theirs.exists());
        let _other = Scratch::create(parent.path()).unwrap();
        assert!(living.path().exists());
    }

    #[test]
    fn commands_that_begin_at_once_each_have_a_folder() {
        let parent = tempfile::tempdir().unwrap();
        let (path, user) = (parent.path(), user());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                // As in other processes, which do not wait for this one's lock.
                scope.spawn(|| {
                    for _ in 0..200 {
                        remove_abandoned(path, user);
                        let (folder, _mark) = make(path).unwrap();
                        assert!(folder.join(MARK).exists());
                    }
                });
            }
        });
        remove_abandoned(path, user);
        assert_eq!(path.read_dir().unwrap().count(), 0);
    }
}
