//! Captures that say what others say: a file into which several were joined beside them, a copy of a folder within it.

use std::cmp::Reverse;

use rustc_hash::FxHashSet;

use super::captures::Opened;
use crate::trace::{Index, TrackKind};

/// For each capture, whether others have all that is in it. A process's track is a random number, which only copies
/// share. Files of single processes go before joined ones, longer ones before those that were copied too early.
pub(super) fn copies(all: &[Opened<'_>]) -> Vec<bool> {
    let indexes: Vec<&Index> = all.iter().map(|opened| &opened.capture.index).collect();
    let mut order: Vec<usize> = (0..all.len()).collect();
    let packets = |index: &Index| index.sequences.iter().map(|sequence| sequence.packets).sum::<u64>();
    order.sort_by_key(|&n| (processes(indexes[n]).count(), Reverse(packets(indexes[n]))));
    let (mut known, mut is_copy) = (FxHashSet::default(), vec![false; all.len()]);
    for n in order {
        let shared = processes(indexes[n]).filter(|track| known.contains(track)).count();
        is_copy[n] = shared > 0 && shared == processes(indexes[n]).count();
        if shared > 0 && !is_copy[n] {
            let file = all[n].files.parts.first().map(|file| file.display().to_string()).unwrap_or_default();
            log::warn!("{file}: some of its processes are in other files too, so they count twice");
        }
        known.extend(processes(indexes[n]));
    }
    is_copy
}

fn processes(index: &Index) -> impl Iterator<Item = u64> {
    let tracks = index.tracks.iter();
    tracks.filter(|(_, track)| matches!(track.kind, TrackKind::Process { .. })).map(|(uuid, _)| *uuid)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Captures;
    use super::super::fixture::session;

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
}
