//! What is wrong at the moment, and who has been told of it: pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use frp_core::config::AlertLevel;

use super::ActiveStatus;

/// When somebody is told.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// From this level on.
    pub level: AlertLevel,
    /// How long the same is not told again.
    pub repeat: Duration,
}

/// All that is wrong.
#[derive(Debug)]
pub struct Book {
    rules: Vec<Rule>,
    active: BTreeMap<String, Active>,
}

#[derive(Debug)]
struct Active {
    level: AlertLevel,
    summary: String,
    since: i64,
    /// For each rule, what was told last and when.
    told: Vec<Option<(AlertLevel, Instant)>>,
}

/// What is to be told, and to whom: positions of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The highest so far.
    pub level: AlertLevel,
    /// In a sentence.
    pub summary: String,
    /// When it began, in seconds since 1970.
    pub since: i64,
    /// Whom to tell.
    pub sinks: Vec<usize>,
}

/// Troubles at once. At the bound further ones are not told: somebody looks already.
const MAX_ACTIVE: usize = 256;

/// Of a summary, which may hold what a server said.
const MAX_SUMMARY_LEN: usize = 1000;

impl Book {
    /// Nothing is wrong yet.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self {
            rules,
            active: BTreeMap::new(),
        }
    }

    /// `key` is wrong, or still is.
    pub fn raise(
        &mut self,
        now: Instant,
        unix_now: i64,
        key: &str,
        level: AlertLevel,
        summary: &str,
    ) -> Option<Told> {
        if !self.active.contains_key(key) && self.active.len() >= MAX_ACTIVE {
            return None;
        }
        let n_rules = self.rules.len();
        let active = self.active.entry(key.to_owned()).or_insert_with(|| Active {
            level,
            summary: String::new(),
            since: unix_now,
            told: vec![None; n_rules],
        });
        active.level = active.level.max(level);
        active.summary = summary.chars().take(MAX_SUMMARY_LEN).collect();
        let mut sinks = Vec::new();
        for (idx, (rule, told)) in self.rules.iter().zip(&mut active.told).enumerate() {
            let is_new = match *told {
                None => true,
                Some((level, at)) => {
                    active.level > level || now.saturating_duration_since(at) >= rule.repeat
                }
            };
            if active.level >= rule.level && is_new {
                *told = Some((active.level, now));
                sinks.push(idx);
            }
        }
        (!sinks.is_empty()).then(|| Told {
            level: active.level,
            summary: active.summary.clone(),
            since: active.since,
            sinks,
        })
    }

    /// `key` is over.
    pub fn resolve(&mut self, key: &str, summary: &str) -> Option<Told> {
        let active = self.active.remove(key)?;
        let told = active.told.iter().enumerate();
        let sinks: Vec<usize> = told.filter_map(|(idx, told)| told.map(|_| idx)).collect();
        (!sinks.is_empty()).then(|| Told {
            level: active.level,
            summary: summary.chars().take(MAX_SUMMARY_LEN).collect(),
            since: active.since,
            sinks,
        })
    }

    /// All that is wrong, by key.
    pub fn active(&self) -> Vec<ActiveStatus> {
        let active = self.active.iter();
        active
            .map(|(key, active)| ActiveStatus {
                key: key.clone(),
                level: active.level.name().to_owned(),
                summary: active.summary.clone(),
                since: active.since,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AlertLevel::{Critical, Info, Warning};

    const HOUR: Duration = Duration::from_secs(3600);

    fn book() -> Book {
        let rule = |level| Rule {
            level,
            repeat: HOUR,
        };
        Book::new(vec![rule(Info), rule(Warning), rule(Critical)])
    }

    fn sinks(told: Option<Told>) -> Vec<usize> {
        told.map_or_else(Vec::new, |told| told.sinks)
    }

    #[test]
    fn the_same_is_told_once_and_again_after_its_time() {
        let (mut book, now) = (book(), Instant::now());
        assert_eq!(sinks(book.raise(now, 1, "login", Warning, "no")), [0, 1]);
        let later = now + HOUR / 2;
        assert_eq!(book.raise(later, 2, "login", Warning, "still no"), None);
        let told = book.raise(now + HOUR, 3, "login", Warning, "still no");
        assert_eq!(sinks(told.clone()), [0, 1]);
        assert_eq!(told.map(|told| told.since), Some(1));
    }

    #[test]
    fn what_gets_worse_is_told_at_once_and_what_gets_better_is_not() {
        let (mut book, now) = (book(), Instant::now());
        assert_eq!(sinks(book.raise(now, 1, "login", Info, "")), [0]);
        assert_eq!(sinks(book.raise(now, 1, "login", Critical, "")), [0, 1, 2]);
        assert_eq!(book.raise(now, 1, "login", Warning, ""), None);
    }

    #[test]
    fn the_end_is_told_to_those_who_know_the_beginning() {
        let (mut book, now) = (book(), Instant::now());
        book.raise(now, 1, "login", Warning, "no");
        let told = book.resolve("login", "it works");
        assert_eq!(sinks(told.clone()), [0, 1]);
        assert_eq!(told.map(|told| told.summary), Some("it works".to_owned()));
        assert_eq!(book.resolve("login", "it works"), None);
        assert_eq!(sinks(book.raise(now, 9, "login", Warning, "no")), [0, 1]);
    }

    #[test]
    fn troubles_without_end_are_cut() {
        let (mut book, now) = (book(), Instant::now());
        for n in 0..MAX_ACTIVE {
            assert!(book.raise(now, 1, &n.to_string(), Info, "").is_some());
        }
        assert_eq!(book.raise(now, 1, "one more", Critical, ""), None);
        assert_eq!(book.active().len(), MAX_ACTIVE);
        book.resolve("0", "");
        assert!(book.raise(now, 1, "one more", Critical, "").is_some());
    }
}
