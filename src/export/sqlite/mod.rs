//! `profiler.db`: the timeline and all tables in one SQLite database, with msServiceProfiler's names.

mod tables;
mod trace;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::output::OutputError;
use crate::files;

pub use tables::write as write_tables;
pub use trace::TraceTables;

/// A database that is being written.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Begins the database, with its schema.
    ///
    /// # Errors
    /// It can't be written, or there is such a file already.
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        // SQLite takes an empty file for an empty database.
        files::create_in_scratch(path).map_err(|error| OutputError::new(path, error))?;
        // A link in the place of that file is refused, and so are those on the way to it.
        let folder = path.parent().unwrap_or(path).canonicalize();
        let real = folder
            .map(|folder| folder.join(path.file_name().unwrap_or_default()))
            .map_err(|error| OutputError::new(path, error))?;
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX
                | OpenFlags::SQLITE_OPEN_NOFOLLOW;
            let connection = Connection::open_with_flags(real, flags)?;
            // It is whole or not there at all, so nothing has to be kept safe on the way.
            connection.execute_batch(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; \
                 PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;",
            )?;
            connection.execute_batch(include_str!("schema.sql"))?;
            connection.execute_batch("BEGIN")?;
            Ok(connection)
        };
        let connection = open().map_err(|error: rusqlite::Error| OutputError::other(path, error))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// The database, to be read and written.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Writes the last pages.
    ///
    /// # Errors
    /// They can't be written.
    pub fn finish(self) -> Result<(), OutputError> {
        let Self { connection, path } = self;
        connection
            .execute_batch("COMMIT")
            .and_then(|()| connection.close().map_err(|(_, error)| error))
            .map_err(|error| OutputError::other(&path, error))
    }

    fn error(&self, error: rusqlite::Error) -> OutputError {
        OutputError::other(&self.path, error)
    }
}
