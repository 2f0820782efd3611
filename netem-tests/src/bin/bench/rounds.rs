//! Parts whose runs are done in rounds: side by side where they leave each other room, and kept as
//! they end. A part that was interrupted goes on with what is missing.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use netem_tests::Lab;

use crate::document::{Document, RESULTS_DIR};
use crate::links::progress::in_words;
use crate::links::records::{Outcome, Record, Records};
use crate::links::stats::Spread;
use crate::links::subject::Subject;
use crate::settings::Settings;
use crate::{stolen, stop};

/// Something to be measured once a round.
pub(crate) trait Job: Copy + Send + Sync {
    /// Returns the name that `ONLY` looks at.
    fn name(&self) -> String;

    /// Returns whose programs they are.
    fn subject(&self) -> &Subject;

    /// Returns about how long it takes.
    fn nominal(&self) -> Duration;

    /// How much of the machine it takes, in parts of [`CAPACITY`].
    fn weight(&self) -> usize;

    /// Returns the seed of a round.
    fn seed(&self, base_seed: u64, round: usize) -> u64 {
        base_seed + round as u64
    }

    /// Measures it. An error is the benchmark's own: whatever the programs do is a value.
    fn run(&self, seed: u64, round: usize) -> Findings;

    /// Says in a line what came of it.
    fn in_a_line(&self, values: &BTreeMap<String, f64>, notes: &[String]) -> String;
}

/// What came of it: values, and what else there is to say.
pub(crate) type Findings = Result<(BTreeMap<String, f64>, Vec<String>)>;

/// Does what is missing of `jobs`, and puts what `report` makes of all records into the part `part`
/// of `docs/switching.md` when that was everything. Returns whether there was anything to do.
pub(crate) fn run<J: Job>(
    settings: &Settings,
    part: &str,
    jobs: &[J],
    report: impl Fn(&Records) -> String,
) -> Result<bool> {
    if jobs.is_empty() {
        return Ok(false);
    }
    let short = if settings.quick { "-quick" } else { "" };
    let path = Path::new(RESULTS_DIR).join(format!("{part}{short}.jsonl"));
    let mut records = Records::open(&path)?;
    if !settings.report_only {
        if let Err(reason) = Lab::available() {
            bail!("the link lab does not work here: {reason}");
        }
        measure(settings, jobs, &mut records)?;
    }
    let text = report(&records);
    println!("\n{text}");
    println!("bench: every value is in {}", records.path().display());
    if settings.only.is_none() || settings.report_only {
        let document = Document::open_named("switching.md", settings.quick)?;
        document.replace_part(part, &text)?;
        println!("bench: wrote {}", document.path().display());
    }
    Ok(true)
}

fn measure<J: Job>(settings: &Settings, jobs: &[J], records: &mut Records) -> Result<()> {
    let base_seed = base_seed()?;
    let missing: Vec<(J, usize)> = (1..=settings.n_runs)
        .flat_map(|round| jobs.iter().map(move |job| (*job, round)))
        .filter(|(job, round)| {
            settings.fresh || !records.has(&job.name(), *round, &key(job.subject()))
        })
        .collect();
    if missing.is_empty() {
        println!("bench: everything is measured with these programs (FRESH=1: again)");
        return Ok(());
    }
    let batches = batches(&missing);
    let nominal = |batch: &[(J, usize)]| {
        let times = batch.iter().map(|(job, _)| job.nominal());
        times.max().unwrap_or_default()
    };
    let start = Instant::now();
    let mut left: Duration = batches.iter().map(|batch| nominal(batch)).sum();
    println!(
        "bench: {} runs to do, about {}; seeds follow LAB_SEED={base_seed}",
        missing.len(),
        in_words(left)
    );
    let mut n_begun = 0;
    let mut n_failed = 0;
    for batch in batches {
        stop::check()?;
        for (job, round) in batch {
            n_begun += 1;
            println!(
                "bench: {n_begun:4} of {}, {} gone, about {} left, round {round}: {}",
                missing.len(),
                in_words(start.elapsed()),
                in_words(left),
                job.name()
            );
        }
        for (record, line) in stolen::undisturbed(|| run_batch(batch, base_seed))? {
            println!("         {}: {line}", record.cell);
            n_failed += usize::from(matches!(record.outcome, Outcome::Failed(_)));
            records.add(record)?;
        }
        left -= nominal(batch);
    }
    ensure!(
        n_failed == 0,
        "{n_failed} runs failed for reasons of the benchmark's own; what else was measured is kept"
    );
    Ok(())
}

