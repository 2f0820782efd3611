//! The table for people: on the terminal and in the document.

use anyhow::Result;

use super::plot;
use super::results::{Better, Results};
use super::subject::{OURS, OURS_NOT_HELD, PEER, Subject};
use crate::document::Document;
use crate::table::align;

/// Returns the medians as Markdown tables: beside frp, and what holding costs.
pub(crate) fn tables(results: &Results, subjects: &[Subject]) -> String {
    let mut text = beside_frp(results, subjects);
    let rows = holding(results);
    if rows.len() > 1 {
        text.push_str(
            "\n**What holding costs**: the same with `transport.hold.enable = false` on both ends.\n\n",
        );
        text.push_str(&align(&rows));
    }
    text
}

/// Returns ours with held streams beside ours without.
fn holding(results: &Results) -> Vec<Vec<String>> {
    let head = ["", "held", "not held", "held / not held", "goal"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for metric in results.metrics() {
        let held = results.median(metric, OURS);
        let not_held = results.median(metric, OURS_NOT_HELD);
        let (Some(held), Some(not_held)) = (held, not_held) else {
            continue;
        };
        let (ratio, goal) = match metric.holding_goal() {
            _ if not_held <= 0.0 => ("–".to_owned(), String::new()),
            None => (format!("{:.2}", held / not_held), String::new()),
            Some(goal) => {
                // As it is written: a bound is not missed in a digit that nobody sees.
                let ratio = (100.0 * held / not_held).round() / 100.0;
                let is_met = match metric.better() {
                    Better::More => ratio >= goal,
                    Better::Less => ratio <= goal,
                };
                let sign = match metric.better() {
                    Better::More => "≥",
                    Better::Less => "≤",
                };
                let ratio = format!("{ratio:.2}");
                let ratio = if is_met {
                    format!("**{ratio}**")
                } else {
                    ratio
                };
                (ratio, format!("{sign} {goal:.2}"))
            }
        };
        rows.push(vec![
            metric.title(),
            metric.format(held),
            metric.format(not_held),
            ratio,
            goal,
        ]);
    }
    rows
}

fn beside_frp(results: &Results, subjects: &[Subject]) -> String {
    let subjects: Vec<&Subject> = subjects
        .iter()
        .filter(|subject| subject.name != OURS_NOT_HELD)
        .collect();
    let mut rows = vec![header(&subjects)];
    for metric in results.metrics() {
        let mut row = vec![metric.title()];
        for subject in &subjects {
            let value = results.median(metric, subject.name);
            row.push(value.map_or_else(|| "–".to_owned(), |value| metric.format(value)));
        }
        let ours = results.median(metric, OURS);
        let peer = results.median(metric, PEER);
        row.push(match (ours, peer) {
            (Some(ours), Some(peer)) if peer > 0.0 => {
                let ahead = match metric.better() {
                    Better::More => ours > peer,
                    Better::Less => ours < peer,
                };
                let ratio = format!("{:.2}", ours / peer);
                if ahead { format!("**{ratio}**") } else { ratio }
            }
            _ => "–".to_owned(),
        });
        row.push(metric.goal().to_owned());
        rows.push(row);
    }
    align(&rows)
}

/// Writes its part of `document`, and the plot beside it.
pub(crate) fn write(document: &Document, results: &Results, subjects: &[Subject]) -> Result<()> {
    let how = if results.quick {
        "One short look (`QUICK=1`): good to about 20 %.".to_owned()
    } else {
        format!(
            "Looks of 4 seconds. Medians of {} rounds in which all take turns.",
            results.n_rounds
        )
    };
    let peer = if subjects.iter().any(|subject| subject.name == PEER) {
        "`FRP_PEER_DIR=dir make bench`, with frp v0.70.1's `frps` and `frpc` in `dir`"
    } else {
        "`make bench`"
    };
    let text = format!(
        "Made by {peer} on {}. {how} The load generator and the service share the cores with the \
         tunnel.\n\n![the same as bars](benchmarks.svg)\n\n{}",
        results.machine,
        tables(results, subjects)
    );
    document.replace_part("loopback", &text)?;
    document.write_picture("benchmarks.svg", &plot::svg(results, subjects))
}

fn header(subjects: &[&Subject]) -> Vec<String> {
    let mut header = vec![String::new()];
    header.extend(subjects.iter().map(|subject| subject.title.to_owned()));
    header.push("Holdfast / frp".to_owned());
    header.push("goal".to_owned());
    header
}
