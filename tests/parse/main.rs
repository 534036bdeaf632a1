//! What `parse` says of a server is what happened there: sessions of a simulator that knows the truth, in each form.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests; the bench shares two of the files")]

mod clients;
mod forms;
mod nonsense;
mod simulator;
mod window;

use std::collections::HashMap;
use std::path::Path;

use forms::{Captures, Databases};
use msprof_rs::cli::{Format, ParseOptions, Report, parse};
use msprof_rs::export::Outcome as Written;
use proptest::prelude::*;
use simulator::{BEGIN, Clients, Front, Outcome, Plan, Truth, simulate};
use window::record_between;

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        requests: 60,
        front: Front::Apart,
        clients: Clients::default(),
        engines: 2,
        arrival: 400_000,
        longest: (200, 24),
        budget: 128,
        most: 16,
        blocks: 96,
        drafts: 0,
        hits: 30,
        aborts: 10,
        parts: 2,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Ours,
    Slices,
    Messages,
}

fn record(plan: &Plan, form: Form, folder: &Path) -> Outcome {
    match form {
        Form::Ours => {
            let mut captures = Captures::create(folder, plan.engines);
            let outcome = simulate(plan, &mut captures);
            captures.finish();
            outcome
        }
        Form::Slices | Form::Messages => {
            let mut databases = Databases::create(folder, plan.engines, form == Form::Messages);
            let outcome = simulate(plan, &mut databases);
            databases.finish();
            outcome
        }
    }
}

type Rows = Vec<HashMap<String, String>>;

/// A table that `parse` wrote. One with nothing in it is not written, which the report tells.
fn rows(report: &Report, name: &str) -> Rows {
    let path = report.folder.join(name);
    let (_, outcome) = report.outputs.iter().find(|(output, _)| *output == name).unwrap();
    if let Written::Nothing(_) = outcome {
        assert!(!path.exists(), "{name}");
        return Rows::new();
    }
    let rows: Rows = csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect();
    assert_eq!(*outcome, Written::Rows(rows.len() as u64), "{name}");
    rows
}

fn options(input: &Path, output: &Path, format: &[Format]) -> ParseOptions {
    ParseOptions {
        input_path: input.to_owned(),
        output_path: output.to_owned(),
        format: format.to_vec(),
        timezone: Some("UTC".into()),
        gzip: true,
        span: None,
    }
}

fn parse_csv(input: &Path, output: &Path) -> Report {
    let report = parse(&options(input, output, &[Format::Csv]), true).unwrap();
    assert_eq!(report.exit_code(), 0);
    let tally = report.tally;
    assert_eq!((tally.orphans, tally.unfinished), (0, 0));
    report
}

fn millis(nanos: u64) -> String {
    format!("{}.{:06}", nanos / 1_000_000, nanos % 1_000_000)
}

fn check_request(row: &HashMap<String, String>, truth: &Truth) {
    let is = |column: &str, expected: String| assert_eq!(row[column], expected, "{column} of {truth:?}");
    let since = |time: Option<u64>| time.map(|time| time - truth.arrival);
    is("start_time(ms)", millis(truth.arrival));
    is("execution_time(ms)", since(truth.end).map(millis).unwrap_or_default());
    is("first_token_latency(ms)", millis(since(truth.first_output).unwrap_or_default()));
    is("queue_wait_time(ms)", millis(truth.queue_wait.unwrap_or_default()));
    is("cache_hit_rate", truth.cache_hit.map_or("N/A".into(), |share| share.to_string()));
    let is_answered = truth.end.is_some();
    // Of one that goes on, its steps tell the prompt, if there were any.
    if is_answered || !row["recv_token_size"].is_empty() {
        is("recv_token_size", truth.prompt.to_string());
    }
    is("reply_token_size", if is_answered { truth.output.to_string() } else { String::new() });
}

/// The rows stand in the order of their start; those of one instant, of several processes, in any.
fn check_in_time<'a, const N: usize>(
    rows: impl IntoIterator<Item = &'a HashMap<String, String>>,
    columns: [&str; N],
    truth: impl Iterator<Item = (String, Vec<String>)>,
) {
    let of_row = |row: &HashMap<String, String>| {
        (row["start_time(ms)"].clone(), columns.map(|name| row[name].clone()).to_vec())
    };
    let mut rows: Vec<_> = rows.into_iter().map(of_row).collect();
    assert!(rows.is_sorted_by_key(|(start, _)| start.clone()));
    rows.sort_unstable();
    let mut truth: Vec<_> = truth.collect();
    truth.sort_unstable();
    assert_eq!(rows, truth);
}

fn check(plan: &Plan, form: Form) -> Outcome {
    let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let outcome = record(plan, form, input.path());
    let report = parse_csv(input.path(), output.path());
    assert_eq!(report.tally.spans + report.tally.instants, outcome.records);
    let (idle, time) = outcome.idle;
    assert_eq!(report.figures.idle_share, (time > 0).then(|| idle as f64 / time as f64));

    let requests = rows(&report, "request.csv");
    assert_eq!(requests.len(), outcome.requests.len());
    for (row, truth) in requests.iter().zip(&outcome.requests) {
        assert_eq!(row["http_rid"], truth.id);
        check_request(row, truth);
    }

    let batches = rows(&report, "batch.csv");
    let schedules = batches.iter().filter(|row| row["name"] == "batchFrameworkProcessing");
    let columns = ["prefill_batch_size", "decode_batch_size", "total_scheduled_tokens", "free_blocks"];
    let truth = outcome.batches.iter().map(|(start, prefills, decodes, tokens, free)| {
        let counts = [*prefills as u64, *decodes as u64, *tokens, *free];
        (millis(*start), counts.map(|count| count.to_string()).to_vec())
    });
    check_in_time(schedules, columns, truth);

    let truth = outcome.forwards.iter().map(|(process, start, bubble)| {
        let bubble = bubble.map(|nanos| format!("{:.2}", nanos as f64 / 1e6)).unwrap_or_default();
        (millis(*start), vec![format!("node{process}"), bubble])
    });
    check_in_time(&rows(&report, "forward.csv"), ["hostname", "bubble_time(ms)"], truth);

    let drafts = rows(&report, "spec_decode.csv");
    let sum = |column: &str| drafts.iter().map(|row| row[column].parse::<u64>().unwrap()).sum::<u64>();
    assert_eq!((sum("spec_tokens"), sum("accepted_tokens")), outcome.drafted);
    outcome
}

