//! The files of one capture: `<stem>.pftrace` (see [`crate::stem`]), and when that gets too large, `<stem>.1.pftrace` and so
//! on.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt::{self, Display, Formatter};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use crate::config::Storage;
use crate::own_file::{self, Identity, OwnFile};
use crate::trace::Stream;

/// More than is written at once.
const MARGIN: u64 = 512 << 10;

/// What has become of the file on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is where it was made.
    There,
    Removed,
    Moved,
    Cut,
}

impl Display for Fate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::There => "is there",
            Self::Removed => "was removed",
            Self::Moved => "was moved away",
            Self::Cut => "was cut",
        })
    }
}

/// Where a part begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begin {
    /// In the stream of blocks.
    pub(super) stream: Stream,
    /// So many records were taken from the rings before.
    pub(super) records: u64,
}

/// A part that is complete.
#[derive(Debug)]
struct Former {
    path: PathBuf,
    begin: Begin,
    end: Begin,
}

/// Parts that were removed where the session's folder got too large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) parts: u64,
    /// Events in them.
    pub(super) events: u64,
}

/// The part that is being written.
#[derive(Debug)]
pub(super) struct CaptureFile {
    stem: PathBuf,
    file: OwnFile,
    /// Bytes in it.
    length: u64,
    begin: Begin,
    /// Parts of this capture that are complete, oldest first.
    former: VecDeque<Former>,
    removed: Removed,
    has_moved: bool,
    /// The folder that was taken away, where that can be seen.
    former_folder: Option<PathBuf>,
    storage: Storage,
}

impl CaptureFile {
    /// Makes the first part. The file is new: nobody else's, and not through a link.
    pub(super) fn create(stem: &Path, begin: Begin, storage: Storage) -> io::Result<Self> {
        Ok(Self {
            stem: stem.into(),
            file: new_part(stem)?,
            length: 0,
            begin,
            former: VecDeque::new(),
            removed: Removed::default(),
            has_moved: false,
            former_folder: None,
            storage,
        })
    }

    /// The current part.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Bytes in the current part.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Where the current part begins.
    pub(super) fn begin(&self) -> Begin {
        self.begin
    }

    /// The number of the first block of this stream that is still in a part.
    pub(super) fn first_block(&self) -> u64 {
        let begins = self.former.iter().map(|part| part.begin.stream).chain([self.begin.stream]);
        let of_stream = begins.filter(|begin| begin.id == self.begin.stream.id);
        of_stream.map(|begin| begin.next).min().unwrap_or_default()
    }

    /// Records in all parts, where so many have been taken from the rings.
    pub(super) fn records(&self, until: u64) -> u64 {
        let former: u64 = self.former.iter().map(|part| part.end.records - part.begin.records).sum();
        former + until.saturating_sub(self.begin.records)
    }

    /// Whether its folder was taken away, and it goes on in another.
    pub(super) fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// What was removed of this capture so far.
    pub(super) fn removed(&self) -> Removed {
        self.removed
    }

    /// Whether it is time for a new part: it has the size of one, or the system lets no file of this process grow further.
    pub(super) fn is_full(&self) -> bool {
        let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        self.length >= self.storage.file.min(limit - MARGIN.min(limit / 4))
    }

    /// Whether the file can still be written to: the program has not closed it where it can't be opened again.
    pub(super) fn is_at_hand(&mut self) -> bool {
        self.file.get().is_ok()
    }

