//! `kvcache.csv`: the KV cache over time, in one of two forms: with totals, or (older senders) with free blocks only.

use std::io::{self, Write};

use super::Outcome;
use super::spreadsheet::Csv;
use super::times::Calendar;
use crate::model::{Ids, KvForms, KvRow};
use crate::spool::Sorted;

/// Writes the rows.
///
/// # Errors
/// The writer fails.
pub fn write(
    rows: &Sorted<KvRow>,
    forms: KvForms,
    ids: &Ids,
    calendar: &mut Calendar,
    out: impl Write,
) -> io::Result<Outcome> {
    let csv = Csv::new(out);
    if forms.has_totals {
        with_totals(rows, calendar, csv)
    } else {
        with_free_blocks(rows, forms, ids, calendar, csv)
    }
}

fn with_totals(
    rows: &Sorted<KvRow>,
    calendar: &mut Calendar,
    mut csv: Csv<impl Write>,
) -> io::Result<Outcome> {
    csv.write_record([
        "name",
        "start_time",
        "total_blocks",
        "used_blocks",
        "free_blocks",
        "blocks_allocated",
        "blocks_freed",
        "kvcache_usage_rate",
    ])?;
    for row in rows {
        let number = |count: Option<i64>| count.map(|n| n.to_string()).unwrap_or_default();
        csv.write_record([
            row.name.as_str(),
            calendar.text(row.start),
            &number(row.state.total),
            &number(row.state.used()),
            &number(row.state.free),
            &number(row.state.allocated),
            &number(row.state.freed),
            &row.state.usage.map(|share| share.to_string()).unwrap_or_default(),
        ])?;
    }
    csv.flush()?;
    Ok(Outcome::Rows(rows.len()))
}

/// The rate is measured against the most blocks that were ever free.
fn with_free_blocks(
    rows: &Sorted<KvRow>,
    forms: KvForms,
    ids: &Ids,
    calendar: &mut Calendar,
    mut csv: Csv<impl Write>,
) -> io::Result<Outcome> {
    let mut count = 0;
    csv.write_record(["rid", "name", "start_time", "device_kvcache_left", "kvcache_usage_rate"])?;
    for row in rows {
        let Some(left) = row.device_blocks else { continue };
        let rate = forms.usage(row.device_blocks);
        csv.write_record([
            row.request.map_or("", |request| ids.text(request)),
            row.name.as_str(),
            calendar.text(row.start),
            &left.to_string(),
            &rate.map(|share| share.to_string()).unwrap_or_default(),
        ])?;
        count += 1;
    }
    if count == 0 {
        return Ok(Outcome::Nothing("no record of the KV cache has a number of blocks (KVCacheStatus)"));
    }
    csv.flush()?;
    Ok(Outcome::Rows(count))
}
