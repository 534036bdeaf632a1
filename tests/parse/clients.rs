//! Clients as they are: they hang up, retry, repeat ids, want several answers to several prompts; and programs without
//! a server. Each request that the capture tells anything of has one row, whose figures are true or absent.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use msprof_rs::cli::{Format, Report, parse};
use proptest::prelude::*;

use crate::simulator::{BEGIN, Clients, Front, Outcome, Plan, Truth};
use crate::window::{Times, record_between};
use crate::{millis, options, plan, rows};

const ALWAYS: Times = (0, u64::MAX);
const UNKNOWN: &str = "0.000000";

/// Start, latency, time to the first token, time in the queue, cache hits, tokens in and out, as `request.csv` has them.
type Figures = [String; 7];

/// What the capture tells of a request, by the definitions of `docs/tables.md`; none where it tells nothing.
fn figures(truth: &Truth, times: &[Times]) -> Option<Figures> {
    let within = |process: usize| {
        let (begin, end) = times[process];
        move |time: &u64| begin <= *time && *time < end
    };
    let (front, engine) = (within(0), within(truth.process));
    let moments = &truth.moments;
    let is_begun = front(&moments.input) || moments.tokenized.as_ref().is_some_and(front);
    let (text, begun) = (moments.texts.iter().copied().find(front), moments.begun.filter(front));
    let (sent, answered) = (moments.sent.filter(front), moments.answered.filter(front));
    let has_front = is_begun || text.or(begun).or(sent).or(answered).is_some();
    let asked = moments.asked.filter(front).map(|_| truth.arrival);
    let received = moments.received.filter(engine);
    let arrival = asked.or(received.map(|_| (moments.told * 1e9) as u64));
    let released = moments.released.filter(|(time, ..)| engine(time));

    let end = match (answered, released) {
        (Some(answered), _) => Some(answered.max(sent.unwrap_or(0))),
        (None, Some((_, is_aborted, _))) if has_front && !is_aborted => None,
        (None, Some((time, ..))) => Some(time.max(begun.unwrap_or(0))),
        (None, None) => None,
    };
    let runs = moments.runs.iter().filter(|(start, end, _)| engine(start) && engine(end));
    let prefilled = runs.clone().find(|(.., completes)| *completes).map(|(_, end, _)| *end);
    let streamed = match text {
        Some(text) => begun.map(|begun| begun.max(text)),
        None => begun.filter(|_| !truth.shares_answer),
    };
    let first_token = moments.first_token.filter(engine);
    let first_output = streamed.or(text).or(first_token).or(prefilled);
    let first_output = first_output.filter(|_| is_begun || !has_front);
    let output = answered.map(|_| truth.output).or(released.map(|(.., replied)| replied));
    let is_nothing = released.is_some_and(|(_, is_aborted, _)| is_aborted) && output == Some(0);
    let first_output = first_output.filter(|_| !is_nothing);

    let stays = moments.stays.iter().filter(|(start, end)| engine(start) && engine(end));
    let has_queued = moments.stays.first().is_some_and(|(start, _)| engine(start));
    let wait: u64 = stays.map(|(start, end)| end - start).sum();
    let wait = (has_queued && wait > 0).then_some(wait);
    let is_from_start = has_queued || received.is_some();
    let hit = truth.cache_hit.filter(|_| is_from_start && moments.looked_up.as_ref().is_some_and(engine));
    let has_run = runs.clone().next().is_some();
    let knows_prompt = answered.is_some() || received.is_some() || released.is_some() || has_run;
    let prompt = knows_prompt.then_some(truth.prompt);

    let says_something = arrival.or(wait).or(prompt).or(output).is_some();
    let since = |time: Option<u64>| arrival.zip(time).map(|(arrival, time)| millis(time - arrival));
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    says_something.then(|| {
        [
            arrival.map(millis).unwrap_or_default(),
            since(end).unwrap_or_default(),
            since(first_output).unwrap_or(UNKNOWN.into()),
            wait.map_or(UNKNOWN.into(), millis),
            hit.map_or("N/A".into(), |share| share.to_string()),
            number(prompt),
            number(output),
        ]
    })
}

fn told(row: &HashMap<String, String>) -> Figures {
    [
        "start_time(ms)",
        "execution_time(ms)",
        "first_token_latency(ms)",
        "queue_wait_time(ms)",
        "cache_hit_rate",
        "recv_token_size",
        "reply_token_size",
    ]
    .map(|column| row[column].clone())
}

/// The API server's id: without the number of those that had it before, or what the engine adds to it.
fn name_of(id: &str) -> &str {
    let id = id.rsplit_once('#').map_or(id, |(name, _)| name);
    let is_suffix = |text: &str| text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
    id.rsplit_once('-').filter(|(_, suffix)| is_suffix(suffix)).map_or(id, |(name, _)| name)
}

