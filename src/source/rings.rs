//! What a process that was killed had committed and its flusher had not taken: the tail of a capture, read from the
//! ring files that the process left behind, as further packets of the capture.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::leavings::Leavings;
use crate::clock::{Calibration, Snapshot};
use crate::event::names_log::{self, Entry};
use crate::event::{AttributeReader, Attributes, Damaged, Key, Label, Name};
use crate::files::{TEXT_LIMIT, open_own, read_to_limit};
use crate::ring::{Consumer, Kind, Owner, Record, Ring, RingError};
use crate::stem::CaptureId;
use crate::trace::{
    Clocks, Index, LeftOpen, Lost, META_DOMAIN, Part, Process, Sequence, Thread, TrackKind, Writer,
};

/// The tail of a capture.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Packets to be read after those of the capture's files.
    pub(super) packets: Vec<u8>,
    /// Events in them.
    pub(super) events: u64,
    /// Ring files that could not be read, or only in part.
    pub(super) damaged: Vec<PathBuf>,
}

/// Reads the rings of a capture whose recorder is gone. None: there are none, or they are not to be read, or the capture
/// has them already. `length` is that of the capture's last file, in bytes; `ends_whole`: nothing of the files is missing
/// behind what could be read.
pub(super) fn tail(
    left: &Leavings,
    length: u64,
    index: &Index,
    parts: &Arc<[Part]>,
    ends_whole: bool,
) -> Option<Tail> {
    if left.files().next().is_none() || !left.are_final() {
        return None;
    }
    let mut tail = Tail::default();
    let is_known = |ring: &Ring| {
        let sequence = u64::from(ring.owner().sequence);
        index.sequences.iter().any(|known| known.id == sequence)
    };
    let (mut opened, mut half_made) = (Vec::new(), Vec::new());
    for path in &left.rings {
        match Ring::open(path, left.owner) {
            Ok(ring) => {
                // They are made one after the other, so a kill leaves none half made before a whole one.
                for (path, error) in half_made.drain(..) {
                    log::warn!("{error}");
                    tail.damaged.push(path);
                }
                // One that lay ready for a thread that never came has nothing.
                if is_known(&ring) || ring.filled() > 0 || ring.dropped() > 0 {
                    opened.push((path, ring));
                }
            }
            Err(error @ RingError::HalfMade { .. }) => half_made.push((path.clone(), error)),
            Err(error) => {
                log::warn!("{error}");
                tail.damaged.push(path.clone());
            }
        }
    }
    let texts = texts(left);
    if texts.iter().any(|texts| texts.completed == Some(length)) {
        return (!tail.damaged.is_empty()).then_some(tail);
    }
    if left.rings.is_empty() && index.unended().is_some() {
        for names in &left.names {
            log::warn!("{}: the rings that it belongs to are gone", names.display());
            tail.damaged.push(names.clone());
        }
        return Some(tail);
    }
    // Names files of versions that made one for each beginning of a collection count no rings.
    let filed: u64 = texts.iter().map(|texts| texts.filed_rings).sum();
    let missing = filed.saturating_sub(left.rings.len() as u64);
    if missing > 0 {
        for names in &left.names {
            log::warn!("{}: {missing} of the rings that it belongs to are gone", names.display());
            tail.damaged.push(names.clone());
        }
    }
    // What has no identity is of a version that made no more than one names file at a time.
    let texts_of = |ring: &Ring| texts.iter().rev().find(|texts| texts.identity == ring.identity());
    opened.retain(|(path, ring)| {
        let is_readable = texts_of(ring).is_some();
        if !is_readable {
            log::warn!("{}: it can't be read without the names for it", path.display());
            tail.damaged.push((*path).clone());
        }
        is_readable
    });
    if opened.is_empty() && texts.is_empty() {
        return Some(tail);
    }
    let Some((writer, clocks)) = writer(index) else {
        let is_lost = |ring: &Ring| ring.filled() > 0 || ring.dropped() > 0;
        for (path, _) in opened.iter().filter(|(_, ring)| is_lost(ring)) {
            log::warn!("{}: it can't be read without the beginning of its capture", path.display());
            tail.damaged.push((*path).clone());
        }
        return Some(tail);
    };
    // What goes on behind damage is not to be taken for what was lost there.
    let stream = index.unended().filter(|_| ends_whole);
    let mut writer = writer.in_blocks(false, stream);
    let mut left_open = index.left_open(parts);
    if !ends_whole {
        left_open.forget_threads();
    }
    writer.take_over_lanes(&left_open);
    opened.sort_by_key(|(_, ring)| ring.order());
    let mut sequences = FxHashMap::default();
    for (path, ring) in opened {
        let Some(texts) = texts_of(&ring) else { continue }; // see above
        let owner = ring.owner();
        // A thread that went on in another ring has several.
        let sequence = sequences
            .entry(owner.sequence)
            .or_insert_with(|| sequence(owner, index, &mut left_open, &mut writer));
        tail.events += drain(ring, length, sequence, texts, &mut writer, path, &mut tail.damaged);
    }
    for sequence in sequences.values_mut() {
        writer.settle(sequence);
    }
    // Captures of version 1.0 don't say which spans stand open in them.
    let Lost { ends, .. } = writer.last_visit();
    let private = texts.last().map_or(0, |newest| newest.private_rings);
    for (name, number) in [("unmatched", ends), ("lost_rings", private)] {
        if number > 0 {
            let mut attributes = Attributes::default();
            attributes.key(Name::new("count")).int(number as i64);
            writer.meta(clocks.boot, Label::new(META_DOMAIN, name), attributes.as_bytes());
        }
    }
    writer.close();
    tail.packets = writer.pending().to_vec();
    Some(tail)
}

