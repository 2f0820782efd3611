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
use std::time::Duration;

use anyhow::Result;
use netem_tests::{Sides, Transport, Tunnel};

use crate::links::subject::Subject;
use crate::rounds::{self, CAPACITY, Findings, Job};
use crate::settings::Settings;
use calm::Calm;
use journey::Reference;
use report::Report;

/// Measures what `settings` ask for and is not measured yet, and writes the report when that was
/// everything. Returns whether there was anything to measure.
pub(crate) fn run(settings: &Settings) -> Result<bool> {
    let auto = Subject::auto()?;
    let runs: Vec<Run<'_>> = What::all(settings.quick)
        .into_iter()
        .map(|what| Run { what, auto: &auto })
        .filter(|run| settings.wants(&run.name()))
        .collect();
    rounds::run(settings, "switching", &runs, |records| {
        Report { records }.tables()
    })
}

/// Something to be measured.
#[derive(Clone, Copy, Debug)]
enum What {
    Journey,
    Reference(Reference),
    Calm(&'static Calm, Duration),
}

/// It, and the programs of all of them.
#[derive(Clone, Copy)]
struct Run<'a> {
    what: What,
    auto: &'a Subject,
}

impl What {
    fn all(is_quick: bool) -> Vec<Self> {
        let mut all: Vec<Self> = Reference::ALL.into_iter().map(Self::Reference).collect();
        all.push(Self::Journey);
        let (calms, time) = if is_quick {
            (&calm::ALL[..1], CALM_QUICK)
        } else {
            (&calm::ALL[..], CALM)
        };
        all.extend(calms.iter().map(|calm| Self::Calm(calm, time)));
        all
    }
}

impl Job for Run<'_> {
    fn name(&self) -> String {
        match self.what {
            What::Journey => journey::NAME.to_owned(),
            What::Reference(reference) => reference.name(),
            What::Calm(calm, _) => calm.name(),
        }
    }

    fn subject(&self) -> &Subject {
        self.auto
    }

    fn nominal(&self) -> Duration {
        match self.what {
            What::Journey => Duration::from_secs(90),
            What::Reference(_) => Duration::from_secs(8),
            What::Calm(_, time) => time + Duration::from_secs(5),
        }
    }

    fn weight(&self) -> usize {
        match self.what {
            What::Calm(..) => CAPACITY / CALM_SIDE_BY_SIDE,
            What::Journey | What::Reference(_) => CAPACITY,
        }
    }

    fn run(&self, seed: u64, _round: usize) -> Findings {
        let ours = |transport| -> Result<Tunnel> {
            Ok(Tunnel {
                sides: Sides::ours()?,
                transport,
            })
        };
        match self.what {
            What::Journey => journey::travel(&ours(Transport::Auto)?, seed),
            What::Reference(reference) => reference.measure(&ours(reference.transport)?, seed),
            What::Calm(calm, time) => calm.sit_out(&ours(Transport::Auto)?, time, seed),
        }
    }

    fn in_a_line(&self, values: &BTreeMap<String, f64>, notes: &[String]) -> String {
        let values = values
            .iter()
            .map(|(key, value)| format!("{key} {value:.1}"));
        let parts: Vec<_> = values.chain(notes.iter().cloned()).collect();
        parts.join(", ")
    }
}

/// How long a calm run lasts.
const CALM: Duration = Duration::from_secs(180);
const CALM_QUICK: Duration = Duration::from_secs(30);

/// How many calm runs go at once: each takes a third of a core at 20 Mbit/s each way.
const CALM_SIDE_BY_SIDE: usize = 3;
