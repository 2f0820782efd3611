//! What one path is like: a login over it, round trips, loss of each direction, rates, and what the
//! server sees of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_core::hold::watch::{CarrierWatch, WatchConfig, measure_rate, mirror};
use frp_core::hold::{CarrierId, HeldSession, join};
use frp_core::proto::hold::session::EndReason;
use frp_core::proto::hold::session_frame::GoodbyeReason;
use frp_core::proto::path::{Pace, PathReport as Watched, Role, Tally};
use frp_core::session::Session;
use frp_core::transports::{Carrier, Endpoint, TransportKind};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::reach::{dial, dial_outcome};
use super::report::{EndpointReport, Measured, Outcome, PathReport, Peer, millis};
use crate::context::Context;
use crate::links::knock;
use crate::login::{LoggedIn, LoginError, Over, login};

/// How closely a path is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth {
    /// Whether its rates are measured.
    pub(super) has_rates: bool,
    /// For a second only.
    pub(super) is_quick: bool,
}

/// Logs in over `path` and measures it. Returns who answered.
pub(super) async fn measure(
    context: &Arc<Context>,
    path: &mut PathReport,
    depth: Depth,
) -> Option<Peer> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match enter(context, path).await {
            Ok(entered) => {
                let peer = entered.peer(context);
                path.handshake_ms = Some(millis(entered.dialled_in));
                path.login_ms = Some(millis(entered.took));
                path.measured = Some(entered.measure(context, depth).await);
                entered.leave().await;
                return Some(peer);
            }
            Err((outcome, error)) => {
                let is_final = outcome == Outcome::LoginRefused;
                last = Some((outcome, error));
                if is_final {
                    break;
                }
            }
        }
    }
    if let Some((outcome, error)) = last {
        (path.outcome, path.error) = (outcome, error);
    }
    None
}

/// A login over one path.
struct Entered {
    carrier: Arc<dyn Carrier>,
    logged_in: LoggedIn,
    /// Keeps the conns of a plain one.
    _session: Session,
    watch: Option<CarrierWatch>,
    /// While nothing else went on.
    dialled_in: Duration,
    took: Duration,
}

async fn enter(context: &Arc<Context>, path: &PathReport) -> Result<Entered, (Outcome, String)> {
    let Some(target) = &path.target else {
        return Err((Outcome::Unreachable, "there is nothing to dial".to_owned()));
    };
    let began = Instant::now();
    let dialled = dial(&context.config, target).await;
    let dialled_in = began.elapsed();
    let (transport, carrier) = dialled.map_err(|error| (error.outcome(), error.to_string()))?;
    let server = Endpoint {
        host: target.host.clone(),
        port: target.port,
    };
    let session = Session::over(transport, server, carrier.clone());
    let over = Over {
        carrier: carrier.clone(),
        id: CARRIER,
        kind: target.kind,
        // A new client to the server, whoever else runs with this configuration.
        run_id: String::new(),
        previous: None,
        is_known_holdfast: false,
    };
    let began = Instant::now();
    let logged_in = match login(context, &session, &over).await {
        Ok(logged_in) => logged_in,
        Err(error) => {
            carrier.close();
            return Err((login_outcome(&error), error.to_string()));
        }
    };
    let took = began.elapsed();
    if logged_in.welcome.is_some() {
        carrier.handle_holdfast_peer();
    }
    let watch = match &logged_in.held {
        Some(held) => watch(context, held, &carrier).await,
        None => None,
    };
    Ok(Entered {
        carrier,
        logged_in,
        _session: session,
        watch,
        dialled_in,
        took,
    })
}

/// Joins the session of the login, so that both ends probe.
async fn watch(
    context: &Context,
    held: &Arc<HeldSession>,
    carrier: &Arc<dyn Carrier>,
) -> Option<CarrierWatch> {
    let joined = join::join(held, CARRIER, carrier, STEP_TIMEOUT)
        .await
        .ok()?;
    let config = WatchConfig {
        role: Role::Asking,
        prober: context.config.transport.auto.prober.clone(),
        pace: Pace::InUse,
    };
    // Events that nobody takes are dropped, the oldest first.
    let (watch, _events) = CarrierWatch::start(held, CARRIER, carrier, joined, config);
    Some(watch)
}

fn login_outcome(error: &LoginError) -> Outcome {
    match error {
        LoginError::Dial(error) => dial_outcome(error),
        LoginError::Refused(_) | LoginError::NotHoldfast(_) => Outcome::LoginRefused,
        LoginError::Conn(frp_core::conn::ConnError::Timeout(_)) => Outcome::Silent,
        _ => Outcome::Handshake,
    }
}

