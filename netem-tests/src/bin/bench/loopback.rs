//! What the tunnel costs when the link costs nothing: client, server, user and service on loopback.
//!
//! Each round measures each thing on each subject in turn, so that a machine that gets slower for a
//! while does so for all of them, and the median of the rounds counts. Every measurement starts
//! programs of its own.

pub(crate) mod measure;
mod plot;
mod report;
pub(crate) mod results;
pub(crate) mod subject;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};

use crate::document::{Document, RESULTS_DIR};
use crate::settings::Settings;
use crate::stop;
use measure::{Lengths, Measurement};
use results::Results;
use subject::Subject;

/// Measures what `settings` ask for, and writes the report when that is everything. Returns whether
/// there was anything to measure.
pub(crate) fn run(settings: &Settings) -> Result<bool> {
    let subjects = Subject::all()?;
    let cells = cells(settings, &subjects);
    if cells.is_empty() {
        return Ok(false);
    }
    let lengths = if settings.quick {
        Lengths::QUICK
    } else {
        Lengths::FULL
    };
    let mut results = Results::new(&subjects, settings);
    let path = results_path()?;

    let start = Instant::now();
    let n_all = settings.n_runs * cells.len();
    let mut n_done = 0;
    for round in 1..=settings.n_runs {
        for (measurement, subject) in &cells {
            stop::check()?;
            let name = measurement.name();
            println!(
                "bench: {:3} of {n_all}, {:4} s, round {round}: {name}, {}",
                n_done + 1,
                start.elapsed().as_secs(),
                subject.title
            );
            let values = measurement
                .run(subject, &lengths)
                .with_context(|| format!("{name} of {}", subject.title))?;
            for (metric, value) in values {
                println!("         {}", metric.describe(value));
                results.add(metric, subject.name, value);
            }
            n_done += 1;
            results.write(&path)?;
        }
    }

    println!("\n{}", report::tables(&results, &subjects));
    println!("bench: every value is in {}", path.display());
    if settings.only.is_none() {
        let document = Document::open(settings.quick)?;
        report::write(&document, &results, &subjects)?;
        println!("bench: wrote {}", document.path().display());
    }
    Ok(true)
}

/// Returns what `ONLY` leaves, in the order of a round.
fn cells<'a>(settings: &Settings, subjects: &'a [Subject]) -> Vec<(Measurement, &'a Subject)> {
    let all = Measurement::all()
        .into_iter()
        .flat_map(|measurement| subjects.iter().map(move |subject| (measurement, subject)));
    all.filter(|(measurement, subject)| {
        settings.wants(&format!("loopback/{}/{}", measurement.name(), subject.name))
    })
    .collect()
}

fn results_path() -> Result<PathBuf> {
    let dir = Path::new(RESULTS_DIR);
    fs::create_dir_all(dir).context("run this at the root of the repository: make bench")?;
    let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    Ok(dir.join(format!("loopback-{now}.json")))
}
