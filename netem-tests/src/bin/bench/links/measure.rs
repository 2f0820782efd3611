//! How each kind of cell is measured.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netem_tests::lab::{Counters, WayCounters};

use super::cell::{Cell, Kind, Way};
use super::link::Link;
use super::load::{self, BulkUser, CONNECT_INTERVAL, ECHO_INTERVAL, RoundTrips};
use super::metric::Metric;
use super::records::Outcome;
use super::site::{self, Site};
use super::stats::percentile_ms;
use super::timeline::Timeline;
use crate::stop;

/// How long a look takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    /// Bulk: from the user's connect to the steady window.
    warm_up: Duration,
    /// Bulk: the steady window, and how long echoes run beside it.
    window: Duration,
    /// Rates: how many round trips with a full queue pass before the steady window. Cubic that has
    /// lost its slow start's overshoot is back at the link's rate after 60, on all of the links.
    n_rate_round_trips: u32,
    /// Echo on an idle connection: how many messages.
    n_echoes: usize,
    /// New connections.
    n_conns: usize,
    /// Fresh tunnels, over all rounds.
    n_starts: usize,
    /// Fairness: how long the two get to find each other, and how long is counted.
    fair_warm_up: Duration,
    fair_window: Duration,
}

impl Lengths {
    pub(crate) const FULL: Self = Self {
        warm_up: Duration::from_secs(2),
        window: Duration::from_secs(6),
        n_rate_round_trips: 60,
        n_echoes: 400,
        n_conns: 100,
        n_starts: 100,
        fair_warm_up: Duration::from_secs(5),
        fair_window: Duration::from_secs(15),
    };
    pub(crate) const QUICK: Self = Self {
        warm_up: Duration::from_millis(1000),
        window: Duration::from_millis(1500),
        n_rate_round_trips: 20,
        n_echoes: 100,
        n_conns: 20,
        n_starts: 5,
        fair_warm_up: Duration::from_secs(2),
        fair_window: Duration::from_secs(3),
    };

    /// Returns about how long `kind` takes where all goes well.
    pub(crate) fn nominal(&self, cell: &Cell<'_>, n_rounds: usize) -> Duration {
        let n = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let steps = match cell.kind {
            Kind::Rate(_) => self.rate_warm_up(cell.link) + self.window,
            Kind::Bulk(_) | Kind::EchoBeside(_) => self.warm_up + self.window,
            Kind::Echo => ECHO_INTERVAL * n(self.n_echoes),
            Kind::Connect => CONNECT_INTERVAL * n(self.n_conns),
            Kind::Starts => {
                (START_WATCH + Duration::from_millis(500)) * n(self.n_starts.div_ceil(n_rounds))
            }
            Kind::Fairness(_) => self.fair_warm_up + self.fair_window,
        };
        steps + choosing(cell) + Duration::from_millis(500)
    }

    /// Returns how long bare TCP gets to be steady: its slow start overshoots or ends too soon, and
    /// it finds its way from there by round trips.
    fn rate_warm_up(&self, link: &Link) -> Duration {
        let round_trips = self.n_rate_round_trips * link.longest_round_trip();
        round_trips.max(self.warm_up)
    }
}

/// Measures `cell` on a link that loses what `seed` says. `n_rounds` share the starts among them.
///
/// An error is the instrument's: whatever the programs and the link do is an outcome. When something
/// went wrong, `on_trouble` gets the site with the programs' logs.
pub(crate) fn run(
    cell: &Cell<'_>,
    lengths: &Lengths,
    seed: u64,
    n_rounds: usize,
    on_trouble: impl FnOnce(&Site),
) -> Result<Outcome> {
    let profile = match cell.kind {
        Kind::Rate(_) => cell.link.without_faults(),
        _ => cell.link.profile.clone(),
    };
    let mut site = Site::new(&cell.name(), &profile, seed)?;
    let measured = match cell.kind {
        Kind::Starts => starts(&mut site, cell, lengths.n_starts.div_ceil(n_rounds)),
        kind => site
            .open(cell.subject.route())
            .context("the tunnel did not come up")
            .and_then(|_took| {
                // What a tunnel does that has chosen. Starts look at those that have not.
                thread::sleep(choosing(cell));
                stop::check()
            })
            .and_then(|()| once(&site, cell.link, kind, lengths)),
    };
    // What goes wrong after Ctrl-C says nothing.
    stop::check()?;
    Ok(match measured {
        Ok(mut values) => {
            values.set(Metric::MissedPct, missed_pct(&site.lab.counters()?));
            Outcome::Measured(values.0)
        }
        Err(error) => {
            on_trouble(&site);
            Outcome::Stalled(format!("{error:#}"))
        }
    })
}

