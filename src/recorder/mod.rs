//! One recorder per process: it follows the collection config, makes the session folder, gives each thread its ring,
//! and takes what the threads committed to the trace file.
//!
//! The hooks call [`begin`], [`end`], [`instant`] and friends; nothing else of a recording process is on their path.

mod facts;
mod flusher;
mod gate;
mod limits;
mod rendezvous;
mod session;
mod termination;
mod thread;

pub use flusher::{Options, activate, forked_child, shutdown};
pub use gate::Gate;
pub use limits::limits;
pub use thread::{AsyncOpen, Open, async_begin, async_end, begin, end, instant, is_recording, meta};
