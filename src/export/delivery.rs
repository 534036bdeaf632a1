//! How outputs come to their folder: they are written beside their places, and put there together once all are whole. A
//! command that fails or is ended leaves the folder as it was.
//!
//! A folder holds the outputs of one session. Those of another go when new ones come, as far as we wrote them, which
//! the [manifest](super::manifest) says. Everything else stays: a file that bears an output's name and is not ours (or
//! was changed, or is of a version that kept no list) is moved to the folder `former`, which is said.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kind::Kind;
use super::manifest::{Entry, MANIFEST, Manifest};
use super::output::OutputError;
use crate::files::{Scratch, undisturbed};

/// Where files go that are in the way.
const FORMER: &str = "former";

/// How often, and how far apart, the lock is tried that another command holds while it puts its outputs into the folder.
const TRIES: u32 = 600;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// Outputs on their way to a folder. Dropped before [`Delivery::finish`], they go away.
#[derive(Debug)]
pub struct Delivery {
    target: PathBuf,
    scratch: Scratch,
    permissions: Permissions,
}

/// What the outputs are made from, and what they take the place of.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The session; whatever tells it from others.
    pub session: &'a str,
    /// The files that were read: they are never removed.
    pub inputs: &'a [PathBuf],
    /// The kinds of what is new.
    pub kinds: &'a [Kind],
}

impl Origin<'_> {
    /// Whether a former output goes.
    fn replaces(&self, entry: &Entry) -> bool {
        let Some(kind) = Kind::of(Path::new(&entry.path)) else { return false };
        if entry.session == self.session {
            return kind.is_of_session() && self.kinds.contains(&kind);
        }
        self.kinds.contains(&kind) || self.describes_session() && kind != Kind::Comparison
    }

    /// Whether a file that is not ours would be taken for an output of this session.
    fn could_have_made(&self, path: &Path) -> bool {
        self.describes_session() && Kind::of(path).is_some_and(Kind::is_of_session)
    }

    fn describes_session(&self) -> bool {
        self.kinds.iter().any(|kind| kind.is_of_session())
    }
}

impl Delivery {
    /// Begins to write outputs for a folder that is there.
    ///
    /// # Errors
    /// It can't be written to.
    pub fn begin(target: &Path) -> Result<Self, OutputError> {
        let begin = || {
            let scratch = Scratch::create(target)?;
            let permissions = scratch.usual_permissions()?;
            Ok((scratch, permissions))
        };
        let (scratch, permissions) = begin().map_err(|error: io::Error| OutputError::new(target, error))?;
        Ok(Self { target: target.to_owned(), scratch, permissions })
    }

    /// Where they are to be written.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// An error of writing one, as an error of the place that it was meant for.
    pub fn error(&self, mut error: OutputError) -> OutputError {
        if let Ok(path) = error.path.strip_prefix(self.scratch.path()) {
            error.path = self.target.join(path);
        }
        error
    }

    /// Puts all that was written into its place.
    ///
    /// # Errors
    /// A file can't be moved. All that was moved until then is known as ours.
    pub fn finish(self, origin: &Origin<'_>) -> Result<(), OutputError> {
        let _lock = self.lock()?;
        undisturbed(|| self.deliver(origin)).map_err(|error| self.error(error))
    }

