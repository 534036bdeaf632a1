//! The arrows that follow a request through the timeline. Used by `timeline`.

use crate::clock::Nanos;
use crate::model::RequestId;

/// Records come in the order in which they ended, arrows go in that of their starts: a span must be put before what
/// happened within it. So many places of a request are held back for that.
const HELD_BACK: usize = 16;

/// A place that a request passes: the start of a slice, and its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Anchor {
    pub(super) time: Nanos,
    pub(super) row: u32,
}

/// Which arrow is anchored there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrow {
    /// It begins.
    First,
    /// It passes.
    Between,
    /// It ends.
    Last,
}

/// The places of each request that have not been written yet.
#[derive(Debug, Default)]
pub(super) struct Flows(Vec<Flow>);

#[derive(Clone, Debug, Default)]
struct Flow {
    held: Vec<Anchor>,
    has_begun: bool,
}

impl Flows {
    /// A request passes a place; gives the arrow that can be written now, if there is one.
    pub(super) fn push(&mut self, request: RequestId, anchor: Anchor) -> Option<(Arrow, Anchor)> {
        let position = request.0 as usize;
        if self.0.len() <= position {
            self.0.resize(position + 1, Flow::default());
        }
        let flow = &mut self.0[position];
        let at = flow.held.partition_point(|held| *held <= anchor);
        flow.held.insert(at, anchor);
        if flow.held.len() <= HELD_BACK {
            return None;
        }
        let earliest = flow.held.remove(0);
        let arrow = if flow.has_begun { Arrow::Between } else { Arrow::First };
        flow.has_begun = true;
        Some((arrow, earliest))
    }

    /// The arrows that are left. A request that passed one place only has none.
    pub(super) fn finish(self) -> impl Iterator<Item = (RequestId, Arrow, Anchor)> {
        self.0.into_iter().enumerate().flat_map(|(position, flow)| {
            let request = RequestId(position as u32);
            let Flow { mut held, mut has_begun } = flow;
            if held.len() == 1 && !has_begun {
                held.clear();
            }
            let last = held.len().wrapping_sub(1);
            held.into_iter().enumerate().map(move |(number, anchor)| {
                let arrow = match (has_begun, number == last) {
                    (_, true) => Arrow::Last,
                    (true, _) => Arrow::Between,
                    (false, _) => Arrow::First,
                };
                has_begun = true;
                (request, arrow, anchor)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrows(times: impl IntoIterator<Item = u64>) -> Vec<(u64, Arrow)> {
        let mut flows = Flows::default();
        let mut written = Vec::new();
        for time in times {
            let anchor = Anchor { time: Nanos(time), row: 0 };
            written.extend(flows.push(RequestId(2), anchor).map(|(arrow, anchor)| (anchor.time.0, arrow)));
        }
        written.extend(flows.finish().map(|(_, arrow, anchor)| (anchor.time.0, arrow)));
        written
    }

    #[test]
    fn a_flow_begins_once_ends_once_and_goes_by_time() {
        assert_eq!(arrows([]), []);
        assert_eq!(arrows([5]), []);
        assert_eq!(arrows([6, 5]), [(5, Arrow::First), (6, Arrow::Last)]);
        for count in [3, 16, 17, 18, 40] {
            // Each pair the wrong way round, as a span and what is in it.
            let found = arrows((0..count).map(|n| n ^ 1));
            let mut times: Vec<_> = (0..count).map(|n| n ^ 1).collect();
            times.sort_unstable();
            assert_eq!(found.iter().map(|(time, _)| *time).collect::<Vec<_>>(), times);
            assert_eq!(found[0].1, Arrow::First);
            assert_eq!(found[found.len() - 1].1, Arrow::Last);
            assert!(found[1..found.len() - 1].iter().all(|(_, arrow)| *arrow == Arrow::Between));
        }
    }
}
