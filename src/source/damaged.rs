//! Captures that were damaged after they had been written: what lies outside of the damage is read as it was, and all that is
//! damaged is told. `DAMAGED_CAPTURES` says how many are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index as Any;

use super::fixture::{BOOT, Recording, booted_at};
use super::{Captures, Tally};
use crate::clock::Nanos;
use crate::event::{Attributes, Kind, Label, Name, Value};
use crate::trace::Thread;

const THREADS: usize = 3;
const STEPS: usize = 2_000;
const NAMES: [&str; 4] = ["prefill", "decode", "sample", "wait"];

/// What a block's header begins with, from `docs/trace-format.md`: its prefix, its magic bytes.
const HEAD: &[u8] = b"\x0a\x2f\xca\x7f\x2c\xffmsBlk\xfe";

/// A capture, and what is in it.
struct Capture {
    bytes: Vec<u8>,
    blocks: Vec<Block>,
    spans: BTreeMap<u64, Truth>,
    tally: Tally,
}

struct Block {
    range: Range<usize>,
    begins_group: bool,
}

#[derive(Clone, Debug)]
struct Truth {
    name: &'static str,
    end: u64,
    tid: u32,
    /// The blocks in which its beginning and its end are, or all between them where it may have been put elsewhere meanwhile.
    blocks: BTreeSet<usize>,
}

static PLAIN: LazyLock<Capture> = LazyLock::new(|| Capture::write(false));
static PACKED: LazyLock<Capture> = LazyLock::new(|| Capture::write(true));

/// Numbers that look random, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// A span that has begun.
struct Open {
    start: u64,
    id: Option<u64>,
    is_loose: bool,
    truth: Truth,
}

impl Capture {
    fn write(is_packed: bool) -> Self {
        let mut process = Recording::packed("h", 7, is_packed);
        let (writer, _) = process.raw();
        writer.set_block(2_000);
        let thread =
            |n: usize| Thread { tid: 20 + n as u32, name: format!("t{n}"), sequence: 100 + n as u32 };
        let mut threads: Vec<_> = (0..THREADS).map(|n| writer.thread(&thread(n))).collect();
        let mut nested: Vec<Vec<Open>> = (0..THREADS).map(|_| Vec::new()).collect();
        let mut free: Vec<Open> = Vec::new();
        let (mut numbers, mut spans, mut time) = (Numbers(42), BTreeMap::new(), 1_000);
        for step in 0..STEPS {
            time += 10;
            let n = numbers.below(THREADS);
            let before = writer.block();
            let name = NAMES[numbers.below(NAMES.len())];
            let label = Label::new("Damaged", name);
            let begun = |blocks, id, is_loose| {
                let truth = Truth { name, end: 0, tid: 20 + n as u32, blocks };
                Open { start: time, id, is_loose, truth }
            };
            let last_steps = step > STEPS - 100;
            let ended = match numbers.below(8) {
                0..=2 if nested[n].len() < 8 && !last_steps => {
                    writer.begin(&mut threads[n], Nanos(time), label);
                    nested[n].push(begun((before..=writer.block()).collect(), None, false));
                    None
                }
                3 if !last_steps => {
                    let (id, is_loose) = (step as u64 + 1, numbers.below(2) == 0);
                    if is_loose {
                        writer.loose_begin(&mut threads[n], Nanos(time), label, id);
                    } else {
                        writer.async_begin(&mut threads[n], Nanos(time), label, id);
                    }
                    free.push(begun((before..=writer.block()).collect(), Some(id), is_loose));
                    None
                }
                4 if !free.is_empty() => Some(free.remove(numbers.below(free.len()))),
                5 if numbers.below(20) == 0 => {
                    writer.seal(); // as the flusher does after each visit
                    None
                }
                _ => nested[n].pop(),
            };
            let Some(mut open) = ended else { continue };
            let mut attributes = Attributes::default();
            attributes.key(Name::new("of")).int(open.start as i64);
            let bytes = attributes.as_bytes();
            match open.id {
                Some(id) => writer.async_end(&mut threads[n], Nanos(time), id, bytes).unwrap(),
                None => writer.end(&mut threads[n], Nanos(time), bytes).unwrap(),
            }
            threads.iter_mut().for_each(|thread| writer.settle(thread));
            let first = if open.is_loose { open.truth.blocks.first().copied() } else { None };
            open.truth.blocks.extend(first.unwrap_or(before)..=writer.block());
            open.truth.end = time;
            spans.insert(open.start, open.truth);
        }
        let left = nested.iter().flatten().chain(&free);
        let left: Vec<_> = left.map(|open| (open.start, open.truth.clone())).collect();
        spans.extend(left);
        let folder = tempfile::tempdir().unwrap();
        let bytes = std::fs::read(process.save(folder.path())).unwrap();
        let starts: Vec<_> = memchr::memmem::find_iter(&bytes, HEAD).collect();
        let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
        let blocks = starts.iter().zip(ends).map(|(&start, end)| Block {
            range: start..end,
            begins_group: bytes[start + HEAD.len()] & 2 != 0,
        });
        let blocks = blocks.collect();
        let mut whole = Self { bytes, blocks, spans, tally: Tally::default() };
        let read = whole.read(&whole.bytes);
        assert!(!read.is_told && read.told_missing == Some(0), "nothing is damaged");
        whole.tally = read.tally;
        assert_eq!(whole.tally.orphans, 0);
        assert_eq!(read.spans.len(), whole.spans.len());
        whole
    }

