//! Both tables, as `docs/switching.md` shows them.

use std::collections::BTreeMap;

use netem_tests::Transport;

use super::calm;
use super::journey::{self, LEGS, Leg, RATE, Reference, TOTAL, key_of};
use crate::links::records::{Record, Records};
use crate::links::stats::Spread;
use crate::rounds::{pair, pair_of_more, values};
use crate::{machine, table};

/// What is known.
pub(super) struct Report<'a> {
    pub(super) records: &'a Records,
}

impl Report<'_> {
    /// Returns both tables as Markdown.
    pub(super) fn tables(&self) -> String {
        let mut text = format!("### Switching\n\n{}.\n", machine::describe());
        let runs = self.records.of(journey::NAME);
        if !runs.is_empty() {
            text.push_str(
                "\n**A download of 256 MiB through `auto`** on one connection, each byte checked. Beside \
                 it what the best fixed transport takes for as much on such a link (the best of those \
                 measured), plus the time in which nothing can move. Seconds, median / worst.\n\n",
            );
            text.push_str(&table::align(&self.journey(&runs)));
            text.push_str(&causes(&runs));
        }
        let rows = self.calm();
        if rows.len() > 1 {
            text.push_str(
                "\n**Nothing to gain.** Three minutes with a numbered stream of 20 Mbit/s each way; \
                 then the link is clean again, and what is under way may arrive. Median / worst.\n\n",
            );
            text.push_str(&table::align(&rows));
        }
        text
    }

    fn journey(&self, runs: &[&Record]) -> Vec<Vec<String>> {
        let head = ["the link", "MiB", "best fixed", "over", "auto"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let mut sum = Some(0.0);
        for leg in &LEGS {
            let best = self.best(leg);
            let time = best.map(|(rate, _)| leg.mib as f64 / rate + leg.dead.as_secs_f64());
            sum = sum.zip(time).map(|(sum, time)| sum + time);
            rows.push(vec![
                leg.what.to_owned(),
                leg.mib.to_string(),
                time.map_or("–".to_owned(), |time| format!("{time:.1}")),
                best.map_or("–", |(_, transport)| transport.name())
                    .to_owned(),
                pair(runs, &key_of(leg), 1),
            ]);
        }
        rows.push(vec![
            "**all**".to_owned(),
            LEGS.iter().map(|leg| leg.mib).sum::<u64>().to_string(),
            sum.map_or("–".to_owned(), |sum| format!("{sum:.1}")),
            String::new(),
            pair(runs, TOTAL, 1),
        ]);
        rows
    }

    /// Returns the rate of the fixed transport that does best on a leg's link, and which it is.
    fn best(&self, leg: &Leg) -> Option<(f64, Transport)> {
        let rates = Reference::ALL
            .iter()
            .filter(|reference| reference.link == leg.link)
            .filter(|reference| leg.has_udp || reference.transport.has_tcp())
            .filter_map(|reference| {
                let runs = self.records.of(&reference.name());
                let spread = Spread::of(&values(&runs, RATE), true)?;
                Some((spread.median, reference.transport))
            });
        rates.max_by(|(one, _), (other, _)| one.total_cmp(other))
    }

    fn calm(&self) -> Vec<Vec<String>> {
        let head = [
            "the link",
            "switches",
            "why",
            "stream whole",
            "longest stall, s",
            "Mbit/s",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for calm in &calm::ALL {
            let runs = self.records.of(&calm.name());
            if runs.is_empty() {
                continue;
            }
            let n_whole = values(&runs, "is_intact")
                .iter()
                .filter(|one| **one == 1.0)
                .count();
            rows.push(vec![
                calm.what.to_owned(),
                pair(&runs, "n_switches", 0),
                told(&runs).join("; "),
                format!("{n_whole} of {}", runs.len()),
                pair(&runs, "stall_s", 2),
                pair_of_more(&runs, "goodput_mbit", 1),
            ]);
        }
        rows
    }
}

/// Returns the switches of all runs, as the client told them.
fn causes(runs: &[&Record]) -> String {
    let told = told(runs);
    if told.is_empty() {
        return String::new();
    }
    format!("\nSwitches in {} runs: {}.\n", runs.len(), told.join("; "))
}

/// Returns what was told of switches, without what stands before it in the log, and how often.
fn told(runs: &[&Record]) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for line in runs.iter().flat_map(|run| &run.notes) {
        *counts.entry(shorten(line)).or_insert(0) += 1;
    }
    counts
        .into_iter()
        .map(|(line, n)| {
            if n > 1 {
                format!("{line} ({n} times)")
            } else {
                line
            }
        })
        .collect()
}

/// Leaves out date, level and place of a line of a log, the numbers behind the cause, and what would
/// end a cell. The numbers differ each time; they are kept with the other values.
fn shorten(line: &str) -> String {
    let start = line.find("switched").unwrap_or(0);
    let text = line.get(start..).unwrap_or(line);
    let cause = text.split(';').next().unwrap_or(text);
    cause.replace('|', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_switch_the_cause_is_told() {
        let line = "2026-11-21 16:08:11 [I] [links/report.rs:92] switched from quic to tcp: slow; \
                    heartbeats lost 10.5 %";

        assert_eq!(shorten(line), "switched from quic to tcp: slow");
    }
}
