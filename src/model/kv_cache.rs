//! The state of the KV cache over time: blocks in use, and the share of them.

use std::io;

use serde::{Deserialize, Serialize};

use super::ids::RequestId;
use super::resources::Resources;
use crate::clock::Nanos;
use crate::event::{Name, ProcessId, Record};
use crate::spool::{Sorted, Spool};

/// Whether records of the domain speak of the KV cache.
pub fn is_kv_domain(domain: &str) -> bool {
    matches!(domain, "KVCache" | "Schedule.KVCache")
}

/// What a record says about the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KvState {
    /// All blocks.
    pub total: Option<i64>,
    /// Free blocks.
    pub free: Option<i64>,
    /// Blocks taken since the last state.
    pub allocated: Option<i64>,
    /// Blocks given back since the last state.
    pub freed: Option<i64>,
    /// Share of blocks in use, 0 to 1.
    pub usage: Option<f64>,
}

/// A row: one record of the cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvRow {
    /// Name of the record.
    pub name: Name,
    /// When, in unix nanoseconds.
    pub start: Nanos,
    /// Where.
    pub process: ProcessId,
    /// The first request that it names.
    pub request: Option<RequestId>,
    /// What it says.
    pub state: KvState,
    /// Free blocks in the older form (`deviceBlock=`).
    pub device_blocks: Option<i64>,
}

/// Builds the rows.
#[derive(Debug, Default)]
pub struct KvCache {
    rows: Spool<KvRow>,
    /// Whether a row has totals; and the most blocks that were ever free, of an older sender.
    pub(super) forms: KvForms,
}

/// What the rows have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvForms {
    /// Some row tells all blocks, or free ones: those without are of no use beside it.
    pub has_totals: bool,
    /// The most blocks that a `Free` of the older form has told, which knows no total.
    pub most_free: i64,
}

impl KvForms {
    /// The share of blocks in use, by free blocks of the older form: (most − free) / most; unknown while no `Free` told any.
    pub fn usage(&self, free: Option<i64>) -> Option<f64> {
        let most = self.most_free;
        (most > 0).then_some(most.saturating_sub(free?) as f64 / most as f64)
    }
}

impl KvState {
    /// Reads what `record` says.
    pub fn of(record: &Record) -> Self {
        let (mut state, mut usage, mut change) = (Self::default(), None, None);
        let (mut before, mut after) = (None, None);
        for (key, value) in record.entries() {
            match key {
                "TotalBlocks=" => state.total = value.as_int(),
                "FreeBlocks=" => state.free = value.as_int(),
                "FreeBlocksBefore=" => before = value.as_int(),
                "FreeBlocksAfter=" => after = value.as_int(),
                "AllocatedBlocks=" => change = value.as_int(),
                "UsagePercent=" => usage = value.as_double(),
                _ => {}
            }
        }
        state.free = after.or(state.free);
        let change = before.zip(after).map(|(before, after)| before.saturating_sub(after)).or(change);
        state.allocated = change.map(|change| change.max(0));
        state.freed = change.map(|change| change.saturating_neg().max(0));
        state.usage = match (usage, state.used(), state.total) {
            // Some senders state per cent, others a share.
            (Some(usage), ..) if usage > 1.0 => Some(usage / 100.0),
            (Some(usage), ..) => Some(usage),
            (None, Some(used), Some(total)) if total > 0 => Some(used as f64 / total as f64),
            _ => None,
        };
        state
    }

    /// Blocks in use.
    pub fn used(&self) -> Option<i64> {
        Some(self.total?.saturating_sub(self.free?))
    }
}

impl KvCache {
    /// Takes a record in.
    pub fn push(&mut self, record: &Record, resources: &Resources) {
        if !is_kv_domain(record.domain()) || record.name() == "CacheHitRate" {
            return;
        }
        let row = KvRow {
            name: record.label.name(),
            start: record.start,
            process: record.process,
            request: resources.list.first().map(|resource| resource.request),
            state: KvState::of(record),
            device_blocks: record.get("deviceBlock=").and_then(|value| value.as_int()),
        };
        self.forms.has_totals |= row.state.total.is_some() || row.state.free.is_some();
        if record.name() == "Free" {
            self.forms.most_free = self.forms.most_free.max(row.device_blocks.unwrap_or_default());
        }
        self.rows.push(row.start.0, &row);
    }

    /// The rows by time.
    ///
    /// # Errors
    /// There is no space for temporary files.
    pub fn finish(self) -> io::Result<Sorted<KvRow>> {
        self.rows.finish()
    }
}