    /// The blocks in which something can't be read: those that are damaged, and what follows in the same group.
    fn lost(&self, damaged: impl Fn(&Range<usize>) -> bool) -> BTreeSet<usize> {
        let (mut lost, mut is_lost) = (BTreeSet::new(), false);
        for (number, block) in self.blocks.iter().enumerate() {
            is_lost = damaged(&block.range) || is_lost && !block.begins_group;
            if is_lost {
                lost.insert(number);
            }
        }
        lost
    }

    /// Reads a capture, and compares each span with what it was.
    fn read(&self, bytes: &[u8]) -> Read {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("h-7.pftrace"), bytes).unwrap();
        let Ok(captures) = Captures::open(folder.path()) else {
            return Read { is_told: true, ..Read::default() };
        };
        let (mut records, mut spans) = (captures.records(), BTreeSet::new());
        while let Some(record) = records.next() {
            let start = record.start.0 - BOOT;
            let truth = self.spans.get(&start);
            let truth = truth.unwrap_or_else(|| panic!("{} at {start} was made up", record.name()));
            assert_eq!(record.name(), truth.name, "at {start}");
            if record.kind == Kind::Span {
                assert_eq!(record.end.0 - BOOT, truth.end, "at {start}");
                let of: Vec<_> = record.entries().map(|(_, value)| value.as_int()).collect();
                assert_eq!(of, [Some(start as i64)]);
            } else {
                assert_eq!(record.kind, Kind::Unfinished);
            }
            assert!(spans.insert(start), "{start} is there twice");
            let thread = captures.places().thread(record.thread);
            assert_eq!(thread.tid, truth.tid, "at {start}");
        }
        let (intake, tally) = (captures.intake(), records.tally());
        let at_places: Option<u64> = intake.torn.iter().map(|damaged| damaged.events).sum();
        let before: u64 = intake.unbegun.iter().map(|file| file.events).sum();
        let told_missing = at_places.map(|events| events + before).filter(|_| intake.unended.is_empty());
        Read {
            is_told: !intake.is_whole() || tally.malformed > 0,
            told_missing: told_missing.map(|events| events + intake.adrift),
            spans,
            tally,
        }
    }

    /// What must hold of a capture that was damaged in these blocks.
    fn check(&self, bytes: &[u8], lost: &BTreeSet<usize>) {
        let read = self.read(bytes);
        assert!(read.is_told || bytes == self.bytes, "damage without a word");
        for (name, truth) in &self.spans {
            let is_outside = truth.blocks.is_disjoint(lost);
            assert!(
                !is_outside || read.spans.contains(name),
                "{name} is not in damaged blocks: {truth:?}, {lost:?}"
            );
        }
        let events = |tally: Tally| 2 * tally.spans + tally.unfinished + tally.orphans;
        let missing = events(self.tally).saturating_sub(events(read.tally));
        if let Some(told) = read.told_missing {
            assert!(missing <= told, "{missing} events are missing, and at most {told} are told");
        }
    }
}

