//! Opens our own captures: indexes their files, checks their format, and works out which processes and threads there
//! are. The records come out through [`Captures::records`].

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use semver::Version;
use thiserror::Error;

use super::copies::{Distinct, distinct};
use super::folder::{CaptureFiles, find};
use super::intake::{DamagedFile, Intake, Refusal, WithoutBeginning};
use super::leavings::{Leavings, Unread};
use super::places::{Facts, Gazetteer, Place, facts};
use super::records::CaptureRecords;
use super::rings::{certain_length, cut_off, end_before_kill, tail};
use super::stated::{Missing, Statements};
use crate::clock::{Nanos, Snapshot};
use crate::event::Places;
use crate::files;
use crate::stem::has_identity;
use crate::trace::{Blocks, Damage, Elsewhere, FORMAT_VERSION, Index, Part, Stream, unpack};

/// Packets in others may make a file so many times as long: what profilers record shrinks to a tenth.
const UNPACKED_TIMES: u64 = 100;

/// So long it may become in any case.
const UNPACKED_LEAST: u64 = 1 << 30;

/// Why a session can't be read at all.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The path is missing or not readable.
    #[error("cannot read {path}: {error}. Give the folder that holds the session's *.pftrace files")]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No capture file is there.
    #[error(
        "no captures in {path}: there is no *.pftrace, ms_service_*.db or *.pt.trace.json file in it or below it. Was \
         collection enabled (\"enable\": 1)?"
    )]
    NoCaptures {
        /// As given.
        path: PathBuf,
    },
    /// There are files, but none that this version reads.
    #[error("none of the {count} captures in {path} can be read; the first: {first}")]
    AllRefused {
        /// As given.
        path: PathBuf,
        /// Number of captures.
        count: usize,
        /// Why the first was refused.
        first: String,
    },
}

/// A capture whose place among the others is not known yet.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    pub(super) files: &'a CaptureFiles,
    pub(super) intake: Intake,
    /// So many bytes of its last file are what was read of it.
    pub(super) kept: u64,
    /// What each process says about itself, by its track.
    facts: FxHashMap<u64, Facts>,
    /// The blocks in its files.
    pub(super) blocks: Blocks,
    /// What is damaged in its files.
    damage: Vec<Damage>,
    /// Bytes of its files.
    lengths: Vec<usize>,
    /// Where the stream in its last file ends, if more should come and no more than a begun header is there.
    end: Option<Stream>,
    pub(super) capture: Capture,
}

/// An opened capture.
#[derive(Debug)]
pub(super) struct Capture {
    /// Its files, and then perhaps packets from the rings of a killed process.
    pub(super) parts: Arc<[Part]>,
    pub(super) index: Index,
    /// Where the events of each track happen.
    pub(super) tracks: FxHashMap<u64, Place>,
    /// Where those of an unknown track happen.
    pub(super) nowhere: Place,
}

/// An opened session.
#[derive(Debug)]
pub struct Captures {
    pub(super) opened: Vec<Capture>,
    /// What must be added to a process's `CLOCK_BOOTTIME` to have unix time; by process.
    pub(super) offsets: Vec<i64>,
    /// What the recorders state not to be there.
    pub(super) missing: Missing,
    places: Places,
    intake: Intake,
}

