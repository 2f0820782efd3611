//! A row of the table of goals: bounds, a value, and whether it is where it should be.

use super::super::stats::Spread;
use super::super::subject::Subject;

/// A row of the table of goals.
#[derive(Debug)]
pub(crate) struct Row {
    pub(super) what: String,
    pub(super) goal: Bound,
    pub(super) least: Bound,
    pub(super) unit: Unit,
    /// Ours.
    pub(super) reached: Option<Reached>,
    /// Ours, choosing the transport by itself.
    pub(super) auto: Option<Reached>,
    /// frp's.
    pub(super) peer: Option<Reached>,
}

/// A bound, and how the design words it.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    value: f64,
    words: String,
}

/// How values of a row are written, and which are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A share: more is better.
    Share,
    /// Milliseconds: less is better.
    Ms,
    /// A ratio of which less is better.
    Ratio,
    /// A count of which less is better.
    Count,
    /// Percent of which less is better.
    Percent,
}

/// A value and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    pub(super) value: Spread,
    pub(super) by: String,
}

/// Whether a value is where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Goal,
    Least,
    Missed,
    NotMeasured,
}

impl Row {
    /// Returns the cells of the row, as in [`head`].
    pub(crate) fn cells(&self) -> Vec<String> {
        let write = |reached: &Option<Reached>| {
            reached.as_ref().map_or_else(String::new, |reached| {
                let by = &reached.by;
                let value = self.unit.write(reached.value.median);
                format!("{value} {by}").trim_end().to_owned()
            })
        };
        let spread = self.reached.as_ref().map_or_else(String::new, |reached| {
            let value = reached.value;
            if value.n < 2 {
                return String::new();
            }
            let (min, max) = (self.unit.write(value.min), self.unit.write(value.max));
            format!("{min}–{max}")
        });
        let reached = write(&self.reached);
        let (reached, verdict) = match self.verdict() {
            Verdict::Goal => (format!("**{reached}**"), "goal"),
            Verdict::Least => (reached, "least"),
            Verdict::Missed => (reached, "missed"),
            Verdict::NotMeasured => ("–".to_owned(), ""),
        };
        let auto = self.auto.as_ref().map(|auto| auto.value.median);
        let auto = auto.map_or_else(String::new, |auto| {
            let value = self.unit.write(auto);
            match self.verdict_on(auto) {
                Verdict::Goal => format!("**{value}**"),
                Verdict::Missed => format!("{value} missed"),
                Verdict::Least | Verdict::NotMeasured => value,
            }
        });
        vec![
            self.what.clone(),
            self.goal.words.clone(),
            self.least.words.clone(),
            reached,
            spread,
            verdict.to_owned(),
            auto,
            write(&self.peer),
        ]
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.reached
            .as_ref()
            .map_or(Verdict::NotMeasured, |reached| {
                self.verdict_on(reached.value.median)
            })
    }

    fn verdict_on(&self, value: f64) -> Verdict {
        // As it is written: a bound is not missed in a digit that nobody sees.
        let value = self.unit.rounded(value);
        let is_met = |bound: &Bound| {
            if self.unit.more_is_better() {
                value >= bound.value
            } else {
                value <= bound.value
            }
        };
        if is_met(&self.goal) {
            Verdict::Goal
        } else if is_met(&self.least) {
            Verdict::Least
        } else {
            Verdict::Missed
        }
    }
}

/// Returns the heads of the columns.
pub(crate) fn head() -> Vec<String> {
    [
        "", "goal", "least", "reached", "runs", "which is", "auto", "frp",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Returns the best value of any of `subjects`.
pub(super) fn best<'a>(
    subjects: impl Iterator<Item = &'a Subject>,
    unit: Unit,
    value: impl Fn(&Subject) -> Option<Spread>,
) -> Option<Reached> {
    extreme(subjects, unit.more_is_better(), value)
}

/// Returns the worst value of any of `subjects`.
pub(super) fn worst<'a>(
    subjects: impl Iterator<Item = &'a Subject>,
    unit: Unit,
    value: impl Fn(&Subject) -> Option<Spread>,
) -> Option<Reached> {
    extreme(subjects, !unit.more_is_better(), value)
}