#[derive(Debug, Default)]
struct Read {
    spans: BTreeSet<u64>,
    tally: Tally,
    is_told: bool,
    /// None: it is not known.
    told_missing: Option<u64>,
}

#[derive(Clone, Debug)]
enum Damage {
    Flip {
        at: Any,
        bit: u8,
    },
    Cut {
        at: Any,
        length: usize,
    },
    Zero {
        at: Any,
        length: usize,
    },
    Insert {
        at: Any,
        bytes: Vec<u8>,
    },
    /// A piece of the capture itself, put elsewhere.
    Copy {
        from: Any,
        length: usize,
        at: Any,
    },
    /// It ends here.
    End {
        at: Any,
    },
    /// It ends with a block.
    EndOfBlock {
        block: Any,
    },
    /// A block is missing.
    NoBlock {
        block: Any,
    },
    /// A block is there twice.
    BlockTwice {
        block: Any,
        behind: Any,
    },
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || any::<Any>();
    let length = || prop_oneof![1_usize..20, 1_usize..6_000];
    prop_oneof![
        2 => (at(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        2 => (at(), length()).prop_map(|(at, length)| Damage::Cut { at, length }),
        2 => (at(), length()).prop_map(|(at, length)| Damage::Zero { at, length }),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..300)).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
        1 => (at(), length(), at()).prop_map(|(from, length, at)| Damage::Copy { from, length, at }),
        1 => at().prop_map(|at| Damage::End { at }),
        1 => at().prop_map(|block| Damage::EndOfBlock { block }),
        1 => at().prop_map(|block| Damage::NoBlock { block }),
        1 => (at(), at()).prop_map(|(block, behind)| Damage::BlockTwice { block, behind }),
    ]
}

impl Damage {
    /// Damages the capture. Gives the bytes, and the blocks in which something can't be read.
    fn of(&self, capture: &Capture) -> (Vec<u8>, BTreeSet<usize>) {
        let mut bytes = capture.bytes.clone();
        let length = bytes.len();
        let hits =
            |hit: Range<usize>| capture.lost(move |block| block.start < hit.end && hit.start < block.end);
        let within = |at: usize| capture.lost(move |block| block.start < at && at < block.end);
        let block = |block: &Any| &capture.blocks[block.index(capture.blocks.len())].range;
        let lost = match self {
            Self::Flip { at, bit } => {
                let at = at.index(length);
                bytes[at] ^= 1 << bit;
                hits(at..at + 1)
            }
            Self::Cut { at, length: count } => {
                let at = at.index(length);
                let cut = at..(at + count).min(length);
                bytes.drain(cut.clone());
                hits(cut)
            }
            Self::Zero { at, length: count } => {
                let at = at.index(length);
                let zero = at..(at + count).min(length);
                bytes[zero.clone()].fill(0);
                hits(zero)
            }
            Self::Insert { at, bytes: more } => {
                let at = at.index(length + 1);
                bytes.splice(at..at, more.iter().copied());
                within(at)
            }
            Self::Copy { from, length: count, at } => {
                let (from, at) = (from.index(length), at.index(length + 1));
                let more = capture.bytes[from..(from + count).min(length)].to_vec();
                bytes.splice(at..at, more);
                within(at)
            }
            Self::End { at } => {
                let at = at.index(length);
                bytes.truncate(at);
                hits(at..length)
            }
            Self::EndOfBlock { block: at } => {
                bytes.truncate(block(at).end);
                hits(block(at).end..length)
            }
            Self::NoBlock { block: at } => {
                bytes.drain(block(at).clone());
                hits(block(at).clone())
            }
            Self::BlockTwice { block: at, behind } => {
                let end = block(behind).end;
                bytes.splice(end..end, capture.bytes[block(at).clone()].iter().copied());
                BTreeSet::new()
            }
        };
        (bytes, lost)
    }
}

