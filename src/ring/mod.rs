//! One lock-free ring per thread: a single producer, a single consumer, in a mapping that outlives the process.
//!
//! Bytes before `head` and from `tail` on are committed records. They live in a shared file mapping, so a
//! `kill -9` loses nothing: whoever reads the capture drains what the flusher had not taken. A full ring drops the
//! newest record and counts it; the producer never waits.

mod consumer;
mod layout;
#[cfg_attr(model_check, path = "modelled.rs")]
mod mapped;
mod memory;
mod places;
mod producer;

#[cfg(model_check)]
use loom::sync::atomic;
#[cfg(not(model_check))]
use std::sync::atomic;

pub use consumer::Consumer;
pub use layout::{Kind, Owner, Record, State};
pub use memory::{Place, Ring, RingError};
pub use places::{
    Elsewhere, SharedFolder, folders_of, names_name, recorder_of, remove_moved, ring_name, rings_left, sweep,
};
pub use producer::{Begun, Filled, Next, Producer, new_span_id};