/// Returns how long a tunnel gets to choose its transport, where it does.
fn choosing(cell: &Cell<'_>) -> Duration {
    if cell.subject.is_auto() && cell.kind != Kind::Starts {
        CHOOSING
    } else {
        Duration::ZERO
    }
}

/// Values by the names of their metrics.
#[derive(Debug, Default)]
struct Values(BTreeMap<String, f64>);

impl Values {
    fn set(&mut self, metric: Metric, value: f64) {
        // What could not be divided is no value, and JSON has no word for it.
        if value.is_finite() {
            self.0.insert(metric.key().to_owned(), value);
        }
    }
}

fn once(site: &Site, link: &Link, kind: Kind, lengths: &Lengths) -> Result<Values> {
    match kind {
        Kind::Rate(way) => bulk(site, way, lengths.rate_warm_up(link), lengths.window),
        Kind::Bulk(way) => bulk(site, way, lengths.warm_up, lengths.window),
        Kind::Echo => echo(site, lengths.n_echoes),
        Kind::EchoBeside(way) => echo_beside(site, way, lengths),
        Kind::Connect => {
            let mut values = Values::default();
            set_times(&mut values, &load::connect_each(site, lengths.n_conns)?);
            Ok(values)
        }
        Kind::Fairness(way) => fairness(site, way, lengths),
        Kind::Starts => unreachable!("starts open tunnels of their own"),
    }
}

fn bulk(site: &Site, way: Way, warm_up: Duration, window: Duration) -> Result<Values> {
    let before = site.lab.counters()?;
    let start = Instant::now();
    let user = BulkUser::start(site.connect(warm_up + window)?, way, &site.service)?;
    let mut timeline = Timeline::default();
    let n_arrived = || user.n_arrived(&site.service);

    watch(&mut timeline, start, warm_up, n_arrived)?;
    let (cpu_before, steady_before) = (site.cpu_time()?, site.lab.counters()?);
    watch(&mut timeline, start, warm_up + window, n_arrived)?;
    let cpu = site.cpu_time()? - cpu_before;
    let after = site.lab.counters()?;
    drop(user);

    let n_bytes = timeline.bytes_by(warm_up + window) - timeline.bytes_by(warm_up);
    ensure!(
        n_bytes > 0,
        "nothing arrived from second {:.0} to second {:.0}; {} bytes before",
        warm_up.as_secs_f64(),
        (warm_up + window).as_secs_f64(),
        timeline.bytes_by(warm_up)
    );
    let mut values = Values::default();
    values.set(
        Metric::GoodputMbit,
        timeline.mbit_per_s(warm_up, warm_up + window),
    );
    values.set(
        Metric::FirstTwoSecondsMbit,
        timeline.mbit_per_s(Duration::ZERO, START_WATCH),
    );
    let first_gap = timeline.longest_gap(START_WATCH);
    values.set(Metric::FirstGapMs, first_gap.as_secs_f64() * 1000.0);
    let steady = difference(&after, &steady_before, way);
    values.set(Metric::WireRatio, steady.bytes_in as f64 / n_bytes as f64);
    let all = difference(&after, &before, way);
    values.set(
        Metric::OverflowPct,
        100.0 * all.overflowed as f64 / all.packets_in as f64,
    );
    values.set(Metric::QueuePacketsMax, all.longest_queue as f64);
    if let Some(pair) = &site.pair {
        values.set(
            Metric::CpuPerGib,
            cpu.as_secs_f64() / (n_bytes as f64 / GIB),
        );
        let frps = pair.server()?.peak_rss_kib()?;
        let frpc = pair.client()?.peak_rss_kib()?;
        values.set(Metric::FrpsPeakMib, frps as f64 / 1024.0);
        values.set(Metric::FrpcPeakMib, frpc as f64 / 1024.0);
    }
    Ok(values)
}

