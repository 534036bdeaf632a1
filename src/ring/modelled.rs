//! The bytes of a ring as the model checker sees them: it takes the place of `mapped` in a build with `--cfg model_check`, and
//! finds each access that another thread could get in the way of. Run by `make loom`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use loom::cell::UnsafeCell;

use super::layout::Header;

#[derive(Debug)]
pub(super) struct Memory {
    header: Header,
    words: Arc<[UnsafeCell<u64>]>,
}

// SAFETY: loom fails the test where two threads are at one word.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn private(capacity: usize) -> io::Result<Self> {
        let words = (0..capacity / 8).map(|_| UnsafeCell::new(0)).collect();
        Ok(Self { header: Header::default(), words })
    }

    pub(super) fn new_file(_: &Path, capacity: usize) -> io::Result<Self> {
        Self::private(capacity)
    }

    pub(super) fn copy_of(_: &Path, _: u32) -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub(super) fn capacity(&self) -> usize {
        self.words.len() * 8
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn new_header(&mut self) -> &mut Header {
        &mut self.header
    }

    pub(super) fn records(&self) -> Records {
        Records(self.words.clone())
    }
}

#[derive(Clone, Debug)]
pub(super) struct Records(Arc<[UnsafeCell<u64>]>);

impl Records {
    pub(super) unsafe fn put_word(&self, at: usize, word: u64) {
        // SAFETY: loom watches that nobody else is there.
        self.0[at / 8].with_mut(|place| unsafe { *place = word });
    }

    pub(super) unsafe fn put_bytes(&self, at: usize, bytes: &[u8]) {
        for (n, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            // SAFETY: as the caller promises.
            unsafe { self.put_word(at + n * 8, u64::from_ne_bytes(word)) };
        }
    }

    pub(super) unsafe fn read<R>(&self, at: usize, length: usize, read: impl FnOnce(&[u8]) -> R) -> R {
        // SAFETY: loom watches that nobody writes meanwhile.
        let word = |n: usize| self.0[at / 8 + n].with(|place| unsafe { *place });
        let bytes: Vec<u8> = (0..length / 8).flat_map(|n| word(n).to_ne_bytes()).collect();
        read(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use loom::thread;

    use super::super::{Consumer, Filled, Kind, Owner, Place, Producer, Ring, State};
    use crate::clock::Ticks;

    const OWNER: Owner = Owner { pid: 1, tid: 2, sequence: 3 };

    fn ring(capacity: usize) -> std::sync::Arc<Ring> {
        std::sync::Arc::new(Ring::create(Place::Private, capacity, OWNER).unwrap())
    }

    /// What the flusher does at a visit.
    fn visit(consumer: &mut Consumer, seen: &mut Vec<u64>) {
        consumer.drain(usize::MAX, |record| seen.push(record.ticks.0)).unwrap();
        consumer.release();
    }

    #[test]
    fn each_committed_record_is_read_once_in_order_while_the_ring_wraps() {
        loom::model(|| {
            let ring = ring(64);
            let mut consumer = Consumer::new(ring.clone());
            let producer = thread::spawn(move || {
                let mut producer = Producer::new(ring, |_, _| None);
                // Records of 16 and 24 bytes, in a ring of 64.
                (1..=4)
                    .filter(|n| {
                        producer.record(Kind::Instant, 1, Ticks(*n), 0, &[0; 8][..*n as usize % 2 * 8])
                    })
                    .collect::<Vec<_>>()
            });
            let mut seen = Vec::new();
            visit(&mut consumer, &mut seen);
            visit(&mut consumer, &mut seen);
            let recorded = producer.join().unwrap();
            visit(&mut consumer, &mut seen);
            assert_eq!(seen, recorded);
        });
    }

    #[test]
    fn a_thread_that_goes_to_another_ring_leaves_all_it_wrote() {
        loom::model(|| {
            let ring = ring(32);
            let mut consumer = Consumer::new(ring.clone());
            let producer = thread::spawn(move || {
                let mut producer = Producer::new(ring, |_, filled| {
                    let next = || std::sync::Arc::new(Ring::create(Place::Private, 64, OWNER).unwrap());
                    (filled == Filled::Whole).then(next)
                });
                for n in 1..=3 {
                    assert!(producer.record(Kind::Instant, 1, Ticks(n), 0, &[]));
                }
                producer.ring().clone()
            });
            let mut seen = Vec::new();
            let state = consumer.ring().state();
            visit(&mut consumer, &mut seen);
            if state == State::Outgrown {
                assert!(seen.len() >= 2, "asked before draining: all is there");
            }
            let larger = producer.join().unwrap();
            visit(&mut consumer, &mut seen);
            visit(&mut Consumer::new(larger), &mut seen);
            assert_eq!(seen, [1, 2, 3]);
        });
    }

    #[test]
    fn what_is_remembered_can_be_looked_at_while_more_comes() {
        loom::model(|| {
            let ring = ring(64);
            let mut consumer = Consumer::new(ring.clone());
            let producer = thread::spawn(move || {
                let mut producer = Producer::new(ring, |_, _| None);
                for n in 1..=3 {
                    producer.record(Kind::Instant, 1, Ticks(n), 0, &[]);
                }
            });
            let mut looked = Vec::new();
            consumer.peek(|record| looked.push(record.ticks.0)).unwrap();
            let mut forgotten = Vec::new();
            consumer.forget(16, Ticks(0), |record| forgotten.push(record.ticks.0)).unwrap();
            producer.join().unwrap();
            let mut left = Vec::new();
            consumer.peek(|record| left.push(record.ticks.0)).unwrap();
            forgotten.extend(left);
            assert_eq!(forgotten, [1, 2, 3]);
            assert!([1, 2, 3].starts_with(&looked));
        });
    }
}