fn check(plan: &Plan, times: Vec<Times>) -> (Outcome, Report) {
    let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let outcome = record_between(plan, times.clone(), input.path());
    let report = parse(&options(input.path(), output.path(), &[Format::Csv]), false).unwrap();
    let rows = rows(&report, "request.csv");
    let mut ids = HashSet::new();
    for row in &rows {
        assert!(ids.insert(&row["http_rid"]), "{} is there twice", row["http_rid"]);
    }
    let by_name = |all: &mut dyn Iterator<Item = (String, Figures)>| {
        let mut names: BTreeMap<String, Vec<Figures>> = BTreeMap::new();
        all.for_each(|(name, figures)| names.entry(name).or_default().push(figures));
        names.values_mut().for_each(|figures| figures.sort());
        names
    };
    let rows_by_name = by_name(&mut rows.iter().map(|row| (name_of(&row["http_rid"]).to_owned(), told(row))));
    let truths =
        outcome.requests.iter().filter_map(|truth| Some((truth.id.clone(), figures(truth, &times)?)));
    let truths_by_name = by_name(&mut truths.into_iter());
    let names: BTreeSet<&String> = rows_by_name.keys().chain(truths_by_name.keys()).collect();
    for name in names {
        assert_eq!(rows_by_name.get(name), truths_by_name.get(name), "{name}");
    }
    let arrived = rows.iter().filter(|row| !row["start_time(ms)"].is_empty()).count();
    assert_eq!(report.figures.requests, arrived);
    (outcome, report)
}

fn crowd(seed: u64) -> Plan {
    let clients = Clients { prompts: 3, answers: 3, repeats: 40, searches: 15, streams: 50 };
    Plan { front: Front::Joined, clients, aborts: 30, ..plan(seed) }
}

#[test]
fn each_request_of_a_crowd_has_one_row_with_its_figures() {
    let (outcome, report) = check(&crowd(11), vec![ALWAYS; 3]);
    assert_eq!(report.figures.requests, outcome.requests.len());
    let any = |what: fn(&Truth) -> bool| outcome.requests.iter().any(what);
    assert!(any(|truth| truth.moments.released.is_some_and(|(_, is_aborted, _)| is_aborted)));
    assert!(any(|truth| truth.moments.answered.is_none() && truth.moments.texts.len() > 1));
    assert!(any(|truth| truth.preemptions > 0) && any(|truth| truth.shares_answer));
    assert!(any(|truth| truth.id.starts_with("2_")) && any(|truth| truth.id.contains("-beam-1")));
    let names: HashSet<&str> = outcome.requests.iter().map(|truth| truth.id.as_str()).collect();
    assert!(names.len() < outcome.requests.len(), "no id is repeated");
}

#[test]
fn each_request_of_a_program_has_one_row_with_its_figures() {
    let (outcome, report) = check(&Plan { front: Front::Offline, ..crowd(12) }, vec![ALWAYS; 3]);
    assert_eq!(report.figures.requests, outcome.requests.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_clients_do_and_whenever_collection_begins_and_ends(
        seed in any::<u32>(),
        requests in 1..30_usize,
        engines in 1..3_usize,
        arrival in 10_000..2_000_000_u64,
        longest in (1..200_u64, 1..20_u64),
        most in 1..24_usize,
        blocks in 30..200_u64,
        drafts in 0..3_u64,
        aborts in 0..70_u64,
        clients in (1..4_u64, 1..4_u64, 0..100_u64, 0..40_u64, 0..100_u64),
        is_offline in any::<bool>(),
        is_whole in any::<bool>(),
        begin in 0..30_000_000_u64,
        length in 0..30_000_000_u64,
        // Processes notice a switch one after the other.
        lags in prop::collection::vec((0..3_000_000_u64, 0..3_000_000_u64), 3),
    ) {
        let (prompts, answers, repeats, searches, streams) = clients;
        let plan = Plan {
            seed: seed.into(), requests, engines, arrival, longest, most, blocks, drafts, aborts,
            front: if is_offline { Front::Offline } else { Front::Joined },
            clients: Clients { prompts, answers, repeats, searches, streams },
            parts: 0, ..plan(0)
        };
        let lag = |(on, off): (u64, u64)| (BEGIN + begin + on, BEGIN + begin + length + off);
        let times = lags.into_iter().map(|lags| if is_whole { ALWAYS } else { lag(lags) });
        let (outcome, report) = check(&plan, times.take(1 + engines).collect());
        if is_whole {
            prop_assert_eq!(report.figures.requests, outcome.requests.len());
        }
    }
}