fn echo(site: &Site, n: usize) -> Result<Values> {
    let round_trips = load::echo(&site.connect(ECHO_CONNECT_PATIENCE)?, n)?;
    let mut values = Values::default();
    set_times(&mut values, &round_trips);
    Ok(values)
}

fn echo_beside(site: &Site, way: Way, lengths: &Lengths) -> Result<Values> {
    let start = Instant::now();
    let patience = lengths.warm_up + lengths.window;
    let user = BulkUser::start(site.connect(patience)?, way, &site.service)?;
    let mut timeline = Timeline::default();
    let n_arrived = || user.n_arrived(&site.service);
    watch(&mut timeline, start, lengths.warm_up, n_arrived)?;

    let n = lengths.window.div_duration_f64(ECHO_INTERVAL);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few hundred"
    )]
    let n = n as usize;
    let conn = site.connect(ECHO_CONNECT_PATIENCE)?;
    let round_trips = thread::scope(|scope| {
        let echo = scope.spawn(|| load::echo(&conn, n));
        // The bulk's rate is that of the time in which the echoes run, slow ones included.
        while !echo.is_finished() {
            timeline.push(start.elapsed(), n_arrived());
            thread::sleep(SAMPLE_INTERVAL);
        }
        echo.join().ok().context("the echo's user panicked")?
    })?;
    let end = start.elapsed();
    timeline.push(end, n_arrived());
    drop(user);

    let mut values = Values::default();
    set_times(&mut values, &round_trips);
    values.set(
        Metric::GoodputMbit,
        timeline.mbit_per_s(lengths.warm_up, end),
    );
    Ok(values)
}

/// Starts `n` tunnels one after the other and looks at the first two seconds of a transfer through
/// each.
fn starts(site: &mut Site, cell: &Cell<'_>, n: usize) -> Result<Values> {
    let login_limit = LOGIN_ROUND_TRIPS * cell.link.profile.round_trip() + STALL;
    let mut n_stalled = 0;
    let mut n_stalled_logins = 0;
    let mut longest_login = Duration::ZERO;
    let mut longest_gap = Duration::ZERO;
    for _ in 0..n {
        stop::check()?;
        // A login that takes longer than the harness waits is a stall, not an error.
        let login = site
            .open(cell.subject.route())
            .unwrap_or(netem_tests::PATIENCE);
        longest_login = longest_login.max(login);
        let is_login_stalled = login > login_limit;
        n_stalled_logins += u32::from(is_login_stalled);
        let gap = if login < netem_tests::PATIENCE {
            first_gap(site)?
        } else {
            Duration::ZERO
        };
        longest_gap = longest_gap.max(gap);
        n_stalled += u32::from(is_login_stalled || gap > STALL);
    }
    let mut values = Values::default();
    values.set(Metric::NStarts, n as f64);
    values.set(Metric::NStalled, n_stalled.into());
    values.set(Metric::NStalledLogins, n_stalled_logins.into());
    values.set(Metric::LoginMaxMs, longest_login.as_secs_f64() * 1000.0);
    values.set(Metric::FirstGapMs, longest_gap.as_secs_f64() * 1000.0);
    Ok(values)
}

/// Returns the longest silence in the first two seconds of a download.
fn first_gap(site: &Site) -> Result<Duration> {
    let start = Instant::now();
    let user = BulkUser::start(site.connect(START_WATCH)?, Way::Down, &site.service)?;
    let mut timeline = Timeline::default();
    watch(&mut timeline, start, START_WATCH, || {
        user.n_arrived(&site.service)
    })?;
    Ok(timeline.longest_gap(START_WATCH))
}

