//! What the recorder takes and stands, without Python: nanoseconds, events a second, bytes, and the goals.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use msprof_rs::clock::{Anchor, Calibration, Ticks, boottime};
use msprof_rs::event::{Attributes, Label, Name};
use msprof_rs::recorder::{self, Options};
use msprof_rs::source::Captures;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A folder with a config file; the recorder follows it.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Outcome<Self> {
        let bench = Self { folder: tempfile::tempdir()? };
        bench.configure("0", "")?;
        recorder::activate(Options {
            config: bench.path("config.json"),
            home: bench.folder.path().into(),
            process_name: None,
            thread_name: || None,
            stamp: || "bench".into(),
            before_start: || {},
            domains: None,
        })?;
        // While nothing is collected, nobody waits for the thread: it names itself when it first runs.
        wait_until(|| flusher_time().is_ok());
        Ok(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self, enable: &str, more: &str) -> Outcome<()> {
        let captures = self.path("captures");
        let text = format!(r#"{{"enable": {enable}, "prof_dir": "{}"{more}}}"#, captures.display());
        fs::write(self.path("config.next"), text)?;
        Ok(fs::rename(self.path("config.next"), self.path("config.json"))?)
    }

    /// Records what `work` does; gives what that gave, what was dropped, and the capture's folder, which is empty
    /// of everything before.
    fn record<R>(&self, more: &str, work: impl FnOnce() -> R) -> Outcome<(R, u64, PathBuf)> {
        let captures = self.path("captures");
        let _ = fs::remove_dir_all(&captures); // there is none before the first
        self.configure("1", more)?;
        wait_until(recorder::is_recording);
        let result = work();
        self.configure("0", more)?;
        wait_until(|| !recorder::is_recording() && !has_rings(&captures));
        let folder = fs::read_dir(&captures)?.next().ok_or("no session")??.path();
        let opened = Captures::open(&folder)?;
        let mut records = opened.records();
        while records.next().is_some() {}
        Ok((result, records.tally().dropped, folder))
    }
}

fn has_rings(captures: &Path) -> bool {
    let sessions = fs::read_dir(captures).into_iter().flatten().flatten();
    let files = sessions.flat_map(|session| fs::read_dir(session.path()).into_iter().flatten().flatten());
    files.into_iter().any(|file| file.path().extension().is_some_and(|it| it == "ring" || it == "names"))
}

fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Spans with a number each.
fn numbered(label: Label, count: u64) {
    for number in 0..count {
        let mut attributes = Attributes::default();
        attributes.key(Name::new("number")).int(number as i64);
        spans(label, 1, attributes.as_bytes());
    }
}

fn spans(label: Label, count: u64, attributes: &[u8]) {
    for _ in 0..count {
        if let Some(open) = recorder::begin(label) {
            recorder::end(open, label, Ticks::now(), attributes);
        }
    }
}

/// Spans at a steady rate; gives the seconds that it took.
fn paced(label: Label, per_second: u64, seconds: u64, attributes: &[u8]) -> f64 {
    let start = Instant::now();
    for millisecond in 1..=seconds * 1000 {
        spans(label, per_second / 1000, attributes);
        while start.elapsed() < Duration::from_millis(millisecond) {
            std::hint::spin_loop();
        }
    }
    start.elapsed().as_secs_f64()
}

/// Nanoseconds of processor time that the flusher has had.
fn flusher_time() -> Outcome<f64> {
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == "msprof-rs" {
            let times = fs::read_to_string(task.join("schedstat"))?;
            return Ok(times.split(' ').next().ok_or("no time")?.parse()?);
        }
    }
    Err("no flusher".into())
}

/// Memory of the process in MiB.
fn resident() -> Outcome<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn size(folder: &Path) -> Outcome<f64> {
    let sizes = fs::read_dir(folder)?.map(|file| Ok(file?.metadata()?.len() as f64));
    sizes.sum::<Outcome<f64>>()
}

/// The worst error of a conversion of ticks against the clock, in nanoseconds, over so many seconds; the calibration
/// is led on as the flusher leads it while it is calm.
fn worst_clock_error(seconds: u64) -> f64 {
    let first = Anchor::now();
    std::thread::sleep(Duration::from_millis(1));
    let mut line = Calibration::new(first, Anchor::now());
    let (start, mut worst) = (Instant::now(), 0_u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(25));
        let (before, ticks, after) = (boottime(), Ticks::now(), boottime());
        line.advance(Anchor::now());
        let converted = line.to_boot(ticks);
        // It was read between the two.
        worst = worst.max(before.0.saturating_sub(converted.0)).max(converted.0.saturating_sub(after.0));
    }
    worst as f64
}

