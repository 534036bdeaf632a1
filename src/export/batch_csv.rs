//! `batch.csv`: one row for each batch that was scheduled or run.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::Outcome;
use super::spreadsheet::Csv;
use super::times::{Calendar, Millis};
use crate::event::Places;
use crate::model::{Amount, Batch, BatchTable, Ids, KvState, Phase, Resource, Shape};

const BEFORE_CACHE: [&str; 8] = [
    "name",
    "res_list",
    "start_datetime",
    "end_datetime",
    "during_time(ms)",
    "batch_type",
    "prof_id",
    "batch_size",
];

const AFTER_CACHE: [&str; 6] = [
    "prefill_batch_size",
    "decode_batch_size",
    "prefill_scheduled_tokens",
    "decode_scheduled_tokens",
    "total_scheduled_tokens",
    "dp_rank",
];

/// These stand in the table only if there is speculative decoding.
const DRAFT: [&str; 2] = ["accepted_ratio", "accepted_ratio_per_pos"];

const TIMES: [&str; 2] = ["start_time(ms)", "end_time(ms)"];

/// A column about the KV cache, and its value in a row.
type CacheColumn = (&'static str, fn(&KvState) -> Option<f64>);

/// These stand in the table only if they are not zero everywhere.
const CACHE: [CacheColumn; 6] = [
    ("total_blocks", |kv| whole(kv.total)),
    ("used_blocks", |kv| whole(kv.used())),
    ("free_blocks", |kv| whole(kv.free)),
    ("blocks_allocated", |kv| whole(kv.allocated)),
    ("blocks_freed", |kv| whole(kv.freed)),
    ("kvcache_usage_rate", |kv| kv.usage),
];

fn whole(count: Option<i64>) -> Option<f64> {
    count.map(|count| count as f64)
}

fn shown(value: Option<impl std::fmt::Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Writes the batches.
///
/// # Errors
/// The writer fails.
pub fn write(
    batches: &BatchTable,
    ids: &Ids,
    places: &Places,
    calendar: &mut Calendar,
    out: impl Write,
) -> io::Result<Outcome> {
    if batches.is_empty() {
        return Ok(Outcome::Nothing("no batch was scheduled or run (batchFrameworkProcessing, modelExec …)"));
    }
    let (mut is_used, mut has_drafts) = ([false; CACHE.len()], false);
    for batch in batches.iter() {
        has_drafts |= batch.draft.is_some();
        for (is_used, (_, value)) in is_used.iter_mut().zip(CACHE) {
            *is_used |= batch.kv.as_deref().and_then(value).is_some_and(|value| value != 0.0);
        }
    }
    let cache = CACHE.iter().zip(is_used).filter_map(|(column, is_used)| is_used.then_some(column));
    let cache: Vec<&CacheColumn> = cache.collect();
    let draft = if has_drafts { &DRAFT[..] } else { &[] };

    let mut csv = Csv::new(out);
    let cache_names = cache.iter().map(|(name, _)| name);
    for column in BEFORE_CACHE.iter().chain(cache_names).chain(&AFTER_CACHE).chain(draft).chain(&TIMES) {
        csv.write_field(column)?;
    }
    csv.end_record()?;

    let (mut text, mut count) = (String::new(), 0);
    for batch in batches.iter() {
        count += 1;
        let mut field = |value: &dyn std::fmt::Display| {
            text.clear();
            // Writing to a string does not fail.
            let _ = write!(text, "{value}");
            csv.write_field(&text)
        };
        let process = places.process(batch.process);
        let millis = |nanos: u64| Millis(nanos as i64);
        // What names one request is no batch of requests: its size is 0, as readers of this table expect.
        let size = if batch.shape == Shape::One { 0 } else { batch.resources.len() };
        field(&batch.name.as_str())?;
        field(&PythonList { batch: &batch, ids })?;
        field(&calendar.text(batch.start))?;
        field(&calendar.text(batch.end))?;
        field(&millis(batch.end.0.saturating_sub(batch.start.0)))?;
        field(&batch.batch_type.map_or("", |name| name.as_str()))?;
        field(&process.capture)?;
        field(&format_args!("{size}.0"))?;
        for (_, value) in &cache {
            field(&shown(batch.kv.as_deref().and_then(value)))?;
        }
        field(&shown(batch.size(Phase::Prefill)))?;
        field(&shown(batch.size(Phase::Decode)))?;
        field(&shown(batch.tokens(Phase::Prefill)))?;
        field(&shown(batch.tokens(Phase::Decode)))?;
        field(&shown(batch.total_tokens()))?;
        field(&shown(process.dp_rank))?;
        if has_drafts {
            field(&batch.accepted_share().map(|share| format!("{share:.4}")).unwrap_or_default())?;
            field(&if batch.draft.is_some() { positions(&batch) } else { String::new() })?;
        }
        field(&millis(batch.start.0))?;
        field(&millis(batch.end.0))?;
        csv.end_record()?;
    }
    csv.flush()?;
    Ok(Outcome::Rows(count))
}

/// A batch's requests as Python shows them, which is what readers of this table evaluate.
pub(super) struct PythonList<'a> {
    pub(super) batch: &'a Batch,
    pub(super) ids: &'a Ids,
}

/// The share of accepted tokens by position in the draft, as JSON.
pub(super) fn positions(batch: &Batch) -> String {
    let shares = batch.accepted_by_position();
    let entries: Vec<_> =
        shares.iter().enumerate().map(|(p, share)| format!("\"{p}\": {share:.4}")).collect();
    format!("{{{}}}", entries.join(", "))
}

impl std::fmt::Display for PythonList<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.batch.shape == Shape::One {
            return self.batch.resources.iter().try_for_each(|one| f.write_str(self.ids.text(one.request)));
        }
        f.write_char('[')?;
        for (position, resource) in self.batch.resources.iter().enumerate() {
            if position > 0 {
                f.write_str(", ")?;
            }
            if self.batch.shape == Shape::Ids {
                python_text(f, self.ids.text(resource.request))?;
            } else {
                self.step(f, resource)?;
            }
        }
        f.write_char(']')
    }
}

impl PythonList<'_> {
    fn step(&self, f: &mut std::fmt::Formatter<'_>, step: &Resource) -> std::fmt::Result {
        f.write_str("{'rid': ")?;
        python_text(f, self.ids.text(step.request))?;
        let phase =
            step.phase.map_or(Amount::UNKNOWN, |phase| Amount::new(i64::from(phase == Phase::Decode)));
        for (key, amount) in [
            ("iter", step.iter),
            ("type", phase),
            ("num_scheduled_tokens", step.scheduled),
            ("num_prompt_tokens", step.prompt),
            ("num_computed_tokens", step.computed),
            ("num_spec_output_tokens", step.drafted),
        ] {
            if let Some(amount) = amount.get() {
                write!(f, ", '{key}': {amount}")?;
            }
        }
        f.write_char('}')
    }
}

fn python_text(f: &mut std::fmt::Formatter<'_>, text: &str) -> std::fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    f.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c == quote => write!(f, "\\{c}")?,
            c if (c as u32) < 0x20 || c as u32 == 0x7f => write!(f, "\\x{:02x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char(quote)
}
