//! What to do about trouble: pure, told what is seen at each look and when.
//!
//! Each kind of trouble has a ladder of steps, the mild ones first. A step has time to help; what is
//! still seen then gets the next one. At the top of the ladder it begins anew after a pause that
//! doubles. What users feel is done by one step at a time, and all steps together are bounded in
//! any hour. Trouble that is not seen twice in a row is over; what comes back soon goes on where its
//! ladder was.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use frp_core::config::{AlertLevel, RecoveryPart};

/// What can be wrong, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// There is no session.
    Login,
    /// There is one, and nothing moves.
    Stall,
    /// Users cannot be brought here: streams to the server cannot be opened.
    WorkConns,
    /// The server does not publish a proxy.
    Proxy,
    /// A local service takes nobody.
    Local,
    /// Many users are not served, for whatever reasons.
    Errors,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Login,
        Self::Stall,
        Self::WorkConns,
        Self::Proxy,
        Self::Local,
        Self::Errors,
    ];

    /// As in keys of alerts and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Stall => "stall",
            Self::WorkConns => "work_conns",
            Self::Proxy => "proxy",
            Self::Local => "local",
            Self::Errors => "errors",
        }
    }

    /// How bad it is once it is sure.
    fn level(self) -> AlertLevel {
        match self {
            Self::Login => AlertLevel::Critical,
            _ => AlertLevel::Warning,
        }
    }

    /// What is done about it. A local service, or a port that another client has, is not to be had by
    /// a new session, which would only cut off everybody else.
    fn ladder(self) -> &'static [RecoveryPart] {
        use RecoveryPart::{Login, Reprobe, Restart, Rollback, Switch};
        match self {
            // Logging in is what goes on all the time.
            Self::Login => &[Reprobe, Restart, Rollback],
            Self::Stall | Self::WorkConns => &[Reprobe, Switch, Login, Restart, Rollback],
            Self::Proxy | Self::Local => &[Reprobe, Rollback],
            Self::Errors => &[Reprobe],
        }
    }
}

/// Something that is wrong at a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// What kind.
    pub trouble: Trouble,
    /// Which proxy, or empty.
    pub subject: String,
    /// In a sentence.
    pub text: String,
}

/// Which steps can be taken.
#[derive(Clone, Debug, Default)]
pub struct Means {
    /// Those that are on, and have something to do.
    pub steps: BTreeSet<RecoveryPart>,
    /// The last configuration that worked has other settings for all.
    pub rollback_changes_all: bool,
    /// The proxies that it has otherwise.
    pub rollback_changes: BTreeSet<String>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// This step.
    Step {
        /// Which.
        step: RecoveryPart,
        /// For what.
        trouble: Trouble,
        /// Which proxy, or empty.
        subject: String,
        /// What is wrong.
        text: String,
    },
    /// Somebody may want to know.
    Raise {
        /// Names the trouble.
        key: String,
        /// How bad it is.
        level: AlertLevel,
        /// What is wrong.
        text: String,
    },
    /// It is over.
    Resolve {
        /// Names the trouble.
        key: String,
        /// What was wrong.
        text: String,
    },
}

/// Looks from time to time.
#[derive(Debug)]
pub struct Watch {
    interval: Duration,
    steps_per_hour: usize,
    cases: BTreeMap<(Trouble, String), Case>,
    /// When steps were taken in the last hour.
    taken: VecDeque<Instant>,
    /// What users feel is not done again before.
    settled_at: Option<Instant>,
    is_spent: bool,
}

#[derive(Clone, Debug)]
struct Case {
    text: String,
    /// Looks in a row at which it was seen.
    n_seen: u32,
    /// Looks in a row at which it was not.
    n_unseen: u32,
    /// The next step of the ladder.
    rung: usize,
    /// How often the top was reached.
    round: u32,
    next_at: Instant,
    /// Since when it is over.
    over_at: Option<Instant>,
}

/// One trouble, for the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseView {
    /// What kind.
    pub trouble: Trouble,
    /// Which proxy, or empty.
    pub subject: String,
    /// In a sentence.
    pub text: String,
    /// Looks in a row at which it was seen.
    pub n_seen: u32,
    /// Steps of its ladder that were tried.
    pub rung: usize,
}

/// Looks after which trouble is sure, and after which it is over: one is chance.
const SURE: u32 = 2;

/// Troubles at once, each proxy's counted by itself. At the bound further ones wait until others are
/// over: somebody was told of these.
const MAX_CASES: usize = 64;

/// How long a ladder is remembered when trouble is over: what comes back sooner is the same.
const MEMORY: Duration = Duration::from_secs(30 * 60);

/// The first pause at the top of a ladder, in looks; it doubles.
const PAUSE_LOOKS: u32 = 10;

/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(2 * 3600);

/// What the bound on steps is about.
const HOUR: Duration = Duration::from_secs(3600);

/// The key of the alert that no more steps may be taken.
const BUDGET: &str = "recovery_budget";

impl Watch {
    /// Looks every `interval`, and takes at most `steps_per_hour` steps in any hour.
    pub fn new(interval: Duration, steps_per_hour: usize) -> Self {
        Self {
            interval,
            steps_per_hour,
            cases: BTreeMap::new(),
            taken: VecDeque::new(),
            settled_at: None,
            is_spent: false,
        }
    }

