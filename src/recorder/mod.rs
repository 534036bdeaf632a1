//! One recorder per process: it follows the collection config, makes the session folder, gives each thread its ring,
//! and takes what the threads committed to the trace file.
//!
//! The hooks call [`begin`], [`end`], [`instant`] and friends; nothing else of a recording process is on their path.

mod activation;
mod capture_file;
mod door;
mod facts;
mod flight;
mod flusher;
mod gate;
mod limits;
mod names_file;
mod rendezvous;
mod ring_places;
mod role;
mod session;
mod signals;
mod steps;
mod stock;
mod thread;
mod trouble;

pub use activation::{DumpError, Options, activate, ask_for_dump, dump, forked_child, shutdown, switch};
pub use gate::{Gate, collects};
pub use limits::limits;
pub use rendezvous::Attendance;
pub use role::{Role, has_role, set_role};
pub use steps::step;
pub use thread::{
    AsyncOpen, Mute, Open, async_begin, async_end, begin, counter, end, instant, is_muted, is_recording,
    loose_begin, meta, mute, session, unmuted,
};