/// Runs jobs side by side. Returns what is to be kept of each, and what is to be said.
fn run_batch<J: Job>(batch: &[(J, usize)], base_seed: u64) -> Result<Vec<(Record, String)>> {
    let outcomes: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = batch
            .iter()
            .map(|(job, round)| scope.spawn(move || job.run(job.seed(base_seed, *round), *round)))
            .collect();
        threads
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect()
    });
    // A run that Ctrl-C has cut short is no result.
    stop::check()?;
    let at = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    let records = batch.iter().zip(outcomes).map(|((job, round), outcome)| {
        let failed = |why: String| (format!("FAILED: {why}"), Outcome::Failed(why), Vec::new());
        let (line, outcome, notes) = match outcome {
            Ok(Ok((values, notes))) => {
                let line = job.in_a_line(&values, &notes);
                (line, Outcome::Measured(values), notes)
            }
            Ok(Err(error)) => failed(format!("{error:#}")),
            Err(_panic) => failed("a thread panicked".to_owned()),
        };
        let record = Record {
            cell: job.name(),
            round: *round,
            key: key(job.subject()),
            build: job.subject().fingerprint().to_owned(),
            seed: job.seed(base_seed, *round),
            at,
            outcome,
            notes,
        };
        (record, line)
    });
    Ok(records.collect())
}

/// Puts together what runs side by side: neighbours, so that the order stays.
fn batches<J: Job>(jobs: &[(J, usize)]) -> Vec<&[(J, usize)]> {
    let mut batches = Vec::new();
    let mut first = 0;
    let mut weight = 0;
    for (number, (job, _)) in jobs.iter().enumerate() {
        if weight + job.weight() > CAPACITY && number > first {
            batches.push(&jobs[first..number]);
            first = number;
            weight = 0;
        }
        weight += job.weight();
    }
    if first < jobs.len() {
        batches.push(&jobs[first..]);
    }
    batches
}

/// Returns the values of one name of all runs that have one.
pub(crate) fn values(runs: &[&Record], key: &str) -> Vec<f64> {
    let of = |run: &&Record| match &run.outcome {
        Outcome::Measured(values) => values.get(key).copied(),
        _ => None,
    };
    runs.iter().filter_map(of).collect()
}

/// Returns median and worst of what is better less.
pub(crate) fn pair(runs: &[&Record], key: &str, digits: usize) -> String {
    pair_of(runs, key, digits, false)
}

/// Returns median and worst of what is better more.
pub(crate) fn pair_of_more(runs: &[&Record], key: &str, digits: usize) -> String {
    pair_of(runs, key, digits, true)
}

fn pair_of(runs: &[&Record], key: &str, digits: usize, more_is_better: bool) -> String {
    Spread::of(&values(runs, key), more_is_better).map_or("–".to_owned(), |spread| {
        let worst = if more_is_better {
            spread.min
        } else {
            spread.max
        };
        format!("{:.digits$} / {worst:.digits$}", spread.median)
    })
}

/// Returns what a run's figures hang on.
fn key(subject: &Subject) -> String {
    format!("{}-{METHOD}", subject.fingerprint())
}

fn base_seed() -> Result<u64> {
    match env::var("LAB_SEED") {
        Ok(text) => text.parse().context("LAB_SEED is not a number"),
        Err(_) => Ok(BASE_SEED),
    }
}

/// What a machine of two cores has room for.
pub(crate) const CAPACITY: usize = 6;

/// The first of the seeds, when `LAB_SEED` does not name one.
const BASE_SEED: u64 = 1;

/// Counted up when runs are done differently, so that old figures are not mixed with new ones.
const METHOD: u32 = 1;