    /// Decides by what is to be seen at `now`.
    pub fn look(&mut self, now: Instant, sights: &[Sight], means: &Means) -> Vec<Act> {
        let mut acts = Vec::new();
        self.forget(now, &mut acts);
        let seen = self.note(now, sights);
        for key in &seen {
            let Some(case) = self.cases.get(key) else {
                continue;
            };
            let level = match case.n_seen >= SURE {
                true => key.0.level(),
                false => AlertLevel::Info,
            };
            acts.push(Act::Raise {
                key: key_text(key),
                level,
                text: case.text.clone(),
            });
            self.climb(now, key, means, &mut acts);
        }
        for (key, case) in &mut self.cases {
            if seen.contains(key) || case.over_at.is_some() {
                continue;
            }
            case.n_unseen += 1;
            case.n_seen = 0;
            if case.n_unseen >= SURE {
                case.over_at = Some(now);
                acts.push(Act::Resolve {
                    key: key_text(key),
                    text: format!("over: {}", case.text),
                });
            }
        }
        acts
    }

    /// What is wrong at the moment.
    pub fn cases(&self) -> Vec<CaseView> {
        let open = self.cases.iter().filter(|(_, case)| case.over_at.is_none());
        open.map(|((trouble, subject), case)| CaseView {
            trouble: *trouble,
            subject: subject.clone(),
            text: case.text.clone(),
            n_seen: case.n_seen,
            rung: case.rung,
        })
        .collect()
    }

    /// Steps that were taken in the last hour.
    pub fn n_taken(&self) -> usize {
        self.taken.len()
    }

    fn forget(&mut self, now: Instant, acts: &mut Vec<Act>) {
        let since = |at: Instant| now.saturating_duration_since(at);
        self.cases
            .retain(|_, case| case.over_at.is_none_or(|at| since(at) < MEMORY));
        while self.taken.front().is_some_and(|at| since(*at) >= HOUR) {
            self.taken.pop_front();
        }
        if self.is_spent && self.taken.len() < self.steps_per_hour {
            self.is_spent = false;
            acts.push(Act::Resolve {
                key: BUDGET.to_owned(),
                text: "over: steps may be taken again".to_owned(),
            });
        }
    }

    /// Takes down what is seen, and returns the keys, the worst first.
    fn note(&mut self, now: Instant, sights: &[Sight]) -> BTreeSet<(Trouble, String)> {
        let mut seen = BTreeSet::new();
        for sight in sights {
            let key = (sight.trouble, sight.subject.clone());
            if !self.cases.contains_key(&key) && self.cases.len() >= MAX_CASES {
                continue;
            }
            let case = self.cases.entry(key.clone()).or_insert_with(|| Case {
                text: String::new(),
                n_seen: 0,
                n_unseen: 0,
                rung: 0,
                round: 0,
                next_at: now,
                over_at: None,
            });
            case.text.clone_from(&sight.text);
            case.n_seen = case.n_seen.saturating_add(1);
            case.n_unseen = 0;
            case.over_at = None;
            seen.insert(key);
        }
        seen
    }

    /// Takes the next step of a ladder, if its time has come.
    fn climb(&mut self, now: Instant, key: &(Trouble, String), means: &Means, acts: &mut Vec<Act>) {
        let (trouble, subject) = key;
        let interval = self.interval;
        let Some(case) = self.cases.get_mut(key) else {
            return;
        };
        if now < case.next_at {
            return;
        }
        let ladder = trouble.ladder().iter().enumerate().skip(case.rung);
        let mut possible = ladder.filter(|(_, step)| {
            means.steps.contains(step)
                && (**step != RecoveryPart::Rollback || means.rolls_back(*trouble, subject))
        });
        let Some((rung, step)) = possible.next().map(|(rung, step)| (rung, *step)) else {
            let pause = interval * PAUSE_LOOKS;
            let doubled = pause.saturating_mul(2_u32.saturating_pow(case.round));
            case.next_at = now + doubled.min(MAX_PAUSE);
            case.round = case.round.saturating_add(1);
            case.rung = 0;
            return;
        };
        let is_felt = step != RecoveryPart::Reprobe;
        if is_felt && self.settled_at.is_some_and(|at| now < at) {
            return;
        }
        // Looking once more is no step.
        if is_felt && self.taken.len() >= self.steps_per_hour {
            if !self.is_spent {
                self.is_spent = true;
                acts.push(Act::Raise {
                    key: BUDGET.to_owned(),
                    level: AlertLevel::Warning,
                    text: format!(
                        "{} steps were taken within an hour: nothing more is done until there \
                         were fewer",
                        self.taken.len()
                    ),
                });
            }
            return;
        }
        // Half an interval less: looks are not to the millisecond.
        let patience = interval * looks_of(step) - interval / 2;
        case.rung = rung + 1;
        case.next_at = now + patience;
        if is_felt {
            self.taken.push_back(now);
            self.settled_at = Some(now + patience);
        }
        acts.push(Act::Step {
            step,
            trouble: *trouble,
            subject: subject.clone(),
            text: case.text.clone(),
        });
    }
}

impl Means {
    fn rolls_back(&self, trouble: Trouble, subject: &str) -> bool {
        match trouble {
            Trouble::Proxy | Trouble::Local => self.rollback_changes.contains(subject),
            _ => self.rollback_changes_all,
        }
    }
}

/// How many looks a step has to help.
fn looks_of(step: RecoveryPart) -> u32 {
    match step {
        RecoveryPart::Reprobe => 1,
        RecoveryPart::Switch | RecoveryPart::Login => 2,
        _ => 3,
    }
}

fn key_text((trouble, subject): &(Trouble, String)) -> String {
    match subject.as_str() {
        "" => trouble.name().to_owned(),
        subject => format!("{}:{subject}", trouble.name()),
    }
}

#[cfg(test)]
mod tests;
