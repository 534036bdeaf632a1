//! How fast a capture is read, on one core: millions of events a second, and the goal.

use std::sync::Arc;
use std::time::Instant;

use msprof_rs::clock::{Nanos, Snapshot};
use msprof_rs::event::{Attributes, Label, Name};
use msprof_rs::source::Captures;
use msprof_rs::trace::{Clocks, Index, Part, Process, Thread, Writer, sequence_id};

const SPANS: u64 = 2_000_000;
const PIECE: u64 = 2_000;
const GOAL: f64 = 20.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("host-7.pftrace"), capture())?;
    let parts: Arc<[Part]> = Arc::from([Part::from(std::fs::read(folder.path().join("host-7.pftrace"))?)]);
    report("events decoded, sequence by sequence", || {
        let index = Index::of(&parts);
        let mut count = 0;
        for position in 0..index.sequences.len() {
            let mut reader = index.read(position, parts.clone());
            while reader.advance() {
                count += 1;
            }
        }
        assert_eq!(count, 2 * SPANS + 2, "all events are read, and the two about the process");
    });
    report("events put together to records in the order of time", || {
        let captures = Captures::open(folder.path()).expect("it was just written");
        let mut records = captures.records();
        let mut count = 0;
        while records.next().is_some() {
            count += 1;
        }
        assert_eq!(count, SPANS, "all spans are read");
    });
    Ok(())
}

/// The best of some runs.
fn report(what: &str, read: impl Fn()) {
    let time = |_| {
        let start = Instant::now();
        read();
        start.elapsed().as_secs_f64()
    };
    let rate = 2.0 * SPANS as f64 / (0..7).map(time).fold(f64::MAX, f64::min) / 1e6;
    let verdict = if rate >= GOAL { "held" } else { "missed" };
    println!("reader: {what:<52} {rate:>6.1} M/s; {GOAL}: {verdict}");
}

/// Spans of four threads, each with an integer.
fn capture() -> Vec<u8> {
    let process = Process { pid: 7, name: "bench".into(), command: Vec::new() };
    let writer = Writer::new(process, Clocks::Fixed(Snapshot::now()), &[("hostname", "host")]);
    let mut writer = writer.in_blocks(false, None);
    let thread = |tid| Thread { tid, name: "thread".into(), sequence: sequence_id(tid << 4) };
    let mut sequences: Vec<_> = (1..=4).map(|tid| writer.thread(&thread(tid))).collect();
    let labels = ["prefill", "decode", "sample"].map(|name| Label::new("Bench", name));
    let start = Snapshot::now().boot.0;
    // As the flusher leaves them: a piece of one thread, then one of the next, of the same time.
    for piece in 0..SPANS / PIECE {
        let sequence = &mut sequences[piece as usize % 4];
        for number in 0..PIECE {
            let time = start + (piece / 4 * PIECE + number) * 1_000 + piece % 4;
            let mut attributes = Attributes::default();
            attributes.key(Name::new("number")).int((piece * PIECE + number) as i64);
            writer.begin(sequence, Nanos(time), labels[number as usize % 3]);
            // Just encoded, so it is whole.
            let _ = writer.end(sequence, Nanos(time + 700), attributes.as_bytes());
        }
    }
    writer.close();
    writer.pending().to_vec()
}
