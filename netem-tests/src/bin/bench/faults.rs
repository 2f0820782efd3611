//! `PART=faults`: what users notice of the faults that a tunnel has to survive.
//!
//! Each run of a case is a lab of its own with programs of its own. Ours choose their transport;
//! frp's programs, where they are at hand, play every case over each transport that the fault
//! concerns. Where a goal compares with fixed transports, ours play it over those too. Runs are kept
//! as they end, as those over bad links are.

mod report;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use netem_tests::fault_table::{Case, Load, Measure};
use netem_tests::{Manner, Seen, Transport, Tunnel};

use crate::document::RESULTS_DIR;
use crate::links::site;
use crate::links::subject::{Route, Subject};
use crate::rounds::{self, CAPACITY, Findings, Job};
use crate::settings::Settings;
use crate::stop;
use report::Report;

/// Measures what `settings` ask for and is not measured yet, and writes the report when that was
/// everything. Returns whether there was anything to measure.
pub(crate) fn run(settings: &Settings) -> Result<bool> {
    let subjects = subjects()?;
    let cells = plan(settings, &subjects)?;
    rounds::run(settings, "faults", &cells, |records| {
        let report = Report {
            records,
            subjects: &subjects,
            n_runs: settings.n_runs,
        };
        report.tables()
    })
}

/// Somebody in a case.
#[derive(Clone, Copy)]
struct Cell<'a> {
    subject: &'a Subject,
    case: &'static Case,
}

impl Job for Cell<'_> {
    fn name(&self) -> String {
        name(self.subject, self.case)
    }

    fn subject(&self) -> &Subject {
        self.subject
    }

    fn nominal(&self) -> Duration {
        self.case.nominal
    }

    fn weight(&self) -> usize {
        match self.case.load {
            // A stream of 20 Mbit/s each way is two programs and a link, and a machine of two cores
            // has some room beside two of them.
            Load::Stream => CAPACITY / 2,
            Load::Bulk => CAPACITY,
        }
    }

    /// Whoever is measured meets the same losses.
    fn seed(&self, base_seed: u64, round: usize) -> u64 {
        let mut hasher = DefaultHasher::new();
        (base_seed, self.case.name, round).hash(&mut hasher);
        hasher.finish()
    }

    fn run(&self, seed: u64, round: usize) -> Findings {
        let seen = self.play(seed)?;
        // Logs that cannot be written are no reason to lose the result.
        let _ = keep_logs(self, round, &seen);
        Ok((values(&seen), notes(&seen)))
    }

    fn in_a_line(&self, values: &BTreeMap<String, f64>, notes: &[String]) -> String {
        in_a_line(values, notes)
    }
}

impl Cell<'_> {
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

fn in_a_line(values: &BTreeMap<String, f64>, notes: &[String]) -> String {
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
    parts.extend(notes.first().cloned());
    parts.join(", ")
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
