//! `PART=faults`: what users notice of the faults that a tunnel has to survive.
//!
//! Each run of a case is a lab of its own with programs of its own. Ours choose their transport;
//! frp's programs, where they are at hand, play every case over each transport that the fault
//! concerns. Where a goal compares with fixed transports, ours play it over those too. Runs are kept
//! as they end, as those over bad links are.

mod report;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use netem_tests::fault_table::{Case, Load, Measure};
use netem_tests::{Lab, Manner, Seen, Transport, Tunnel};

use crate::document::{Document, RESULTS_DIR};
use crate::links::progress::in_words;
use crate::links::records::{Outcome, Record, Records};
use crate::links::site;
use crate::links::subject::{Route, Subject};
use crate::settings::Settings;
use crate::stop;
use report::Report;

/// Measures what `settings` ask for and is not measured yet, and writes the report when that was
/// everything. Returns whether there was anything to measure.
pub(crate) fn run(settings: &Settings) -> Result<bool> {
    let subjects = subjects()?;
    let cells = plan(settings, &subjects)?;
    if cells.is_empty() {
        return Ok(false);
    }
    let file = if settings.quick {
        "faults-quick.jsonl"
    } else {
        "faults.jsonl"
    };
    let mut records = Records::open(&Path::new(RESULTS_DIR).join(file))?;
    if !settings.report_only {
        if let Err(reason) = Lab::available() {
            bail!("the link lab does not work here: {reason}");
        }
        measure(settings, &cells, &mut records)?;
    }
    let report = Report {
        records: &records,
        subjects: &subjects,
        n_runs: settings.n_runs,
    };
    println!("\n{}", report.tables());
    println!("bench: every value is in {}", records.path().display());
    if settings.only.is_none() || settings.report_only {
        let document = Document::open_named("switching.md", settings.quick)?;
        document.replace_part("faults", &report.tables())?;
        println!("bench: wrote {}", document.path().display());
    }
    Ok(true)
}

/// Somebody in a case.
#[derive(Clone, Copy)]
struct Cell<'a> {
    subject: &'a Subject,
    case: &'static Case,
}

impl Cell<'_> {
    fn name(&self) -> String {
        name(self.subject, self.case)
    }

    fn weight(&self) -> usize {
        match self.case.load {
            Load::Stream => 1,
            // It takes all that the machine has.
            Load::Bulk => CAPACITY,
        }
    }

    fn play(&self, seed: u64) -> Result<Seen> {
        let tunnel = tunnel(self.subject)?;
        let manner = Manner {
            rates: self.case.rates(),
            seed,
            is_quiet: true,
            is_stopped: stop::is_asked_for,
        };
        self.case.play(&tunnel, manner)
    }
}

/// Returns who is measured: ours in `auto` first, then each fixed transport.
fn subjects() -> Result<Vec<Subject>> {
    let mut subjects = vec![Subject::auto()?];
    let fixed = Subject::all()?.into_iter();
    subjects.extend(fixed.filter(|subject| !subject.is_bare() && !subject.is_auto()));
    Ok(subjects)
}

/// Returns what is to be measured, in the order of a round.
fn plan<'a>(settings: &Settings, subjects: &'a [Subject]) -> Result<Vec<Cell<'a>>> {
    let mut cells = Vec::new();
    for subject in subjects {
        if let Some(text) = site::refusal(subject.route())? {
            println!("bench: {} is left out: {text}", subject.title());
            continue;
        }
        let transport = tunnel(subject)?.transport;
        let cases = Case::all().iter().filter(|case| case.is_for(transport));
        cells.extend(cases.map(|case| Cell { subject, case }).filter(
            |cell| match &settings.only {
                Some(pattern) => pattern.matches(&cell.name()),
                None if settings.quick => transport == Transport::Auto && is_quick(cell.case),
                None => is_usual(cell, transport),
            },
        ));
    }
    Ok(cells)
}

/// Says whether a whole run has this: our fixed transports are measured where a goal needs them.
fn is_usual(cell: &Cell<'_>, transport: Transport) -> bool {
    transport == Transport::Auto
        || cell.subject.is_peer()
        || (cell.case.compares()
            && matches!(transport, Transport::Tcp | Transport::Kcp | Transport::Quic))
}

fn is_quick(case: &Case) -> bool {
    QUICK_CASES.contains(&case.name)
}

