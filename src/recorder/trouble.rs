//! A capture that can't be written, or is not there any more: what becomes of its events, and how the next file says it.
//!
//! Where the disk is full, the events stay in their rings and another try is made every second. What the rings can't hold
//! is counted there, as ever. A file that somebody has removed, moved or cut is left, and another one begins.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::capture_file::{Begin, Fate, Removed};
use super::session::Session;
use crate::clock;
use crate::config::Mode;
use crate::event::{Attributes, Label, Name};
use crate::trace::{META_DOMAIN, Stream};

/// Between two tries to write.
const PAUSE: Duration = Duration::from_secs(1);

/// A disk that is full now and then is told of once in this time.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a session does not write at the moment.
#[derive(Debug)]
pub(super) struct Stall {
    since: Instant,
    next_try: Instant,
    reason: String,
}

/// Events that are in no capture.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    /// They found their ring full.
    pub(super) dropped: u64,
    /// Their threads got no ring.
    pub(super) ringless: u64,
    /// They went with a file that somebody removed, moved or cut: records, of which a span has two.
    pub(super) vanished: u64,
}

impl Losses {
    pub(super) fn all(self) -> u64 {
        self.dropped + self.ringless + self.vanished
    }
}

impl Session {
    /// Why it does not write at the moment.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.stall.as_ref().map(|stall| stall.reason.as_str())
    }

    /// Something could not be written: to another file, if this one is lost.
    pub(super) fn meet_with(&mut self, error: &io::Error) {
        if self.file.is_at_hand() {
            return self.stall(error);
        }
        log::error!("{error}; the capture goes on in a new file");
        if let Err(error) = self.leave_file(None) {
            self.stall(&error);
        }
    }

    /// Something could not be written. What is in the rings stays there for now.
    pub(super) fn stall(&mut self, error: &io::Error) {
        let now = Instant::now();
        let reason = format!("{}: {error}", self.path().display());
        if self.stall.is_none() {
            let is_known = self.told_stall.is_some_and(|told| now - told < SILENCE);
            let level = if is_known { log::Level::Debug } else { log::Level::Error };
            log::log!(
                level,
                "{reason}; the server goes on, the rings keep what they can until it can be written, and count the rest"
            );
            if !is_known {
                self.told_stall = Some(now);
            }
        }
        let since = self.stall.as_ref().map_or(now, |stall| stall.since);
        self.stall = Some(Stall { since, next_try: now + PAUSE, reason });
    }

    /// Whether nothing can be written; it tries to, if it is time for that.
    pub(super) fn is_stalled(&mut self) -> bool {
        let Some(Stall { since, next_try, .. }) = self.stall else { return false };
        if Instant::now() < next_try {
            return true;
        }
        if let Err(error) = self.write_what_waits() {
            self.stall(&error);
            return true;
        }
        let seconds = since.elapsed().as_secs_f64();
        log::info!("{}: written again, after {seconds:.1} s", self.path().display());
        self.stall = None;
        self.state("stalled", &[("ns", since.elapsed().as_nanos() as i64)]);
        false
    }

    /// What was taken from the rings and could not be written: now, and in a new file if this one is lost.
    pub(super) fn write_what_waits(&mut self) -> io::Result<()> {
        if !self.file.is_at_hand() {
            return self.leave_file(None);
        }
        match self.write_pending() {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return self.leave_file(None),
            outcome => outcome?,
        }
        self.release_all();
        Ok(())
    }

    /// Whether the capture is not where it was made, or not whole.
    pub(super) fn has_lost_file(&mut self) -> bool {
        self.file.fate() != Fate::There
    }

    /// Whether the capture is where it was made. A file that was removed, moved or cut is left for a new one in the same
    /// folder. False: the folder itself is gone.
    pub(super) fn look_for_file(&mut self) -> bool {
        let fate = self.file.fate();
        if fate == Fate::There {
            return true;
        }
        if !self.path().parent().is_some_and(Path::is_dir) {
            return false;
        }
        if self.stall.is_none() {
            let path = self.path().display();
            log::error!("{path}: the capture {fate} while it was being written; it goes on in a new file");
        }
        if let Err(error) = self.leave_file(None) {
            self.stall(&error);
        }
        true
    }

    /// Goes on in a new file, in another folder if one is given, which says what went with the one before.
    pub(super) fn leave_file(&mut self, folder: Option<&Path>) -> io::Result<()> {
        let is_there = folder.is_none() && self.file.fate() == Fate::There;
        let end = self.writer.stream();
        let mut first = self.file.begin().stream.next;
        let mut written = self.events_written.saturating_sub(self.file.begin().records);
        let mut unwritten = self.figures.events - self.events_written;
        if is_there {
            self.file.next_part(Begin { stream: end, records: self.figures.events })?;
        } else if let Some(folder) = folder {
            let stem = folder.join(self.stem.file_name().unwrap_or_default());
            (first, written) = (self.file.first_block(), self.file.records(self.events_written));
            self.file.leave(Some(&stem))?;
            self.stem = stem;
        } else {
            self.file.leave(None)?;
        }
        // What could not be written any more leans on what was.
        self.writer.forget_pending();
        if !is_there {
            self.writer.begin_stream();
            self.file.restart(Begin { stream: self.writer.stream(), records: self.figures.events });
        }
        self.release_all();
        self.announce_length(0);
        if self.mode != Mode::Capture {
            (written, unwritten) = (0, 0); // it is still remembered
        }
        self.state_again();
        if !is_there {
            // Who finds the file where it is now knows by its blocks that nothing of it is missing.
            self.losses.vanished += written;
            let [stream, first, end] = [u64::from(end.id), first, end.next].map(|number| number as i64);
            let left = [("count", written as i64), ("stream", stream), ("first", first), ("end", end)];
            self.state("vanished", &left);
        }
        self.state_vanished(unwritten);
        self.write_pending()
    }

    /// States that so many records are in no file.
    fn state_vanished(&mut self, records: u64) {
        if records > 0 {
            self.losses.vanished += records;
            self.state("vanished", &[("count", records as i64)]);
        }
    }

    /// A session that goes on in another folder is another one, in which no span can end that began before: so many spans
    /// have no end. Only here is that counted, and so once, whichever of the folders is read.
    pub(super) fn state_ends_missed(&mut self, abandoned_before: u64) {
        if !self.file.has_moved() {
            return;
        }
        let unended = self.writer.unended(self.threads.iter().map(|thread| &thread.sequence));
        let missed = unended.saturating_sub(abandoned_before);
        if missed > 0 {
            let path = self.path().display();
            log::warn!(
                "ends of spans that were open when the session's folder went: {missed}; {path} counts them"
            );
        }
        self.state_vanished(missed);
    }

    /// States the parts that were removed: in each that begins later too, since any one may go.
    pub(super) fn state_removed(&mut self, newly: u64) {
        let Removed { parts, events } = self.file.removed();
        if parts > 0 {
            let Stream { id, .. } = self.file.begin().stream;
            let (stream, first) = (i64::from(id), self.file.first_block() as i64);
            let (total, events) = (parts as i64, events as i64);
            let numbers = [("parts", newly as i64), ("total", total), ("events", events)];
            self.state("removed", &[&numbers[..], &[("stream", stream), ("first", first)]].concat());
        }
    }

    /// All that this session has lost, and those before it that it goes on with.
    pub(super) fn losses(&self) -> Losses {
        let (ours, former) = (self.losses, self.inherited);
        Losses {
            dropped: ours.dropped + former.dropped,
            ringless: ours.ringless + former.ringless,
            vanished: ours.vanished + former.vanished,
        }
    }

    /// What was lost before this session began, with the folder of another: for `status`.
    pub(super) fn inherit(&mut self, losses: Losses) {
        self.inherited = losses;
    }

    /// Counts what threads without a ring could not record.
    pub(super) fn count_ringless(&mut self) {
        let (events, threads) = super::thread::newly_ringless();
        self.losses.ringless += events;
        self.unstated_ringless.0 += events;
        self.unstated_ringless.1 += threads;
    }

    /// States it in the capture.
    pub(super) fn state_ringless(&mut self) {
        self.count_ringless();
        let (events, threads) = std::mem::take(&mut self.unstated_ringless);
        if events > 0 || threads > 0 {
            self.state("ringless", &[("count", events as i64), ("threads", threads as i64)]);
        }
    }

    /// Says at the end what is missing.
    pub(super) fn tell_losses(&mut self) {
        let fate = self.file.fate();
        let path = self.path().display();
        let Losses { dropped, ringless, .. } = self.losses;
        if dropped > 0 {
            log::warn!(
                "{dropped} events found their thread's ring full and were dropped; {path} counts them"
            );
        }
        if ringless > 0 {
            log::warn!(
                "{ringless} events were of threads that got no ring, and are lost; {path} counts them"
            );
        }
        if fate != Fate::There {
            let events = self.figures.events - self.file.begin().records;
            log::error!("{path} {fate} while it was being written: the {events} records in it are not there");
        }
    }

    fn state(&mut self, name: &str, numbers: &[(&str, i64)]) {
        let mut attributes = Attributes::default();
        for (key, number) in numbers {
            attributes.key(Name::new(key)).int(*number);
        }
        self.writer.meta(clock::boottime(), Label::new(META_DOMAIN, name), attributes.as_bytes());
    }

    fn release_all(&self) {
        self.threads.iter().flat_map(|thread| &thread.rings).for_each(crate::ring::Consumer::release);
    }
}
