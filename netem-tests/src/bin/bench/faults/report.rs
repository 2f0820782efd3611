//! The fault table, as `docs/switching.md` shows it.

use netem_tests::fault_table::{Case, Goal, Measure};

use super::{
    BROKEN_AFTER, FRESH_BACK, FRESH_REFUSED, FRESH_SERVED, FRESH_UNANSWERED, IS_INTACT, IS_WRONG,
    TYPING_STALL, name,
};
use crate::links::records::{Record, Records};
use crate::links::stats::Spread;
use crate::links::subject::Subject;
use crate::rounds::{pair, pair_of_more, values};
use crate::{machine, table};

/// What is known, and of whom.
pub(crate) struct Report<'a> {
    pub(crate) records: &'a Records,
    pub(crate) subjects: &'a [Subject],
    pub(crate) n_runs: usize,
}

impl Report<'_> {
    /// Returns both tables as Markdown.
    pub(crate) fn tables(&self) -> String {
        let mut text = format!(
            "### Faults\n\n{}. 100 Mbit/s, 50 ms, drop-tail 500 packets. A numbered stream of 20 Mbit/s \
             each way on one connection, one who types on another, five fresh connections a second. \
             Median / worst of up to {} runs. *Whole*: everything that was sent came, once and in \
             order, to the last byte.\n",
            machine::describe(),
            self.n_runs
        );
        let ours: Vec<&Subject> = self.subjects.iter().filter(|one| one.is_auto()).collect();
        for subject in ours {
            let rows = self.own_table(subject);
            if rows.len() > 1 {
                text.push_str(&format!(
                    "\n**{}**\n\n{}",
                    subject.title(),
                    table::align(&rows)
                ));
            }
        }
        let rows = self.comparison();
        if rows.len() > 1 {
            text.push_str(
                "\n**Fixed transports.** What became of the stream, and from the fault's end (where \
                 it has none, from its beginning) to traffic again: on the stream, or, where that was \
                 broken, for fresh connections. Medians.\n\n",
            );
            text.push_str(&table::align(&rows));
        }
        text
    }

    /// Returns the goals and how ours meet them.
    fn own_table(&self, subject: &Subject) -> Vec<Vec<String>> {
        let head = [
            "fault",
            "goal",
            "measured",
            "",
            "stream whole",
            "typing stalls, s",
            "fresh: served, refused, unanswered",
            "switches",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for case in Case::all() {
            let runs = self.runs(subject, case);
            if runs.is_empty() {
                continue;
            }
            let goals = case.goals.iter();
            let (mut asked, mut measured, mut met) = (Vec::new(), Vec::new(), Vec::new());
            for goal in goals {
                asked.push(in_words(goal));
                let (text, is_met) = self.against(goal, case, &runs);
                measured.push(text);
                met.push(match is_met {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "not compared",
                });
            }
            let n_whole = runs.iter().filter(|run| is(run, IS_INTACT)).count();
            if n_whole < runs.len() && !ends_users(case) {
                // Whatever it took: a stream was lost.
                met = vec!["no"; met.len()];
            }
            rows.push(vec![
                case.title.to_owned(),
                asked.join("; "),
                measured.join("; "),
                met.join("; "),
                whole(case, n_whole, &runs),
                pair(&runs, TYPING_STALL, 2),
                fresh(&runs),
                pair(&runs, Measure::Switches.key(), 0),
            ]);
        }
        rows
    }

    /// Returns one row for each fault with a column for each fixed transport.
    fn comparison(&self) -> Vec<Vec<String>> {
        let fixed: Vec<&Subject> = self
            .subjects
            .iter()
            .filter(|one| !one.is_auto())
            .filter(|one| {
                Case::all()
                    .iter()
                    .any(|case| !self.runs(one, case).is_empty())
            })
            .collect();
        if fixed.is_empty() {
            return Vec::new();
        }
        let mut head = vec!["fault".to_owned()];
        head.extend(fixed.iter().map(|one| one.title().to_owned()));
        let mut rows = vec![head];
        for case in Case::all() {
            let mut row = vec![case.title.to_owned()];
            row.extend(fixed.iter().map(|one| fate(case, &self.runs(one, case))));
            if row.iter().skip(1).any(|cell| !cell.is_empty()) {
                rows.push(row);
            }
        }
        rows
    }

    /// Returns what was measured against a goal, and whether it is met, by the median, in every run
    /// with a whole stream: nothing where nobody has measured what it is compared with.
    fn against(&self, goal: &Goal, case: &Case, runs: &[&Record]) -> (String, Option<bool>) {
        let n_missing = runs.len() - values(runs, goal.what.key()).len();
        let never = if n_missing > 0 {
            format!(" ({n_missing} of {} never)", runs.len())
        } else {
            String::new()
        };
        if is_goodput(goal.what) {
            let Some((reference, by)) = self.reference(goal.what, case) else {
                let text = pair_of_more(runs, goal.what.key(), 1);
                return (format!("{text} Mbit/s{never}"), None);
            };
            let Some(spread) = Spread::of(&values(runs, goal.what.key()), true) else {
                return ("–".to_owned(), Some(false));
            };
            let share = spread.scaled(1.0 / reference);
            let text = format!("{:.2} / {:.2} of {by}{never}", share.median, share.min);
            return (text, Some(share.median >= goal.bound));
        }
        let Some(spread) = Spread::of(&values(runs, goal.what.key()), false) else {
            return ("never".to_owned(), Some(false));
        };
        let text = match goal.what {
            Measure::Conflicts | Measure::Switches | Measure::SwitchesIn30s => {
                format!("{:.0} / {:.0}{never}", spread.median, spread.max)
            }
            _ => format!("{:.2} / {:.2} s{never}", spread.median, spread.max),
        };
        let is_met = n_missing == 0 && spread.median <= goal.bound;
        (text, Some(is_met))
    }

    /// Returns what fixed transports of ours carry in the same case, the best of those measured or
    /// TCP, and which it is.
    fn reference(&self, what: Measure, case: &Case) -> Option<(f64, &'static str)> {
        let fixed = self
            .subjects
            .iter()
            .filter(|one| one.is_ours() && !one.is_auto())
            .filter(|one| what == Measure::Goodput || one.protocol() == Some("tcp"));
        let medians = fixed.filter_map(|one| {
            let runs = self.runs(one, case);
            let spread = Spread::of(&values(&runs, what.key()), true)?;
            Some((spread.median, one.protocol()?))
        });
        medians.max_by(|(one, _), (other, _)| one.total_cmp(other))
    }

    fn runs(&self, subject: &Subject, case: &Case) -> Vec<&Record> {
        self.records.of(&name(subject, case))
    }
}

