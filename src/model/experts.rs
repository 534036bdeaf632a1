//! Mixture of experts: how much each expert had to do, and how long each rank computed for them.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::event::{Places, ProcessId, Record, View};

/// Layers of experts that a rank's grouped products are counted off in, as msServiceProfiler does.
pub const LAYERS: usize = 58;

/// Student's t for 95 % and one degree of freedom less than there are layers.
const T: f64 = 2.002_465;

/// Placements of experts that are kept of an instance; a server that changes them more often shows its first.
const MOST_PLACEMENTS: usize = 64;

/// A table of loads: layers by experts, or by ranks.
pub type Loads = Vec<Vec<f64>>;

/// What an instance's experts had to do while they were placed in one way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// By rank: layers by its own experts.
    by_rank: BTreeMap<i64, Loads>,
    /// Layers by the model's experts.
    by_model_expert: Loads,
}

/// The placements of an instance (a host), in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Instance {
    /// The host.
    pub name: String,
    /// One after the other.
    pub placements: Vec<Placement>,
}

/// How long a process computed for each layer's experts, in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// The process.
    pub process: ProcessId,
    /// By layer.
    pub layers: [u64; LAYERS],
}

/// The finished tables.
#[derive(Clone, Debug, Default)]
pub struct ExpertTables {
    /// By name.
    pub instances: Vec<Instance>,
    /// By process.
    pub balance: Vec<Balance>,
}

/// Builds the tables.
#[derive(Debug, Default)]
pub struct Experts {
    /// Placements by host; and of each host and rank the last routing, and which placement that is.
    hosts: FxHashMap<ProcessId, Vec<Placement>>,
    routings: FxHashMap<(ProcessId, i64), (String, usize)>,
    /// By process: grouped products so far, and their times.
    products: FxHashMap<ProcessId, (usize, [u64; LAYERS])>,
}

impl Placement {
    /// Layers by experts, rank after rank.
    pub fn by_expert(&self) -> Loads {
        let layers = self.by_rank.values().map(Vec::len).max().unwrap_or_default();
        let layer =
            |layer| self.by_rank.values().filter_map(move |loads| loads.get(layer)).flatten().copied();
        (0..layers).map(|n| layer(n).collect()).collect()
    }

    /// Layers by ranks.
    pub fn by_rank(&self) -> Loads {
        let layers = self.by_rank.values().map(Vec::len).max().unwrap_or_default();
        let load = |loads: &Loads, layer: usize| loads.get(layer).map_or(0.0, |layer| layer.iter().sum());
        (0..layers).map(|n| self.by_rank.values().map(|loads| load(loads, n)).collect()).collect()
    }

    /// Layers by the model's experts; empty if no routing was told.
    pub fn by_model_expert(&self) -> &Loads {
        &self.by_model_expert
    }

    /// By layer, the load of the busiest rank by that of the average one; 1 is perfect.
    pub fn balance(&self) -> Vec<f64> {
        let ratio = |ranks: &Vec<f64>| {
            let mean = ranks.iter().sum::<f64>() / ranks.len() as f64;
            let most = ranks.iter().copied().fold(0.0, f64::max);
            if mean > 0.0 { most / mean } else { 1.0 }
        };
        self.by_rank().iter().map(ratio).collect()
    }
}

impl Balance {
    /// The average over layers, and the confidence interval of 95 % (Student's t, the population's deviation).
    pub fn mean(&self) -> (f64, f64, f64) {
        let count = LAYERS as f64;
        let mean = self.layers.iter().map(|time| *time as f64).sum::<f64>() / count;
        let variance = self.layers.iter().map(|time| (*time as f64 - mean).powi(2)).sum::<f64>() / count;
        let half = T * (variance / count).sqrt();
        (mean, mean - half, mean + half)
    }
}

impl Experts {
    /// Takes a record in.
    pub fn push(&mut self, record: &Record) {
        match record.domain() {
            "eplb_observe" => self.observe(record),
            "Kernel" if record.name().contains("GroupedMatmul") => {
                let (count, layers) = self.products.entry(record.process).or_insert((0, [0; LAYERS]));
                // Two products make a layer.
                let layer = &mut layers[*count / 2 % LAYERS];
                *layer = layer.saturating_add(record.duration());
                *count += 1;
            }
            _ => {}
        }
    }

