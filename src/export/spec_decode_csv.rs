//! `spec_decode.csv`: one row for each request of each draft of speculative decoding.

use std::io::{self, Write};

use super::Outcome;
use super::spreadsheet::Csv;
use super::times::{Calendar, Millis};
use crate::event::Places;
use crate::model::{BatchTable, Ids};

/// Writes the drafts.
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
    let mut csv = Csv::new(out);
    csv.write_record([
        "rid",
        "iter",
        "prof_id",
        "start_datetime",
        "end_datetime",
        "during_time(ms)",
        "spec_tokens",
        "accepted_tokens",
        "accepted_ratio",
        "draft_model_time_ms",
    ])?;
    let mut rows = 0;
    for batch in batches.iter().filter(|batch| batch.draft.is_some()) {
        let start = calendar.text(batch.start).to_owned();
        let during = Millis(batch.end.0.saturating_sub(batch.start.0) as i64).to_string();
        for (resource, drafted, accepted) in batch.drafts() {
            let ratio = if drafted > 0 {
                format!("{:.4}", f64::from(accepted) / f64::from(drafted))
            } else {
                String::new()
            };
            csv.write_record([
                ids.text(resource.request),
                &resource.iter.get().map(|iter| iter.to_string()).unwrap_or_default(),
                &places.process(batch.process).capture,
                &start,
                calendar.text(batch.end),
                &during,
                &drafted.to_string(),
                &accepted.to_string(),
                &ratio,
                &during,
            ])?;
            rows += 1;
        }
    }
    csv.flush()?;
    Ok(Outcome::of_rows(rows, "no draft of speculative decoding (specDecoding, followed by modelRunnerExec)"))
}
