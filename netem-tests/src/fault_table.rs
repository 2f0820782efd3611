//! The faults that a tunnel has to survive, and what is asked of it in each.
//!
//! A [`Case`] is a scenario, played on a [`Stage`] by [`Case::play`], with the [`Goal`] that it is
//! held to. `make bench PART=faults` plays all of them; tests play them for what is right or wrong
//! and not for how long it took.

use std::time::Duration;

use anyhow::Result;

use crate::observe::{Rate, Rates};
use crate::{Direction, Fault, Manner, Profile, Seen, Stage, Transport, Tunnel};

/// A fault, and what is asked of the tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name in `ONLY=`.
    pub name: &'static str,
    /// What happens, in words.
    pub title: &'static str,
    /// What is asked, beside a whole stream.
    pub goals: &'static [Goal],
    /// What the users do.
    pub load: Load,
    /// Whom it concerns.
    pub concerns: Concerns,
    /// About how long it takes when all goes well.
    pub nominal: Duration,
    script: fn(&mut Stage) -> Result<()>,
}

/// A bound on something that was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// What.
    pub what: Measure,
    /// The bound: at most, or for goodput at least.
    pub bound: f64,
}

/// What is measured of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// The longest time in which nothing came on the stream, in seconds.
    Stall,
    /// From the fault's end until the stream moved both ways, in seconds.
    Back,
    /// From the fault's beginning until the client told of it, in seconds.
    Noticed,
    /// From the fault's beginning until users' old connections were closed, in seconds.
    Closed,
    /// From the restart until all proxies served, in seconds.
    ProxiesBack,
    /// How often a port was still used by the program before.
    Conflicts,
    /// Switches since the fault's beginning.
    Switches,
    /// The most switches within 30 s.
    SwitchesIn30s,
    /// What arrived from second 10 to 25 after the fault's beginning, in Mbit/s; as a goal, the
    /// share of what the best fixed transport carries.
    Goodput,
    /// The same from second 15 to 55, as a share of what TCP carries.
    GoodputBesideTcp,
}

/// What the users do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// 20 Mbit/s each way.
    Stream,
    /// As much as goes to the user.
    Bulk,
}

/// Whom a fault concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concerns {
    /// Everybody.
    All,
    /// Who can use UDP.
    Udp,
    /// Who can use TCP.
    Tcp,
}

impl Case {
    /// Returns all of them, in the order of the report.
    pub fn all() -> &'static [Self] {
        CASES
    }

    /// Returns the one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        CASES.iter().find(|case| case.name == name)
    }

    /// Says whether the fault would be felt over this transport.
    pub fn is_for(&self, transport: Transport) -> bool {
        match self.concerns {
            Concerns::All => true,
            Concerns::Udp => transport.has_udp(),
            Concerns::Tcp => transport.has_tcp(),
        }
    }

    /// Says whether its goals compare with fixed transports.
    pub fn compares(&self) -> bool {
        self.load == Load::Bulk
            || self
                .goals
                .iter()
                .any(|goal| goal.what == Measure::GoodputBesideTcp)
    }

    /// Returns how fast the numbered stream goes in a measurement.
    pub fn rates(&self) -> Rates {
        match self.load {
            Load::Stream => Rates::both(20.0),
            Load::Bulk => Rates {
                down: Rate::Unlimited,
                up: Rate::Mbit(1.0),
            },
        }
    }

    /// Plays it on a link of its own, and returns what the users have seen.
    pub fn play(&self, tunnel: &Tunnel, manner: Manner) -> Result<Seen> {
        let mut stage = Stage::open(self.name, tunnel, &Profile::default(), manner)?;
        (self.script)(&mut stage)?;
        stage.seen()
    }
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Stall,
        Self::Back,
        Self::Noticed,
        Self::Closed,
        Self::ProxiesBack,
        Self::Conflicts,
        Self::Switches,
        Self::SwitchesIn30s,
        Self::Goodput,
        Self::GoodputBesideTcp,
    ];

    /// Returns the name under which values are kept.
    pub fn key(self) -> &'static str {
        match self {
            Self::Stall => "stall_s",
            Self::Back => "back_s",
            Self::Noticed => "noticed_s",
            Self::Closed => "closed_s",
            Self::ProxiesBack => "proxies_back_s",
            Self::Conflicts => "n_conflicts",
            Self::Switches => "n_switches",
            Self::SwitchesIn30s => "n_switches_in_30_s",
            Self::Goodput => "goodput_mbit",
            Self::GoodputBesideTcp => "goodput_after_15_s_mbit",
        }
    }

    /// Returns what was seen of it, if it happened.
    pub fn of(self, seen: &Seen) -> Option<f64> {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        match self {
            Self::Stall => seconds(Some(seen.stall)),
            Self::Back => seconds(seen.back),
            Self::Noticed => seconds(seen.noticed),
            Self::Closed => seconds(seen.closed_after),
            Self::ProxiesBack => seconds(seen.proxies_back),
            Self::Conflicts => Some(seen.n_conflicts as f64),
            Self::Switches => Some(seen.n_switches() as f64),
            Self::SwitchesIn30s => Some(seen.most_switches_within(Duration::from_secs(30)) as f64),
            Self::Goodput => seen.mean_goodput_mbit(secs(10), secs(25)),
            Self::GoodputBesideTcp => seen.mean_goodput_mbit(secs(15), secs(55)),
        }
    }
}

