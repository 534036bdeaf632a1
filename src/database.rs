//! SQLite databases that somebody else may have made, and what somebody else may ask them: opened to read and for nothing
//! else, with limits to the time and the memory that a statement takes.

use std::ffi::c_int;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::files;

/// Most bytes of one value, and of one row.
const LONGEST_VALUE: c_int = 64 << 20;

/// Most bytes that SQLite takes from memory: what is sorted or put together on the way goes into temporary files.
const MEMORY: u64 = 1 << 30;

/// Steps of SQLite's machine between two looks at the clock.
const STEPS: c_int = 20_000;

/// The pragmas that only tell something, given a value or not.
const TELLING: [&str; 13] = [
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "pragma_list",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// The pragmas that tell something as long as they are given no value.
const TELLING_WITHOUT_VALUE: [&str; 7] = [
    "application_id",
    "encoding",
    "freelist_count",
    "page_count",
    "page_size",
    "schema_version",
    "user_version",
];

/// Whether the database may have views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Views {
    /// They are asked like tables.
    Asked,
    /// One that stands in a table's place is an error.
    Refused,
}

/// A database that is read.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    patience: Arc<Patience>,
}

/// How long a statement may go on without a row that is wanted.
#[derive(Debug)]
struct Patience {
    opened: Instant,
    /// Milliseconds after that.
    last: AtomicU64,
    limit: Duration,
}

impl Patience {
    fn is_over(&self) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(last) > self.limit
    }
}

impl Database {
    /// Opens a regular file. A statement is interrupted after `patience` without [`Database::go_on`].
    ///
    /// # Errors
    /// It can't be opened, or is no database.
    pub fn open(file: &Path, patience: Duration, views: Views) -> rusqlite::Result<Self> {
        files::open_regular(file).map_err(unreadable)?;
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        if connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(())).is_ok() {
            return Self::restricted(connection, patience, views);
        }
        // A log beside it (`-wal`) can't be taken in where the folder is not ours to write; the rest is readable.
        let file = std::path::absolute(file).map_err(unreadable)?;
        let text = file.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(format!("file:{text}?immutable=1"), flags)?;
        Self::restricted(connection, patience, views)
    }

    fn restricted(mut connection: Connection, limit: Duration, views: Views) -> rusqlite::Result<Self> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, views == Views::Asked)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST_VALUE)?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        // Of the whole process, in which nobody else needs more.
        connection.query_row(&format!("PRAGMA hard_heap_limit = {MEMORY}"), [], |_| Ok(()))?;
        let patience = Arc::new(Patience { opened: Instant::now(), last: AtomicU64::new(0), limit });
        let watched = patience.clone();
        connection.progress_handler(STEPS, Some(move || watched.is_over()))?;
        connection.authorizer(Some(only_reading))?;
        Ok(Self { connection, patience })
    }

    /// What statements are made from.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Says that the statement gets on: the time counts anew.
    pub fn go_on(&self) {
        self.patience.last.store(self.patience.opened.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether an error says that it took too long.
    pub fn took_too_long(&self, error: &rusqlite::Error) -> bool {
        error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
    }
}

/// An error of the file system, as one of SQLite's.
fn unreadable(error: io::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

/// SQLite asks this for each thing that a statement would do.
fn only_reading(asked: AuthContext<'_>) -> Authorization {
    let is_allowed = match asked.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => !function_name.eq_ignore_ascii_case("load_extension"),
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let is_one = |known: &[&str]| known.iter().any(|name| name.eq_ignore_ascii_case(pragma_name));
            is_one(&TELLING) || pragma_value.is_none() && is_one(&TELLING_WITHOUT_VALUE)
        }
        _ => false,
    };
    if is_allowed { Authorization::Allow } else { Authorization::Deny }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// A database of this schema, in a folder of its own.
    fn with(schema: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        Connection::open(&file).unwrap().execute_batch(schema).unwrap();
        (folder, file)
    }

    /// The first value of a statement's first row.
    fn ask(database: &Database, sql: &str) -> rusqlite::Result<String> {
        let mut statement = database.connection().prepare(sql)?;
        let mut rows = statement.query([])?;
        let Some(row) = rows.next()? else { return Ok(String::new()) };
        Ok(format!("{:?}", row.get_ref(0)?))
    }

    #[test]
    fn statements_that_write_anywhere_are_refused() {
        let (folder, file) = with(
            "CREATE TABLE t (a); CREATE INDEX i ON t (a); INSERT INTO t VALUES (1); PRAGMA user_version = 7;",
        );
        let database = Database::open(&file, LONG, Views::Asked).unwrap();
        let other = folder.path().join("other.db");
        let other = other.display();
        for sql in [
            format!("VACUUM INTO '{other}'"),
            format!("ATTACH '{other}' AS o"),
            "VACUUM".into(),
            "DETACH main".into(),
            "INSERT INTO t VALUES (2)".into(),
            "DELETE FROM t".into(),
            "CREATE TEMP TABLE u (a)".into(),
            "CREATE VIRTUAL TABLE temp.v USING fts5(a)".into(),
            "PRAGMA journal_mode = DELETE".into(),
            "PRAGMA wal_checkpoint".into(),
            "PRAGMA user_version = 8".into(),
            "PRAGMA writable_schema = 1".into(),
            "PRAGMA hard_heap_limit = 0".into(),
            "PRAGMA trusted_schema = 1".into(),
            "PRAGMA temp_store_directory = '/'".into(),
            "SELECT load_extension('/x.so')".into(),
            "SELECT writefile('/x', 'y')".into(),
            "BEGIN IMMEDIATE".into(),
            "ANALYZE".into(),
            "REINDEX".into(),
        ] {
            let asked = ask(&database, &sql);
            assert!(asked.is_err(), "{sql}: {asked:?}");
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "no file was made");
        for sql in [
            "SELECT a FROM t",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT max(i) FROM n",
            "SELECT name FROM pragma_table_info('t')",
            "PRAGMA table_info(t)",
            "PRAGMA user_version",
            "SELECT value FROM json_each('[1]')",
            "EXPLAIN QUERY PLAN SELECT * FROM t",
            "SELECT sql FROM sqlite_master",
        ] {
            assert!(ask(&database, sql).is_ok_and(|answer| !answer.is_empty()), "{sql}");
        }
    }

    #[test]
    fn a_statement_without_end_ends() {
        let endless =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let (_folder, file) = with(&format!("CREATE VIEW v AS {endless}; CREATE VIEW w AS SELECT 1"));
        let database = Database::open(&file, Duration::from_millis(50), Views::Asked).unwrap();
        for sql in [endless, "SELECT * FROM v"] {
            database.go_on();
            let error = ask(&database, sql).unwrap_err();
            assert!(database.took_too_long(&error), "{error}");
        }
        let database = Database::open(&file, LONG, Views::Refused).unwrap();
        let error = ask(&database, "SELECT * FROM w").unwrap_err();
        assert!(error.to_string().contains("access to view \"w\" prohibited"), "{error}");
    }

    #[test]
    fn no_value_is_larger_than_memory_should_hold() {
        let (_folder, file) =
            with("CREATE TABLE t (a, b AS (zeroblob(900000000))); INSERT INTO t VALUES (1);");
        let database = Database::open(&file, LONG, Views::Asked).unwrap();
        for sql in
            ["SELECT b FROM t", "SELECT printf('%.*c', 900000000, 'x')", "SELECT hex(zeroblob(50000000))"]
        {
            assert!(ask(&database, sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let error = Database::open(folder.path(), LONG, Views::Asked).unwrap_err();
        assert!(error.to_string().contains("a folder"), "{error}");
    }
}
