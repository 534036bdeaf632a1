//! The reading end of a ring: the flusher's, or after a crash whoever reads the capture.

use std::sync::Arc;

use super::Ring;
use super::atomic::Ordering;
use super::layout::{ALIGN, Kind, RECORD_HEAD, Record, split_head_word};
use crate::clock::Ticks;

/// The only reader of its ring.
#[derive(Debug)]
pub struct Consumer {
    ring: Arc<Ring>,
    tail: u64,
}

/// The bytes between tail and head make no sense: the file was damaged. What came before was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{lost} bytes of a ring are damaged")]
pub struct Damaged {
    /// Bytes up to the head that could not be read.
    pub lost: u64,
}

impl Consumer {
    /// The reading end of `ring`, from where the last reader stopped.
    pub fn new(ring: Arc<Ring>) -> Self {
        let tail = ring.header().tail.load(Ordering::Relaxed);
        Self { ring, tail }
    }

    /// The ring that this reads.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Gives committed records to `take`, oldest first, about `most` bytes of them. Their room is freed by
    /// [`Consumer::release`]. Whether there were more.
    ///
    /// # Errors
    /// A record is damaged: the rest up to the head is skipped.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(Record<'_>)) -> Result<bool, Damaged> {
        let head = self.ring.header().head.load(Ordering::Acquire);
        if head == self.tail {
            return Ok(false);
        }
        let first = self.tail;
        let end = self.walk(head, |at, record| {
            let is_wanted = at - first < most as u64;
            if is_wanted {
                take(record);
            }
            is_wanted
        });
        self.tail = end.unwrap_or(head);
        end.map(|end| end < head)
    }

    /// Notes that what was drained is about to be written to a file, which grows from `before` to `after` bytes by it:
    /// whoever reads both after a crash can tell what is in the file.
    pub fn announce(&self, before: u64, after: u64) {
        let header = self.ring.header();
        header.file_before.store(before, Ordering::Relaxed);
        header.file_after.store(after, Ordering::Relaxed);
        header.taking.store(self.tail, Ordering::Release);
    }

    /// Frees the room of what was drained.
    pub fn release(&self) {
        self.ring.header().tail.store(self.tail, Ordering::Release);
    }

    /// For a ring whose process has died: passes over what is in the file, which has `length` bytes.
    pub fn pass_over_written(&mut self, length: u64) {
        let header = self.ring.header();
        let taking = header.taking.load(Ordering::Relaxed);
        if taking > self.tail && length >= header.file_after.load(Ordering::Relaxed) {
            self.tail = taking;
        }
    }

    /// Like [`Consumer::drain`], but takes nothing away: another look gives the same and more.
    ///
    /// # Errors
    /// A record is damaged: what comes after it is not given.
    pub fn peek(&self, mut take: impl FnMut(Record<'_>)) -> Result<(), Damaged> {
        let head = self.ring.header().head.load(Ordering::Acquire);
        self.walk(head, |_, record| {
            take(record);
            true
        })
        .map(|_| ())
    }

    /// Passes over the oldest records: all but the newest `keep` bytes, and those before `oldest`. Gives each to
    /// `passed`.
    ///
    /// # Errors
    /// A record is damaged: the rest up to the head is skipped.
    pub fn forget(
        &mut self,
        keep: u64,
        oldest: Ticks,
        mut passed: impl FnMut(Record<'_>),
    ) -> Result<(), Damaged> {
        let head = self.ring.header().head.load(Ordering::Acquire);
        let end = self.walk(head, |at, record| {
            let is_over = head - at > keep || record.ticks < oldest;
            if is_over {
                passed(record);
            }
            is_over
        });
        self.tail = *end.as_ref().unwrap_or(&head);
        self.release();
        end.map(|_| ())
    }

    /// Gives the records up to `head`, each with its position, until one is not wanted. Gives where it stopped.
    fn walk(&self, head: u64, mut wants: impl FnMut(u64, Record<'_>) -> bool) -> Result<u64, Damaged> {
        let capacity = self.ring.capacity();
        let mut at = self.tail;
        let damaged = |at: u64| Damaged { lost: head.wrapping_sub(at) };
        if head.wrapping_sub(at) > capacity as u64 || !at.is_multiple_of(ALIGN as u64) {
            return Err(damaged(at));
        }
        while at < head {
            let start = at as usize & (capacity - 1);
            let committed = (head - at).min((capacity - start) as u64) as usize;
            let read = |bytes: &[u8]| {
                let (length, kind, label) = split_head_word(word(bytes, 0)?);
                let size = length.next_multiple_of(ALIGN);
                if length < ALIGN || size > committed {
                    return None;
                }
                let is_wanted = kind == 0 || wants(at, record(&bytes[..length], kind, label)?);
                Some((size as u64, is_wanted))
            };
            // SAFETY: `committed` bytes from `start` on lie inside the records' part and before `head`; the producer
            // wrote them before it stored `head` and does not touch them until `tail` has passed.
            let (size, is_wanted) =
                unsafe { self.ring.records().read(start, committed, read) }.ok_or(damaged(at))?;
            if !is_wanted {
                break;
            }
            at += size;
        }
        Ok(at)
    }

    /// Records dropped since this was last asked, here or by the flusher of a process that has died.
    pub fn newly_dropped(&self) -> u64 {
        let header = self.ring.header();
        let total = header.dropped.load(Ordering::Relaxed);
        total.saturating_sub(header.dropped_stated.swap(total, Ordering::Relaxed))
    }
}

fn record(bytes: &[u8], kind: u8, label: u32) -> Option<Record<'_>> {
    let kind = Kind::from_byte(kind)?;
    let ticks = Ticks(word(bytes, 8)?);
    let (id, start) =
        if kind.has_id() { (word(bytes, RECORD_HEAD)?, RECORD_HEAD + 8) } else { (0, RECORD_HEAD) };
    Some(Record { kind, label, ticks, id, attributes: bytes.get(start..)? })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::{Owner, Place, Producer};
    use super::*;
    use crate::clock::{Anchor, Nanos};
    use crate::files;

    const LINE: (f64, Anchor) = (0.5, Anchor { ticks: Ticks(1), boot: Nanos(2) });

    const OWNER: Owner = Owner { pid: 7, tid: 8, sequence: 9 };

    fn ring(capacity: usize) -> (Producer, Consumer) {
        let ring = Arc::new(Ring::create(Place::Private, capacity, OWNER).unwrap());
        (Producer::new(ring.clone(), |_, _| None), Consumer::new(ring))
    }

    fn drained(consumer: &mut Consumer) -> Vec<(Kind, u32, u64, u64, Vec<u8>)> {
        let mut records = Vec::new();
        let record = |r: Record<'_>| (r.kind, r.label, r.ticks.0, r.id, r.attributes.to_vec());
        while consumer.drain(100, |r| records.push(record(r))).unwrap() {}
        consumer.release();
        records
    }

    #[test]
    fn records_arrive_as_they_were_pushed() {
        let (mut producer, mut consumer) = ring(4096);
        let begun = producer.begin(1, Ticks(10)).unwrap();
        assert!(producer.record(Kind::AsyncBegin, 2, Ticks(11), 77, b"abc"));
        producer.end(begun, 1, Ticks(12), b"some attributes");
        assert_eq!(
            drained(&mut consumer),
            [
                (Kind::Begin, 1, 10, 0, vec![]),
                (Kind::AsyncBegin, 2, 11, 77, b"abc".to_vec()),
                (Kind::End, 1, 12, 0, b"some attributes".to_vec()),
            ]
        );
        assert!(drained(&mut consumer).is_empty());
    }

    #[test]
    fn a_full_ring_drops_the_newest_and_counts_it() {
        let (mut producer, mut consumer) = ring(4096);
        let pushed = (0..1000).filter(|n| producer.record(Kind::Instant, *n, Ticks(0), 0, &[])).count();
        assert_eq!(pushed, 4096 / 16);
        assert_eq!(consumer.newly_dropped(), 1000 - pushed as u64);
        assert_eq!(consumer.newly_dropped(), 0);
        let labels: Vec<u32> = drained(&mut consumer).iter().map(|r| r.1).collect();
        assert_eq!(labels, (0..pushed as u32).collect::<Vec<_>>());
        assert!(producer.record(Kind::Instant, 0, Ticks(0), 0, &[]));
    }

    #[test]
    fn a_begun_span_can_be_ended_however_full_the_ring_is() {
        let (mut producer, mut consumer) = ring(4096);
        let mut open: Vec<_> = std::iter::from_fn(|| producer.begin(5, Ticks(0))).collect();
        let begun = open.len();
        while producer.record(Kind::Instant, 6, Ticks(0), 0, &[]) {}
        while let Some(span) = open.pop() {
            producer.end(span, 5, Ticks(1), &[0; 100]);
        }
        let records = drained(&mut consumer);
        let count = |kind| records.iter().filter(|r| r.0 == kind).count();
        assert!(begun > 50);
        assert_eq!((count(Kind::Begin), count(Kind::End)), (begun, begun));
        assert_eq!(producer.open_spans(), 0);
    }

    #[test]
    fn the_end_of_a_span_that_does_not_nest_names_it() {
        let (mut producer, mut consumer) = ring(4096);
        let outer = producer.begin(1, Ticks(1)).unwrap();
        let first = producer.begin(2, Ticks(2)).unwrap();
        let second = producer.begin(3, Ticks(3)).unwrap();
        producer.end(first, 2, Ticks(4), b"of 2");
        let third = producer.begin(4, Ticks(5)).unwrap(); // among spans that don't nest
        producer.end(second, 3, Ticks(6), &[]);
        assert_eq!(producer.open_spans(), 2);
        producer.end(third, 4, Ticks(7), &[]);
        // From here on they nest again.
        let inner = producer.begin(5, Ticks(8)).unwrap();
        producer.end(inner, 5, Ticks(9), &[]);
        producer.end(outer, 1, Ticks(10), &[]);
        assert_eq!(producer.open_spans(), 0);
        let records = drained(&mut consumer);
        let kinds: Vec<_> = records.iter().map(|record| (record.0, record.1, record.2)).collect();
        assert_eq!(
            kinds,
            [
                (Kind::Begin, 1, 1),
                (Kind::Begin, 2, 2),
                (Kind::Begin, 3, 3),
                (Kind::EndWithin, 2, 4),
                (Kind::LooseBegin, 4, 5),
                (Kind::EndWithin, 3, 6),
                (Kind::AsyncEnd, 4, 7),
                (Kind::Begin, 5, 8),
                (Kind::End, 5, 9),
                (Kind::End, 1, 10),
            ]
        );
        assert_eq!(records[3].4, b"of 2");
        assert_eq!(records[4].3, records[6].3);
    }

    #[test]
    fn a_begun_span_can_be_ended_in_any_order_however_full_the_ring_is() {
        let (mut producer, mut consumer) = ring(4096);
        let first = [0, 1, 2].map(|_| producer.begin(5, Ticks(0)).unwrap());
        producer.end(first[0], 5, Ticks(0), &[]);
        let loose: Vec<_> = std::iter::from_fn(|| producer.begin(5, Ticks(0))).collect();
        assert!(loose.len() > 30);
        while producer.record(Kind::Instant, 6, Ticks(0), 0, &[]) {}
        producer.end(first[1], 5, Ticks(1), &[0; 100]);
        for span in loose.into_iter().chain([first[2]]) {
            producer.end(span, 5, Ticks(1), &[0; 100]);
        }
        let records = drained(&mut consumer);
        let count = |kinds: &[Kind]| records.iter().filter(|record| kinds.contains(&record.0)).count();
        let (begun, ended) = ([Kind::Begin, Kind::LooseBegin], [Kind::End, Kind::EndWithin, Kind::AsyncEnd]);
        assert_eq!(count(&begun), count(&ended));
        assert_eq!(producer.open_spans(), 0);
        assert!(producer.begin(5, Ticks(2)).is_some());
    }

    #[test]
    fn the_end_of_an_overlapping_span_is_counted_once_when_it_finds_no_room() {
        let (mut producer, mut consumer) = ring(4096);
        assert!(producer.record(Kind::AsyncBegin, 5, Ticks(0), 1, &[]));
        assert!(producer.record(Kind::AsyncBegin, 5, Ticks(0), 2, &[]));
        let free = 4096 - 2 * 24;
        assert!(producer.record(Kind::Instant, 6, Ticks(0), 0, &vec![0; free - 16 - 24]));
        producer.async_end(5, Ticks(1), 1, b"left out");
        assert_eq!(consumer.newly_dropped(), 1);
        producer.async_end(5, Ticks(1), 2, b"left out with its record");
        assert_eq!(consumer.newly_dropped(), 1);
        let ends = drained(&mut consumer).into_iter().filter(|r| r.0 == Kind::AsyncEnd);
        assert_eq!(ends.collect::<Vec<_>>(), [(Kind::AsyncEnd, 5, 1, 1, vec![])]);
    }

    #[test]
    fn after_a_crash_each_record_is_in_the_file_or_in_the_ring() {
        let (mut producer, mut consumer) = ring(4096);
        for n in 0..3 {
            assert!(producer.record(Kind::Instant, n, Ticks(0), 0, &[]));
        }
        assert_eq!(consumer.drain(16, |record| assert_eq!(record.label, 0)), Ok(true));
        consumer.announce(1000, 1100);
        let labels = |length| {
            assert_eq!(consumer.ring().uncertain_from(length), (length == 1050).then_some(1000), "{length}");
            let mut after = Consumer::new(consumer.ring().clone());
            after.pass_over_written(length);
            let mut labels = Vec::new();
            after.drain(usize::MAX, |record| labels.push(record.label)).unwrap();
            labels
        };
        assert_eq!(labels(1000), [0, 1, 2]); // nothing was written
        assert_eq!(labels(1050), [0, 1, 2]); // a part, which is cut off
        assert_eq!(labels(1100), [1, 2]); // all, but the room was not freed any more
        consumer.release();
        assert_eq!(labels(1100), [1, 2]);
        assert_eq!(labels(1070), [1, 2]);
    }

    #[test]
    fn a_ring_that_is_removed_says_no_more_how_long_the_file_was() {
        let (_, consumer) = ring(4096);
        consumer.announce(1000, 1100);
        assert_eq!(consumer.ring().file_length(), 1100);
        consumer.ring().remove_file();
        assert_eq!(consumer.ring().file_length(), 0);
    }

    #[test]
    fn records_of_any_size_survive_the_wrap() {
        let (mut producer, mut consumer) = ring(4096);
        let mut expected = Vec::new();
        for n in 0..5_000_u32 {
            let attributes = vec![n as u8; (n as usize * 37) % 300];
            assert!(producer.record(Kind::Instant, n, Ticks(u64::from(n)), 0, &attributes));
            expected.push(attributes);
            if n % 7 == 6 {
                let got: Vec<Vec<u8>> = drained(&mut consumer).into_iter().map(|r| r.4).collect();
                assert_eq!(got, std::mem::take(&mut expected));
            }
        }
    }

    #[test]
    fn two_threads_see_every_record_once_and_in_order() {
        let (mut producer, mut consumer) = ring(1 << 14);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..200_000_u32 {
                    while !producer.record(
                        Kind::Instant,
                        n & 0xff_ffff,
                        Ticks(u64::from(n)),
                        0,
                        &n.to_le_bytes(),
                    ) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut next = 0_u32;
            while next < 200_000 {
                consumer
                    .drain(usize::MAX, |record| {
                        assert_eq!(record.attributes, next.to_le_bytes());
                        assert_eq!(record.ticks, Ticks(u64::from(next)));
                        next += 1;
                    })
                    .unwrap();
                consumer.release();
                std::thread::yield_now();
            }
        });
    }

    #[test]
    fn a_ring_file_is_read_by_whoever_opens_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ring");
        let ring = Arc::new(Ring::create(Place::File(path.clone()), 4096, OWNER).unwrap());
        ring.set_line(LINE);
        let mut producer = Producer::new(ring.clone(), |_, _| None);
        producer.record(Kind::Instant, 3, Ticks(4), 0, b"left behind");
        drop((producer, ring)); // the process is gone; its file is not
        let opened = Arc::new(Ring::open(&path, files::user()).unwrap());
        assert_eq!((opened.owner(), opened.line()), (OWNER, LINE));
        let mut consumer = Consumer::new(opened);
        assert_eq!(drained(&mut consumer), [(Kind::Instant, 3, 4, 0, b"left behind".to_vec())]);
    }

    #[test]
    fn of_two_lines_the_one_that_is_whole_counts() {
        let ring = Ring::create(Place::Private, 4096, OWNER).unwrap();
        for n in 1..10 {
            let line = (n as f64, Anchor { ticks: Ticks(n), boot: Nanos(2 * n) });
            ring.set_line(line);
            assert_eq!(ring.line(), line);
        }
    }

    #[test]
    fn a_ring_without_a_clock_or_of_another_user_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ring");
        let ring = Arc::new(Ring::create(Place::File(path.clone()), 4096, OWNER).unwrap());
        assert!(Ring::open(&path, files::user()).is_ok(), "it has no events");
        Producer::new(ring.clone(), |_, _| None).record(Kind::Instant, 3, Ticks(4), 0, b"");
        let error = Ring::open(&path, files::user()).unwrap_err().to_string();
        assert!(error.contains("has no clock"), "{error}");
        ring.set_line(LINE);
        assert!(Ring::open(&path, files::user()).is_ok());
        let error = Ring::open(&path, files::user() + 1).unwrap_err().to_string();
        assert!(error.contains("belongs to user"), "{error}");
    }

    #[test]
    fn a_damaged_ring_file_is_an_error_and_never_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ring");
        let ring = Arc::new(Ring::create(Place::File(path.clone()), 4096, OWNER).unwrap());
        ring.set_line(LINE);
        let mut producer = Producer::new(ring, |_, _| None);
        for n in 0..20 {
            producer.record(Kind::AsyncBegin, n, Ticks(4), 1, b"0123456789");
        }
        drop(producer);
        let whole = std::fs::read(&path).unwrap();
        for at in (super::super::layout::HEADER_SIZE..whole.len().min(4096 + 700)).step_by(3) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            std::fs::write(&path, &bytes).unwrap();
            let mut consumer = Consumer::new(Arc::new(Ring::open(&path, files::user()).unwrap()));
            let _ = consumer.drain(usize::MAX, |_| ());
        }
        std::fs::write(&path, &whole[..5000]).unwrap();
        assert!(Ring::open(&path, files::user()).is_err());
    }
}
