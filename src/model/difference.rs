//! Whether two series of durations differ by more than their noise: a bootstrap of blocks.

/// A series is cut into this many to twice as many blocks, or one for each value of a short one. Neighbours resemble
/// each other, so that drawing single values would take their noise for smaller than it is.
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

/// Durations in the order of time, as sums and sizes of blocks.
#[derive(Clone, Debug)]
pub struct Series {
    blocks: Vec<(f64, f64)>,
    /// Values of a full block.
    size: f64,
}

impl Default for Series {
    fn default() -> Self {
        Self { blocks: Vec::new(), size: 1.0 }
    }
}

impl Series {
    /// Takes in the next duration, in nanoseconds.
    pub fn push(&mut self, duration: u64) {
        let value = (duration as f64, 1.0);
        if let Some(last) = self.blocks.last_mut()
            && last.1 < self.size
        {
            *last = add(*last, &value);
            return;
        }
        if self.blocks.len() == 2 * BLOCKS {
            let pairs = self.blocks.chunks(2);
            self.blocks = pairs.map(|pair| pair.iter().fold((0.0, 0.0), add)).collect();
            self.size *= 2.0;
        }
        self.blocks.push(value);
    }

    fn mean(&self) -> f64 {
        let (sum, count) = self.blocks.iter().fold((0.0, 0.0), add);
        sum / count
    }

    /// The average of as many blocks, each drawn from all.
    fn draw(&self, random: &mut u64) -> f64 {
        let mut drawn = (0.0, 0.0);
        for _ in 0..self.blocks.len() {
            // xorshift64*: the same series have the same interval on every machine.
            *random ^= *random >> 12;
            *random ^= *random << 25;
            *random ^= *random >> 27;
            let number = random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
            drawn = add(drawn, &self.blocks[number as usize % self.blocks.len()]);
        }
        drawn.0 / drawn.1
    }
}

fn add(sum: (f64, f64), block: &(f64, f64)) -> (f64, f64) {
    (sum.0 + block.0, sum.1 + block.1)
}

/// The difference between two series. None if one has fewer than two values.
pub fn difference(first: &Series, second: &Series) -> Option<Difference> {
    if first.blocks.len() < 2 || second.blocks.len() < 2 {
        return None;
    }
    let mut random = 0x9e37_79b9_7f4a_7c15;
    let mut draws: Vec<f64> =
        (0..DRAWS).map(|_| second.draw(&mut random) - first.draw(&mut random)).collect();
    draws.sort_by(f64::total_cmp);
    let rank = |share: f64| draws[(share * (DRAWS - 1) as f64).round() as usize];
    Some(Difference { mean: second.mean() - first.mean(), low: rank(0.025), high: rank(0.975) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values around a middle, the same each time.
    fn noisy(middle: u64, seed: u64) -> Series {
        series((0..500_u64).map(|n| middle + (n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 7) % 1_000))
    }

    fn series(values: impl IntoIterator<Item = u64>) -> Series {
        let mut series = Series::default();
        values.into_iter().for_each(|value| series.push(value));
        series
    }

    #[test]
    fn only_what_is_larger_than_the_noise_is_real() {
        let same = difference(&noisy(10_000, 1), &noisy(10_000, 99)).unwrap();
        assert!(!same.is_real(), "{same:?}");
        let slower = difference(&noisy(10_000, 1), &noisy(10_400, 99)).unwrap();
        assert!(slower.is_real() && (300.0..500.0).contains(&slower.mean), "{slower:?}");
        assert!(slower.low < slower.mean && slower.mean < slower.high);
        assert_eq!(difference(&series([1]), &noisy(1, 1)), None);
    }

    #[test]
    fn a_long_series_has_as_few_blocks_as_a_short_one_and_loses_nothing() {
        for length in [2, 200, 201, 399, 401, 12_345] {
            let series = series(0..length);
            assert!((length.min(100)..=200).contains(&(series.blocks.len() as u64)), "{length}");
            assert!((series.mean() - (length - 1) as f64 / 2.0).abs() < 1e-6, "{length}");
        }
    }
}
