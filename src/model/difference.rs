//! Whether two series of durations differ by more than their noise: the spread between stretches of time of one session
//! is the yardstick.

/// A series is kept as the sums of so many to twice as many cells of time.
const CELLS: usize = 128;

/// The first width of a cell in nanoseconds. It doubles whenever the cells become too many.
const WIDTH: u64 = 1_000_000;

/// Each series is cut into so many blocks of time, in turn, and the largest of the spreads counts. Calls that are near
/// in time resemble each other: short blocks of a series that drifts differ too little, which long ones show.
const CUTS: [usize; 4] = [8, 16, 32, 64];

/// Nanoseconds that a series must last. What a machine does to a program often lasts for seconds: a shorter one has seen
/// one state of it, and its blocks do not tell how another would look.
const LEAST: u64 = 5_000_000_000;

/// The quantile of Student's t for 99 per cent, with one degree of freedom less than the fewest blocks.
const QUANTILE: f64 = 3.499;

/// The share of the average by which two runs of one program differ anyway: where its code and data came to lie, the
/// seeds of its hashes and its neighbours stay alike for the whole of a session, so that no block tells of them.
const BETWEEN_RUNS: f64 = 0.1;

/// The difference of two averages, in nanoseconds, and its confidence interval of 99 per cent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The second's average less the first's.
    pub mean: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

impl Difference {
    /// Whether it is larger than the noise: the interval does not hold 0.
    pub fn is_real(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// Durations over time, as their sums and numbers in cells of equal width.
#[derive(Clone, Debug)]
pub struct Series {
    cells: Vec<Sum>,
    width: u64,
    first: Option<u64>,
    last: u64,
}

/// The sum of some durations, and their number.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    total: f64,
    count: f64,
}

impl Default for Series {
    fn default() -> Self {
        Self { cells: Vec::new(), width: WIDTH, first: None, last: 0 }
    }
}

impl Series {
    /// Takes in a duration and when it ended, both in nanoseconds. What ended before the first counts with that.
    pub fn push(&mut self, end: u64, duration: u64) {
        let time = end.saturating_sub(*self.first.get_or_insert(end));
        self.last = self.last.max(time);
        while time / self.width >= 2 * CELLS as u64 {
            self.cells = self.cells.chunks(2).map(Sum::of).collect();
            self.width *= 2;
        }
        let cell = (time / self.width) as usize;
        if cell >= self.cells.len() {
            self.cells.resize(cell + 1, Sum::default());
        }
        self.cells[cell].add(Sum { total: duration as f64, count: 1.0 });
    }

    /// The sums of so many blocks of time.
    fn blocks(&self, count: usize) -> Vec<Sum> {
        let mut blocks = vec![Sum::default(); count];
        for (number, cell) in self.cells.iter().enumerate() {
            blocks[number * count / self.cells.len()].add(*cell);
        }
        blocks
    }

    fn is_long_enough(&self) -> bool {
        self.last >= LEAST && self.blocks(CUTS[0]).iter().all(|block| block.count > 0.0)
    }

    fn mean(&self) -> f64 {
        let all = Sum::of(&self.cells);
        all.total / all.count
    }

    /// The square of the average's standard error: of the cut that has the largest. A block weighs as much as it has
    /// values, since the average does not know of blocks.
    fn variance(&self) -> f64 {
        let (mean, all) = (self.mean(), Sum::of(&self.cells).count);
        let of_cut = |count: usize| {
            let residue = |block: &Sum| (block.total - mean * block.count).powi(2);
            let residues: f64 = self.blocks(count).iter().map(residue).sum();
            residues / all.powi(2) * count as f64 / (count - 1) as f64
        };
        CUTS.into_iter().map(of_cut).fold(0.0, f64::max)
    }
}

impl Sum {
    fn of(parts: &[Self]) -> Self {
        let mut all = Self::default();
        parts.iter().for_each(|part| all.add(*part));
        all
    }

