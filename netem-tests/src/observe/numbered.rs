//! A connection on which each word is its own number, both ways.
//!
//! A word that is lost, repeated or out of order is noticed where it happens, and what came
//! instead says which of them it was. The numbers of each stream and direction are masked with a
//! text of their own, so that bytes of another stream are no numbers here.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{End, Ledger};
use crate::{Op, Service, traffic};

/// How fast one direction is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// So many Mbit/s. What could not be sent in time is left out and not made up for, as a live
    /// picture's sender does.
    Mbit(f64),
    /// As fast as it goes.
    Unlimited,
}

impl Rate {
    /// Returns the number that a request carries: bits per second, or zero for no limit.
    fn to_number(self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is a positive number of bits that fits well"
        )]
        match self {
            Self::Mbit(mbit) => ((mbit * 1e6) as u64).max(1),
            Self::Unlimited => 0,
        }
    }

    fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Unlimited,
            number => Self::Mbit(number as f64 / 1e6),
        }
    }
}

/// How fast both directions are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// To the user.
    pub down: Rate,
    /// To the service.
    pub up: Rate,
}

impl Rates {
    /// The same in both directions.
    pub fn both(mbit: f64) -> Self {
        Self {
            down: Rate::Mbit(mbit),
            up: Rate::Mbit(mbit),
        }
    }
}

/// A user's numbered stream, open until it is finished or dropped.
#[derive(Debug)]
pub struct NumberedStream {
    conn: Arc<TcpStream>,
    opened: Instant,
    down: Arc<Ledger>,
    up: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl NumberedStream {
    /// Connects to `port`, behind which `service` is, and begins. `id` differs from that of every
    /// other stream of that service.
    pub fn open(service: &Service, port: u16, id: u64, rates: Rates) -> Result<Self> {
        let conn = traffic::connect(port)?;
        // It is the stalls that are of interest here: nothing gives up because of one.
        conn.set_read_timeout(None)?;
        conn.set_write_timeout(None)?;
        let up = service.ledger(id);
        let down = Arc::new(Ledger::default());
        let stop = Arc::new(AtomicBool::new(false));
        (&conn).write_all(&Op::Numbered.request(rates.down.to_number(), id))?;

        let conn = Arc::new(conn);
        let opened = Instant::now();
        let receiver = {
            let (conn, ledger) = (Arc::clone(&conn), Arc::clone(&down));
            thread::spawn(move || receive(&conn, Mask::down(id), &ledger))
        };
        let sender = {
            let (conn, stop, ledger) = (Arc::clone(&conn), Arc::clone(&stop), Arc::clone(&down));
            thread::spawn(move || {
                if let Err(error) = send(&conn, Mask::up(id), rates.up, &stop) {
                    ledger.note_end(End::Broken(format!("sending: {error}")));
                }
            })
        };
        Ok(Self {
            conn,
            opened,
            down,
            up,
            stop,
            threads: vec![receiver, sender],
        })
    }

    /// Returns when it was opened.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Returns what has arrived at the user.
    pub fn down(&self) -> &Ledger {
        &self.down
    }

    /// Returns what has arrived at the service.
    pub fn up(&self) -> &Ledger {
        &self.up
    }

    /// Returns both.
    pub fn ledgers(&self) -> [&Ledger; 2] {
        [&self.down, &self.up]
    }

    /// Returns what goes on being written down when the stream is finished: that of the user, and
    /// that of the service.
    pub fn watched(&self) -> [Arc<Ledger>; 2] {
        [Arc::clone(&self.down), Arc::clone(&self.up)]
    }

    /// Returns when and how it was broken, if it was: the earlier of both directions.
    pub fn broken(&self) -> Option<(Instant, End)> {
        self.ledgers()
            .into_iter()
            .filter_map(Ledger::end)
            .filter(|(_, end)| *end != End::Complete)
            .min_by_key(|(at, _)| *at)
    }

    /// Has both senders stop, and waits until everything they sent has come.
    pub fn finish(mut self, patience: Duration) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + patience;
        for (name, ledger) in [("to the user", &self.down), ("to the service", &self.up)] {
            let left = deadline.saturating_duration_since(Instant::now());
            match ledger.wait_for_end(left) {
                Some(End::Complete) => {}
                Some(other) => anyhow::bail!("the stream {name}: {other}"),
                None => anyhow::bail!("the stream {name} did not end within {patience:?}"),
            }
        }
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        let _ = self.conn.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            // A panic of theirs has been printed.
            let _ = thread.join();
        }
    }
}

impl Drop for NumberedStream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.end();
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::Broken(why) => write!(f, "broken: {why}"),
            Self::Wrong(what) => write!(f, "WRONG: {what}"),
        }
    }
}

/// The service's end of a stream.
pub(crate) fn serve(conn: &TcpStream, rate: u64, id: u64, up: &Ledger) -> Result<()> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            receive(conn, Mask::up(id), up);
            stop.store(true, Ordering::Relaxed);
        });
        let sent = send(conn, Mask::down(id), Rate::from_number(rate), &stop);
        if sent.is_err() {
            let _ = conn.shutdown(Shutdown::Both);
        }
        receiver.join().ok().context("the receiver panicked")?;
        sent.context("sending numbers")
    })
}

/// What turns numbers into the words of one direction of one stream.
#[derive(Clone, Copy, Debug)]
struct Mask(u64);

impl Mask {
    fn down(id: u64) -> Self {
        Self::new(2 * id)
    }

    fn up(id: u64) -> Self {
        Self::new(2 * id + 1)
    }