fn row(what: &str, figure: f64, unit: &str, is_held: bool, goal: &str) {
    let verdict = if is_held { "held" } else { "missed" };
    println!("{what:<58} {figure:>9.2} {unit:<11} {goal}: {verdict}");
}

#[allow(clippy::too_many_lines, reason = "one table, a row after the other")]
fn main() -> Outcome<()> {
    let bench = Bench::new()?;
    let label = Label::new("Bench", "a span");
    let mut attributes = Attributes::default();
    attributes.key(Name::new("number")).int(123_456);
    let attributes = attributes.as_bytes();
    println!("{:<58} {:>9} {:<11} goal", "the recorder", "figure", "");

    let idle = flusher_time()?;
    std::thread::sleep(Duration::from_secs(3));
    let share = (flusher_time()? - idle) / 3e9 * 100.0;
    row("flusher, nothing collected", share, "% of a core", share <= 0.1, "0.1");

    let (best, dropped, _) = bench.record("", || {
        (0..200)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(3)); // the flusher catches up
                let start = Instant::now();
                spans(label, 1_000, &[]);
                start.elapsed().as_nanos() as f64 / 2_000.0
            })
            .fold(f64::MAX, f64::min)
    })?;
    row("commit of an event, its clock reading included", best, "ns", best <= 12.0 && dropped == 0, "12");

    let before = flusher_time()?;
    let (seconds, dropped, _) = bench.record("", || paced(label, 1_500_000, 5, attributes))?;
    let spent = flusher_time()? - before;
    let rate = 15.0 / seconds;
    row("events of one thread, for 5 s, nothing dropped", rate, "M/s", rate >= 2.95 && dropped == 0, "3");
    let each = spent / 15e6;
    row("flusher, for an event of these", each, "ns", each <= 100.0, "100");
    for (what, more, goal) in [
        ("a span with an integer in the file", "", 40.0),
        ("the same, compressed", r#", "compress": 1"#, 15.0),
    ] {
        let ((), dropped, folder) = bench.record(more, || {
            for _ in 0..100 {
                numbered(label, 5_000);
                std::thread::sleep(Duration::from_millis(10)); // the flusher catches up
            }
        })?;
        let bytes = size(&folder)? / 5e5;
        row(what, bytes, "bytes", bytes <= goal && dropped == 0, &goal.to_string());
    }

    let (seconds, dropped, _) = bench.record("", || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            (0..16).for_each(|_| drop(scope.spawn(|| spans(label, 50_000, attributes))));
        });
        start.elapsed().as_secs_f64()
    })?;
    let rate = 1.6 / seconds;
    row("16 threads at once, 100,000 events each", rate, "M/s", rate >= 5.0, "5");
    row("the same, dropped", dropped as f64, "events", dropped == 0, "0");

    let before = resident()?;
    let (grown, dropped, _) = bench.record(r#", "file_mb": 64, "session_mb": 192"#, || {
        std::thread::scope(|scope| {
            (0..8).for_each(|_| drop(scope.spawn(|| paced(label, 40_000, 10, attributes))));
            std::thread::sleep(Duration::from_secs(9));
            resident().unwrap_or(f64::MAX) - before
        })
    })?;
    row("memory for 8 threads of 80,000 events/s", grown, "MiB", grown <= 16.0 && dropped == 0, "16");

    let (late, dropped, _) = bench.record(r#", "file_mb": 64, "session_mb": 192"#, || {
        paced(label, 1_500_000, 3, attributes);
        let early = resident().unwrap_or(f64::MAX);
        paced(label, 1_500_000, 64, attributes);
        resident().unwrap_or(f64::MAX) - early
    })?;
    let flat = late.abs() < 1.0 && dropped == 0;
    row("what memory grows by, from 9 to 201 million events", late, "MiB", flat, "0");

    let error = worst_clock_error(120);
    row("clock, the worst error within two minutes", error, "ns", error < 1_000.0, "1000");

    let mut took = 0.0;
    bench.record("", || {
        paced(label, 1_300_000, 2, attributes);
        let stop = Instant::now();
        recorder::shutdown();
        took = stop.elapsed().as_secs_f64() * 1e3;
    })?;
    row("stop with 100 MB written", took, "ms", took <= 200.0, "200");
    Ok(())
}
