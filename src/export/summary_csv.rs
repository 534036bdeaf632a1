//! `request_summary.csv`, `batch_summary.csv` and `service_summary.csv`: what `analyze` sums up.

use std::io::{self, Write};

use super::Outcome;
use super::spreadsheet::Csv;
use crate::model::{Distribution, Summary};

/// Nanoseconds in a millisecond.
const MILLIS: f64 = 1e6;

/// Writes the figures of requests.
///
/// # Errors
/// The writer fails; so it is with the others.
pub fn requests(summary: &mut Summary, out: impl Write) -> io::Result<Outcome> {
    if summary.latency.count() == 0 {
        return Ok(Outcome::Nothing(
            "no request has both its arrival and its end in the capture (httpReq and httpRes, or coreReq and coreRes)",
        ));
    }
    let rows = [
        ("first_token_latency (ms)", MILLIS, &mut summary.first_token),
        ("subsequent_token_latency (ms)", MILLIS, &mut summary.between_tokens),
        ("total_time (ms)", MILLIS, &mut summary.latency),
        ("exec_time (ms)", MILLIS, &mut summary.execution),
        ("waiting_time (ms)", MILLIS, &mut summary.waiting),
        ("input_token_num", 1.0, &mut summary.prompt_tokens),
        ("generated_token_num", 1.0, &mut summary.output_tokens),
    ];
    table(rows.into_iter(), out)
}

/// Writes the figures of batches.
///
/// # Errors
/// The writer fails.
pub fn batches(summary: &mut Summary, out: impl Write) -> io::Result<Outcome> {
    let ([prefills, decodes], [prefill_runs, decode_runs]) =
        (&mut summary.batch_sizes, &mut summary.batch_executions);
    if prefills.count() + decodes.count() == 0 {
        return Ok(Outcome::Nothing(
            "no batch of prefill or decode alone was scheduled (batchFrameworkProcessing)",
        ));
    }
    let sizes = [("prefill_batch_num", 1.0, prefills), ("decode_batch_num", 1.0, decodes)];
    let runs =
        [("prefill_exec_time (ms)", MILLIS, prefill_runs), ("decode_exec_time (ms)", MILLIS, decode_runs)];
    table(sizes.into_iter().chain(runs.into_iter().filter(|(_, _, all)| all.max() > 0)), out)
}

fn table<'a>(
    rows: impl Iterator<Item = (&'static str, f64, &'a mut Distribution)>,
    out: impl Write,
) -> io::Result<Outcome> {
    let mut csv = Csv::new(out);
    csv.write_record(["Metric", "Average", "Max", "Min", "P50", "P90", "P99"])?;
    let mut count = 0;
    for (name, unit, all) in rows {
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|rank| all.percentile(rank));
        let values = [all.mean(), all.max() as f64, all.min() as f64, p50, p90, p99];
        // What nobody has told is left out, not 0.
        let is_known = all.count() > 0;
        let values = values.map(|value| if is_known { decimals(value / unit, 4) } else { String::new() });
        csv.write_record(std::iter::once(name).chain(values.iter().map(String::as_str)))?;
        count += 1;
    }
    csv.flush()?;
    Ok(Outcome::Rows(count))
}

/// Writes the throughput of the service: tokens of requests with arrival and answer, by the time from the first arrival
/// to the last answer. What no request has told is left empty.
///
/// # Errors
/// The writer fails.
pub fn service(summary: &Summary, out: impl Write) -> io::Result<Outcome> {
    if summary.latency.count() == 0 {
        return Ok(Outcome::Nothing(
            "no request has both its arrival and its end in the capture (httpReq and httpRes, or coreReq and coreRes)",
        ));
    }
    let seconds = summary.window as f64 / 1e9;
    let sum = |tokens: &Distribution| (tokens.count() > 0).then(|| tokens.sum() as f64);
    let (input, generated) = (sum(&summary.prompt_tokens), sum(&summary.output_tokens));
    let total = |tokens: Option<f64>| tokens.map(|tokens| tokens.to_string()).unwrap_or_default();
    let rate = |tokens: Option<f64>| {
        let rate = tokens.filter(|_| seconds > 0.0).map(|tokens| decimals(tokens / seconds, 8));
        rate.unwrap_or_default()
    };
    let mut csv = Csv::new(out);
    csv.write_record(["Metric", "Value"])?;
    csv.write_record(["total_input_token_num", &total(input)])?;
    csv.write_record(["total_generated_token_num", &total(generated)])?;
    csv.write_record(["generate_token_speed (token/s)", &rate(generated)])?;
    csv.write_record([
        "generate_all_token_speed (token/s)",
        &rate(input.zip(generated).map(|(input, generated)| input + generated)),
    ])?;
    csv.flush()?;
    Ok(Outcome::Rows(4))
}

/// With so many decimals at most.
fn decimals(value: f64, most: usize) -> String {
    let text = format!("{value:.most$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
