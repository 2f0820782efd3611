//! The table for people: on the terminal and in `docs/benchmarks.md`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::plot;
use crate::results::{Better, Results};
use crate::subject::{OURS, PEER, Subject};

/// Returns the medians as a Markdown table.
pub(crate) fn table(results: &Results, subjects: &[Subject]) -> String {
    let mut rows = vec![header(subjects)];
    for metric in results.metrics() {
        let mut row = vec![metric.title()];
        for subject in subjects {
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

/// Writes the generated part of `benchmarks.md` in `dir`, and the plot beside it. What stands
/// outside of the markers is left as it is.
pub(crate) fn write(dir: &Path, results: &Results, subjects: &[Subject]) -> Result<()> {
    let path = dir.join("benchmarks.md");
    let old = fs::read_to_string(&path).unwrap_or_else(|_| format!("{HEAD}{BEGIN}\n{END}\n"));
    let (before, rest) = old
        .split_once(BEGIN)
        .context("docs/benchmarks.md has lost its mark of the generated part's begin")?;
    let (_, after) = rest
        .split_once(END)
        .context("docs/benchmarks.md has lost its mark of the generated part's end")?;
    let how = if results.quick {
        "Short looks (`QUICK=1`): good to about 15 %."
    } else {
        "Looks of 4 seconds."
    };
    let peer = if subjects.iter().any(|subject| subject.name == PEER) {
        "`FRP_PEER_DIR=dir make bench`, with frp v0.70.1's `frps` and `frpc` in `dir`"
    } else {
        "`make bench`"
    };
    let new = format!(
        "{before}{BEGIN}\n\
         Made by {peer} on {}. {how} Medians of three rounds in which all take turns. The load \
         generator and the service share the cores with the tunnel.\n\n\
         ![the same as bars](benchmarks.svg)\n\n{}\n{END}{after}",
        results.machine,
        table(results, subjects)
    );
    fs::write(&path, new).context("cannot write docs/benchmarks.md")?;
    fs::write(dir.join("benchmarks.svg"), plot::svg(results, subjects))
        .context("cannot write docs/benchmarks.svg")
}

fn header(subjects: &[Subject]) -> Vec<String> {
    let mut header = vec![String::new()];
    header.extend(subjects.iter().map(|subject| subject.title.to_owned()));
    header.push("Holdfast / frp".to_owned());
    header.push("goal".to_owned());
    header
}

/// Pads the cells, so that the table can be read without rendering it.
fn align(rows: &[Vec<String>]) -> String {
    let n_columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..n_columns).map(|column| width(column).max(3)).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (position, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(&if position == 0 {
                format!("| {cell:<width$} |")
            } else {
                format!(" {cell:>width$} |")
            });
        }
        text.push('\n');
        if number == 0 {
            for (position, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width - 1);
                text.push_str(&if position == 0 {
                    format!("| {dashes}- |")
                } else {
                    format!(" {dashes}: |")
                });
            }
            text.push('\n');
        }
    }
    text
}

const HEAD: &str = "# Benchmarks\n\n\
    What the tunnel costs when the link costs nothing: client, server, user and service on one \
    machine. A bold ratio is one in which Holdfast is ahead.\n\n";
const BEGIN: &str = "<!-- loopback: written by make bench -->";
const END: &str = "<!-- loopback: end -->";
