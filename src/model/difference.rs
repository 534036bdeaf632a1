//! Whether two series of durations differ by more than their noise: a bootstrap of blocks.

/// A series is cut into so many blocks at most. Neighbours resemble each other, so that drawing single values would
/// take their noise for smaller than it is.
const BLOCKS: usize = 100;

/// Series are drawn anew so many times.
const DRAWS: usize = 2_000;

/// The difference of two averages, in nanoseconds, and its confidence interval of 95 per cent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The second's average less the first's.
    pub mean: f64,
    /// 2.5 per cent of all draws are below.
    pub low: f64,
    /// 2.5 per cent of all draws are above.
    pub high: f64,
}

impl Difference {
    /// Whether it is larger than the noise: the interval does not hold 0.
    pub fn is_real(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// Sums and sizes of the blocks of a series.
struct Blocks(Vec<(f64, f64)>);

impl Blocks {
    fn of(values: &[u64]) -> Self {
        let size = values.len().div_ceil(BLOCKS).max(1);
        let block = |block: &[u64]| (block.iter().map(|value| *value as f64).sum(), block.len() as f64);
        Self(values.chunks(size).map(block).collect())
    }

    /// The average of as many blocks, each drawn from all.
    fn draw(&self, random: &mut u64) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for _ in 0..self.0.len() {
            // xorshift64*: the same series have the same interval on every machine.
            *random ^= *random >> 12;
            *random ^= *random << 25;
            *random ^= *random >> 27;
            let number = random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
            let (block, size) = self.0[number as usize % self.0.len()];
            (sum, count) = (sum + block, count + size);
        }
        sum / count
    }
}

/// The difference between two series, each in the order of time. None if one has fewer than two values.
pub fn difference(first: &[u64], second: &[u64]) -> Option<Difference> {
    if first.len() < 2 || second.len() < 2 {
        return None;
    }
    let mean = |values: &[u64]| values.iter().map(|value| *value as f64).sum::<f64>() / values.len() as f64;
    let (from, to, mut random) = (Blocks::of(first), Blocks::of(second), 0x9e37_79b9_7f4a_7c15);
    let mut draws: Vec<f64> = (0..DRAWS).map(|_| to.draw(&mut random) - from.draw(&mut random)).collect();
    draws.sort_by(f64::total_cmp);
    let rank = |share: f64| draws[(share * (DRAWS - 1) as f64).round() as usize];
    Some(Difference { mean: mean(second) - mean(first), low: rank(0.025), high: rank(0.975) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values around a middle, the same each time.
    fn noisy(middle: u64, seed: u64) -> Vec<u64> {
        (0..500_u64)
            .map(|n| middle + (n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 7) % 1_000)
            .collect()
    }

    #[test]
    fn only_what_is_larger_than_the_noise_is_real() {
        let same = difference(&noisy(10_000, 1), &noisy(10_000, 99)).unwrap();
        assert!(!same.is_real(), "{same:?}");
        let slower = difference(&noisy(10_000, 1), &noisy(10_400, 99)).unwrap();
        assert!(slower.is_real() && (300.0..500.0).contains(&slower.mean), "{slower:?}");
        assert!(slower.low < slower.mean && slower.mean < slower.high);
        assert_eq!(difference(&[1], &noisy(1, 1)), None);
    }
}
