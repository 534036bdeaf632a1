//! What experts had to do: `ep_balance.csv`, `moe_analysis.csv`, and pictures of loads by expert, rank and layer.

use std::io::{self, Write};

use super::output::{self, OutputError};
use super::{Outcome, picture};
use crate::event::Places;
use crate::files::FileNames;
use crate::model::{ExpertTables, LAYERS};

const NO_KERNELS: &str = "no kernel computed experts (GroupedMatmul in an MSPTI database)";

/// Writes, for each process, how long it computed for each layer's experts, in microseconds.
///
/// # Errors
/// The writer fails; so it is with the others.
pub fn balance(tables: &ExpertTables, places: &Places, out: impl Write) -> io::Result<Outcome> {
    if tables.balance.is_empty() {
        return Ok(Outcome::Nothing(NO_KERNELS));
    }
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(tables.balance.iter().map(|row| places.process(row.process).pid.to_string()))?;
    for layer in 0..LAYERS {
        csv.write_record(tables.balance.iter().map(|row| micros(row.layers[layer] as f64)))?;
    }
    csv.flush()?;
    Ok(Outcome::Rows(LAYERS as u64))
}

/// Writes the average over layers of each process, with its confidence interval, in microseconds.
///
/// # Errors
/// The writer fails.
pub fn analysis(tables: &ExpertTables, places: &Places, out: impl Write) -> io::Result<Outcome> {
    if tables.balance.is_empty() {
        return Ok(Outcome::Nothing(NO_KERNELS));
    }
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["Dataset", "Mean", "CI_Lower", "CI_Upper"])?;
    for row in &tables.balance {
        let (mean, low, high) = row.mean();
        let pid = places.process(row.process).pid.to_string();
        csv.write_record([pid, micros(mean), micros(low), micros(high)])?;
    }
    csv.flush()?;
    Ok(Outcome::Rows(tables.balance.len() as u64))
}

fn micros(nanos: f64) -> String {
    format!("{:.3}", nanos / 1e3)
}

/// Draws the pictures into the folder; each is a row of the outcome.
///
/// # Errors
/// One can't be written.
pub fn pictures(tables: &ExpertTables, folder: &std::path::Path) -> Result<Outcome, OutputError> {
    let mut count = 0;
    let mut names = FileNames::default();
    let mut draw = |of: &str, what: &str, drawn: &dyn Fn(&mut output::Output) -> io::Result<()>| {
        count += 1;
        let name = names.name(of, &format!("{what}.png"));
        output::write(&folder.join(name), |out| drawn(out).map(|()| Outcome::Rows(1))).map(drop)
    };
    if !tables.balance.is_empty() {
        let layers = |layer| tables.balance.iter().map(|row| row.layers[layer] as f64).collect();
        let rows: Vec<Vec<f64>> = (0..LAYERS).map(layers).collect();
        draw("ep_balance", "", &|out| picture::heat_map(&rows, out))?;
        let means: Vec<_> = tables.balance.iter().map(crate::model::Balance::mean).collect();
        draw("moe_analysis", "", &|out| picture::bars(&means, out))?;
    }
    for instance in &tables.instances {
        let name = &instance.name;
        for (number, placement) in instance.placements.iter().enumerate() {
            for (what, loads) in [
                ("expert", &placement.by_expert()),
                ("rank", &placement.by_rank()),
                ("model_expert", placement.by_model_expert()),
            ] {
                if !loads.is_empty() {
                    let what = format!("_eplb_{number}_summed_hot_map_by_{what}");
                    draw(name, &what, &|out| picture::heat_map(loads, out))?;
                }
            }
        }
        let ratios: Vec<Vec<f64>> =
            instance.placements.iter().map(crate::model::Placement::balance).collect();
        draw(name, "_balance_ratio", &|out| picture::heat_map(&ratios, out))?;
    }
    Ok(Outcome::of_rows(count, "no load of experts was observed (expert_hot in domain eplb_observe)"))
}
