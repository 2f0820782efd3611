//! `PART=switching`: one download through all kinds of links, and what switching does where there
//! is nothing to gain.
//!
//! The journey is a download of 256 MiB on one connection while the link under it changes; it is
//! compared with the sum of what the best fixed transport needs for each part of it. The calm runs
//! are minutes on links that are bad in a way that no transport is spared: whoever switches there,
//! and why, is written down.

mod calm;
mod journey;
mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail, ensure};
use netem_tests::{Lab, Sides, Transport, Tunnel};

use crate::document::{Document, RESULTS_DIR};
use crate::faults::{base_seed, key};
use crate::links::progress::in_words;
use crate::links::records::{Outcome, Record, Records};
use crate::links::subject::Subject;
use crate::settings::Settings;
use crate::stop;
use calm::Calm;
use journey::Reference;
use report::Report;

/// Measures what `settings` ask for and is not measured yet, and writes the report when that was
/// everything. Returns whether there was anything to measure.
pub(crate) fn run(settings: &Settings) -> Result<bool> {
    let auto = Subject::auto()?;
    let jobs: Vec<Job> = Job::all(settings.quick)
        .into_iter()
        .filter(|job| settings.wants(&job.name()))
        .collect();
    if jobs.is_empty() {
        return Ok(false);
    }
    let file = if settings.quick {
        "switching-quick.jsonl"
    } else {
        "switching.jsonl"
    };
    let mut records = Records::open(&Path::new(RESULTS_DIR).join(file))?;
    if !settings.report_only {
        if let Err(reason) = Lab::available() {
            bail!("the link lab does not work here: {reason}");
        }
        measure(settings, &auto, &jobs, &mut records)?;
    }
    let report = Report { records: &records };
    println!("\n{}", report.tables());
    println!("bench: every value is in {}", records.path().display());
    if settings.only.is_none() || settings.report_only {
        let document = Document::open_named("switching.md", settings.quick)?;
        document.replace_part("switching", &report.tables())?;
        println!("bench: wrote {}", document.path().display());
    }
    Ok(true)
}

/// Something to be measured.
#[derive(Clone, Copy, Debug)]
enum Job {
    Journey,
    Reference(Reference),
    Calm(&'static Calm, Duration),
}

/// What came of it: values, and what else there is to say.
pub(crate) type Findings = Result<(BTreeMap<String, f64>, Vec<String>)>;

impl Job {
    fn all(is_quick: bool) -> Vec<Self> {
        let mut jobs: Vec<Self> = Reference::ALL.into_iter().map(Self::Reference).collect();
        jobs.push(Self::Journey);
        let (calms, time) = if is_quick {
            (&calm::ALL[..1], CALM_QUICK)
        } else {
            (&calm::ALL[..], CALM)
        };
        jobs.extend(calms.iter().map(|calm| Self::Calm(calm, time)));
        jobs
    }

    fn name(&self) -> String {
        match self {
            Self::Journey => journey::NAME.to_owned(),
            Self::Reference(reference) => reference.name(),
            Self::Calm(calm, _) => calm.name(),
        }
    }

    fn nominal(&self) -> Duration {
        match self {
            Self::Journey => Duration::from_secs(60),
            Self::Reference(_) => Duration::from_secs(8),
            Self::Calm(_, time) => *time + Duration::from_secs(5),
        }
    }

    /// Says whether it leaves room for another beside it.
    fn is_light(&self) -> bool {
        matches!(self, Self::Calm(..))
    }

    fn run(&self, seed: u64) -> Findings {
        let ours = |transport| -> Result<Tunnel> {
            Ok(Tunnel {
                sides: Sides::ours()?,
                transport,
            })
        };
        match self {
            Self::Journey => journey::travel(&ours(Transport::Auto)?, seed),
            Self::Reference(reference) => reference.measure(&ours(reference.transport)?, seed),
            Self::Calm(calm, time) => calm.sit_out(&ours(Transport::Auto)?, *time, seed),
        }
    }
}

fn measure(settings: &Settings, auto: &Subject, jobs: &[Job], records: &mut Records) -> Result<()> {
    let base_seed = base_seed()?;
    let missing: Vec<(Job, usize)> = (1..=settings.n_runs)
        .flat_map(|round| jobs.iter().map(move |job| (*job, round)))
        .filter(|(job, round)| settings.fresh || !records.has(&job.name(), *round, &key(auto)))
        .collect();
    let batches: Vec<&[(Job, usize)]> = missing
        .chunk_by(|(one, _), (other, _)| one.is_light() && other.is_light())
        .flat_map(|chunk| chunk.chunks(SIDE_BY_SIDE))
        .collect();
    let nominal = |batch: &[(Job, usize)]| {
        let times = batch.iter().map(|(job, _)| job.nominal());
        times.max().unwrap_or_default()
    };
    let start = Instant::now();
    let mut left: Duration = batches.iter().map(|batch| nominal(batch)).sum();
    let mut n_failed = 0;
    println!(
        "bench: {} runs to do, about {}; seeds follow LAB_SEED={base_seed}",
        missing.len(),
        in_words(left)
    );
    for batch in batches {
        stop::check()?;
        for (job, round) in batch {
            println!(
                "bench: {} gone, about {} left, round {round}: {}",
                in_words(start.elapsed()),
                in_words(left),
                job.name()
            );
        }
        let outcomes: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = batch
                .iter()
                .map(|(job, round)| scope.spawn(move || job.run(base_seed + *round as u64)))
                .collect();
            threads
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect()
        });
        // A run that Ctrl-C has cut short is no result.
        stop::check()?;
        for ((job, round), outcome) in batch.iter().zip(outcomes) {
            let (outcome, notes) = match outcome {
                Ok(Ok((values, notes))) => (Outcome::Measured(values), notes),
                Ok(Err(error)) => (Outcome::Failed(format!("{error:#}")), Vec::new()),
                Err(_panic) => (Outcome::Failed("a thread panicked".to_owned()), Vec::new()),
            };
            n_failed += usize::from(matches!(outcome, Outcome::Failed(_)));
            println!("         {}: {}", job.name(), in_a_line(&outcome, &notes));
            records.add(Record {
                cell: job.name(),
                round: *round,
                key: key(auto),
                build: auto.fingerprint().to_owned(),
                seed: base_seed + *round as u64,
                at: SystemTime::UNIX_EPOCH.elapsed()?.as_secs(),
                outcome,
                notes,
            })?;
        }
        left -= nominal(batch);
    }
    ensure!(
        n_failed == 0,
        "{n_failed} runs failed; what else was measured is kept"
    );
    Ok(())
}

fn in_a_line(outcome: &Outcome, notes: &[String]) -> String {
    match outcome {
        Outcome::Measured(values) => {
            let values = values
                .iter()
                .map(|(key, value)| format!("{key} {value:.1}"));
            values
                .chain(notes.iter().cloned())
                .collect::<Vec<_>>()
                .join(", ")
        }
        Outcome::Failed(why) => format!("FAILED: {why}"),
        Outcome::Stalled(why) | Outcome::Refused(why) => why.clone(),
    }
}

/// How long a calm run lasts.
const CALM: Duration = Duration::from_secs(180);
const CALM_QUICK: Duration = Duration::from_secs(30);

/// How many calm runs go at once.
const SIDE_BY_SIDE: usize = 2;
