//! What other tools recorded, as packets. They tell whole spans; a trace has beginnings and ends, in the order of time,
//! and what overlaps without being nested needs a track of its own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use rustc_hash::FxHashMap;

use super::FLUSH;
use crate::clock::{Nanos, Snapshot};
use crate::event::{Kind, ProcessId, Record, ThreadId};
use crate::source::Session;
use crate::spool::Spool;
use crate::trace::{Clocks, Process, Sequence, Thread, Writer, sequence_id};

/// Writes the records of those hosts.
pub(super) fn write(
    out: &mut impl Write,
    of_host: &dyn Fn(&str) -> bool,
    clocks: Snapshot,
    session: &Session,
) -> io::Result<()> {
    if session.imported().is_empty() {
        return Ok(());
    }
    let places = session.places();
    let mut by_start = Spool::default();
    for record in session.imported() {
        if of_host(places.process(record.process).machine()) {
            by_start.push(record.start.0, &record);
        }
    }
    let mut packets =
        Packets { session, clocks, processes: FxHashMap::default(), threads: FxHashMap::default() };
    // Of spans that begin together the longest is the outermost.
    let mut together: Vec<Record> = Vec::new();
    let sorted = by_start.finish()?;
    let mut rows = sorted.iter();
    while let Some(record) = rows.next() {
        let start = record.start;
        together.push(record);
        if rows.next_key() != Some(start.0) {
            together.sort_by_key(|record| Reverse(record.end));
            together.drain(..).try_for_each(|record| packets.record(record, out))?;
        }
    }
    packets.finish(out)
}

struct Packets<'a> {
    session: &'a Session,
    clocks: Snapshot,
    processes: FxHashMap<ProcessId, Writer>,
    threads: FxHashMap<ThreadId, Line>,
}

/// A thread: what is open on it.
struct Line {
    process: ProcessId,
    sequence: Sequence,
    open: BinaryHeap<Reverse<Open>>,
    /// Ends of the spans that are nested, the innermost last.
    nested: Vec<Nanos>,
    /// The number of its next span; no two threads have one in common.
    next: u64,
}

/// An open span. Of those that end together the one that began last ends first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Open {
    end: Nanos,
    number: Reverse<u64>,
    is_nested: bool,
    attributes: Vec<u8>,
}

impl Packets<'_> {
    fn record(&mut self, record: Record, out: &mut impl Write) -> io::Result<()> {
        let places = self.session.places();
        let clocks = self.clocks;
        let writer = self.processes.entry(record.process).or_insert_with(|| {
            let known = places.process(record.process);
            let name = if known.name.is_empty() { known.pid.to_string() } else { known.name.clone() };
            let rank = known.dp_rank.map(|rank| rank.to_string()).unwrap_or_default();
            let process = Process { pid: known.pid, name, command: Vec::new() };
            Writer::new(process, Clocks::Fixed(clocks), &[("hostname", &known.host), ("dpRankId", &rank)])
        });
        let line = self.threads.entry(record.thread).or_insert_with(|| {
            let known = places.thread(record.thread);
            let sequence = sequence_id(record.thread.0.wrapping_mul(0x9e37_79b1) ^ known.tid);
            let thread = Thread { tid: known.tid, name: known.name.clone(), sequence };
            let sequence = writer.thread(&thread);
            Line {
                process: record.process,
                sequence,
                open: BinaryHeap::new(),
                nested: Vec::new(),
                next: u64::from(record.thread.0) << 40,
            }
        });
        let since_boot = |time: Nanos| shifted(time, clocks);
        line.close(writer, record.start, clocks);
        match record.kind {
            Kind::Instant => {
                // Attributes that an importer wrote are whole; so it is below.
                let _ = writer.instant(
                    &mut line.sequence,
                    since_boot(record.start),
                    record.label,
                    &record.attributes,
                );
            }
            Kind::Counter(value) => {
                writer.counter(&mut line.sequence, since_boot(record.start), record.label, value);
            }
            Kind::Span | Kind::Unfinished => {
                line.next += 1;
                let is_nested = line.nested.last().is_none_or(|outer| record.end <= *outer);
                if is_nested {
                    line.nested.push(record.end);
                    writer.begin(&mut line.sequence, since_boot(record.start), record.label);
                } else {
                    writer.async_begin(&mut line.sequence, since_boot(record.start), record.label, line.next);
                }
                line.open.push(Reverse(Open {
                    end: record.end,
                    number: Reverse(line.next),
                    is_nested,
                    attributes: record.attributes,
                }));
            }
        }
        if writer.pending().len() >= FLUSH {
            out.write_all(writer.pending())?;
            writer.written();
        }
        Ok(())
    }

    fn finish(mut self, out: &mut impl Write) -> io::Result<()> {
        for line in self.threads.values_mut() {
            if let Some(writer) = self.processes.get_mut(&line.process) {
                line.close(writer, Nanos(u64::MAX), self.clocks);
            }
        }
        self.processes.values().try_for_each(|writer| out.write_all(writer.pending()))
    }
}

impl Line {
    /// Ends what has ended by then.
    fn close(&mut self, writer: &mut Writer, time: Nanos, clocks: Snapshot) {
        while self.open.peek().is_some_and(|Reverse(open)| open.end <= time) {
            let Some(Reverse(open)) = self.open.pop() else { break };
            let end = shifted(open.end, clocks);
            if open.is_nested {
                self.nested.pop();
                let _ = writer.end(&mut self.sequence, end, &open.attributes);
            } else {
                let Reverse(number) = open.number;
                let _ = writer.async_end(&mut self.sequence, end, number, &open.attributes);
            }
        }
    }
}

/// Unix time as time since boot.
fn shifted(time: Nanos, clocks: Snapshot) -> Nanos {
    Nanos(time.0.wrapping_add(clocks.boot.0).wrapping_sub(clocks.real.0))
}
