//! Which processes ran on one machine, as far as a trace file and its clock are concerned: those of one run of a kernel, among
//! which no two share a pid. A host's name says little: machines and containers may have the same, and a machine that
//! was restarted has another clock.

use rustc_hash::FxHashMap;

use crate::event::Process;

/// What a process says of where it runs, besides its host's name; empty where it is an earlier version's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Kernel {
    /// The kernel's run.
    pub(super) boot_id: String,
    /// The pid namespace.
    pub(super) pid_namespace: String,
}

impl Kernel {
    /// What a pid counts in, as one text.
    pub(super) fn pid_space(&self) -> String {
        if self.pid_namespace.is_empty() {
            String::new()
        } else {
            format!("{}/{}", self.boot_id, self.pid_namespace)
        }
    }
}

/// The processes' machines, by name: their host's, with a number behind it from the second of that name on.
pub(super) fn machines(processes: &[Process], kernels: &[Kernel]) -> Vec<String> {
    // The pids of each namespace, which stay together.
    let mut pids: FxHashMap<(&str, &Kernel), Vec<u32>> = FxHashMap::default();
    let mut order = Vec::new();
    for (process, kernel) in processes.iter().zip(kernels) {
        let key = (process.host.as_str(), kernel);
        pids.entry(key).or_insert_with(|| {
            order.push(key);
            Vec::new()
        });
        pids.entry(key).and_modify(|pids| pids.push(process.pid));
    }
    let mut machines: FxHashMap<&str, Vec<(&str, Vec<u32>)>> = FxHashMap::default();
    let mut numbers = FxHashMap::default();
    for key @ (host, kernel) in order {
        let (own, known) = (&pids[&key], machines.entry(host).or_default());
        let fits = |(boot_id, taken): &(&str, Vec<u32>)| {
            *boot_id == kernel.boot_id && own.iter().all(|pid| !taken.contains(pid))
        };
        let number = known.iter().position(fits).unwrap_or_else(|| {
            known.push((&kernel.boot_id, Vec::new()));
            known.len() - 1
        });
        known[number].1.extend(own);
        numbers.insert(key, number);
    }
    let name = |(process, kernel): (&Process, &Kernel)| match numbers[&(process.host.as_str(), kernel)] {
        0 => process.host.clone(),
        number => format!("{} ({})", process.host, number + 1),
    };
    processes.iter().zip(kernels).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_one_run_of_a_kernel_with_one_process_of_each_pid() {
        let cases = [
            ("a", 1, "boot", "ns 1", "a"),
            ("a", 7, "boot", "ns 1", "a"),
            ("a", 8, "boot", "ns 2", "a"), // another container, none of whose pids is taken
            ("a", 1, "boot", "ns 3", "a (2)"),
            ("a", 9, "boot", "ns 3", "a (2)"),
            ("a", 5, "after a restart", "ns 1", "a (3)"),
            ("b", 1, "of another", "ns 1", "b"),
            ("b", 1, "of another", "ns 1", "b"), // after an exec
        ];
        let processes = cases.map(|(host, pid, ..)| Process { pid, host: host.into(), ..Process::default() });
        let kernels = cases.map(|(_, _, boot_id, namespace, _)| Kernel {
            boot_id: boot_id.into(),
            pid_namespace: namespace.into(),
        });
        assert_eq!(machines(&processes, &kernels), cases.map(|case| case.4));
        let unknown = vec![Kernel::default(); processes.len()];
        assert_eq!(machines(&processes, &unknown), cases.map(|case| case.0), "as with earlier versions");
    }
}