/// How many bytes the last file of a capture had, beyond the `length` that it has, when its recorder was killed.
pub(super) fn cut_off(left: &Leavings, length: u64) -> u64 {
    known_length(left).unwrap_or(0).saturating_sub(length)
}

/// Where the last of so many files of a capture ends, if its recorder was killed while it wrote what lies behind: a part of a
/// block with nothing in it that was in a ring.
pub(super) fn end_before_kill(left: &Leavings, index: &Index, parts: usize) -> Option<usize> {
    let known = known_length(left)?;
    let last = index.damage.last().filter(|last| last.is_end && last.part + 1 == parts)?;
    (last.offset as u64 >= known).then_some(last.offset)
}

/// How long the last file of a capture was, at least, when its recorder was killed. None: it lives, or there are no rings.
fn known_length(left: &Leavings) -> Option<u64> {
    let rings = left.rings.iter().filter(|_| left.are_final());
    rings.filter_map(|path| Some(Ring::open(path, left.owner).ok()?.file_length())).max()
}

/// How many bytes of a capture's last file, which has `length`, are to be read: the process may have died while it wrote
/// what is still in a ring.
pub(super) fn certain_length(left: &Leavings, length: u64) -> u64 {
    if !left.are_final() || texts(left).iter().any(|texts| texts.completed == Some(length)) {
        return length;
    }
    let uncertain =
        left.rings.iter().filter_map(|path| Ring::open(path, left.owner).ok()?.uncertain_from(length));
    uncertain.min().unwrap_or(length)
}

/// The texts for a capture's rings, the newest last.
fn texts(left: &Leavings) -> Vec<Texts> {
    let read = |path: &PathBuf| {
        Texts::read(path, left.owner).inspect_err(|error| log::warn!("{}: {error}", path.display())).ok()
    };
    left.names.iter().filter_map(read).collect()
}

/// A writer that goes on where the capture's own stopped, and the capture's clocks. None: what they lean on is missing.
fn writer(index: &Index) -> Option<(Writer, Snapshot)> {
    let clocks = index.sequences.iter().find_map(|sequence| sequence.clocks)?;
    let uuid = index.track_order.iter().find(|uuid| is_process(index, **uuid))?;
    let track = index.tracks.get(uuid)?;
    let TrackKind::Process { pid, command } = &track.kind else { return None };
    let process = Process { pid: *pid, name: track.name.clone(), command: command.clone() };
    Some((Writer::continuing(process, *uuid, Clocks::Fixed(clocks)), clocks))
}

fn is_process(index: &Index, uuid: u64) -> bool {
    index.tracks.get(&uuid).is_some_and(|track| matches!(track.kind, TrackKind::Process { .. }))
}

/// The packet sequence of a ring's thread.
fn sequence(owner: Owner, index: &Index, left_open: &mut LeftOpen, writer: &mut Writer) -> Sequence {
    match index.sequences.iter().find(|sequence| sequence.id == u64::from(owner.sequence)) {
        Some(known) => writer.resume(owner.sequence, known.track, left_open),
        // The flusher never saw this thread.
        None => writer.thread(&Thread { tid: owner.tid, name: String::new(), sequence: owner.sequence }),
    }
}

