//! What somebody takes away from under a recorder, and what it says of that.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use msprof_rs::clock::Ticks;
use msprof_rs::control::Live;
use msprof_rs::event::Label;
use msprof_rs::recorder;

use super::child::{Folder, Recorded, one_more, record, span, start, wait_until};

const SPANS: i64 = 100;

fn live() -> Live {
    wait_until("the page", || Live::all().iter().any(|live| live.pid == std::process::id()));
    Live::all().into_iter().find(|live| live.pid == std::process::id()).unwrap()
}

/// Records so many spans, which the flusher then takes to the file.
fn record_some(first: i64) {
    let before = live().figures.events;
    (first..first + SPANS).for_each(|n| span("some", n));
    wait_until("the flusher's visit", || live().figures.events == before + 2 * SPANS as u64);
}

/// Whether it is told how many records are lost, and those after that are all there.
fn check(folder: &Folder) {
    let recorded = folder.read();
    assert_eq!(recorded.vanished, 2 * SPANS as u64);
    assert!(recorded.numbers["some"].iter().copied().eq(SPANS..2 * SPANS), "{:?}", recorded.numbers);
    assert_eq!((recorded.dropped, recorded.unfinished.len()), (0, 0));
}

/// Has something done to the capture, and waits until the recorder goes on in another.
fn take_away(folder: &Folder, deed: impl Fn(&Path)) {
    record_some(0);
    let capture = folder.files(".pftrace").remove(0);
    let length = capture.metadata().unwrap().len();
    deed(&capture);
    wait_until("a new file", || {
        folder.files(".pftrace").iter().any(|file| {
            // The new one may have the old one's name.
            *file != capture
                || file.metadata().is_ok_and(|file| file.len() > 0 && file.len() != length && length > 1)
        })
    });
    wait_until("the loss on the page", || {
        recorder::is_recording() && live().figures.dropped == 2 * SPANS as u64
    });
}

#[test]
fn a_session_whose_folder_is_removed_goes_on_in_a_new_one_and_says_what_is_lost() {
    let folder = record(r#"{"enable": 1}"#, |folder| {
        take_away(folder, |capture| fs::remove_dir_all(capture.parent().unwrap().parent().unwrap()).unwrap());
        assert!(live().facts.session.unwrap().is_dir());
        record_some(SPANS);
    });
    check(&folder);
    assert!(folder.files(".ring").is_empty());
}

/// Has threads record without a pause while something is done, until a new session has some of it. Gives how many spans
/// each thread has recorded.
fn record_meanwhile(folder: &Folder, deed: impl FnOnce()) {
    let goes_on = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let goes_on = &goes_on;
            scope.spawn(move || {
                let mut number = 0;
                // One span stands open all the time: it ends in another session than it began.
                let label = Label::new("Test", name);
                let open = recorder::begin(label).unwrap();
                while goes_on.load(Ordering::Relaxed) {
                    assert!(recorder::is_recording());
                    span(name, number);
                    number += 1;
                    std::thread::sleep(Duration::from_micros(50)); // else the rings are full
                }
                recorder::end(open, label, Ticks::now(), &[]);
                fs::write(folder.path.join(name), number.to_string()).unwrap();
            });
        }
        wait_until("some events", || live().figures.events > 100);
        let former = live().facts.session;
        deed();
        wait_until("another session", || live().facts.session != former || live().figures.dropped > 0);
        wait_until("its events", || live().figures.events > 100 && live().figures.dropped > 0);
        goes_on.store(false, Ordering::Relaxed);
    });
}

/// How many records the threads have made, of which a span has two.
fn made(folder: &Folder) -> u64 {
    let spans = |name| fs::read_to_string(folder.path.join(name)).unwrap().parse::<u64>().unwrap();
    ["a", "b", "c"].into_iter().map(|name| 2 * spans(name) + 2).sum()
}

