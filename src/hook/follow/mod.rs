//! Follows what a call only makes to its end: a coroutine, a generator, a future, a `with` block.
//!
//! The caller gets a real coroutine or generator (`msprof_rs/_follow.py`) that hands everything on to a [`Step`], which
//! runs the original and takes the time.

mod context;
mod ending;
mod future;
mod methods;
mod slots;
mod step;
mod thrown;
mod trampoline;

pub(super) use context::context;
pub(super) use ending::record_failure;
pub(crate) use ending::{Ending, Follower};
pub(super) use future::future;
pub(crate) use step::returned;
pub(super) use trampoline::Trampoline;
