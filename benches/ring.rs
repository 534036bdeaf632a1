//! A span's way into a ring, without Python. `instructions.py` has it counted: each call of `getppid` ends a part.

use std::hint::black_box;
use std::sync::Arc;

use msprof_rs::clock::Ticks;
use msprof_rs::ring::{Owner, Place, Producer, Ring, RingError};

/// Room for all spans: nobody reads them.
const CAPACITY: usize = 1 << 20;

fn main() -> Result<(), RingError> {
    let ring = Ring::create(Place::Private, CAPACITY, Owner { pid: 0, tid: 0, sequence: 0 })?;
    let mut producer = Producer::new(Arc::new(ring), |_, _| None);
    spans(&mut producer, 100);
    for count in [2_000, 4_000] {
        end_part();
        spans(&mut producer, count);
        end_part();
    }
    assert_eq!(producer.ring().dropped(), 0, "the ring was full, so that not all spans were counted");
    Ok(())
}

#[inline(never)]
fn spans(producer: &mut Producer, count: u32) {
    for _ in 0..count {
        if let Some(begun) = producer.begin(black_box(1), Ticks::now()) {
            producer.end(begun, black_box(1), Ticks::now(), &[]);
        }
    }
}

fn end_part() {
    // SAFETY: it has no preconditions. Not rustix's, which is a system call without a function that can be seen.
    unsafe { libc::getppid() };
}