fn read_records(recorded: &Recorded) -> u64 {
    2 * recorded.all().len() as u64 + recorded.unfinished.len() as u64
}

#[test]
fn while_a_session_is_replaced_whose_folder_was_removed_no_event_is_lost_uncounted() {
    let folder = record(r#"{"enable": 1}"#, |folder| {
        wait_until("the start", recorder::is_recording);
        record_meanwhile(folder, || fs::remove_dir_all(folder.path.join("captures")).unwrap());
    });
    let recorded = folder.read();
    assert_eq!((recorded.dropped, &recorded.damaged[..]), (0, &[][..]));
    let (made, read) = (made(&folder), read_records(&recorded));
    assert!(recorded.vanished > 0 && read > 0);
    assert_eq!(made, read + recorded.vanished, "{recorded:?}");
}

#[test]
fn a_session_whose_folder_is_moved_is_whole_for_who_reads_both_folders() {
    let folder = record(r#"{"enable": 1}"#, |folder| {
        wait_until("the start", recorder::is_recording);
        let captures = folder.path.join("captures");
        record_meanwhile(folder, || fs::rename(captures, folder.path.join("moved")).unwrap());
    });
    let both = Recorded::read(&folder.path);
    assert_eq!((both.dropped, &both.damaged[..]), (0, &[][..]));
    let (made, read) = (made(&folder), read_records(&both));
    // Of the spans that stood open there are no ends. A thread may have had one more in that instant.
    let missed = made - read;
    assert!((3..=6).contains(&missed), "{both:?}");
    assert_eq!((both.vanished, both.unfinished.len() as u64), (missed, missed));
    let rest = folder.read();
    assert_eq!(made, read_records(&rest) + rest.vanished, "what was moved away is told where it is not read");
}

/// Has processes record into one session, on two threads each, and takes its folder away while so many spans are open on
/// each thread, which end in the session after that.
fn end_elsewhere(processes: u64, spans: usize, deed: impl FnOnce(&Folder)) -> Folder {
    let (folder, first) = start(r#"{"enable": 1}"#, |folder| {
        wait_until("the start", recorder::is_recording);
        let are_open = Barrier::new(2);
        std::thread::scope(|scope| {
            for name in ["a", "b"] {
                let are_open = &are_open;
                scope.spawn(move || {
                    let label = Label::new("Test", name);
                    let open: Vec<_> = (0..spans).map(|_| recorder::begin(label).unwrap()).collect();
                    let session = recorder::session();
                    if are_open.wait().is_leader() {
                        wait_until("the flusher's visit", || live().figures.events >= 2 * spans as u64);
                        fs::write(folder.path.join(format!("{}.open", std::process::id())), "").unwrap();
                    }
                    wait_until("another session", || recorder::session() != session);
                    for open in open.into_iter().rev() {
                        recorder::end(open, label, Ticks::now(), &[]);
                    }
                    span(name, 7);
                });
            }
        });
        // The begins are where they were, the ends nowhere.
        wait_until("both on the page", || live().figures.dropped == 4 * spans as u64);
    });
    let mut children: Vec<_> = (1..processes).map(|_| one_more(&[], &folder)).chain([first]).collect();
    wait_until("the open spans", || {
        let files = fs::read_dir(&folder.path).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|it| it == "open")).count() as u64 == processes
    });
    deed(&folder);
    for child in &mut children {
        let output = child.wait_with_output();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    folder
}