    fn observe(&mut self, record: &Record) {
        let hot = record.get("expert_hot").map(loads).unwrap_or_default();
        if hot.is_empty() {
            return;
        }
        let rank = record.get("rank").and_then(|rank| rank.as_int()).unwrap_or_default();
        let routing = record.get("expert_routing");
        let spelled = routing.as_ref().map(ToString::to_string).unwrap_or_default();
        let placements = self.hosts.entry(record.process).or_default();
        let known = self.routings.entry((record.process, rank)).or_insert_with(|| (spelled.clone(), 0));
        if known.0 != spelled {
            *known = (spelled, known.1 + 1);
        }
        let position = known.1;
        if position >= MOST_PLACEMENTS {
            return;
        }
        if placements.len() <= position {
            placements.resize(position + 1, Placement::default());
        }
        let placement = &mut placements[position];
        let routing = routing.map(loads).unwrap_or_default();
        for (layer, experts) in hot.iter().enumerate() {
            for (slot, load) in experts.iter().enumerate() {
                let all = placement.by_rank.entry(rank).or_default();
                *cell(all, layer, slot) += load;
                // A routing tells the experts of this rank, or those of all of them.
                let routes = routing.get(layer).map_or(&[][..], Vec::as_slice);
                let is_of_all = routes.len() > experts.len();
                let place = if is_of_all {
                    (rank.max(0) as usize).saturating_mul(experts.len()).saturating_add(slot)
                } else {
                    slot
                };
                if let Some(expert) = routes.get(place).filter(|expert| (0.0..65_536.0).contains(*expert)) {
                    *cell(&mut placement.by_model_expert, layer, *expert as usize) += load;
                }
            }
        }
    }

    /// The tables. Processes of a host are ranks of one instance.
    pub fn finish(self, places: &Places) -> ExpertTables {
        let mut instances: BTreeMap<String, Vec<Placement>> = BTreeMap::new();
        for (process, placements) in self.hosts {
            let all = instances.entry(places.process(process).host.clone()).or_default();
            for (position, placement) in placements.into_iter().enumerate() {
                if all.len() <= position {
                    all.resize(position + 1, Placement::default());
                }
                for (rank, loads) in placement.by_rank {
                    add(all[position].by_rank.entry(rank).or_default(), &loads);
                }
                add(&mut all[position].by_model_expert, &placement.by_model_expert);
            }
        }
        let mut balance: Vec<Balance> =
            self.products.into_iter().map(|(process, (_, layers))| Balance { process, layers }).collect();
        balance.sort_by_key(|row| row.process);
        let instance = |(name, placements)| Instance { name, placements };
        ExpertTables { instances: instances.into_iter().map(instance).collect(), balance }
    }
}

fn loads(view: View<'_>) -> Loads {
    let View::Array(layers) = view else { return Loads::new() };
    let layer = |layer: View<'_>| match layer {
        View::Array(experts) => experts.map(|load| load.as_double().unwrap_or_default()).collect(),
        _ => Vec::new(),
    };
    layers.map(layer).collect()
}

fn cell(loads: &mut Loads, layer: usize, expert: usize) -> &mut f64 {
    if loads.len() <= layer {
        loads.resize(layer + 1, Vec::new());
    }
    let layer = &mut loads[layer];
    if layer.len() <= expert {
        layer.resize(expert + 1, 0.0);
    }
    &mut layer[expert]
}

fn add(sum: &mut Loads, more: &Loads) {
    for (layer, experts) in more.iter().enumerate() {
        for (expert, load) in experts.iter().enumerate() {
            *cell(sum, layer, expert) += load;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;
    use crate::source::fixture::record;

    fn table(rows: &[&[i64]]) -> Value {
        Value::Array(
            rows.iter().map(|row| Value::Array(row.iter().map(|n| Value::Int(*n)).collect())).collect(),
        )
    }

    #[test]
    fn loads_are_summed_while_the_routing_stays_and_placed_by_it() {
        let mut experts = Experts::default();
        for (rank, hot, routing) in [
            (0, table(&[&[1, 2], &[3, 4]]), table(&[&[0, 1], &[0, 1]])),
            (1, table(&[&[5, 6], &[7, 8]]), table(&[&[2, 3], &[3, 2]])),
            (0, table(&[&[1, 1], &[1, 1]]), table(&[&[0, 1], &[0, 1]])),
            (0, table(&[&[9, 9], &[9, 9]]), table(&[&[1, 0], &[1, 0]])),
        ] {
            let entries = [("expert_hot", hot), ("rank", Value::Int(rank)), ("expert_routing", routing)];
            experts.push(&record((1, 1), "eplb_observe", "load", &entries));
        }
        let tables = experts.finish(&Places::default());
        let placements = &tables.instances[0].placements;
        assert_eq!(placements.len(), 2);
        assert_eq!(placements[0].by_expert(), [[2.0, 3.0, 5.0, 6.0], [4.0, 5.0, 7.0, 8.0]]);
        assert_eq!(placements[0].by_rank(), [[5.0, 11.0], [9.0, 15.0]]);
        assert_eq!(*placements[0].by_model_expert(), [[2.0, 3.0, 5.0, 6.0], [4.0, 5.0, 8.0, 7.0]]);
        assert_eq!(placements[0].balance(), [11.0 / 8.0, 15.0 / 12.0]);
    }

    #[test]
    fn two_grouped_products_are_a_layer() {
        let mut experts = Experts::default();
        for number in 0..2 * LAYERS as u64 + 2 {
            experts.push(&record((number * 10, number * 10 + 3), "Kernel", "aclnnGroupedMatmul", &[]));
        }
        let balance = &experts.finish(&Places::default()).balance[0];
        assert_eq!((balance.layers[0], balance.layers[1], balance.layers[LAYERS - 1]), (12, 6, 6));
        let (mean, low, high) = balance.mean();
        assert!(low < mean && mean < high && (6.0..6.2).contains(&mean));
    }
}
