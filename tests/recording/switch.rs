//! Collection starts and stops while threads record.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use msprof_rs::control::Live;
use msprof_rs::recorder;

use super::child::{Recorded, record, span, wait_until};

const THREADS: usize = 16;

/// How often the switch is turned on; a thousand times by `TORTURE=1`.
fn cycles() -> usize {
    if std::env::var_os("TORTURE").is_some() { 1_000 } else { 20 }
}

/// The sessions are `1122-2130`, `1122-2130-2`, `1122-2130-3` …
fn in_order(mut captures: Vec<PathBuf>) -> Vec<PathBuf> {
    let number = |capture: &PathBuf| {
        let session = capture.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        session.split('-').nth(2).map_or(1, |number| number.parse::<u32>().unwrap())
    };
    captures.sort_by_key(number);
    captures
}

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| line.contains(".ring")).count()
}

#[test]
fn each_start_makes_a_session_and_a_clean_stop_leaves_nothing_but_the_capture() {
    static CYCLE: AtomicI64 = AtomicI64::new(-1);
    let folder = record(r#"{"enable": 0}"#, |folder| {
        let ended = AtomicBool::new(false);
        let cycles = cycles();
        let mut descriptors = 0;
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let ended = &ended;
                // Each records without a pause, on or off.
                scope.spawn(move || {
                    let name = format!("thread-{thread}");
                    while !ended.load(Ordering::Relaxed) {
                        let cycle = CYCLE.load(Ordering::Acquire);
                        span(&name, cycle);
                        std::thread::sleep(std::time::Duration::from_micros(200)); // else all rings are full
                    }
                });
            }
            for cycle in 0..cycles as i64 {
                folder.configure(r#"{"enable": 1}"#);
                wait_until("the start", recorder::is_recording);
                CYCLE.store(cycle, Ordering::Release);
                span("main", cycle);
                folder.configure(r#"{"enable": 0}"#);
                wait_until("the stop", || !recorder::is_recording());
                wait_until("the removal of the rings", || folder.files(".ring").is_empty());
                if cycle == 2 {
                    descriptors = count("/proc/self/fd");
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
        // The flusher looks into files now and then; what it leaves open would stay.
        wait_until("the closing of all descriptors", || count("/proc/self/fd") <= descriptors);
        // This thread keeps its last one; the others' go with them, a little after their work has ended.
        wait_until("the end of all mappings but this thread's", || mappings() <= 1);
    });
    assert!(folder.files(".ring").is_empty() && folder.files(".names").is_empty());
    let captures = folder.files(".pftrace");
    assert_eq!(captures.len(), cycles());
    let recorded = folder.read();
    assert_eq!(recorded.dropped, 0);
    assert!(recorded.numbers["main"].iter().copied().eq(0..cycles() as i64), "none is lost while it is on");
    assert_eq!(recorded.numbers.len(), THREADS + 1);
    for (cycle, capture) in in_order(captures).iter().enumerate() {
        let numbers = Recorded::read(capture.parent().unwrap()).all();
        // Until the cycle's number has reached a thread, it records the one before.
        let is_of_this = |number: &i64| (cycle as i64 - 1..=cycle as i64).contains(number);
        assert!(numbers.iter().all(is_of_this), "cycle {cycle}: events of another time");
    }
}

#[test]
fn a_role_that_shows_later_is_on_the_page_while_collection_is_on_from_the_start() {
    record(r#"{"enable": 1}"#, |_| {
        let role = || {
            Live::all().into_iter().find(|live| live.pid == std::process::id()).map(|live| live.facts.role)
        };
        wait_until("the page", || role().is_some());
        recorder::set_role(recorder::Role { name: "EngineCore dp0".into(), facts: Vec::new() });
        wait_until("the role", || role().as_deref() == Some("EngineCore dp0"));
    });
}

#[test]
fn the_step_limit_is_the_last_that_is_recorded_and_turns_the_switch_off() {
    let folder = record(r#"{"enable": 1, "profiler_step_num": 3, "own": [1]}"#, |folder| {
        for n in 0..10 {
            span("step", n);
            recorder::step();
        }
        wait_until("the switch's turn", || {
            std::fs::read_to_string(folder.path.join("config.json")).unwrap().contains("\"enable\": 0")
        });
    });
    assert_eq!(folder.read().numbers["step"], [0, 1, 2]);
    assert!(std::fs::read_to_string(folder.path.join("config.json")).unwrap().contains("\"own\""));
}