#[test]
fn the_truth_comes_out_of_each_form() {
    for form in [Form::Ours, Form::Slices, Form::Messages] {
        let outcome = check(&plan(1), form);
        // The plan has all that can happen to a request.
        let any = |what: fn(&Truth) -> bool| outcome.requests.iter().any(what);
        assert!(any(|r| r.preemptions > 0) && any(|r| r.end.is_none()) && any(|r| r.cache_hit > Some(0.0)));
        assert!(any(|r| r.prompt > 128), "no prompt is chunked");
    }
}

#[test]
fn what_was_drafted_and_accepted_comes_out() {
    let outcome = check(&Plan { drafts: 3, ..plan(4) }, Form::Ours);
    assert!(outcome.drafted.1 > 0 && outcome.drafted.1 < outcome.drafted.0);
}

#[test]
fn both_forms_give_the_same_tables() {
    let outputs = [Form::Ours, Form::Slices].map(|form| {
        let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        record(&plan(2), form, input.path());
        parse_csv(input.path(), output.path());
        output
    });
    for name in [
        "request.csv",
        "batch.csv",
        "kvcache.csv",
        "request_status.csv",
        "request_summary.csv",
        "service_summary.csv",
    ] {
        let [ours, theirs] =
            outputs.each_ref().map(|folder| std::fs::read_to_string(folder.path().join(name)).unwrap());
        // Only the capture's name tells them apart.
        assert_eq!(ours, theirs.replace("ms_service_", ""), "{name}");
    }
}

#[test]
fn a_capture_that_begins_and_ends_in_the_middle_says_nothing_untrue() {
    let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (plan, times) = (plan(3), (BEGIN + 8_000_000, BEGIN + 16_000_000));
    let outcome = record_between(&plan, vec![times; 1 + plan.engines], input.path());
    let report = parse(&options(input.path(), output.path(), &[Format::Csv]), false).unwrap();
    let requests = rows(&report, "request.csv");
    let is_in = |time: u64| times.0 <= time && time < times.1;
    let mut whole = 0;
    for row in &requests {
        // One whose arrival is not in the capture may be known by the engine's id only.
        let id = &row["http_rid"];
        let is_it = |truth: &&Truth| *id == truth.id || id.starts_with(&format!("{}-", truth.id));
        let truth = outcome.requests.iter().find(is_it).expect("a request of the simulation");
        if !is_in(truth.arrival) {
            assert_eq!((&row["start_datetime"][..], &row["execution_time(ms)"][..]), ("", ""));
            assert_eq!(row["first_token_latency(ms)"], "0.000000");
        } else if truth.end.is_some_and(is_in) {
            check_request(row, truth);
            whole += 1;
        } else {
            assert_eq!(row["execution_time(ms)"], "");
        }
    }
    assert!(whole > 0 && whole < requests.len());
}

/// A session in each form of other tools, small enough to be damaged often.
fn foreign(folder: &Path) {
    let plan = Plan { requests: 3, engines: 1, longest: (20, 3), ..plan(5) };
    record(&plan, Form::Slices, folder);
    let event = r#"{"ph": "X", "cat": "k", "name": "n", "pid": 1, "tid": "t", "ts": 5.5, "dur": 2, "args": {"a": [1]}}"#;
    let trace =
        format!(r#"{{"traceEvents": [{event}, {event}], "baseTimeNanoseconds": 1700000000000000000}}"#);
    std::fs::write(folder.join("a.pt.trace.json"), trace).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn damage_in_other_tools_files_never_makes_it_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        foreign(input.path());
        for entry in input.path().read_dir().unwrap() {
            let file = entry.unwrap().path();
            let mut bytes = std::fs::read(&file).unwrap();
            for (at, byte) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            std::fs::write(&file, bytes).unwrap();
        }
        let all = [Format::Csv, Format::Db, Format::Json, Format::Perfetto, Format::Parquet];
        // Whether anything could be read is another question.
        let _ = parse(&options(input.path(), output.path(), &all), true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_the_server_did(
        seed in any::<u32>(),
        requests in 1..50_usize,
        engines in 1..4_usize,
        arrival in 10_000..2_000_000_u64,
        longest in (1..400_u64, 1..40_u64),
        budget in 16..512_u64,
        most in 1..24_usize,
        // One request alone must fit.
        blocks in 30..200_u64,
        drafts in 0..3_u64,
        hits in 0..100_u64,
        aborts in 0..50_u64,
        form in prop::sample::select(vec![Form::Ours, Form::Slices, Form::Messages]),
    ) {
        let plan = Plan {
            seed: seed.into(), requests, engines, arrival, longest, budget, most, blocks, drafts, hits, aborts,
            parts: 0, ..plan(0)
        };
        check(&plan, form);
    }
}
