//! The users, and the service that answers them: many connections in one process, and little for
//! each, since they take from the machine that is measured.

use std::env;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netem_tests::{Process, traffic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime;

use super::WORDS;
use crate::stop;

/// Sends back what comes in, on several ports: a client dials it from one address, and the system
/// has some 28,000 ports there for each port that is dialled.
pub(super) struct EchoService {
    ports: Vec<u16>,
    _process: Process,
}

impl EchoService {
    /// Starts it as a process of its own.
    pub(super) fn start(dir: &Path) -> Result<Self> {
        let program = env::current_exe().context("cannot find this program")?;
        let process = Process::start("the service", &program, &[WORDS], dir)?;
        let line = process.wait_for_line(SERVES)?;
        let (_, ports) = line.split_once(SERVES).context("no ports")?;
        let ports = ports.split_whitespace().map(str::parse);
        Ok(Self {
            ports: ports.collect::<Result<_, _>>()?,
            _process: process,
        })
    }

    /// One of its ports, in turn.
    pub(super) fn port(&self, turn: usize) -> u16 {
        self.ports[turn % self.ports.len()]
    }
}

/// Is the service, until this process is ended.
pub(super) fn serve() -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut listeners = Vec::new();
        let mut text = SERVES.to_owned();
        for _ in 0..N_PORTS {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            // Writing to a String cannot fail.
            let _ = write!(text, " {}", listener.local_addr()?.port());
            listeners.push(tokio::spawn(accept(listener)));
        }
        println!("{text}");
        for listener in listeners {
            listener.await?;
        }
        Ok(())
    })
}

async fn accept(listener: TcpListener) {
    loop {
        // Out of descriptors, say: the user's side reports what is missing.
        let Ok((mut conn, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(async move {
            let mut word = [0; WORD_LEN];
            while conn.read_exact(&mut word).await.is_ok() && conn.write_all(&word).await.is_ok() {}
        });
    }
}

/// Opens `n` connections to `ports` in turn, from several threads, and waits for the first answer on
/// each. Returns those that were opened, and what went wrong with the first that was not.
pub(super) fn open(ports: &[u16], n: usize) -> (Vec<TcpStream>, Option<String>) {
    let mut conns = Vec::with_capacity(n);
    let mut failure = None;
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..N_OPENING)
            .map(|first| scope.spawn(move || open_some(ports, first, n)))
            .collect();
        threads
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect()
    });
    for result in results {
        match result {
            Ok((opened, None)) => conns.extend(opened),
            Ok((opened, Some(why))) => {
                conns.extend(opened);
                failure = Some(why);
            }
            Err(_panic) => failure = Some("a thread panicked".to_owned()),
        }
    }
    (conns, failure)
}

fn open_some(ports: &[u16], first: usize, n: usize) -> (Vec<TcpStream>, Option<String>) {
    let mut conns = Vec::new();
    for number in (first..n).step_by(N_OPENING) {
        if stop::is_asked_for() {
            return (conns, Some("somebody asked for the end".to_owned()));
        }
        match open_one(ports[number % ports.len()]) {
            Ok(conn) => conns.push(conn),
            Err(error) => return (conns, Some(format!("{error:#}"))),
        }
    }
    (conns, None)
}

fn open_one(port: u16) -> Result<TcpStream> {
    let mut conn = traffic::connect(port)?;
    ask(&mut conn)?;
    Ok(conn)
}

/// Says a word and waits until it has come back.
fn ask(conn: &mut TcpStream) -> Result<()> {
    conn.write_all(&[b'?'; WORD_LEN])?;
    conn.read_exact(&mut [0; WORD_LEN]).context("no answer")
}

/// Opens connections for one word each, from several threads, for `time`. Returns how many, and how
/// long each took.
pub(super) fn come_and_go(ports: &[u16], time: Duration) -> Result<Vec<Duration>> {
    in_threads(N_COMING, time, |turn| {
        open_one(ports[turn % ports.len()])?;
        Ok(())
    })
}

/// Has `n` users say a word and wait for the answer, again and again for `time`. Returns how long each
/// answer took.
pub(super) fn talk(ports: &[u16], n: usize, time: Duration) -> Result<Vec<Duration>> {
    let (conns, failure) = open(ports, n);
    anyhow::ensure!(conns.len() == n, "{}", failure.unwrap_or_default());
    let conns: Vec<_> = conns.into_iter().map(std::sync::Mutex::new).collect();
    in_threads(n, time, |turn| {
        let mut conn = conns[turn % n]
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        ask(&mut conn)
    })
}

/// Does something again and again on `n` threads. It is told its turns, of which each thread has the
/// same remainder by `n`.
fn in_threads(
    n: usize,
    time: Duration,
    act: impl Fn(usize) -> Result<()> + Sync,
) -> Result<Vec<Duration>> {
    let is_over = Arc::new(AtomicBool::new(false));
    let act = &act;
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..n)
            .map(|first| {
                let is_over = Arc::clone(&is_over);
                let repeat = move || -> Result<Vec<Duration>> {
                    let mut times = Vec::new();
                    let mut turn = first;
                    while !is_over.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        act(turn)?;
                        times.push(start.elapsed());
                        turn += n;
                    }
                    Ok(times)
                };
                thread::Builder::new()
                    .stack_size(STACK_LEN)
                    .spawn_scoped(scope, repeat)
            })
            .collect();
        thread::sleep(time);
        is_over.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .map(|thread| thread.map(thread::ScopedJoinHandle::join))
            .collect()
    });
    let mut all = Vec::new();
    for result in results {
        all.extend(result?.ok().context("a user panicked")??);
    }
    all.sort_unstable();
    Ok(all)
}

/// What the service prints before its ports.
const SERVES: &str = "serves at";

/// What is said, and comes back.
const WORD_LEN: usize = 16;

/// Of the service.
const N_PORTS: usize = 8;

/// Threads that open connections which stay.
const N_OPENING: usize = 8;

/// Users who come and go, each the next time when it has the answer.
const N_COMING: usize = 16;

/// A user's thread needs little.
const STACK_LEN: usize = 128 * 1024;
