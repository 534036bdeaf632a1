//! `msprof-rs query`: SQL over a session's tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rusqlite::ErrorCode;
use rusqlite::types::ValueRef;
use thiserror::Error;

use super::parse::{Format, ParseOptions, parse};
use super::report::{Cell, Form, Report, print};
use super::{EXIT_FAILED, EXIT_FINE, ParseError, told_exit_code};
use crate::database::{Database, Views};
use crate::files::Scratch;
use crate::printable::shortened;

/// Ask a session's tables with SQL
#[derive(Debug, Args)]
pub(super) struct Query {
    /// Folder with a profiler.db that `parse` wrote, or with the captures of a session, or a database
    folder: PathBuf,

    /// The question; `SELECT name, sql FROM sqlite_master` shows what there is
    sql: String,

    /// Give up after so many seconds; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    time_limit: u64,

    #[command(flatten)]
    pub(super) form: Form,
}

/// Most bytes of an answer: it is in memory as a whole, since its columns are as wide as their widest cell.
const MOST: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
enum QueryError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("cannot make a temporary folder: {0}. Set TMPDIR to a folder that can be written to")]
    Temporary(std::io::Error),
    #[error("{path}: the database can't be read: {error}")]
    Unreadable { path: PathBuf, error: rusqlite::Error },
    #[error("query reads and does nothing else: {0}")]
    NoReading(rusqlite::Error),
    #[error("no answer within {0} seconds; --time-limit gives it more")]
    TooLong(u64),
    #[error("the answer has more than {} MB; ask for less of it, or for a sum", MOST >> 20)]
    TooMuch,
    #[error("this asks for nothing: a question is a statement such as `SELECT name FROM sqlite_master`")]
    NoQuestion,
    #[error("{error}. There are {tables}")]
    NoTable { error: rusqlite::Error, tables: String },
    #[error("{0}")]
    Sql(rusqlite::Error),
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
            return Ok((self.ask(&self.open(file)?)?, EXIT_FINE));
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
        let parsed = parse(&options, false)?;
        let code = told_exit_code(&parsed.intake, &parsed.tally);
        let database = self.open(&folder.path().join("profiler.db"))?;
        // The file stays until it is closed, but not longer: an end by Ctrl-C leaves nothing behind.
        drop(folder);
        Ok((self.ask(&database)?, code))
    }

    fn open(&self, file: &Path) -> Result<Database, QueryError> {
        let limit = if self.time_limit == 0 { Duration::MAX } else { Duration::from_secs(self.time_limit) };
        let unreadable = |error| QueryError::Unreadable { path: file.into(), error };
        Database::open(file, limit, Views::Asked).map_err(unreadable)
    }

    fn ask(&self, database: &Database) -> Result<Report, QueryError> {
        let told = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::AuthorizationForStatementDenied | ErrorCode::ReadOnly) => {
                QueryError::NoReading(error)
            }
            _ if database.took_too_long(&error) => QueryError::TooLong(self.time_limit),
            _ if error.to_string().contains("no such table") => {
                database.go_on();
                match tables(database) {
                    Ok(tables) if !tables.is_empty() => QueryError::NoTable { error, tables },
                    _ => QueryError::Sql(error),
                }
            }
            _ => QueryError::Sql(error),
        };
        if self.sql.trim().is_empty() {
            return Err(QueryError::NoQuestion); // SQLite calls it a misuse
        }
        let mut statement = database.connection().prepare(&self.sql).map_err(told)?;
        let columns: Vec<String> = statement.column_names().map(Into::into).collect();
        let mut report = Report { columns, ..Report::default() };
        let (count, mut bytes) = (report.columns.len(), 0);
        let mut rows = statement.query([]).map_err(told)?;
        while let Some(row) = rows.next().map_err(told)? {
            let cells = (0..count).map(|column| row.get_ref(column).map(cell));
            let cells: Vec<Cell> = cells.collect::<Result<_, _>>().map_err(told)?;
            bytes += cells.iter().map(Cell::bytes).sum::<usize>();
            if bytes > MOST {
                return Err(QueryError::TooMuch);
            }
            report.rows.push(cells);
        }
        Ok(report)
    }
}

/// The names of the tables and views.
fn tables(database: &Database) -> rusqlite::Result<String> {
    let sql = "SELECT name FROM sqlite_master \
               WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY name LIMIT 100";
    let mut statement = database.connection().prepare(sql)?;
    let names = statement.query_map([], |row| Ok(shortened(&row.get::<_, String>(0)?)))?;
    Ok(names.collect::<rusqlite::Result<Vec<_>>>()?.join(", "))
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Empty,
        ValueRef::Integer(number) => Cell::Int(number),
        ValueRef::Real(number) => Cell::Number(number, 6),
        ValueRef::Text(text) | ValueRef::Blob(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
    }
}
