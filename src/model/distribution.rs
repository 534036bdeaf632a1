//! Many values of one figure: average, extremes, percentiles. Exact up to a million values, then to four digits.

use hdrhistogram::Histogram;

/// So many values are kept one by one.
const EXACT: usize = 1 << 20;

/// Significant digits of percentiles of more values than that.
const DIGITS: u8 = 4;

/// Takes values in; durations are nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    values: Vec<u64>,
    is_sorted: bool,
    histogram: Option<Box<Histogram<u64>>>,
    count: u64,
    sum: u128,
    squares: f64,
    min: u64,
    max: u64,
}

impl Distribution {
    /// Takes a value in.
    pub fn push(&mut self, value: u64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.count += 1;
        self.sum += u128::from(value);
        self.squares += (value as f64).powi(2);
        if let Some(histogram) = &mut self.histogram {
            record(histogram, value);
            return;
        }
        self.values.push(value);
        self.is_sorted = false;
        if self.values.len() > EXACT
            && let Ok(mut histogram) = Histogram::new(DIGITS)
        {
            histogram.auto(true);
            std::mem::take(&mut self.values).into_iter().for_each(|value| record(&mut histogram, value));
            self.histogram = Some(Box::new(histogram));
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// The least, 0 if there are none.
    pub fn min(&self) -> u64 {
        self.min
    }

    /// The greatest, 0 if there are none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Sum by count; 0 if there are none.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// The population's standard deviation, √(Σ(x − mean)² / n).
    pub fn deviation(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        (self.squares / self.count as f64 - self.mean().powi(2)).max(0.0).sqrt()
    }

    /// The value below which the share `rank` (0 to 1) of the values lies, interpolated between neighbours as numpy
    /// does; 0 if there are none.
    pub fn percentile(&mut self, rank: f64) -> f64 {
        if let Some(histogram) = &self.histogram {
            return histogram.value_at_quantile(rank) as f64;
        }
        if !self.is_sorted {
            self.values.sort_unstable();
            self.is_sorted = true;
        }
        percentile(&self.values, rank).unwrap_or_default()
    }
}

fn record(histogram: &mut Histogram<u64>, value: u64) {
    // It grows with its values; what no histogram could hold would be longer than all time.
    let _ = histogram.record(value);
}

impl Extend<u64> for Distribution {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.push(value));
    }
}

impl FromIterator<u64> for Distribution {
    fn from_iter<I: IntoIterator<Item = u64>>(values: I) -> Self {
        let mut all = Self::default();
        all.extend(values);
        all
    }
}

/// The value below which the share `rank` (0 to 1) of the sorted values lies, interpolated between neighbours, as
/// numpy and vLLM's benchmark do. None if there are no values.
pub fn percentile<T: Copy + Into<Number>>(sorted: &[T], rank: f64) -> Option<f64> {
    let position = rank * (sorted.len().checked_sub(1)? as f64);
    let (below, part) = (position.floor(), position.fract());
    let number = |value: T| -> f64 { value.into().0 };
    let low = number(*sorted.get(below as usize)?);
    let high = sorted.get(below as usize + 1).map_or(low, |high| number(*high));
    Some(low + (high - low) * part)
}

/// A value of which percentiles are taken.
#[derive(Clone, Copy, Debug)]
pub struct Number(f64);

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self(value as f64)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_interpolated_between_neighbours() {
        for (values, rank, expected) in [
            (&[][..], 0.5, None),
            (&[7], 0.99, Some(7.0)),
            (&[10, 20], 0.5, Some(15.0)),
            (&[0, 100, 200, 300, 400], 0.99, Some(396.0)),
            (&[1, 2, 3], 1.0, Some(3.0)),
        ] {
            assert_eq!(percentile::<u64>(values, rank), expected, "{values:?} at {rank}");
        }
    }

    #[test]
    fn a_million_values_more_cost_four_digits_of_the_percentiles_and_nothing_else() {
        let mut all: Distribution = (1..=3_000_000_u64).rev().collect();
        assert_eq!((all.count(), all.min(), all.max(), all.mean()), (3_000_000, 1, 3_000_000, 1_500_000.5));
        assert!(all.histogram.is_some());
        for rank in [0.01, 0.5, 0.99] {
            let (found, expected) = (all.percentile(rank), rank * 3_000_000.0);
            assert!((found / expected - 1.0).abs() < 2e-4, "{rank}: {found}");
        }
        let mut few: Distribution = [2, 4, 4, 4, 5, 5, 7, 9].into_iter().collect();
        assert_eq!((few.mean(), few.deviation(), few.percentile(0.5)), (5.0, 2.0, 4.5));
    }
}
