//! The tables as CSV files, and what stands beside them in the same form.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::event::Places;
use crate::export::output::{self, Output, OutputError};
use crate::export::times::Calendar;
use crate::export::{
    Outcome, batch_csv, experts, forward_csv, handoff_csv, kvcache_csv, request_csv, request_status_csv,
    spec_decode_csv, summary_csv,
};
use crate::files::{self, Naming, file_name};
use crate::model::Model;

/// The tables as CSV files.
pub(super) struct CsvFiles<'a> {
    pub(super) folder: &'a Path,
    /// By name, what came of each that was written.
    pub(super) outputs: Vec<(&'static str, Outcome)>,
}

impl CsvFiles<'_> {
    fn write(
        &mut self,
        name: &'static str,
        rows: impl FnOnce(&mut Output) -> io::Result<Outcome>,
    ) -> Result<(), OutputError> {
        let outcome = output::write(&self.folder.join(name), rows)?;
        self.outputs.push((name, outcome));
        Ok(())
    }

    /// Those of `parse`.
    pub(super) fn tables(
        &mut self,
        model: &Model,
        places: &Places,
        calendar: &mut Calendar,
    ) -> Result<(), OutputError> {
        let Model { ids, batches, handoff, .. } = model;
        self.write("request.csv", |out| request_csv::write(&model.requests, calendar, out))?;
        self.write("request_status.csv", |out| {
            request_status_csv::write(&model.queues, places, calendar, out)
        })?;
        self.write("batch.csv", |out| batch_csv::write(batches, ids, places, calendar, out))?;
        self.write("kvcache.csv", |out| {
            kvcache_csv::write(&model.kv_cache, model.kv_forms, ids, calendar, out)
        })?;
        self.write("forward.csv", |out| forward_csv::write(&model.forwards, places, calendar, out))?;
        self.write("spec_decode.csv", |out| spec_decode_csv::write(batches, ids, places, calendar, out))?;
        self.write("pd_split_communication.csv", |out| {
            handoff_csv::communication(handoff, ids, calendar, out)
        })?;
        self.write("pd_split_kvcache.csv", |out| handoff_csv::pulls(handoff, ids, calendar, out))?;
        self.write("coordinator.csv", |out| handoff_csv::coordinator(handoff, calendar, out))?;
        self.write("ep_balance.csv", |out| experts::balance(&model.experts, places, out))?;
        self.write("moe_analysis.csv", |out| experts::analysis(&model.experts, places, out))?;
        let pictures = experts::pictures(&model.experts, self.folder)?;
        self.outputs.push(("*.png", pictures));
        Ok(())
    }

    /// Those of `analyze`.
    pub(super) fn summaries(&mut self, model: &mut Model) -> Result<(), OutputError> {
        let summary = &mut model.summary;
        self.write("request_summary.csv", |out| summary_csv::requests(summary, out))?;
        self.write("batch_summary.csv", |out| summary_csv::batches(summary, out))?;
        self.write("service_summary.csv", |out| summary_csv::service(summary, out))
    }
}

/// Puts the operators' tables of each `PROF_*` folder into a folder of that name.
pub(super) fn copy_operators(files: &[PathBuf], folder: &Path) -> Result<(), OutputError> {
    let (mut profiles, mut naming) = (HashMap::new(), Naming::default());
    for file in files {
        let profile = file.ancestors().nth(2).unwrap_or(file);
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Two that are called the same are kept apart.
        let to = profiles.entry(profile).or_insert_with(|| naming.name(&name(profile)));
        let path = folder.join(to).join(file_name(&name(file)));
        let copy = || io::copy(&mut files::open_regular(file)?, &mut files::create_in_scratch(&path)?);
        copy().map_err(|error| OutputError::new(&path, error))?;
    }
    Ok(())
}
