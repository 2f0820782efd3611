//! What the environment asks for.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// The settings of a run, as `make bench NAME=value` hands them on.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `QUICK=1`: short looks at a few cells. The documents are left alone.
    pub(crate) quick: bool,
    /// `ONLY=pattern`: only what has such a name.
    pub(crate) only: Option<Pattern>,
    /// `RUNS=n`: how many times each cell is measured.
    pub(crate) n_runs: usize,
    /// `LINKS=path,path`: profiles beside those of `configs/links`.
    pub(crate) links: Vec<PathBuf>,
    /// `FRESH=1`: measure also what has been measured with the same programs.
    pub(crate) fresh: bool,
    /// `PART=loopback`, `links`, `other`, `faults`, `switching`, `idle`, `load` or `metrics`: only
    /// that. All but the first two only run so.
    pub(crate) part: Part,
    /// `REPORT=1`: measure nothing, write the report from what has been kept.
    pub(crate) report_only: bool,
}

/// Which part of the benchmark runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    Loopback,
    Links,
    /// The links of `configs/links/other`, which no goal names.
    Other,
    Faults,
    Switching,
    /// What tunnels cost that nobody uses.
    Idle,
    /// What one server carries, and where it ends. `LOAD=1` asks for it as well.
    Load,
    /// What it costs to show metrics.
    Metrics,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            quick: false,
            only: None,
            n_runs: RUNS_DEFAULT,
            links: Vec::new(),
            fresh: false,
            part: Part::All,
            report_only: false,
        }
    }
}

impl Settings {
    pub(crate) fn from_env() -> Result<Self> {
        let quick = flag("QUICK");
        let n_runs = match text("RUNS") {
            Some(text) => text
                .parse()
                .with_context(|| format!("RUNS={text} is no number"))?,
            None if quick => 1,
            None => RUNS_DEFAULT,
        };
        ensure!(n_runs > 0, "RUNS=0 would measure nothing");
        let part = match text("PART").as_deref() {
            None if flag("LOAD") => Part::Load,
            None => Part::All,
            Some("loopback") => Part::Loopback,
            Some("links") => Part::Links,
            Some("other") => Part::Other,
            Some("faults") => Part::Faults,
            Some("switching") => Part::Switching,
            Some("idle") => Part::Idle,
            Some("load") => Part::Load,
            Some("metrics") => Part::Metrics,
            Some(other) => bail!(
                "PART={other}: there are loopback, links, other, faults, switching, idle, load and \
                 metrics"
            ),
        };
        let links = text("LINKS").unwrap_or_default();
        Ok(Self {
            quick,
            only: text("ONLY").map(|text| Pattern::new(&text)),
            n_runs,
            links: split(&links).map(PathBuf::from).collect(),
            fresh: flag("FRESH"),
            part,
            report_only: flag("REPORT"),
        })
    }

    /// Says whether `ONLY` leaves `name` in.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|pattern| pattern.matches(name))
    }
}

/// What `ONLY` asks for: a name, a name with `*` for any text, or a part of a name; several of them,
/// with commas or spaces between.
#[derive(Debug)]
pub(crate) struct Pattern {
    alternatives: Vec<String>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            alternatives: split(text).map(str::to_owned).collect(),
        }
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.alternatives
            .iter()
            .any(|alternative| match alternative.split_once('*') {
                None if is_whole_name(alternative) => name == alternative,
                None => name.contains(alternative.as_str()),
                Some((head, tail)) => name
                    .strip_prefix(head)
                    .is_some_and(|rest| tail_matches(tail, rest)),
            })
    }
}

/// Says whether somebody has taken the trouble to name all three parts.
fn is_whole_name(text: &str) -> bool {
    text.split('/').count() == 3
}

/// Says whether `rest` is any text followed by what `tail`, which may hold further stars, asks for.
fn tail_matches(tail: &str, rest: &str) -> bool {
    let Some((middle, tail)) = tail.split_once('*') else {
        return rest.ends_with(tail);
    };
    // The first place is enough: what follows it can only be more.
    rest.split_once(middle)
        .is_some_and(|(_, rest)| tail_matches(tail, rest))
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).filter(|part| !part.is_empty())
}

fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn flag(name: &str) -> bool {
    text(name).is_some_and(|value| value != "0")
}

/// Medians of three.
const RUNS_DEFAULT: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_with_stars_is_the_whole_name() {
        let pattern = Pattern::new("quic/loss-10/*");

        assert!(pattern.matches("quic/loss-10/bulk-down"));
        assert!(!pattern.matches("frp-quic/loss-10/bulk-down"));
        assert!(!pattern.matches("quic/loss-1/bulk-down"));
    }

    #[test]
    fn stars_may_stand_anywhere() {
        let pattern = Pattern::new("*quic/*/echo*");

        assert!(pattern.matches("quic/far/echo"));
        assert!(pattern.matches("frp-quic/burst/echo-beside"));
        assert!(!pattern.matches("quic/far/connect"));
        assert!(!Pattern::new("a*b*b").matches("a-b"));
    }

    #[test]
    fn a_pattern_without_a_star_is_a_part_of_the_name() {
        assert!(Pattern::new("loss-10").matches("kcp/loss-10/echo"));
        assert!(Pattern::new("kcp/far").matches("kcp/far/echo"));
    }

    #[test]
    fn a_whole_name_is_that_cell_alone() {
        let pattern = Pattern::new("quic/far/echo");

        assert!(pattern.matches("quic/far/echo"));
        assert!(!pattern.matches("quic/far/echo-beside-down"));
        assert!(!pattern.matches("frp-quic/far/echo"));
    }

    #[test]
    fn one_of_several_patterns_is_enough() {
        let pattern = Pattern::new("tcp/clean/*, kcp/*/echo");

        assert!(pattern.matches("kcp/clean/echo"));
        assert!(pattern.matches("tcp/clean/bulk-up"));
        assert!(!pattern.matches("kcp/clean/bulk-up"));
    }
}