/// What most cases have in common: a stream of numbers, over whatever carries it.
const OF_STREAM: Case = Case {
    name: "",
    title: "",
    goals: &[],
    load: Load::Stream,
    concerns: Concerns::All,
    nominal: Duration::ZERO,
    script: |_| Ok(()),
};

const CASES: &[Case] = &[
    Case {
        name: "udp-dropped",
        title: "UDP dropped mid-transfer",
        goals: &[at_most(Measure::Stall, 2.0)],
        load: Load::Stream,
        concerns: Concerns::Udp,
        nominal: secs(35),
        script: udp_is_dropped,
    },
    Case {
        name: "udp-rejected",
        title: "UDP rejected mid-transfer",
        goals: &[at_most(Measure::Stall, 0.5)],
        load: Load::Stream,
        concerns: Concerns::Udp,
        nominal: secs(35),
        script: udp_is_rejected,
    },
    Case {
        name: "tcp-dropped",
        title: "TCP dropped mid-transfer, on TCP",
        goals: &[at_most(Measure::Stall, 2.0)],
        load: Load::Stream,
        concerns: Concerns::Tcp,
        nominal: secs(35),
        script: tcp_is_dropped,
    },
    Case {
        name: "dead-5",
        title: "everything dropped for 5 s",
        goals: &[at_most(Measure::Back, 1.0)],
        nominal: secs(20),
        script: |stage| everything_is_dropped(stage, 5),
        ..OF_STREAM
    },
    Case {
        name: "dead-30",
        title: "everything dropped for 30 s",
        goals: &[at_most(Measure::Back, 1.5)],
        nominal: secs(50),
        script: |stage| everything_is_dropped(stage, 30),
        ..OF_STREAM
    },
    Case {
        name: "dead-50",
        title: "everything dropped for 50 s",
        goals: &[at_most(Measure::Back, 2.0)],
        nominal: secs(70),
        script: |stage| everything_is_dropped(stage, 50),
        ..OF_STREAM
    },
    Case {
        name: "address",
        title: "the client's address changes",
        goals: &[at_most(Measure::Back, 2.0)],
        nominal: secs(20),
        script: |stage| the_address_changes(stage, Duration::ZERO),
        ..OF_STREAM
    },
    Case {
        name: "address-gap",
        title: "the client's address changes, 3 s without one",
        goals: &[at_most(Measure::Back, 2.0)],
        nominal: secs(20),
        script: |stage| the_address_changes(stage, secs(3)),
        ..OF_STREAM
    },
    Case {
        name: "one-way-to-user",
        title: "the direction to the user dropped for 20 s",
        goals: &[at_most(Measure::Noticed, 3.0)],
        nominal: secs(40),
        script: |stage| one_direction_is_dropped(stage, Direction::ToNear),
        ..OF_STREAM
    },
    Case {
        name: "one-way-to-service",
        title: "the direction to the service dropped for 20 s",
        goals: &[at_most(Measure::Noticed, 3.0)],
        nominal: secs(40),
        script: |stage| one_direction_is_dropped(stage, Direction::ToFar),
        ..OF_STREAM
    },
    Case {
        name: "loss-rises-10",
        title: "loss rises to 10 % while on Cubic TCP",
        goals: &[at_least(Measure::Goodput, 0.8)],
        load: Load::Bulk,
        concerns: Concerns::All,
        nominal: secs(45),
        script: |stage| loss_rises(stage, 10.0),
    },
    Case {
        name: "loss-rises-20",
        title: "loss rises to 20 % while on Cubic TCP",
        goals: &[at_least(Measure::Goodput, 0.8)],
        load: Load::Bulk,
        concerns: Concerns::All,
        nominal: secs(45),
        script: |stage| loss_rises(stage, 20.0),
    },
    Case {
        name: "udp-policed",
        title: "UDP policed to 40 % of the stream's rate",
        goals: &[
            at_least(Measure::GoodputBesideTcp, 0.95),
            at_most(Measure::Switches, 2.0),
        ],
        nominal: secs(70),
        script: |stage| udp_gets_bad(stage, Fault::police_udp(8)),
        ..OF_STREAM
    },
    Case {
        name: "udp-loses-60",
        title: "UDP loses 60 %",
        goals: &[
            at_least(Measure::GoodputBesideTcp, 0.95),
            at_most(Measure::Switches, 2.0),
        ],
        nominal: secs(70),
        script: |stage| udp_gets_bad(stage, Fault::drop_udp().pct(60)),
        ..OF_STREAM
    },
    Case {
        name: "server-restart",
        title: "frps killed and started again",
        goals: &[at_most(Measure::ProxiesBack, 1.0)],
        nominal: secs(20),
        script: the_server_starts_again,
        ..OF_STREAM
    },
    Case {
        name: "client-stopped",
        title: "frpc stopped and started again",
        goals: &[
            at_most(Measure::Closed, 0.2),
            at_most(Measure::ProxiesBack, 1.5),
            at_most(Measure::Conflicts, 0.0),
        ],
        nominal: secs(20),
        script: the_client_is_stopped,
        ..OF_STREAM
    },
    Case {
        name: "client-killed",
        title: "frpc killed and started again",
        goals: &[
            at_most(Measure::Closed, 2.0),
            at_most(Measure::ProxiesBack, 1.5),
            at_most(Measure::Conflicts, 0.0),
        ],
        nominal: secs(20),
        script: the_client_is_killed,
        ..OF_STREAM
    },
    Case {
        name: "flaps",
        title: "the link flaps, 3 s up and 3 s down, for 2 min",
        goals: &[at_most(Measure::SwitchesIn30s, 1.0)],
        nominal: secs(140),
        script: the_link_flaps,
        ..OF_STREAM
    },
];

