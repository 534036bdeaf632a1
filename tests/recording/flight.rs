//! Flight mode: nothing is written until somebody asks.

use std::path::PathBuf;

use msprof_rs::clock::Ticks;
use msprof_rs::control::{Dumps, Live};
use msprof_rs::event::Label;
use msprof_rs::recorder;

use super::child::{Folder, Recorded, record, span, start, wait_until};

const FLIGHT: &str = r#"{"enable": 1, "mode": "flight", "flight_seconds": 60, "dump_signal": "SIGUSR2"}"#;

fn dumps(folder: &Folder) -> Vec<PathBuf> {
    let mut dumps = folder.files(".pftrace");
    dumps.retain(|file| file.to_string_lossy().contains("-dump-"));
    dumps
}

#[test]
fn a_dump_has_the_newest_events_and_the_recorder_goes_on() {
    let folder = record(FLIGHT, |folder| {
        (0..100).for_each(|n| span("before", n));
        let dump = recorder::dump("a test").unwrap();
        assert_eq!(Recorded::read(&dump).all(), (0..100).collect::<Vec<_>>());
        (100..200).for_each(|n| span("after", n));
        recorder::dump("another").unwrap();
        assert_eq!(dumps(folder).len(), 2);
    });
    assert_eq!(Recorded::read(&dumps(&folder)[1]).all(), (0..200).collect::<Vec<_>>());
    // The end writes what is remembered to the session's own capture.
    assert_eq!(Recorded::read(&folder.path.join("captures/1122-2130")).all(), (0..200).collect::<Vec<_>>());
}

#[test]
fn what_is_old_is_forgotten_but_for_spans_that_are_open() {
    const COUNT: i64 = 400_000;
    let folder = record(FLIGHT, |_| {
        let (outer, other) = (Label::new("Test", "outer"), Label::new("Test", "other"));
        let open = recorder::begin(outer).unwrap();
        let follow = recorder::async_begin(other, Ticks::now()).unwrap();
        for n in 0..COUNT {
            span("inner", n);
            if n % 20_000 == 0 {
                // Else the ring is full: it has room for 170,000 events, and remembers half of them.
                wait_until("the flusher's visit", || {
                    let live = Live::all().into_iter().find(|live| live.pid == std::process::id());
                    live.is_some_and(|live| live.figures.events as i64 >= 2 * n - 110_000)
                });
            }
        }
        let dump = Recorded::read(&recorder::dump("a test").unwrap());
        let numbers = &dump.numbers["inner"];
        assert!(numbers.len() > 40_000 && (numbers.len() as i64) < COUNT / 2, "{}", numbers.len());
        assert!(numbers.iter().copied().eq(numbers[0]..COUNT), "the newest, without a gap");
        assert_eq!(dump.unfinished.len(), 2, "{:?}", dump.unfinished);
        recorder::async_end(follow, other, Ticks::now(), &[]);
        recorder::end(open, outer, Ticks::now(), &[]);
    });
    let capture = Recorded::read(&folder.path.join("captures/1122-2130"));
    assert!(capture.numbers.contains_key("outer") && capture.numbers.contains_key("other"));
    assert!(
        capture.unfinished.is_empty() && capture.dropped == 0,
        "{:?} {}",
        capture.unfinished,
        capture.dropped
    );
}

#[test]
fn a_thread_that_fills_its_first_ring_slowly_remembers_as_much_as_ring_mb_allows() {
    const COUNT: i64 = 40_000;
    let filled = || {
        let live = Live::all().into_iter().find(|live| live.pid == std::process::id());
        live.map_or(0, |live| live.figures.ring_filled)
    };
    record(FLIGHT, |_| {
        for first in (0..COUNT).step_by(500) {
            let before = filled();
            (first..first + 500).for_each(|n| span("slow", n));
            wait_until("the flusher's visit", || filled() > before);
        }
        // More than a megabyte, where the first ring has a quarter of one.
        let dump = Recorded::read(&recorder::dump("a test").unwrap());
        assert!(dump.numbers["slow"].iter().copied().eq(0..COUNT), "{}", dump.numbers["slow"].len());
    });
}

#[test]
fn a_signal_and_a_folder_ask_for_a_dump_from_outside() {
    let (folder, mut child) = start(FLIGHT, |folder| {
        span("only", 7);
        std::fs::write(folder.path.join("ready"), "").unwrap();
        wait_until("the end", || folder.path.join("end").exists());
    });
    wait_until("the child", || folder.path.join("ready").exists());
    // SAFETY: a signal to the child that this test has started.
    unsafe { libc::kill(child.pid() as i32, libc::SIGUSR2) };
    wait_until("the signal's dump", || dumps(&folder).len() == 1);
    Dumps::of(&folder.path.join("captures/1122-2130")).ask().unwrap();
    wait_until("the folder's dump", || dumps(&folder).len() == 2);
    for dump in dumps(&folder) {
        assert_eq!(Recorded::read(&dump).all(), [7]);
    }
    std::fs::write(folder.path.join("end"), "").unwrap();
    assert!(child.wait_with_output().status.success());
}

#[test]
fn without_flight_mode_there_is_nothing_to_dump() {
    record(r#"{"enable": 1}"#, |_| {
        assert!(recorder::dump("a test").unwrap_err().to_string().contains("\"mode\": \"flight\""));
    });
}

#[test]
fn a_killed_flight_recorder_leaves_what_it_remembered() {
    let (folder, mut child) = start(FLIGHT, |folder| {
        (0..1_000).for_each(|n| span("last", n));
        std::fs::write(folder.path.join("ready"), "").unwrap();
        wait_until("the kill", || false);
    });
    wait_until("the child", || folder.path.join("ready").exists());
    child.kill();
    child.wait_with_output();
    assert!(folder.read().numbers["last"].iter().copied().eq(0..1_000));
}
