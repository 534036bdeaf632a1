//! A track for each request: from its arrival to its end, and in that queued, prefill, decode, and each step.

use std::io;

use serde::{Deserialize, Serialize};

use crate::clock::Nanos;
use crate::model::{Batch, Model, Phase, Request};
use crate::spool::Spool;
use crate::trace::{Overlay, OverlayTrack};

/// Executions that are taken for steps: the first name that the session has.
const STEPS: [&str; 3] = ["modelExec", "modelRunnerExec", "Execute"];

/// A step of a request.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Step {
    start: Nanos,
    end: Nanos,
    iter: Option<u32>,
    tokens: Option<u32>,
    is_prefill: bool,
}

/// Writes the tracks, by arrival.
pub(super) fn write(
    overlay: &mut Overlay,
    model: &Model,
    flush: &mut dyn FnMut(&mut Overlay) -> io::Result<()>,
) -> io::Result<()> {
    let shown = |request: &&Request| request.arrival.is_some() || request.phases().next().is_some();
    if !model.requests.iter().any(|request| shown(&request)) {
        return Ok(());
    }
    let mut order = vec![None; model.ids.len()];
    for (position, request) in model.requests.iter().enumerate() {
        if let Some(slot) = order.get_mut(request.number.0 as usize) {
            *slot = Some(position as u64);
        }
    }
    let mut steps = Spool::default();
    let name = STEPS.iter().find(|name| model.batches.iter().any(|batch| batch.name.as_str() == **name));
    for batch in model.batches.iter().filter(|batch| Some(&batch.name.as_str()) == name) {
        let Batch { start, end, .. } = batch;
        for resource in &batch.resources {
            let Some(Some(position)) = order.get(resource.request.0 as usize) else { continue };
            let is_prefill = resource.phase() == Some(Phase::Prefill);
            let (iter, tokens) = (resource.iter.get(), resource.scheduled.get());
            steps.push(*position, &Step { start, end, iter, tokens, is_prefill });
        }
    }
    let steps = steps.finish()?;
    let mut steps = steps.iter();
    let root = overlay.track(None, "Requests");
    for (position, request) in model.requests.iter().enumerate() {
        let is_shown = shown(&request);
        let track = is_shown.then(|| overlay.track(Some(root), &request.id));
        let mut own = Vec::new();
        while steps.next_key() == Some(position as u64) {
            own.extend(steps.next());
        }
        if let Some(track) = track {
            draw(overlay, track, request, &own);
        }
        flush(overlay)?;
    }
    Ok(())
}

/// What is within something else is cut to it, so that all is nested.
fn draw(overlay: &mut Overlay, track: OverlayTrack, request: &Request, steps: &[Step]) {
    // Damaged times may have it end before it came.
    let whole = request.arrival.zip(request.end).map(|(arrival, end)| (arrival, end.max(arrival)));
    if let Some((arrival, _)) = whole {
        let number = |key, count: Option<i64>| count.map(|count| (key, count));
        let values = [
            number("prompt_tokens", request.prompt_tokens),
            number("output_tokens", request.output_tokens),
            number("queue_wait_ns", request.queue_wait.map(|wait| wait as i64)),
            number("first_token_ns", request.first_token().map(|wait| wait as i64)),
        ];
        let values: Vec<_> = values.into_iter().flatten().collect();
        overlay.begin(track, arrival, "request", &values);
    }
    let mut last = whole.map_or(Nanos(0), |(arrival, _)| arrival);
    let limit = whole.map_or(Nanos(u64::MAX), |(_, end)| end);
    for (name, start, end) in request.phases() {
        let start = start.clamp(last, limit);
        let end = end.clamp(start, limit);
        overlay.begin(track, start, name, &[]);
        let mut done = start;
        for step in steps.iter().filter(|_| name != "queued") {
            // A step belongs to the phase in which it ended.
            if step.end <= start || step.end > end {
                continue;
            }
            let from = step.start.max(done);
            let iter = step.iter.map(|iter| ("iter", i64::from(iter)));
            let tokens = step.tokens.map(|tokens| ("tokens", i64::from(tokens)));
            let values: Vec<_> = iter.into_iter().chain(tokens).collect();
            let name = if step.is_prefill { "prefill step" } else { "decode step" };
            overlay.begin(track, from, name, &values);
            overlay.end(track, step.end.max(from));
            done = step.end.max(from);
        }
        overlay.end(track, end);
        last = end;
    }
    if let Some((_, end)) = whole {
        overlay.end(track, end);
    }
}
