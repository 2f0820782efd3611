//! Random decisions that follow a seed.

use std::time::Duration;

/// Splitmix64: small, fast, and good enough to decide what goes wrong next.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `n`, which is not zero.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        // The bias of a remainder does not matter here.
        self.next() % n
    }

    /// Returns a number between two.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        let share = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        low + (high - low) * share
    }

    /// Returns a time between two, in seconds.
    pub(crate) fn seconds(&mut self, low: f64, high: f64) -> Duration {
        Duration::from_secs_f64(self.between(low, high))
    }

    /// Returns one of several.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let n = u64::try_from(choices.len()).ok().filter(|n| *n > 0)?;
        let number = self.below(n);
        choices.get(usize::try_from(number).ok()?)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_decides_the_same() {
        let decide = |seed| {
            let mut dice = Dice::new(seed);
            (dice.below(1000), dice.between(1.0, 2.0), dice.next())
        };

        assert_eq!(decide(7), decide(7));
        assert_ne!(decide(7), decide(8));
        let mut dice = Dice::new(1);
        assert!((0..1000).all(|_| (3.0..4.0).contains(&dice.between(3.0, 4.0))));
        assert_eq!(dice.pick::<u8>(&[]), None);
    }
}
