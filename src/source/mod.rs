//! Reads events: finds a session's capture files, and yields [`Record`](crate::event::Record)s in the order in which
//! they ended, over all threads, processes and hosts.

mod captures;
#[cfg(test)]
pub(crate) mod fixture;
mod folder;
mod places;
mod records;
mod recover;
mod rings;

pub use captures::{Captures, Intake, Refusal, SourceError, TornFile};
pub use folder::{CaptureFiles, find};
pub use records::{Records, Tally};
pub use recover::{Recovered, recover};
