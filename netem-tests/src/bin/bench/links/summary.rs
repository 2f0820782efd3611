//! The medians of all runs, and goodput in units of what the link could carry.

use super::cell::{self, Kind, Way};
use super::link::Link;
use super::metric::Metric;
use super::records::{Outcome, Record, Records};
use super::stats::Spread;
use super::subject::{BARE, Subject};

/// What is known of all cells.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    records: &'a Records,
    pub(crate) subjects: &'a [Subject],
    pub(crate) links: &'a [Link],
}

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Known {
    /// Nobody has looked.
    Nothing,
    /// In most runs nothing moved.
    Stalled,
    /// It has been measured.
    Value(Spread),
}

impl Known {
    /// Returns the value, if there is one.
    pub(crate) fn value(self) -> Option<Spread> {
        match self {
            Self::Value(value) => Some(value),
            Self::Nothing | Self::Stalled => None,
        }
    }
}

impl<'a> Summary<'a> {
    pub(crate) fn new(records: &'a Records, subjects: &'a [Subject], links: &'a [Link]) -> Self {
        Self {
            records,
            subjects,
            links,
        }
    }

    /// Returns our transports, in the order of the report.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &'a Subject> {
        self.subjects.iter().filter(|subject| subject.is_ours())
    }

    /// Returns ours that chooses its transport by itself.
    pub(crate) fn auto(&self) -> impl Iterator<Item = &'a Subject> {
        self.ours().filter(|subject| subject.is_auto())
    }

    /// Returns frp's, if they are measured.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &'a Subject> {
        self.subjects.iter().filter(|subject| subject.is_peer())
    }

    /// Returns each link in each direction.
    pub(crate) fn links_and_ways(&self) -> impl Iterator<Item = (&'a Link, Way)> {
        let links = self.links.iter();
        links.flat_map(|link| Way::BOTH.map(|way| (link, way)))
    }

    /// Returns the link of that name, if it is measured.
    pub(crate) fn link(&self, name: &str) -> Option<&'a Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// Returns the median of a value and its spread.
    pub(crate) fn known(&self, subject: &str, link: &str, kind: Kind, metric: Metric) -> Known {
        of_runs(&self.records.of(&cell::name(subject, link, kind)), metric)
    }

    /// Returns the sum of a value over all rounds.
    pub(crate) fn sum(&self, subject: &str, link: &str, kind: Kind, metric: Metric) -> Option<f64> {
        let runs = self.records.of(&cell::name(subject, link, kind));
        let values: Vec<f64> = runs.iter().filter_map(|run| value(run, metric)).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Returns the smaller of the shares of a tunnel and of the flow beside it, of each run.
    pub(crate) fn smaller_share(&self, subject: &str, link: &str, way: Way) -> Option<Spread> {
        let runs = self
            .records
            .of(&cell::name(subject, link, Kind::Fairness(way)));
        let shares: Vec<f64> = runs
            .iter()
            .filter_map(|run| match run.outcome {
                Outcome::Stalled(_) => Metric::Share.of_a_stall(),
                _ => value(run, Metric::Share),
            })
            .map(|share| share.min(1.0 - share))
            .collect();
        Spread::of(&shares, Metric::Share.more_is_better())
    }

    /// Returns what bare TCP carries over the link without its faults, in Mbit/s: the most of all
    /// rounds, since what disturbs a round only ever takes away.
    pub(crate) fn rate(&self, link: &Link, way: Way) -> Option<f64> {
        let link = link.rate_link(self.links);
        self.known(BARE, &link.name, Kind::Rate(way), Metric::GoodputMbit)
            .value()
            .map(|rate| rate.max)
    }

    /// Returns a goodput in units of (1 - loss) x rate.
    pub(crate) fn relative(
        &self,
        subject: &str,
        link: &Link,
        kind: Kind,
        metric: Metric,
        way: Way,
    ) -> Known {
        match (
            self.known(subject, &link.name, kind, metric),
            self.rate(link, way),
        ) {
            (Known::Value(goodput), Some(rate)) => {
                Known::Value(goodput.scaled(1.0 / (rate * link.pass_share(way))))
            }
            (Known::Stalled, _) => Known::Stalled,
            _ => Known::Nothing,
        }
    }
}

fn of_runs(runs: &[&Record], metric: Metric) -> Known {
    let values: Vec<f64> = runs
        .iter()
        .filter_map(|run| match run.outcome {
            Outcome::Stalled(_) => metric.of_a_stall(),
            _ => value(run, metric),
        })
        .collect();
    let n_stalled = runs
        .iter()
        .filter(|run| matches!(run.outcome, Outcome::Stalled(_)))
        .count();
    if n_stalled * 2 > runs.len() {
        return Known::Stalled;
    }
    match Spread::of(&values, metric.more_is_better()) {
        Some(spread) if spread.median.is_finite() => Known::Value(spread),
        Some(_endless) => Known::Stalled,
        None => Known::Nothing,
    }
}

fn value(run: &Record, metric: Metric) -> Option<f64> {
    match &run.outcome {
        Outcome::Measured(values) => values.get(metric.key()).copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_stalled_run_counts_as_nothing_delivered() {
        let runs = [goodput(80.0), stalled(), goodput(82.0)];

        let known = of_runs(&runs.each_ref(), Metric::GoodputMbit);

        let value = known.value().unwrap();
        assert_eq!((value.min, value.median, value.n), (0.0, 80.0, 3));
    }

    #[test]
    fn a_cell_whose_runs_mostly_stalled_has_no_value() {
        let runs = [stalled(), goodput(80.0), stalled()];

        assert_eq!(
            of_runs(&runs.each_ref(), Metric::GoodputMbit),
            Known::Stalled
        );
        assert_eq!(of_runs(&runs.each_ref(), Metric::CpuPerGib), Known::Stalled);
    }

    #[test]
    fn a_cell_that_nobody_measured_is_not_a_stalled_one() {
        assert_eq!(of_runs(&[], Metric::GoodputMbit), Known::Nothing);
        let runs = [goodput(80.0)];
        assert_eq!(of_runs(&runs.each_ref(), Metric::P99Ms), Known::Nothing);
    }

    fn goodput(mbit: f64) -> Record {
        record(Outcome::Measured(BTreeMap::from([(
            Metric::GoodputMbit.key().to_owned(),
            mbit,
        )])))
    }

    fn stalled() -> Record {
        record(Outcome::Stalled("nothing arrived".to_owned()))
    }

    fn record(outcome: Outcome) -> Record {
        Record {
            cell: "quic/clean/bulk-down".to_owned(),
            round: 1,
            key: String::new(),
            build: String::new(),
            seed: 1,
            at: 1,
            outcome,
            notes: Vec::new(),
        }
    }
}
