//! Prefill and decode on different machines: when a request went from one to the other, the KV blocks that were pulled,
//! and how many requests the coordinator has given to each address.

use std::collections::BTreeMap;
use std::io;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::ids::RequestId;
use super::resources::Resources;
use crate::clock::Nanos;
use crate::event::{ProcessId, Record};
use crate::spool::{Sorted, Spool};

/// Length of the coordinator's buckets, in nanoseconds.
const BUCKET: u64 = 5_000_000_000;

/// Buckets without events are told of sessions up to this length: a week.
const MOST_BUCKETS: u64 = 7 * 86_400 / 5;

/// When a request was handed over, in unix nanoseconds. The times are those of the records `receiveReq`, `sendReqToD`,
/// `sendReqToDSucc`, `prefillRes` and `decodeRes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// Which request.
    pub request: RequestId,
    /// The five times.
    pub times: [Option<Nanos>; 5],
}

/// Names of the records of a handover, in the order of [`Handover::times`].
const STEPS: [&str; 5] = ["receiveReq", "sendReqToD", "sendReqToDSucc", "prefillRes", "decodeRes"];

/// KV blocks that a decode instance fetched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pull {
    /// When it began, in unix nanoseconds.
    pub start: Nanos,
    /// When it ended, in unix nanoseconds.
    pub end: Nanos,
    /// Where.
    pub process: ProcessId,
    /// For which request.
    pub request: Option<RequestId>,
    /// The rank that fetched, as stated.
    pub rank: String,
    /// Which blocks, as stated.
    pub block_tables: String,
    /// Tokens, as stated.
    pub lengths: String,
}

/// What the coordinator did with one address in five seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// Beginning of the five seconds, in unix nanoseconds.
    pub time: Nanos,
    /// The instance.
    pub address: String,
    /// `prefill` or `decode`.
    pub node_type: &'static str,
    /// Requests that it got.
    pub added: u64,
    /// Requests that it was done with.
    pub ended: u64,
    /// Requests that it had at the end of the bucket.
    pub running: i64,
}

/// Builds the rows.
#[derive(Debug, Default)]
pub struct Handoff {
    handovers: Vec<Handover>,
    by_request: FxHashMap<RequestId, usize>,
    pulls: Spool<Pull>,
    addresses: FxHashMap<RequestId, Addresses>,
    buckets: BTreeMap<(&'static str, String), Buckets>,
}

/// By number of the bucket, requests added and ended.
type Buckets = BTreeMap<u64, (u64, u64)>;

/// Where a request was sent.
#[derive(Debug, Default)]
struct Addresses {
    prefill: Option<String>,
    decode: Option<String>,
}

/// The finished tables.
#[derive(Debug, Default)]
pub struct HandoffTables {
    /// In the order in which they began.
    pub handovers: Vec<Handover>,
    /// By time.
    pub pulls: Sorted<Pull>,
    /// By address, then by time; a bucket without events keeps the number that are running.
    pub dispatched: Vec<Dispatched>,
}

impl Handoff {
    /// Takes a record in.
    pub fn push(&mut self, record: &Record, resources: &Resources) {
        match record.domain() {
            "Communication" | "PDSplit" => self.hand_over(record, resources),
            "PullKVCache" => self.pull(record, resources),
            "Coordinator" => self.coordinate(record, resources),
            _ => {}
        }
    }

    fn hand_over(&mut self, record: &Record, resources: &Resources) {
        let Some(step) = STEPS.iter().position(|name| *name == record.name()) else { return };
        for resource in &resources.list {
            let row = *self.by_request.entry(resource.request).or_insert_with(|| {
                self.handovers.push(Handover { request: resource.request, times: [None; 5] });
                self.handovers.len() - 1
            });
            self.handovers[row].times[step].get_or_insert(record.start);
        }
    }

    fn pull(&mut self, record: &Record, resources: &Resources) {
        let stated = |key| record.get(key).map(|value| value.to_string()).unwrap_or_default();
        let row = Pull {
            start: record.start,
            end: record.end,
            process: record.process,
            request: resources.list.first().map(|resource| resource.request),
            rank: stated("rank"),
            block_tables: stated("block_tables"),
            lengths: stated("batch_seq_len"),
        };
        self.pulls.push(row.start.0, &row);
    }

