//! What is measured, and how.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netem_tests::traffic::{self, EchoConn};
use netem_tests::{Op, bulk};

use super::results::Metric;
use super::subject::{Running, Subject};

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// From the service to the user.
    Down,
    /// From the user to the service.
    Up,
}

/// One thing to measure on fresh programs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measurement {
    /// As much as goes through so many connections.
    Bulk(usize, Direction),
    /// Connections, each for one short question and answer.
    Connect,
    /// Memory with no connection, and with many that say nothing.
    Idle,
}

/// How long a look takes.
pub(crate) struct Lengths {
    /// Bulk: before counting begins.
    pub(crate) warm_up: Duration,
    /// Bulk and connections: while counting.
    pub(crate) window: Duration,
    /// How many idle connections are held.
    pub(crate) n_idle: u16,
}

impl Lengths {
    pub(crate) const FULL: Self = Self {
        warm_up: Duration::from_millis(1000),
        window: Duration::from_secs(4),
        n_idle: 2000,
    };
    pub(crate) const QUICK: Self = Self {
        warm_up: Duration::from_millis(300),
        window: Duration::from_millis(1000),
        n_idle: 1000,
    };
}

impl Measurement {
    /// Everything, in the order of the report.
    pub(crate) fn all() -> [Self; 6] {
        [
            Self::Bulk(1, Direction::Down),
            Self::Bulk(1, Direction::Up),
            Self::Bulk(8, Direction::Down),
            Self::Bulk(8, Direction::Up),
            Self::Connect,
            Self::Idle,
        ]
    }

    /// Returns the name that `ONLY` looks at.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bulk(1, Direction::Down) => "bulk-1-down",
            Self::Bulk(1, Direction::Up) => "bulk-1-up",
            Self::Bulk(_, Direction::Down) => "bulk-8-down",
            Self::Bulk(_, Direction::Up) => "bulk-8-up",
            Self::Connect => "connect",
            Self::Idle => "idle",
        }
    }

    /// Starts `subject` and measures it.
    pub(crate) fn run(self, subject: &Subject, lengths: &Lengths) -> Result<Vec<(Metric, f64)>> {
        let running = subject.start()?;
        match self {
            Self::Bulk(n_streams, direction) => bulk(&running, n_streams, direction, lengths),
            Self::Connect => connect(&running, lengths),
            Self::Idle => idle(&running, lengths),
        }
    }
}

/// As much as goes through `n_streams` connections at once.
pub(crate) fn bulk(
    running: &Running,
    n_streams: usize,
    direction: Direction,
    lengths: &Lengths,
) -> Result<Vec<(Metric, f64)>> {
    let received = Arc::new(AtomicU64::new(0));
    let mut users = Vec::new();
    for _ in 0..n_streams {
        users.push(BulkUser::start(running.port, direction, &received)?);
    }
    // What counts is what has arrived: at the user, or at the service.
    let n_arrived = || match direction {
        Direction::Down => received.load(Ordering::Relaxed),
        Direction::Up => running.service.n_received(),
    };

    thread::sleep(lengths.warm_up);
    let start = Instant::now();
    let cpu_before = cpu_time(running)?;
    let n_before = n_arrived();
    thread::sleep(lengths.window);
    let n_bytes = (n_arrived() - n_before) as f64;
    let cpu = cpu_time(running)? - cpu_before;
    let took = start.elapsed();

    drop(users);
    let rate = n_bytes * 8.0 / 1e9 / took.as_secs_f64();
    let mut values = vec![(Metric::Rate(n_streams, direction), rate)];
    if running.pair.is_some() {
        let cpu_per_gib = cpu.as_secs_f64() / (n_bytes / GIB);
        values.push((Metric::CpuPerGib(n_streams, direction), cpu_per_gib));
    }
    Ok(values)
}

