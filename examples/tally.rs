//! Counts what is in a capture, thread by thread: `cargo run --release --example tally -- FOLDER`.

use std::collections::BTreeMap;
use std::path::Path;

use msprof_rs::event::Kind;
use msprof_rs::source::Captures;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: tally FOLDER")?;
    let captures = Captures::open(Path::new(&folder))?;
    let mut records = captures.records();
    let mut threads = BTreeMap::<_, u64>::new();
    while let Some(record) = records.next() {
        if record.kind == Kind::Span {
            *threads.entry(record.thread).or_default() += 1;
        }
    }
    for (thread, spans) in threads {
        println!("{} {spans}", captures.places().thread(thread).name);
    }
    let tally = records.tally();
    println!("dropped {} orphans {} unfinished {}", tally.dropped, tally.orphans, tally.unfinished);
    Ok(())
}
