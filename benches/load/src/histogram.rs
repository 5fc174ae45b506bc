//! Times in buckets whose width grows with them, so that percentiles are within 1.6 % at any length.

use std::time::Duration;

use serde::Serialize;

/// Buckets per doubling.
const FINE: u64 = 64;
const BUCKETS: usize = 64 * 40;

/// How often which time was seen.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    sum: u128,
    max: u64,
}

/// What a histogram comes to, in microseconds.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// How many times were seen.
    pub count: u64,
    /// The arithmetic mean.
    pub mean: f64,
    /// Half were no longer.
    pub p50: f64,
    /// Nine of ten were no longer.
    pub p90: f64,
    /// 99 of 100 were no longer.
    pub p99: f64,
    /// 999 of 1000 were no longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], sum: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one time.
    pub fn add(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos).min(BUCKETS - 1)] += 1;
        self.sum += u128::from(nanos);
        self.max = self.max.max(nanos);
    }

    /// Adds what another one has seen.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many times were seen.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What it all comes to.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let count = self.count();
        if count == 0 {
            return Summary::default();
        }
        let at = |share: f64| self.quantile(count, share) as f64 / 1000.0;
        Summary {
            count,
            mean: self.sum as f64 / count as f64 / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.max as f64 / 1000.0,
        }
    }

    /// The time in nanoseconds that this share of all did not exceed.
    fn quantile(&self, count: u64, share: f64) -> u64 {
        let wanted = ((count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, n) in self.counts.iter().enumerate() {
            seen += n;
            if seen >= wanted {
                return end(index).min(self.max);
            }
        }
        self.max
    }
}

/// Below 64 ns a bucket is a nanosecond wide, and then twice as wide with every doubling.
fn bucket(nanos: u64) -> usize {
    if nanos < FINE {
        return nanos as usize;
    }
    let doubling = u64::from(nanos.ilog2()) - 5;
    (doubling * FINE / 2 + (nanos >> doubling)) as usize
}

/// The last time that goes into a bucket.
fn end(index: usize) -> u64 {
    let index = index as u64;
    if index < FINE {
        return index;
    }
    let doubling = index / (FINE / 2) - 1;
    ((index - doubling * FINE / 2 + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_where_the_next_begins() {
        for nanos in [0, 1, 63, 64, 65, 127, 128, 129, 1000, 12_345, 1 << 30, (1 << 30) + 12_345_678] {
            let index = bucket(nanos);
            assert!(nanos <= end(index), "{nanos} is beyond the end of its bucket, {}", end(index));
            assert_eq!(bucket(end(index)), index);
            assert_eq!(bucket(end(index) + 1), index + 1);
        }
    }

    #[test]
    fn percentiles_are_within_two_per_cent() {
        let mut histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.add(Duration::from_micros(micros));
        }
        let summary = histogram.summary();
        for (found, expected) in [(summary.p50, 500.0), (summary.p90, 900.0), (summary.p99, 990.0), (summary.max, 1000.0)] {
            assert!((found / expected - 1.0_f64).abs() < 0.02, "{found} instead of {expected}");
        }
    }
}
