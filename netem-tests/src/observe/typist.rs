//! A user who types: a little at a time, each message with its number, and back it comes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{End, Ledger};
use crate::{Op, traffic};

/// A connection to the service's echo, with a message every 20 ms whether the last one has come
/// back or not. Dropping it ends it.
#[derive(Debug)]
pub struct Typist {
    conn: Arc<TcpStream>,
    echoes: Arc<Ledger>,
    /// When each message went, and when it was back.
    times: Arc<Mutex<Times>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Times {
    sent: Vec<Instant>,
    back: Vec<Instant>,
}

impl Typist {
    /// Connects to `port` and begins.
    pub fn open(port: u16) -> Result<Self> {
        let conn = traffic::connect(port)?;
        conn.set_read_timeout(None)?;
        conn.set_write_timeout(None)?;
        (&conn).write_all(&Op::Echo.request(0, 0))?;
        let conn = Arc::new(conn);
        let echoes = Arc::new(Ledger::default());
        let times = Arc::new(Mutex::new(Times::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let sender = {
            let (conn, times, stop) = (Arc::clone(&conn), Arc::clone(&times), Arc::clone(&stop));
            thread::spawn(move || send(&conn, &times, &stop))
        };
        let receiver = {
            let (conn, times, echoes) =
                (Arc::clone(&conn), Arc::clone(&times), Arc::clone(&echoes));
            thread::spawn(move || echoes.note_end(receive(&conn, &times, &echoes)))
        };
        Ok(Self {
            conn,
            echoes,
            times,
            stop,
            threads: vec![sender, receiver],
        })
    }

    /// Returns when which echoes came.
    pub fn echoes(&self) -> &Ledger {
        &self.echoes
    }

    /// Returns how long each message that was sent in a period was under way. One that is not back
    /// counts as long as it has been waited for.
    pub fn round_trips(&self, from: Instant, until: Instant) -> Vec<Duration> {
        let now = Instant::now();
        let times = lock(&self.times);
        let all = times.sent.iter().enumerate();
        all.filter(|(_, sent)| **sent >= from && **sent < until)
            .map(|(number, sent)| {
                let back = times.back.get(number).copied().unwrap_or(now);
                back.saturating_duration_since(*sent)
            })
            .collect()
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.conn.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn send(mut conn: &TcpStream, times: &Mutex<Times>, stop: &AtomicBool) {
    let mut due = Instant::now();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // Not when it was due: the thread may wake late, which is not the tunnel's fault.
        lock(times).sent.push(Instant::now());
        if conn.write_all(&message(number)).is_err() {
            return;
        }
        due = (due + INTERVAL).max(Instant::now() - INTERVAL);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn receive(mut conn: &TcpStream, times: &Mutex<Times>, echoes: &Ledger) -> End {
    let mut echo = [0; MESSAGE_LEN];
    for number in 0_u64.. {
        if let Err(error) = conn.read_exact(&mut echo) {
            return End::Broken(error.to_string());
        }
        if echo != message(number) {
            return End::Wrong(format!("the echo of message {number} is another one"));
        }
        lock(times).back.push(Instant::now());
        echoes.note_bytes(MESSAGE_LEN);
    }
    End::Complete
}

fn message(number: u64) -> [u8; MESSAGE_LEN] {
    let mut message = [0x5A; MESSAGE_LEN];
    message[..8].copy_from_slice(&number.to_be_bytes());
    message
}

fn lock(times: &Mutex<Times>) -> MutexGuard<'_, Times> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a keystroke makes of itself in a terminal over SSH.
const MESSAGE_LEN: usize = 64;

/// Fast enough to see a stall to within a round trip.
const INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{PATIENCE, Service};

    #[test]
    fn each_message_comes_back() {
        let service = Service::start().unwrap();
        let start = Instant::now();

        let typist = Typist::open(service.port()).unwrap();

        assert!(typist.echoes().wait_for_bytes(start, PATIENCE));
        assert!(!typist.round_trips(start, Instant::now()).is_empty());
        assert_eq!(typist.echoes().end(), None);
    }
}
