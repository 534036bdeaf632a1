//! Reads events: finds a session's files, ours and those of other tools, and yields [`Record`](crate::event::Record)s in
//! the order in which they ended, over all threads, processes and hosts.

mod captures;
mod chrome_trace;
mod copies;
#[cfg(test)]
mod damaged;
#[cfg(test)]
pub(crate) mod fixture;
mod folder;
mod imports;
mod intake;
mod json;
mod leavings;
mod machines;
mod msprof;
mod msserviceprofiler;
mod places;
mod records;
mod recover;
mod rings;
mod session;
mod stated;

pub use captures::{Captures, SourceError};
pub use folder::{CaptureFiles, find};
pub use imports::Damaged;
pub use intake::{DamagedFile, Intake, Refusal, WithoutBeginning};
pub use leavings::Unread;
pub use records::{CaptureRecords, Tally};
pub use recover::{Recovered, recover};
pub use session::{Records, Session};
