//! One proxy's life as frpc sees it, told the time and what frps has answered.
//!
//! `new` -> NewProxy sent, `wait start` -> `running`, or `start error` and again after a while.
//! No answer at all: NewProxy is sent again. The owner calls [`ProxyState::poll`] every
//! [`TICK`] and sends what it returns.

use std::fmt;
use std::time::{Duration, Instant};

/// How often the owner asks [`ProxyState::poll`]. frp's value.
pub const TICK: Duration = Duration::from_secs(3);

/// How long frps has to answer a NewProxy before it is sent again. frp's value.
pub const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// How long after a refusal NewProxy is sent again. frp's value.
pub const RETRY_AFTER_ERROR: Duration = Duration::from_secs(30);

/// Where a proxy stands. The texts are frp's, shown by `frpc status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has been sent for it yet.
    New,
    /// NewProxy is sent; no answer yet.
    WaitStart,
    /// frps has refused it, with the text in [`ProxyState::error`].
    StartError,
    /// frps hands over its users.
    Running,
    /// It has been taken away.
    Closed,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::WaitStart => "wait start",
            Self::StartError => "start error",
            Self::Running => "running",
            Self::Closed => "closed",
        })
    }
}

/// What came of frps's answer to a NewProxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// frps refused, in these words.
    #[error("{0}")]
    Refused(String),
    /// The answer came when none was awaited; it changes nothing.
    #[error("status not wait start, ignore start message")]
    NotAwaited,
}

/// The state of one proxy.
#[derive(Clone, Debug)]
pub struct ProxyState {
    phase: Phase,
    error: String,
    remote_addr: String,
    /// When NewProxy was sent, or refused, last.
    since: Instant,
    /// Since when it runs, or does not.
    turned: Instant,
}

impl ProxyState {
    /// A proxy for which nothing has been sent.
    pub fn new(now: Instant) -> Self {
        Self {
            phase: Phase::New,
            error: String::new(),
            remote_addr: String::new(),
            since: now,
            turned: now,
        }
    }

    /// Whether NewProxy is to be sent now. The caller sends it when this says so.
    #[must_use]
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = match self.phase {
            Phase::New => true,
            Phase::WaitStart => now.saturating_duration_since(self.since) >= ANSWER_WAIT,
            Phase::StartError => now.saturating_duration_since(self.since) >= RETRY_AFTER_ERROR,
            Phase::Running | Phase::Closed => false,
        };
        if due {
            self.phase = Phase::WaitStart;
            self.since = now;
        }
        due
    }

    /// One that frps has refused is asked for at the next poll.
    pub fn retry(&mut self) {
        if self.phase == Phase::StartError {
            self.phase = Phase::New;
        }
    }

    /// frps has answered. An answer that is not awaited changes nothing.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        remote_addr: &str,
        error: &str,
    ) -> Result<(), StartError> {
        if self.phase != Phase::WaitStart {
            return Err(StartError::NotAwaited);
        }
        self.remote_addr = remote_addr.to_owned();
        self.error = error.to_owned();
        if !error.is_empty() {
            self.phase = Phase::StartError;
            self.since = now;
            return Err(StartError::Refused(error.to_owned()));
        }
        self.phase = Phase::Running;
        self.turned = now;
        Ok(())
    }

    /// The proxy is taken away.
    pub fn close(&mut self) {
        self.phase = Phase::Closed;
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Since when it runs, or does not, however often it was tried.
    pub fn turned(&self) -> Instant {
        self.turned
    }

    /// What frps said when it refused last; empty once it runs.
    pub fn error(&self) -> &str {
        &self.error
    }

    /// Where users reach it, as frps put it in its last answer.
    pub fn remote_addr(&self) -> &str {
        &self.remote_addr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_asked_for_once_and_runs_when_frps_agrees() {
        let now = Instant::now();
        let mut proxy = ProxyState::new(now);
        assert_eq!(proxy.phase().to_string(), "new");

        assert!(proxy.poll(now));
        assert!(!proxy.poll(now + TICK));
        assert_eq!(proxy.phase().to_string(), "wait start");

        assert_eq!(proxy.handle_answer(now, ":6000", ""), Ok(()));
        assert_eq!(proxy.phase().to_string(), "running");
        assert_eq!(proxy.remote_addr(), ":6000");
        assert!(!proxy.poll(now + Duration::from_secs(3600)));
    }

    #[test]
    fn without_an_answer_it_is_asked_for_again_after_twenty_seconds() {
        let now = Instant::now();
        let mut proxy = ProxyState::new(now);
        assert!(proxy.poll(now));
        assert!(!proxy.poll(now + Duration::from_secs(18)));
        assert!(proxy.poll(now + Duration::from_secs(21)));
        assert!(!proxy.poll(now + Duration::from_secs(24)));
    }

    #[test]
    fn a_refusal_is_shown_and_tried_again_after_thirty_seconds() {
        let now = Instant::now();
        let mut proxy = ProxyState::new(now);
        assert!(proxy.poll(now));
        let refused = proxy.handle_answer(now, "", "port already used");
        assert_eq!(
            refused,
            Err(StartError::Refused("port already used".to_owned()))
        );
        assert_eq!(proxy.phase().to_string(), "start error");
        assert_eq!(proxy.error(), "port already used");

        assert!(!proxy.poll(now + Duration::from_secs(29)));
        assert!(proxy.poll(now + Duration::from_secs(30)));
        assert_eq!(proxy.handle_answer(now, ":1", ""), Ok(()));
        assert_eq!(proxy.error(), "");
    }

    #[test]
    fn a_refused_proxy_can_be_asked_for_sooner() {
        let now = Instant::now();
        let mut proxy = ProxyState::new(now);
        assert!(proxy.poll(now));
        proxy.retry();
        assert!(!proxy.poll(now), "an answer is awaited");
        let _ = proxy.handle_answer(now, "", "port already used");
        proxy.retry();
        assert!(proxy.poll(now));
    }

    #[test]
    fn an_answer_nobody_waits_for_changes_nothing() {
        let now = Instant::now();
        let mut proxy = ProxyState::new(now);
        assert_eq!(
            proxy.handle_answer(now, ":1", ""),
            Err(StartError::NotAwaited)
        );
        assert!(proxy.poll(now));
        assert_eq!(proxy.handle_answer(now, ":1", ""), Ok(()));
        assert_eq!(
            proxy.handle_answer(now, "", "late"),
            Err(StartError::NotAwaited)
        );
        assert_eq!(proxy.phase(), Phase::Running);
        proxy.close();
        assert_eq!(
            proxy.handle_answer(now, ":1", ""),
            Err(StartError::NotAwaited)
        );
        assert_eq!(proxy.phase().to_string(), "closed");
    }
}