fn measure(settings: &Settings, cells: &[Cell<'_>], records: &mut Records) -> Result<()> {
    let base_seed = base_seed()?;
    let missing: Vec<(Cell<'_>, usize)> = (1..=settings.n_runs)
        .flat_map(|round| cells.iter().map(move |cell| (*cell, round)))
        .filter(|(cell, round)| {
            settings.fresh || !records.has(&cell.name(), *round, &key(cell.subject))
        })
        .collect();
    if missing.is_empty() {
        println!("bench: everything is measured with these programs (FRESH=1: again)");
        return Ok(());
    }
    let batches = batches(&missing);
    let nominal = |batch: &[(Cell<'_>, usize)]| {
        let times = batch.iter().map(|(cell, _)| cell.case.nominal);
        times.max().unwrap_or_default()
    };
    let start = Instant::now();
    let mut left: Duration = batches.iter().map(|batch| nominal(batch)).sum();
    println!(
        "bench: {} runs to do, about {}; seeds follow LAB_SEED={base_seed}",
        missing.len(),
        in_words(left)
    );
    let mut n_done = 0;
    let mut n_failed = 0;
    for batch in batches {
        stop::check()?;
        for (cell, round) in batch {
            n_done += 1;
            println!(
                "bench: {n_done:4} of {}, {} gone, about {} left, round {round}: {}",
                missing.len(),
                in_words(start.elapsed()),
                in_words(left),
                cell.name()
            );
        }
        for record in run_batch(batch, base_seed)? {
            println!("         {}: {}", record.cell, in_a_line(&record));
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

fn run_batch(batch: &[(Cell<'_>, usize)], base_seed: u64) -> Result<Vec<Record>> {
    let outcomes: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = batch
            .iter()
            .map(|(cell, round)| scope.spawn(move || cell.play(seed(base_seed, cell, *round))))
            .collect();
        threads
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect()
    });
    // A run that Ctrl-C has cut short is no result.
    stop::check()?;
    let at = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    let records = batch.iter().zip(outcomes).map(|((cell, round), outcome)| {
        if let Ok(Ok(seen)) = &outcome {
            // Logs that cannot be written are no reason to lose the result.
            let _ = keep_logs(cell, *round, seen);
        }
        let (outcome, notes) = match outcome {
            Ok(Ok(seen)) => (Outcome::Measured(values(&seen)), notes(&seen)),
            Ok(Err(error)) => (Outcome::Failed(format!("{error:#}")), Vec::new()),
            Err(_panic) => (Outcome::Failed("a thread panicked".to_owned()), Vec::new()),
        };
        Record {
            cell: cell.name(),
            round: *round,
            key: key(cell.subject),
            build: cell.subject.fingerprint().to_owned(),
            seed: seed(base_seed, cell, *round),
            at,
            outcome,
            notes,
        }
    });
    Ok(records.collect())
}

/// Keeps the logs of a run of ours in which the stream did not go on.
fn keep_logs(cell: &Cell<'_>, round: usize, seen: &Seen) -> Result<()> {
    if seen.is_intact || !cell.subject.is_ours() {
        return Ok(());
    }
    let name = format!("{}-{round}", cell.name().replace('/', "_"));
    let dir = Path::new(RESULTS_DIR).join("logs").join(name);
    fs::create_dir_all(&dir)?;
    for (name, log) in ["frps.log", "frpc.log"].iter().zip(&seen.logs) {
        fs::write(dir.join(name), log)?;
    }
    Ok(())
}

/// Returns what is kept of what was seen.
fn values(seen: &Seen) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    let mut keep = |key: &str, value: Option<f64>| {
        if let Some(value) = value {
            values.insert(key.to_owned(), value);
        }
    };
    for measure in Measure::ALL {
        keep(measure.key(), measure.of(seen));
    }
    let seconds = |time: Duration| time.as_secs_f64();
    keep(IS_INTACT, Some(f64::from(u8::from(seen.is_intact))));
    keep(IS_WRONG, Some(f64::from(u8::from(seen.is_wrong))));
    keep(BROKEN_AFTER, seen.broken_after.map(seconds));
    keep(TYPING_STALL, Some(seconds(seen.typing_stall)));
    keep(FRESH_BACK, seen.fresh_back.map(seconds));
    keep(FRESH_SERVED, Some(seen.fresh.n_served as f64));
    keep(FRESH_REFUSED, Some(seen.fresh.n_refused as f64));
    keep(FRESH_UNANSWERED, Some(seen.fresh.n_unanswered as f64));
    keep(FRESH_LONGEST, Some(seconds(seen.fresh.longest)));
    for (key, kib) in ["rss_frps_mib", "rss_frpc_mib"].iter().zip(seen.rss_kib) {
        keep(key, Some(kib as f64 / 1024.0));
    }
    values
}

fn notes(seen: &Seen) -> Vec<String> {
    let flaw = seen.flaw.iter().cloned();
    let switches = seen.switches.iter().map(|switch| switch.line.clone());
    flaw.chain(switches).collect()
}

fn in_a_line(record: &Record) -> String {
    let values = match &record.outcome {
        Outcome::Measured(values) => values,
        Outcome::Failed(why) => return format!("FAILED: {why}"),
        Outcome::Stalled(why) | Outcome::Refused(why) => return why.clone(),
    };
    let value = |key: &str| values.get(key).copied();
    let mut parts = vec![
        match (value(IS_INTACT), value(IS_WRONG), value(BROKEN_AFTER)) {
            (_, Some(1.0), _) => "WRONG BYTES".to_owned(),
            (Some(1.0), ..) => "intact".to_owned(),
            (_, _, Some(after)) => format!("broken after {after:.1} s"),
            _ => "silent to the end".to_owned(),
        },
    ];
    for (key, text) in [
        ("stall_s", "stall"),
        ("back_s", "back after"),
        ("noticed_s", "noticed after"),
        ("closed_s", "closed after"),
        ("proxies_back_s", "proxies back after"),
        (TYPING_STALL, "typing stalled"),
        (FRESH_BACK, "fresh back after"),
    ] {
        if let Some(value) = value(key) {
            parts.push(format!("{text} {value:.2} s"));
        }
    }
    for (key, text) in [
        (FRESH_SERVED, "served"),
        (FRESH_REFUSED, "refused"),
        (FRESH_UNANSWERED, "unanswered"),
        ("n_switches", "switches"),
        ("goodput_mbit", "Mbit/s"),
    ] {
        if let Some(value) = value(key) {
            parts.push(format!("{value:.0} {text}"));
        }
    }
    parts.extend(record.notes.first().cloned());
    parts.join(", ")
}

/// Puts together what runs side by side: neighbours, so that the order stays.
fn batches<'a, 'b>(jobs: &'b [(Cell<'a>, usize)]) -> Vec<&'b [(Cell<'a>, usize)]> {
    let mut batches = Vec::new();
    let mut first = 0;
    let mut weight = 0;
    for (number, (cell, _)) in jobs.iter().enumerate() {
        if weight + cell.weight() > CAPACITY && number > first {
            batches.push(&jobs[first..number]);
            first = number;
            weight = 0;
        }
        weight += cell.weight();
    }
    if first < jobs.len() {
        batches.push(&jobs[first..]);
    }
    batches
}

fn tunnel(subject: &Subject) -> Result<Tunnel> {
    let Route::Tunnel(sides, transport) = subject.route() else {
        bail!("{} is no tunnel", subject.title());
    };
    Ok(Tunnel {
        sides: sides.clone(),
        transport: *transport,
    })
}

fn name(subject: &Subject, case: &Case) -> String {
    format!("faults/{}/{}", subject.name(), case.name)
}

/// Returns what a run's figures hang on.
pub(crate) fn key(subject: &Subject) -> String {
    format!("{}-{METHOD}", subject.fingerprint())
}

fn seed(base_seed: u64, cell: &Cell<'_>, round: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    (base_seed, cell.case.name, round).hash(&mut hasher);
    hasher.finish()
}

pub(crate) fn base_seed() -> Result<u64> {
    match env::var("LAB_SEED") {
        Ok(text) => text.parse().context("LAB_SEED is not a number"),
        Err(_) => Ok(BASE_SEED),
    }
}

const IS_INTACT: &str = "is_intact";
const IS_WRONG: &str = "is_wrong";
const BROKEN_AFTER: &str = "broken_after_s";
const TYPING_STALL: &str = "typing_stall_s";
const FRESH_BACK: &str = "fresh_back_s";
const FRESH_SERVED: &str = "n_fresh_served";
const FRESH_REFUSED: &str = "n_fresh_refused";
const FRESH_UNANSWERED: &str = "n_fresh_unanswered";
const FRESH_LONGEST: &str = "fresh_longest_s";

/// A look at what matters most, in two minutes.
const QUICK_CASES: [&str; 5] = [
    "udp-dropped",
    "dead-5",
    "address",
    "server-restart",
    "client-killed",
];

/// How many streams of 20 Mbit/s run side by side: each of them is two programs and a link, and
/// together they leave a machine of two cores some room.
const CAPACITY: usize = 2;

/// The first of the seeds, when `LAB_SEED` does not name one.
const BASE_SEED: u64 = 1;

/// Counted up when cases are played differently, so that old figures are not mixed with new ones.
const METHOD: u32 = 1;
