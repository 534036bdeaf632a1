//! What is to be said of a session of which not all is there: in a summary, or on stderr where an answer has no place for it.

use crate::source::{DamagedFile, Intake, Tally, Unread, WithoutBeginning};

/// What is to be said of idle times where something is damaged.
pub(super) const IDLE_DAMAGE: &str = "the time of what is damaged counts as idle time of the engine";

/// Tells what makes a command exit as for damaged input, but for what was told when the files were opened.
pub(super) fn tell_losses(intake: &Intake, tally: &Tally) {
    if tally.dropped > 0 {
        log::warn!("{}", of_dropped(tally.dropped));
    }
    of_losses(intake, tally).iter().for_each(|line| log::warn!("{line}"));
}

/// What is to be said of the files that were found.
pub(super) fn of_files(intake: &Intake) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(intake.torn.iter().map(damage));
    for file in &intake.unended {
        lines.push(format!(
            "{}: its end is missing, how much is not known: the file was cut, or copied while it was written, or its \
             process was killed and the rings are gone",
            file.display()
        ));
    }
    for WithoutBeginning { file, events } in &intake.unbegun {
        let events = count(*events, "event");
        lines.push(format!("{}: what was before it is missing, at most {events}", file.display()));
    }
    for refusal in &intake.refused {
        lines.push(format!("{}: left out, {}", refusal.file.display(), refusal.reason));
    }
    for copy in &intake.copies {
        lines.push(format!("{}: left out, other files have all of it", copy.display()));
    }
    for damaged in &intake.damaged {
        lines.push(format!("{}: {}", damaged.file.display(), damaged.reason));
    }
    for folder in &intake.unexported {
        lines.push(format!(
            "{}: not exported, so not read; run msprof --export=on --output={0} first",
            folder.display()
        ));
    }
    for ring in &intake.damaged_rings {
        lines.push(format!(
            "{}: the last events of a process that ended can't be read in full",
            ring.display()
        ));
    }
    for Unread { capture, rings, reason, .. } in &intake.unread {
        let rings = if *rings > 0 { count(*rings as u64, "ring") } else { "the rings".to_owned() };
        lines.push(format!("{}: {rings} not read: {reason}", capture.display()));
    }
    if intake.overlapping > 0 {
        let dumps = count(intake.overlapping as u64, "capture");
        lines.push(format!(
            "{dumps} of a flight recorder are of processes with several here: what they share counts once for each; read \
             one folder at a time"
        ));
    }
    if intake.recovered > 0 {
        let recovered = count(intake.recovered, "record");
        lines.push(format!(
            "{recovered} (a span has two) recovered from the rings of processes that ended before all was written"
        ));
    }
    lines
}

/// What is to be said of events that are not there, besides those that did not fit the server's buffers.
pub(super) fn of_losses(intake: &Intake, tally: &Tally) -> Vec<String> {
    let mut lines = Vec::new();
    if intake.adrift > 0 {
        let events = count(intake.adrift, "event");
        lines.push(format!(
            "{events} behind damage left out, besides those in it: what they refer to is damaged or missing"
        ));
    }
    if tally.lost_rings > 0 {
        let rings = count(tally.lost_rings, "ring");
        lines.push(format!(
            "{rings} in private memory of processes that ended before all was written: the last events in \
             there are lost"
        ));
    }
    let malformed = intake.malformed + tally.malformed;
    if malformed > 0 {
        let records = count(malformed, "record");
        lines.push(format!("{records} unreadable, passed over or without its attributes"));
    }
    if tally.ringless > 0 {
        let (events, threads) = (count(tally.ringless, "event"), count(tally.ringless_threads, "thread"));
        lines.push(format!(
            "{events} of {threads} not recorded: rings for them would have been more than rings_mb allows"
        ));
    }
    if tally.vanished > 0 {
        let records = count(tally.vanished, "record");
        lines.push(format!(
            "up to {records} (a span has two) went with files that were removed, moved or cut while the server \
             wrote them"
        ));
    }
    if tally.unfollowed > 0 {
        let spans = count(tally.unfollowed, "span");
        lines.push(format!("{spans} not recorded: too many were open that the server's code never ended"));
    }
    lines
}

/// What is to be said of events that did not fit the server's buffers.
pub(super) fn of_dropped(events: u64) -> String {
    format!("{} that did not fit the buffers of the server", count(events, "event"))
}

/// What is damaged in a file.
fn damage(damaged: &DamagedFile) -> String {
    let DamagedFile { file, places, offset, length, lost, events, is_end } = damaged;
    let place = match (is_end, places) {
        (true, _) => "its end is damaged".to_owned(),
        (false, 1) => format!("damaged at byte {offset}"),
        (false, places) => format!("damaged in {places} places, the first at byte {offset}"),
    };
    let events = match events {
        Some(events) => format!("with at most {}", count(*events, "event")),
        None => "with an unknown number of events".to_owned(),
    };
    format!("{}: {place}, {lost} of {length} bytes {events} lost", file.display())
}

/// `1 file`, `12,345 files`, `2 processes`.
pub(super) fn count(number: u64, what: &str) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    let plural = match (number, what) {
        (1, _) => what.to_owned(),
        (_, "end of a span") => "ends of spans".to_owned(),
        _ if what.ends_with('s') => format!("{what}es"),
        _ => format!("{what}s"),
    };
    format!("{text} {plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_noun() {
        for (number, what, text) in [
            (0, "file", "0 files"),
            (1, "process", "1 process"),
            (2, "process", "2 processes"),
            (1_234_567, "event", "1,234,567 events"),
            (3, "end of a span", "3 ends of spans"),
        ] {
            assert_eq!(count(number, what), text);
        }
    }
}
