//! What users' own code records with: spans, events and counters, and the `Profiler` of msServiceProfiler.

mod labels;
mod profiler;
mod span;
mod timed;

pub(crate) use profiler::Profiler;
pub(crate) use span::{Span, counter, event, span};
pub(crate) use timed::timed;
