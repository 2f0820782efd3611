//! When to try again: decided without a clock and without randomness of its own.
//!
//! Two rules stand behind each other. [`Reconnect`] says how long to wait after a live session was
//! lost: a few quick tries a minute, so that a restarted server has its clients back at once, then
//! longer and longer. [`Backoff`] spaces the login attempts that fail.
//!
//! Every wait is jittered over its whole length, at the cap too: the clients of a server that comes
//! back must not arrive in lock-step.

use std::time::{Duration, Instant};

/// The wait between login attempts before the first login. frp's value.
pub const FIRST_LOGIN_CAP: Duration = Duration::from_secs(10);

/// The wait between login attempts after a session was lost. frp's value.
pub const RELOGIN_CAP: Duration = Duration::from_secs(20);

/// The first wait of a series. frp's value.
const BASE: Duration = Duration::from_secs(1);

/// The shortest wait: jitter over the whole length could otherwise become a busy loop.
const FLOOR: Duration = Duration::from_millis(200);

/// Waits that double from one second up to a cap.
#[derive(Clone, Debug)]
pub struct Backoff {
    ceiling: Duration,
    cap: Duration,
}

impl Backoff {
    /// Starts a series whose waits end at `cap`.
    pub fn new(cap: Duration) -> Self {
        Self { ceiling: BASE, cap }
    }

    /// The next wait: `random`, from 0 to 1, chooses its place between the floor and a ceiling
    /// that doubles with each call.
    pub fn next_wait(&mut self, random: f64) -> Duration {
        let ceiling = self.ceiling.min(self.cap);
        self.ceiling = ceiling.saturating_mul(2);
        jitter(ceiling, random)
    }
}

/// What to do after a live session was lost.
#[derive(Clone, Debug)]
pub struct Reconnect {
    /// The start of the minute in which quick tries are counted.
    window_start: Option<Instant>,
    n_quick: u32,
    backoff: Backoff,
}

impl Reconnect {
    /// No session has been lost yet.
    pub fn new() -> Self {
        Self {
            window_start: None,
            n_quick: 0,
            backoff: Backoff::new(RELOGIN_CAP),
        }
    }

    /// A session that was logged in is gone: how long to wait before the next login.
    pub fn handle_loss(&mut self, now: Instant, random: f64) -> Duration {
        let in_window = self
            .window_start
            .is_some_and(|start| now.saturating_duration_since(start) < QUICK_WINDOW);
        if !in_window {
            *self = Self {
                window_start: Some(now),
                ..Self::new()
            };
        }
        if self.n_quick < QUICK_TRIES {
            self.n_quick += 1;
            return QUICK_WAIT + QUICK_WAIT.mul_f64(random.clamp(0.0, 1.0) * QUICK_JITTER);
        }
        self.backoff.next_wait(random)
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self::new()
    }
}

/// How many sessions lost within [`QUICK_WINDOW`] are followed by a quick try. frp's value.
const QUICK_TRIES: u32 = 3;

/// The wait before a quick try. frp's value.
const QUICK_WAIT: Duration = Duration::from_millis(200);

/// The most that jitter adds to [`QUICK_WAIT`], as a part of it. frp's value.
const QUICK_JITTER: f64 = 0.5;

/// The time within which quick tries are counted. frp's value.
const QUICK_WINDOW: Duration = Duration::from_secs(60);

fn jitter(ceiling: Duration, random: f64) -> Duration {
    let floor = FLOOR.min(ceiling);
    floor + (ceiling - floor).mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_logins_are_spaced_wider_and_wider_up_to_the_cap() {
        let mut backoff = Backoff::new(FIRST_LOGIN_CAP);
        let longest: Vec<_> = (0..6).map(|_| backoff.next_wait(1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn jitter_is_kept_at_the_cap() {
        let mut backoff = Backoff::new(RELOGIN_CAP);
        for _ in 0..20 {
            backoff.next_wait(1.0);
        }
        assert_eq!(backoff.clone().next_wait(0.0), FLOOR);
        assert!(backoff.clone().next_wait(0.25) < backoff.clone().next_wait(0.75));
        assert_eq!(backoff.next_wait(1.0), RELOGIN_CAP);
    }

    #[test]
    fn three_losses_a_minute_are_followed_by_a_quick_try() {
        let start = Instant::now();
        let mut reconnect = Reconnect::new();
        for second in 0..3 {
            let wait = reconnect.handle_loss(start + Duration::from_secs(second), 1.0);
            assert_eq!(wait, Duration::from_millis(300));
        }
        let fourth = reconnect.handle_loss(start + Duration::from_secs(3), 1.0);
        let fifth = reconnect.handle_loss(start + Duration::from_secs(5), 1.0);
        assert_eq!((fourth.as_secs(), fifth.as_secs()), (1, 2));
    }

    #[test]
    fn a_minute_later_the_tries_are_quick_again() {
        let start = Instant::now();
        let mut reconnect = Reconnect::new();
        for _ in 0..10 {
            reconnect.handle_loss(start, 1.0);
        }
        let wait = reconnect.handle_loss(start + QUICK_WINDOW, 0.0);
        assert_eq!(wait, QUICK_WAIT);
    }
}