    fn coordinate(&mut self, record: &Record, resources: &Resources) {
        let Some(request) = resources.list.first().map(|resource| resource.request) else { return };
        let stated = |key| record.get(key).and_then(|value| Some(value.as_str()?.to_owned()));
        let mut count = |node: &'static str, address: Option<&String>, added: u64| {
            let Some(address) = address else { return };
            let buckets = self.buckets.entry((node, address.clone())).or_default();
            let bucket = buckets.entry(record.start.0 / BUCKET).or_default();
            *bucket = (bucket.0 + added, bucket.1 + (1 - added));
        };
        let known = self.addresses.entry(request).or_default();
        match record.name() {
            "RequestDispatch" => {
                *known = Addresses { prefill: stated("PrefillAddress"), decode: stated("DecodeAddress") };
                count("prefill", known.prefill.as_ref(), 1);
            }
            "GenerateToken" if stated("Phase").is_some_and(|phase| phase == "prefill") => {
                // Only the first token of a request moves it.
                if let Some(address) = known.prefill.take() {
                    count("prefill", Some(&address), 0);
                    count("decode", known.decode.as_ref(), 1);
                }
            }
            "ReqFinish" => {
                count("decode", known.decode.as_ref(), 0);
                self.addresses.remove(&request);
            }
            _ => {}
        }
    }

    /// The tables.
    ///
    /// # Errors
    /// There is no space for temporary files.
    pub fn finish(self) -> io::Result<HandoffTables> {
        let mut dispatched = Vec::new();
        let times = self.buckets.values().flat_map(|buckets| buckets.keys().copied());
        // A wrong clock must not make a row for every five seconds since 1970.
        let range = times.clone().min().zip(times.max()).filter(|(first, last)| last - first < MOST_BUCKETS);
        for ((node_type, address), buckets) in self.buckets {
            let mut running = 0;
            let numbers: Vec<u64> = match range {
                Some((first, last)) => (first..=last).collect(),
                None => buckets.keys().copied().collect(),
            };
            for number in numbers {
                let (added, ended) = buckets.get(&number).copied().unwrap_or_default();
                running += added as i64 - ended as i64;
                let (time, address) = (Nanos(number * BUCKET), address.clone());
                dispatched.push(Dispatched { time, address, node_type, added, ended, running });
            }
        }
        Ok(HandoffTables { handovers: self.handovers, pulls: self.pulls.finish()?, dispatched })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;
    use crate::model::Ids;
    use crate::source::fixture::{record, text};

    fn build(records: &[Record]) -> HandoffTables {
        let (mut ids, mut resources, mut handoff) =
            (Ids::default(), Resources::default(), Handoff::default());
        for record in records {
            resources.read(record, &mut ids);
            handoff.push(record, &resources);
        }
        handoff.finish().unwrap()
    }

    #[test]
    fn a_request_is_handed_over_in_five_steps_of_which_the_first_of_each_counts() {
        let at = |time, domain, name| record((time, time), domain, name, &[("rid", text("a"))]);
        let tables = build(&[
            at(1, "Communication", "receiveReq"),
            at(2, "PDSplit", "sendReqToD"),
            at(3, "PDSplit", "sendReqToD"),
            at(9, "PDSplit", "decodeRes"),
            at(10, "Engine", "decodeRes"),
        ]);
        let times = [Some(Nanos(1)), Some(Nanos(2)), None, None, Some(Nanos(9))];
        assert_eq!(tables.handovers, [Handover { request: RequestId(0), times }]);
    }

    #[test]
    fn requests_move_from_the_prefill_address_to_that_of_decode() {
        let at = |seconds: u64, name, more: &[(&str, Value)]| {
            let entries = [&[("rid", text("a"))], more].concat();
            record((seconds * 1_000_000_000, seconds * 1_000_000_000), "Coordinator", name, &entries)
        };
        let tables = build(&[
            at(1, "RequestDispatch", &[("PrefillAddress", text("p")), ("DecodeAddress", text("d"))]),
            at(2, "GenerateToken", &[("Phase", text("prefill"))]),
            at(3, "GenerateToken", &[("Phase", text("prefill"))]),
            at(12, "ReqFinish", &[]),
        ]);
        let seen: Vec<_> = tables
            .dispatched
            .iter()
            .map(|r| (&r.address[..], r.time.0 / 1_000_000_000, r.added, r.ended, r.running))
            .collect();
        assert_eq!(
            seen,
            [
                ("d", 0, 1, 0, 1),
                ("d", 5, 0, 0, 1),
                ("d", 10, 0, 1, 0),
                ("p", 0, 1, 1, 0),
                ("p", 5, 0, 0, 0),
                ("p", 10, 0, 0, 0)
            ]
        );
    }
}
