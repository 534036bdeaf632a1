//! Any bytes as a ring that a killed process has left, and as its records: no panic, and an end.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use msprof_rs::clock::{Anchor, Ticks};
use msprof_rs::event::AttributeReader;
use msprof_rs::ring::{Consumer, Kind, Owner, Place, Producer, Ring};

const HEADER: usize = 4096;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

/// A ring with some records.
static RING: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path = FOLDER.path().join("whole.ring");
    let owner = Owner { pid: 1, tid: 2, sequence: 3 };
    let ring = Ring::create(Place::File(path.clone()), 4096, owner).expect("a ring");
    ring.set_line((1.0, Anchor::now()));
    let mut producer = Producer::new(Arc::new(ring), |_, _| None);
    for number in 0..20 {
        producer.record(Kind::AsyncBegin, number, Ticks(4), 1, b"0123456789");
    }
    std::fs::read(path).expect("the ring")
});

fn read(file: &[u8]) {
    let path = FOLDER.path().join("damaged.ring");
    std::fs::write(&path, file).expect("room");
    let Ok(ring) = Ring::open(&path, msprof_rs::files::user()) else { return };
    let mut consumer = Consumer::new(Arc::new(ring));
    consumer.pass_over_written(100);
    let _ = consumer.drain(usize::MAX, |record| {
        let mut reader = AttributeReader::new(record.attributes);
        while !reader.is_done() && reader.key().is_ok() && reader.token().is_ok() {}
    });
}

fuzz_target!(|bytes: &[u8]| {
    let mut file = RING.clone();
    // The first bytes change the header's positions, the others the records.
    let (header, records) = bytes.split_at(bytes.len().min(64));
    for (at, byte) in header.iter().enumerate() {
        file[120 + at * 2] ^= byte;
    }
    let length = records.len().min(file.len() - HEADER);
    file[HEADER..HEADER + length].copy_from_slice(&records[..length]);
    read(&file);
});