impl Entered {
    fn peer(&self, context: &Context) -> Peer {
        let welcome = self.logged_in.welcome.as_ref();
        Peer {
            is_holdfast: welcome.is_some(),
            frp_version: self.logged_in.version.clone(),
            extension: welcome.map(|welcome| welcome.version),
            wire: match context.wire() {
                frp_core::proto::WireVersion::V1 => "v1",
                frp_core::proto::WireVersion::V2 => "v2",
            },
            holds: self.logged_in.held.is_some(),
            grace_seconds: self
                .logged_in
                .held
                .as_ref()
                .map(|_| self.logged_in.grace().as_secs()),
            endpoints: self
                .logged_in
                .endpoints()
                .unwrap_or_default()
                .into_iter()
                .map(|(transport, port)| EndpointReport { transport, port })
                .collect(),
        }
    }

    async fn measure(&self, context: &Context, depth: Depth) -> Measured {
        let n_trips = if depth.is_quick { QUICK_TRIPS } else { TRIPS };
        let mut measured = Measured {
            local_address: self.carrier.local_addr().map(|address| address.to_string()),
            ..Measured::default()
        };
        let before = self.watched();
        if self.carrier.is_multiplexed() {
            self.round_trips(n_trips, &mut measured).await;
        } else if let Some(rtt) = self.carrier.path_stats().rtt {
            measured.rtt_min_ms = Some(millis(rtt));
            measured.rtt_median_ms = Some(millis(rtt));
        }
        self.losses(before, &mut measured);
        if self.watch.is_some() {
            self.mirrored(&mut measured).await;
            if depth.has_rates {
                self.rates(&mut measured).await;
            }
        }
        let stats = self.carrier.path_stats();
        measured.mtu = stats.mtu;
        let packets = stats.packets_sent.zip(stats.packets_lost);
        measured.packets_out = stats.packets_sent.unwrap_or_default();
        measured.packet_loss_pct =
            packets
                .filter(|(sent, _)| *sent >= MIN_PACKETS)
                .map(|(total, lost)| {
                    Tally {
                        total,
                        lost: lost.min(total),
                    }
                    .share()
                        * 100.0
                });
        let is_proxied = context.config.transport.proxy_url.is_some();
        if is_proxied {
            // What was counted ends at the proxy.
            measured.packet_loss_pct = None;
            measured.packets_out = 0;
            measured.mtu = None;
        }
        measured
    }

