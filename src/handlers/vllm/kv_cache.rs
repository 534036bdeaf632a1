//! `KVCacheManager`: blocks in use, blocks given back, prefix-cache hits.

use pyo3::intern;
use pyo3::prelude::*;

use crate::clock::Ticks;
use crate::event::Attributes;
use crate::handlers::record::{
    ALLOCATED_BLOCKS, DEVICE_BLOCK, FREE_BLOCKS, HIT_CACHE, NEW_TOKENS, RID, TOTAL_BLOCKS, USAGE_PERCENT,
    USED_BLOCKS, argument, datum, event, label, text,
};
use crate::hook::{Attempt, Call};

/// The state of the block pool.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    total: i64,
    free: i64,
}

impl Blocks {
    /// As a KV-cache manager has it now.
    pub(super) fn of(manager: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = manager.py();
        let pool = manager.getattr(intern!(py, "block_pool"))?;
        let total = pool.getattr(intern!(py, "num_gpu_blocks"))?.extract()?;
        let free = pool.call_method0(intern!(py, "get_num_free_blocks"))?.extract()?;
        Ok(Self { total, free })
    }

    fn used(self) -> i64 {
        self.total - self.free
    }

    /// Used share, 0 to 1.
    fn usage(self) -> f64 {
        if self.total > 0 { self.used() as f64 / self.total as f64 } else { 0.0 }
    }

    /// Appends the state, and what was allocated since `before`.
    pub(super) fn append(self, before: Self, attributes: &mut Attributes) {
        attributes.key(*TOTAL_BLOCKS).int(self.total);
        attributes.key(*USED_BLOCKS).int(self.used());
        attributes.key(*FREE_BLOCKS).int(self.free);
        attributes.key(*USAGE_PERCENT).double(self.usage());
        attributes.key(*ALLOCATED_BLOCKS).int(self.used() - before.used());
    }
}

/// `free(self, request)`: the request's blocks are free again.
pub(in crate::handlers) fn free(call: &mut Call<'_, '_>) -> PyResult<()> {
    if call.proceed().is_none() {
        return Ok(());
    }
    let ticks = Ticks::now();
    let rid = request_id(call)?;
    let blocks = datum(call.py, "KVCacheManager.block_pool", Blocks::of(&call.this()?.to_owned()))?;
    event(label!("Schedule.KVCache", "Free"), ticks, |attributes| {
        attributes.key(*RID).id(&rid);
        if let Some(blocks) = blocks {
            attributes.key(*DEVICE_BLOCK).int(blocks.free);
            attributes.key(*USAGE_PERCENT).double(blocks.usage());
        }
    });
    Ok(())
}

/// `allocate_slots(self, request, num_new_tokens, …)`: only what fails is recorded; it leads to a preemption, or a
/// request goes on waiting.
pub(in crate::handlers) fn allocate_slots(call: &mut Call<'_, '_>) -> PyResult<()> {
    if call.proceed().is_none_or(|result| !result.is_none()) {
        return Ok(());
    }
    let ticks = Ticks::now();
    let rid = request_id(call)?;
    let tokens = argument(call, 2, intern!(call.py, "num_new_tokens")).and_then(|tokens| tokens.extract());
    let tokens: Option<i64> = datum(call.py, "allocate_slots' num_new_tokens", tokens)?;
    let blocks = datum(call.py, "KVCacheManager.block_pool", Blocks::of(&call.this()?.to_owned()))?;
    event(label!("Schedule.KVCache", "AllocationFailed"), ticks, |attributes| {
        attributes.key(*RID).id(&rid);
        if let Some(tokens) = tokens {
            attributes.key(*NEW_TOKENS).int(tokens);
        }
        if let Some(blocks) = blocks {
            attributes.key(*FREE_BLOCKS).int(blocks.free);
        }
    });
    Ok(())
}

/// `get_computed_blocks(self, request)`: how much of the prompt the prefix cache has.
pub(in crate::handlers) fn get_computed_blocks(call: &mut Call<'_, '_>) -> PyResult<()> {
    let Some(result) = call.proceed().cloned() else { return Ok(()) };
    let ticks = Ticks::now();
    let py = call.py;
    // Older releases returned the blocks alone.
    let hit = result.get_item(1).and_then(|hit| hit.extract::<i64>());
    let Some(hit) = hit.optional(py)? else { return Ok(()) };
    let request = argument(call, 1, intern!(py, "request"))?;
    let tokens = request.getattr(intern!(py, "num_tokens")).and_then(|tokens| tokens.extract::<i64>());
    let tokens = datum(py, "Request.num_tokens", tokens)?;
    let Some(tokens) = tokens.filter(|tokens| *tokens > 0) else { return Ok(()) };
    let rid = request_id(call)?;
    event(label!("Schedule.KVCache", "CacheHitRate"), ticks, |attributes| {
        attributes.key(*RID).id(&rid);
        attributes.key(*HIT_CACHE).double(hit as f64 / tokens as f64);
    });
    Ok(())
}

/// The id of the parameter `request` of a method.
pub(super) fn request_id(call: &Call<'_, '_>) -> PyResult<String> {
    let request = argument(call, 1, intern!(call.py, "request"))?;
    request.getattr(intern!(call.py, "request_id")).and_then(|rid| text(&rid))
}
