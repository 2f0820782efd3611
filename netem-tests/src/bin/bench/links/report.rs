//! The tables for people: on the terminal and in the document.

mod tables;

use std::fmt::Write as _;

use anyhow::Result;

use super::cell::{Cell, Kind, Way};
use super::goals::{self, FULL, TIE};
use super::link::Link;
use super::metric::Metric;
use super::plot;
use super::records::Records;
use super::stats::Spread;
use super::subject::Subject;
use super::summary::Summary;
use crate::document::Document;
use crate::machine;
use crate::settings::{Part, Settings};
use crate::table::align;

/// All that is known, and what to say with it.
pub(crate) struct Report<'a> {
    pub(crate) summary: &'a Summary<'a>,
    /// Subjects whose programs do not have their transport, and what they said.
    pub(crate) refusals: &'a [(String, String)],
    pub(crate) settings: &'a Settings,
    pub(crate) cells: &'a [Cell<'a>],
    pub(crate) records: &'a Records,
}

impl Report<'_> {
    /// Returns the goals and all tables in which there is anything.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        if self.settings.only.is_none() && !self.settings.quick {
            text += &self.goals();
        }
        for table in tables::all() {
            if let Some(rows) = table.rows(self) {
                // Writing to a String cannot fail.
                let _ = write!(text, "### {}\n\n{}\n\n", table.title, table.text);
                text += &align(&rows);
                text.push('\n');
            }
        }
        text
    }

    /// Writes its parts of `document`, and the plots beside it.
    pub(crate) fn write(&self, document: &Document) -> Result<()> {
        if self.is_of_others() {
            let text = format!("{}\n{}\n{}", self.how(), self.links(), self.tables());
            return document.replace_part("other-links", &text);
        }
        let text = format!(
            "{}\n{}\n![goodput over loss](links-goodput.svg)\n\n\
             ![echo over loss](links-echo.svg)\n\n{}",
            self.how(),
            self.links(),
            self.tables()
        );
        document.replace_part("links", &text)?;
        document.write_picture("links-goodput.svg", &plot::goodput(self.summary))?;
        document.write_picture("links-echo.svg", &plot::echo(self.summary))
    }

    fn is_of_others(&self) -> bool {
        self.settings.part == Part::Other
    }

    fn goals(&self) -> String {
        let mut rows = vec![goals::head()];
        // No goal names other links: what stands for each link is all that there is.
        let is_shown = |row: &&goals::Row| {
            !self.is_of_others() || row.verdict() != goals::Verdict::NotMeasured
        };
        let all = goals::rows(self.summary);
        rows.extend(all.iter().filter(is_shown).map(goals::Row::cells));
        format!(
            "### Goals\n\nEach row names the transport whose value it is: the best one, of ours and of \
             frp's, or the worst one where the row says so. Beside it stands what `auto` reached, \
             which chooses by itself: bold where that is the goal. Goodput is in units of \
             (1 - loss) x rate. Behind is who moves more than {:.0} % less than another and less \
             than {FULL} of that unit; all else is a tie. Of bytes sent, each link's best transport \
             counts: of those that tie for the most, the one that sends least. Echoes beside bulk \
             count only of transports that move at least half of that unit meanwhile. Beside a \
             Cubic flow the smaller of the two shares counts in each run. \"runs\": the lowest \
             and the highest.\n\n{}\n",
            100.0 * (1.0 - TIE),
            align(&rows)
        )
    }

    /// Says where the figures come from.
    fn how(&self) -> String {
        let has_peer = self.summary.peers().next().is_some();
        let command = if self.is_of_others() {
            "`make bench PART=other`"
        } else if has_peer {
            "`FRP_PEER_DIR=dir make bench`, with frp v0.70.1's `frps` and `frpc` in `dir`,"
        } else {
            "`make bench`"
        };
        let n_runs = self.settings.n_runs;
        let runs = match n_runs {
            1 => "One run of each cell.".to_owned(),
            _ => format!("Medians of {n_runs} runs in interleaved rounds."),
        };
        let mut text = format!(
            "Made by {command} on {}. {runs} Link, both programs, user and service share the \
             cores.\n",
            machine::describe()
        );
        for (name, said) in self.refusals {
            let first = said.lines().next().unwrap_or_default();
            let _ = writeln!(
                text,
                "`{name}` is left out, since the programs refuse it: {first}"
            );
        }
        let ours: Vec<String> = self
            .cells
            .iter()
            .filter(|cell| cell.subject.is_ours())
            .map(Cell::name)
            .collect();
        let builds = self.records.n_builds(ours.iter().map(String::as_str));
        if builds > 1 {
            let _ = writeln!(text, "Holdfast's cells come from {builds} builds of it.");
        }
        let missed = self.missed();
        if !missed.is_empty() {
            let _ = writeln!(
                text,
                "The machine was too slow for the link in: {}.",
                missed.join(", ")
            );
        }
        text
    }

    /// Says what each link is like and what bare TCP carries over it without its faults.
    fn links(&self) -> String {
        let mut rows = vec![
            ["", "link", "rate down", "rate up"]
                .map(str::to_owned)
                .to_vec(),
        ];
        for link in self.summary.links {
            let mut row = vec![link.name.clone(), link.describe()];
            row.extend(Way::BOTH.map(|way| {
                let rate = self.summary.rate(link, way);
                rate.map_or_else(String::new, |rate| format!("{rate:.2}"))
            }));
            rows.push(row);
        }
        format!(
            "The links, and what bare TCP carries over each without its faults, Mbit/s:\n\n{}",
            align(&rows)
        )
    }

    /// Returns the cells in which more packets were missed than a result bears.
    fn missed(&self) -> Vec<String> {
        let is_missed = |cell: &&Cell<'_>| {
            let (subject, link) = (cell.subject.name(), &cell.link.name);
            let missed = self
                .summary
                .known(subject, link, cell.kind, Metric::MissedPct);
            missed
                .value()
                .is_some_and(|missed| missed.median > MISSED_PCT_MAX)
        };
        self.cells
            .iter()
            .filter(is_missed)
            .map(Cell::name)
            .collect()
    }

    /// Returns a value where there is one, and nothing at all where nobody has looked.
    fn known(&self, subject: &Subject, link: &Link, kind: Kind, metric: Metric) -> Option<Spread> {
        self.summary
            .known(subject.name(), &link.name, kind, metric)
            .value()
    }

    fn relative(
        &self,
        subject: &Subject,
        link: &Link,
        kind: Kind,
        metric: Metric,
        way: Way,
    ) -> Option<Vec<Spread>> {
        self.summary
            .relative(subject.name(), link, kind, metric, way)
            .value()
            .map(|value| vec![value])
    }
}

