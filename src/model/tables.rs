//! All tables at once: what `parse` runs each record through.

use std::io;

use super::batches::{BatchTable, Batches};
use super::engine::{Engine, Gap};
use super::experts::{ExpertTables, Experts};
use super::figures::Figures;
use super::forwards::{Forward, Forwards};
use super::handoff::{Handoff, HandoffTables};
use super::ids::Ids;
use super::kv_cache::{KvCache, KvForms, KvRow};
use super::queues::{QueueRow, Queues};
use super::request::Request;
use super::requests::Requests;
use super::resources::Resources;
use super::speeds::{Speeds, Windows};
use super::summary::{Summaries, Summary};
use crate::event::{Kind, Places, Record};
use crate::spool::Sorted;

/// Builds all tables.
#[derive(Debug, Default)]
pub struct Tables {
    ids: Ids,
    resources: Resources,
    requests: Requests,
    batches: Batches,
    kv_cache: KvCache,
    forwards: Forwards,
    queues: Queues,
    speeds: Speeds,
    handoff: Handoff,
    summaries: Summaries,
    engine: Engine,
    experts: Experts,
}

/// The finished tables.
#[derive(Debug)]
pub struct Model {
    /// The request ids that rows refer to.
    pub ids: Ids,
    /// By arrival.
    pub requests: Vec<Request>,
    /// By start.
    pub batches: BatchTable,
    /// By time.
    pub kv_cache: Sorted<KvRow>,
    /// What the rows of the cache have in common.
    pub kv_forms: KvForms,
    /// By start.
    pub forwards: Vec<Forward>,
    /// By time.
    pub queues: Sorted<QueueRow>,
    /// Requests a second in prefill.
    pub prefill_speed: Windows,
    /// Requests a second in decode.
    pub decode_speed: Windows,
    /// Prefill and decode on different machines.
    pub handoff: HandoffTables,
    /// What `analyze` sums up.
    pub summary: Summary,
    /// When each engine was idle, by process and start.
    pub gaps: Vec<Gap>,
    /// Mixture of experts.
    pub experts: ExpertTables,
    /// The first figures.
    pub figures: Figures,
}

impl Tables {
    /// Tables of a session with these processes.
    pub fn new(places: &Places) -> Self {
        Self { ids: Ids::of(places), ..Self::default() }
    }

    /// Takes a record in, and gives what it says about requests, for others that want to know.
    pub fn push(&mut self, record: &Record) -> (&Resources, &Ids) {
        self.resources.read(record, &mut self.ids);
        // Of a span without an end nothing is certain but that it began.
        if !matches!(record.kind, Kind::Unfinished) && !self.resources.is_link {
            self.requests.push(record, &self.resources);
            self.batches.push(record, &self.resources, &mut self.ids);
            self.kv_cache.push(record, &self.resources);
            self.forwards.push(record, &self.resources);
            self.queues.push(record, &self.resources);
            self.speeds.push(record, &self.resources);
            self.handoff.push(record, &self.resources);
            self.summaries.push(record, &self.resources);
            self.engine.push(record);
            self.experts.push(record);
        }
        (&self.resources, &self.ids)
    }

    /// The tables.
    ///
    /// # Errors
    /// There is no space for the temporary files of long tables.
    pub fn finish(self, places: &Places) -> io::Result<Model> {
        let requests = self.requests.finish(&self.ids);
        let (gaps, idle_share) = self.engine.finish();
        let (prefill_speed, decode_speed) = self.speeds.finish();
        Ok(Model {
            figures: Figures::of(&requests, idle_share),
            batches: self.batches.finish()?,
            kv_forms: self.kv_cache.forms,
            kv_cache: self.kv_cache.finish()?,
            forwards: self.forwards.finish(places),
            queues: self.queues.finish()?,
            prefill_speed,
            decode_speed,
            handoff: self.handoff.finish()?,
            summary: self.summaries.finish(&requests),
            gaps,
            experts: self.experts.finish(places),
            requests,
            ids: self.ids,
        })
    }
}
