//! `PART=metrics`: what it costs to show metrics.
//!
//! The same tunnel with pages of metrics on both programs, scraped, and without, in turn: rounds of
//! two, so that a machine that gets slower for a while does so for both, and what counts is the
//! median of the rounds' ratios. Then one server with so many proxies that its page has 10,000
//! series.

mod report;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netem_tests::{Pair, PairBuilder, Proxy, Service, Sides};

use crate::document::Document;
use crate::loopback::measure::{self, Direction, Lengths};
use crate::loopback::results::Metric;
use crate::loopback::subject::Running;
use crate::settings::Settings;
use crate::stop;

/// Measures both, and writes the report into `docs/metrics.md`.
pub(crate) fn run(settings: &Settings) -> Result<bool> {
    let plan = if settings.quick {
        Plan::QUICK
    } else {
        Plan::FULL
    };
    println!(
        "bench: {} rounds with and without metrics, then a page of many series; about {}",
        plan.n_rounds,
        crate::links::progress::in_words(plan.nominal())
    );
    let start = Instant::now();
    let mut rounds = Vec::new();
    for number in 1..=plan.n_rounds {
        // Who goes first takes turns as well.
        let order = if number % 2 == 0 {
            [Pages::Off, Pages::On]
        } else {
            [Pages::On, Pages::Off]
        };
        let mut round = Round::default();
        for pages in order {
            stop::check()?;
            let costs = plan.measure(pages)?;
            println!(
                "bench: {:4} s, round {number} of {}, metrics {}: {}",
                start.elapsed().as_secs(),
                plan.n_rounds,
                pages.word(),
                costs.in_a_line()
            );
            match pages {
                Pages::Off => round.off = costs,
                Pages::On => round.on = costs,
            }
        }
        rounds.push(round);
    }
    println!(
        "bench: {:4} s, a server with {N_PROXIES} proxies",
        start.elapsed().as_secs()
    );
    let scrapes = scrapes(plan.n_scrapes)?;

    let text = report::text(&rounds, &scrapes, &plan, settings.quick);
    println!("\n{text}");
    let document = Document::open_named("metrics.md", settings.quick)?;
    document.replace_part("metrics-cost", &text)?;
    println!("bench: wrote {}", document.path().display());
    Ok(true)
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Plan {
    n_rounds: usize,
    bulk: Duration,
    connect: Duration,
    /// Between two scrapes of each page.
    scrape_interval: Duration,
    n_scrapes: usize,
}

impl Plan {
    const FULL: Self = Self {
        n_rounds: 7,
        // Two scrapes fall into it.
        bulk: Duration::from_secs(30),
        connect: Duration::from_secs(8),
        scrape_interval: Duration::from_secs(15),
        n_scrapes: 30,
    };
    const QUICK: Self = Self {
        n_rounds: 3,
        bulk: Duration::from_secs(5),
        connect: Duration::from_secs(2),
        scrape_interval: Duration::from_secs(2),
        n_scrapes: 10,
    };

    fn nominal(&self) -> Duration {
        let once = self.bulk + self.connect + Duration::from_secs(3);
        once * 2 * u32::try_from(self.n_rounds).unwrap_or(1) + Duration::from_secs(30)
    }

    fn measure(&self, pages: Pages) -> Result<Costs> {
        let service = Service::start()?;
        let mut builder = PairBuilder::new(&Sides::ours()?)
            .quiet()
            .proxy(Proxy::tcp("bench", service.port()));
        if pages == Pages::On {
            builder = builder.with_metrics()?.with_client_metrics()?;
        }
        let pair = builder.start().context("cannot start the tunnel")?;
        let running = Running {
            port: pair.port("bench")?,
            pair: Some(pair),
            service,
        };
        let lengths = |window| Lengths {
            warm_up: Duration::from_secs(1),
            window,
            n_idle: 0,
        };
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            if let (Pages::On, Some(pair)) = (pages, &running.pair) {
                let is_over = &is_over;
                scope.spawn(move || scrape_both(pair, self.scrape_interval, is_over));
            }
            let measured = || -> Result<Costs> {
                let bulk =
                    measure::bulk(&running, N_STREAMS, Direction::Down, &lengths(self.bulk))?;
                let connect = measure::connect(&running, &lengths(self.connect))?;
                Ok(Costs::new(bulk.into_iter().chain(connect)))
            };
            let costs = measured();
            is_over.store(true, Ordering::Relaxed);
            costs
        })
    }
}

