//! The outputs, one file per deliverable. Each takes rows or records and a writer; [`delivery`] puts all of them into
//! their folder when they are whole.

pub mod batch_csv;
pub mod chrome;
pub mod delivery;
pub mod experts;
mod flows;
pub mod forward_csv;
pub mod handoff_csv;
mod json;
mod kind;
pub mod kvcache_csv;
mod manifest;
pub mod output;
pub mod parquet;
pub mod perfetto;
mod picture;
mod process_rows;
pub mod request_csv;
pub mod request_status_csv;
pub mod spec_decode_csv;
pub mod spreadsheet;
pub mod sqlite;
pub mod summary_csv;
pub mod timeline;
pub mod times;

pub use kind::Kind;

/// What came of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was written, with so many rows.
    Rows(u64),
    /// It was written, with so many bytes.
    Bytes(u64),
    /// It was not written, because there is nothing to write; the text says what is missing.
    Nothing(&'static str),
}

impl Outcome {
    /// So many rows were written; if none, why.
    fn of_rows(rows: u64, why_not: &'static str) -> Self {
        if rows > 0 { Self::Rows(rows) } else { Self::Nothing(why_not) }
    }
}
