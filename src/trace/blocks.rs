//! Which blocks of which streams there are: by that it is known what is there twice, and what is missing.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

/// Blocks, by their streams and numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// Ranges of numbers that neither overlap nor touch: their ends by their starts.
    streams: FxHashMap<u32, BTreeMap<u64, u64>>,
}

/// Blocks that other captures have.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// Those that are read there.
    pub read: Blocks,
    /// Those too that are whole there and have not been read yet.
    pub all: Blocks,
}

impl Blocks {
    pub(super) fn add(&mut self, stream: u32, number: u64) {
        self.add_range(stream, number, number.saturating_add(1));
    }

    fn add_range(&mut self, stream: u32, mut start: u64, mut end: u64) {
        let ranges = self.streams.entry(stream).or_default();
        if let Some((before, its_end)) = ranges.range_mut(..=start).next_back()
            && *its_end >= start
        {
            (start, end) = (*before, end.max(*its_end));
        }
        while let Some((&next, &its_end)) = ranges.range(start..=end).next_back() {
            end = end.max(its_end);
            ranges.remove(&next);
        }
        ranges.insert(start, end);
    }

    /// Whether this one is among them.
    pub fn has(&self, stream: u32, number: u64) -> bool {
        self.has_all(stream, number..number.saturating_add(1))
    }

    /// Whether all of these are among them.
    pub fn has_all(&self, stream: u32, numbers: std::ops::Range<u64>) -> bool {
        let ranges = self.streams.get(&stream);
        let around = ranges.and_then(|ranges| ranges.range(..=numbers.start).next_back());
        numbers.is_empty() || around.is_some_and(|(_, end)| *end >= numbers.end)
    }

    /// How many of the others come behind the first of these, each in its stream, and are not among them.
    pub fn lacks(&self, others: &Self) -> u64 {
        let count = |ranges: &BTreeMap<u64, u64>, first: u64| {
            let behind = ranges.iter().map(|(start, end)| end.saturating_sub(first.max(*start)));
            behind.fold(0, u64::saturating_add)
        };
        let of_stream = |(stream, ranges): (&u32, &BTreeMap<u64, u64>)| {
            let first = ranges.keys().next().copied().unwrap_or_default();
            let all = others.streams.get(stream).map_or(0, |others| count(others, first));
            all.saturating_sub(count(ranges, first))
        };
        self.streams.iter().map(of_stream).fold(0, u64::saturating_add)
    }

    /// The streams of which there are some.
    pub fn streams(&self) -> impl Iterator<Item = u32> {
        self.streams.keys().copied()
    }

    /// Adds others.
    pub fn extend(&mut self, others: &Self) {
        for (stream, start, end) in others.ranges() {
            self.add_range(stream, start, end);
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.ranges().fold(0, |count: u64, (_, start, end)| count.saturating_add(end - start))
    }

    /// How many of them are among the others.
    pub fn shared(&self, others: &Self) -> u64 {
        let mut count: u64 = 0;
        for (stream, start, end) in self.ranges() {
            let Some(others) = others.streams.get(&stream) else { continue };
            let first = others.range(..=start).next_back().map_or(start, |(first, _)| *first);
            for (other, its_end) in others.range(first..end) {
                count = count.saturating_add(end.min(*its_end).saturating_sub(start.max(*other)));
            }
        }
        count
    }

    fn ranges(&self) -> impl Iterator<Item = (u32, u64, u64)> {
        let streams = self.streams.iter();
        streams.flat_map(|(stream, ranges)| ranges.iter().map(move |(start, end)| (*stream, *start, *end)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(numbers: &[u8]) -> (Blocks, BTreeSet<u64>) {
        let mut blocks = Blocks::default();
        numbers.iter().for_each(|number| blocks.add(7, u64::from(*number)));
        (blocks, numbers.iter().map(|number| u64::from(*number)).collect())
    }

    proptest! {
        #[test]
        fn they_are_what_a_set_of_numbers_would_be(some: Vec<u8>, more: Vec<u8>, range: std::ops::Range<u8>) {
            let ((mut blocks, mut set), (others, other_set)) = (of(&some), of(&more));
            prop_assert_eq!(blocks.count(), set.len() as u64);
            prop_assert_eq!(blocks.shared(&others), set.intersection(&other_set).count() as u64);
            blocks.extend(&others);
            set.extend(other_set);
            prop_assert_eq!(blocks.count(), set.len() as u64);
            for number in 0..=256 {
                prop_assert_eq!(blocks.has(7, number), set.contains(&number));
            }
            let range = u64::from(range.start)..u64::from(range.end);
            prop_assert_eq!(blocks.has_all(7, range.clone()), range.clone().all(|number| set.contains(&number)));
            prop_assert!(!blocks.has(8, 1));
        }
    }

    #[test]
    fn the_highest_number_is_no_overflow() {
        let mut blocks = Blocks::default();
        blocks.add(1, u64::MAX);
        blocks.add(1, u64::MAX - 1);
        assert!(blocks.has(1, u64::MAX - 1));
    }
}
