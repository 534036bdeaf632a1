//! The last words of `parse`: what was read, what is missing, what was written, and the first figures.

use std::fmt::{self, Display, Formatter};
use std::io::Write;
use std::path::Path;

use super::notes::{IDLE_DAMAGE, count, of_dropped, of_files, of_losses};
use super::parse::Report;
use crate::export::Outcome;
use crate::printable::{Printable, printable};

/// A report as a person reads it; with `{:#}`, also why something was not written.
#[derive(Debug)]
pub struct Summary<'a>(pub &'a Report);

/// Prints to stdout.
pub(super) fn print(summary: &Summary<'_>, is_verbose: bool) {
    let text = if is_verbose { format!("{summary:#}") } else { summary.to_string() };
    // A reader that has gone away (`| head`) is no reason to fail.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.read(f)?;
        self.missing(f)?;
        self.written(f)?;
        self.figures(f)
    }
}

/// One of these has rows where a server of models was recorded.
const OF_SERVERS: [&str; 5] =
    ["request.csv", "request_status.csv", "batch.csv", "kvcache.csv", "forward.csv"];

/// Lines, with a word before the first; nothing if there are none.
fn paragraph(f: &mut Formatter<'_>, head: &str, lines: &[String]) -> fmt::Result {
    let heads = std::iter::once(head).chain(std::iter::repeat(""));
    heads.zip(lines).try_for_each(|(head, line)| writeln!(f, "{head:8} {}", printable(line)))
}

