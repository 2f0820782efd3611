//! Whether a new configuration works: pure, told what is seen and when.
//!
//! A version is on trial from when it was applied. It *works* when the session has lasted for the
//! time it has for that and every proxy that ran before, and is still wanted, runs. It is *lost* as
//! soon as frps has refused such a proxy, or the session breaks over and over; at the end of the
//! time also when one does not run for other reasons. A network that is away says nothing about a
//! configuration that was reloaded: the time stands still while there is no session. A program that
//! was started and cannot log in at all is another matter: that is told apart as [`Verdict::NoLogin`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// One version on trial.
#[derive(Clone, Debug)]
pub struct Trial {
    required: BTreeSet<String>,
    patience: Duration,
    /// How long the session has been there.
    lasted: Duration,
    /// When it was looked at last.
    looked_at: Instant,
    began_at: Instant,
    /// The session was there when it was looked at last.
    had_session: bool,
    /// There was a session at some time.
    has_logged_in: bool,
    n_breaks: u32,
}

/// What there is to see.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Whether there is a session.
    pub has_session: bool,
    /// Sessions that have broken since the version was applied.
    pub n_breaks: u32,
    /// Where each proxy stands.
    pub proxies: BTreeMap<String, ProxySeen>,
}

/// Where a proxy stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxySeen {
    /// Users are served.
    Running,
    /// frps has not answered yet.
    Waiting,
    /// frps has refused it, in these words.
    Refused(String),
    /// frps hands over users, and the local service, which the new configuration has moved, does
    /// not take them.
    LocalDown(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Wait,
    /// It works.
    Works,
    /// It does not, for this reason.
    Lost(String),
    /// It has not logged in.
    NoLogin,
}

impl Trial {
    /// A trial of a version that was reloaded at `now`. `required` are the proxies that ran before
    /// and are still wanted.
    pub fn reload(
        now: Instant,
        patience: Duration,
        required: BTreeSet<String>,
        had_session: bool,
    ) -> Self {
        Self {
            required,
            patience,
            lasted: Duration::ZERO,
            looked_at: now,
            began_at: now,
            had_session,
            has_logged_in: true,
            n_breaks: 0,
        }
    }

    /// A trial of a version that a program was started with.
    pub fn start(now: Instant, patience: Duration, required: BTreeSet<String>) -> Self {
        Self {
            has_logged_in: false,
            ..Self::reload(now, patience, required, false)
        }
    }

    /// When it began, which tells one trial from the next.
    pub fn began_at(&self) -> Instant {
        self.began_at
    }

    /// The proxies that have to run.
    pub fn required(&self) -> &BTreeSet<String> {
        &self.required
    }

    /// What is left of the time that the version has to show that it works, at best.
    pub fn left(&self) -> Duration {
        self.patience.saturating_sub(self.lasted)
    }

    /// Decides by what is to be seen at `now`.
    pub fn look(&mut self, now: Instant, seen: &Seen) -> Verdict {
        let passed = now.saturating_duration_since(self.looked_at);
        self.looked_at = now;
        self.n_breaks = seen.n_breaks;
        if self.had_session && seen.has_session {
            self.lasted += passed;
        }
        self.had_session = seen.has_session;
        self.has_logged_in |= seen.has_session;
        if self.n_breaks >= MAX_BREAKS {
            let reason = format!("the session with the server broke {} times", self.n_breaks);
            return Verdict::Lost(reason);
        }
        if !self.has_logged_in {
            let waited = now.saturating_duration_since(self.began_at);
            return match waited >= self.patience {
                true => Verdict::NoLogin,
                false => Verdict::Wait,
            };
        }
        if !seen.has_session {
            return Verdict::Wait;
        }
        let is_over = self.lasted >= self.patience;
        let failing = self.required.iter().filter_map(|name| {
            let why = match seen.proxies.get(name) {
                Some(ProxySeen::Running) => return None,
                Some(ProxySeen::Refused(text)) => (true, format!("the server refuses it: {text}")),
                Some(ProxySeen::LocalDown(text)) => (is_over, text.clone()),
                Some(ProxySeen::Waiting) => (is_over, "the server does not answer".to_owned()),
                None => (is_over, "it is gone".to_owned()),
            };
            why.0.then(|| format!("proxy {name} ran before: {}", why.1))
        });
        let failing: Vec<String> = failing.take(MAX_REASONS).collect();
        if !failing.is_empty() {
            return Verdict::Lost(failing.join("; "));
        }
        match is_over {
            true => Verdict::Works,
            false => Verdict::Wait,
        }
    }
}