fn cases() -> u32 {
    std::env::var("DAMAGED_CAPTURES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn what_lies_outside_of_damage_is_read_as_it_was_and_all_damage_is_told(damage in damage(), is_packed: bool) {
        let capture: &Capture = if is_packed { &PACKED } else { &PLAIN };
        let (bytes, lost) = damage.of(capture);
        capture.check(&bytes, &lost);
    }
}

#[test]
fn a_block_that_is_missing_is_told_wherever_it_was() {
    for number in 0..PLAIN.blocks.len() {
        let mut bytes = PLAIN.bytes.clone();
        bytes.drain(PLAIN.blocks[number].range.clone());
        PLAIN.check(&bytes, &PLAIN.lost(|block| *block == PLAIN.blocks[number].range));
    }
}

#[test]
fn a_bit_that_is_flipped_anywhere_is_found() {
    for number in 0..300 {
        let capture: &Capture = &PLAIN;
        let at = capture.bytes.len() / 300 * number;
        let mut bytes = capture.bytes.clone();
        bytes[at] ^= 1 << (number % 8);
        let (whole, read) = (&capture.tally, capture.read(&bytes));
        assert!(read.is_told, "at {at}");
        assert!(read.tally.spans + 200 > whole.spans, "at {at}: {} of {}", read.tally.spans, whole.spans);
    }
}

#[test]
fn a_capture_that_ends_at_any_block_but_its_last_is_told_as_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h-7.pftrace");
    for (number, block) in PLAIN.blocks.iter().enumerate() {
        std::fs::write(&path, &PLAIN.bytes[..block.range.end]).unwrap();
        let is_last = number + 1 == PLAIN.blocks.len();
        let intake = Captures::open(&path).unwrap().intake().clone();
        assert_eq!((intake.unended.len(), intake.torn.len()), (usize::from(!is_last), 0));
    }
}

#[test]
fn captures_in_one_file_are_damaged_one_by_one() {
    let mut other = Recording::new("g", 8, "other", &[]);
    other.instant(2_000, "Engine", "httpReq", &[("rid", Value::Str("x".into()))]);
    let folder = tempfile::tempdir().unwrap();
    let other = std::fs::read(other.save(folder.path())).unwrap();
    let joined = folder.path().join("all.pftrace");
    for cut in [1, PLAIN.bytes.len() / 2] {
        let bytes = [&PLAIN.bytes[..PLAIN.bytes.len() - cut], &other[..]].concat();
        std::fs::write(&joined, bytes).unwrap();
        let captures = Captures::open(&joined).unwrap();
        assert!(!captures.intake().is_whole());
        let (mut records, mut found) = (captures.records(), 0);
        while let Some(record) = records.next() {
            found += u64::from(record.name() == "httpReq");
        }
        assert_eq!(found, 1);
        assert!(!captures.intake().torn[0].is_end);
    }
}

#[test]
fn a_capture_whose_beginning_is_damaged_has_its_times_to_the_nanosecond() {
    let mut process = Recording::new("h", 7, "p", &[]);
    let first = process.bytes().len();
    let (writer, _) = process.raw();
    writer.set_clocks(booted_at(BOOT + 50)); // as it is read a second time
    writer.state_again(std::iter::empty());
    process.instant(2_000, "Engine", "httpReq", &[]);
    let folder = tempfile::tempdir().unwrap();
    let path = process.save(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let times = || {
        let captures = Captures::open(folder.path()).unwrap();
        let mut records = captures.records();
        let start = records.next().map(|record| record.start);
        (start, captures.intake().torn.len())
    };
    assert_eq!(times(), (Some(Nanos(BOOT + 2_000)), 0));
    bytes[first / 2] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(times(), (Some(Nanos(BOOT + 2_000)), 1));
}