    fn new(number: u64) -> Self {
        // Splitmix64's last steps: neighbours have nothing in common.
        let mut bits = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        Self((bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB))
    }

    fn word(self, number: u64) -> [u8; WORD_LEN] {
        (number ^ self.0).to_le_bytes()
    }

    fn number(self, word: [u8; WORD_LEN]) -> u64 {
        u64::from_le_bytes(word) ^ self.0
    }
}

/// Sends numbers until it is told to stop, and then that it was told.
fn send(mut conn: &TcpStream, mask: Mask, rate: Rate, stop: &AtomicBool) -> io::Result<()> {
    let mut numbers = 0..END;
    let mut block = Vec::with_capacity(BLOCK_LEN);
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let n_words = match rate {
            Rate::Unlimited => BLOCK_LEN / WORD_LEN,
            Rate::Mbit(mbit) => {
                due += TICK;
                match due.checked_duration_since(Instant::now()) {
                    Some(early) => thread::sleep(early),
                    // What is late stays late.
                    None => due = due.max(Instant::now() - LATENESS_MAX),
                }
                words_per_tick(mbit)
            }
        };
        block.clear();
        for number in numbers.by_ref().take(n_words) {
            block.extend_from_slice(&mask.word(number));
        }
        conn.write_all(&block)?;
    }
    conn.write_all(&mask.word(END))
}

fn words_per_tick(mbit: f64) -> usize {
    let bytes = mbit * 1e6 / 8.0 * TICK.as_secs_f64();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and what one tick sends fits into memory"
    )]
    let words = (bytes / WORD_LEN as f64).round() as usize;
    words.max(1)
}

/// Receives and checks numbers until the sender has said that it is done, or something is wrong.
fn receive(mut conn: &TcpStream, mask: Mask, ledger: &Ledger) {
    let mut block = vec![0; BLOCK_LEN];
    let mut n_kept = 0;
    let mut expected = 0;
    loop {
        let n = match conn.read(&mut block[n_kept..]) {
            Ok(0) => return ledger.note_end(End::Broken("closed".to_owned())),
            Ok(n) => n,
            Err(error) => return ledger.note_end(End::Broken(format!("receiving: {error}"))),
        };
        let filled = n_kept + n;
        let (words, rest) = block[..filled].as_chunks::<WORD_LEN>();
        for word in words {
            match mask.number(*word) {
                number if number == expected => expected += 1,
                END => {
                    ledger.note_bytes(n);
                    return ledger.note_end(End::Complete);
                }
                other => return ledger.note_end(End::Wrong(describe(expected, other))),
            }
        }
        ledger.note_bytes(n);
        n_kept = rest.len();
        block.copy_within(filled - n_kept..filled, 0);
    }
}

/// Says what has happened to a stream in which `number` came in the place of `expected`.
fn describe(expected: u64, number: u64) -> String {
    if number > MOST_NUMBERS {
        format!("in the place of word {expected} came something else")
    } else if number < expected {
        format!("word {number} came again, in the place of word {expected}")
    } else {
        format!("words {expected} to {} are lost", number - 1)
    }
}

const WORD_LEN: usize = 8;

/// In the place of a number: that was all.
const END: u64 = u64::MAX >> 1;

/// No stream is so long: 100 years at 1 Gbit/s.
const MOST_NUMBERS: u64 = 1 << 56;

/// Large enough that system calls do not count, and a multiple of the length of a word.
const BLOCK_LEN: usize = 64 * 1024;

/// How often a sender with a rate sends.
const TICK: Duration = Duration::from_millis(10);

/// How much of what it could not send in time a sender makes up for: what a busy machine costs,
/// and not what an outage does.
const LATENESS_MAX: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::net::TcpListener;

    use super::*;

    #[test]
    fn numbers_go_both_ways_until_the_user_is_done() {
        let service = Service::start().unwrap();
        let stream = NumberedStream::open(&service, service.port(), 7, Rates::both(4.0)).unwrap();

        for ledger in stream.ledgers() {
            assert!(ledger.wait_for_bytes(stream.opened(), crate::PATIENCE));
        }
        assert_eq!(stream.broken(), None);

        stream.finish(crate::PATIENCE).unwrap();
    }

    #[test]
    fn what_is_lost_repeated_or_foreign_is_told_apart() {
        let words = |numbers: &[u64], mask: Mask| -> Vec<u8> {
            numbers.iter().flat_map(|n| mask.word(*n)).collect()
        };
        let mask = Mask::up(1);

        assert_eq!(received(&words(&[0, 1, 2, END], mask)), End::Complete);
        let lost = received(&words(&[0, 1, 4], mask));
        assert_eq!(lost, End::Wrong("words 2 to 3 are lost".to_owned()));
        let again = received(&words(&[0, 1, 1], mask));
        let text = "word 1 came again, in the place of word 2";
        assert_eq!(again, End::Wrong(text.to_owned()));
        let foreign = received(&words(&[0, 1], Mask::up(2)));
        let text = "in the place of word 0 came something else";
        assert_eq!(foreign, End::Wrong(text.to_owned()));
        let cut_off = received(&words(&[0, 1], mask)[..11]);
        assert_eq!(cut_off, End::Broken("closed".to_owned()));
    }

    fn received(bytes: &[u8]) -> End {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let conn = listener.accept().unwrap().0;
        sender.write_all(bytes).unwrap();
        drop(sender);
        let ledger = Ledger::default();
        receive(&conn, Mask::up(1), &ledger);
        ledger.end().unwrap().1
    }
}
