//! What users do on the near side: move as much as goes, wait for echoes, open connections.
//!
//! The programs and the link share the machine's cores with this, so it copies nothing, and never
//! waits by asking.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netem_tests::{Op, Service, bulk};

use super::cell::Way;
use super::site::{self, Site};

/// A user who sends or fetches as much as goes through. Dropping it ends its connection.
pub(crate) struct BulkUser {
    conn: Arc<TcpStream>,
    received: Arc<AtomicU64>,
    way: Way,
    n_at_service_before: u64,
    thread: Option<JoinHandle<()>>,
}

impl BulkUser {
    /// Starts on a connection that nobody has used.
    pub(crate) fn start(conn: TcpStream, way: Way, service: &Service) -> Result<Self> {
        let conn = Arc::new(conn);
        let op = match way {
            Way::Down => Op::Source,
            Way::Up => Op::Sink,
        };
        (&*conn).write_all(&op.request(0, 0))?;
        let received = Arc::new(AtomicU64::new(0));
        let n_at_service_before = service.n_received();
        let stream = Arc::clone(&conn);
        let count = Arc::clone(&received);
        let thread = thread::spawn(move || {
            // It ends when the connection does, and what was missing shows in the count.
            let _ = match way {
                Way::Down => bulk::drain(&stream, &count),
                Way::Up => bulk::pour(&stream),
            };
        });
        Ok(Self {
            conn,
            received,
            way,
            n_at_service_before,
            thread: Some(thread),
        })
    }

    /// Returns how many bytes have arrived: at the user, or at `service`, to which nobody else
    /// sends.
    pub(crate) fn n_arrived(&self, service: &Service) -> u64 {
        match self.way {
            Way::Down => self.received.load(Ordering::Relaxed),
            Way::Up => service.n_received() - self.n_at_service_before,
        }
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

/// The times of messages there and back. Those that did not come count as long as they were waited
/// for, which is a lower bound.
#[derive(Debug, Default)]
pub(crate) struct RoundTrips {
    pub(crate) times: Vec<Duration>,
    pub(crate) n_missing: usize,
}

/// Sends `n` messages over `conn`, one every [`ECHO_INTERVAL`] whether the last one has come back or
/// not, and times each. Fails when not even the first one comes.
pub(crate) fn echo(conn: &TcpStream, n: usize) -> Result<RoundTrips> {
    let mut stream = conn;
    stream.write_all(&Op::Echo.request(0, 0))?;
    stream.set_read_timeout(Some(ECHO_PATIENCE))?;
    // The connection is not idle before its first message has been there and back.
    stream.write_all(&[0; ECHO_LEN])?;
    let mut message = [0; ECHO_LEN];
    stream
        .read_exact(&mut message)
        .context("the first echo did not come")?;

    let start = Instant::now();
    thread::scope(|scope| {
        let sender = scope.spawn(|| send_messages(conn, start, n));
        let mut arrivals = Vec::with_capacity(n);
        while arrivals.len() < n && stream.read_exact(&mut message).is_ok() {
            arrivals.push(Instant::now());
        }
        let end = Instant::now();
        // Ends a sender whose messages are not taken any more.
        let _ = conn.shutdown(Shutdown::Both);
        let sent = sender.join().ok().context("the sender panicked")?;
        Ok(match_up(&sent, &arrivals, end))
    })
}

/// Sends the messages and returns when each of them went.
fn send_messages(mut conn: &TcpStream, start: Instant, n: usize) -> Vec<Instant> {
    let mut sent = Vec::with_capacity(n);
    for number in 0..n {
        let due = start + ECHO_INTERVAL * u32::try_from(number).unwrap_or(u32::MAX);
        sleep_until(due);
        // Not when it was due: the thread may wake late, which is not the tunnel's fault.
        sent.push(Instant::now());
        if conn.write_all(&[0; ECHO_LEN]).is_err() {
            break;
        }
    }
    sent
}

/// Pairs what was sent with what came back, in order.
fn match_up(sent: &[Instant], arrivals: &[Instant], end: Instant) -> RoundTrips {
    let times = sent.iter().enumerate().map(|(number, sent)| {
        let back = arrivals.get(number).copied().unwrap_or(end);
        back.saturating_duration_since(*sent)
    });
    RoundTrips {
        times: times.collect(),
        n_missing: sent.len().saturating_sub(arrivals.len()),
    }
}

/// Opens `n` connections, one every [`CONNECT_INTERVAL`] whether the last one has got its answer or
/// not, and times each from its connect to the first byte back.
pub(crate) fn connect_each(site: &Site, n: usize) -> Result<RoundTrips> {
    let address = site.user_address()?;
    // Threads that are started inside are inside.
    let results = site.lab.near().enter(move || {
        let start = Instant::now();
        let users: Vec<_> = (0..n)
            .map(|number| {
                sleep_until(start + CONNECT_INTERVAL * u32::try_from(number).unwrap_or(u32::MAX));
                thread::spawn(move || ask(address))
            })
            .collect();
        let join = |user: JoinHandle<_>| user.join().ok();
        users.into_iter().map(join).collect::<Vec<_>>()
    });

    let mut round_trips = RoundTrips::default();
    for result in results {
        let (time, answer) = result.context("a user panicked")?;
        round_trips.times.push(time);
        round_trips.n_missing += usize::from(answer.is_err());
    }
    if round_trips.n_missing == n {
        bail!("none of {n} connections got an answer within {CONNECT_PATIENCE:?}");
    }
    Ok(round_trips)
}

/// Opens a connection and asks for one byte.
fn ask(address: SocketAddr) -> (Duration, Result<()>) {
    let start = Instant::now();
    let answer = (|| {
        let mut conn = site::connect(address, CONNECT_PATIENCE)?;
        conn.set_read_timeout(Some(CONNECT_PATIENCE))?;
        let mut question = Op::Echo.request(0, 0).to_vec();
        question.push(0);
        conn.write_all(&question)?;
        conn.read_exact(&mut [0])?;
        Ok(())
    })();
    (start.elapsed(), answer)
}

fn sleep_until(due: Instant) {
    thread::sleep(due.saturating_duration_since(Instant::now()));
}

/// A keystroke and its echo, or a small question.
const ECHO_LEN: usize = 64;

/// Fifty times a second.
pub(crate) const ECHO_INTERVAL: Duration = Duration::from_millis(20);

/// How long an echo may be away before the connection counts as dead.
const ECHO_PATIENCE: Duration = Duration::from_secs(10);

/// Ten new connections a second.
pub(crate) const CONNECT_INTERVAL: Duration = Duration::from_millis(100);

/// How long a user waits for the first byte before he goes away.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_never_came_back_counts_as_long_as_it_was_waited_for() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);

        let round_trips = match_up(&[at(0), at(20), at(40)], &[at(51), at(75)], at(10_000));

        assert_eq!(round_trips.times, [51, 55, 9960].map(Duration::from_millis));
        assert_eq!(round_trips.n_missing, 1);
    }
}
