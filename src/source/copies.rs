//! Captures that say what others say: a file into which several were joined beside them, a copy of a folder within it.

use std::cmp::Reverse;
use std::path::PathBuf;

use rustc_hash::{FxHashMap, FxHashSet};

use super::captures::{Opened, open_beyond};
use crate::trace::{Blocks, Elsewhere, Index, TrackKind};

/// Captures of which each says something that no other does.
pub(super) struct Distinct<'a> {
    pub(super) captures: Vec<Opened<'a>>,
    /// The first files of the others.
    pub(super) copies: Vec<PathBuf>,
    /// The blocks in all of them.
    pub(super) blocks: Blocks,
}

/// Leaves out captures of which others have all. A block is known by its stream, a random number, and its own number: of what
/// is only partly elsewhere, as when a folder was copied while its recorder went on, the rest is read; a block that the copy
/// has only in part is read where it is whole. Captures of versions without blocks are known by their processes' tracks,
/// which are random numbers too.
pub(super) fn distinct(all: Vec<Opened<'_>>) -> Distinct<'_> {
    let packets = |index: &Index| index.sequences.iter().map(|sequence| sequence.packets).sum::<u64>();
    let mut order: Vec<_> = all.into_iter().enumerate().collect();
    let mut all = Blocks::default();
    order.iter().for_each(|(_, opened)| all.extend(&opened.blocks));
    // Files of single processes go before joined ones, those that were copied too early after those that go on: amid a group
    // of blocks nothing can be taken up.
    order.sort_by_cached_key(|(_, Opened { blocks, capture, .. })| {
        let (lacks, processes) = (blocks.lacks(&all), processes(&capture.index).count());
        (blocks.count() == 0, processes, lacks, Reverse(packets(&capture.index)))
    });
    let whole: Vec<_> = order.iter().map(|(_, opened)| opened.blocks.clone()).collect();
    let mut holders: FxHashMap<u32, usize> = FxHashMap::default();
    for (_, opened) in &order {
        streams(opened).into_iter().for_each(|stream| *holders.entry(stream).or_default() += 1);
    }
    let (mut blocks, mut tracks) = (Blocks::default(), FxHashSet::default());
    let (mut captures, mut copies) = (Vec::new(), Vec::new());
    for (position, (n, mut opened)) in order.into_iter().enumerate() {
        let index = &opened.capture.index;
        let known = processes(index).filter(|track| tracks.contains(track)).count();
        let is_known = known > 0 && known == processes(index).count();
        let is_shared = streams(&opened).iter().any(|stream| holders.get(stream) > Some(&1));
        let mut elsewhere = Elsewhere::default();
        if is_shared {
            elsewhere = Elsewhere { read: blocks.clone(), all: blocks.clone() };
            let others = whole.iter().enumerate().filter(|(other, _)| *other != position);
            others.for_each(|(_, whole)| elsewhere.all.extend(whole));
        }
        let all = opened.blocks.count() + index.torn.count();
        let shared = opened.blocks.shared(&elsewhere.read) + index.torn.shared(&elsewhere.all);
        let first = || opened.files.parts.first().cloned().unwrap_or_default();
        if is_known && shared == all {
            copies.push((n, first()));
            continue;
        }
        if all == 0 && known > 0 {
            let file = first();
            log::warn!(
                "{}: some of its processes are in other files too, so they count twice",
                file.display()
            );
        }
        if is_shared {
            match open_beyond(opened.files, &elsewhere) {
                Ok(rest) => opened = rest,
                Err(reason) => {
                    log::error!("{}: what it has beyond other files: {reason}", first().display());
                    copies.push((n, first()));
                    continue;
                }
            }
        }
        blocks.extend(&opened.blocks);
        blocks.extend(&opened.capture.index.torn);
        tracks.extend(processes(&opened.capture.index));
        captures.push((n, opened));
    }
    captures.sort_by_key(|(n, _)| *n);
    copies.sort();
    Distinct {
        captures: captures.into_iter().map(|(_, opened)| opened).collect(),
        copies: copies.into_iter().map(|(_, file)| file).collect(),
        blocks,
    }
}

fn streams(opened: &Opened<'_>) -> FxHashSet<u32> {
    opened.blocks.streams().chain(opened.capture.index.torn.streams()).collect()
}

fn processes(index: &Index) -> impl Iterator<Item = u64> {
    let tracks = index.tracks.iter();
    tracks.filter(|(_, track)| matches!(track.kind, TrackKind::Process { .. })).map(|(uuid, _)| *uuid)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Captures;
    use super::super::fixture::{Recording, session};

    #[test]
    fn what_is_there_twice_is_read_once_whichever_file_was_complete() {
        let folder = tempfile::tempdir().unwrap();
        session(folder.path());
        let [api, engine] = ["node-100.pftrace", "node-200.pftrace"].map(|name| folder.path().join(name));
        let bytes = |path| fs::read(path).unwrap();
        let tally = || {
            let captures = Captures::open(folder.path()).unwrap();
            let mut records = captures.records();
            while records.next().is_some() {}
            (records.tally(), captures.intake().clone())
        };
        let (expected, own) = tally();
        assert!(own.copies.is_empty());

        let joined = folder.path().join("all.pftrace");
        fs::write(&joined, [bytes(&engine), bytes(&api)].concat()).unwrap();
        let (early, inner) = (bytes(&engine), folder.path().join("copied"));
        fs::create_dir(&inner).unwrap();
        let early_copy = inner.join("node-200.pftrace");
        fs::write(&early_copy, &early[..early.len() / 2]).unwrap();
        let (found, intake) = tally();
        assert_eq!(found, expected);
        assert_eq!(intake.copies, [joined, early_copy]);
        assert_eq!((intake.files, intake.bytes, intake.packets), (own.files, own.bytes, own.packets));
    }

    #[test]
    fn of_a_folder_that_was_copied_while_its_recorder_went_on_each_block_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Recording::new("h", 7, "p", &[]);
        process.raw().0.set_block(500); // and groups
        let mut ends = vec![0];
        for part in 0..4_u64 {
            process.raw().0.state_again(std::iter::empty());
            let times = (0..100).map(|n| 2_000 + (part * 100 + n) * 10);
            times.for_each(|time| process.span((time, time + 5), "Test", "some", &[]));
            ends.push(process.bytes().len());
        }
        process.save(folder.path());
        let bytes = fs::read(folder.path().join("h-7.pftrace")).unwrap();
        *ends.last_mut().unwrap() = bytes.len();
        let read = |parts: &[(&str, &str, std::ops::Range<usize>)]| {
            let folder = tempfile::tempdir().unwrap();
            for (inner, part, range) in parts {
                fs::create_dir_all(folder.path().join(inner)).unwrap();
                let path = folder.path().join(inner).join(format!("h-7{part}.pftrace"));
                fs::write(path, &bytes[range.clone()]).unwrap();
            }
            let captures = Captures::open(folder.path()).unwrap();
            let mut records = captures.records();
            let mut starts = Vec::new();
            while let Some(record) = records.next() {
                starts.push(record.start);
            }
            starts.sort_unstable();
            starts.dedup();
            let tally = records.tally();
            assert_eq!(starts.len() as u64, tally.spans + tally.unfinished, "each once");
            (starts.len(), captures.intake().clone())
        };
        // The third part was still being written when it was copied: up to a block, amid its header, amid its packets.
        let headers = memchr::memmem::find_iter(&bytes[ends[2]..ends[3]], b"\xffmsBlk\xfe");
        let blocks: Vec<_> = headers.map(|magic| ends[2] + magic - 5).collect();
        assert!(blocks.len() > 3);
        let cuts =
            blocks.iter().step_by(3).flat_map(|block| [0, 1, 20, 48, 49, 50, 200].map(|more| block + more));
        for cut in cuts.filter(|cut| *cut > ends[2] && *cut < ends[3]) {
            // The first part has been removed since. Or the second too, so that the copy has more than the session.
            for first in [1, 2] {
                let mut parts = vec![
                    ("copy", "", ends[0]..ends[1]),
                    ("copy", ".1", ends[1]..ends[2]),
                    ("copy", ".2", ends[2]..cut),
                    ("session", ".1", ends[1]..ends[2]),
                    ("session", ".2", ends[2]..ends[3]),
                    ("session", ".3", ends[3]..ends[4]),
                ];
                parts.retain(|(inner, part, _)| first == 1 || (*inner, *part) != ("session", ".1"));
                let (count, intake) = read(&parts);
                assert!(intake.is_whole() && intake.copies.is_empty(), "cut at {cut}: {intake:?}");
                assert_eq!((count, intake.adrift), (400, 0), "cut at {cut}");
            }
            // A part was copied while it was written, and the next one when it had been.
            let (count, intake) = read(&[
                ("copy", "", ends[0]..ends[1]),
                ("copy", ".1", ends[1]..ends[2]),
                ("copy", ".2", ends[2]..cut),
                ("copy", ".3", ends[3]..ends[4]),
                ("session", ".2", ends[2]..ends[3]),
                ("session", ".3", ends[3]..ends[4]),
            ]);
            assert!(intake.is_whole() && intake.copies.is_empty(), "cut at {cut}: {intake:?}");
            assert_eq!((count, intake.adrift), (400, 0), "cut at {cut}");
            // Nobody has the rest.
            let copy = [("copy", "", ends[0]..ends[2]), ("copy", ".2", ends[2]..cut)];
            let twice = [copy.clone(), copy.clone().map(|(_, part, range)| ("again", part, range))].concat();
            for parts in [&copy[..], &twice] {
                let (count, intake) = read(parts);
                assert!(count < 400 && !intake.is_whole(), "cut at {cut}: {intake:?}");
                assert_eq!(intake.torn.len() + intake.unended.len(), 1, "cut at {cut}: {intake:?}");
            }
        }

        // Parts of one capture that were put into two folders.
        let (count, intake) = read(&[("first", "", ends[0]..ends[2]), ("second", ".2", ends[2]..ends[4])]);
        assert!(intake.is_whole() && intake.copies.is_empty(), "{intake:?}");
        assert_eq!((count, intake.adrift), (400, 0));

        let (count, intake) = read(&[("second", ".2", ends[2]..ends[4])]);
        assert_eq!((count, intake.unbegun.len(), intake.is_whole()), (200, 1, false));
    }
}