/// A thousandth more loss changes nothing that is shown here.
const MISSED_PCT_MAX: f64 = 0.1;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use netem_tests::Profile;

    use super::super::records::{Outcome, Record};
    use super::*;

    #[test]
    fn goodput_is_written_in_units_of_what_gets_through() {
        let tables = tables(&[
            ("bare/clean/rate-down", 1, goodput(100.0)),
            ("quic/clean/bulk-down", 1, goodput(95.0)),
            ("quic/clean/bulk-down", 2, goodput(99.0)),
            ("quic/clean/bulk-down", 3, goodput(97.0)),
            ("quic/loss-10/bulk-down", 1, goodput(81.0)),
            ("frp-quic/clean/bulk-down", 1, goodput(90.0)),
            ("frp-quic/loss-10/bulk-down", 1, stalled()),
        ]);

        let expected = "\
|          |      clean | loss-10 |
| -------- | ---------: | ------: |
| quic     | 0.97 ±0.02 |    0.90 |
| frp-quic |       0.90 |       – |
";
        assert!(tables.contains(expected), "{tables}");
    }

    #[test]
    fn what_nobody_has_measured_has_no_table() {
        let tables = tables(&[("bare/clean/rate-down", 1, goodput(100.0))]);

        assert_eq!(tables.matches("###").count(), 1, "the goals: {tables}");
    }

    #[test]
    fn a_tie_with_frp_is_not_behind() {
        let runs = |ours, lossy| {
            tables(&[
                ("bare/clean/rate-down", 1, goodput(100.0)),
                ("quic/clean/bulk-down", 1, goodput(ours)),
                ("frp-quic/clean/bulk-down", 1, goodput(100.0)),
                ("quic/loss-10/bulk-down", 1, goodput(lossy)),
                ("frp-quic/loss-10/bulk-down", 1, goodput(81.0)),
            ])
        };
        let behind = |tables: &str| {
            let row = tables.lines().find(|line| line.contains("bulk behind"));
            let cells = row.unwrap().split('|').map(str::trim);
            cells.map(str::to_owned).nth(4).unwrap()
        };

        assert_eq!(behind(&runs(97.0, 79.5)), "**0**");
        assert_eq!(behind(&runs(96.0, 79.5)), "1", "neither near nor full");
    }

    #[test]
    fn each_links_best_transport_counts_for_the_bytes_sent() {
        let sent = |mbit, ratio| {
            let keys = [(Metric::GoodputMbit, mbit), (Metric::WireRatio, ratio)];
            Outcome::Measured(
                keys.map(|(key, value)| (key.key().to_owned(), value))
                    .into(),
            )
        };
        let tables = tables(&[
            ("bare/clean/rate-down", 1, goodput(100.0)),
            ("kcp/clean/bulk-down", 1, sent(98.0, 1.05)),
            ("quic/clean/bulk-down", 1, sent(99.0, 1.15)),
            ("kcp/loss-10/bulk-down", 1, sent(88.0, 1.2)),
            ("quic/loss-10/bulk-down", 1, sent(20.0, 4.0)),
        ]);

        let row = "**1.08 kcp, loss-10 down (any transport: 3.60 quic, loss-10 down)**";
        assert!(tables.contains(row), "{tables}");
    }

    #[test]
    fn beside_another_flow_the_smaller_share_of_each_run_counts() {
        let share = |share| {
            let key = Metric::Share.key().to_owned();
            Outcome::Measured(BTreeMap::from([(key, share)]))
        };
        let tables = tables(&[
            ("kcp/clean/fairness-down", 1, share(0.2)),
            ("kcp/clean/fairness-down", 2, share(0.5)),
            ("kcp/clean/fairness-down", 3, share(0.9)),
        ]);

        assert!(tables.contains(" 0.20 kcp "), "{tables}");
        assert!(tables.contains("| 0.50 / 0.20 |"), "{tables}");
    }

    fn tables(runs: &[(&str, usize, Outcome)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let mut records = Records::open(&dir.path().join("links.jsonl")).unwrap();
        for (cell, round, outcome) in runs {
            let record = Record {
                cell: (*cell).to_owned(),
                round: *round,
                key: String::new(),
                build: String::new(),
                seed: 1,
                at: 1,
                outcome: outcome.clone(),
                notes: Vec::new(),
            };
            records.add(record).unwrap();
        }
        let subjects = Subject::without_programs(&["kcp", "quic", "frp-quic"]);
        let links = [
            Link::of_profile("clean", Profile::default()),
            Link::of_profile("loss-10", Profile::default().loss_pct(10.0)),
        ];
        let summary = Summary::new(&records, &subjects, &links);
        let report = Report {
            summary: &summary,
            refusals: &[],
            settings: &Settings::default(),
            cells: &[],
            records: &records,
        };
        report.tables()
    }

    fn goodput(mbit: f64) -> Outcome {
        let key = Metric::GoodputMbit.key().to_owned();
        Outcome::Measured(BTreeMap::from([(key, mbit)]))
    }

    fn stalled() -> Outcome {
        Outcome::Stalled("nothing arrived".to_owned())
    }
}
