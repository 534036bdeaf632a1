//! Spans that end in any order, on any thread, on their way from the rings through the file to the reader.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::event::Kind as RecordKind;
use crate::ring::{Begun, Owner, Place, Producer, Ring, new_span_id};
use crate::source::{Captures, Tally};

const THREADS: usize = 3;

/// One step of a random program. Numbers choose among what is there.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A hooked function is entered.
    Begin(usize),
    /// One returns, not always the innermost: greenlets switch.
    End(usize, usize),
    /// A `with` block is entered.
    BeginLoose(usize),
    /// A coroutine's first step.
    BeginAsync(usize),
    /// One of either ends, on any thread.
    EndAnywhere(usize, usize),
    /// The flusher takes what is in a thread's ring.
    Drain(usize),
    /// The flusher has been at all rings.
    Visit,
}

fn step() -> impl Strategy<Value = Step> {
    let thread = 0..THREADS;
    prop_oneof![
        4 => thread.clone().prop_map(Step::Begin),
        4 => (thread.clone(), 0_usize..4).prop_map(|(thread, which)| Step::End(thread, which)),
        2 => thread.clone().prop_map(Step::BeginLoose),
        1 => thread.clone().prop_map(Step::BeginAsync),
        3 => (thread.clone(), any::<usize>()).prop_map(|(thread, which)| Step::EndAnywhere(thread, which)),
        2 => thread.prop_map(Step::Drain),
        1 => Just(Step::Visit),
    ]
}

/// Begin and end of each span, by its name.
type Truth = BTreeMap<String, (u64, Option<u64>)>;

struct Machine {
    writer: Writer,
    threads: Vec<(Producer, Consumer, Sequence)>,
    time: u64,
    truth: Truth,
    /// Spans of hooked functions, by thread.
    nested: Vec<Vec<(Begun, Label)>>,
    /// Those with an id.
    free: Vec<(u64, Label)>,
}

impl Machine {
    fn new() -> Self {
        let process = Process { pid: 7, name: "p".into(), command: vec![] };
        let clocks = Clocks::Fixed(Snapshot { boot: Nanos(0), monotonic: Nanos(0), real: Nanos(0) });
        let mut writer = Writer::new(process, clocks, &[("hostname", "h")]).in_blocks(false, None);
        let thread = |number: usize| {
            let (tid, sequence) = (number as u32 + 8, number as u32 + 100);
            let ring = Ring::create(Place::Private, 1 << 16, Owner { pid: 7, tid, sequence }).unwrap();
            let ring = Arc::new(ring);
            let sequence = writer.thread(&Thread { tid, name: "t".into(), sequence });
            (Producer::new(ring.clone(), |_, _| None), Consumer::new(ring), sequence)
        };
        let threads = (0..THREADS).map(thread).collect();
        Self {
            writer,
            threads,
            time: 1_000,
            truth: Truth::new(),
            nested: vec![Vec::new(); THREADS],
            free: Vec::new(),
        }
    }

    fn now(&mut self) -> u64 {
        self.time += 10;
        self.time
    }

    fn begin(&mut self) -> (Label, u64) {
        let (name, now) = (format!("span {}", self.truth.len()), self.now());
        let label = Label::new("Any order", &name);
        self.truth.insert(name, (now, None));
        (label, now)
    }

    fn end(&mut self, label: Label) -> u64 {
        let now = self.now();
        self.truth.entry(label.name().as_str().into()).and_modify(|(_, end)| *end = Some(now));
        now
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Begin(thread) => {
                let (label, now) = self.begin();
                let begun = self.threads[thread].0.begin(label.index(), Ticks(now)).unwrap();
                self.nested[thread].push((begun, label));
            }
            Step::End(thread, which) => {
                let open = &mut self.nested[thread];
                // The innermost is the rule.
                let Some(position) = open.len().checked_sub(1 + which.saturating_sub(1)) else { return };
                let (begun, label) = open.remove(position);
                let now = self.end(label);
                self.threads[thread].0.end(begun, label.index(), Ticks(now), &[]);
            }
            Step::BeginLoose(thread) | Step::BeginAsync(thread) => {
                let ((label, now), id) = (self.begin(), new_span_id());
                let is_loose = matches!(step, Step::BeginLoose(_));
                let kind = if is_loose { Kind::LooseBegin } else { Kind::AsyncBegin };
                assert!(self.threads[thread].0.record(kind, label.index(), Ticks(now), id, &[]));
                self.free.push((id, label));
            }
            Step::EndAnywhere(thread, which) => {
                if self.free.is_empty() {
                    return;
                }
                let (id, label) = self.free.remove(which % self.free.len());
                let now = self.end(label);
                self.threads[thread].0.async_end(label.index(), Ticks(now), id, &[]);
            }
            Step::Drain(thread) => {
                let Self { writer, threads, .. } = self;
                let (_, consumer, sequence) = &mut threads[thread];
                let take = |record: Record<'_>| write(writer, sequence, Nanos(record.ticks.0), &record);
                consumer.drain(usize::MAX, take).unwrap();
                consumer.release();
            }
            Step::Visit => {
                (0..THREADS).rev().for_each(|thread| self.run(Step::Drain(thread)));
                for (_, _, sequence) in &mut self.threads {
                    self.writer.settle(sequence);
                }
                assert_eq!(self.writer.next_visit(), Lost::default());
            }
        }
    }

    /// What a reader of the capture sees, and what it counted.
    fn read(mut self) -> (Truth, Truth, Tally) {
        self.run(Step::Visit);
        for (producer, consumer, sequence) in self.threads {
            assert_eq!(consumer.newly_dropped(), 0);
            drop(producer);
            self.writer.retire(sequence);
        }
        assert_eq!(self.writer.last_visit(), Lost::default());
        self.writer.close();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("h-7.pftrace"), self.writer.pending()).unwrap();
        let captures = Captures::open(folder.path()).unwrap();
        let mut records = captures.records();
        let mut seen = Truth::new();
        while let Some(record) = records.next() {
            let end = (record.kind == RecordKind::Span).then_some(record.end.0);
            let former = seen.insert(record.name().to_owned(), (record.start.0, end));
            assert!(former.is_none(), "{} twice", record.name());
        }
        (self.truth, seen, records.tally())
    }
}

proptest! {
    #[test]
    fn every_span_has_its_own_times_whatever_the_order_of_ends(steps in prop::collection::vec(step(), 0..120)) {
        let mut machine = Machine::new();
        steps.into_iter().for_each(|step| machine.run(step));
        let (truth, seen, tally) = machine.read();
        prop_assert_eq!(&seen, &truth);
        let unfinished = truth.values().filter(|(_, end)| end.is_none()).count() as u64;
        let expected = Tally { spans: truth.len() as u64 - unfinished, unfinished, ..Tally::default() };
        prop_assert_eq!(tally, expected);
    }
}
