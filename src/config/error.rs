//! What can be wrong with a collection config: errors, which leave collection off, and warnings, which don't.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A collection config that can't be used; collection stays off and the server goes on.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The text is no JSON.
    #[error("{}: not valid JSON: {problem}; collection stays off until the file is put right", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the JSON parser says, with line and column.
        problem: String,
    },
    /// JSON, but not an object.
    #[error("{}: must be a JSON object such as {{\"enable\": 0}}; collection stays off until the file is put right", path.display())]
    NotAnObject {
        /// The file.
        path: PathBuf,
    },
    /// The file is missing and may not be made there.
    #[error("{}: the file is missing and is not created: {reason}; collection stays off", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The check that failed, and what would help.
        reason: &'static str,
    },
    /// Collection can't be switched in the file.
    #[error(
        "{}: can't be written: {source}. \"enable\" is still {former} there, and that is what the next start of the \
         server will follow; set it to {enable} by hand",
        path.display()
    )]
    NotSwitched {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        enable: i32,
        /// What is there.
        former: i32,
        /// Why it can't be written.
        source: io::Error,
    },
    /// The operating system said no.
    #[error("{}: can't {action} the file: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: a verb.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// A part of a collection config that has no effect as it stands.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Warning {
    /// A key has a value that it can't have.
    #[error("{}: \"{key}\": {value} is not {expected}; {used} is used instead", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// The value as JSON, cut if it is long.
        value: String,
        /// What the key can have.
        expected: &'static str,
        /// What is used in its place.
        used: String,
    },
    /// Keys ask for something that only the hardware of other profilers has.
    #[error("{}: no effect here, since this profiler does not profile hardware: {keys}", path.display())]
    NoEffect {
        /// The file.
        path: PathBuf,
        /// The keys, quoted, comma-separated.
        keys: String,
    },
    /// Keys that the object has more than once.
    #[error("{}: keys that are there twice, of which the last counts: {keys}", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The keys, quoted, comma-separated.
        keys: String,
    },
    /// Keys that nobody knows.
    #[error("{}: unknown keys have no effect: {keys}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The keys, quoted, comma-separated.
        keys: String,
    },
}
