//! The recorder as a process uses it: config file in, capture out. One test, since there is one recorder a process.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use msprof_rs::clock::Ticks;
use msprof_rs::config::Level;
use msprof_rs::event::{Attributes, Label, Name};
use msprof_rs::recorder::{self, Gate, Options};

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

fn switch(config: &Path, folder: &Path, enable: u8) {
    let text = format!(r#"{{"enable": {enable}, "prof_dir": "{}"}}"#, folder.display());
    let next = config.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, config).unwrap(); // as `sed -i` does
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let sessions =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    sessions
        .flat_map(|session| std::fs::read_dir(session).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect()
}

#[test]
fn each_start_makes_a_session_and_a_clean_stop_leaves_nothing_but_the_capture() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().to_owned();
    let config = folder.join("config.json");
    switch(&config, &folder, 0);
    let options = Options {
        config: config.clone(),
        home: folder.clone(),
        process_name: None,
        thread_name: || Some("worker".into()),
        stamp: || "1122-2130".into(),
        before_start: || {},
    };
    recorder::activate(options).unwrap();
    let gate = Gate::new(Level::INFO, "Execute");
    let label = Label::new("Execute", "forward");
    assert!(recorder::begin(label).is_none(), "nothing records before the switch is on");

    for session in 0..2 {
        switch(&config, &folder, 1);
        wait_until("the gate's opening", || gate.is_open());
        std::thread::scope(|scope| {
            for thread in 0..3 {
                scope.spawn(move || {
                    for step in 0..1_000_i64 {
                        let open = recorder::begin(label).unwrap();
                        let follow =
                            recorder::async_begin(Label::new("Engine", "generate"), Ticks::now()).unwrap();
                        let mut attributes = Attributes::default();
                        attributes.key(Name::new("step")).int(step);
                        attributes.key(Name::new("rid")).str(&format!("request-{thread}"));
                        recorder::instant(
                            Label::new("Engine", "httpReq"),
                            Ticks::now(),
                            attributes.as_bytes(),
                        );
                        recorder::end(open, label, Ticks::now(), attributes.as_bytes());
                        recorder::async_end(follow, Label::new("Engine", "generate"), Ticks::now(), &[]);
                    }
                });
            }
        });
        switch(&config, &folder, 0);
        wait_until("the gate's closing", || !gate.is_open());
        wait_until("the removal of the rings", || files(&folder, "ring").is_empty());
        assert_eq!(files(&folder, "pftrace").len(), session + 1);
    }
    recorder::shutdown();
    assert!(recorder::begin(label).is_none());
    assert!(files(&folder, "names").is_empty());
    for capture in files(&folder, "pftrace") {
        let size = std::fs::metadata(&capture).unwrap().len();
        // 3 threads of 1,000 spans, coroutine spans and instants; none takes less than 20 bytes.
        assert!(size > 3 * 1_000 * (40 + 40 + 20), "{} has {size} bytes", capture.display());
    }
}
