//! The processes of a timeline: which number each is shown with, and in which order. Used by `timeline`.

use rustc_hash::FxHashSet;

use crate::event::{Places, Process, ProcessId};

/// Each process's own pid, unless processes of several hosts (or containers) share it.
pub(super) fn distinct_pids(places: &Places) -> Vec<u32> {
    let mut taken = FxHashSet::default();
    let distinct = |(position, process): (usize, &Process)| {
        let mut pid = process.pid;
        // Above the largest pid that Linux gives out.
        while !taken.insert(pid) {
            pid = (1 << 22) + position as u32 + pid % (1 << 22);
        }
        pid
    };
    places.processes.iter().enumerate().map(distinct).collect()
}

/// Children after their parents; otherwise by role, rank and pid.
pub(super) fn process_order(places: &Places, roles: &[Option<&str>]) -> Vec<ProcessId> {
    let parent = |process: &Process| places.processes.iter().position(|other| process.is_child_of(other));
    let rank = |position: usize| {
        let process = &places.processes[position];
        let role = match roles.get(position) {
            Some(Some("schedule")) => 0,
            Some(Some(_)) => 1,
            _ => 2,
        };
        (role, process.dp_rank, process.pid, position)
    };
    let mut order = Vec::new();
    let mut waiting: Vec<usize> = (0..places.processes.len()).collect();
    waiting.sort_by_key(|position| std::cmp::Reverse(rank(*position)));
    let parents: Vec<Option<usize>> = places.processes.iter().map(parent).collect();
    // Depth first: the next is the best whose parent is the newest placed, then that of the one before, and so on.
    let mut line: Vec<Option<usize>> = vec![None];
    while let Some(ancestor) = line.last().copied() {
        let next = waiting.iter().rposition(|position| parents[*position] == ancestor);
        if let Some(next) = next {
            let position = waiting.remove(next);
            order.push(ProcessId(position as u32));
            line.push(Some(position));
        } else {
            line.pop();
        }
    }
    // Two that name each other as parent.
    order.extend(waiting.into_iter().rev().map(|position| ProcessId(position as u32)));
    order
}
