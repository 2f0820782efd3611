//! Random numbers that a seed repeats, in every version of this program.

/// The generator SplitMix64: one number of state, and good enough to decide about packets.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Starts the sequence of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 up to, but not including, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        // The upper 53 bits: as many as the number can hold exactly.
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Says yes in `percent` of all cases. Draws nothing when the answer is certain, so that a
    /// feature that is off does not move the others' sequence.
    pub(crate) fn happens(&mut self, percent: f64) -> bool {
        percent > 0.0 && (percent >= 100.0 || self.unit() * 100.0 < percent)
    }

    /// Returns a position below `len`, which must not be 0.
    pub(crate) fn below(&mut self, len: usize) -> usize {
        let len = len as u64;
        usize::try_from(self.next() % len).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_sequence() {
        let sequence = |seed| {
            let mut random = Random::new(seed);
            [random.next(), random.next(), random.next()]
        };

        assert_eq!(sequence(7), sequence(7));
        assert_ne!(sequence(7), sequence(8));
    }

    #[test]
    fn happens_as_often_as_it_is_told() {
        let mut random = Random::new(1);
        let n = (0..100_000).filter(|_| random.happens(5.0)).count();

        assert!((4_700..5_300).contains(&n), "{n} of 100000 for 5 %");
        assert!(!random.happens(0.0));
        assert!(random.happens(100.0));
    }
}
