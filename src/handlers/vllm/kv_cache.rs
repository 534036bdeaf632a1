//! `KVCacheManager`: blocks in use, blocks given back, prefix-cache hits.

use once_cell::sync::Lazy;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::{
    ALLOCATED_BLOCKS, DEVICE_BLOCK, FREE_BLOCKS, HIT_CACHE, RID, TOTAL_BLOCKS, USAGE_PERCENT, USED_BLOCKS,
    label,
};
use crate::clock::Ticks;
use crate::event::{Attributes, Label};
use crate::hook::{Call, with_buffer};
use crate::recorder;

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
    let blocks = Blocks::of(&call.this()?.to_owned())?;
    with_buffer(|attributes| {
        attributes.key(*RID).str(rid.to_str()?);
        attributes.key(*DEVICE_BLOCK).int(blocks.free);
        attributes.key(*USAGE_PERCENT).double(blocks.usage());
        recorder::instant(label!("Schedule.KVCache", "Free"), ticks, attributes.as_bytes());
        Ok(())
    })
}

/// `get_computed_blocks(self, request)`: how much of the prompt the prefix cache has.
pub(in crate::handlers) fn get_computed_blocks(call: &mut Call<'_, '_>) -> PyResult<()> {
    let Some(result) = call.proceed().cloned() else { return Ok(()) };
    let ticks = Ticks::now();
    let py = call.py;
    // Older releases returned the blocks alone.
    let Ok(hit) = result.get_item(1).and_then(|hit| hit.extract::<i64>()) else { return Ok(()) };
    let request = request(call)?;
    let tokens: i64 = request.getattr(intern!(py, "num_tokens"))?.extract()?;
    if tokens <= 0 {
        return Ok(());
    }
    let rid = request_id(call)?;
    with_buffer(|attributes| {
        attributes.key(*RID).str(rid.to_str()?);
        attributes.key(*HIT_CACHE).double(hit as f64 / tokens as f64);
        recorder::instant(label!("Schedule.KVCache", "CacheHitRate"), ticks, attributes.as_bytes());
        Ok(())
    })
}

/// The parameter `request` of a method.
pub(super) fn request<'py>(call: &Call<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let request = call.args.get(1, intern!(call.py, "request"));
    request
        .map(pyo3::Borrowed::to_owned)
        .ok_or_else(|| pyo3::exceptions::PyTypeError::new_err("called without `request`"))
}

/// The id of the parameter `request`.
pub(super) fn request_id<'py>(call: &Call<'_, 'py>) -> PyResult<Bound<'py, PyString>> {
    Ok(request(call)?.getattr(intern!(call.py, "request_id"))?.cast_into::<PyString>()?)
}
