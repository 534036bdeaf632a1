//! Processes that die at a random instant: what was committed before is there.

use std::fs::OpenOptions;
use std::sync::atomic::{AtomicI64, Ordering};

use memmap2::MmapRaw;

use msprof_rs::source::{Recovered, recover};

use super::child::{Folder, Running, container, span, start_behind, this_test, wait_until};

/// In a process that only reads: the folder.
const READ: &str = "MSPROF_TEST_READ";

const THREADS: usize = 4;

/// How many processes die: 500 by `TORTURE=1`, another number by `TORTURE=60`.
fn deaths() -> u64 {
    match std::env::var("TORTURE").map(|number| number.parse()) {
        Err(_) => 12,
        Ok(Ok(number)) if number > 1 => number,
        Ok(_) => 500,
    }
}

/// The number of each thread's last committed span, in memory that outlives the process.
struct Committed(MmapRaw);

impl Committed {
    fn of(folder: &Folder) -> Self {
        let path = folder.path.join("committed");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len(4096).unwrap();
        Self(MmapRaw::map_raw(&file).unwrap())
    }

    fn last(&self, thread: usize) -> &AtomicI64 {
        // SAFETY: within the page, aligned, and only used as atomics.
        #[allow(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
        unsafe {
            &*self.0.as_ptr().cast::<AtomicI64>().add(thread)
        }
    }
}

/// Records as fast as it can, in all threads, until it dies.
fn record_until_death(before: &[&str], config: &str, die: Option<fn()>) -> (Folder, Running) {
    start_behind(before, config, |folder| {
        let committed = Committed::of(folder);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let committed = &committed;
                scope.spawn(move || {
                    let name = format!("thread-{thread}");
                    for number in 1.. {
                        span(&name, number);
                        committed.last(thread).store(number, Ordering::Release);
                        if number % 64 == 0 {
                            std::thread::yield_now(); // else the rings are full
                        }
                        if let Some(die) = die
                            && number == 5_000
                            && thread == 0
                        {
                            die();
                        }
                    }
                });
            }
        });
    })
}

/// Each thread's numbers are there from the first to the last committed one, and once. Where the ring was full there
/// may be gaps, which are counted. Where the flusher was slow to make rings, what was in private memory may be missing,
/// which is told. Whether there was nothing of that kind.
fn check(folder: &Folder, what: &str) -> bool {
    let committed = Committed::of(folder);
    let recorded = folder.read();
    let mut missing = 0;
    for thread in 0..THREADS {
        let last = committed.last(thread).load(Ordering::Acquire);
        let name = format!("thread-{thread}");
        let numbers = recorded.numbers.get(&name).map_or(&[][..], Vec::as_slice);
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{what}: {name}: twice or out of order");
        let newest = numbers.last().copied().unwrap_or(0);
        assert!(
            newest >= last || recorded.dropped > 0 || recorded.lost_rings > 0,
            "{what}: {name} committed {last}, {newest} is the last"
        );
        missing += newest - numbers.len() as i64;
    }
    assert!(recorded.damaged.is_empty(), "{what}: a kill is no damage: {:?}", recorded.damaged);
    let dropped = recorded.dropped;
    let is_told = missing <= dropped || recorded.lost_rings > 0;
    assert!(is_told, "{what}: {missing} are missing, {dropped} were dropped");
    recorded.lost_rings == 0
}

/// How a killed process is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Before its parent has waited for it.
    AtZombie,
    /// From another container; both have few pids, and the same.
    FromContainer,
    Plain,
}

/// What lies in the session folders, by name and length. What a recorder has, changes.
fn rings_and_names(folder: &Folder) -> Vec<std::path::PathBuf> {
    [folder.files(".ring"), folder.files(".names")].concat()
}

/// Tries to complete the captures of a process that lives: nothing of it may be touched.
fn recover_the_living(folder: &Folder, what: &str) {
    let before = rings_and_names(folder);
    for recovered in recover(&folder.path.join("captures")).unwrap() {
        assert!(matches!(recovered, Recovered::Running(_)), "{what}: {recovered:?}");
    }
    let after = rings_and_names(folder);
    assert!(!before.is_empty() && before.iter().all(|file| after.contains(file)), "{what}: {before:?}");
}

/// The captures of a process that is gone are completed, and have then by themselves what they had with their rings.
fn recover_the_gone(folder: &Folder, what: &str) {
    let expected = folder.read();
    for recovered in recover(&folder.path.join("captures")).unwrap() {
        let Recovered::Completed { damaged, .. } = recovered else { panic!("{what}: {recovered:?}") };
        assert!(damaged.is_empty(), "{what}: {damaged:?}");
    }
    assert!(rings_and_names(folder).is_empty(), "{what}");
    let found = folder.read();
    assert_eq!((&found.numbers, found.dropped), (&expected.numbers, expected.dropped), "{what}");
}

