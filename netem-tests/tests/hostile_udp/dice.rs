//! Random decisions that can be repeated.

use std::env;
use std::hash::{BuildHasher, RandomState};

/// A sequence of numbers that follows from its seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    /// Follows `HOSTILE_SEED`, or a seed of its own choice. Prints it.
    pub(crate) fn from_env() -> Self {
        let state = match env::var("HOSTILE_SEED") {
            Ok(text) => text.parse().unwrap(),
            Err(_) => RandomState::new().hash_one(()),
        };
        crate::say(&format!("HOSTILE_SEED={state}"));
        Self { state }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number of 32 bits.
    pub(crate) fn word(&mut self) -> u32 {
        u32::try_from(self.number() >> 32).unwrap()
    }

    /// A number below `n`, which is not zero.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.number() % n as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.number().to_le_bytes()[0]).collect()
    }
}
