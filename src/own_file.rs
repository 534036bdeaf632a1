//! A file of ours among the descriptors of a program.
//!
//! A program may close descriptors that it doesn't know (`os.closerange`, a daemon's first steps) or put its own onto
//! their numbers. What we write then must not land in its files. So ours lie where a program's don't come to lie by
//! themselves, and before each use it is made sure that the number still stands for our file. One that was lost is
//! opened again by its path. A number that isn't ours any more is neither used nor closed.
//!
//! What remains: a program that closes our number and takes exactly that number between the look and the system call
//! behind it, some hundred nanoseconds later.

mod inherited;
mod life;

pub use inherited::{before_fork, close_parents};
pub use life::{Claim, Life, life_of};

use std::ffi::OsString;
use std::fmt::{self, Display, Formatter};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{OFlags, RawDir};
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use self::inherited::Listed;
use crate::files;

/// Numbers of ours lie above three quarters of those that a program may use; of the first thousand only, since the
/// kernel keeps a table up to the highest number.
const FIRST_NUMBERS: u64 = 1024;

/// Bytes of names that are asked for at once.
const LISTING: usize = 8 << 10;

/// An open file that knows whether its descriptor is still its own.
#[derive(Debug)]
pub struct OwnFile {
    path: PathBuf,
    file: ManuallyDrop<File>,
    identity: Identity,
    flags: OFlags,
    /// None: so many are open that this one is not.
    listed: Option<Listed>,
}

/// What a file is, whatever it is called and whoever has opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Of the file or folder at a path, to which links may lead.
    ///
    /// # Errors
    /// There is none, or it can't be seen.
    pub fn at(path: &Path) -> io::Result<Self> {
        path.metadata().map(|metadata| Self { device: metadata.dev(), inode: metadata.ino() })
    }

    /// Of what the descriptor stands for now.
    pub(crate) fn of(descriptor: impl std::os::fd::AsFd) -> rustix::io::Result<Self> {
        let status = rustix::fs::fstat(descriptor)?;
        #[allow(clippy::useless_conversion, reason = "the fields' types differ by architecture")]
        Ok(Self { device: status.st_dev.into(), inode: status.st_ino.into() })
    }
}

impl Display for Identity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.device, self.inode)
    }
}

impl OwnFile {
    /// Takes a file that was just opened at `path`, and moves it out of the program's way.
    ///
    /// # Errors
    /// What it is can't be found out.
    pub fn new(file: File, path: &Path) -> io::Result<Self> {
        let identity = Identity::of(&file)?;
        let flags = rustix::fs::fcntl_getfl(&file)?;
        let file = out_of_the_way(file, identity);
        let listed = Listed::new(&*file, identity);
        Ok(Self { path: path.into(), file, identity, flags, listed })
    }

    /// The file; opened again if the program has closed it.
    ///
    /// # Errors
    /// The program has closed it, and it is no longer to be had at its path.
    pub fn get(&mut self) -> io::Result<&File> {
        self.restore()?;
        Ok(&self.file)
    }

    /// Opens the file again if the program has closed it. Whether it had: a lock that was on it is then gone.
    ///
    /// # Errors
    /// As [`OwnFile::get`].
    pub fn restore(&mut self) -> io::Result<bool> {
        if self.is_ours() {
            return Ok(false);
        }
        let lost = |error: &dyn std::fmt::Display| {
            let path = self.path.display();
            io::Error::other(format!("the program has closed {path}, and it can't be opened again: {error}"))
        };
        let access = self.flags & OFlags::RWMODE;
        let file = OpenOptions::new()
            .read(access != OFlags::WRONLY)
            .write(access != OFlags::RDONLY)
            .append(self.flags.contains(OFlags::APPEND))
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
            .open(&self.path)
            .map_err(|error| lost(&error))?;
        if Identity::of(&file)? != self.identity {
            return Err(lost(&"another file has its name"));
        }
        log::debug!("{}: opened again, since the program had closed it", self.path.display());
        // The former number is the program's.
        self.file = out_of_the_way(file, self.identity);
        self.listed = None;
        self.listed = Listed::new(&*self.file, self.identity);
        Ok(true)
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of the bytes.
    ///
    /// # Errors
    /// As [`OwnFile::get`], or the file can't be written.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.get()?.write_all(bytes)
    }

    /// What a program does that closes a number and opens a file that gets it.
    #[cfg(test)]
    pub(crate) fn lose_to(&self, other: &File) {
        use std::os::fd::AsRawFd;
        let number = self.file.as_raw_fd();
        // SAFETY: both are open, and stay so.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
    }

