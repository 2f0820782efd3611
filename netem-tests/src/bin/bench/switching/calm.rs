//! Links that are bad, and no better over another transport.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use netem_tests::events::Switch;
use netem_tests::observe::Rates;
use netem_tests::{Fault, Manner, Profile, Stage, Tunnel};

use crate::rounds::Findings;
use crate::stop;

/// A link on which one stays where one is.
#[derive(Debug)]
pub(super) struct Calm {
    pub(super) what: &'static str,
    short: &'static str,
    profile: fn() -> Profile,
    fault: Option<fn() -> Fault>,
}

impl Calm {
    pub(super) fn name(&self) -> String {
        format!("switching/calm/{}", self.short)
    }

    /// Carries a stream over the link for `time`.
    pub(super) fn sit_out(&self, tunnel: &Tunnel, time: Duration, seed: u64) -> Findings {
        let manner = Manner {
            rates: Rates::both(20.0),
            seed,
            is_quiet: true,
            is_stopped: stop::is_asked_for,
        };
        let mut stage = Stage::open(self.short, tunnel, &Profile::default(), manner)?;
        stage.traffic_begins()?;
        stage.all_is_well()?;
        let begin = Instant::now();
        stage.link_becomes(&(self.profile)())?;
        if let Some(fault) = self.fault {
            stage.breaks(fault())?;
        }
        stage.goes_on_for(time.saturating_sub(begin.elapsed()))?;
        let end = Instant::now();
        // Whether it is whole shows when what is under way can arrive: on some of these links it
        // would take minutes.
        stage.link_becomes(&Profile::default())?;
        stage.mends()?;
        stage.goes_on_for(AFTERWARDS)?;
        let seen = stage.seen()?;
        let switches: Vec<&Switch> = seen.switches.iter().filter(|one| one.at <= end).collect();
        // Without the last second, which may be cut short.
        let until = time.saturating_sub(Duration::from_secs(1));
        let mean = seen.mean_goodput_mbit(Duration::ZERO, until);
        let values = BTreeMap::from([
            ("n_switches".to_owned(), switches.len() as f64),
            ("is_intact".to_owned(), f64::from(u8::from(seen.is_intact))),
            ("stall_s".to_owned(), seen.stall.as_secs_f64()),
            ("goodput_mbit".to_owned(), mean.unwrap_or_default()),
        ]);
        let lines = switches.iter().map(|switch| switch.line.clone());
        Ok((values, seen.flaw.iter().cloned().chain(lines).collect()))
    }
}

/// How long a good link is given before the stream is asked to end.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// All of them. The stream offers 20 Mbit/s each way, of which a policer at 8 lets 40 % pass.
pub(super) const ALL: [Calm; 5] = [
    Calm {
        what: "5 % loss",
        short: "loss-5",
        profile: || Profile::default().loss_pct(5),
        fault: None,
    },
    Calm {
        what: "15 % loss",
        short: "loss-15",
        profile: || Profile::default().loss_pct(15),
        fault: None,
    },
    Calm {
        what: "bursts of loss (Gilbert-Elliott 1 %/10 %)",
        short: "bursts",
        profile: || Profile::default().gilbert_elliott(1, 10),
        fault: None,
    },
    Calm {
        what: "jitter of 1 s",
        short: "jitter",
        profile: || Profile::default().one_way_delay_ms(500).jitter_ms(500),
        fault: None,
    },
    Calm {
        what: "UDP policed to 8 Mbit/s",
        short: "policed",
        profile: Profile::default,
        fault: Some(|| Fault::police_udp(8)),
    },
];
