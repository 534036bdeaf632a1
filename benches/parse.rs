//! How long `parse` takes and how much memory, for sessions of a simulated server: seconds, peak memory, and the goals.
//! `LARGE=1` adds 100,000,000 records (4 GB).

#[allow(unreachable_pub, clippy::unwrap_used, reason = "shared with the tests")]
#[path = "../tests/parse/forms.rs"]
mod forms;
#[allow(unreachable_pub, reason = "shared with the tests")]
#[path = "../tests/parse/simulator/mod.rs"]
mod simulator;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use forms::{Captures, Databases};
use msprof_rs::cli::{Installation, main as command_line};
use simulator::{Clients, Front, Plan, simulate};

const ALL: &str = "csv,db,json,perfetto,parquet";

/// Says that this is the process to be measured.
const CHILD: &str = "MSPROF_RS_BENCH_PARSE";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let folder = tempfile::tempdir()?;
    let ours = |plan: Plan| {
        let session = folder.path().join(format!("ours-{}", plan.requests));
        std::fs::create_dir(&session)?;
        let mut captures = Captures::create(&session, plan.engines);
        let records = simulate(&plan, &mut captures).records;
        captures.finish();
        Ok::<_, std::io::Error>((session, records))
    };
    let (session, million) = ours(plan(1_000_000))?;
    measure(&session, million, &["parse", "--format", ALL], Some((4.0, 300)));
    measure(&session, million, &["parse", "--format", "csv"], Some((1.5, 300)));
    measure(&session, million, &["stats"], Some((1.0, 300)));
    let (long, records) = ours(plan(10_000_000))?;
    measure(&long, records, &["parse", "--format", "csv"], Some((15.0, 1_000)));
    let theirs = folder.path().join("theirs");
    std::fs::create_dir(&theirs)?;
    let small = plan(200_000);
    let mut databases = Databases::create(&theirs, small.engines, false);
    let records = simulate(&small, &mut databases).records;
    databases.finish();
    measure(&theirs, records, &["parse", "--format", ALL], Some((2.0, 300)));
    if std::env::var_os("LARGE").is_some() {
        std::fs::remove_dir_all(&long)?;
        // With more plain spans in a step, so that a record has some 40 bytes.
        let (session, records) = ours(Plan { requests: 74_000, parts: 60, ..plan(0) })?;
        measure(&session, records, &["parse", "--format", "csv"], Some((150.0, 1_000)));
    }
    Ok(())
}

/// About so many records: requests of 500 tokens on average, in steps of up to 32, with twelve parts each.
fn plan(records: u64) -> Plan {
    Plan {
        seed: 7,
        requests: (records / 340) as usize,
        front: Front::Apart,
        clients: Clients::default(),
        engines: 2,
        arrival: 6_000_000,
        longest: (1_000, 200),
        budget: 2_048,
        most: 32,
        blocks: 4_000,
        drafts: 0,
        hits: 20,
        aborts: 1,
        parts: 12,
    }
}

/// The best of three runs, each in a process of its own.
fn measure(session: &Path, records: u64, arguments: &[&str], goal: Option<(f64, u64)>) {
    let run = |_| {
        let output = tempfile::tempdir().expect("a folder for the outputs");
        let start = Instant::now();
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(arguments)
            .args(if arguments[0] == "parse" {
                vec![
                    "--input-path".as_ref(),
                    session.as_os_str(),
                    "--output-path".as_ref(),
                    output.path().as_os_str(),
                ]
            } else {
                vec![session.as_os_str()]
            })
            .env(CHILD, "1")
            .output()
            .expect("this program runs");
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        let seconds = start.elapsed().as_secs_f64();
        let told = String::from_utf8_lossy(&child.stdout);
        let memory = told.lines().last().and_then(|line| line.parse::<u64>().ok()).expect("its memory");
        (seconds, memory)
    };
    let runs = if records > 5_000_000 { 1 } else { 3 };
    let (seconds, memory) =
        (0..runs).map(run).fold((f64::MAX, 0), |best, now| (now.0.min(best.0), now.1.max(best.1)));
    let verdict = goal.map_or(String::new(), |(most_seconds, most_memory)| {
        let held = if seconds <= most_seconds && memory <= most_memory { "held" } else { "missed" };
        format!("; {most_seconds} s, {most_memory} MB: {held}")
    });
    let form = session.file_name().unwrap_or_default().to_string_lossy();
    let form = form.split('-').next().unwrap_or_default();
    println!(
        "parse: {:<26} {records:>11} records ({form}) {seconds:>7.2} s {memory:>5} MB{verdict}",
        arguments.join(" ").replace("--format ", "")
    );
}

/// Runs the command line, and tells its peak memory in MB.
fn child() -> Result<(), Box<dyn std::error::Error>> {
    let installation = Installation {
        locate: &|_| None,
        frameworks: Vec::new(),
        is_path_safe: true,
        hooks_in_place: true,
        package: "".into(),
        executable: "".into(),
    };
    let code = command_line(std::env::args_os(), &installation);
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: u64 =
        peak.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default();
    println!("{}", kilobytes / 1024);
    std::process::exit(code.into());
}
