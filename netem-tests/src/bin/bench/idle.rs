//! `PART=idle`: what clients in `auto` cost that nobody uses: one of them, and a thousand at one
//! server.
//!
//! The clients are the real programs, all on the far side of one link of the lab, and each has one
//! proxy. What the link carries and what the programs take is counted for some minutes in each
//! state, and told for a day that is like them. The longest interval between probes is ten seconds
//! on the carrier in use and five minutes on others; so long does the longest look take.

mod crowd;
mod report;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::links::subject::Subject;
use crate::rounds::{self, CAPACITY, Findings, Job};
use crate::settings::Settings;
use crowd::Crowd;

/// Measures what `settings` ask for and is not measured yet, and writes the report when that was
/// everything. Returns whether there was anything to measure.
pub(crate) fn run(settings: &Settings) -> Result<bool> {
    let auto = Subject::auto()?;
    let lengths = if settings.quick {
        Lengths::QUICK
    } else {
        Lengths::FULL
    };
    let looks: Vec<Look<'_>> = [Who::One, Who::Many]
        .into_iter()
        .map(|who| Look {
            who,
            lengths,
            auto: &auto,
        })
        .filter(|look| settings.wants(&look.name()))
        .collect();
    rounds::run(settings, "idle", &looks, report::table)
}

/// How many clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    One,
    Many,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::One => "idle/auto/one",
            Self::Many => "idle/auto/many",
        }
    }
}

/// Something to be measured.
#[derive(Clone, Copy)]
struct Look<'a> {
    who: Who,
    lengths: Lengths,
    auto: &'a Subject,
}

/// How long a look takes, and at how many.
#[derive(Clone, Copy)]
struct Lengths {
    n_many: u16,
    /// From the last user's word until probes go once a second.
    quiet_after: Duration,
    quiet: Duration,
    /// From the last user's leave until probes go every ten seconds.
    asleep_after: Duration,
    asleep: Duration,
}

impl Lengths {
    const FULL: Self = Self {
        n_many: 1000,
        quiet_after: Duration::from_secs(20),
        quiet: Duration::from_secs(60),
        asleep_after: Duration::from_secs(75),
        asleep: Duration::from_secs(300),
    };
    const QUICK: Self = Self {
        n_many: 50,
        quiet_after: Duration::from_secs(15),
        quiet: Duration::from_secs(10),
        asleep_after: Duration::from_secs(75),
        asleep: Duration::from_secs(30),
    };

    fn all(&self) -> Duration {
        self.quiet_after + self.quiet + self.asleep_after + self.asleep
    }
}

impl Job for Look<'_> {
    fn name(&self) -> String {
        self.who.name().to_owned()
    }

    fn subject(&self) -> &Subject {
        self.auto
    }

    fn nominal(&self) -> Duration {
        match self.who {
            Who::One => self.lengths.all(),
            Who::Many => self.lengths.all() + Duration::from_secs(90),
        }
    }

    fn weight(&self) -> usize {
        CAPACITY
    }

    fn run(&self, seed: u64, _round: usize) -> Findings {
        let n = match self.who {
            Who::One => 1,
            Who::Many => self.lengths.n_many,
        };
        let mut crowd = Crowd::open(self.who.name(), seed)?;
        crowd.come(n)?;
        let mut values = BTreeMap::new();
        let users = crowd.users()?;
        crowd.wait(self.lengths.quiet_after)?;
        crowd.watch(QUIET, self.lengths.quiet, &mut values)?;
        drop(users);
        crowd.wait(self.lengths.asleep_after)?;
        crowd.watch(ASLEEP, self.lengths.asleep, &mut values)?;
        crowd.weigh(&mut values)?;
        Ok((values, crowd.switches()))
    }

    fn in_a_line(&self, values: &BTreeMap<String, f64>, _notes: &[String]) -> String {
        let parts = values
            .iter()
            .map(|(key, value)| format!("{key} {value:.2}"));
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// A user's connection is open on every client, and says nothing.
const QUIET: &str = "quiet";

/// Nobody is connected.
const ASLEEP: &str = "asleep";

const N_CLIENTS: &str = "n_clients";
const FRPS_MIB: &str = "rss_frps_mib";
const FRPS_KIB_EACH: &str = "frps_kib_each";
const FRPC_MIB: &str = "rss_frpc_mib";
const FRPC_OWN_MIB: &str = "own_frpc_mib";
const COMING: &str = "coming_s";
const N_SWITCHES: &str = "n_switches";

/// Returns the names of the values of a state: bytes and CPU seconds of a client and a day, and the
/// server's CPU in percent of a core.
fn keys(state: &str) -> [String; 3] {
    [
        format!("{state}_bytes_a_day_each"),
        format!("{state}_frpc_cpu_s_a_day_each"),
        format!("{state}_frps_cpu_pct"),
    ]
}
