//! What was opened, and what of it can't be read: for the summary and the exit code.

use std::path::PathBuf;

use super::imports::Damaged;
use super::leavings::Unread;

/// A capture that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its first file.
    pub file: PathBuf,
    /// Why, as a sentence.
    pub reason: String,
}

/// What is damaged in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedFile {
    /// The file.
    pub file: PathBuf,
    /// In how many places.
    pub places: usize,
    /// Where the first of them is.
    pub offset: usize,
    /// Bytes of the file.
    pub length: usize,
    /// Bytes of it that can't be read.
    pub lost: usize,
    /// At most so many events are missing. None: how many is not known.
    pub events: Option<u64>,
    /// Whether only the file's end is damaged.
    pub is_end: bool,
}

/// A file before which its capture had more, and nothing says why that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithoutBeginning {
    /// The file.
    pub file: PathBuf,
    /// So many events were before it.
    pub events: u64,
}

/// What was opened, for the summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// Files, refused ones not counted.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Their packets.
    pub packets: u64,
    /// Whole packets that made no sense to the first pass.
    pub malformed: u64,
    /// Files with damage in them.
    pub torn: Vec<DamagedFile>,
    /// Events that lean on what is missing there, so that they can't be read either.
    pub adrift: u64,
    /// Files whose end is missing, though what is there is whole: they were cut, or their processes were killed and have left
    /// no rings.
    pub unended: Vec<PathBuf>,
    /// Files before which parts of their captures are missing, other than as `session_mb` says.
    pub unbegun: Vec<WithoutBeginning>,
    /// Captures left out.
    pub refused: Vec<Refusal>,
    /// Captures left out because others have all that is in them.
    pub copies: Vec<PathBuf>,
    /// Captures of flight recorders' processes that were read together: what several of one process remembered is there
    /// once for each.
    pub overlapping: usize,
    /// Records that killed processes had left in their rings; a span has two.
    pub recovered: u64,
    /// Rings that can't be read, or only in part.
    pub damaged_rings: Vec<PathBuf>,
    /// Rings whose recorder still takes what is in them, or may.
    pub unread: Vec<Unread>,
    /// Files of other tools that can't be read, or only in part.
    pub damaged: Vec<Damaged>,
    /// Folders of an Ascend profiler whose results have to be exported first, by `msprof --export=on`.
    pub unexported: Vec<PathBuf>,
    /// Tables of operators that an Ascend profiler has exported; they go to the outputs as they are.
    pub operators: Vec<PathBuf>,
}

impl Intake {
    /// Whether anything in the captures is damaged or cut off.
    pub fn is_damaged(&self) -> bool {
        !(self.torn.is_empty()
            && self.unended.is_empty()
            && self.unbegun.is_empty()
            && self.damaged_rings.is_empty())
    }

    /// Whether nothing was damaged, nothing left out and nothing taken twice.
    pub fn is_whole(&self) -> bool {
        !self.is_damaged()
            && self.refused.is_empty()
            && self.overlapping == 0
            && self.unread.iter().all(|unread| unread.is_recording)
            && self.damaged.is_empty()
            && self.malformed == 0
            && self.adrift == 0
    }

    pub(super) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.packets += other.packets;
        self.malformed += other.malformed;
        self.torn.extend(other.torn);
        self.adrift += other.adrift;
        self.unended.extend(other.unended);
        self.unbegun.extend(other.unbegun);
        self.refused.extend(other.refused);
        self.copies.extend(other.copies);
        self.overlapping += other.overlapping;
        self.recovered += other.recovered;
        self.damaged_rings.extend(other.damaged_rings);
        self.unread.extend(other.unread);
        self.damaged.extend(other.damaged);
        self.unexported.extend(other.unexported);
        self.operators.extend(other.operators);
    }
}
