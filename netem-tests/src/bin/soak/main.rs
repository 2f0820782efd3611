//! `make soak`: users come and go while all kinds of things go wrong, for as long as one likes.
//!
//! Two labs side by side. In the first, our programs run in `auto` from beginning to end, and only
//! the link suffers: what they hold at the end must be what they held early on. In the second, the
//! transport changes every few minutes, and the programs are killed and stopped as well. In both,
//! users keep coming; each of them checks every byte in both directions.
//!
//! It fails when a byte was wrong, when a connection broke whose programs both lived on, when one
//! stood still for half a minute in which nothing was wrong, or when memory or descriptors grew. Each
//! failure, and each shorter standstill, is told at once with what the programs know of it, of which
//! `target/soak/` has all. What happens follows a seed, which is printed; `SEED=` repeats it.
//! The report goes to `target/soak/`, with `REPORT=1` to `docs/soak.md`.

#![expect(clippy::print_stdout, reason = "this program talks to its user")]

mod dice;
mod health;
mod look;
mod mishap;
mod plot;
mod report;
mod standstill;
mod users;
mod world;

use std::env;
use std::hash::{BuildHasher as _, RandomState};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netem_tests::interrupt::{self, is_asked_for as is_stopped};
use netem_tests::{Lab, Transport, words};

use report::Report;
use world::{Plan, World};

fn main() -> ExitCode {
    if let Some(answered) = words::answer(HELP) {
        return answered;
    }
    interrupt::listen();
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const HELP: &str = "\
Users come and go while all kinds of things go wrong, and each of them checks every byte.

Needs root and /dev/net/tun, and frps and frpc beside it (`make soak` builds all three). Ends with 0
when all went well. Ctrl-C ends it early, with a report.

  MINUTES=60   how long
  SEED=n       repeats what happened under that seed, which each run prints
  REPORT=1     the report goes to docs/soak.md instead of target/soak/
";

/// Returns whether all went well.
fn run() -> Result<bool> {
    let settings = Settings::from_env()?;
    if let Err(reason) = Lab::available() {
        println!("\n***  NOT SOAKED. The link lab does not work here: {reason}.\n");
        return Ok(true);
    }
    println!(
        "soak: {} min in two labs, SEED={}; Ctrl-C ends it early, with a report",
        settings.minutes, settings.seed
    );
    let start = Instant::now();
    let length = Duration::from_secs_f64(settings.minutes * 60.0);
    let plans = [
        Plan {
            name: "steady",
            transports: vec![Transport::Auto],
            has_restarts: false,
            seed: settings.seed,
            start,
            length,
        },
        Plan {
            name: "restless",
            transports: restless(settings.seed),
            has_restarts: true,
            seed: settings.seed.wrapping_add(1),
            start,
            length,
        },
    ];
    let worlds: Vec<World> = plans.into_iter().map(World::new).collect();
    thread::scope(|scope| {
        let running: Vec<_> = worlds
            .iter()
            .map(|world| scope.spawn(|| world.run()))
            .collect();
        let mut next_line = start + LINE_INTERVAL;
        while running.iter().any(|one| !one.is_finished()) {
            thread::sleep(Duration::from_millis(100));
            if Instant::now() >= next_line {
                let states: Vec<String> = worlds.iter().map(World::state).collect();
                println!(
                    "soak: {:5.0} s of {:.0}: {}",
                    start.elapsed().as_secs_f64(),
                    length.as_secs_f64(),
                    states.join("; ")
                );
                next_line += LINE_INTERVAL;
            }
        }
        for one in running {
            match one.join() {
                Ok(result) => result?,
                Err(_panic) => bail!("a lab panicked"),
            }
        }
        Ok(())
    })?;
    let chapters = worlds.iter().flat_map(World::chapters).collect();
    let report = Report::new(settings.seed, start.elapsed(), chapters);
    println!("\n{}", report.summary());
    let path = report.write(settings.is_for_docs)?;
    println!("soak: the report is in {}", path.display());
    Ok(report.is_good())
}

/// Returns the transports of the second lab, in turn.
fn restless(seed: u64) -> Vec<Transport> {
    let mut transports = vec![
        Transport::Quic,
        Transport::Kcp,
        Transport::Auto,
        Transport::Tcp,
        Transport::Websocket,
        Transport::Wss,
    ];
    // A short soak has time for the first of them only.
    let first = seed % transports.len() as u64;
    transports.rotate_left(usize::try_from(first).unwrap_or(0));
    transports
}

/// What the environment asks for.
struct Settings {
    minutes: f64,
    seed: u64,
    is_for_docs: bool,
}

impl Settings {
    fn from_env() -> Result<Self> {
        let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let minutes: f64 = match text("MINUTES") {
            Some(text) => text
                .parse()
                .with_context(|| format!("MINUTES={text} is no number"))?,
            None => MINUTES_DEFAULT,
        };
        ensure!(
            (MINUTES_MIN..=MINUTES_MAX).contains(&minutes),
            "MINUTES={minutes} is not between {MINUTES_MIN} and {MINUTES_MAX}"
        );
        let seed = match text("SEED") {
            Some(text) => text
                .parse()
                .with_context(|| format!("SEED={text} is no number"))?,
            // Short enough to be typed.
            None => RandomState::new().hash_one(std::process::id()) % 1_000_000,
        };
        Ok(Self {
            minutes,
            seed,
            is_for_docs: text("REPORT").is_some_and(|value| value != "0"),
        })
    }
}

/// Long enough that slow leaks show.
const MINUTES_DEFAULT: f64 = 60.0;

/// Less leaves no room for a fault and its end.
const MINUTES_MIN: f64 = 0.5;

/// Two days. What is written down grows with the time.
const MINUTES_MAX: f64 = 2880.0;

/// How often it says how it is going.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
