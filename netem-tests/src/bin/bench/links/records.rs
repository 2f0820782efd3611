//! What has been measured: one line of JSON for each run of a cell, written when it ends.
//!
//! A run that is interrupted goes on where it was: a cell is measured again only when the programs,
//! the link or the way of measuring have changed, all of which its key stands for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One run of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The cell's name: who, over which link, what.
    pub(crate) cell: String,
    /// Which of the rounds it belongs to, counted from 1.
    pub(crate) round: usize,
    /// What the figures hang on: the programs, the link, the lengths of the looks.
    pub(crate) key: String,
    /// The build of the programs.
    pub(crate) build: String,
    /// The seed of the link's losses.
    pub(crate) seed: u64,
    /// When it ended, in seconds since 1970.
    pub(crate) at: u64,
    pub(crate) outcome: Outcome,
    /// What else there is to say of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// Values by the names of their metrics.
    Measured(BTreeMap<String, f64>),
    /// Nothing moved within the time limit.
    Stalled(String),
    /// The programs do not have this transport.
    Refused(String),
    /// The instrument failed. Such a run is done again.
    Failed(String),
}

/// All records, in memory and in a file.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    file: Option<File>,
    records: Vec<Record>,
}

impl Records {
    /// Reads `path`, which need not be there yet.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            file: None,
            records: parse(&text),
        })
    }

    /// Adds a record to the file and to what is known.
    pub(crate) fn add(&mut self, record: Record) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(append_to(&self.path)?),
        };
        // A new line first: an interrupted run may have left half a line behind.
        let line = format!("\n{}", serde_json::to_string(&record)?);
        file.write_all(line.as_bytes())
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.records.push(record);
        Ok(())
    }

    /// Says whether this run of `cell` has been done and need not be repeated.
    pub(crate) fn has(&self, cell: &str, round: usize, key: &str) -> bool {
        self.records.iter().any(|record| {
            record.cell == cell
                && record.round == round
                && record.key == key
                && !matches!(record.outcome, Outcome::Failed(_))
        })
    }

    /// Returns the runs of `cell` that count: those with the newest key, and of each round the last.
    pub(crate) fn of(&self, cell: &str) -> Vec<&Record> {
        let of_cell = || {
            self.records.iter().filter(|record| {
                record.cell == cell && !matches!(record.outcome, Outcome::Failed(_))
            })
        };
        let Some(newest) = of_cell().max_by_key(|record| record.at) else {
            return Vec::new();
        };
        let mut rounds = BTreeMap::new();
        for record in of_cell().filter(|record| record.key == newest.key) {
            rounds.insert(record.round, record);
        }
        rounds.into_values().collect()
    }

    /// Returns how many builds of the programs the newest runs of `cells` come from.
    pub(crate) fn n_builds<'a>(&self, cells: impl Iterator<Item = &'a str>) -> usize {
        let mut builds = BTreeSet::new();
        for cell in cells {
            for record in self.of(cell) {
                builds.insert(record.build.as_str());
            }
        }
        builds.len()
    }

    /// Returns where they are kept.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads what can be read: a line that was cut off is no reason to lose all others.
fn parse(text: &str) -> Vec<Record> {
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn append_to(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_interrupted_run_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bench/links.jsonl");
        let mut records = Records::open(&path).unwrap();
        records.add(record("quic/far/echo", 1, "a", 1)).unwrap();
        // The power went while a line was being written.
        let half = fs::read_to_string(&path).unwrap() + "\n{\"cell\":\"quic/fa";
        fs::write(&path, half).unwrap();

        let mut records = Records::open(&path).unwrap();
        records.add(record("quic/far/echo", 2, "a", 2)).unwrap();
        let records = Records::open(&path).unwrap();

        assert!(records.has("quic/far/echo", 1, "a"));
        assert!(records.has("quic/far/echo", 2, "a"));
        assert!(!records.has("quic/far/echo", 3, "a"));
    }

    #[test]
    fn other_programs_are_measured_anew_and_replace_the_old_figures() {
        let mut records = in_memory(vec![
            record("kcp/clean/echo", 1, "old", 1),
            record("kcp/clean/echo", 2, "old", 2),
        ]);
        assert!(!records.has("kcp/clean/echo", 1, "new"));
        assert_eq!(records.of("kcp/clean/echo").len(), 2);

        records.records.push(record("kcp/clean/echo", 1, "new", 3));

        let runs = records.of("kcp/clean/echo");
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].key, "new");
    }

    #[test]
    fn the_last_run_of_a_round_counts() {
        let records = in_memory(vec![
            record("kcp/clean/echo", 1, "a", 1),
            record("kcp/clean/echo", 1, "a", 9),
        ]);

        let runs = records.of("kcp/clean/echo");

        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].at, 9);
    }

    #[test]
    fn a_failure_of_the_instrument_is_no_result() {
        let mut failed = record("kcp/clean/echo", 1, "a", 1);
        failed.outcome = Outcome::Failed("no namespace".to_owned());
        let records = in_memory(vec![failed]);

        assert!(!records.has("kcp/clean/echo", 1, "a"));
        assert!(records.of("kcp/clean/echo").is_empty());
    }

    fn in_memory(records: Vec<Record>) -> Records {
        Records {
            path: PathBuf::new(),
            file: None,
            records,
        }
    }

    fn record(cell: &str, round: usize, key: &str, at: u64) -> Record {
        Record {
            cell: cell.to_owned(),
            round,
            key: key.to_owned(),
            build: key.to_owned(),
            seed: 1,
            at,
            outcome: Outcome::Measured(BTreeMap::from([("p99_ms".to_owned(), 51.0)])),
            notes: Vec::new(),
        }
    }
}
