//! Rings that grow, are used again, and are not made without end.

use msprof_rs::control::Live;
use msprof_rs::recorder;

use super::child::{record, span, start, wait_until};

/// Threads that record, and events so far, as the flusher sees them.
fn seen() -> (u64, u64) {
    let live = Live::all().into_iter().find(|live| live.pid == std::process::id());
    live.map_or((0, 0), |live| (live.figures.threads, live.figures.events))
}

#[test]
fn a_burst_of_sixteen_threads_loses_nothing() {
    const EVENTS: i64 = 100_000;
    let folder = record(r#"{"enable": 1}"#, |_| {
        std::thread::scope(|scope| {
            for thread in 0..16 {
                scope.spawn(move || (0..EVENTS / 2).for_each(|n| span("burst", thread * EVENTS + n)));
            }
        });
        // A slow machine takes longer than the end of a process waits for.
        wait_until("the flusher's visit", || seen() == (0, 16 * EVENTS as u64));
    });
    let recorded = folder.read();
    let expected: Vec<_> =
        (0..16).flat_map(|thread| (0..EVENTS / 2).map(move |n| thread * EVENTS + n)).collect();
    assert_eq!(recorded.dropped, 0);
    assert!(recorded.all() == expected, "{} of {}", recorded.all().len(), expected.len());
}

#[test]
fn a_thread_that_outgrows_its_ring_keeps_its_order_and_its_open_spans() {
    const COUNT: i64 = 60_000;
    let folder = record(r#"{"enable": 1}"#, |folder| {
        let outer = msprof_rs::event::Label::new("Test", "outer");
        let open = recorder::begin(outer).unwrap();
        (0..COUNT).for_each(|n| span("inner", n));
        let largest = folder.files(".ring").iter().map(|ring| ring.metadata().unwrap().len()).max();
        assert!(largest > Some(1 << 20), "it has not grown");
        recorder::end(open, outer, msprof_rs::clock::Ticks::now(), &[]);
    });
    let recorded = folder.read();
    assert!(recorded.numbers["inner"].iter().copied().eq(0..COUNT));
    assert!(recorded.numbers.contains_key("outer") && recorded.unfinished.is_empty());
    assert_eq!(recorded.dropped, 0);
    assert!(folder.files(".ring").is_empty());
}

#[test]
fn threads_that_end_leave_their_rings_to_others() {
    let folder = record(r#"{"enable": 1}"#, |folder| {
        for n in 0..500 {
            std::thread::spawn(move || span("short", n)).join().unwrap();
            if n % 50 == 49 {
                wait_until("the flusher's visit", || seen() == (0, 2 * (n + 1) as u64));
            }
        }
        // Those that ran between two visits had rings of their own, and as many lie ready for others.
        let rings = folder.files(".ring").len();
        assert!(rings <= 120, "{rings} rings");
    });
    let recorded = folder.read();
    assert!(recorded.numbers["short"].iter().copied().eq(0..500));
    assert!(recorded.threads > 500);
}

#[test]
fn threads_beyond_the_limit_of_all_rings_are_counted_and_the_others_are_recorded() {
    let folder = record(r#"{"enable": 1, "rings_mb": 1}"#, |_| {
        let barrier = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let barrier = &barrier;
                scope.spawn(move || {
                    span("first", thread);
                    barrier.wait(); // all are there at once
                    span("second", thread);
                });
            }
        });
    });
    let recorded = folder.read();
    assert_eq!(recorded.all().len(), 8, "rings of 256 KiB within a megabyte");
    assert_eq!((recorded.ringless, recorded.dropped), ((8, 4), 0), "two spans of each of the others");
}

#[test]
fn of_rings_that_lay_ready_for_threads_that_never_came_nothing_is_seen_after_a_kill() {
    let (folder, mut child) = start(r#"{"enable": 1}"#, |folder| {
        span("only", 1);
        wait_until("the flusher's refill", || seen() == (1, 2) && folder.files(".ring").len() > 8);
        std::process::abort();
    });
    assert!(!child.wait_with_output().status.success());
    let recorded = folder.read();
    // The other one is the process's own track.
    assert_eq!((recorded.all(), recorded.threads, recorded.lost_rings), (vec![1], 2, 0));
}
