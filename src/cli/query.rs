//! `msprof-rs query`: SQL over a session's tables.

use std::path::{Path, PathBuf};

use clap::Args;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use thiserror::Error;

use super::parse::{Format, ParseOptions, parse};
use super::report::{Cell, Form, Report, print};
use super::{EXIT_FAILED, EXIT_FINE, ParseError};
use crate::files::{self, Scratch};

/// Ask a session's tables with SQL
#[derive(Debug, Args)]
pub(super) struct Query {
    /// Folder with a profiler.db that `parse` wrote, or with the captures of a session, or a database
    folder: PathBuf,

    /// The question; `SELECT name, sql FROM sqlite_master` shows what there is
    sql: String,

    #[command(flatten)]
    form: Form,
}

/// Why there is no answer.
#[derive(Debug, Error)]
enum QueryError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("cannot make a temporary folder: {0}. Set TMPDIR to a folder that can be written to")]
    Temporary(std::io::Error),
    #[error("{path}: the database can't be read: {error}")]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{error}. There are {tables}")]
    NoTable { error: rusqlite::Error, tables: String },
    #[error("{0}")]
    Sql(#[from] rusqlite::Error),
}

impl Query {
    pub(super) fn run(&self) -> u8 {
        match self.answer() {
            Ok((report, code)) => {
                print(&[report], self.form);
                code
            }
            Err(error) => {
                log::error!("{error}");
                EXIT_FAILED
            }
        }
    }

    /// The answer, and the exit code.
    fn answer(&self) -> Result<(Report, u8), QueryError> {
        let written = self.folder.join("profiler.db");
        let is_database = self.folder.extension().is_some_and(|ending| ending == "db")
            && !self.folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ms_service"));
        if is_database || written.exists() {
            let file = if is_database { &self.folder } else { &written };
            return Ok((ask(&open(file)?, &self.sql)?, EXIT_FINE));
        }
        let folder = Scratch::create(&std::env::temp_dir()).map_err(QueryError::Temporary)?;
        let options = ParseOptions {
            input_path: self.folder.clone(),
            output_path: folder.path().to_owned(),
            format: vec![Format::Db],
            timezone: None,
            gzip: false,
            span: None,
        };
        let code = parse(&options, false)?.exit_code();
        let database = open(&folder.path().join("profiler.db"))?;
        // The file stays until it is closed, but not longer: an end by Ctrl-C leaves nothing behind.
        drop(folder);
        Ok((ask(&database, &self.sql)?, code))
    }
}

fn open(database: &Path) -> Result<Connection, QueryError> {
    let unreadable = |error| QueryError::Unreadable { path: database.into(), error };
    files::open_regular(database).map_err(unreadable)?;
    Ok(Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

fn ask(connection: &Connection, sql: &str) -> Result<Report, QueryError> {
    answer(connection, sql).map_err(|error| match tables(connection) {
        Ok(tables) if error.to_string().contains("no such table") && !tables.is_empty() => {
            QueryError::NoTable { error, tables }
        }
        _ => QueryError::Sql(error),
    })
}

/// The names of all tables and views.
fn tables(connection: &Connection) -> rusqlite::Result<String> {
    let sql = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    Ok(names.collect::<rusqlite::Result<Vec<_>>>()?.join(", "))
}

fn answer(connection: &Connection, sql: &str) -> rusqlite::Result<Report> {
    let mut statement = connection.prepare(sql)?;
    let mut report =
        Report { columns: statement.column_names().map(Into::into).collect(), ..Report::default() };
    let count = report.columns.len();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let cell = |column| {
            Ok(match row.get_ref(column)? {
                ValueRef::Null => Cell::Empty,
                ValueRef::Integer(number) => Cell::Int(number),
                ValueRef::Real(number) => Cell::Number(number, 6),
                ValueRef::Text(text) | ValueRef::Blob(text) => {
                    Cell::Text(String::from_utf8_lossy(text).into_owned())
                }
            })
        };
        report.rows.push((0..count).map(cell).collect::<rusqlite::Result<_>>()?);
    }
    Ok(report)
}
