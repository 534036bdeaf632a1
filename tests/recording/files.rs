//! The files of a capture.

use std::path::Path;

use super::child::{Recorded, record, span};

const COUNT: i64 = 100_000;

fn spans() {
    for n in 0..COUNT {
        span(if n % 2 == 0 { "even" } else { "odd" }, n);
        if n % 10_000 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(30)); // a visit of the flusher: parts are made there
        }
    }
}

#[test]
fn a_capture_in_parts_is_whole_and_each_part_stands_alone() {
    let folder = record(r#"{"enable": 1, "file_mb": 1}"#, |_| spans());
    let parts = folder.files(".pftrace");
    assert!(parts.len() > 2, "{parts:?}");
    assert!(folder.read().all().into_iter().eq(0..COUNT));
    let mut numbers = Vec::new();
    for part in parts {
        let alone = tempfile::tempdir().unwrap();
        std::fs::copy(&part, alone.path().join(part.file_name().unwrap())).unwrap();
        numbers.extend(Recorded::read(alone.path()).all());
    }
    numbers.sort_unstable();
    // A span that begins in one part and ends in the next is in neither, alone.
    assert!(numbers.len() as i64 > COUNT - 20, "{}", numbers.len());
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn the_oldest_parts_go_where_the_session_gets_too_large_and_the_file_says_so() {
    let folder = record(r#"{"enable": 1, "file_mb": 1, "session_mb": 2}"#, |_| spans());
    let size: u64 = folder.files(".pftrace").iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(size < 3 << 20, "{size}");
    let recorded = folder.read();
    // Each part has been the current one, and is told of by all that are left, though those that said so first are gone.
    let newest = folder.files(".pftrace").into_iter().map(|file| part_number(&file)).max().unwrap();
    assert_eq!(recorded.removed, newest + 1 - folder.files(".pftrace").len() as i64);
    assert!(recorded.removed > 2);
    let all = recorded.all();
    assert!(all[0] > 0 && all.iter().copied().eq(all[0]..COUNT), "the newest are there without a gap");
    let missing = 2 * all[0] as u64;
    assert!((missing - 20..missing + 100).contains(&recorded.removed_events), "{missing}, {recorded:?}");
    assert!(recorded.damaged.is_empty(), "{:?}", recorded.damaged);
}

fn part_number(file: &Path) -> i64 {
    let stem = file.file_stem().unwrap().to_str().unwrap();
    stem.rsplit_once('.').map_or(0, |(_, part)| part.parse().unwrap())
}

#[test]
fn first_parts_that_somebody_has_removed_are_told() {
    for config in [r#"{"enable": 1, "file_mb": 1}"#, r#"{"enable": 1, "file_mb": 1, "session_mb": 3}"#] {
        let folder = record(config, |_| spans());
        let whole = folder.read();
        assert!(whole.damaged.is_empty(), "{config}: {:?}", whole.damaged);
        let mut parts = folder.files(".pftrace");
        parts.sort_by_key(|part| part_number(part));
        std::fs::remove_file(&parts[0]).unwrap();
        let recorded = folder.read();
        assert_eq!((recorded.damaged.len(), recorded.removed), (1, whole.removed), "{config}");
        assert!(recorded.damaged[0].contains("WithoutBeginning"), "{config}: {:?}", recorded.damaged);
    }
}

#[test]
fn compressed_packets_say_the_same_in_fewer_bytes() {
    let compressed = record(r#"{"enable": 1, "compress": 1}"#, |_| spans());
    assert!(compressed.read().all().into_iter().eq(0..COUNT));
    let bytes = compressed.files(".pftrace")[0].metadata().unwrap().len() / COUNT as u64;
    assert!(bytes <= 15, "{bytes} bytes a span with one integer attribute");
}

#[test]
fn a_counters_samples_are_on_a_track_of_its_name() {
    use msprof_rs::clock::Ticks;
    use msprof_rs::event::{Kind, Label};
    let folder = record(r#"{"enable": 1}"#, |_| {
        for value in [1.0, 2.5, -3.0] {
            msprof_rs::recorder::counter(Label::new("Test", "queue"), Ticks::now(), value);
        }
    });
    let captures = msprof_rs::source::Captures::open(&folder.path.join("captures")).unwrap();
    let (mut records, mut values) = (captures.records(), Vec::new());
    while let Some(record) = records.next() {
        if let Kind::Counter(value) = record.kind {
            values.push((record.name().to_owned(), value));
        }
    }
    assert_eq!(values, [("queue".into(), 1.0), ("queue".into(), 2.5), ("queue".into(), -3.0)]);
}