/// Whether [`check`], in another container, has found what it should, and nothing in private memory.
fn check_from(container: &[&str], folder: &Folder, what: &str) -> bool {
    let outcome = this_test(container).env(READ, &folder.path).output().unwrap();
    let code = outcome.status.code();
    assert!(matches!(code, Some(0 | 1)), "{what}: {}", String::from_utf8_lossy(&outcome.stderr));
    code == Some(0)
}

#[test]
fn a_kill_at_any_instant_loses_nothing_that_was_committed_however_it_is_read() {
    if let Some(folder) = std::env::var_os(READ) {
        std::process::exit(i32::from(!check(&Folder::at(folder), "from another container")));
    }
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut all_in_files = 0;
    let in_container = container();
    for death in 0..deaths() {
        let config = match death % 3 {
            0 => r#"{"enable": 1}"#,
            1 => r#"{"enable": 1, "compress": 1}"#,
            _ => r#"{"enable": 1, "file_mb": 1}"#,
        };
        let look = match (death / 3 % 3, in_container) {
            (0, _) => Look::AtZombie,
            (1, Some(_)) => Look::FromContainer,
            _ => Look::Plain,
        };
        let words = in_container.filter(|_| look == Look::FromContainer).unwrap_or_default();
        let (folder, mut child) = record_until_death(words, config, None);
        let committed = Committed::of(&folder);
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let instant = (seed >> 33) as i64 % 40_000;
        let what = format!("death {death} at {instant}, read {look:?}");
        wait_until("the instant", || committed.last(0).load(Ordering::Relaxed) > instant);
        recover_the_living(&folder, &what);
        child.kill();
        let is_whole = match look {
            Look::AtZombie => {
                child.wait_until_it_is_a_zombie();
                check(&folder, &what)
            }
            Look::FromContainer => {
                child.wait_with_output(); // of all that have its stderr
                check_from(words, &folder, &what)
            }
            Look::Plain => {
                child.wait_with_output();
                check(&folder, &what)
            }
        };
        recover_the_gone(&folder, &what);
        all_in_files += u64::from(is_whole);
    }
    assert!(all_in_files > deaths() / 2, "{all_in_files}");
}

#[test]
fn a_file_that_was_cut_after_a_kill_is_told_also_where_a_block_ends_and_also_when_the_rings_are_gone() {
    let (folder, mut child) = record_until_death(&[], r#"{"enable": 1}"#, None);
    let committed = Committed::of(&folder);
    wait_until("some thousand spans", || committed.last(0).load(Ordering::Relaxed) > 20_000);
    child.kill();
    child.wait_with_output();
    let all = folder.read();
    assert!(all.damaged.is_empty());
    let session = std::fs::read_dir(folder.path.join("captures")).unwrap().next().unwrap().unwrap().path();
    let files = std::fs::read_dir(session).unwrap().map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|file| file.extension().is_some_and(|it| it == "pftrace")).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let blocks: Vec<_> = memchr::memmem::find_iter(&whole, b"\xffmsBlk\xfe").map(|magic| magic - 5).collect();
    let middle = blocks[blocks.len() / 2];
    for end in [middle, middle + 1_000] {
        std::fs::write(&file, &whole[..end]).unwrap();
        let cut = folder.read();
        assert_eq!(cut.damaged.len(), 1, "cut at {end}");
        assert!(cut.all().len() < all.all().len());
    }

    std::fs::write(&file, &whole).unwrap();
    recover(&folder.path.join("captures")).unwrap();
    let recovered = folder.read();
    assert!(recovered.damaged.is_empty());
    assert_eq!(recovered.numbers, all.numbers);
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(folder.read().damaged.len(), 1, "what the rings had is nowhere now");
}

#[test]
fn a_ring_of_a_killed_process_that_somebody_has_removed_is_told() {
    let (folder, mut child) = record_until_death(&[], r#"{"enable": 1}"#, None);
    let committed = Committed::of(&folder);
    wait_until("some thousand spans", || committed.last(0).load(Ordering::Relaxed) > 20_000);
    child.kill();
    child.wait_with_output();
    check(&folder, "whole");
    // Two: the kill may have come when one was made and not counted yet.
    folder.files(".ring").iter().rev().take(2).for_each(|ring| std::fs::remove_file(ring).unwrap());
    let damaged = folder.read().damaged;
    assert!(damaged.len() == 1 && damaged[0].contains(".names"), "{damaged:?}");
}

fn dies_by(die: fn()) {
    let (folder, mut child) = record_until_death(&[], r#"{"enable": 1}"#, Some(die));
    assert!(!child.wait_with_output().status.success());
    check(&folder, "its end");
}

#[test]
fn an_abort_loses_nothing() {
    dies_by(|| std::process::abort());
}

#[test]
fn an_exit_without_a_word_loses_nothing() {
    // SAFETY: ends the process, which is what this is about.
    dies_by(|| unsafe { libc::_exit(3) });
}

#[test]
fn a_segmentation_fault_loses_nothing() {
    // Rust's own handler takes the first.
    // SAFETY: as above.
    dies_by(|| unsafe {
        libc::raise(libc::SIGSEGV);
        libc::raise(libc::SIGSEGV);
    });
}