impl Captures {
    /// Opens all captures in a folder (and the folders in it), or one capture file.
    ///
    /// # Errors
    /// Nothing there can be read. A single capture that can't is left out, and listed in [`Intake::refused`].
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let unreadable = |error| SourceError::Unreadable { path: path.to_owned(), error };
        let found = find(path).map_err(unreadable)?;
        if found.is_empty() {
            return Err(SourceError::NoCaptures { path: path.to_owned() });
        }
        Self::of(path, &found)
    }

    /// Opens these captures, found in `path`.
    pub(super) fn of(path: &Path, found: &[CaptureFiles]) -> Result<Self, SourceError> {
        let (mut all, mut intake) = (Vec::new(), Intake::default());
        for files in found {
            match open_capture(files) {
                Ok(opened) => all.push(opened),
                Err(reason) => {
                    let file = files.parts.first().cloned().unwrap_or_default();
                    log::error!("{}: {reason}", file.display());
                    intake.refused.push(Refusal { file, reason });
                }
            }
        }
        if all.is_empty() {
            let first = intake.refused.first().map(|refusal| refusal.reason.clone()).unwrap_or_default();
            return Err(SourceError::AllRefused { path: path.to_owned(), count: found.len(), first });
        }
        let (mut gazetteer, mut opened) = (Gazetteer::default(), Vec::new());
        let Distinct { captures: all, copies, blocks } = distinct(all);
        intake.copies = copies;
        intake.overlapping = overlapping(&all);
        if intake.overlapping > 0 {
            let number = intake.overlapping;
            log::warn!(
                "{number} captures are dumps of processes that have others here: what they share is read once for each"
            );
        }
        let statements = Statements::of(all.iter().flat_map(|one| &one.facts));
        let missing = statements.missing(&blocks);
        for mut one in all {
            one.tell_edges(&blocks, &statements);
            let Opened { files, intake: own, facts, mut capture, .. } = one;
            (capture.tracks, capture.nowhere) = gazetteer.add(files, &capture.index, &facts);
            intake.add(own);
            opened.push(capture);
        }
        let (places, offsets) = gazetteer.finish();
        Ok(Self { opened, offsets, missing, places, intake })
    }

    /// The processes and threads.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The packets of each capture, whole ones only and unpacked, with the machine that they are from: its parts, and which
    /// bytes of each. Those of one machine can be put one behind the other.
    pub fn packets(&self) -> impl Iterator<Item = (&str, Vec<(&Part, Range<usize>)>)> {
        self.opened.iter().map(|capture| {
            let parts = capture.parts.iter().enumerate();
            let ranges =
                parts.flat_map(|(n, part)| capture.index.readable(n).map(move |range| (part, range)));
            (self.places.process(capture.nowhere.process).machine(), ranges.collect())
        })
    }

    /// The clocks of a machine, as one of its captures states them.
    pub fn clocks(&self, machine: &str) -> Option<Snapshot> {
        let is_of_it = |capture: &&Capture| self.places.process(capture.nowhere.process).machine() == machine;
        let position = self.places.processes.iter().position(|process| process.machine() == machine)?;
        let mut states = self.opened.iter().filter(is_of_it).flat_map(|capture| &capture.index.sequences);
        let snapshot = states.find_map(|sequence| sequence.clocks)?;
        // All processes of a machine are told by one offset.
        let real = Nanos(snapshot.boot.0.wrapping_add_signed(*self.offsets.get(position)?));
        Some(Snapshot { real, ..snapshot })
    }

    /// What was opened.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// All records, in the order in which they ended.
    pub fn records(&self) -> CaptureRecords<'_> {
        CaptureRecords::new(self)
    }
}

/// How many captures are of processes of a flight recorder that have several here: each holds what was remembered then.
fn overlapping(all: &[Opened<'_>]) -> usize {
    let mut of_process: FxHashMap<&str, (usize, bool)> = FxHashMap::default();
    // Without an identity another process may have had the same number.
    for opened in all.iter().filter(|opened| has_identity(&opened.files.name)) {
        let (captures, has_dump) = of_process.entry(&opened.files.name).or_default();
        *captures += 1;
        *has_dump |= opened.files.is_dump();
    }
    of_process
        .into_values()
        .filter(|(captures, has_dump)| *captures > 1 && *has_dump)
        .map(|(captures, _)| captures)
        .sum()
}

impl Opened<'_> {
    /// Tells where the capture has no beginning or end, now that it is known what else there is.
    fn tell_edges(&mut self, read: &Blocks, statements: &Statements) {
        let goes_on = |end: Stream| read.has(end.id, end.next) || statements.explains_end(end);
        if self.end.is_some_and(goes_on) {
            if self.damage.last().is_some_and(Damage::is_begun_header) {
                self.damage.pop();
            } else {
                self.intake.unended.pop();
            }
        }
        self.tell_damage();
        let Self { files, intake, capture, .. } = self;
        for file in &intake.unended {
            log::warn!("{}: its end is missing", file.display());
        }
        let begins_late = capture.index.begins_late.iter();
        let unexplained = begins_late.filter(|(_, at)| {
            !read.has(at.id, at.next.saturating_sub(1)) && !statements.explains_beginning(*at)
        });
        for (part, Stream { events, .. }) in unexplained {
            let Some(file) = files.parts.get(*part) else { continue };
            log::warn!("{}: what was before it is missing", file.display());
            intake.unbegun.push(WithoutBeginning { file: file.clone(), events: *events });
        }
    }

    /// Tells what is damaged.
    pub(super) fn tell_damage(&mut self) {
        for (part, (file, length)) in self.files.parts.iter().zip(&self.lengths).enumerate() {
            let of_file: Vec<_> = self.damage.iter().filter(|damage| damage.part == part).collect();
            self.intake.torn.extend(damaged(file, *length, &of_file));
        }
    }
}

