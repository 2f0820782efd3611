//! How often to ask: often while somebody uses the tunnel, rarely while nobody does.

use std::time::{Duration, Instant};

/// The intervals of [`Cadence`], each a key under `transport.auto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CadenceConfig {
    /// Between heartbeats while data flows: a fault is suspected after three of them, so that a
    /// user notices a pause of two seconds rather than a broken connection. About 5 kbit/s.
    pub in_use: Duration,
    /// Without data for so long, the tunnel counts as idle.
    pub idle_after: Duration,
    /// Between heartbeats of an idle tunnel with users: who types after a pause finds a carrier
    /// that was alive a second ago.
    pub idle: Duration,
    /// Without user connections for so long, the tunnel counts as quiet.
    pub quiet_after: Duration,
    /// Between heartbeats of a quiet tunnel: within the shortest time that NATs keep UDP mappings.
    pub quiet: Duration,
    /// Without user connections for so long, the tunnel counts as asleep.
    pub asleep_after: Duration,
    /// Between heartbeats of a tunnel asleep. An exchange over TCP, IPv6 and TLS is 324 bytes on
    /// the wire, so that 10 s would cost 2.8 MB a day and 15 s cost 1.9 MB: below the 2 MB that an
    /// idle client may cost. NATs keep UDP mappings for 30 s and longer.
    pub asleep: Duration,
    /// Between heartbeats on a standby while there are users: its death is known before it is
    /// needed.
    pub standby: Duration,
    /// The same in a tunnel that is quiet or asleep. What is left of the 2 MB a day.
    pub standby_quiet: Duration,
    /// Between heartbeats while carriers are compared: 40 of them, which a quality window asks
    /// for, in the 3 s that it lasts at least. 2 kB/s, for seconds.
    pub questioned: Duration,
}

impl Default for CadenceConfig {
    fn default() -> Self {
        Self {
            in_use: Duration::from_millis(250),
            idle_after: Duration::from_secs(10),
            idle: Duration::from_secs(1),
            quiet_after: Duration::from_secs(60),
            quiet: Duration::from_secs(10),
            asleep_after: Duration::from_secs(600),
            asleep: Duration::from_secs(15),
            standby: Duration::from_secs(5),
            standby_quiet: Duration::from_secs(300),
            questioned: Duration::from_millis(75),
        }
    }
}

/// What a carrier is to the session, as far as probing is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The carrier in use: by how the tunnel is used.
    InUse,
    /// The standby.
    Standby,
    /// Compared with another carrier.
    Questioned,
}

/// Says how long to wait between two heartbeats.
#[derive(Clone, Debug)]
pub struct Cadence {
    config: CadenceConfig,
    pace: Pace,
    n_users: usize,
    last_traffic: Instant,
    last_user: Instant,
}

impl Cadence {
    /// A carrier begins as if it had just been used.
    #[must_use]
    pub fn new(config: CadenceConfig, pace: Pace, now: Instant) -> Self {
        Self {
            config,
            pace,
            n_users: 0,
            last_traffic: now,
            last_user: now,
        }
    }

    /// What the carrier is from now on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Users' data has passed, in either direction.
    pub fn handle_traffic(&mut self, now: Instant) {
        self.last_traffic = now;
    }

    /// How many user connections there are. Returns whether one has come.
    pub fn handle_users(&mut self, now: Instant, n_users: usize) -> bool {
        let has_come = n_users > self.n_users;
        if n_users > 0 || self.n_users > 0 {
            self.last_user = now;
        }
        if has_come {
            self.last_traffic = now;
        }
        self.n_users = n_users;
        has_come
    }

    /// The interval that applies at `now`.
    #[must_use]
    pub fn interval(&self, now: Instant) -> Duration {
        let config = &self.config;
        let without_traffic = now.saturating_duration_since(self.last_traffic);
        let without_users = match self.n_users {
            0 => now.saturating_duration_since(self.last_user),
            _ => Duration::ZERO,
        };
        match self.pace {
            Pace::Questioned => config.questioned,
            Pace::Standby if without_users >= config.quiet_after => config.standby_quiet,
            Pace::Standby => config.standby,
            Pace::InUse if without_traffic < config.idle_after => config.in_use,
            Pace::InUse if without_users >= config.asleep_after => config.asleep,
            Pace::InUse if without_users >= config.quiet_after => config.quiet,
            Pace::InUse => config.idle,
        }
    }

    /// The shortest interval outside of comparisons: also that of asking again after a loss.
    #[must_use]
    pub fn fast(&self) -> Duration {
        self.config.in_use
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::test_start;

    #[test]
    fn an_unused_tunnel_falls_asleep_in_steps_and_a_user_wakes_it() {
        let start = test_start();
        let mut cadence = Cadence::new(CadenceConfig::default(), Pace::InUse, start);
        let at = |secs| start + Duration::from_secs(secs);
        let millis = |cadence: &Cadence, secs| cadence.interval(at(secs)).as_millis();

        assert_eq!(millis(&cadence, 9), 250);
        assert_eq!(millis(&cadence, 10), 1000);
        assert_eq!(millis(&cadence, 60), 10_000);
        assert_eq!(millis(&cadence, 600), 15_000);

        assert!(cadence.handle_users(at(700), 1));
        assert_eq!(millis(&cadence, 700), 250);
        assert_eq!(millis(&cadence, 5000), 1000, "a user without data");
        assert!(!cadence.handle_users(at(5000), 0));
        assert_eq!(millis(&cadence, 5059), 1000);
        assert_eq!(millis(&cadence, 5060), 10_000);
    }
}