impl Summary<'_> {
    fn read(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { intake, tally, places: (processes, threads), .. } = self.0;
        writeln!(
            f,
            "Read     {} ({:.1} MB), {}, {}",
            count(intake.files as u64, "file"),
            intake.bytes as f64 / 1e6,
            count(*processes as u64, "process"),
            count(*threads as u64, "thread"),
        )?;
        writeln!(
            f,
            "         {}: {}, {}, {}",
            count(self.0.events(), "event"),
            count(tally.spans + tally.unfinished, "span"),
            count(tally.instants, "instant"),
            count(tally.counters, "counter sample"),
        )
    }

    fn missing(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let tally = &self.0.tally;
        let dropped = match tally.dropped {
            0 if tally.has_losses() => "see the notes".to_owned(),
            0 => "nothing".to_owned(),
            dropped => of_dropped(dropped),
        };
        writeln!(f, "Dropped  {dropped}")?;
        let mut lines = of_files(&self.0.intake);
        lines.extend(of_losses(&self.0.intake, tally));
        lines.extend(self.of_records());
        paragraph(f, "Notes", &lines)
    }

    /// What else is to be said of the records that were read.
    fn of_records(&self) -> Vec<String> {
        let Report { tally, unlisted_requests, shared_requests, cut_ids, .. } = self.0;
        let mut lines = Vec::new();
        let is_damaged = self.0.intake.is_damaged();
        if is_damaged && self.0.figures.idle_share.is_some() {
            lines.push(IDLE_DAMAGE.to_owned());
        }
        for (number, what) in [
            (tally.orphans, "end of a span"),
            (tally.unfinished, "span"),
            (*unlisted_requests as u64, "request"),
        ] {
            if number > 0 {
                let why = match what {
                    "end of a span" => "passed over: the beginning is not in the capture",
                    "span" if is_damaged => {
                        "without an end: still running when the capture ended, or their end is in what is damaged"
                    }
                    "span" => "without an end: still running when the capture ended",
                    _ => "not in request.csv: the id is empty or has one of , { :",
                };
                lines.push(format!("{} {why}", count(number, what)));
            }
        }
        if *shared_requests > 0 {
            let requests = count(*shared_requests as u64, "request");
            lines.push(format!(
                "{requests} with an id that another had at the same time: their times are the engine's alone"
            ));
        }
        if *cut_ids > 0 {
            let ids = count(*cut_ids as u64, "request id");
            lines.push(format!(
                "{ids} cut by an earlier release, in some records only: what these tell can be several requests', and \
                 counts for none"
            ));
        }
        if tally.stalled > 0 {
            let seconds = tally.stalled as f64 / 1e9;
            lines.push(format!(
                "for {seconds:.1} s a capture could not be written; the server's log says why"
            ));
        }
        if tally.removed_parts > 0 {
            let parts = count(tally.removed_parts, "oldest part");
            let events = match tally.removed_events {
                0 => String::new(),
                events => format!(", with up to {},", count(events, "event")),
            };
            lines.push(format!("{parts} of the captures{events} removed by the server, as session_mb says"));
        }
        lines
    }

    fn written(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "Written  to {}", Printable(self.0.folder.display()))?;
        let mut missing = Vec::new();
        let mut serves_model = false;
        for (name, outcome) in &self.0.outputs {
            match outcome {
                Outcome::Rows(rows) => {
                    let what = match *name {
                        "chrome_tracing.json" | "chrome_tracing.json.gz" => "event",
                        "profiler.db" => "slice",
                        "tables/*.parquet" => "record",
                        "*.png" => "picture",
                        _ => "row",
                    };
                    serves_model |= OF_SERVERS.contains(name);
                    writeln!(f, "         {name:20} {}", count(*rows, what))?;
                }
                Outcome::Bytes(bytes) => writeln!(f, "         {name:20} {:.1} MB", *bytes as f64 / 1e6)?,
                Outcome::Nothing(why) => missing.push((*name, *why)),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        if f.alternate() {
            let lines: Vec<String> = missing.iter().map(|(name, why)| format!("{name}: {why}")).collect();
            return paragraph(f, "Missing", &lines);
        }
        let is_of_server =
            |name: &str| Path::new(name).extension().is_some_and(|it| it == "csv" || it == "png");
        if !serves_model && missing.iter().any(|(name, _)| is_of_server(name)) {
            missing.retain(|(name, _)| !is_of_server(name));
            let what = "the tables of a server: nothing here tells of requests or batches";
            writeln!(f, "Missing  {what} (`-v` says what would)")?;
        }
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> =
            missing.iter().map(|(name, _)| name.strip_suffix(".csv").unwrap_or(name)).collect();
        let tables = count(names.len() as u64, "table");
        writeln!(f, "Missing  {tables} without data: {} (`-v` says why)", names.join(", "))
    }

    fn figures(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let figures = &self.0.figures;
        if !figures.is_of_a_server() {
            return writeln!(
                f,
                "Figures  no request, no step: `msprof-rs stats` adds up the spans of any program"
            );
        }
        let unknown = || "-".to_owned();
        let both = |pair: Option<(f64, f64)>| {
            pair.map_or_else(unknown, |(p50, p99)| {
                format!("p50 {:.1} ms, p99 {:.1} ms", p50 / 1e6, p99 / 1e6)
            })
        };
        writeln!(f, "Figures  requests             {}", figures.requests)?;
        writeln!(f, "         time to first token  {}", both(figures.first_token))?;
        writeln!(f, "         latency              {}", both(figures.latency))?;
        let throughput = figures.tokens_per_second.map_or_else(unknown, |rate| format!("{rate:.0} tokens/s"));
        writeln!(f, "         output               {throughput}")?;
        let idle =
            figures.idle_share.map_or_else(unknown, |share| format!("{:.1} % of the time", share * 100.0));
        writeln!(f, "         engine idle          {idle}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Figures;
    use crate::source::{Intake, Tally};

    fn report(outputs: &[(&'static str, Outcome)]) -> Report {
        Report {
            intake: Intake::default(),
            places: (1, 1),
            tally: Tally::default(),
            folder: "output".into(),
            outputs: outputs.to_vec(),
            unlisted_requests: 0,
            shared_requests: 0,
            cut_ids: 0,
            figures: Figures::default(),
        }
    }

    fn missing(text: &str) -> Vec<String> {
        let lines = text.lines().skip_while(|line| !line.starts_with("Missing"));
        lines.take_while(|line| !line.starts_with("Figures")).map(|line| line[9..].to_owned()).collect()
    }

    const NOTHING: Outcome = Outcome::Nothing("no such record");

    #[test]
    fn tables_without_data_are_one_line_and_the_reasons_are_told_to_who_asks() {
        let report =
            report(&[("request.csv", Outcome::Rows(2)), ("coordinator.csv", NOTHING), ("*.png", NOTHING)]);
        let summary = Summary(&report);
        assert_eq!(
            missing(&summary.to_string()),
            ["2 tables without data: coordinator, *.png (`-v` says why)"]
        );
        assert_eq!(
            missing(&format!("{summary:#}")),
            ["coordinator.csv: no such record", "*.png: no such record"]
        );
    }

    #[test]
    fn a_program_that_serves_no_model_hears_nothing_of_experts_and_coordinators() {
        let outputs = [("request.csv", NOTHING), ("coordinator.csv", NOTHING), ("ep_balance.csv", NOTHING)];
        let [line] = &missing(&Summary(&report(&outputs)).to_string())[..] else { panic!("several lines") };
        assert!(line.contains("tables of a server") && !line.contains("coordinator"), "{line}");
        let whole = report(&[("profiler.db", Outcome::Rows(2))]);
        assert_eq!(missing(&Summary(&whole).to_string()), Vec::<String>::new());
    }

    #[test]
    fn where_something_is_damaged_its_ends_and_its_time_are_told() {
        let mut report = report(&[]);
        report.tally.unfinished = 2;
        report.figures.idle_share = Some(0.5);
        let whole = Summary(&report).to_string();
        assert!(!whole.contains("damaged"), "{whole}");
        report.intake.unended.push("x.pftrace".into());
        let text = Summary(&report).to_string();
        assert!(text.contains("or their end is in what is damaged"), "{text}");
        assert!(text.contains("the time of what is damaged counts as idle time"), "{text}");
    }

    #[test]
    fn nobody_is_said_to_have_been_killed() {
        let mut report = report(&[]);
        report.intake.recovered = 3;
        report.tally.lost_rings = 1;
        let text = Summary(&report).to_string();
        assert!(
            text.contains("3 records (a span has two) recovered from the rings of processes that ended"),
            "{text}"
        );
        assert!(!text.contains("killed"), "{text}");
    }
}