fn drain(
    ring: Ring,
    length: u64,
    sequence: &mut Sequence,
    texts: &Texts,
    writer: &mut Writer,
    path: &Path,
    damaged: &mut Vec<PathBuf>,
) -> u64 {
    let calibration = Calibration::from_line(ring.line());
    let mut events = 0;
    let mut lost = 0;
    let mut last = calibration.line().1.boot;
    let mut consumer = Consumer::new(Arc::new(ring));
    consumer.pass_over_written(length);
    let outcome = consumer.drain(usize::MAX, |record| {
        let time = calibration.to_boot(record.ticks);
        last = time;
        if record.kind == Kind::EndWithin {
            let attributes = texts.translate(&record).unwrap_or_default();
            lost +=
                u64::from(writer.end_within(sequence, time, record.label, attributes.as_bytes()).is_err());
            events += 1;
            return;
        }
        let (Some(label), Ok(attributes)) = (texts.label(record.label), texts.translate(&record)) else {
            lost += 1;
            return;
        };
        events += 1;
        let attributes = attributes.as_bytes();
        let written = match record.kind {
            Kind::Begin => {
                writer.begin(sequence, time, label);
                Ok(())
            }
            Kind::End => writer.end(sequence, time, attributes),
            Kind::Instant => writer.instant(sequence, time, label, attributes),
            Kind::AsyncBegin => {
                writer.async_begin(sequence, time, label, record.id);
                Ok(())
            }
            Kind::LooseBegin => {
                writer.loose_begin(sequence, time, label, record.id);
                Ok(())
            }
            Kind::EndWithin => Ok(()), // above
            Kind::AsyncEnd => writer.async_end(sequence, time, record.id, attributes),
            Kind::Counter => {
                writer.counter(sequence, time, label, f64::from_bits(record.id));
                Ok(())
            }
            Kind::Meta => {
                writer.meta(time, label, attributes);
                Ok(())
            }
        };
        lost += u64::from(written.is_err());
    });
    let dropped = consumer.newly_dropped();
    if dropped > 0 {
        let mut attributes = Attributes::default();
        attributes.key(Name::new("count")).int(dropped as i64);
        let label = Label::new(META_DOMAIN, "dropped");
        // Just encoded, so it is whole.
        let _ = writer.instant(sequence, last, label, attributes.as_bytes());
    }
    if outcome.is_err() || lost > 0 {
        log::warn!("{}: a part of it can't be read", path.display());
        damaged.push(path.to_owned());
    }
    events
}

/// The texts behind the numbers in a process's rings, as names of this process.
#[derive(Debug, Default)]
struct Texts {
    /// None: of an earlier version.
    identity: Option<CaptureId>,
    private_rings: u64,
    filed_rings: u64,
    /// The length of the capture's last file, if `recover` has put the rings into it.
    completed: Option<u64>,
    names: FxHashMap<u32, Name>,
    labels: FxHashMap<u32, Label>,
}

impl Texts {
    /// Reads the file that the recorder keeps beside the rings.
    fn read(path: &Path, owner: u32) -> io::Result<Self> {
        let bytes = read_to_limit(open_own(path, owner)?, TEXT_LIMIT)?;
        let Some(entries) = names_log::entries(&bytes) else {
            return Ok(Self::of_lines(&String::from_utf8_lossy(&bytes)));
        };
        let mut texts = Self {
            identity: names_log::identity(&bytes).map(CaptureId),
            private_rings: names_log::private_rings(&bytes),
            filed_rings: names_log::filed_rings(&bytes),
            completed: names_log::completed(&bytes),
            ..Self::default()
        };
        for entry in entries {
            match entry {
                Entry::Name { index, text } => drop(texts.names.insert(index, Name::new(text))),
                Entry::Label { index, domain, name } => {
                    texts.labels.insert(index, Label::new(domain, name));
                }
            }
        }
        Ok(texts)
    }

    /// What version 0.1.0 wrote: a JSON array a line. One that was cut by the process's death is left out.
    fn of_lines(lines: &str) -> Self {
        let mut texts = Self::default();
        for line in lines.lines() {
            if let Ok(("n", index, text)) = serde_json::from_str::<(&str, u32, String)>(line) {
                texts.names.insert(index, Name::new(&text));
            } else if let Ok(("l", index, domain, name)) =
                serde_json::from_str::<(&str, u32, String, String)>(line)
            {
                texts.labels.insert(index, Label::new(&domain, &name));
            }
        }
        texts
    }

    fn label(&self, index: u32) -> Option<Label> {
        self.labels.get(&index).copied()
    }

    /// A record's attributes with the names of this process.
    fn translate(&self, record: &Record<'_>) -> Result<Attributes, Damaged> {
        let mut reader = AttributeReader::new(record.attributes);
        let mut attributes = Attributes::default();
        let name = |index: u32| self.names.get(&index).copied().ok_or(Damaged(0));
        while !reader.is_done() {
            match reader.key()? {
                Key::Name(index) => attributes.key(name(index)?),
                Key::Text(text) => attributes.key_text(text),
            };
            let text = |index: u32| name(index).map_or("", Name::as_str).into();
            attributes.value(&reader.value(&text)?);
        }
        Ok(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_an_older_version_has_left_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h-1.names");
        std::fs::write(&path, "[\"n\",5,\"rid\"]\n[\"l\",3,\"Request\",\"httpReq\"]\n[\"n\",6,\"cut")
            .unwrap();
        let texts = Texts::read(&path, crate::files::user()).unwrap();
        assert_eq!(texts.names.get(&5), Some(&Name::new("rid")));
        assert_eq!(texts.label(3), Some(Label::new("Request", "httpReq")));
        assert_eq!(texts.names.len(), 1);
    }
}