impl Capture {
    /// What the rings have beyond the files, as packets.
    pub(super) fn tail(&self) -> &[u8] {
        self.parts.last().and_then(Part::memory).unwrap_or_default()
    }
}

fn open_capture(files: &CaptureFiles) -> Result<Opened<'_>, String> {
    open_beyond(files, &Elsewhere::default())
}

/// Opens a capture, and passes over blocks that are read elsewhere.
pub(super) fn open_beyond<'a>(files: &'a CaptureFiles, elsewhere: &Elsewhere) -> Result<Opened<'a>, String> {
    open_with(files, &Leavings::of(files), elsewhere)
}

/// Opens a capture, with what its recorder has left, and passes over blocks that are read elsewhere.
pub(super) fn open_with<'a>(
    files: &'a CaptureFiles,
    left: &Leavings,
    elsewhere: &Elsewhere,
) -> Result<Opened<'a>, String> {
    let unread: Vec<_> = left.unread(files).into_iter().collect();
    for Unread { capture, reason, .. } in unread.iter().filter(|unread| !unread.is_recording) {
        log::warn!("{}: the rings of its process are not read: {reason}", capture.display());
    }
    let mut intake = Intake { files: files.parts.len(), unread, ..Intake::default() };
    let parts = files.parts.iter().map(|file| open(file)).collect::<io::Result<Vec<_>>>();
    let mut parts = parts.map_err(|error| format!("cannot be read: {error}"))?;
    let lengths: Vec<_> = parts.iter().map(Part::length).collect();
    intake.bytes += lengths.iter().map(|length| *length as u64).sum::<u64>();
    let length = lengths.last().map_or(0, |length| *length as u64);
    if let Some(last) = parts.last_mut() {
        last.shorten(certain_length(left, length) as usize);
    }
    let mut index = Index::beyond(elsewhere, &parts);
    if let Some(end) = end_before_kill(left, &index, parts.len())
        && let Some(last) = parts.last_mut()
    {
        last.shorten(end);
        index = Index::beyond(elsewhere, &parts);
    }
    let kept = parts.last().map_or(0, |last| last.length() as u64);
    // Where the bytes of files are damaged; what is unpacked has none of these.
    let mut damage = index.damage.clone();
    let is_running = !left.are_final();
    let cut = index.unended().map_or(0, |_| cut_off(left, length)) as usize;
    let ends_whole = index.ends_whole() && cut == 0;
    if is_running && damage.last().is_some_and(|it| it.is_end && it.part + 1 == parts.len()) {
        damage.pop(); // it is still being written
    }
    if cut > 0 {
        let (part, offset) = (parts.len() - 1, length as usize);
        damage.push(Damage { part, offset, lost: cut, is_end: true, events: None });
    }
    if index.packed > 0 {
        for part in &mut parts {
            let most = UNPACKED_LEAST.max(part.length() as u64 * UNPACKED_TIMES);
            *part = unpacked(part, most)
                .map_err(|error| format!("cannot be unpacked in a temporary file: {error}"))?;
        }
        index = Index::beyond(elsewhere, &parts);
        intake.malformed += index.packed; // they can't be unpacked
    }
    let blocks = index.blocks.clone();
    let mut parts: Arc<[Part]> = parts.into();
    if let Some(tail) = tail(left, length, &index, &parts, ends_whole) {
        intake.recovered += tail.events;
        intake.damaged_rings.extend(tail.damaged);
        parts = parts.iter().cloned().chain([Part::from(tail.packets)]).collect();
        index = Index::beyond(elsewhere, &parts);
    }
    let facts = facts(&index, &parts);
    for format in facts.values().filter_map(|facts| facts.format.as_deref()) {
        check_format(format)?;
    }
    let has_clocks = index.sequences.iter().any(|sequence| sequence.clocks.is_some());
    if !damage.is_empty() && has_clocks && facts.values().all(|facts| facts.format.is_none()) {
        log::warn!(
            "{}: what its process said of itself is damaged. Its times may be some nanoseconds off, and by more if the \
             system's clock was set while it recorded",
            files.parts.first().map_or(Path::new(""), PathBuf::as_path).display()
        );
    }
    intake.packets += index.sequences.iter().map(|sequence| sequence.packets).sum::<u64>();
    intake.malformed += index.malformed;
    intake.adrift += index.adrift;
    // Of rings that are not read it is said why. A capture without a byte was cut too, where no rings say that its
    // process was killed before it wrote any.
    let is_empty = intake.bytes == 0 && left.rings.is_empty();
    let has_more = index.unended().is_some() && !index.ends_elsewhere;
    let is_open = (has_more || is_empty) && !is_running && intake.unread.is_empty();
    if let Some(last) = damage.last_mut().filter(|last| last.is_end && is_open) {
        last.events = None; // there may have been more blocks
    }
    let unended = index.unended.iter().copied().chain(is_open.then_some(files.parts.len() - 1));
    let is_told = |part: usize| damage.iter().any(|damage| damage.part == part && damage.is_end);
    let unended = unended.filter(|part| !is_told(*part));
    intake.unended.extend(unended.filter_map(|part| files.parts.get(part).cloned()));
    let has_begun_header =
        damage.last().is_some_and(|it| it.part + 1 == files.parts.len() && it.is_begun_header());
    let ends_whole = is_open && !is_told(files.parts.len() - 1);
    let end = index.unended().filter(|_| ends_whole || has_begun_header && cut == 0);
    let (tracks, nowhere) = (FxHashMap::default(), Place::default());
    let capture = Capture { parts, index, tracks, nowhere };
    Ok(Opened { files, intake, kept, facts, blocks, damage, lengths, end, capture })
}