/// Whether each reading tells what it lacks: the former folder its ends, the new one what is in the former, both together
/// the ends of the open spans.
fn check_ends(processes: u64, spans: usize) {
    let folder = end_elsewhere(processes, spans, |folder| {
        fs::rename(folder.path.join("captures"), folder.path.join("moved")).unwrap();
    });
    let open = 2 * processes * spans as u64;
    let former = Recorded::read(&folder.path.join("moved"));
    let told = (former.damaged.len() as u64, former.vanished);
    assert_eq!((former.unfinished.len() as u64, told), (open, (processes, 0)), "{former:?}");
    let rest = folder.read();
    assert_eq!((rest.all().len() as u64, rest.unfinished.len()), (2 * processes, 0), "{rest:?}");
    assert_eq!((rest.vanished, &rest.damaged[..]), (2 * open, &[][..]));
    let both = Recorded::read(&folder.path);
    assert_eq!((both.unfinished.len() as u64, both.all()), (open, rest.all()), "{both:?}");
    assert_eq!((both.vanished, &both.damaged[..]), (open, &[][..]));
}

#[test]
fn an_end_that_belongs_to_no_session_is_counted_once() {
    check_ends(1, 1);
}

#[test]
fn ends_that_belong_to_no_session_are_counted_by_each_process_that_goes_along() {
    check_ends(2, 3);
}

#[test]
fn of_a_folder_that_is_removed_each_process_counts_its_own_records_and_ends() {
    let folder = end_elsewhere(2, 3, |folder| fs::remove_dir_all(folder.path.join("captures")).unwrap());
    let rest = folder.read();
    assert_eq!((rest.all().len(), rest.unfinished.len(), &rest.damaged[..]), (4, 0, &[][..]));
    // Of twelve spans.
    assert_eq!(rest.vanished, 24);
}

#[test]
fn a_capture_that_is_removed_goes_on_in_a_new_file_and_says_what_is_lost() {
    let folder = record(r#"{"enable": 1}"#, |folder| {
        take_away(folder, |capture| fs::remove_file(capture).unwrap());
        record_some(SPANS);
    });
    check(&folder);
}

#[test]
fn a_capture_that_is_moved_away_goes_on_in_a_new_file_and_says_what_is_not_there() {
    let folder = record(r#"{"enable": 1}"#, |folder| {
        take_away(folder, |capture| fs::rename(capture, folder.path.join("away.pftrace")).unwrap());
        record_some(SPANS);
    });
    check(&folder);
}

#[test]
fn a_capture_that_is_cut_goes_on_in_a_new_file_and_says_what_is_lost() {
    let folder = record(r#"{"enable": 1}"#, |folder| {
        take_away(folder, |capture| {
            fs::OpenOptions::new().write(true).open(capture).unwrap().set_len(0).unwrap();
        });
        record_some(SPANS);
    });
    check(&folder);
}

#[test]
fn what_a_flight_recorder_remembers_survives_its_folder() {
    let folder = record(r#"{"enable": 1, "mode": "flight"}"#, |folder| {
        (0..SPANS).for_each(|n| span("some", n));
        let former = live().facts.session.unwrap();
        fs::remove_dir_all(folder.path.join("captures")).unwrap();
        wait_until("a new session", || {
            live().facts.session.is_some_and(|now| now.is_dir() && recorder::is_recording())
        });
        assert_eq!(former.parent(), live().facts.session.unwrap().parent());
        wait_until("its capture", || !folder.files(".pftrace").is_empty());
    });
    assert!(folder.read().numbers["some"].iter().copied().eq(0..SPANS));
    assert_eq!(folder.read().vanished, 0);
}

#[test]
fn a_collection_that_cannot_begin_begins_as_soon_as_it_can() {
    let folder = record(r#"{"enable": 0}"#, |folder| {
        fs::write(folder.path.join("captures"), "no folder").unwrap();
        folder.configure(r#"{"enable": 1}"#);
        wait_until("the reason on the page", || live().facts.trouble.is_some());
        assert!(live().facts.trouble.unwrap().contains("no session folder"));
        fs::remove_file(folder.path.join("captures")).unwrap();
        wait_until("the start", recorder::is_recording);
        span("some", 7);
        wait_until("the end of the trouble", || live().facts.trouble.is_none());
    });
    assert_eq!(folder.read().all(), [7]);
}
