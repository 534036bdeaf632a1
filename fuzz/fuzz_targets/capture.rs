//! Any bytes as a capture, behind a whole capture and in one: no panic, and what was whole stays.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use msprof_rs::clock::{Nanos, Snapshot};
use msprof_rs::event::{Attributes, Label, Name};
use msprof_rs::trace::{Clocks, Index, Part, Process, Thread, Writer, unpack};

const SPANS: u64 = 5;

static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let process = Process { pid: 7, name: "fuzz".into(), command: vec!["fuzz".into()] };
    let writer = Writer::new(process, Clocks::Fixed(Snapshot::default()), &[("hostname", "host")]);
    let mut writer = writer.in_blocks(false, None);
    let mut sequence = writer.thread(&Thread { tid: 7, name: "main".into(), sequence: 77 });
    for number in 0..SPANS {
        let mut attributes = Attributes::default();
        attributes.key(Name::new("number")).int(number as i64);
        writer.begin(&mut sequence, Nanos(number), Label::new("Fuzz", "span"));
        writer.end(&mut sequence, Nanos(number), attributes.as_bytes()).expect("just encoded");
    }
    writer.close();
    writer.pending().to_vec()
});

/// The number of events in a file.
fn events(file: &[u8]) -> u64 {
    let parts: Arc<[Part]> = Arc::from([Part::from(file.to_vec())]);
    let index = Index::of(&parts);
    let mut count = 0;
    for position in 0..index.sequences.len() {
        let mut reader = index.read(position, parts.clone());
        while reader.advance() {
            count += 1;
        }
    }
    count
}

fuzz_target!(|bytes: &[u8]| {
    events(bytes);
    let followed = [&WHOLE, bytes].concat();
    assert!(events(&followed) >= events(&WHOLE), "a whole packet was lost to what came behind it");
    let mut unpacked = Vec::new();
    unpack(&Part::from(followed), &mut unpacked).expect("into memory");
    assert!(unpacked.starts_with(&WHOLE));
    events(&unpacked);
    // The first bytes say where the others are put.
    if let Some((at, bytes)) = bytes.split_first_chunk() {
        let at = usize::from(u16::from_le_bytes(*at)) % WHOLE.len();
        let mut damaged = WHOLE.clone();
        damaged.splice(at..at, bytes.iter().copied());
        assert!(events(&damaged) <= events(&WHOLE) + bytes.len() as u64);
    }
});
