//! `profiler.db`: the timeline and all tables in one SQLite database, with msServiceProfiler's names.

mod tables;
mod trace;

use std::path::Path;

use rusqlite::Connection;

use super::output::{OutputError, Partial};

pub use tables::write as write_tables;
pub use trace::TraceTables;

/// A database that does not have its name yet.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    partial: Partial,
}

impl Database {
    /// Begins the database that will be called `path`, with its schema.
    ///
    /// # Errors
    /// It can't be written.
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        let partial = Partial::new(path);
        let open = || {
            let connection = Connection::open(partial.temporary())?;
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
        Ok(Self { connection, partial })
    }

    /// The database, to be read and written.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Gives the database its name, replacing an older one.
    ///
    /// # Errors
    /// The last pages can't be written, or the file can't be renamed.
    pub fn finish(self) -> Result<(), OutputError> {
        let Self { connection, partial } = self;
        connection
            .execute_batch("COMMIT")
            .and_then(|()| connection.close().map_err(|(_, error)| error))
            .map_err(|error| OutputError::other(partial.path(), error))?;
        partial.finish()
    }

    fn error(&self, error: rusqlite::Error) -> OutputError {
        OutputError::other(self.partial.path(), error)
    }
}
