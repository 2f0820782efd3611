//! `make bench`: what the tunnel costs on loopback, beside the bare connection and Go frp.
//!
//! Each round measures each thing on each subject in turn, so that a machine that gets slower for a
//! while does so for all of them, and the median of the rounds counts. Every measurement starts
//! programs of its own. What has been measured is kept as it goes, in `target/bench/`.
//!
//! `QUICK=1` takes short looks, `ONLY=text` measures only what has the text in its name (and then
//! writes no report), and `FRP_PEER_DIR=dir` puts Go frp beside ours.

#![expect(clippy::print_stdout, reason = "this program talks to its user")]

mod measure;
mod plot;
mod report;
mod results;
mod subject;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use measure::{Lengths, Measurement};
use results::Results;
use subject::Subject;

fn main() -> Result<()> {
    let settings = Settings::from_env();
    let subjects = Subject::all()?;
    let measurements: Vec<Measurement> = Measurement::all()
        .into_iter()
        .filter(|measurement| measurement.name().contains(&settings.only))
        .collect();
    ensure!(
        !measurements.is_empty(),
        "nothing is called \"{}\"; there are: {}",
        settings.only,
        Measurement::all().map(Measurement::name).join(", ")
    );
    let lengths = if settings.quick {
        Lengths::QUICK
    } else {
        Lengths::FULL
    };
    let mut results = Results::new(&subjects, settings.quick);
    let path = results_path()?;

    let start = Instant::now();
    let n_all = N_ROUNDS * measurements.len() * subjects.len();
    let mut n_done = 0;
    for round in 1..=N_ROUNDS {
        for measurement in &measurements {
            for subject in &subjects {
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
    }

    let table = report::table(&results, &subjects);
    println!("\n{table}");
    println!("bench: every value is in {}", path.display());
    if settings.only.is_empty() {
        report::write(Path::new("docs"), &results, &subjects)?;
        println!("bench: wrote docs/benchmarks.md and docs/benchmarks.svg");
    }
    Ok(())
}

/// What the environment asks for.
struct Settings {
    quick: bool,
    only: String,
}

impl Settings {
    fn from_env() -> Self {
        Self {
            quick: env::var_os("QUICK").is_some_and(|value| !value.is_empty()),
            only: env::var("ONLY").unwrap_or_default(),
        }
    }
}

fn results_path() -> Result<PathBuf> {
    let dir = Path::new("target/bench");
    fs::create_dir_all(dir).context("run this at the root of the repository: make bench")?;
    let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    Ok(dir.join(format!("loopback-{now}.json")))
}

/// Medians of three.
const N_ROUNDS: usize = 3;
