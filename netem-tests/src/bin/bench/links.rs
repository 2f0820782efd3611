//! What gets through bad links: every transport over every profile of `configs/links`.
//!
//! Each cell ([`cell::Cell`]) is a lab of its own with programs of its own. Rounds are interleaved:
//! all cells once, then all again, so that a machine that gets slower for a while does so for all.
//! Each run's values are written as soon as it ends ([`records`]); a run of the benchmark that was
//! interrupted goes on with what is missing.

mod cell;
mod goals;
mod link;
mod load;
mod measure;
mod metric;
mod plot;
pub(crate) mod progress;
pub(crate) mod records;
mod report;
pub(crate) mod site;
pub(crate) mod stats;
pub(crate) mod subject;
mod summary;
mod timeline;

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use netem_tests::Lab;

use crate::document::{Document, RESULTS_DIR};
use crate::settings::{Part, Settings};
use crate::{stolen, stop};
use cell::{Cell, Kind};
use link::Link;
use measure::Lengths;
use progress::Progress;
use records::{Outcome, Record, Records};
use subject::Subject;
use summary::Summary;

/// Measures what `settings` ask for and is not measured yet, and writes the report when that was
/// everything. Returns whether there was anything to measure.
pub(crate) fn run(settings: &Settings) -> Result<bool> {
    let subjects = Subject::all()?;
    let links = match settings.part {
        Part::Other => Link::others(&settings.links)?,
        _ => Link::all(&settings.links)?,
    };
    let cells = cell::plan(settings, &subjects, &links);
    if cells.is_empty() {
        return Ok(false);
    }
    let file = if settings.quick {
        "links-quick.jsonl"
    } else {
        "links.jsonl"
    };
    let mut records = Records::open(&Path::new(RESULTS_DIR).join(file))?;
    let refusals = Refusals::ask(&subjects)?;

    if !settings.report_only {
        if let Err(reason) = Lab::available() {
            say_loudly(&reason);
            return Ok(true);
        }
        let bench = Bench::new(settings)?;
        bench.measure(&cells, &refusals, &mut records)?;
    }

    let summary = Summary::new(&records, &subjects, &links);
    let report = report::Report {
        summary: &summary,
        refusals: &refusals.0,
        settings,
        cells: &cells,
        records: &records,
    };
    println!("\n{}", report.tables());
    println!("bench: every value is in {}", records.path().display());
    if settings.only.is_none() || settings.report_only {
        let document = Document::open(settings.quick)?;
        report.write(&document)?;
        println!("bench: wrote {}", document.path().display());
    }
    Ok(true)
}

/// How cells are run.
struct Bench<'a> {
    settings: &'a Settings,
    lengths: Lengths,
    base_seed: u64,
}

impl<'a> Bench<'a> {
    fn new(settings: &'a Settings) -> Result<Self> {
        let base_seed = match env::var("LAB_SEED") {
            Ok(text) => text.parse().context("LAB_SEED is not a number")?,
            Err(_) => BASE_SEED,
        };
        let lengths = if settings.quick {
            Lengths::QUICK
        } else {
            Lengths::FULL
        };
        Ok(Self {
            settings,
            lengths,
            base_seed,
        })
    }