fn extreme<'a>(
    subjects: impl Iterator<Item = &'a Subject>,
    highest: bool,
    value: impl Fn(&Subject) -> Option<Spread>,
) -> Option<Reached> {
    let sign = if highest { 1.0 } else { -1.0 };
    subjects
        .filter_map(|subject| Some((subject, value(subject)?)))
        .max_by(|(_, a), (_, b)| (sign * a.median).total_cmp(&(sign * b.median)))
        .map(|(subject, value)| Reached {
            value,
            by: subject.protocol().unwrap_or_default().to_owned(),
        })
}

impl Unit {
    fn more_is_better(self) -> bool {
        self == Self::Share
    }

    fn write(self, value: f64) -> String {
        if value.is_infinite() {
            return "never".to_owned();
        }
        match self {
            Self::Share | Self::Ratio => format!("{value:.2}"),
            Self::Ms | Self::Count => format!("{value:.0}"),
            Self::Percent => format!("{value:.1}"),
        }
    }

    /// Returns the value with the digits that are written.
    fn rounded(self, value: f64) -> f64 {
        self.write(value).parse().unwrap_or(value)
    }
}

impl Bound {
    pub(super) fn share(value: f64) -> Self {
        Self::new(value, format!("{value:.2}"))
    }

    pub(super) fn ratio(value: f64) -> Self {
        Self::new(value, format!("{value:.1}"))
    }

    pub(super) fn count(value: f64) -> Self {
        Self::new(value, format!("{value:.0}"))
    }

    pub(super) fn percent(value: f64) -> Self {
        Self::new(value, format!("{value:.0}"))
    }

    pub(super) fn round_trips(n: f64, rtt_ms: f64) -> Self {
        let ms = n * rtt_ms;
        Self::new(ms, format!("{ms:.0} ({n} RTT)"))
    }

    pub(super) fn after(ms: f64, rtt_ms: f64) -> Self {
        let sum = rtt_ms + ms;
        Self::new(sum, format!("{sum:.0} (RTT + {ms:.0})"))
    }

    fn new(value: f64, words: String) -> Self {
        Self { value, words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_met_when_the_written_value_meets_it() {
        assert_eq!(share(0.966).verdict(), Verdict::Goal);
        assert_eq!(share(0.964).verdict(), Verdict::Least);
        assert_eq!(share(0.92).verdict(), Verdict::Missed);
        assert_eq!(latency(75.4).verdict(), Verdict::Goal);
        assert_eq!(latency(76.0).verdict(), Verdict::Least);
        assert_eq!(latency(126.0).verdict(), Verdict::Missed);
    }

    #[test]
    fn a_row_says_who_reached_the_value_and_how_far_the_runs_were_apart() {
        assert_eq!(
            share(0.98).cells(),
            [
                "row",
                "0.97",
                "0.93",
                "**0.98 quic**",
                "0.93–1.03",
                "goal",
                "",
                ""
            ]
        );
    }

    #[test]
    fn auto_stands_beside_the_best_and_says_what_it_misses() {
        let auto = |value| {
            let auto = Some(reached(value));
            let row = Row {
                auto,
                ..share(0.98)
            };
            row.cells()[6].clone()
        };

        assert_eq!(auto(0.97), "**0.97**");
        assert_eq!(auto(0.94), "0.94");
        assert_eq!(auto(0.62), "0.62 missed");
    }

    #[test]
    fn what_never_came_is_missed() {
        let row = latency(f64::INFINITY);

        assert_eq!(row.verdict(), Verdict::Missed);
        assert_eq!(row.cells()[3], "never quic");
    }

    #[test]
    fn what_nobody_measured_is_neither_reached_nor_missed() {
        let row = Row {
            reached: None,
            ..share(0.0)
        };

        assert_eq!(row.verdict(), Verdict::NotMeasured);
        assert_eq!(row.cells()[3..6], ["–", "", ""]);
    }

    fn share(value: f64) -> Row {
        Row {
            what: "row".to_owned(),
            goal: Bound::share(0.97),
            least: Bound::share(0.93),
            unit: Unit::Share,
            reached: Some(reached(value)),
            auto: None,
            peer: None,
        }
    }

    fn latency(value: f64) -> Row {
        Row {
            goal: Bound::round_trips(1.5, 50.0),
            least: Bound::round_trips(2.5, 50.0),
            unit: Unit::Ms,
            ..share(value)
        }
    }

    fn reached(value: f64) -> Reached {
        Reached {
            value: Spread {
                median: value,
                min: value - 0.05,
                max: value + 0.05,
                n: 3,
            },
            by: "quic".to_owned(),
        }
    }
}