    /// A stream with nothing in it is answered at once by any implementation of frp.
    async fn round_trips(&self, n: usize, measured: &mut Measured) {
        let mut asking = JoinSet::new();
        for index in 0..n {
            let carrier = self.carrier.clone();
            asking.spawn(async move {
                let began = Instant::now();
                let is_answered = knock(&carrier, STEP_TIMEOUT).await;
                (index, is_answered.then(|| began.elapsed()))
            });
            sleep(TRIP_SPACING).await;
        }
        let mut trips = vec![None; n];
        while let Some(outcome) = asking.join_next().await {
            if let Ok((index, trip)) = outcome {
                trips[index] = trip;
            }
        }
        let answered: Vec<Duration> = trips.iter().copied().flatten().collect();
        measured.round_trips = n;
        measured.round_trips_lost = n - answered.len();
        let steps = answered.windows(2).map(|pair| pair[0].abs_diff(pair[1]));
        let n_steps = u32::try_from(answered.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let jitter = steps.sum::<Duration>().checked_div(n_steps);
        let mut sorted = answered;
        sorted.sort_unstable();
        measured.rtt_min_ms = sorted.first().copied().map(millis);
        measured.rtt_median_ms = sorted.get(sorted.len() / 2).copied().map(millis);
        measured.jitter_ms = jitter.map(millis);
    }

    fn watched(&self) -> Option<Watched> {
        self.watch.as_ref().map(CarrierWatch::report)
    }

    /// Of the probes that went since `before`, each way.
    fn losses(&self, before: Option<Watched>, measured: &mut Measured) {
        let Some((before, now)) = before.zip(self.watched()) else {
            return;
        };
        let out = now.outbound.since(&before.outbound);
        let back = now.inbound.since(&before.inbound);
        let share = |tally: Tally| (tally.total >= MIN_PROBES).then(|| tally.share() * 100.0);
        (measured.probes_out, measured.probes_in) = (out.total, back.total);
        // Over a reliable stream a probe that is lost comes late, and would count as neither.
        if matches!(
            self.carrier.kind(),
            TransportKind::Quic | TransportKind::Kcp
        ) {
            measured.loss_out_pct = share(out);
            measured.loss_in_pct = share(back);
        }
    }

    /// What the server sees. A server that does not know the question gives no answer.
    async fn mirrored(&self, measured: &mut Measured) {
        let mut clocks = Vec::new();
        for _ in 0..CLOCK_LOOKS {
            let Ok(mirrored) = mirror(&self.carrier, 0, STEP_TIMEOUT).await else {
                return;
            };
            measured.seen_address = Some(mirrored.peer.to_string());
            clocks.push(mirrored.clock_ahead_ms);
        }
        clocks.sort_unstable();
        measured.clock_ahead_ms = clocks.get(clocks.len() / 2).copied();
    }

    /// Bursts of padding each way, the next as long as a second of what the last one reached.
    ///
    /// The time is that of the whole exchange less a round trip, which is never too short: what lies
    /// in a queue of the other host's system and is read from there at once tells no rate.
    async fn rates(&self, measured: &mut Measured) {
        let trip = measured.rtt_min_ms.unwrap_or_default() / 1e3;
        let trip = Duration::try_from_secs_f64(trip).unwrap_or_default();
        let mut bytes = FIRST_BURST;
        let all = Instant::now();
        while all.elapsed() < RATE_TIME {
            let began = Instant::now();
            let sending = measure_rate(&self.carrier, bytes);
            let Ok(Some(_)) = timeout(BURST_TIMEOUT, sending).await else {
                break;
            };
            let rate = rate_of(bytes, began.elapsed(), trip);
            measured.rate_out = measured.rate_out.max(Some(rate));
            bytes = rate.clamp(FIRST_BURST, LONGEST_BURST);
        }
        let mut bytes = FIRST_BURST;
        let all = Instant::now();
        while all.elapsed() < RATE_TIME {
            let began = Instant::now();
            let Ok(mirrored) = mirror(&self.carrier, bytes, BURST_TIMEOUT).await else {
                break;
            };
            // An end of the server's allowance: there was nothing to time.
            if mirrored.rate.is_none() {
                break;
            }
            let rate = rate_of(bytes, began.elapsed(), trip);
            measured.rate_in = measured.rate_in.max(Some(rate));
            bytes = rate.clamp(FIRST_BURST, LONGEST_BURST);
        }
    }

    /// Says goodbye, so that the server need not keep anything.
    async fn leave(self) {
        if let Some(watch) = &self.watch {
            watch.goodbye(GoodbyeReason::STOPPED, GOODBYE_TIMEOUT).await;
        }
        if let Some(held) = &self.logged_in.held {
            held.end(EndReason::GoodbyeHere(GoodbyeReason::STOPPED));
        }
        drop(self.logged_in);
        self.carrier.close();
        let _ = timeout(GOODBYE_TIMEOUT, self.carrier.closed()).await;
    }
}

/// Bytes a second, of an exchange that took so long with a round trip in it.
fn rate_of(bytes: u64, elapsed: Duration, trip: Duration) -> u64 {
    let time = elapsed.saturating_sub(trip).max(SHORTEST_BURST);
    let rate = u128::from(bytes) * 1_000_000 / time.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// The number of the one carrier in the session of its login.
const CARRIER: CarrierId = CarrierId(1);

/// Logins that are tried over a path that has got through before.
const ATTEMPTS: usize = 2;

/// Round trips of a path, and of one that is looked at for a moment.
const TRIPS: usize = 60;
const QUICK_TRIPS: usize = 20;

/// Between two of them.
const TRIP_SPACING: Duration = Duration::from_millis(50);

/// Of fewer probes no share is told.
const MIN_PROBES: u64 = 10;

/// Of fewer packets no share is told.
const MIN_PACKETS: u64 = 50;

/// Looks at the server's clock, of which the middle one counts.
const CLOCK_LOOKS: usize = 3;

/// For one exchange on a path that works.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long bursts go on in each direction, and how long one may take.
const RATE_TIME: Duration = Duration::from_secs(1);
const BURST_TIMEOUT: Duration = Duration::from_secs(5);

/// The first burst, and the longest: what a server takes and sends at most.
const FIRST_BURST: u64 = 64 * 1024;
const LONGEST_BURST: u64 = 1024 * 1024;

/// A burst that is over sooner says more of the two hosts than of what lies between: 1.7 Gbit/s is
/// all that the longest can tell.
const SHORTEST_BURST: Duration = Duration::from_millis(5);

/// For the goodbye, and for the carrier to close after it.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_exchange_less_a_round_trip_and_has_an_end() {
        let ms = Duration::from_millis;
        assert_eq!(rate_of(1_000_000, ms(440), ms(40)), 2_500_000);
        assert_eq!(rate_of(1_000_000, ms(30), ms(40)), 200_000_000);
    }
}
