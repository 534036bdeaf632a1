//! A session: all that its folder holds, our own captures and what other tools recorded, as one stream of records.

use std::path::{Path, PathBuf};

use super::captures::{Captures, SourceError};
use super::folder::{Form, search};
use super::imports::{Damaged, Imports};
use super::intake::Intake;
use super::records::{CaptureRecords, Tally};
use super::{chrome_trace, msprof, msserviceprofiler};
use crate::clock::Nanos;
use crate::event::{Kind, Places, Record};
use crate::files;
use crate::spool::{Rows, Sorted};

/// That a file of another tool is being read is said from this length on, in bytes: it takes seconds.
const WORTH_A_LINE: u64 = 100_000_000;

/// An opened session.
#[derive(Debug)]
pub struct Session {
    captures: Option<Captures>,
    imported: Sorted<Record>,
    imported_tally: Tally,
    /// The earliest beginning of what was imported.
    first_imported: Option<Nanos>,
    places: Places,
    intake: Intake,
    inputs: Vec<PathBuf>,
}

/// Yields the records of a session in the order in which they ended; unfinished spans come last.
pub struct Records<'a> {
    captures: Option<CaptureRecords<'a>>,
    imported: Rows<'a, Record>,
    imported_tally: Tally,
    /// The record of the captures that waits for its turn: when it ended.
    waiting: Option<Nanos>,
    record: Option<Record>,
    taken: u64,
}

impl Session {
    /// Opens all that can be read in a folder (and the folders in it), or one file.
    ///
    /// # Errors
    /// Nothing there can be read. A single file that can't is left out, and [`Session::intake`] tells of it.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let unreadable = |error| SourceError::Unreadable { path: path.to_owned(), error };
        let mut found = search(path).map_err(unreadable)?;
        if msprof::export(&found.unexported) {
            found = search(path).map_err(unreadable)?;
        }
        if found.captures.is_empty() && found.imports.is_empty() {
            return Err(SourceError::NoCaptures { path: path.to_owned() });
        }
        let captures = match Captures::of(path, &found.captures) {
            _ if found.captures.is_empty() => None,
            Ok(captures) => Some(captures),
            Err(SourceError::AllRefused { first, .. }) if !found.imports.is_empty() => {
                log::error!("no capture could be read, but there are files of other tools; {first}");
                None
            }
            Err(error) => return Err(error),
        };
        let places = captures.as_ref().map(|captures| captures.places().clone()).unwrap_or_default();
        let mut intake = captures.as_ref().map(|captures| captures.intake().clone()).unwrap_or_default();
        let mut imports = Imports::new(places);
        for (form, file) in &found.imports {
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            intake.files += 1;
            intake.bytes += length;
            if length >= WORTH_A_LINE {
                log::info!("{}: reading {} MB", file.display(), length / 1_000_000);
            }
            // Whatever else lies there, no reader is to wait for it.
            if let Err(error) = files::open_regular(file) {
                log::warn!("{}: {error}", file.display());
                intake.damaged.push(Damaged::new(file, error));
                continue;
            }
            let damage = match form {
                Form::ServiceDatabase => msserviceprofiler::read(file, &mut imports),
                Form::Mspti => msserviceprofiler::read_mspti(file, &mut imports),
                Form::ChromeTrace => chrome_trace::read(file, &mut imports),
            };
            for damaged in &damage {
                log::warn!("{}: {}", damaged.file.display(), damaged.reason);
            }
            intake.damaged.extend(damage);
        }
        intake.unexported = found.unexported;
        intake.operators = found.operators;
        let captured = found.captures.into_iter().flat_map(|capture| capture.parts);
        let imported_files = found.imports.into_iter().map(|(_, file)| file);
        let inputs = captured.chain(imported_files).chain(intake.operators.iter().cloned()).collect();
        let imported_tally = Tally {
            spans: imports.spans,
            instants: imports.instants,
            counters: imports.counters,
            malformed: imports.malformed,
            ..Tally::default()
        };
        let first_imported = imports.first;
        let imported = imports.records.finish().map_err(unreadable)?;
        if captures.is_none()
            && imported.is_empty()
            && imported_tally.malformed == 0
            && !intake.damaged.is_empty()
        {
            let first = intake.damaged.first().map(|damaged| damaged.reason.clone()).unwrap_or_default();
            return Err(SourceError::AllRefused { path: path.to_owned(), count: intake.files, first });
        }
        Ok(Self {
            captures,
            imported,
            imported_tally,
            first_imported,
            places: imports.places,
            intake,
            inputs,
        })
    }

    /// The processes and threads.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// What was opened.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// The files that were found.
    pub fn inputs(&self) -> &[PathBuf] {
        &self.inputs
    }

    /// Our own captures, if there are any.
    pub fn captures(&self) -> Option<&Captures> {
        self.captures.as_ref()
    }

    /// What other tools recorded, in the order in which it ended.
    pub fn imported(&self) -> &Sorted<Record> {
        &self.imported
    }

    /// A time that no record begins before: what relative times can count from. None without records.
    pub fn first_time(&self) -> Option<Nanos> {
        let captured = self.captures.as_ref().and_then(|captures| captures.records().next_time());
        captured.into_iter().chain(self.first_imported).min()
    }

    /// How many units [`Records::progress`] counts up to.
    pub fn length(&self) -> u64 {
        self.captures.as_ref().map_or(0, |captures| captures.intake().packets) + self.imported.len()
    }

    /// All records, in the order in which they ended.
    pub fn records(&self) -> Records<'_> {
        Records {
            captures: self.captures.as_ref().map(Captures::records),
            imported: self.imported.iter(),
            imported_tally: self.imported_tally,
            waiting: None,
            record: None,
            taken: 0,
        }
    }
}

impl Records<'_> {
    /// The next record. It is the iterator's own, and lent until the next call.
    #[allow(clippy::should_implement_trait, reason = "an iterator could not lend the record")]
    pub fn next(&mut self) -> Option<&Record> {
        if self.waiting.is_none()
            && let Some(captures) = &mut self.captures
        {
            match captures.next() {
                // What has no end comes behind everything that has one.
                Some(record) if record.kind == Kind::Unfinished => self.waiting = Some(Nanos(u64::MAX)),
                Some(record) => self.waiting = Some(record.end),
                None => {}
            }
        }
        let imported_is_first = match (self.waiting, self.imported.next_key()) {
            (Some(waiting), Some(imported)) => imported < waiting.0,
            (waiting, _) => waiting.is_none(),
        };
        if imported_is_first {
            self.record = self.imported.next();
            self.taken += 1;
            return self.record.as_ref();
        }
        self.waiting = None;
        self.captures.as_ref().map(CaptureRecords::current)
    }

    /// What has been counted so far.
    pub fn tally(&self) -> Tally {
        let mut tally = self.captures.as_ref().map(CaptureRecords::tally).unwrap_or_default();
        let Tally { spans, instants, counters, malformed, .. } = self.imported_tally;
        tally.spans += spans;
        tally.instants += instants;
        tally.counters += counters;
        tally.malformed += malformed;
        tally
    }

    /// How much has been read, of [`Session::length`].
    pub fn progress(&self) -> u64 {
        self.captures.as_ref().map_or(0, CaptureRecords::packets) + self.taken
    }
}