    fn add(&mut self, other: Self) {
        self.total += other.total;
        self.count += other.count;
    }
}

/// The difference between two series. None if one is too short to tell: it lasts less than five seconds, or an eighth
/// of its time has no value.
pub fn difference(first: &Series, second: &Series) -> Option<Difference> {
    if !first.is_long_enough() || !second.is_long_enough() {
        return None;
    }
    let mean = second.mean() - first.mean();
    let noise = QUANTILE * (first.variance() + second.variance()).sqrt();
    let reach = noise + BETWEEN_RUNS * first.mean().min(second.mean());
    Some(Difference { mean, low: mean - reach, high: mean + reach })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Numbers from -1 to 1, the same for the same seed.
    fn noise(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        move || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        }
    }

    /// A call each ten milliseconds, whose noise is that of the call before but for what `forgets` of it.
    fn series(seconds: u64, middle: f64, forgets: f64, seed: u64) -> Series {
        let (mut series, mut noise, mut state) = (Series::default(), noise(seed), 0.0);
        for call in 0..seconds * 100 {
            state = (1.0 - forgets) * state + (1.0 - (1.0 - forgets).powi(2)).sqrt() * noise();
            series.push(call * SECOND / 100, (middle * (1.0 + 0.2 * state)) as u64);
        }
        series
    }

    /// Of all pairs of ten series, how many differ for real.
    fn real_ones(forgets: f64, run: impl Fn(u64) -> f64) -> usize {
        let all: Vec<Series> = (0..10).map(|seed| series(10, run(seed), forgets, seed + 1)).collect();
        let pairs = (0..10).flat_map(|second| (0..second).map(move |first| (first, second)));
        pairs.filter(|(a, b)| difference(&all[*a], &all[*b]).unwrap().is_real()).count()
    }

    #[test]
    fn series_of_one_program_do_not_differ_however_long_its_noise_lasts() {
        for forgets in [1.0, 0.1, 0.01] {
            let real = real_ones(forgets, |_| 1e6);
            assert!(real <= 1, "{real} of 45 where a call forgets {forgets}");
        }
        // Each run is a little faster or slower for as long as it lasts.
        assert_eq!(real_ones(1.0, |seed| 1e6 + 9_500.0 * seed as f64), 0);
    }

    #[test]
    fn what_is_larger_than_the_noise_is_real() {
        for forgets in [1.0, 0.1, 0.05] {
            let (before, after) = (series(10, 1e6, forgets, 1), series(10, 1.3e6, forgets, 2));
            let slower = difference(&before, &after).unwrap();
            assert!(slower.is_real() && (2e5..4e5).contains(&slower.mean), "{forgets}: {slower:?}");
            assert!(slower.low < slower.mean && slower.mean < slower.high);
            let faster = difference(&after, &before).unwrap();
            assert!(faster.is_real() && faster.mean < 0.0);
        }
    }

    #[test]
    fn what_lasts_too_short_or_has_too_few_calls_is_not_judged() {
        let long = series(10, 1e6, 1.0, 1);
        assert_eq!(difference(&long, &series(1, 2e6, 1.0, 2)), None);
        assert_eq!(difference(&Series::default(), &long), None);
        let mut at_its_ends = Series::default();
        (0..1_000).for_each(|n| at_its_ends.push(if n % 2 == 0 { n } else { 10 * SECOND + n }, 1_000));
        assert_eq!(difference(&at_its_ends, &long), None);
    }

    #[test]
    fn a_long_series_has_as_few_cells_as_a_short_one_and_loses_nothing() {
        for calls in [1, 200, 255, 256, 257, 12_345] {
            let mut series = Series::default();
            (0..calls).for_each(|call| series.push(7 + call * WIDTH, call));
            assert!(series.cells.len() <= 2 * CELLS, "{calls}");
            assert!((series.mean() - (calls - 1) as f64 / 2.0).abs() < 1e-6, "{calls}");
        }
        let mut ages_apart = Series::default();
        [0, u64::MAX, 5].iter().for_each(|end| ages_apart.push(*end, 3));
        assert!(ages_apart.cells.len() <= 2 * CELLS && (ages_apart.mean() - 3.0).abs() < 1e-6);
    }
}