    /// Keeps other commands from putting theirs there at the same time. Not all file systems have locks.
    fn lock(&self) -> Result<Option<File>, OutputError> {
        let error = |error| OutputError::new(&self.target, error);
        let folder = File::open(&self.target).map_err(error)?;
        for tried in 0..TRIES {
            match folder.try_lock() {
                Ok(()) => return Ok(Some(folder)),
                Err(TryLockError::Error(error)) => {
                    log::debug!("{}: no lock: {error}", self.target.display());
                    return Ok(None);
                }
                Err(TryLockError::WouldBlock) if tried == 1 => {
                    log::info!("{}: waiting for a command that is writing there", self.target.display());
                }
                Err(TryLockError::WouldBlock) => {}
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        Err(error(io::Error::new(
            io::ErrorKind::TimedOut,
            "another command has been writing there for a minute",
        )))
    }

    fn deliver(&self, origin: &Origin<'_>) -> Result<(), OutputError> {
        let at_target = |error| OutputError::new(&self.target, error);
        let new = self.scratch.files().map_err(at_target)?;
        debug_assert!(new.iter().all(|path| Kind::of(path).is_some()), "an output without a kind: {new:?}");
        let new_entries = new.iter().map(|path| self.entry(path, origin)).collect::<Result<Vec<_>, _>>()?;
        let inputs: HashSet<_> = origin.inputs.iter().filter_map(|path| identity(path)).collect();
        let is_input = |path: &Path| identity(&self.target.join(path)).is_some_and(|it| inputs.contains(&it));
        let (mut former, is_foreign) = match Manifest::read(&self.target, self.scratch.owner()) {
            Ok(former) => (former, false),
            Err(error) => {
                log::warn!("{}: not used: {error}", self.target.join(MANIFEST).display());
                (Vec::new(), true)
            }
        };
        let replaceable: HashSet<&Path> =
            former.iter().map(|entry| Path::new(&entry.path)).filter(|path| !is_input(path)).collect();

        let mut in_the_way = self.strays(origin, &replaceable).map_err(at_target)?;
        in_the_way.retain(|path| !is_input(path));
        in_the_way.extend(new.iter().filter_map(|path| self.obstacle(path, &replaceable)));
        in_the_way.extend(is_foreign.then(|| PathBuf::from(MANIFEST)));

        // All that is written is written before the first file is moved: a full disk stops nothing half way.
        let all = former.iter().chain(&new_entries).cloned().collect();
        let meanwhile = self.write_manifest("meanwhile", all)?;
        let is_new: HashSet<&str> = new_entries.iter().map(|entry| entry.path.as_str()).collect();
        former.retain(|entry| !is_new.contains(entry.path.as_str()));
        let goes = |entry: &Entry| origin.replaces(entry) && !is_input(Path::new(&entry.path));
        let (gone, kept): (Vec<_>, Vec<_>) = former.into_iter().partition(goes);
        let at_last = self.write_manifest("at-last", kept.into_iter().chain(new_entries).collect())?;

        self.set_aside(in_the_way)?;
        // Whatever ends this command from here on: all that is ours stays known as such.
        self.put(&meanwhile, Path::new(MANIFEST))?;
        for path in &new {
            self.put(path, path)?;
        }
        for entry in &gone {
            self.remove(Path::new(&entry.path))?;
        }
        self.put(&at_last, Path::new(MANIFEST))
    }

    fn entry(&self, path: &Path, origin: &Origin<'_>) -> Result<Entry, OutputError> {
        let written = self.folder().join(path);
        let metadata = written.metadata().map_err(|error| OutputError::new(&written, error))?;
        Ok(Entry::new(&path.to_string_lossy(), origin.session, &metadata))
    }

    /// Files that would be taken for outputs of this session and are not ours.
    fn strays(&self, origin: &Origin<'_>, ours: &HashSet<&Path>) -> io::Result<Vec<PathBuf>> {
        let (mut strays, mut folders) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(folder) = folders.pop() {
            for entry in self.target.join(&folder).read_dir()? {
                let entry = entry?;
                let path = folder.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    // The only folder of outputs that describe a session.
                    if path.starts_with("tables") {
                        folders.push(path);
                    }
                } else if origin.could_have_made(&path) && !ours.contains(path.as_path()) {
                    strays.push(path);
                }
            }
        }
        Ok(strays)
    }

    /// What lies where an output or a folder for it is to be, and must not be replaced or gone through.
    fn obstacle(&self, path: &Path, ours: &HashSet<&Path>) -> Option<PathBuf> {
        let mut folders: Vec<&Path> =
            path.ancestors().skip(1).filter(|folder| *folder != Path::new("")).collect();
        folders.reverse();
        let is_fit = |folder: &Path| match self.target.join(folder).symlink_metadata() {
            Ok(found) => found.is_dir() && found.uid() == self.scratch.owner(),
            Err(_) => true,
        };
        let folder = folders.into_iter().find(|folder| !is_fit(folder));
        let file = || {
            let is_there = self.target.join(path).symlink_metadata().is_ok();
            (is_there && !ours.contains(path)).then_some(path)
        };
        folder.or_else(file).map(Path::to_owned)
    }

    /// Moves what is not ours out of the way, into a folder of its own.
    fn set_aside(&self, mut paths: Vec<PathBuf>) -> Result<(), OutputError> {
        paths.sort();
        // What is in a folder goes with it.
        paths.dedup_by(|path, earlier| path.starts_with(earlier));
        if paths.is_empty() {
            return Ok(());
        }
        let mut names =
            std::iter::once(FORMER.to_owned()).chain((2..).map(|number| format!("{FORMER}-{number}")));
        let folder = names
            .find_map(|name| {
                let folder = self.target.join(name);
                match DirBuilder::new().mode(0o750).create(&folder) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                    made => {
                        Some(made.map(|()| folder.clone()).map_err(|error| OutputError::new(&folder, error)))
                    }
                }
            })
            .unwrap_or_else(|| Ok(self.target.join(FORMER)))?;
        let names: Vec<_> = paths.iter().take(3).map(|path| path.display().to_string()).collect();
        let more = if paths.len() > names.len() { " …" } else { "" };
        log::warn!(
            "{}: moved here, because this version of msprof-rs has not written it, it was changed since, or it has just \
             been read: {}{more}",
            folder.display(),
            names.join(", ")
        );
        for path in &paths {
            let to = folder.join(path);
            make_folders(&to)?;
            let from = self.target.join(path);
            std::fs::rename(&from, to).map_err(|error| OutputError::new(&from, error))?;
        }
        Ok(())
    }

    fn put(&self, from: &Path, to: &Path) -> Result<(), OutputError> {
        let (from, to) = (self.folder().join(from), self.target.join(to));
        make_folders(&to)?;
        std::fs::set_permissions(&from, self.permissions.clone())
            .and_then(|()| std::fs::rename(&from, &to))
            .map_err(|error| OutputError::new(&to, error))
    }

    /// Removes a file of ours, and the folders that have nothing in them then.
    fn remove(&self, path: &Path) -> Result<(), OutputError> {
        let file = self.target.join(path);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(OutputError::new(&file, error));
            }
            _ => {}
        }
        for folder in path.ancestors().skip(1).filter(|folder| *folder != Path::new("")) {
            // One with something in it stays.
            if std::fs::remove_dir(self.target.join(folder)).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Writes a list, under a name that it has until it is put in its place.
    fn write_manifest(&self, name: &str, files: Vec<Entry>) -> Result<PathBuf, OutputError> {
        let written = Manifest::write(&self.folder().join(name), files);
        written.map_err(|error| OutputError::new(&self.folder().join(MANIFEST), error))?;
        Ok(name.into())
    }
}

/// Makes the folders that a path lies in.
fn make_folders(path: &Path) -> Result<(), OutputError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(0o750).create(folder);
    made.map_err(|error| OutputError::new(folder, error))
}

/// What a file is, whatever it is called.
fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}