    fn is_ours(&self) -> bool {
        Identity::of(&*self.file).is_ok_and(|identity| identity == self.identity)
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        // It stays listed until it is closed.
        if self.is_ours() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

/// The names in a folder, in no order. The standard library panics where the program closes the descriptor of a folder
/// that is being read, and could close one of the program's.
///
/// # Errors
/// The folder can't be read, or the program has closed its descriptor meanwhile.
pub fn names_in(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut folder = OwnFile::new(File::open(folder)?, folder)?;
    let mut buffer = [MaybeUninit::uninit(); LISTING];
    let mut entries = RawDir::new(folder.get()?, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Makes a file of `size` zeroes at `path`, for this user alone, and maps it shared. Its blocks are reserved now: a page
/// that can't be had later would kill the program.
///
/// # Errors
/// It is there already, can't be made or mapped, or has no room.
pub fn map_new(path: &Path, size: usize) -> io::Result<MmapRaw> {
    map_whole(files::create_private(path)?, path, size).inspect_err(|_| {
        // The half-made file is of no use; that it can't be removed either adds nothing to the first error.
        let _ = std::fs::remove_file(path);
    })
}

/// Maps a file that [`map_new`] has made once more, after it has grown to `size`.
///
/// # Errors
/// It is gone, can't be mapped, or has no room.
pub fn map_longer(path: &Path, size: usize) -> io::Result<MmapRaw> {
    map_whole(files::open_or_create_private(path)?, path, size)
}

fn map_whole(file: File, path: &Path, size: usize) -> io::Result<MmapRaw> {
    let mut file = OwnFile::new(file, path)?;
    files::reserve(file.get()?, size as u64)?;
    MmapOptions::new().len(size).map_raw(file.get()?)
}

/// Has the kernel make the process's table of descriptors long enough for our numbers, while there is one thread.
/// With more it would wait for all cores, some ten milliseconds.
pub fn prepare() {
    let Ok(threads) = File::open("/proc/self/task") else { return };
    // It has a link for each thread, besides `.` and `..`.
    if threads.metadata().is_ok_and(|folder| folder.nlink() == 3)
        && let Ok(identity) = Identity::of(&threads)
    {
        drop(ManuallyDrop::into_inner(out_of_the_way(threads, identity)));
    }
}

/// The same open file under a higher number, where one is free. The program may close the low one meanwhile, and have a
/// file of its own under it: that is neither closed nor taken for ours.
fn out_of_the_way(file: File, identity: Identity) -> ManuallyDrop<File> {
    let file = ManuallyDrop::new(file);
    let numbers = getrlimit(Resource::Nofile).current.unwrap_or(FIRST_NUMBERS).min(FIRST_NUMBERS);
    let lowest = (numbers / 4 * 3) as i32;
    let Ok(descriptor) = rustix::io::fcntl_dupfd_cloexec(&*file, lowest) else { return file };
    let moved = File::from(descriptor);
    let is_ours = |file: &File| Identity::of(file).is_ok_and(|found| found == identity);
    if !is_ours(&moved) {
        return file; // to be opened again
    }
    if is_ours(&file) {
        drop(ManuallyDrop::into_inner(file));
    }
    ManuallyDrop::new(moved)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};

    use super::*;

    fn new_file(path: &Path) -> OwnFile {
        let file = OpenOptions::new().append(true).create_new(true).open(path).unwrap();
        OwnFile::new(file, path).unwrap()
    }

    #[test]
    fn what_is_written_never_lands_in_a_file_that_took_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let mut own = new_file(&folder.path().join("own"));
        own.write_all(b"one ").unwrap();
        let theirs = folder.path().join("theirs");
        let other = File::create(&theirs).unwrap();
        let number = own.file.as_raw_fd();
        own.lose_to(&other);
        own.write_all(b"two").unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("own")).unwrap(), "one two");
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "");
        // SAFETY: `lose_to` made it, and nobody else has it.
        let mut taken = unsafe { File::from_raw_fd(number) };
        drop(own);
        taken.write_all(b"still open").unwrap();
    }

    #[test]
    fn a_number_that_is_not_ours_any_more_is_not_closed() {
        let folder = tempfile::tempdir().unwrap();
        let own = new_file(&folder.path().join("own"));
        let other = File::create(folder.path().join("theirs")).unwrap();
        own.lose_to(&other);
        let number = own.file.as_raw_fd();
        drop(own);
        // SAFETY: as above.
        unsafe { File::from_raw_fd(number) }.write_all(b"still open").unwrap();
    }

    #[test]
    fn a_number_that_the_program_takes_while_a_file_is_moved_stays_the_programs() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Identity::of(File::create(folder.path().join("own")).unwrap()).unwrap();
        let theirs = File::create(folder.path().join("theirs")).unwrap();
        let number = theirs.as_raw_fd();
        let kept = out_of_the_way(theirs, ours);
        assert_eq!(kept.as_raw_fd(), number);
        ManuallyDrop::into_inner(kept).write_all(b"still open").unwrap();
    }

    #[test]
    fn a_file_that_was_closed_and_is_gone_or_replaced_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own");
        let mut own = new_file(&path);
        let other = File::create(folder.path().join("theirs")).unwrap();
        own.lose_to(&other);
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        let error = own.write_all(b"x").unwrap_err().to_string();
        assert!(error.contains("the program has closed") && error.contains("own"), "{error}");
        std::fs::write(&path, "another's").unwrap();
        assert!(own.get().is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "another's");
        // SAFETY: as above.
        drop(unsafe { File::from_raw_fd(own.file.as_raw_fd()) });
    }

    #[test]
    fn the_names_in_a_folder_are_all_there_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        assert!(names_in(folder.path()).unwrap().is_empty());
        let mut expected: Vec<_> = (0..500).map(|number| OsString::from(format!("{number:0>50}"))).collect();
        expected.iter().for_each(|name| drop(File::create(folder.path().join(name)).unwrap()));
        let mut names = names_in(folder.path()).unwrap();
        names.sort();
        expected.sort();
        assert_eq!(names, expected);
        assert!(names_in(&folder.path().join("none")).is_err());
    }

    #[test]
    fn it_lies_above_the_numbers_that_a_program_gets() {
        let folder = tempfile::tempdir().unwrap();
        let own = new_file(&folder.path().join("own"));
        let next = File::create(folder.path().join("theirs")).unwrap().into_raw_fd();
        assert!(own.file.as_raw_fd() > next && own.file.as_raw_fd() >= 100, "{own:?}");
        // SAFETY: just taken from its file.
        drop(unsafe { File::from_raw_fd(next) });
    }
}
