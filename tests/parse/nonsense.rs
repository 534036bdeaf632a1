//! Whatever stands in another tool's database, well-formed or not in what it says: nothing panics, nothing overflows.

use std::path::Path;

use msprof_rs::cli::{Format, parse};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Number, Value};

use crate::forms::Databases;
use crate::options;
use crate::simulator::BEGIN;

const DOMAINS: &str = "Engine Request Schedule BatchSchedule Execute KVCache PullKVCache Communication PDSplit \
    Coordinator eplb_observe";

const NAMES: &str = "httpReq httpRes receiveReq tokenize detokenize sendResponse DecodeEnd coreReq coreRes firstToken \
    outputSync Enqueue Dequeue Queue ReqState ReqFinish CacheHitRate batchFrameworkProcessing BatchSchedule dummyBatch \
    modelExec modelRunnerExec specDecoding forward preprocess sample Allocate Free KVCacheStatus RequestDispatch \
    sendReqToD sendReqToDSucc prefillRes decodeRes GroupedMatmul aclnnGroupedMatmul";

const KEYS: &str = "rid type iter batch_type batchType batch_size from to rank load QueueSize= scope#QueueName scope#dp \
    status deviceBlock= usage= AllocatedBlocks= TotalBlocks= FreeBlocks= FreeBlocksBefore= FreeBlocksAfter= \
    UsagePercent= hitCache expert_routing expert_hot chunk arrival num_spec_output_tokens num_scheduled_tokens \
    num_prompt_tokens num_computed_tokens recvTokenSize= replyTokenSize= spec_decode_accepted_by_req batch_seq_len \
    block_tables PrefillAddress DecodeAddress 0+ WAITING+ RUNNING+";

const TEXTS: [&str; 14] = [
    "",
    "a",
    "a-12345678",
    "b,c",
    "None",
    "Prefill,Decode",
    "WAITING",
    "9223372036854775807",
    "-1",
    "1e400",
    "NaN",
    "[[1,2],[3]]",
    "\u{0}\u{feff}",
    "127.0.0.1:8000",
];

fn word(words: &'static str) -> impl Strategy<Value = &'static str> {
    select(words.split_whitespace().collect::<Vec<_>>())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..100_i64).prop_map(Value::from),
        select(vec![i64::MIN, i64::MAX, -1, 1 << 53]).prop_map(Value::from),
        Just(Value::from(u64::MAX)),
        select(vec![0.5, -1e308, 1e308, 5e-324, 1e19])
            .prop_map(|x| Number::from_f64(x).map_or(Value::Null, Value::from)),
        select(&TEXTS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word(KEYS), inner), 0..4).prop_map(|entries| {
                Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

fn args() -> impl Strategy<Value = Map<String, Value>> {
    let rid = prop_oneof![select(vec!["a", "a-12345678", "b", "c"]).prop_map(Value::from), value()];
    let entries = prop::collection::vec((word(KEYS), value()), 0..5);
    (rid, entries).prop_map(|(rid, entries)| {
        let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value));
        std::iter::once(("rid".to_owned(), rid)).chain(entries).collect()
    })
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => (0..1_000_000_i64).prop_map(|after| BEGIN as i64 + after),
        1 => select(vec![0, 1, -1, i64::MIN, i64::MAX, BEGIN as i64]),
        1 => any::<i64>(),
    ]
}

/// Process, start, end, domain and name, arguments.
type Row = (usize, i64, i64, (&'static str, &'static str), Map<String, Value>);

fn row() -> impl Strategy<Value = Row> {
    (0..2_usize, time(), time(), (word(DOMAINS), word(NAMES)), args())
}

/// Whether anything could be read is another question.
fn parse_all(input: &Path, output: &Path) {
    let all = [Format::Csv, Format::Db, Format::Json, Format::Perfetto, Format::Parquet];
    let _ = parse(&options(input, output, &all), true);
}

/// An event of a Chrome trace: its phase says what it is, the rest may be anything.
fn event() -> impl Strategy<Value = Value> {
    let phase = word("X B E b e n i C s t f M P");
    let times = prop_oneof![3 => (0..1_000_i64).prop_map(Value::from), 1 => value()];
    let names = word("httpReq modelExec forward process_name thread_name process_labels clock_sync k");
    let place = prop_oneof![2 => (0..3_i64).prop_map(Value::from), 1 => value()];
    let numbers = (times.clone(), times, place.clone(), place.clone(), place);
    (phase, names, numbers, args()).prop_map(|(phase, name, (ts, dur, pid, tid, id), args)| {
        serde_json::json!({
            "ph": phase, "name": name, "cat": "Execute", "ts": ts, "dur": dur, "pid": pid, "tid": tid, "id": id,
            "args": args,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn nonsense_in_a_chrome_trace_never_makes_it_panic(
        events in prop::collection::vec(event(), 1..40),
        base in prop_oneof![Just(Value::from(BEGIN)), value()],
        name in word("a.pt.trace.json trace_view.json msprof_1.json server_events_1.json"),
    ) {
        let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let trace = serde_json::json!({"baseTimeNanoseconds": base, "traceEvents": events});
        // Some write the bare list of events.
        let text = if name.contains("msprof") { trace["traceEvents"].to_string() } else { trace.to_string() };
        std::fs::write(input.path().join(name), text).unwrap();
        parse_all(input.path(), output.path());
    }

    #[test]
    fn nonsense_never_makes_it_panic(rows in prop::collection::vec(row(), 1..40), is_old in any::<bool>()) {
        let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut databases = Databases::create(input.path(), 1, is_old);
        for (process, start, end, label, args) in &rows {
            databases.row(*process, (*start, *end), *label, args);
        }
        databases.finish();
        parse_all(input.path(), output.path());
    }
}
