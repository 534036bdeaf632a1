//! The tables: requests, batches, KV cache and forward steps, built from records one at a time.
//!
//! Each builder takes records with `push`, in the order in which they ended, and gives its rows with `finish`.
//! [`Tables`] runs them all.

mod batches;
mod engine;
mod figures;
mod forwards;
mod kv_cache;
mod requests;
mod resources;
mod tables;

pub use batches::{BATCH_NAMES, Batch, Batches, SCHEDULE_NAMES};
pub use engine::Engine;
pub use figures::{Figures, percentile};
pub use forwards::{Forward, Forwards};
pub use kv_cache::{KvCache, KvRow, KvState, is_kv_domain};
pub use requests::{Request, Requests};
pub use resources::{Amount, Ids, Phase, RequestId, Resource, Resources, Shape, batch_type};
pub use tables::{Model, Tables};
