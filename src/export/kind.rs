//! What kinds of outputs there are, and which file is of which, by its name alone.

use std::path::Path;

/// A kind of outputs. A command writes those of one kind together, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The CSV files of `parse`, its pictures, and the tables of operators that it copies.
    Csv,
    /// What `analyze` sums up.
    Summaries,
    /// `profiler.db`
    Database,
    /// `chrome_tracing.json`, packed or not
    Json,
    /// `tables/`
    Parquet,
    /// `timeline.pftrace` or `timeline.tar`
    Perfetto,
    /// `span_info/`
    Spans,
    /// What `split` writes.
    Batches,
    /// What `compare` writes.
    Comparison,
}

const CSV: [&str; 13] = [
    "request.csv",
    "request_status.csv",
    "batch.csv",
    "kvcache.csv",
    "forward.csv",
    "spec_decode.csv",
    "pd_split_communication.csv",
    "pd_split_kvcache.csv",
    "coordinator.csv",
    "ep_balance.csv",
    "moe_analysis.csv",
    "ep_balance.png",
    "moe_analysis.png",
];

impl Kind {
    /// The kind of the output that has this path in the folder of outputs. None: no output is called so.
    pub fn of(path: &Path) -> Option<Self> {
        let mut parts = path.iter().map(|part| part.to_str().unwrap_or_default());
        let (first, second) = (parts.next()?, parts.next());
        let has_ending = |ending: &str| path.extension().is_some_and(|found| found == ending);
        match (first, second) {
            (name, None) if CSV.contains(&name) || is_picture(name) => Some(Self::Csv),
            ("request_summary.csv" | "batch_summary.csv" | "service_summary.csv", None) => {
                Some(Self::Summaries)
            }
            ("profiler.db", None) => Some(Self::Database),
            ("chrome_tracing.json" | "chrome_tracing.json.gz", None) => Some(Self::Json),
            ("timeline.pftrace" | "timeline.tar", None) => Some(Self::Perfetto),
            ("prefill.csv" | "decode.csv", None) => Some(Self::Batches),
            ("span_comparation_result.csv", None) => Some(Self::Comparison),
            ("tables", Some(table)) if has_ending("parquet") => {
                is_table(table, parts.next()).then_some(Self::Parquet)
            }
            ("span_info", Some(_)) if has_ending("csv") => Some(Self::Spans),
            // In a folder that is called after the profile's, which is `PROF_*` as a rule.
            (folder, Some(name)) if folder != "tables" && is_of_operators(name) && has_ending("csv") => {
                parts.next().is_none().then_some(Self::Csv)
            }
            _ => None,
        }
    }

    /// Whether `parse` and `analyze` write it: what describes a session as a whole.
    pub fn is_of_session(self) -> bool {
        !matches!(self, Self::Spans | Self::Batches | Self::Comparison)
    }
}

/// A picture of experts' loads, called after an instance.
fn is_picture(name: &str) -> bool {
    name.ends_with("_balance_ratio.png")
        || name.contains("_eplb_")
            && ["expert", "rank", "model_expert"]
                .iter()
                .any(|what| name.ends_with(&format!("_summed_hot_map_by_{what}.png")))
}

/// A table of operators that an Ascend profiler has exported.
fn is_of_operators(name: &str) -> bool {
    name.starts_with("op_summary_") || name.starts_with("op_statistic_")
}

/// A table in one file, or in a file for each process.
fn is_table(name: &str, partition: Option<&str>) -> bool {
    match partition {
        None => name == "requests.parquet",
        Some(host) => {
            ["records", "batches", "batch_requests", "forwards", "kv_cache", "queues"].contains(&name)
                && host.starts_with("host=")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_told_by_its_name_and_nothing_else_is_taken_for_one() {
        for (path, kind) in [
            ("request.csv", Some(Kind::Csv)),
            ("node_eplb_0_summed_hot_map_by_rank.png", Some(Kind::Csv)),
            ("PROF_1/op_summary_0.csv", Some(Kind::Csv)),
            ("node/op_statistic_0.csv", Some(Kind::Csv)),
            ("chrome_tracing.json.gz", Some(Kind::Json)),
            ("tables/requests.parquet", Some(Kind::Parquet)),
            ("tables/records/host=a/pid=1/0.parquet", Some(Kind::Parquet)),
            ("span_info/forward.csv", Some(Kind::Spans)),
            ("requests.csv", None),
            ("holiday.png", None),
            ("tables/thesis.txt", None),
            ("tables/records/mine.parquet", None),
            ("tables/records/host=a/pid=1/notes.txt", None),
            ("tables/op_summary_0.csv", None),
            ("sub/request.csv", None),
        ] {
            assert_eq!(Kind::of(Path::new(path)), kind, "{path}");
        }
    }
}
