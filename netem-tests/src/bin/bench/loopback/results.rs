//! What has been measured, and the medians.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::measure::Direction;
use super::subject::Subject;
use crate::machine;
use crate::settings::Settings;

/// A row of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    Rate(usize, Direction),
    CpuPerGib(usize, Direction),
    ConnsPerSecond,
    CpuPerThousandConns,
    ServerIdleMib,
    ClientIdleMib,
    ServerKibPerConn,
    ClientKibPerConn,
    IdleCpuPercent,
}

/// Whether more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

impl Metric {
    /// What stands at the head of its row.
    pub(crate) fn title(self) -> String {
        let streams = |n: usize| if n == 1 { "1 stream" } else { "8 streams" };
        let way = |direction| match direction {
            Direction::Down => "to the user",
            Direction::Up => "to the service",
        };
        match self {
            Self::Rate(n, direction) => {
                format!("throughput, {} {}, Gbit/s", streams(n), way(direction))
            }
            Self::CpuPerGib(n, direction) => {
                format!("CPU of both ends, {} {}, s/GiB", streams(n), way(direction))
            }
            Self::ConnsPerSecond => "new connections per second".to_owned(),
            Self::CpuPerThousandConns => "CPU of both ends, s per 1,000 connections".to_owned(),
            Self::ServerIdleMib => "memory, idle frps, MiB".to_owned(),
            Self::ClientIdleMib => "memory, idle frpc, MiB".to_owned(),
            Self::ServerKibPerConn => "memory per idle connection, frps, KiB".to_owned(),
            Self::ClientKibPerConn => "memory per idle connection, frpc, KiB".to_owned(),
            Self::IdleCpuPercent => "CPU of both ends holding idle connections, % of a core".into(),
        }
    }

    /// Returns `value` with the title.
    pub(crate) fn describe(self, value: f64) -> String {
        format!("{}: {}", self.title(), self.format(value))
    }

    /// Returns `value` with as many digits as it is good for.
    pub(crate) fn format(self, value: f64) -> String {
        match self {
            Self::ConnsPerSecond => format!("{value:.0}"),
            Self::Rate(..)
            | Self::CpuPerGib(..)
            | Self::CpuPerThousandConns
            | Self::IdleCpuPercent => format!("{value:.2}"),
            _ => format!("{value:.1}"),
        }
    }

    pub(crate) fn better(self) -> Better {
        match self {
            Self::Rate(..) | Self::ConnsPerSecond => Better::More,
            _ => Better::Less,
        }
    }

    /// What is to be reached: a ratio to frp's, or a value.
    pub(crate) fn goal(self) -> &'static str {
        match self {
            Self::Rate(..) | Self::ConnsPerSecond => "1.5 x frp",
            Self::CpuPerGib(..) => "0.5 x frp",
            Self::ServerIdleMib => "12",
            Self::ClientIdleMib => "8",
            Self::ServerKibPerConn | Self::ClientKibPerConn => "10",
            Self::CpuPerThousandConns | Self::IdleCpuPercent => "",
        }
    }

    /// What holding streams may make of it, where that was said: a ratio to streams that end with
    /// their carrier. The relay may cost a twentieth.
    pub(crate) fn holding_goal(self) -> Option<f64> {
        match self {
            Self::Rate(..) => Some(0.95),
            Self::CpuPerGib(..) => Some(1.05),
            _ => None,
        }
    }

    fn key(self) -> String {
        let way = |direction| match direction {
            Direction::Down => "down",
            Direction::Up => "up",
        };
        match self {
            Self::Rate(n, direction) => format!("gbit_per_s_{n}_{}", way(direction)),
            Self::CpuPerGib(n, direction) => format!("cpu_s_per_gib_{n}_{}", way(direction)),
            Self::ConnsPerSecond => "conns_per_s".into(),
            Self::CpuPerThousandConns => "cpu_s_per_1000_conns".into(),
            Self::ServerIdleMib => "idle_frps_mib".into(),
            Self::ClientIdleMib => "idle_frpc_mib".into(),
            Self::ServerKibPerConn => "idle_conn_frps_kib".into(),
            Self::ClientKibPerConn => "idle_conn_frpc_kib".into(),
            Self::IdleCpuPercent => "idle_conns_cpu_percent".into(),
        }
    }
}

/// All values, and where they come from.
pub(crate) struct Results {
    pub(crate) machine: String,
    pub(crate) quick: bool,
    pub(crate) n_rounds: usize,
    subjects: Vec<&'static str>,
    values: BTreeMap<Metric, BTreeMap<&'static str, Vec<f64>>>,
}

impl Results {
    pub(crate) fn new(subjects: &[Subject], settings: &Settings) -> Self {
        Self {
            machine: machine::describe(),
            quick: settings.quick,
            n_rounds: settings.n_runs,
            subjects: subjects.iter().map(|subject| subject.name).collect(),
            values: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, metric: Metric, subject: &'static str, value: f64) {
        let row = self.values.entry(metric).or_default();
        row.entry(subject).or_default().push(value);
    }

    /// Writes all values so far.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let file = File {
            machine: &self.machine,
            quick: self.quick,
            subjects: &self.subjects,
            values: self
                .values
                .iter()
                .map(|(metric, row)| (metric.key(), row))
                .collect(),
        };
        fs::write(path, serde_json::to_vec_pretty(&file)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    pub(crate) fn metrics(&self) -> impl Iterator<Item = Metric> {
        self.values.keys().copied()
    }

    pub(crate) fn median(&self, metric: Metric, subject: &str) -> Option<f64> {
        let mut values = self.values.get(&metric)?.get(subject)?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

#[derive(Serialize)]
struct File<'a> {
    machine: &'a str,
    quick: bool,
    subjects: &'a [&'static str],
    values: BTreeMap<String, &'a BTreeMap<&'static str, Vec<f64>>>,
}
