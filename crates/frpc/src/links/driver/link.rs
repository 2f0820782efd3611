//! A carrier of the session, with its watch.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use frp_core::hold::join::SessionStream;
use frp_core::hold::watch::{CarrierWatch, WatchConfig, WatchEvent};
use frp_core::hold::{Generation, HeldSession};
use frp_core::proto::hold::session::EndReason;
use frp_core::proto::hold::session_frame::GoodbyeReason;
use frp_core::proto::path::{Pace, PathReport, ProberConfig, Role};
use frp_core::proto::policy::{CarrierId, Family, Transport};
use frp_core::task;
use frp_core::terminal::ago_ms;
use frp_core::transports::{Carrier, TransportKind};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::super::attempt::hold_id;
use super::super::echo::EchoWatch;
use super::super::network::source_for;
use super::super::report::{CarrierStatus, carrier_status, tcp_control};
use super::Event;
use crate::transport::needs_goodbye;

/// A carrier that has logged in or joined.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) carrier: Arc<dyn Carrier>,
    /// The number that both ends know it by, once it has joined.
    pub(super) generation: Option<Generation>,
    /// The last that its watch told.
    pub(super) report: PathReport,
    /// The join of a login's carrier.
    pub(super) joining: Option<AbortOnDropHandle<()>>,
    /// The address from which the server is reached, when that was looked at last.
    source: Option<IpAddr>,
    since: std::time::Instant,
    pace: Pace,
    /// Probes of a burst that was asked for before there was a watch to send it.
    burst: Option<u32>,
    watch: Option<(Watch, AbortOnDropHandle<()>)>,
}

/// Who says how the carrier is.
#[derive(Debug)]
enum Watch {
    /// Both ends do: it has joined a session.
    Joined(CarrierWatch),
    /// The server holds nothing.
    Echoes(EchoWatch),
}

impl Link {
    pub(super) fn new(carrier: Arc<dyn Carrier>) -> Self {
        Self {
            source: source_for(carrier.peer_addr()),
            carrier,
            generation: None,
            report: PathReport::default(),
            joining: None,
            since: std::time::Instant::now(),
            pace: Pace::InUse,
            burst: None,
            watch: None,
        }
    }

    /// It has joined: what goes on beside its streams begins.
    pub(super) fn watch(
        &mut self,
        held: &Arc<HeldSession>,
        id: CarrierId,
        stream: SessionStream,
        prober: ProberConfig,
        events: &mpsc::Sender<Event>,
    ) {
        let config = WatchConfig {
            role: Role::Asking,
            prober,
            pace: self.pace,
        };
        self.joining = None;
        self.generation = Some(stream.generation);
        let started = CarrierWatch::start(held, hold_id(id), &self.carrier, stream, config);
        let (watch, told) = started;
        self.watch = Some((Watch::Joined(watch), forward(id, told, events)));
        if let Some(n_probes) = self.burst.take() {
            self.burst(n_probes);
        }
    }

    /// The same for one that joins nothing.
    pub(super) fn watch_echoes(
        &mut self,
        id: CarrierId,
        prober: &ProberConfig,
        events: &mpsc::Sender<Event>,
    ) {
        let (watch, told) = EchoWatch::start(self.carrier.clone(), prober, self.pace);
        self.watch = Some((Watch::Echoes(watch), forward(id, told, events)));
    }

    /// Whether somebody uses what is on it, where the session does not know.
    pub(super) fn is_busy(&self) -> bool {
        matches!(&self.watch, Some((Watch::Echoes(watch), _)) if watch.is_busy())
    }

    pub(super) fn has_joined(&self) -> bool {
        self.watch.is_some()
    }

    /// Whether it can follow a change of this host's address.
    pub(super) fn can_rebind(&self) -> bool {
        self.carrier.kind() == TransportKind::Quic
    }

    /// Whether this host reaches the server in another way than before.
    pub(super) fn has_moved(&mut self) -> bool {
        let source = source_for(self.carrier.peer_addr());
        let before = std::mem::replace(&mut self.source, source);
        before != source
    }

