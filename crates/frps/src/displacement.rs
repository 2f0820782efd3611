//! When a login may take the place of a session that has the same run id.
//!
//! A client that lost its connection logs in again with the run id it had, and the server drops
//! what is left of the old session. The same bytes could also be a recorded login, or a second
//! client with a copied identity. So two kinds of logins must wait until the old session is dead:
//! one that is no newer than the login of that session, and one of a series in which live
//! sessions displace each other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When a login was made, as far as the login itself says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp<'a> {
    /// The login's own timestamp.
    pub(crate) timestamp: i64,
    /// The key that belongs to it.
    pub(crate) privilege_key: &'a str,
}

/// Whether `new` says nothing that the login of the present session did not say already, or is
/// older than it: a recorded login would be.
pub(crate) fn is_stale(new: Stamp<'_>, present: Stamp<'_>) -> bool {
    new.timestamp < present.timestamp || new == present
}

/// Displacements of live sessions under one run id, and attempts at them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Duel {
    attempts: VecDeque<Instant>,
}

impl Duel {
    /// Notes that a login came while the session of that run id showed life.
    pub(crate) fn note_attempt(&mut self, now: Instant) {
        self.attempts.push_back(now);
        while self.attempts.len() > MAX_ATTEMPTS {
            self.attempts.pop_front();
        }
    }

    /// Whether the next login is one too many. Attempts that were turned away count as well, so
    /// that a client that keeps trying stays held off.
    pub(crate) fn is_on(&self, now: Instant) -> bool {
        let recent = |at: &&Instant| now.saturating_duration_since(**at) < DUEL_WINDOW;
        self.attempts.iter().filter(recent).count() >= MAX_ATTEMPTS
    }
}

/// Why a login was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeldOff {
    /// See [`is_stale`].
    #[error("this login repeats an earlier one, and the session of that one is alive")]
    Stale,
    /// See [`Duel`].
    #[error(
        "another client with the same run id is connected, and the two displace each other: stop \
         one of them, or give each its own state directory"
    )]
    Duel,
}

/// Displacements of live sessions that are still taken for a client on a bad link.
const MAX_ATTEMPTS: usize = 3;

/// The time in which they are counted.
const DUEL_WINDOW: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(timestamp: i64, privilege_key: &str) -> Stamp<'_> {
        Stamp {
            timestamp,
            privilege_key,
        }
    }

    #[test]
    fn a_login_is_stale_when_it_is_older_or_the_same() {
        assert!(is_stale(stamp(10, "k"), stamp(10, "k")));
        assert!(is_stale(stamp(9, "j"), stamp(10, "k")));
        assert!(!is_stale(stamp(11, "l"), stamp(10, "k")));
        assert!(!is_stale(stamp(10, "other token"), stamp(10, "k")));
    }

    #[test]
    fn the_fourth_displacement_in_a_minute_is_one_too_many() {
        let mut duel = Duel::default();
        let start = Instant::now();
        for i in 0..3 {
            let now = start + Duration::from_secs(10 * i);
            assert!(!duel.is_on(now));
            duel.note_attempt(now);
        }
        assert!(duel.is_on(start + Duration::from_secs(30)));
        assert!(
            !duel.is_on(start + Duration::from_secs(61)),
            "the first is forgotten"
        );
    }

    #[test]
    fn a_client_that_keeps_trying_stays_held_off() {
        let mut duel = Duel::default();
        let start = Instant::now();
        let mut n_let_in = 0;
        for i in 0..20 {
            let now = start + Duration::from_secs(15 * i);
            n_let_in += u32::from(!duel.is_on(now));
            duel.note_attempt(now);
        }
        assert_eq!(n_let_in, 3);
    }

    #[test]
    fn what_a_duel_remembers_is_bounded() {
        let mut duel = Duel::default();
        (0..1000).for_each(|_| duel.note_attempt(Instant::now()));
        assert_eq!(duel.attempts.len(), MAX_ATTEMPTS);
    }
}