/// Connections, each for one short question and answer.
pub(crate) fn connect(running: &Running, lengths: &Lengths) -> Result<Vec<(Metric, f64)>> {
    let stop = Arc::new(AtomicBool::new(false));
    let n_done = Arc::new(AtomicU64::new(0));
    // The first connection may find parts of the path cold.
    ask(running.port)?;
    let start = Instant::now();
    let cpu_before = cpu_time(running)?;
    let users: Vec<JoinHandle<Result<()>>> = (0..N_CONNECTING)
        .map(|_| {
            let (stop, n_done, port) = (Arc::clone(&stop), Arc::clone(&n_done), running.port);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    ask(port)?;
                    n_done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    thread::sleep(lengths.window);
    let n_conns = n_done.load(Ordering::Relaxed) as f64;
    let took = start.elapsed();
    let cpu = cpu_time(running)? - cpu_before;
    stop.store(true, Ordering::Relaxed);
    for user in users {
        user.join().ok().context("a user panicked")??;
    }

    let mut values = vec![(Metric::ConnsPerSecond, n_conns / took.as_secs_f64())];
    if running.pair.is_some() {
        let cpu_per_1000 = cpu.as_secs_f64() / (n_conns / 1000.0);
        values.push((Metric::CpuPerThousandConns, cpu_per_1000));
    }
    Ok(values)
}

/// Opens a connection, asks for one echo, closes.
fn ask(port: u16) -> Result<()> {
    let mut conn = traffic::connect(port)?;
    let mut question = Op::Echo.request(0, 0).to_vec();
    question.extend_from_slice(b"question");
    conn.write_all(&question)?;
    let mut answer = [0; 8];
    conn.read_exact(&mut answer).context("no answer")?;
    Ok(())
}

fn idle(running: &Running, lengths: &Lengths) -> Result<Vec<(Metric, f64)>> {
    let Some(pair) = &running.pair else {
        return Ok(Vec::new());
    };
    thread::sleep(SETTLE);
    let server_before = pair.server()?.rss_kib()?;
    let client_before = pair.client()?.rss_kib()?;
    let conns = (0..lengths.n_idle)
        .map(|_| EchoConn::open(running.port))
        .collect::<Result<Vec<_>>>()?;
    thread::sleep(SETTLE);
    let server_after = pair.server()?.rss_kib()?;
    let client_after = pair.client()?.rss_kib()?;
    let cpu_before = cpu_time(running)?;
    thread::sleep(lengths.window);
    let cpu = cpu_time(running)? - cpu_before;
    drop(conns);

    let per_conn =
        |before: u64, after: u64| after.saturating_sub(before) as f64 / f64::from(lengths.n_idle);
    Ok(vec![
        (Metric::ServerIdleMib, server_before as f64 / 1024.0),
        (Metric::ClientIdleMib, client_before as f64 / 1024.0),
        (
            Metric::ServerKibPerConn,
            per_conn(server_before, server_after),
        ),
        (
            Metric::ClientKibPerConn,
            per_conn(client_before, client_after),
        ),
        (
            Metric::IdleCpuPercent,
            cpu.as_secs_f64() / lengths.window.as_secs_f64() * 100.0,
        ),
    ])
}

fn cpu_time(running: &Running) -> Result<Duration> {
    running
        .pair
        .as_ref()
        .map_or(Ok(Duration::ZERO), netem_tests::Pair::cpu_time)
}

/// A user who sends or fetches as much as goes through. Dropping it ends its connection.
pub(crate) struct BulkUser {
    conn: Arc<TcpStream>,
    thread: Option<JoinHandle<()>>,
}

impl BulkUser {
    /// Connects to `port` and begins. What comes in is added to `received`.
    pub(crate) fn start(
        port: u16,
        direction: Direction,
        received: &Arc<AtomicU64>,
    ) -> Result<Self> {
        let conn = Arc::new(traffic::connect(port)?);
        let op = match direction {
            Direction::Down => Op::Source,
            Direction::Up => Op::Sink,
        };
        (&*conn).write_all(&op.request(0, 0))?;
        let stream = Arc::clone(&conn);
        let received = Arc::clone(received);
        let thread = thread::spawn(move || {
            // It ends when the connection does, and what was missing shows in the count.
            let _ = match direction {
                Direction::Down => bulk::drain(&stream, &received),
                Direction::Up => bulk::pour(&stream),
            };
        });
        Ok(Self {
            conn,
            thread: Some(thread),
        })
    }
}

impl Drop for BulkUser {
    fn drop(&mut self) {
        let _ = self.conn.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How many users open connections at the same time, each the next when it has the answer.
const N_CONNECTING: usize = 16;

/// How long memory is given to settle.
const SETTLE: Duration = Duration::from_millis(700);

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