    /// Runs all that is missing, in rounds.
    fn measure(
        &self,
        cells: &[Cell<'_>],
        refusals: &Refusals,
        records: &mut Records,
    ) -> Result<()> {
        let missing: Vec<Job<'_>> = (1..=self.settings.n_runs)
            .flat_map(|round| cells.iter().map(move |cell| (cell, round)))
            .filter(|(cell, _)| !refusals.refuses(cell.subject))
            .map(|(cell, round)| Job {
                cell: *cell,
                round,
                key: self.key(cell),
            })
            .filter(|job| {
                let name = job.cell.name();
                // Rates that only come along need not be fresh.
                let is_fresh = self.settings.fresh && self.settings.wants(&name);
                is_fresh || !records.has(&name, job.round, &job.key)
            })
            .collect();
        if missing.is_empty() {
            println!("bench: everything is measured with these programs (FRESH=1: again)");
            return Ok(());
        }
        println!("bench: seeds follow LAB_SEED={}", self.base_seed);

        let nominal = |job: &Job<'_>| self.lengths.nominal(&job.cell, self.settings.n_runs);
        let batches = batches(&missing);
        // What runs side by side takes as long as its longest.
        let times = batches
            .iter()
            .map(|batch| batch.iter().map(nominal).max().unwrap_or_default());
        let mut progress = Progress::new(times.collect(), missing.len());
        let mut n_failed = 0;
        for batch in batches {
            stop::check()?;
            progress.announce(batch.iter().map(|job| (job.cell.name(), job.round)));
            for record in stolen::undisturbed(|| self.run_batch(batch))? {
                progress.tell(&record);
                n_failed += usize::from(matches!(record.outcome, Outcome::Failed(_)));
                records.add(record)?;
            }
            progress.batch_done();
        }
        ensure!(
            n_failed == 0,
            "{n_failed} runs failed for reasons of the benchmark's own; what else was measured is \
             kept, and the next `make bench` does only these again"
        );
        Ok(())
    }

    /// Runs jobs side by side.
    fn run_batch(&self, batch: &[Job<'_>]) -> Result<Vec<Record>> {
        let outcomes: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = batch
                .iter()
                .map(|job| scope.spawn(|| self.run_job(job)))
                .collect();
            threads
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect()
        });
        // A run that Ctrl-C has cut short is no result.
        stop::check()?;
        let at = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
        let records = batch.iter().zip(outcomes).map(|(job, outcome)| Record {
            cell: job.cell.name(),
            round: job.round,
            key: job.key.clone(),
            build: job.cell.subject.fingerprint().to_owned(),
            seed: self.seed(job),
            at,
            outcome: match outcome {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(error)) => Outcome::Failed(format!("{error:#}")),
                Err(_panic) => Outcome::Failed("a thread panicked".to_owned()),
            },
            notes: Vec::new(),
        });
        Ok(records.collect())
    }

    fn run_job(&self, job: &Job<'_>) -> Result<Outcome> {
        let n_rounds = self.settings.n_runs;
        measure::run(&job.cell, &self.lengths, self.seed(job), n_rounds, |site| {
            if let Some(pair) = &site.pair {
                // Logs that cannot be written are no reason to lose the result.
                let _ = pair.save_logs(&log_dir(job));
            }
        })
    }

    /// Returns the seed of a job. Whoever is measured meets the same sequence of losses.
    fn seed(&self, job: &Job<'_>) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.base_seed.hash(&mut hasher);
        job.cell.link.name.hash(&mut hasher);
        job.round.hash(&mut hasher);
        hasher.finish()
    }

    /// Returns what a cell's figures hang on.
    fn key(&self, cell: &Cell<'_>) -> String {
        let mut hasher = DefaultHasher::new();
        format!("{:?}", cell.link.profile).hash(&mut hasher);
        format!("{:?}", self.lengths).hash(&mut hasher);
        if cell.kind == Kind::Starts {
            // The rounds share them.
            self.settings.n_runs.hash(&mut hasher);
        }
        METHOD.hash(&mut hasher);
        format!(
            "{}{:08x}",
            cell.subject.fingerprint(),
            hasher.finish() >> 32
        )
    }
}

/// A run of a cell that is to be done.
struct Job<'a> {
    cell: Cell<'a>,
    round: usize,
    key: String,
}

/// Puts together what may run side by side: neighbours, so that the order stays.
fn batches<'a, 'b>(jobs: &'b [Job<'a>]) -> Vec<&'b [Job<'a>]> {
    let mut batches = Vec::new();
    let mut first = 0;
    let mut weight = 0;
    for (number, job) in jobs.iter().enumerate() {
        let own = job.cell.kind.weight();
        if weight + own > Kind::CAPACITY && number > first {
            batches.push(&jobs[first..number]);
            first = number;
            weight = 0;
        }
        weight += own;
    }
    if first < jobs.len() {
        batches.push(&jobs[first..]);
    }
    batches
}

/// The subjects whose programs do not have their transport, and what they said.
struct Refusals(Vec<(String, String)>);

impl Refusals {
    fn ask(subjects: &[Subject]) -> Result<Self> {
        let mut refusals = Vec::new();
        for subject in subjects {
            if let Some(text) = site::refusal(subject.route())? {
                println!("bench: {} is left out: {text}", subject.title());
                refusals.push((subject.name().to_owned(), text));
            }
        }
        Ok(Self(refusals))
    }

    fn refuses(&self, subject: &Subject) -> bool {
        self.0.iter().any(|(name, _)| name == subject.name())
    }
}

fn log_dir(job: &Job<'_>) -> PathBuf {
    let name = job.cell.name().replace('/', "_");
    Path::new(RESULTS_DIR)
        .join("logs")
        .join(format!("{name}-{}", job.round))
}

fn say_loudly(reason: &str) {
    let bar = "*".repeat(78);
    println!(
        "\n{bar}\n***  NOT MEASURED: bad links. The link lab does not work here: {reason}.\n{bar}\n"
    );
}

/// The first of the seeds, when `LAB_SEED` does not name one: the same losses in every run.
const BASE_SEED: u64 = 1;

/// Counted up when cells are measured differently, so that old figures are not mixed with new ones.
const METHOD: u32 = 2;
