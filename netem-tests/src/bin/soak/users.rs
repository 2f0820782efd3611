//! The users: each of them moves numbers both ways for a while and checks what comes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netem_tests::observe::{End, NumberedStream, Rate, Rates};
use netem_tests::{Place, Service};

use super::dice::Dice;
use super::standstill::{Guest, Standstill, Watch};

/// All who are there, and what came of those who were.
#[derive(Debug, Default)]
pub(crate) struct Users {
    present: Vec<Present>,
    n_arrived: u64,
    /// Whether it is time to go.
    is_closing: Arc<AtomicBool>,
}

/// Somebody who is there.
#[derive(Debug)]
struct Present {
    guest: Arc<Guest>,
    watch: Watch,
    thread: JoinHandle<Visit>,
}

/// One user's stay.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) id: u64,
    pub(crate) habits: String,
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
    pub(crate) n_bytes: u64,
    pub(crate) fate: Fate,
}

/// What came of a user's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All that was sent came.
    Whole,
    /// Nobody served it.
    Refused,
    /// It ended before its time.
    Broken(String),
    /// Something else came than what was sent.
    Wrong(String),
}

/// Where users find the service.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    pub(crate) near: Place,
    pub(crate) service: Arc<Service>,
    pub(crate) port: u16,
}

impl Users {
    /// Lets somebody come, if there is room, and returns the stays of those who have gone.
    pub(crate) fn tend(
        &mut self,
        dice: &mut Dice,
        counter: &Counter,
        may_come: bool,
    ) -> Vec<Visit> {
        if may_come && self.present.len() < MOST_PRESENT && dice.below(COMES_ONE_IN) == 0 {
            self.n_arrived += 1;
            let (id, counter) = (self.n_arrived, counter.clone());
            let (rates, stay) = habits(dice);
            let is_closing = Arc::clone(&self.is_closing);
            let guest = Arc::new(Guest {
                id,
                came: Instant::now(),
                habits: format!("down {:?}, up {:?}", rates.down, rates.up),
                ledgers: OnceLock::new(),
            });
            let seen = Arc::clone(&guest);
            self.present.push(Present {
                guest,
                watch: Watch::default(),
                thread: thread::spawn(move || visit(&counter, &seen, rates, stay, &is_closing)),
            });
        }
        let (gone, present): (Vec<Present>, Vec<Present>) = self
            .present
            .drain(..)
            .partition(|one| one.thread.is_finished());
        self.present = present;
        gone.into_iter()
            .filter_map(|one| one.thread.join().ok())
            .collect()
    }

    /// Returns who has stood still for too long, a `step` after the last look. `is_well` says that
    /// nothing was wrong meanwhile.
    pub(crate) fn standstills(&mut self, step: Duration, is_well: bool) -> Vec<Standstill> {
        let now = Instant::now();
        self.present
            .iter_mut()
            .filter_map(|one| one.watch.look(&one.guest, now, step, is_well))
            .collect()
    }

    /// Has all who are there stop sending, wait for what is under way, and go.
    pub(crate) fn ask_to_leave(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// Returns how many are there.
    pub(crate) fn n_present(&self) -> usize {
        self.present.len()
    }
}

/// Decides how much somebody moves, and for how long.
fn habits(dice: &mut Dice) -> (Rates, Duration) {
    match dice.below(10) {
        // Somebody who fetches as much as goes.
        0 => (
            Rates {
                down: Rate::Unlimited,
                up: Rate::Mbit(0.05),
            },
            dice.seconds(1.0, 5.0),
        ),
        // Somebody who looks at something small.
        1..=3 => (Rates::both(0.1), dice.seconds(0.05, 1.0)),
        // Somebody who stays.
        4 => (
            Rates::both(dice.between(0.05, 1.0)),
            dice.seconds(60.0, 180.0),
        ),
        _ => (
            Rates {
                down: Rate::Mbit(dice.between(0.1, 4.0)),
                up: Rate::Mbit(dice.between(0.1, 2.0)),
            },
            dice.seconds(3.0, 40.0),
        ),
    }
}

fn visit(
    counter: &Counter,
    guest: &Guest,
    rates: Rates,
    stay: Duration,
    is_closing: &AtomicBool,
) -> Visit {
    let (id, begin) = (guest.id, guest.came);
    let open = || NumberedStream::open(&counter.service, counter.port, id, rates);
    let (fate, n_bytes) = match counter.near.enter(open) {
        Ok(stream) => {
            // Nobody else sets it.
            let _ = guest.ledgers.set(stream.watched());
            use_stream(stream, begin + stay, is_closing)
        }
        Err(_refused) => (Fate::Refused, 0),
    };
    counter.service.forget(id);
    Visit {
        id,
        habits: guest.habits.clone(),
        begin,
        end: Instant::now(),
        n_bytes,
        fate,
    }
}

fn use_stream(stream: NumberedStream, until: Instant, is_closing: &AtomicBool) -> (Fate, u64) {
    let is_time = || Instant::now() >= until || is_closing.load(Ordering::Relaxed);
    while !is_time() && stream.broken().is_none() {
        let left = until.saturating_duration_since(Instant::now());
        thread::sleep(left.min(STEP));
    }
    let broken = stream.broken();
    let n_bytes = stream.ledgers().map(|ledger| ledger.n_bytes());
    let n_down = stream.down().n_bytes();
    let n_all = n_bytes.iter().sum();
    let fate = match broken {
        Some((_, End::Wrong(what))) => Fate::Wrong(what),
        Some(_) if n_down == 0 => Fate::Refused,
        Some((_, end)) => Fate::Broken(end.to_string()),
        None => match stream.finish(FINISH_PATIENCE) {
            Ok(()) => Fate::Whole,
            Err(error) => {
                let text = format!("{error:#}");
                match text.contains("WRONG") {
                    true => Fate::Wrong(text),
                    false if n_down == 0 => Fate::Refused,
                    false => Fate::Broken(text),
                }
            }
        },
    };
    (fate, n_all)
}

/// How many are there at once, at most: more than one of a kind, and room for the links.
const MOST_PRESENT: usize = 16;

/// A new one every second or so: somebody is asked in each step of 100 ms.
const COMES_ONE_IN: u64 = 8;

/// How often a user looks whether it is broken.
const STEP: Duration = Duration::from_millis(100);

/// How long what is under way may take to arrive: the longest fault, and getting over it.
const FINISH_PATIENCE: Duration = Duration::from_secs(100);