/// Sessions that may break during a trial. A link that flaps breaks one or two.
const MAX_BREAKS: u32 = 3;

/// Proxies that a reason names.
const MAX_REASONS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A trial that is looked at every second.
    struct Run {
        trial: Trial,
        now: Instant,
        seen: Seen,
    }

    impl Run {
        fn new(required: &[&str], had_session: bool) -> Self {
            let now = Instant::now();
            let required = required.iter().map(ToString::to_string).collect();
            let mut run = Self {
                trial: match had_session {
                    true => Trial::reload(now, PATIENCE, required, true),
                    false => Trial::start(now, PATIENCE, required),
                },
                now,
                seen: Seen::default(),
            };
            run.seen.has_session = had_session;
            run
        }

        fn proxy(&mut self, name: &str, seen: ProxySeen) {
            self.seen.proxies.insert(name.to_owned(), seen);
        }

        /// Looks each second until something is decided, and returns that and the seconds.
        fn until_decided(&mut self, limit: u64) -> (Verdict, u64) {
            for second in 0..=limit {
                let verdict = self.trial.look(self.now, &self.seen);
                if verdict != Verdict::Wait {
                    return (verdict, second);
                }
                self.now += Duration::from_secs(1);
            }
            (Verdict::Wait, limit)
        }
    }

    #[test]
    fn a_version_whose_proxies_run_for_the_whole_time_works() {
        let mut run = Run::new(&["ssh"], true);
        run.proxy("ssh", ProxySeen::Running);
        assert_eq!(run.until_decided(100), (Verdict::Works, 30));
    }

    #[test]
    fn a_refusal_of_a_proxy_that_ran_decides_at_once() {
        let mut run = Run::new(&["ssh"], true);
        run.proxy("ssh", ProxySeen::Waiting);
        assert_eq!(run.until_decided(2).0, Verdict::Wait);
        run.proxy("ssh", ProxySeen::Refused("port already used".to_owned()));
        let (verdict, second) = run.until_decided(100);
        let reason = "proxy ssh ran before: the server refuses it: port already used";
        assert_eq!((verdict, second), (Verdict::Lost(reason.to_owned()), 0));
    }

    #[test]
    fn a_new_proxy_that_is_refused_takes_nothing_back() {
        let mut run = Run::new(&["ssh"], true);
        run.proxy("ssh", ProxySeen::Running);
        run.proxy("new", ProxySeen::Refused("port not allowed".to_owned()));
        assert_eq!(run.until_decided(100), (Verdict::Works, 30));
    }

    #[test]
    fn a_local_service_and_an_answer_have_the_whole_time() {
        for seen in [
            ProxySeen::LocalDown("nobody listens".to_owned()),
            ProxySeen::Waiting,
        ] {
            let mut run = Run::new(&["ssh"], true);
            run.proxy("ssh", seen);
            let (verdict, second) = run.until_decided(100);
            assert!(matches!(verdict, Verdict::Lost(_)), "{verdict:?}");
            assert_eq!(second, 30);
        }
    }

    #[test]
    fn a_network_that_is_away_says_nothing_about_a_reload() {
        let mut run = Run::new(&["ssh"], true);
        run.proxy("ssh", ProxySeen::Running);
        assert_eq!(run.until_decided(9).0, Verdict::Wait);
        run.seen.has_session = false;
        assert_eq!(run.until_decided(3600).0, Verdict::Wait);
        run.seen.has_session = true;
        let (verdict, second) = run.until_decided(100);
        assert_eq!(verdict, Verdict::Works);
        assert!((19..=22).contains(&second), "{second} more seconds");
    }

    #[test]
    fn a_configuration_that_breaks_every_session_is_lost() {
        let mut run = Run::new(&[], true);
        run.seen.n_breaks = 2;
        assert_eq!(run.until_decided(5).0, Verdict::Wait);
        run.seen.n_breaks = 3;
        assert!(matches!(run.until_decided(5).0, Verdict::Lost(_)));
    }

    #[test]
    fn a_start_that_cannot_log_in_is_told_apart() {
        let mut run = Run::new(&["ssh"], false);
        assert_eq!(run.until_decided(100), (Verdict::NoLogin, 30));
    }

    #[test]
    fn a_start_that_logs_in_late_has_the_whole_time_from_there() {
        let mut run = Run::new(&["ssh"], false);
        run.proxy("ssh", ProxySeen::Running);
        assert_eq!(run.until_decided(28).0, Verdict::Wait);
        run.seen.has_session = true;
        let (verdict, second) = run.until_decided(100);
        assert_eq!((verdict, second), (Verdict::Works, 30));
    }
}
