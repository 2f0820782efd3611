//! Users who come one after the other: each connects, asks for one echo, and goes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Op;

/// What came of one of them.
#[derive(Clone, Copy, Debug)]
pub struct FreshConn {
    /// When it began to connect.
    pub start: Instant,
    /// When it was over.
    pub over: Instant,
    /// How.
    pub end: FreshEnd,
}

/// How a fresh connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreshEnd {
    /// With its echo.
    Served,
    /// Refused, or closed without an echo.
    Refused,
    /// Nobody said anything for as long as such users wait.
    Unanswered,
}

/// Connects every 200 ms whether the last one was served or not. Dropping it ends that.
#[derive(Debug)]
pub struct FreshConns {
    conns: Arc<Mutex<Vec<FreshConn>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FreshConns {
    /// Starts with connections to `port` on loopback. The threads belong to the network of the
    /// calling thread.
    pub fn start(port: u16) -> Self {
        let conns = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (conns, stop) = (Arc::clone(&conns), Arc::clone(&stop));
            thread::spawn(move || {
                let mut due = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    let conns = Arc::clone(&conns);
                    // A machine without threads would show in the counts.
                    let _ = thread::Builder::new().stack_size(STACK_LEN).spawn(move || {
                        let conn = try_once(port);
                        lock(&conns).push(conn);
                    });
                    due = (due + INTERVAL).max(Instant::now());
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            })
        };
        Self {
            conns,
            stop,
            thread: Some(thread),
        }
    }

    /// Returns what came of those that began in a period and are over, in no order.
    pub fn between(&self, from: Instant, until: Instant) -> Vec<FreshConn> {
        let conns = lock(&self.conns);
        let inside = conns
            .iter()
            .filter(|one| one.start >= from && one.start < until);
        inside.copied().collect()
    }

    /// Returns when the first one was served after `since`, whenever it had begun.
    pub fn first_served_after(&self, since: Instant) -> Option<Instant> {
        let conns = lock(&self.conns);
        let served = conns.iter().filter(|one| one.end == FreshEnd::Served);
        served
            .map(|one| one.over)
            .filter(|over| *over > since)
            .min()
    }
}

impl FreshConns {
    /// Returns when the longest time in a period ended in which nobody was served, or nothing when
    /// it lasted to the period's end.
    pub fn served_again(&self, from: Instant, until: Instant) -> Option<Instant> {
        let conns = lock(&self.conns);
        let served = conns.iter().filter(|one| one.end == FreshEnd::Served);
        let mut times: Vec<Instant> = served
            .map(|one| one.over)
            .filter(|over| *over > from && *over < until)
            .collect();
        times.sort_unstable();
        end_of_longest_gap(from, &times, until)
    }
}

impl Drop for FreshConns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns the time behind the longest gap, unless that is `until`.
fn end_of_longest_gap(from: Instant, times: &[Instant], until: Instant) -> Option<Instant> {
    let mut last = from;
    let mut longest = (Duration::ZERO, None);
    for time in times.iter().copied().chain([until]) {
        let gap = time.saturating_duration_since(last);
        if gap > longest.0 {
            longest = (gap, Some(time));
        }
        last = time;
    }
    longest.1.filter(|time| *time < until)
}

/// Connects, and waits for an echo.
fn try_once(port: u16) -> FreshConn {
    let start = Instant::now();
    let end = ask(port).unwrap_or_else(|error| {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        match error.kind() {
            TimedOut | WouldBlock => FreshEnd::Unanswered,
            _ => FreshEnd::Refused,
        }
    });
    FreshConn {
        start,
        over: Instant::now(),
        end,
    }
}

fn ask(port: u16) -> std::io::Result<FreshEnd> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut conn = TcpStream::connect_timeout(&address, PATIENCE)?;
    conn.set_nodelay(true)?;
    conn.set_read_timeout(Some(PATIENCE))?;
    let mut request = Op::Echo.request(0, 0).to_vec();
    request.extend_from_slice(b"knock");
    conn.write_all(&request)?;
    let mut echo = [0; 5];
    conn.read_exact(&mut echo)?;
    Ok(FreshEnd::Served)
}

fn lock(conns: &Mutex<Vec<FreshConn>>) -> MutexGuard<'_, Vec<FreshConn>> {
    conns.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Five a second.
const INTERVAL: Duration = Duration::from_millis(200);

/// Longer than a server keeps a user waiting (`userConnTimeout`, 10 s).
const PATIENCE: Duration = Duration::from_secs(15);

/// Up to 75 of them wait at once.
const STACK_LEN: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{Service, free_port};

    #[test]
    fn who_is_served_and_who_is_refused_is_told_apart() {
        let service = Service::start().unwrap();
        assert_eq!(try_once(service.port()).end, FreshEnd::Served);

        let nobody = free_port().unwrap();
        assert_eq!(try_once(nobody).end, FreshEnd::Refused);
    }

    #[test]
    fn service_is_back_at_the_end_of_the_longest_gap() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);

        let back = end_of_longest_gap(at(0), &[at(1), at(2), at(7), at(8)], at(10));
        assert_eq!(back, Some(at(7)));
        let never = end_of_longest_gap(at(0), &[at(1), at(2)], at(10));
        assert_eq!(never, None);
    }
}