/// What is damaged in a file of so many bytes.
fn damaged(file: &Path, length: usize, damage: &[&Damage]) -> Option<DamagedFile> {
    let first = damage.first()?;
    let lost = damage.iter().map(|damage| damage.lost).sum();
    log::warn!("{}: {lost} bytes can't be read, the first at {}", file.display(), first.offset);
    Some(DamagedFile {
        file: file.to_owned(),
        places: damage.len(),
        offset: first.offset,
        length,
        lost,
        events: damage.iter().map(|damage| damage.events).sum(),
        is_end: damage.len() == 1 && first.is_end,
    })
}

fn open(path: &Path) -> io::Result<Part> {
    let file = files::open_regular(path)?;
    let length = file.metadata()?.len();
    Ok(Part::of_file(file, usize::try_from(length).map_err(io::Error::other)?))
}

/// In a file rather than in memory: it may be many times as long as what was packed, but not more than `most`.
fn unpacked(packed: &Part, most: u64) -> io::Result<Part> {
    let mut out = BufWriter::new(Limited { file: tempfile::tempfile()?, left: most });
    unpack(packed, &mut out)?;
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?.file;
    let length = file.metadata()?.len();
    Ok(Part::of_file(file, usize::try_from(length).map_err(io::Error::other)?))
}

/// A file that takes only so many bytes.
struct Limited {
    file: File,
    left: u64,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "it becomes longer than any capture does")
        })?;
        self.file.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn check_format(format: &str) -> Result<(), String> {
    let ours = Version::parse(FORMAT_VERSION).map_err(|error| format!("{FORMAT_VERSION}: {error}"))?;
    match Version::parse(format) {
        Ok(theirs) if theirs.major == ours.major => Ok(()),
        Ok(_) => Err(format!(
            "its format is {format}, this program reads {}.x: use the msprof-rs that recorded it, or a newer one",
            ours.major
        )),
        Err(error) => Err(format!("its format is stated as {format:?}, which is no version ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_different_major_version_is_refused() {
        for (format, fits) in [
            ("1.0.0", true),
            ("1.7.3", true),
            ("1.0.0-rc.1", true),
            ("2.0.0", false),
            ("0.9.0", false),
            ("one", false),
        ] {
            assert_eq!(check_format(format).is_ok(), fits, "{format}");
        }
        assert!(check_format("2.0.0").unwrap_err().contains("reads 1.x"));
    }

    #[test]
    fn a_capture_that_would_fill_the_disk_is_not_unpacked() {
        let packets = [10, 2, 64, 7].repeat(100_000);
        let part = Part::from(crate::trace::compressed(&packets));
        assert_eq!(unpacked(&part, packets.len() as u64).unwrap().length(), packets.len());
        let error = unpacked(&part, packets.len() as u64 - 1).unwrap_err();
        assert!(error.to_string().contains("longer than any capture"), "{error}");
    }

    #[test]
    fn a_missing_folder_and_an_empty_one_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Captures::open(&folder.path().join("nothing")).unwrap_err();
        assert!(matches!(missing, SourceError::Unreadable { .. }), "{missing}");
        let empty = Captures::open(folder.path()).unwrap_err();
        assert!(matches!(empty, SourceError::NoCaptures { .. }), "{empty}");
    }
}
