//! vLLM v1: a file for each part of the server whose objects a handler reads.

mod batch;
pub(super) mod executor;
pub(super) mod frontend;
pub(super) mod kv_cache;
mod requests;
pub(super) mod runner;
pub(super) mod scheduler;