/// Whether pages of metrics are shown, and scraped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    Off,
    On,
}

impl Pages {
    fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
        }
    }
}

/// What a tunnel did, and what it took for that.
#[derive(Clone, Copy, Debug, Default)]
struct Costs {
    gbit_per_s: f64,
    cpu_s_per_gib: f64,
    conns_per_s: f64,
    cpu_s_per_1000_conns: f64,
}

impl Costs {
    fn new(values: impl Iterator<Item = (Metric, f64)>) -> Self {
        let mut costs = Self::default();
        for (metric, value) in values {
            match metric {
                Metric::Rate(..) => costs.gbit_per_s = value,
                Metric::CpuPerGib(..) => costs.cpu_s_per_gib = value,
                Metric::ConnsPerSecond => costs.conns_per_s = value,
                Metric::CpuPerThousandConns => costs.cpu_s_per_1000_conns = value,
                _ => {}
            }
        }
        costs
    }

    fn in_a_line(&self) -> String {
        format!(
            "{:.2} Gbit/s, {:.2} s of CPU for a GiB, {:.0} connections a second, {:.2} s for 1,000",
            self.gbit_per_s, self.cpu_s_per_gib, self.conns_per_s, self.cpu_s_per_1000_conns
        )
    }
}

/// One after the other on the same machine.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    off: Costs,
    on: Costs,
}

/// Asks both programs for their pages, as Prometheus does.
fn scrape_both(pair: &Pair, interval: Duration, is_over: &AtomicBool) {
    let mut next = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            next += interval;
            // A page that does not come is no page: the report tells of those that were asked for.
            let _ = pair.server_metrics();
            let _ = pair.client_metrics();
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What pages of many series take.
#[derive(Clone, Debug, Default)]
struct Scrapes {
    n_series: usize,
    n_bytes: usize,
    times: Vec<Duration>,
    cpu_each: Duration,
}

fn scrapes(n: usize) -> Result<Scrapes> {
    let service = Service::start()?;
    let proxies = (0..N_PROXIES).map(|number| Proxy::tcp(&format!("p{number}"), service.port()));
    let pair = PairBuilder::new(&Sides::ours()?)
        .quiet()
        .with_metrics()?
        .proxies(proxies)
        .start()
        .context("cannot start a tunnel of so many proxies")?;
    // The first page of a process is also the first time that it allocates for one.
    let page = pair.server_metrics()?;
    let mut found = Scrapes {
        n_series: page
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .count(),
        n_bytes: page.len(),
        ..Scrapes::default()
    };
    let cpu_before = pair.server()?.cpu_time()?;
    for _ in 0..n {
        stop::check()?;
        let start = Instant::now();
        pair.server_metrics()?;
        found.times.push(start.elapsed());
    }
    let cpu = pair.server()?.cpu_time()?.saturating_sub(cpu_before);
    found.cpu_each = cpu / u32::try_from(n).unwrap_or(u32::MAX);
    found.times.sort_unstable();
    println!(
        "         {} series, {} kB: median {:.1} ms",
        found.n_series,
        found.n_bytes / 1000,
        found.median().as_secs_f64() * 1000.0
    );
    Ok(found)
}

impl Scrapes {
    fn median(&self) -> Duration {
        let middle = self.times.get(self.times.len() / 2);
        middle.copied().unwrap_or_default()
    }

    fn worst(&self) -> Duration {
        self.times.last().copied().unwrap_or_default()
    }
}

/// Each has seven series at the server.
const N_PROXIES: usize = 1_450;

/// Busy connections while it is looked at.
const N_STREAMS: usize = 4;
