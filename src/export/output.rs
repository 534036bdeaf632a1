//! Files that appear whole or not at all: written under a temporary name, then renamed. Used by every output.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use thiserror::Error;

use super::Outcome;

/// An output that could not be written.
#[derive(Debug, Error)]
#[error("cannot write {path}: {error}")]
pub struct OutputError {
    /// The output.
    pub path: PathBuf,
    /// What the system says.
    pub error: io::Error,
}

impl OutputError {
    /// The error of writing `path`.
    pub fn new(path: &Path, error: impl Into<io::Error>) -> Self {
        Self { path: path.to_owned(), error: error.into() }
    }

    /// The error of a library that writes `path`.
    pub fn other(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(path, io::Error::other(error))
    }
}

/// The temporary names of all files that are being written.
static PARTIALS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes all files that are being written: for a program that is about to end. Those who write them may go on, but
/// none gets its name any more.
pub fn remove_partials() {
    let mut partials = PARTIALS.lock();
    for path in partials.drain(..) {
        // Nothing can be done about a file that can't be removed, and its name says that it is not whole.
        let _ = std::fs::remove_file(path);
    }
}

/// A file that does not have its name yet. Without [`Partial::finish`] it goes away again.
#[derive(Debug)]
pub struct Partial {
    temporary: PathBuf,
    path: PathBuf,
}

impl Partial {
    /// The file that will be called `path`; nothing is written.
    pub fn new(path: &Path) -> Self {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        // The process id keeps two runs into one folder apart.
        name.push(format!(".{}.partial", std::process::id()));
        let temporary = path.with_file_name(name);
        PARTIALS.lock().push(temporary.clone());
        Self { temporary, path: path.to_owned() }
    }

    /// Where it is to be written.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The name that it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, replacing an older file.
    ///
    /// # Errors
    /// It can't be renamed.
    pub fn finish(self) -> Result<(), OutputError> {
        let mut partials = PARTIALS.lock();
        std::fs::rename(&self.temporary, &self.path).map_err(|error| OutputError::new(&self.path, error))?;
        partials.retain(|path| *path != self.temporary);
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let mut partials = PARTIALS.lock();
        if let Some(position) = partials.iter().position(|path| *path == self.temporary) {
            partials.swap_remove(position);
            // As above.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// A file that is written from its beginning to its end, and has its name when it is whole.
#[derive(Debug)]
pub struct Output {
    file: BufWriter<Box<dyn Target>>,
    partial: Partial,
}

/// What the bytes go through on the way to the file.
trait Target: Write + std::fmt::Debug + Send {
    fn end(&mut self) -> io::Result<()>;
}

impl Target for File {
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for GzEncoder<File> {
    fn end(&mut self) -> io::Result<()> {
        self.try_finish()
    }
}

impl Output {
    /// Begins the file that will be called `path`. One that ends in `.gz` is packed.
    ///
    /// # Errors
    /// The folder can't be written to.
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        let partial = Partial::new(path);
        let file = File::create(partial.temporary()).map_err(|error| OutputError::new(path, error))?;
        let is_packed = path.extension().is_some_and(|ending| ending == "gz");
        let target: Box<dyn Target> =
            if is_packed { Box::new(GzEncoder::new(file, Compression::fast())) } else { Box::new(file) };
        Ok(Self { file: BufWriter::with_capacity(1 << 20, target), partial })
    }

    /// Gives the file its name, replacing an older one.
    ///
    /// # Errors
    /// The last bytes can't be written, or the file can't be renamed.
    pub fn finish(mut self) -> Result<(), OutputError> {
        let ended = self.file.flush().and_then(|()| self.file.get_mut().end());
        ended.map_err(|error| self.error(error))?;
        self.partial.finish()
    }

    /// The name that the file will have.
    pub fn path(&self) -> &Path {
        self.partial.path()
    }

    /// An error of writing it.
    pub fn error(&self, error: io::Error) -> OutputError {
        OutputError::new(self.path(), error)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Removes a folder of outputs with all that is in it, if it is there.
///
/// # Errors
/// It can't be removed.
pub fn remove_folder(folder: &Path) -> Result<(), OutputError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OutputError::new(folder, error)),
        _ => Ok(()),
    }
}

/// Writes one output. If there is nothing to write, no file appears.
///
/// # Errors
/// It can't be written.
pub fn write(
    path: &Path,
    rows: impl FnOnce(&mut Output) -> io::Result<Outcome>,
) -> Result<Outcome, OutputError> {
    let mut output = Output::create(path)?;
    let outcome = rows(&mut output).map_err(|error| OutputError { path: path.to_owned(), error })?;
    if !matches!(outcome, Outcome::Nothing(_)) {
        output.finish()?;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Vec<String> {
        let entries = folder.read_dir().unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("request.csv");
        let outcome = write(&path, |out| {
            out.write_all(b"one\n")?;
            assert!(!path.exists());
            Ok(Outcome::Rows(1))
        });
        assert_eq!(outcome.unwrap(), Outcome::Rows(1));
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
        assert_eq!(files(folder.path()), ["request.csv"]);
    }

    #[test]
    fn nothing_is_left_of_an_output_that_failed_or_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("batch.csv");
        let error = write(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("disk on fire"))
        });
        assert!(error.unwrap_err().to_string().contains("batch.csv: disk on fire"));
        let nothing = write(&path, |_| Ok(Outcome::Nothing("no rows")));
        assert_eq!(nothing.unwrap(), Outcome::Nothing("no rows"));
        assert!(files(folder.path()).is_empty());
    }
}