fn udp_is_dropped(stage: &mut Stage) -> Result<()> {
    stage.traffic_begins()?;
    stage.all_is_well()?;
    stage.breaks(Fault::drop_udp())?;
    stage.goes_on_for(secs(20))
}

fn udp_is_rejected(stage: &mut Stage) -> Result<()> {
    stage.traffic_begins()?;
    stage.all_is_well()?;
    stage.breaks(Fault::reject_udp())?;
    stage.goes_on_for(secs(20))
}

fn tcp_is_dropped(stage: &mut Stage) -> Result<()> {
    stage.traffic_begins()?;
    stage.all_is_well()?;
    stage.goes_over_tcp()?;
    stage.goes_on_for(secs(3))?;
    stage.breaks(Fault::drop_tcp())?;
    stage.goes_on_for(secs(20))
}

fn everything_is_dropped(stage: &mut Stage, seconds: u64) -> Result<()> {
    stage.traffic_begins()?;
    stage.all_is_well()?;
    stage.breaks(Fault::drop_all())?;
    stage.goes_on_for(secs(seconds))?;
    stage.mends()?;
    stage.until_it_is_back(RECOVERY_PATIENCE)
}

fn the_address_changes(stage: &mut Stage, gap: Duration) -> Result<()> {
    stage.traffic_begins()?;
    stage.all_is_well()?;
    stage.client_moves(gap)?;
    stage.until_it_is_back(RECOVERY_PATIENCE)
}

fn one_direction_is_dropped(stage: &mut Stage, direction: Direction) -> Result<()> {
    stage.traffic_begins()?;
    stage.all_is_well()?;
    stage.breaks(Fault::drop_all().only(direction))?;
    stage.goes_on_for(secs(20))?;
    stage.mends()?;
    stage.until_it_is_back(RECOVERY_PATIENCE)
}

fn loss_rises(stage: &mut Stage, loss_pct: f64) -> Result<()> {
    stage.traffic_begins()?;
    stage.all_is_well()?;
    stage.goes_over_tcp()?;
    stage.goes_on_for(secs(3))?;
    stage.link_becomes(&Profile::default().loss_pct(loss_pct))?;
    stage.goes_on_for(secs(26))
}

fn udp_gets_bad(stage: &mut Stage, fault: Fault) -> Result<()> {
    stage.traffic_begins()?;
    stage.all_is_well()?;
    stage.breaks(fault)?;
    stage.goes_on_for(secs(60))
}

fn the_server_starts_again(stage: &mut Stage) -> Result<()> {
    stage.traffic_begins()?;
    stage.all_is_well()?;
    stage.server_is_killed_and_starts_again()
}

fn the_client_is_stopped(stage: &mut Stage) -> Result<()> {
    stage.traffic_begins()?;
    stage.all_is_well()?;
    stage.client_is_stopped_and_starts_again()
}

fn the_client_is_killed(stage: &mut Stage) -> Result<()> {
    stage.traffic_begins()?;
    stage.all_is_well()?;
    stage.client_is_killed_and_starts_again()
}

fn the_link_flaps(stage: &mut Stage) -> Result<()> {
    stage.traffic_begins()?;
    stage.all_is_well()?;
    stage.flaps(&Fault::drop_all(), secs(3), 20)?;
    stage.until_it_is_back(RECOVERY_PATIENCE)
}

const fn at_most(what: Measure, bound: f64) -> Goal {
    Goal { what, bound }
}

const fn at_least(what: Measure, bound: f64) -> Goal {
    Goal { what, bound }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How long is waited for those that come back late: frp's heartbeat timeout of 90 s and a bit.
const RECOVERY_PATIENCE: Duration = secs(100);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_case_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Case::all().iter().map(|case| case.name).collect();

        assert_eq!(names.len(), Case::all().len());
        assert!(Case::named("dead-30").is_some());
        assert!(Case::named("dead").is_none());
    }
}
