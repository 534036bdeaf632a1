//! Files that appear whole or not at all: written under a temporary name, then renamed. Used by every output.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

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

/// A file that does not have its name yet. Without [`Output::finish`] it goes away again.
#[derive(Debug)]
pub struct Output {
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    path: PathBuf,
}

impl Output {
    /// Begins the file that will be called `path`.
    ///
    /// # Errors
    /// The folder can't be written to.
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        // The process id keeps two runs into one folder apart.
        name.push(format!(".{}.partial", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary).map_err(|error| OutputError { path: path.to_owned(), error })?;
        Ok(Self { file: Some(BufWriter::with_capacity(1 << 20, file)), temporary, path: path.to_owned() })
    }

    /// Gives the file its name, replacing an older one.
    ///
    /// # Errors
    /// The last bytes can't be written, or the file can't be renamed.
    pub fn finish(mut self) -> Result<(), OutputError> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let named = file.flush().and_then(|()| std::fs::rename(&self.temporary, &self.path));
        named.map_err(|error| {
            // What is left of it is of no use; that it could not be removed adds nothing to the first error.
            let _ = std::fs::remove_file(&self.temporary);
            OutputError { path: self.path.clone(), error }
        })
    }

    /// The name that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_mut().map_or(Err(io::ErrorKind::BrokenPipe.into()), |file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Nothing can be done about a file that can't be removed, and its name says that it is not whole.
            let _ = std::fs::remove_file(&self.temporary);
        }
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
    if matches!(outcome, Outcome::Rows(_)) {
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
