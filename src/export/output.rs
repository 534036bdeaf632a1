//! A file of an output, written from its beginning to its end. It is made new, readable for this user alone, in the
//! folder of a [delivery](super::delivery), which puts it into its place.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use thiserror::Error;

use super::Outcome;
use crate::files;

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

/// A file that is being written.
#[derive(Debug)]
pub struct Output {
    file: BufWriter<Box<dyn Target>>,
    path: PathBuf,
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
    /// Makes the file. One that ends in `.gz` is packed.
    ///
    /// # Errors
    /// The folder can't be written to, or has such a file already.
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        let file = files::create_in_scratch(path).map_err(|error| OutputError::new(path, error))?;
        let is_packed = path.extension().is_some_and(|ending| ending == "gz");
        let target: Box<dyn Target> =
            if is_packed { Box::new(GzEncoder::new(file, Compression::fast())) } else { Box::new(file) };
        Ok(Self { file: BufWriter::with_capacity(1 << 20, target), path: path.to_owned() })
    }

    /// Writes the last bytes.
    ///
    /// # Errors
    /// They can't be written.
    pub fn finish(mut self) -> Result<(), OutputError> {
        let ended = self.file.flush().and_then(|()| self.file.get_mut().end());
        ended.map_err(|error| self.error(error))
    }

    /// Removes it again: there is nothing to be written.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn discard(self) -> Result<(), OutputError> {
        std::fs::remove_file(&self.path).map_err(|error| self.error(error))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
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

/// Writes one output. If there is nothing to write, no file appears.
///
/// # Errors
/// It can't be written.
pub fn write(
    path: &Path,
    rows: impl FnOnce(&mut Output) -> io::Result<Outcome>,
) -> Result<Outcome, OutputError> {
    let mut output = Output::create(path)?;
    let outcome = rows(&mut output).map_err(|error| output.error(error))?;
    if matches!(outcome, Outcome::Nothing(_)) {
        output.discard()?;
    } else {
        output.finish()?;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there_and_an_output_of_nothing_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("request.csv");
        let outcome = write(&path, |out| {
            out.write_all(b"one\n")?;
            Ok(Outcome::Rows(1))
        });
        assert_eq!(outcome.unwrap(), Outcome::Rows(1));
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
        let nothing = write(&folder.path().join("batch.csv"), |_| Ok(Outcome::Nothing("no rows")));
        assert_eq!(nothing.unwrap(), Outcome::Nothing("no rows"));
        assert!(!folder.path().join("batch.csv").exists());
    }

    #[test]
    fn an_output_is_made_new_and_never_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let [path, victim] = ["request.csv", "victim"].map(|name| folder.path().join(name));
        std::fs::write(&victim, "theirs").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        let error = Output::create(&path).unwrap_err();
        assert!(error.to_string().contains("request.csv"), "{error}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "theirs");
    }

    #[test]
    fn an_error_names_the_output() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("batch.csv"), |_| Err(io::Error::other("disk on fire")));
        assert!(error.unwrap_err().to_string().contains("batch.csv: disk on fire"));
    }
}
