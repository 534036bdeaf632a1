//! The files of one capture: `<stem>.pftrace` (see [`crate::stem`]), and when that gets too large, `<stem>.1.pftrace` and so
//! on.

use std::fmt::{self, Display, Formatter};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use crate::config::Storage;
use crate::own_file::OwnFile;

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

/// The part that is being written.
#[derive(Debug)]
pub(super) struct CaptureFile {
    stem: PathBuf,
    file: OwnFile,
    /// Bytes in it.
    length: u64,
    /// Parts of this capture that are complete, oldest first.
    former: Vec<PathBuf>,
    storage: Storage,
}

impl CaptureFile {
    /// Makes the first part. The file is new: nobody else's, and not through a link.
    pub(super) fn create(stem: &Path, storage: Storage) -> io::Result<Self> {
        Ok(Self { stem: stem.into(), file: new_part(stem)?, length: 0, former: Vec::new(), storage })
    }

    /// The current part.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Bytes in the current part.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn storage(&self) -> Storage {
        self.storage
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

    /// Begins a new part. Removes this capture's oldest parts where the session's folder has got too large; gives the
    /// number of those.
    pub(super) fn next_part(&mut self) -> io::Result<u32> {
        let former = std::mem::replace(&mut self.file, new_part(&self.stem)?);
        self.former.push(former.path().to_owned());
        self.length = 0;
        let Some(limit) = self.storage.session else { return Ok(0) };
        let mut removed = 0;
        // The part that begins now will grow to a whole one.
        while !self.former.is_empty() && folder_size(&self.stem) + self.storage.file > limit {
            let oldest = self.former.remove(0);
            match fs::remove_file(&oldest) {
                Ok(()) => removed += 1,
                // Somebody else has.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => log::warn!("{}: more than session_mb allows: {error}", oldest.display()),
            }
        }
        Ok(removed)
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
    let entries = fs::read_dir(stem.parent().unwrap_or(Path::new(".")))?;
    let number = |entry: io::Result<fs::DirEntry>| {
        let name = entry.ok()?.file_name();
        let rest = name.to_str()?.strip_prefix(&prefix)?;
        if rest == "pftrace" { Some(0) } else { rest.strip_suffix(".pftrace")?.parse().ok() }
    };
    Ok(entries.filter_map(number).collect())
}

/// Bytes of all captures in the folder.
fn folder_size(stem: &Path) -> u64 {
    let mut size = 0;
    for entry in fs::read_dir(stem.parent().unwrap_or(Path::new("."))).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "pftrace") {
            // Another process may just have removed it.
            size += entry.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORAGE: Storage = Storage { file: 100, session: Some(350), ..Storage::DEFAULT };

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
        let mut file = CaptureFile::create(&folder.path().join("h-1"), STORAGE).unwrap();
        let mut removed = Vec::new();
        for _ in 0..4 {
            assert!(!file.is_full());
            file.write(&[0; 100]).unwrap();
            assert!(file.is_full());
            removed.push(file.next_part().unwrap());
        }
        assert_eq!(removed, [0, 0, 1, 1]);
        assert_eq!(names(folder.path()), ["h-1.2.pftrace", "h-1.3.pftrace", "h-1.4.pftrace"]);
        assert_eq!(file.length(), 0);
        // A process that captures into the folder again goes on behind its own, and doesn't take the gap.
        let file = CaptureFile::create(&folder.path().join("h-1"), STORAGE).unwrap();
        assert!(file.path().ends_with("h-1.5.pftrace"));
    }

    #[test]
    fn a_file_is_made_anew_and_for_its_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, folder.path().join("h-1.pftrace")).unwrap();
        let mut file = CaptureFile::create(&folder.path().join("h-1"), STORAGE).unwrap();
        file.write(b"x").unwrap();
        assert!(!elsewhere.exists());
        assert!(file.path().ends_with("h-1.1.pftrace"));
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