/// Says what became of the streams of those who keep to one transport.
fn fate(case: &Case, runs: &[&Record]) -> String {
    if runs.is_empty() {
        return String::new();
    }
    if case.compares() {
        let what = case
            .goals
            .first()
            .map_or(Measure::Goodput, |goal| goal.what);
        return format!("{} Mbit/s", pair_of_more(runs, what.key(), 1));
    }
    let median = |key: &str| Spread::of(&values(runs, key), false).map(|spread| spread.median);
    let n_whole = runs.iter().filter(|run| is(run, IS_INTACT)).count();
    let n_broken = values(runs, BROKEN_AFTER).len();
    let stream = if n_whole == runs.len() {
        "whole".to_owned()
    } else if n_broken * 2 >= runs.len() {
        "broken".to_owned()
    } else {
        format!("silent ({n_whole} of {} whole)", runs.len())
    };
    if let Some(back) = median(Measure::ProxiesBack.key()) {
        let closed = median(Measure::Closed.key());
        let closed = closed.map_or("never closed".to_owned(), |time| {
            format!("closed {time:.1} s")
        });
        return format!("{closed}, proxies back {back:.1} s");
    }
    let back = if stream == "whole" {
        // Where the fault has no end, there is only how long it stood still.
        median(Measure::Back.key()).or_else(|| median(Measure::Stall.key()))
    } else {
        median(FRESH_BACK)
    };
    match back {
        Some(back) => format!("{stream}, {back:.1} s"),
        None => format!("{stream}, never back"),
    }
}

fn whole(case: &Case, n_whole: usize, runs: &[&Record]) -> String {
    if runs.iter().any(|run| is(run, IS_WRONG)) {
        return "WRONG BYTES".to_owned();
    }
    if ends_users(case) {
        return String::new();
    }
    if n_whole == runs.len() {
        "yes".to_owned()
    } else {
        format!("{n_whole} of {}", runs.len())
    }
}

/// Says whether streams end with a program that held them.
fn ends_users(case: &Case) -> bool {
    let is_end = |what| matches!(what, Measure::ProxiesBack | Measure::Closed);
    case.goals.iter().any(|goal| is_end(goal.what))
}

fn fresh(runs: &[&Record]) -> String {
    let median = |key: &str| {
        let spread = Spread::of(&values(runs, key), false);
        spread.map_or("–".to_owned(), |spread| format!("{:.0}", spread.median))
    };
    let parts = [FRESH_SERVED, FRESH_REFUSED, FRESH_UNANSWERED].map(median);
    parts.join(", ")
}

fn in_words(goal: &Goal) -> String {
    let bound = goal.bound;
    match goal.what {
        Measure::Stall => format!("stall ≤ {bound} s"),
        Measure::Back => format!("traffic again ≤ {bound} s"),
        Measure::Noticed => format!("noticed ≤ {bound} s"),
        Measure::Closed => format!("users' old connections closed ≤ {bound} s"),
        Measure::ProxiesBack => format!("all proxies back ≤ {bound} s"),
        Measure::Conflicts => "no port \"already used\"".to_owned(),
        Measure::Switches => format!("at most {bound} switches"),
        Measure::SwitchesIn30s => format!("at most {bound} switch in 30 s"),
        Measure::Goodput => format!("≥ {bound} of the best fixed transport from 10 s on"),
        Measure::GoodputBesideTcp => format!("≥ {bound} of TCP alone from 15 s on"),
    }
}

fn is(run: &Record, key: &str) -> bool {
    values(&[run], key).first() == Some(&1.0)
}

fn is_goodput(what: Measure) -> bool {
    matches!(what, Measure::Goodput | Measure::GoodputBesideTcp)
}