    /// What has become of it. Where that can't be seen, it counts as there.
    pub(super) fn fate(&mut self) -> Fate {
        let path = self.path().to_owned();
        let Ok(ours) = self.file.get().and_then(File::metadata) else { return Fate::Removed };
        let is_removed = ours.nlink() == 0;
        match path.symlink_metadata() {
            // Not every file system has lasting numbers.
            Ok(there) if there.ino() != ours.ino() && is_removed => Fate::Removed,
            Ok(there) if there.len() >= self.length => Fate::There,
            Ok(there) if there.ino() != ours.ino() => Fate::Moved,
            Ok(_) => Fate::Cut,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                if is_removed {
                    Fate::Removed
                } else {
                    Fate::Moved
                }
            }
            Err(_) => Fate::There,
        }
    }

    /// Where the folder now is in which the capture began, if somebody has moved it and that can be seen.
    pub(super) fn moved_to(&mut self) -> Option<PathBuf> {
        if self.has_moved {
            return self.former_folder.clone();
        }
        if self.fate() != Fate::Moved {
            return None;
        }
        let ours = self.file.get().ok()?;
        let path = fs::read_link(format!("/proc/self/fd/{}", ours.as_raw_fd())).ok()?;
        // A file that is gone has a path, too.
        (Identity::at(&path).ok()? == Identity::of(ours).ok()?).then(|| folder_of(&path).to_owned())
    }

    /// Appends the bytes, all or none.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(bytes);
        written.inspect_err(|_| {
            // Where a part of them can't be taken back either, readers find the file torn there.
            let _ = self.file.get().and_then(|file| file.set_len(self.length));
        })?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Goes on in a new file, below another stem if one is given: the former is not there any more. [`CaptureFile::restart`]
    /// says where the new one begins.
    pub(super) fn leave(&mut self, stem: Option<&Path>) -> io::Result<()> {
        let next = new_part(stem.unwrap_or(&self.stem))?;
        let moved_to = self.moved_to();
        self.file = next;
        self.length = 0;
        if let Some(stem) = stem {
            self.former_folder = moved_to;
            stem.clone_into(&mut self.stem);
            self.former.clear();
            self.has_moved = true;
        }
        Ok(())
    }

    /// The current part begins here.
    pub(super) fn restart(&mut self, begin: Begin) {
        self.begin = begin;
    }

    /// Begins a new part. Removes this capture's oldest parts where the session's folder has got too large; gives the
    /// number of those.
    pub(super) fn next_part(&mut self, begin: Begin) -> io::Result<u64> {
        let former = std::mem::replace(&mut self.file, new_part(&self.stem)?);
        let path = former.path().to_owned();
        self.former.push_back(Former { path, begin: self.begin, end: begin });
        (self.length, self.begin) = (0, begin);
        let Some(limit) = self.storage.session else { return Ok(0) };
        let before = self.removed.parts;
        // The part that begins now will grow to a whole one.
        while folder_size(&self.stem) + self.storage.file > limit {
            let Some(Former { path, begin, end }) = self.former.pop_front() else { break };
            match fs::remove_file(&path) {
                Ok(()) => {
                    self.removed.parts += 1;
                    self.removed.events += end.stream.events.saturating_sub(begin.stream.events);
                }
                // Somebody else has.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => log::warn!("{}: more than session_mb allows: {error}", path.display()),
            }
        }
        Ok(self.removed.parts - before)
    }
}

/// `<stem>.pftrace`, or `<stem>.1.pftrace` … where there are parts already.
fn new_part(stem: &Path) -> io::Result<OwnFile> {
    let newest = parts(stem)?.into_iter().max();
    for part in newest.map_or(0, |newest| newest + 1).. {
        let suffix = if part == 0 { ".pftrace".into() } else { format!(".{part}.pftrace") };
        let path = PathBuf::from(format!("{}{suffix}", stem.display()));
        match OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return OwnFile::new(file, &path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The numbers of the parts that are there: a part that was removed has no successor of its name.
fn parts(stem: &Path) -> io::Result<Vec<u32>> {
    let prefix = format!("{}.", stem.file_name().unwrap_or_default().to_string_lossy());
    let number = |name: OsString| {
        let rest = name.to_str()?.strip_prefix(&prefix)?;
        if rest == "pftrace" { Some(0) } else { rest.strip_suffix(".pftrace")?.parse().ok() }
    };
    Ok(own_file::names_in(folder_of(stem))?.into_iter().filter_map(number).collect())
}

/// Bytes of all captures in the folder.
fn folder_size(stem: &Path) -> u64 {
    let folder = folder_of(stem);
    let paths = own_file::names_in(folder).unwrap_or_default().into_iter().map(|name| folder.join(name));
    let captures = paths.filter(|path| path.extension().is_some_and(|extension| extension == "pftrace"));
    // Another process may just have removed it.
    captures.map(|path| path.symlink_metadata().map_or(0, |metadata| metadata.len())).sum()
}

fn folder_of(stem: &Path) -> &Path {
    stem.parent().unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORAGE: Storage = Storage { file: 100, session: Some(350), ..Storage::DEFAULT };

    fn begin(part: u64) -> Begin {
        Begin { stream: Stream { id: 7, next: part * 3, events: part * 10 }, records: part * 9 }
    }

    fn create(folder: &Path) -> CaptureFile {
        CaptureFile::create(&folder.join("h-1"), begin(0), STORAGE).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_parts_go_where_the_session_gets_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = create(folder.path());
        let mut removed = Vec::new();
        for part in 1..=4 {
            assert!(!file.is_full());
            file.write(&[0; 100]).unwrap();
            assert!(file.is_full());
            removed.push(file.next_part(begin(part)).unwrap());
        }
        assert_eq!(removed, [0, 0, 1, 1]);
        assert_eq!(file.removed(), Removed { parts: 2, events: 20 });
        assert_eq!((file.first_block(), file.records(40)), (6, 22));
        assert_eq!(names(folder.path()), ["h-1.2.pftrace", "h-1.3.pftrace", "h-1.4.pftrace"]);
        assert_eq!(file.length(), 0);
        // A process that captures into the folder again goes on behind its own, and doesn't take the gap.
        let file = create(folder.path());
        assert!(file.path().ends_with("h-1.5.pftrace"));
    }

    #[test]
    fn a_file_is_made_anew_and_for_its_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, folder.path().join("h-1.pftrace")).unwrap();
        let mut file = create(folder.path());
        file.write(b"x").unwrap();
        assert!(!elsewhere.exists());
        assert!(file.path().ends_with("h-1.1.pftrace"));
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
