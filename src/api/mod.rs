//! What users' own code records with: spans, events and counters, and the `Profiler` of msServiceProfiler.

mod decorator;
mod harmless;
mod labels;
mod profiler;
mod spans;

pub(crate) use decorator::timed;
pub(crate) use profiler::Profiler;
pub(crate) use spans::{Span, add_to};
