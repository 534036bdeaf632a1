//! The tables: requests, batches, KV cache, queues, forward steps and what follows from them, built from records one at
//! a time. Each figure is defined once, in the file of its table.
//!
//! Each builder takes records with `push`, in the order in which they ended, and gives its rows with `finish`.
//! [`Tables`] runs them all.

mod batches;
mod difference;
mod distribution;
mod engine;
mod experts;
mod figures;
mod forwards;
mod handoff;
mod ids;
mod kv_cache;
mod queues;
mod request;
mod requests;
mod resources;
mod speeds;
mod summary;
mod tables;

pub use batches::{BATCH_NAMES, Batch, BatchTable, Batches, Draft, SCHEDULE_NAMES};
pub use difference::{Difference, Series, difference};
pub use distribution::{Distribution, percentile};
pub use engine::{Engine, Gap};
pub use experts::{Balance, ExpertTables, Experts, Instance, LAYERS, Loads, Placement};
pub use figures::Figures;
pub use forwards::{Forward, Forwards};
pub use handoff::{Dispatched, Handoff, HandoffTables, Handover, Pull};
pub use ids::{Ids, RequestId};
pub use kv_cache::{KvCache, KvForms, KvRow, KvState, is_kv_domain};
pub use queues::{QueueRow, Queues};
pub use request::{Marks, Request, Shares};
pub use requests::Requests;
pub use resources::{Amount, Phase, Resource, Resources, Shape};
pub use speeds::{Speeds, WINDOW, Window, Windowed, Windows};
pub use summary::{Summaries, Summary};
pub use tables::{Model, Tables};
