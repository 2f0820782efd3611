//! What is known of each candidate, and how it outlives the session and the program.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::config::Config;
use super::words::{Candidate, Transport};
use crate::json::{JsonError, Object, go_object};

/// A candidate and how it has done.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) candidate: Candidate,
    /// Failures in a row that count as evidence.
    pub(crate) n_failures: u32,
    last_failure: Option<Instant>,
    /// Not tried before this.
    retry_at: Option<Instant>,
    /// How long the wait before `retry_at` would be if somebody used the tunnel.
    busy_wait: Duration,
}

impl Place {
    pub(crate) fn new(candidate: Candidate) -> Self {
        Self {
            candidate,
            n_failures: 0,
            last_failure: None,
            retry_at: None,
            busy_wait: Duration::ZERO,
        }
    }

    pub(crate) fn succeed(&mut self) {
        self.n_failures = 0;
        self.last_failure = None;
        self.retry_at = None;
    }

    /// Could not be reached. What is no evidence against it does not lengthen the wait.
    pub(crate) fn fail(&mut self, config: &Config, now: Instant, is_evidence: bool, quiet: bool) {
        self.n_failures += u32::from(is_evidence);
        self.last_failure = Some(now);
        // Ten doublings are beyond any maximum.
        let factor = 1_u32 << self.n_failures.saturating_sub(1).min(10);
        let wait = config.retry_after * factor;
        self.busy_wait = wait.min(config.retry_max);
        let longest = if quiet {
            config.retry_max_quiet
        } else {
            config.retry_max
        };
        self.retry_at = Some(now + wait.min(longest));
    }

    /// The network has changed, or somebody asks for it: due at once.
    pub(crate) fn retry_now(&mut self) {
        self.n_failures = 0;
        self.retry_at = None;
    }

    /// Users are there again: waits are those of a tunnel in use.
    pub(crate) fn wake(&mut self) {
        if let (Some(failed), Some(retry_at)) = (self.last_failure, self.retry_at) {
            self.retry_at = Some(retry_at.min(failed + self.busy_wait));
        }
    }

    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }

    /// Whether there is enough evidence not to count on it at start.
    pub(crate) fn seems_closed(&self) -> bool {
        self.n_failures >= SEEMS_CLOSED
    }
}

/// One failure is loss, two are bad luck.
const SEEMS_CLOSED: u32 = 3;

/// What is remembered of a server from one network, to be kept where it outlives the program. The
/// owner keeps one for each server and network, and says how old it is when it is used again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What was in use last.
    pub last_used: Option<Transport>,
    /// Whether that went over IPv6.
    pub last_used_ipv6: bool,
    /// The candidates that failed, and how often in a row.
    pub failures: Vec<(Transport, bool, u32)>,
}

/// More are not written and not read: there are ten kinds of candidates.
const MAX_ENTRIES: usize = 32;

impl Health {
    /// The text to store.
    #[must_use]
    pub fn to_json(&self) -> BytesMut {
        let entry = |(transport, is_ipv6, n): &(Transport, bool, u32)| FailureFields {
            transport: transport.name().to_owned(),
            ipv6: *is_ipv6,
            failures: i64::from(*n),
        };
        HealthFields {
            last_used: self.last_used.map_or("", Transport::name).to_owned(),
            last_used_ipv6: self.last_used_ipv6,
            failures: self.failures.iter().take(MAX_ENTRIES).map(entry).collect(),
        }
        .to_json()
    }

    /// Reads what was stored. Entries that this version does not know are left out.
    pub fn from_json(text: &[u8]) -> Result<Self, JsonError> {
        let fields = HealthFields::from_json(text)?;
        let failures = fields
            .failures
            .iter()
            .take(MAX_ENTRIES)
            .filter_map(|entry| {
                let transport = Transport::from_name(&entry.transport)?;
                let n = u32::try_from(entry.failures).ok().filter(|n| *n > 0)?;
                Some((transport, entry.ipv6, n))
            });
        Ok(Self {
            last_used: Transport::from_name(&fields.last_used),
            last_used_ipv6: fields.last_used_ipv6,
            failures: failures.collect(),
        })
    }

    /// What is left of it after `age`: evidence does not last, what worked last is worth a try.
    #[must_use]
    pub fn aged(mut self, config: &Config, age: Duration) -> Self {
        if age >= config.health_life {
            self.failures.clear();
        }
        self
    }

    pub(crate) fn of(places: &[Place], last_used: Option<LastUsed>) -> Self {
        let failed = places.iter().filter(|place| place.n_failures > 0);
        let entry = |place: &Place| {
            let candidate = place.candidate;
            (candidate.transport, candidate.is_ipv6, place.n_failures)
        };
        Self {
            last_used: last_used.map(|last| last.transport),
            last_used_ipv6: last_used.is_some_and(|last| last.is_ipv6),
            failures: failed.map(entry).collect(),
        }
    }

    pub(crate) fn last_used(&self) -> Option<LastUsed> {
        self.last_used.map(|transport| LastUsed {
            transport,
            is_ipv6: self.last_used_ipv6,
        })
    }

    pub(crate) fn apply(&self, places: &mut [Place]) {
        for place in places {
            let Candidate {
                transport, is_ipv6, ..
            } = place.candidate;
            let known =
                |entry: &&(Transport, bool, u32)| (entry.0, entry.1) == (transport, is_ipv6);
            place.n_failures = self.failures.iter().find(known).map_or(0, |entry| entry.2);
        }
    }
}

/// What was in use last: the best to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastUsed {
    pub(crate) transport: Transport,
    pub(crate) is_ipv6: bool,
}

go_object! {
    struct HealthFields {
        last_used: String,
        last_used_ipv6: bool,
        failures: Vec<FailureFields>,
    }
}

go_object! {
    struct FailureFields {
        transport: String,
        ipv6: bool,
        failures: i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_survives_the_program_and_is_forgotten_with_time() {
        let health = Health {
            last_used: Some(Transport::Tcp),
            last_used_ipv6: true,
            failures: vec![(Transport::Quic, false, 4), (Transport::Kcp, true, 1)],
        };
        assert_eq!(Health::from_json(&health.to_json()), Ok(health.clone()));
        assert_eq!(Health::from_json(b"{}"), Ok(Health::default()));
        let odd = br#"{"last_used":"sctp","failures":[{"transport":"quic","failures":-1}]}"#;
        assert_eq!(Health::from_json(odd), Ok(Health::default()));

        let config = Config::default();
        let minutes = |n: u64| Duration::from_secs(60 * n);
        assert_eq!(health.clone().aged(&config, minutes(9)), health);
        let old = health.aged(&config, minutes(10));
        assert_eq!(
            (old.last_used, old.failures.len()),
            (Some(Transport::Tcp), 0)
        );
    }

    #[test]
    fn a_closed_candidate_is_tried_again_forever() {
        let config = Config::default();
        let mut now = crate::path::test_start();
        let mut place = Place::new(Candidate {
            transport: Transport::Quic,
            is_ipv6: false,
            is_fallback: false,
        });
        let mut waits = Vec::new();
        for _ in 0..40 {
            place.fail(&config, now, true, false);
            let next = place.retry_at().unwrap();
            waits.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(waits[..5], [30, 60, 120, 240, 300]);
        assert_eq!(waits[39], 300);

        place.fail(&config, now, true, true);
        assert!(
            !place.is_due(now + Duration::from_secs(3599)),
            "nobody is there"
        );
        place.wake();
        assert!(
            place.is_due(now + Duration::from_secs(300)),
            "a user has come"
        );
        place.retry_now();
        assert!(place.is_due(now), "the network has changed");
    }
}
