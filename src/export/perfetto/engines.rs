//! What each engine had to do: requests running and waiting, KV blocks in use, tokens a second, and its idle times.

use std::collections::BTreeMap;
use std::io;

use rustc_hash::FxHashMap;

use crate::clock::Nanos;
use crate::event::{Places, ProcessId};
use crate::model::{Model, Phase};
use crate::trace::{Overlay, OverlayTrack};

/// Tokens are counted in windows of this length, in nanoseconds.
const WINDOW: u64 = 100_000_000;

/// Windows that may still get tokens: batches come in the order of their starts.
const OPEN_WINDOWS: usize = 64;

/// The tracks of one engine.
struct Engine {
    track: OverlayTrack,
    counters: FxHashMap<&'static str, OverlayTrack>,
    tokens: BTreeMap<u64, u64>,
}

struct Engines<'a> {
    overlay: &'a mut Overlay,
    places: &'a Places,
    root: Option<OverlayTrack>,
    by_process: FxHashMap<ProcessId, Engine>,
}

/// Writes the tracks.
pub(super) fn write(
    overlay: &mut Overlay,
    places: &Places,
    model: &Model,
    flush: &mut dyn FnMut(&mut Overlay) -> io::Result<()>,
) -> io::Result<()> {
    let mut engines = Engines { overlay, places, root: None, by_process: FxHashMap::default() };
    for row in &model.queues {
        let counter = match row.queue.as_str() {
            "WAITING" => "waiting",
            "RUNNING" => "running",
            "SWAPPED" => "swapped",
            _ => continue,
        };
        engines.sample(row.process, counter, "requests", row.time, row.size as f64);
        flush(engines.overlay)?;
    }
    for row in &model.kv_cache {
        if let Some(usage) = row.state.usage {
            engines.sample(row.process, "KV cache in use", "%", row.start, usage * 100.0);
        }
        flush(engines.overlay)?;
    }
    for batch in model.batches.iter().filter(|batch| batch.name.as_str() == "modelExec") {
        let finished =
            batch.resources.iter().filter(|r| r.phase() == Some(Phase::Decode) || r.completes_prefill());
        let tokens = finished.count() as u64;
        *engines.engine(batch.process).tokens.entry(batch.end.0 / WINDOW).or_default() += tokens;
        engines.rates(batch.process, OPEN_WINDOWS);
        flush(engines.overlay)?;
    }
    let processes: Vec<ProcessId> = engines.by_process.keys().copied().collect();
    processes.into_iter().for_each(|process| engines.rates(process, 0));
    for gap in &model.gaps {
        let track = engines.engine(gap.process).track;
        let name = gap.blamed.map_or("idle".to_owned(), |(name, _)| format!("idle: {name}"));
        engines.overlay.begin(track, gap.start, &name, &[]);
        engines.overlay.end(track, gap.end);
        flush(engines.overlay)?;
    }
    Ok(())
}

impl Engines<'_> {
    fn engine(&mut self, process: ProcessId) -> &mut Engine {
        let Self { overlay, places, root, by_process } = self;
        by_process.entry(process).or_insert_with(|| {
            let root = *root.get_or_insert_with(|| overlay.track(None, "Engines"));
            let known = places.process(process);
            let name = if known.name.is_empty() { known.pid.to_string() } else { known.name.clone() };
            let track = overlay.track(Some(root), &name);
            Engine { track, counters: FxHashMap::default(), tokens: BTreeMap::new() }
        })
    }

    fn sample(&mut self, process: ProcessId, counter: &'static str, unit: &str, time: Nanos, value: f64) {
        let engine = self.engine(process);
        let (track, known) = (engine.track, engine.counters.get(counter).copied());
        let counter_track = known.unwrap_or_else(|| self.overlay.counter(track, counter, unit));
        self.engine(process).counters.insert(counter, counter_track);
        self.overlay.sample(counter_track, time, value);
    }

    /// Writes the oldest windows, but for so many.
    fn rates(&mut self, process: ProcessId, kept: usize) {
        while self.engine(process).tokens.len() > kept {
            let Some((window, tokens)) = self.engine(process).tokens.pop_first() else { break };
            let rate = tokens as f64 * 1e9 / WINDOW as f64;
            self.sample(process, "tokens", "tokens/s", Nanos(window * WINDOW), rate);
            // A window without any has no entry.
            let next = self.engine(process).tokens.first_key_value().map(|(next, _)| *next);
            if next.is_none_or(|next| next > window + 1) {
                self.sample(process, "tokens", "tokens/s", Nanos((window + 1) * WINDOW), 0.0);
            }
        }
    }
}
