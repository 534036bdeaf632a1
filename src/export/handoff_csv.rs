//! `pd_split_communication.csv`, `pd_split_kvcache.csv` and `coordinator.csv`: prefill and decode on different machines.

use std::io::{self, Write};

use super::Outcome;
use super::spreadsheet::Csv;
use super::times::{Calendar, Millis};
use crate::model::{HandoffTables, Ids};

/// Writes when requests were handed over. Times are dates cut to milliseconds, empty where one is missing.
///
/// # Errors
/// The writer fails; so it is with the others.
pub fn communication(
    tables: &HandoffTables,
    ids: &Ids,
    calendar: &mut Calendar,
    out: impl Write,
) -> io::Result<Outcome> {
    let mut csv = Csv::new(out);
    csv.write_record([
        "rid",
        "http_req_time(ms)",
        "send_request_time(ms)",
        "send_request_succ_time(ms)",
        "prefill_res_time(ms)",
        "request_end_time(ms)",
    ])?;
    for row in &tables.handovers {
        csv.write_field(ids.text(row.request))?;
        for time in row.times {
            csv.write_field(time.map(|time| calendar.to_millis(time)).unwrap_or_default())?;
        }
        csv.end_record()?;
    }
    csv.flush()?;
    Ok(Outcome::of_rows(
        tables.handovers.len() as u64,
        "no request was handed from prefill to decode (receiveReq, sendReqToD …)",
    ))
}

/// Writes which KV blocks were pulled.
///
/// # Errors
/// The writer fails.
pub fn pulls(
    tables: &HandoffTables,
    ids: &Ids,
    calendar: &mut Calendar,
    out: impl Write,
) -> io::Result<Outcome> {
    let mut csv = Csv::new(out);
    csv.write_record([
        "domain",
        "rank",
        "rid",
        "block_tables",
        "batch_seq_len",
        "during_time(ms)",
        "start_time",
        "end_time",
    ])?;
    for row in &tables.pulls {
        csv.write_record([
            "PullKVCache",
            &row.rank,
            row.request.map_or("", |request| ids.text(request)),
            &row.block_tables,
            &row.lengths,
            &Millis((row.end.0 - row.start.0) as i64).to_string(),
            &calendar.to_millis(row.start),
            &calendar.to_millis(row.end),
        ])?;
    }
    csv.flush()?;
    Ok(Outcome::of_rows(tables.pulls.len(), "no KV blocks were pulled (domain PullKVCache)"))
}

/// Writes what the coordinator gave to each address, in buckets of five seconds.
///
/// # Errors
/// The writer fails.
pub fn coordinator(tables: &HandoffTables, calendar: &mut Calendar, out: impl Write) -> io::Result<Outcome> {
    let mut csv = Csv::new(out);
    csv.write_record(["time", "address", "node_type", "add_count", "end_count", "running_count"])?;
    for row in &tables.dispatched {
        csv.write_record([
            &calendar.to_seconds(row.time),
            &row.address,
            row.node_type,
            &row.added.to_string(),
            &row.ended.to_string(),
            &row.running.to_string(),
        ])?;
    }
    csv.flush()?;
    Ok(Outcome::of_rows(
        tables.dispatched.len() as u64,
        "no coordinator gave out requests (RequestDispatch in domain Coordinator)",
    ))
}
