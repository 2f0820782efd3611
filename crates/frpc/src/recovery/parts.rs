//! The parts of recovery that are on: by the file at first, by hand from then on.

use std::sync::atomic::{AtomicBool, Ordering};

use frp_core::config::RecoveryPart;

/// A switch for each part.
#[derive(Debug, Default)]
pub struct Parts {
    is_off: [AtomicBool; RecoveryPart::ALL.len()],
}

impl Parts {
    /// All are on but these.
    pub fn new(off: &[RecoveryPart]) -> Self {
        let parts = Self::default();
        off.iter().for_each(|part| parts.set(*part, false));
        parts
    }

    /// Turns one on or off.
    pub fn set(&self, part: RecoveryPart, is_on: bool) {
        self.slot(part).store(!is_on, Ordering::Relaxed);
    }

    /// Whether it is on.
    pub fn is_on(&self, part: RecoveryPart) -> bool {
        !self.slot(part).load(Ordering::Relaxed)
    }

    fn slot(&self, part: RecoveryPart) -> &AtomicBool {
        // One for each, in the order of their declaration.
        &self.is_off[part as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_a_switch_of_its_own() {
        for (idx, part) in RecoveryPart::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, idx);
        }
        let parts = Parts::new(&[RecoveryPart::Switch]);
        assert!(!parts.is_on(RecoveryPart::Switch) && parts.is_on(RecoveryPart::Alerts));
        parts.set(RecoveryPart::Switch, true);
        assert!(parts.is_on(RecoveryPart::Switch));
    }
}
