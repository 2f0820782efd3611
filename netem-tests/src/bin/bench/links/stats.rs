//! Medians, percentiles, spreads.

use std::time::Duration;

/// The middle of several runs, and how far apart they were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) n: usize,
}

impl Spread {
    /// Returns nothing for no values. Of an even number of values the worse middle one counts, so
    /// that two runs never look better than they were.
    pub(crate) fn of(values: &[f64], more_is_better: bool) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let middle = if more_is_better {
            last / 2
        } else {
            sorted.len() / 2
        };
        Some(Self {
            median: sorted[middle],
            min: sorted[0],
            max: sorted[last],
            n: sorted.len(),
        })
    }

    /// Returns the same in other units.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        Self {
            median: self.median * factor,
            min: self.min * factor,
            max: self.max * factor,
            n: self.n,
        }
    }
}

/// Returns the value that `percent` of all are not above (the nearest rank), in milliseconds.
pub(crate) fn percentile_ms(times: &[Duration], percent: f64) -> Option<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (percent / 100.0 * sorted.len() as f64).ceil().max(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank lies between 1 and the length"
    )]
    let index = rank as usize - 1;
    sorted.get(index).map(|time| time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_median_of_three_is_the_middle_one() {
        let spread = Spread::of(&[0.5, 0.9, 0.1], true).unwrap();

        assert_eq!((spread.min, spread.median, spread.max), (0.1, 0.5, 0.9));
        assert_eq!(Spread::of(&[], true), None);
    }

    #[test]
    fn of_two_values_the_worse_one_counts() {
        assert_eq!(Spread::of(&[3.0, 7.0], true).unwrap().median, 3.0);
        assert_eq!(Spread::of(&[3.0, 7.0], false).unwrap().median, 7.0);
        assert_eq!(Spread::of(&[1.0, 2.0, 3.0, 4.0], true).unwrap().median, 2.0);
    }

    #[test]
    fn a_run_that_never_ended_only_shows_when_it_is_the_median() {
        let once = Spread::of(&[50.0, f64::INFINITY, 60.0], false).unwrap();
        let twice = Spread::of(&[50.0, f64::INFINITY, f64::INFINITY], false).unwrap();

        assert_eq!(once.median, 60.0);
        assert_eq!(twice.median, f64::INFINITY);
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();

        assert_eq!(percentile_ms(&times, 50.0), Some(100.0));
        assert_eq!(percentile_ms(&times, 99.0), Some(198.0));
        assert_eq!(percentile_ms(&times, 100.0), Some(200.0));
        assert_eq!(percentile_ms(&times[..1], 99.0), Some(1.0));
        assert_eq!(percentile_ms(&[], 50.0), None);
    }
}