    pub(super) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
        match &self.watch {
            Some((Watch::Joined(watch), _)) => watch.set_pace(pace),
            Some((Watch::Echoes(watch), _)) => watch.set_pace(pace),
            None => {}
        }
    }

    pub(super) fn burst(&mut self, n_probes: u32) {
        match &self.watch {
            Some((Watch::Joined(watch), _)) => watch.burst(n_probes),
            Some((Watch::Echoes(watch), _)) => watch.burst(n_probes),
            // The policy waits for its end.
            None => self.burst = Some(n_probes),
        }
    }

    pub(super) fn measure_rate(&self, bytes: u64) {
        // A server that holds nothing takes no padding.
        if let Some((Watch::Joined(watch), _)) = &self.watch {
            watch.measure_rate(bytes);
        }
    }

    pub(super) fn send_use(&self, generation: Generation) {
        if let Some((Watch::Joined(watch), _)) = &self.watch {
            watch.send_use(generation);
        }
    }

    pub(super) fn status(
        &self,
        id: CarrierId,
        transport: Transport,
        is_in_use: bool,
    ) -> CarrierStatus {
        let report = match &self.watch {
            Some((Watch::Joined(watch), _)) => watch.report(),
            Some((Watch::Echoes(watch), _)) => watch.report(),
            None => self.report,
        };
        let address: SocketAddr = self.carrier.peer_addr();
        let address = address.to_string();
        let mut status = carrier_status(id.0, transport, address, is_in_use, &report);
        if !self.has_joined() {
            "joining".clone_into(&mut status.state);
        }
        status.since_ms = ago_ms(self.since.elapsed());
        if transport.family() == Family::Tcp {
            let control = tcp_control(&self.carrier.path_stats());
            status.tcp_control = Some(control.to_owned());
        }
        status
    }

    /// Closes it when what it still has to deliver is delivered.
    pub(super) fn rest(self, id: CarrierId, held: Arc<HeldSession>) {
        task::spawn("carrier at rest", async move {
            let deadline = Instant::now() + REST_MAX;
            let is_empty = || self.carrier.path_stats().n_streams <= SESSION_STREAM;
            // Streams that moved let go of it within the time that a route may drain.
            while !is_empty() && Instant::now() < deadline {
                if timeout(REST_LOOK, self.carrier.closed()).await.is_ok() {
                    break;
                }
            }
            held.lose_carrier(hold_id(id));
            self.carrier.close();
        });
    }
}

/// Hands what a watch tells to the driver.
fn forward(
    id: CarrierId,
    mut told: mpsc::Receiver<WatchEvent>,
    events: &mpsc::Sender<Event>,
) -> AbortOnDropHandle<()> {
    let events = events.clone();
    AbortOnDropHandle::new(task::spawn("carrier events", async move {
        while let Some(event) = told.recv().await {
            // A driver that has ended is told nothing.
            let _ = events.send(Event::Watch(id, event)).await;
        }
    }))
}

/// How long a carrier at rest may take to deliver what it has. What is left then goes again over
/// the carrier in use.
const REST_MAX: Duration = Duration::from_secs(5);

/// Between two looks at whether it has.
const REST_LOOK: Duration = Duration::from_millis(50);

/// The stream on which it joined stays.
const SESSION_STREAM: usize = 1;

/// Tells the server on all carriers that the session is over, and closes them.
pub(super) async fn say_goodbye(held: &HeldSession, links: Vec<Link>) {
    let mut saying = JoinSet::new();
    let mut carriers = Vec::new();
    for link in links {
        carriers.push(link.carrier.clone());
        if let Some((Watch::Joined(watch), _forward)) = link.watch {
            saying.spawn(async move {
                watch
                    .goodbye(GoodbyeReason::STOPPED, GOODBYE_PATIENCE)
                    .await;
                watch
            });
        }
    }
    let deadline = Instant::now() + GOODBYE_PATIENCE;
    while let Ok(Some(_)) = timeout_at(deadline, saying.join_next()).await {}
    held.end(EndReason::GoodbyeHere(GoodbyeReason::STOPPED));
    carriers.iter().for_each(|carrier| carrier.close());
    // A goodbye that is written still lies in the carrier, and whoever waits for this may end the
    // program.
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    for carrier in &carriers {
        let _ = timeout_at(deadline, carrier.gone()).await;
    }
    // One without a connection of the system's has to send its last packet itself.
    if carriers.iter().any(|carrier| needs_goodbye(carrier.kind())) {
        sleep(LAST_PACKET).await;
    }
}

/// How long a goodbye may take to be written: a carrier that is stuck does not take it, and the
/// others have.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(150);

/// How long a carrier has for its last bytes: the second of the contract, and a bit.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1100);

/// How long the last packet of a closed carrier takes to leave: the turns of a few tasks.
const LAST_PACKET: Duration = Duration::from_millis(20);
