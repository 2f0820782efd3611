//! Users who go on while something happens, and what they felt.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use netem_tests::traffic::{self, EchoConn};

/// What users can say of themselves while they go on.
#[derive(Debug, Default)]
pub(crate) struct Users {
    n_transfers: AtomicU64,
    n_rounds: AtomicU64,
    over: AtomicBool,
}

/// What users felt.
#[derive(Debug)]
pub(crate) struct Outcome {
    transfers: anyhow::Result<u64>,
    rounds: anyhow::Result<Vec<Duration>>,
}

impl Users {
    /// Lets one user move checksummed bytes both ways, again and again, and another send and
    /// receive numbers, while `act` runs.
    pub(crate) fn watch(port: u16, act: impl FnOnce(&Self)) -> Outcome {
        let users = Self::default();
        thread::scope(|scope| {
            let transfers = scope.spawn(|| users.transfer(port));
            let rounds = scope.spawn(|| users.echo(port));
            act(&users);
            users.over.store(true, Ordering::Relaxed);
            Outcome {
                transfers: transfers.join().unwrap(),
                rounds: rounds.join().unwrap(),
            }
        })
    }

    pub(crate) fn so_far(&self) -> String {
        let n_transfers = self.n_transfers.load(Ordering::Relaxed);
        let n_rounds = self.n_rounds.load(Ordering::Relaxed);
        format!("{n_transfers} transfers and {n_rounds} rounds so far")
    }

    fn transfer(&self, port: u16) -> anyhow::Result<u64> {
        loop {
            let n = self.n_transfers.fetch_add(1, Ordering::Relaxed) + 1;
            traffic::both_ways(port, TRANSFER_LEN, n)?;
            if self.over.load(Ordering::Relaxed) {
                return Ok(n);
            }
        }
    }

    /// All on one connection: it has to survive.
    fn echo(&self, port: u16) -> anyhow::Result<Vec<Duration>> {
        let mut conn = EchoConn::open(port)?;
        let mut times = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            times.push(conn.round()?);
            self.n_rounds.fetch_add(1, Ordering::Relaxed);
            thread::sleep(ROUND_INTERVAL);
        }
        times.push(conn.round()?);
        Ok(times)
    }
}

impl Outcome {
    /// Every byte has arrived, and no message took long.
    pub(crate) fn assert_felt_nothing(&self) {
        if let Err(error) = &self.transfers {
            panic!("a transfer failed: {error:#}");
        }
        match &self.rounds {
            Err(error) => panic!("an echo failed: {error:#}"),
            Ok(times) => {
                let p99 = percentile(times, 99);
                assert!(p99 < MAX_P99, "p99 of {} rounds: {p99:?}", times.len());
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.transfers {
            Ok(n) => write!(f, "{n} transfers, ")?,
            Err(error) => write!(f, "a transfer failed: {error:#}, ")?,
        }
        match &self.rounds {
            Ok(times) => write!(
                f,
                "{} rounds: median {:?}, p99 {:?}, most {:?}",
                times.len(),
                percentile(times, 50),
                percentile(times, 99),
                percentile(times, 100),
            ),
            Err(error) => write!(f, "an echo failed: {error:#}"),
        }
    }
}

/// A transfer may end early, and must not bring what nobody has sent.
pub(crate) fn assert_is_no_wrong_byte(error: &anyhow::Error) {
    let text = format!("{error:#}");
    assert!(
        !text.contains("is wrong") && !text.contains("came as"),
        "{text}"
    );
}

fn percentile(times: &[Duration], pct: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * pct / 100).copied().unwrap_or_default()
}

/// Both ways at once, so twice of it.
const TRANSFER_LEN: u64 = 512 * 1024;

const ROUND_INTERVAL: Duration = Duration::from_millis(10);

/// Far above what is needed (some milliseconds), because a machine that also compiles is slow, and
/// far below what a session takes that has stalled until its next question.
const MAX_P99: Duration = Duration::from_secs(2);
