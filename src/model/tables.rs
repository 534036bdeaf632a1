//! All tables at once: what `parse` runs each record through.

use super::batches::{Batch, Batches};
use super::engine::Engine;
use super::figures::Figures;
use super::forwards::{Forward, Forwards};
use super::kv_cache::{KvCache, KvRow};
use super::requests::{Request, Requests};
use super::resources::{Ids, Resources};
use crate::event::{Kind, Places, Record};

/// Builds all tables.
#[derive(Debug, Default)]
pub struct Tables {
    ids: Ids,
    resources: Resources,
    requests: Requests,
    batches: Batches,
    kv_cache: KvCache,
    forwards: Forwards,
    engine: Engine,
}

/// The finished tables.
#[derive(Debug)]
pub struct Model {
    /// The request ids that rows refer to.
    pub ids: Ids,
    /// By arrival.
    pub requests: Vec<Request>,
    /// By start.
    pub batches: Vec<Batch>,
    /// By time.
    pub kv_cache: Vec<KvRow>,
    /// By start.
    pub forwards: Vec<Forward>,
    /// The first figures.
    pub figures: Figures,
}

impl Tables {
    /// Takes a record in, and gives what it says about requests, for others that want to know.
    pub fn push(&mut self, record: &Record) -> (&Resources, &Ids) {
        self.resources.read(record, &mut self.ids);
        // Of a span without an end nothing is certain but that it began.
        if !matches!(record.kind, Kind::Unfinished) {
            self.requests.push(record, &self.resources);
            self.batches.push(record, &self.resources);
            self.kv_cache.push(record, &self.resources);
            self.forwards.push(record, &self.resources);
            self.engine.push(record);
        }
        (&self.resources, &self.ids)
    }

    /// The tables.
    pub fn finish(self, places: &Places) -> Model {
        let requests = self.requests.finish(&self.ids);
        let figures = Figures::of(&requests, self.engine.finish());
        Model {
            requests,
            batches: self.batches.finish(),
            kv_cache: self.kv_cache.finish(),
            forwards: self.forwards.finish(places),
            figures,
            ids: self.ids,
        }
    }
}