/// A transfer through the tunnel beside one over the bare link, to or from the same host.
fn fairness(site: &Site, way: Way, lengths: &Lengths) -> Result<Values> {
    let start = Instant::now();
    // Each has a service of its own, so that what arrives there can be told apart.
    let cubic_service = site::start_service(&site.lab)?;
    let cubic_address = (site.lab.far().address(), cubic_service.port()).into();
    let conn = site
        .lab
        .near()
        .enter(move || site::connect(cubic_address, ECHO_CONNECT_PATIENCE))?;
    let cubic = BulkUser::start(conn, way, &cubic_service)?;
    let user = BulkUser::start(site.connect(ECHO_CONNECT_PATIENCE)?, way, &site.service)?;

    let mut tunnel_bytes = Timeline::default();
    let mut cubic_bytes = Timeline::default();
    let warm_up = lengths.fair_warm_up;
    let end = warm_up + lengths.fair_window;
    watch(&mut tunnel_bytes, start, end, || {
        cubic_bytes.push(start.elapsed(), cubic.n_arrived(&cubic_service));
        user.n_arrived(&site.service)
    })?;
    drop((user, cubic));

    let tunnel = tunnel_bytes.mbit_per_s(warm_up, end);
    let cubic = cubic_bytes.mbit_per_s(warm_up, end);
    let mut values = Values::default();
    values.set(Metric::GoodputMbit, tunnel);
    values.set(Metric::Share, tunnel / (tunnel + cubic));
    Ok(values)
}

/// Samples `n_arrived` until `end`, counted from `start`.
fn watch(
    timeline: &mut Timeline,
    start: Instant,
    end: Duration,
    mut n_arrived: impl FnMut() -> u64,
) -> Result<()> {
    loop {
        stop::check()?;
        let now = start.elapsed();
        // The last sample is that of the end, however late the thread woke.
        timeline.push(now.min(end), n_arrived());
        if now >= end {
            return Ok(());
        }
        thread::sleep(SAMPLE_INTERVAL.min(end - now));
    }
}

fn set_times(values: &mut Values, round_trips: &RoundTrips) {
    for (metric, percent) in [
        (Metric::P50Ms, 50.0),
        (Metric::P99Ms, 99.0),
        (Metric::MaxMs, 100.0),
    ] {
        if let Some(time) = percentile_ms(&round_trips.times, percent) {
            values.set(metric, time);
        }
    }
    values.set(Metric::NMissing, round_trips.n_missing as f64);
}

/// Returns what happened between two looks, in the direction of `way`.
fn difference(after: &Counters, before: &Counters, way: Way) -> WayCounters {
    let (after, before) = (after.way(way.direction()), before.way(way.direction()));
    WayCounters {
        packets_in: after.packets_in - before.packets_in,
        bytes_in: after.bytes_in - before.bytes_in,
        overflowed: after.overflowed - before.overflowed,
        ..*after
    }
}

fn missed_pct(counters: &Counters) -> f64 {
    let (to_near, to_far) = (counters.to_near, counters.to_far);
    let n_all = to_near.packets_in + to_far.packets_in;
    100.0 * (to_near.missed + to_far.missed) as f64 / n_all.max(1) as f64
}

/// How often arrivals are looked at: the grain of gaps.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(5);

/// What belongs to the start of a transfer.
const START_WATCH: Duration = Duration::from_secs(2);

/// The comparison of transports at the start of `auto` takes 3 s.
const CHOOSING: Duration = Duration::from_secs(4);

/// A silence that users take for a hang.
const STALL: Duration = Duration::from_secs(1);

/// How many round trips a login takes where nothing gets lost, at most: TCP, TLS, login, proxy, and
/// one for frp's WebSocket.
const LOGIN_ROUND_TRIPS: u32 = 6;

/// How long the link's handshake of TCP may take, for users without a tunnel.
const ECHO_CONNECT_PATIENCE: Duration = Duration::from_secs(10);

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
