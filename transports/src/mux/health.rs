//! Pings: whether the peer is alive, and how far away it is.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Pings that wait to be answered. A peer that sends more before it reads gets answers to the
/// latest ones only.
const REPLIES_MAX: usize = 16;

/// While windows are adjusted, a round-trip time older than this is measured again.
const RTT_AGE_MAX: Duration = Duration::from_secs(2);

/// Pings closer together than this would be traffic, not care.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Between pings that nobody needs.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The pings of a carrier, both ways.
#[derive(Debug)]
pub(super) struct Health {
    interval: Duration,
    timeout: Duration,
    next_ping_at: Instant,
    next_id: u32,
    /// The last ping sent, while unanswered.
    outstanding: Option<(u32, Instant)>,
    /// When the first ping was sent that no answer has followed.
    unanswered_since: Option<Instant>,
    last_heard: Instant,
    measured_at: Option<Instant>,
    rtt: Option<Duration>,
    replies: VecDeque<u32>,
    /// Others look after the peer's life: pings only measure.
    is_watched: bool,
}

impl Health {
    /// The first ping is due at once: it measures the round trip.
    pub(super) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self {
            interval: interval.max(INTERVAL_MIN),
            timeout,
            next_ping_at: now,
            next_id: 0,
            outstanding: None,
            unanswered_since: None,
            last_heard: now,
            measured_at: None,
            rtt: None,
            replies: VecDeque::new(),
            is_watched: false,
        }
    }

    /// Others look after the peer's life from here on.
    pub(super) fn stop_asking(&mut self, now: Instant) {
        self.is_watched = true;
        self.interval = NEVER;
        self.next_ping_at = now + NEVER;
    }

    /// Bytes came, whatever they are: the peer lives.
    pub(super) fn handle_life(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// The peer asks.
    pub(super) fn handle_ping(&mut self, id: u32) {
        if self.replies.len() == REPLIES_MAX {
            self.replies.pop_front();
        }
        self.replies.push_back(id);
    }

    /// The peer answers. Answers to nothing are ignored.
    pub(super) fn handle_pong(&mut self, id: u32, now: Instant) {
        let Some((_, sent_at)) = self.outstanding.take_if(|(sent_id, _)| *sent_id == id) else {
            return;
        };
        let sample = now.saturating_duration_since(sent_at);
        self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        self.measured_at = Some(now);
        self.unanswered_since = None;
    }

    /// A window is being adjusted: an old round-trip time will not do.
    pub(super) fn want_fresh_rtt(&mut self, now: Instant) {
        let is_old = self.measured_at.is_none_or(|at| now >= at + RTT_AGE_MAX);
        if is_old && self.outstanding.is_none() {
            self.next_ping_at = now;
        }
    }

    /// Time passes. A ping that is due counts as asked even when it cannot be sent: a peer that
    /// takes nothing and sends nothing is as silent as one that does not answer.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if now >= self.next_ping_at {
            self.unanswered_since.get_or_insert(now);
        }
    }

    /// The next answer to send.
    pub(super) fn poll_reply(&mut self) -> Option<u32> {
        self.replies.pop_front()
    }

    /// The ping to send, if one is due.
    pub(super) fn poll_ping(&mut self, now: Instant) -> Option<u32> {
        if now < self.next_ping_at {
            return None;
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.next_ping_at = now + self.interval;
        self.outstanding = Some((id, now));
        self.unanswered_since.get_or_insert(now);
        Some(id)
    }

    /// When something is due: a ping, or the verdict. With `is_blocked` a ping that has become
    /// due cannot be sent, and only the verdict is still to come.
    pub(super) fn poll_timeout(&self, is_blocked: bool) -> Instant {
        match self.verdict_at() {
            Some(at) if is_blocked => at,
            Some(at) => at.min(self.next_ping_at),
            None => self.next_ping_at,
        }
    }

    /// Whether the peer has neither answered nor sent anything for too long.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.verdict_at().is_some_and(|at| now >= at)
    }

    /// How long a silent peer has been given.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The smoothed round-trip time.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    fn verdict_at(&self) -> Option<Instant> {
        let asked_at = self.unanswered_since.filter(|_| !self.is_watched)?;
        Some(asked_at.max(self.last_heard) + self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);
    const TIMEOUT: Duration = Duration::from_secs(10);

    #[test]
    fn a_peer_that_neither_answers_nor_sends_is_silent() {
        let start = Instant::now();
        let mut health = Health::new(INTERVAL, TIMEOUT, start);
        assert_eq!(health.poll_ping(start), Some(0));
        assert!(!health.is_silent(start + TIMEOUT - Duration::from_millis(1)));
        assert!(health.is_silent(start + TIMEOUT));
    }

    #[test]
    fn any_byte_is_a_sign_of_life() {
        let start = Instant::now();
        let mut health = Health::new(INTERVAL, TIMEOUT, start);
        health.poll_ping(start);
        health.handle_life(start + Duration::from_secs(6));
        assert!(!health.is_silent(start + TIMEOUT));
        assert!(health.is_silent(start + Duration::from_secs(16)));
    }

    #[test]
    fn unanswered_pings_in_a_row_do_not_put_off_the_verdict() {
        let start = Instant::now();
        let interval = Duration::from_secs(4);
        let mut health = Health::new(interval, TIMEOUT, start);
        for n in 0..3 {
            assert_eq!(health.poll_ping(start + interval * n), Some(n));
        }
        assert!(health.is_silent(start + TIMEOUT));
    }

    #[test]
    fn a_peer_that_takes_nothing_is_silent_too() {
        let start = Instant::now();
        let mut health = Health::new(INTERVAL, TIMEOUT, start);
        assert_eq!(health.poll_timeout(true), start);
        health.handle_timeout(start);
        assert_eq!(
            health.poll_timeout(true),
            start + TIMEOUT,
            "and until then nothing is due"
        );
        assert!(health.is_silent(start + TIMEOUT));
    }

    #[test]
    fn the_round_trip_is_from_ping_to_answer() {
        let start = Instant::now();
        let mut health = Health::new(INTERVAL, TIMEOUT, start);
        let id = health
            .poll_ping(start)
            .expect("the first ping is due at once");
        health.handle_pong(id.wrapping_add(9), start);
        assert_eq!(health.rtt(), None, "an answer to nothing");
        health.handle_pong(id, start + Duration::from_millis(80));
        assert_eq!(health.rtt(), Some(Duration::from_millis(80)));
        assert_eq!(health.poll_timeout(false), start + INTERVAL);
    }

    #[test]
    fn a_watched_peer_is_asked_only_for_the_round_trip_and_never_given_up() {
        let start = Instant::now();
        let mut health = Health::new(INTERVAL, TIMEOUT, start);
        assert_eq!(health.poll_ping(start), Some(0));
        health.stop_asking(start);
        let later = start + Duration::from_secs(24 * 3600);
        health.handle_timeout(later);
        assert_eq!(health.poll_ping(later), None);
        assert!(!health.is_silent(later) && health.poll_timeout(false) > later);

        health.handle_pong(0, later);
        let much_later = later + RTT_AGE_MAX;
        health.want_fresh_rtt(much_later);
        assert_eq!(
            health.poll_ping(much_later),
            Some(1),
            "a window is adjusted"
        );
        assert_eq!(health.poll_ping(much_later + INTERVAL), None);
    }

    #[test]
    fn a_flood_of_pings_is_answered_within_bounds() {
        let mut health = Health::new(INTERVAL, TIMEOUT, Instant::now());
        (0..1000).for_each(|id| health.handle_ping(id));
        let replies: Vec<u32> = std::iter::from_fn(|| health.poll_reply()).collect();
        assert_eq!(replies.len(), REPLIES_MAX);
        assert_eq!(replies.last(), Some(&999));
    }
}
