//! One end of a session between two Holdfasts: its carriers, and the held streams over them.
//!
//! `frp_proto::hold::Session` decides which carrier is in use, which streams there may be, and when
//! the session is over. What follows from that is done here, behind one lock for carriers and
//! streams. The lock of a stream is never taken under it, nor the other way round.

pub(in crate::hold) mod carriers;
pub(in crate::hold) mod counters;
mod paths;
mod routes;
mod seen;
pub(in crate::hold) mod usage;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use frp_proto::hold::datagram::Datagram;
use frp_proto::hold::key::{SessionId, SessionKey};
use frp_proto::hold::session::{Config, EndReason, Event, Role, Session, SessionError};
use frp_proto::hold::{Budget, CarrierId, Generation, HeldStream, Route, Side};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use transports::{BoxStream, Carrier, TransportKind};

use super::clock::now;
use super::flow::Flows;
use super::stream::{Driver, HeldConn, Shared};
use super::watch as carrier_watch;
use crate::task;
use carriers::{HeldCarrier, Watched};
use counters::Counters;
use usage::{Usage, Used};

pub use paths::{CarrierNumbers, Totals, TransportNumbers};

/// One end of a session. Shared by everyone who has to do with it.
pub struct HeldSession {
    id: SessionId,
    key: SessionKey,
    role: Role,
    /// For tasks that must not keep the session.
    this: Weak<Self>,
    state: Mutex<State>,
    status: watch::Sender<Status>,
    counters: Arc<Counters>,
    usage: Arc<Usage>,
    pub(in crate::hold) flows: Flows,
    /// Carriers' streams whose ATTACH has not come.
    n_undecided: AtomicUsize,
}

struct State {
    session: Session,
    /// Those that have joined, and that of the login before it has.
    carriers: BTreeMap<CarrierId, Watched>,
    /// What knows their paths, for those that have joined.
    watches: BTreeMap<CarrierId, Arc<carrier_watch::Shared>>,
    /// What was counted on those that are gone.
    gone: BTreeMap<TransportKind, Totals>,
    /// The number of the last decision, and whether the carrier before it still delivered.
    generation: Generation,
    is_planned: bool,
    streams: HashMap<u64, Arc<Shared>>,
    /// Whether any carrier has ever joined.
    has_joined: bool,
    over: Option<EndReason>,
    /// Waits for the end of the grace time.
    grace: Option<AbortOnDropHandle<()>>,
}

/// Where a session stands; changes can be waited for with [`HeldSession::subscribe`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The carrier in use, and the number of the decision for it.
    pub in_use: Option<(CarrierId, Generation)>,
    /// Without a carrier: until when the streams are kept.
    pub holding_until: Option<Instant>,
    /// Why it is over, once it is.
    pub over: Option<EndReason>,
}

/// Numbers for status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldStats {
    /// Held streams that there are.
    pub n_streams: usize,
    /// Bytes kept for repetition, and received bytes not read yet.
    pub kept_bytes: u64,
    /// Bytes that were sent a second time since the beginning.
    pub replayed_bytes: u64,
    /// Streams that were attached again, since the beginning.
    pub n_moved: u64,
    /// Frames, routes and attachments of the peer's that were refused.
    pub n_refused: u64,
    /// Copies of interactive data that were sent as datagrams.
    pub n_copies_sent: u64,
    /// The peer's copies that came before what they are copies of.
    pub n_copies_used: u64,
}

/// Why a carrier's stream did not come to carry a held stream. It has been reset.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// What came is no ATTACH, or broke off.
    #[error("no attachment: {0}")]
    Attach(String),
    /// The answer to it was a refusal, in this word.
    #[error("attachment refused: {0}")]
    Refused(&'static str),
}

impl HeldSession {
    /// A session without carriers. Its bytes count in `process`.
    pub fn new(config: Config, id: SessionId, key: SessionKey, process: &Budget) -> Arc<Self> {
        let state = State {
            session: Session::new(config, process),
            carriers: BTreeMap::new(),
            watches: BTreeMap::new(),
            gone: BTreeMap::new(),
            generation: Generation::default(),
            is_planned: false,
            streams: HashMap::new(),
            has_joined: false,
            over: None,
            grace: None,
        };
        Arc::new_cyclic(|this| Self {
            id,
            key,
            role: config.role,
            this: Weak::clone(this),
            state: Mutex::new(state),
            status: watch::Sender::default(),
            counters: Arc::default(),
            usage: Arc::default(),
            flows: Flows::default(),
            n_undecided: AtomicUsize::new(0),
        })
    }

    // Streams.

    /// The control stream goes on as a held one, on the stream of the login carrier that LoginResp
    /// went over (nothing behind it has been read). `carrier` has not joined yet. If it closes
    /// before it has, and no other one has joined, the session is over.
    pub fn hold_control(
        self: &Arc<Self>,
        id: CarrierId,
        carrier: &Arc<dyn Carrier>,
        stream: BoxStream,
    ) -> BoxStream {
        let side = match self.role {
            Role::Client => Side::Opener,
            Role::Server => Side::Acceptor,
        };
        // Numbers of decisions begin with 1.
        let route = Route {
            carrier: id,
            generation: Generation::default(),
        };
        let (shared, over) = self.change(|state| {
            let carrier = self.watched(state, id, Arc::clone(carrier));
            let stream_id = state.session.open_control_stream();
            let budget = state.session.budget();
            let held = HeldStream::on_route(stream_id, side, route, budget);
            let shared = Shared::new(held, &self.counters);
            // Nobody else knows it yet, so the order of locks does not matter.
            shared.with(|inner, _| inner.begin_on(route, carrier, stream));
            state.streams.insert(stream_id, Arc::clone(&shared));
            (shared, state.over)
        });
        if over.is_some() {
            shared.with(|inner, wakes| inner.end(now(), wakes));
        }
        let conn = HeldConn::new(Arc::clone(&shared), None);
        self.start(shared);
        Box::new(conn)
    }

    /// Opens a held stream. It goes over the carrier in use; without one, what is written waits
    /// within the first window until there is one.
    pub fn open_stream(self: &Arc<Self>) -> Result<BoxStream, SessionError> {
        let shared = self.change(|state| {
            let id = state.session.open_stream()?;
            let held = HeldStream::open(id, state.session.budget());
            let shared = Shared::new(held, &self.counters);
            state.streams.insert(id, Arc::clone(&shared));
            Ok(shared)
        })?;
        let conn = HeldConn::new(Arc::clone(&shared), Some(Used::new(&self.usage)));
        self.start(shared);
        Ok(Box::new(conn))
    }

    /// Takes a datagram of a carrier that begins like data of a held stream. What makes no sense is
    /// counted and dropped.
    pub fn handle_datagram(&self, datagram: Bytes) {
        let (stream, offset, payload) = match Datagram::decode(datagram) {
            Ok(Datagram::Data {
                stream,
                offset,
                payload,
            }) => (stream, offset, payload),
            Ok(_) | Err(_) => return self.counters.refuse("unexpected datagram"),
        };
        // The stream may be over, or its ATTACH be on its way. To keep a copy for that would win
        // nothing: the first bytes follow the ATTACH in the same packets, and arrive with it.
        let Some(shared) = self.state.lock().streams.get(&stream).cloned() else {
            return;
        };
        let taken =
            shared.with(|inner, wakes| inner.handle_datagram(offset, payload, now(), wakes));
        if let Err(error) = taken {
            self.counters.refuse(error.cause());
        }
    }

    // Carriers.

    /// Client: the number with which the next carrier joins.
    pub fn next_generation(&self) -> Generation {
        self.change(|state| state.session.next_generation())
    }

    /// A carrier has proven that it belongs to the session. From here on the session notices by
    /// itself when it closes.
    pub fn add_carrier(
        self: &Arc<Self>,
        id: CarrierId,
        generation: Generation,
        carrier: Arc<dyn Carrier>,
    ) -> Result<(), SessionError> {
        self.change(|state| {
            state.session.handle_join(id, generation)?;
            state.has_joined = true;
            self.watched(state, id, carrier);
            Ok(())
        })
    }

    /// The carrier is taken for dead although it has not closed: its streams look for another one.
    pub fn lose_carrier(&self, id: CarrierId) {
        self.lose(id, |_| true);
    }

    /// Client: moves every stream to this carrier, control first, then interactive, then bulk.
    /// `is_planned`: the carrier before still delivers. The number is to be told with USE.
    pub fn use_carrier(&self, id: CarrierId, is_planned: bool) -> Result<Generation, SessionError> {
        self.change(|state| {
            let generation = state.session.use_carrier(id)?;
            state.is_planned = is_planned;
            Ok(generation)
        })
    }

    /// Server: USE has come over this carrier.
    pub fn handle_use(&self, id: CarrierId, generation: Generation) -> Result<(), SessionError> {
        self.change(|state| state.session.handle_use(id, generation))
    }

    /// The carrier in use. On a server before the first USE or ATTACH, the one that joined first.
    pub fn carrier_in_use(&self) -> Option<(CarrierId, Arc<dyn Carrier>)> {
        let state = self.state.lock();
        let held = state.in_use()?;
        Some((held.id, Arc::clone(&held.carrier)))
    }

    /// The shortest round trip of late of a carrier, for the streams on it.
    pub fn set_rtt(&self, id: CarrierId, rtt: Duration) {
        if let Some(watched) = self.state.lock().carriers.get(&id) {
            watched.held.set_rtt(rtt);
        }
    }

    /// Which share of its packets a carrier loses on the way to the peer, and how many bytes a
    /// second it takes: what decides how often interactive data goes again as datagrams. Without
    /// loss it does not.
    pub fn set_loss(&self, id: CarrierId, loss: f64, send_rate: Option<u64>) {
        if let Some(watched) = self.state.lock().carriers.get(&id) {
            watched.held.set_loss(loss, send_rate);
        }
    }

    // The end.

    /// Server: the session's client has logged in anew, proven. True when it is another process:
    /// then this session is over.
    pub fn handle_login(&self, instance: [u8; 16]) -> bool {
        self.change(|state| state.session.handle_login(instance))
    }

    /// Ends the session on this side: every stream is reset. Saying goodbye to the peer is the
    /// watches' work.
    pub fn end(&self, reason: EndReason) {
        self.change(|state| state.session.end(reason));
    }

    // For the streams' tasks.

    /// The carrier in use, and whether the one before it still delivered at the switch.
    pub(super) fn carrier_for_streams(&self) -> Option<(Arc<HeldCarrier>, bool)> {
        let state = self.state.lock();
        Some((Arc::clone(state.in_use()?), state.is_planned))
    }

    /// The number for a stream that is attached to `carrier`, above its `last`. `None` when the
    /// carrier is not in use any more.
    pub(super) fn generation_on(
        &self,
        carrier: &Arc<HeldCarrier>,
        last: Option<Generation>,
    ) -> Option<Generation> {
        let mut state = self.state.lock();
        if !Arc::ptr_eq(state.in_use()?, carrier) {
            return None;
        }
        let generation = state.generation;
        match last {
            // A stream that lost only its route.
            Some(last) if last >= generation => Some(match self.role {
                Role::Client => state.session.next_generation(),
                // The client's numbers decide, a server's only have to rise.
                Role::Server => Generation(last.0 + 1),
            }),
            _ => Some(generation),
        }
    }

    pub(super) fn count_move(&self) {
        self.counters.count_move();
    }

    /// A carrier has said that it is gone, before its end was noticed here.
    pub(super) fn lose_this_carrier(&self, carrier: &Arc<HeldCarrier>) {
        self.lose(carrier.id, |held| Arc::ptr_eq(held, carrier));
    }

    /// The task of a stream has ended.
    pub(super) fn forget_stream(&self, shared: &Arc<Shared>) {
        self.counters
            .count_replayed(shared.look(|inner| inner.held().resent()));
        let mut state = self.state.lock();
        let is_it = |known: &Arc<Shared>| Arc::ptr_eq(known, shared);
        if state.streams.get(&shared.id()).is_some_and(is_it) {
            state.streams.remove(&shared.id());
            state.session.forget_stream(shared.id());
        }
    }

    // Private.

    /// Starts the task of a stream.
    fn start(self: &Arc<Self>, shared: Arc<Shared>) {
        task::spawn("held stream", Driver::new(shared, Arc::clone(self)));
    }

    /// The carrier as the streams see it; from here on its end is noticed.
    fn watched(
        &self,
        state: &mut State,
        id: CarrierId,
        carrier: Arc<dyn Carrier>,
    ) -> Arc<HeldCarrier> {
        let known = state.carriers.get(&id);
        if let Some(known) = known.filter(|known| Arc::ptr_eq(&known.held.carrier, &carrier)) {
            return Arc::clone(&known.held);
        }
        let held = HeldCarrier::new(id, carrier);
        let (this, watched) = (Weak::clone(&self.this), Arc::clone(&held));
        let watcher = task::spawn("carrier's end", async move {
            let reason = watched.carrier.closed().await;
            if let Some(session) = this.upgrade() {
                tracing::debug!(carrier = watched.id.0, "a carrier has closed: {reason}");
                session.lose_this_carrier(&watched);
            }
        });
        let watched = Watched {
            held: Arc::clone(&held),
            watcher: watcher.abort_handle(),
        };
        state.carriers.insert(id, watched);
        held
    }

    fn lose(&self, id: CarrierId, is_it: impl FnOnce(&Arc<HeldCarrier>) -> bool) {
        let counted = self.counted_on(id);
        let lost = self.change(|state| {
            let known = state.carriers.get(&id);
            if !known.is_some_and(|known| is_it(&known.held)) {
                return None;
            }
            let watched = state.carriers.remove(&id);
            state.watches.remove(&id);
            if let Some((kind, totals)) = &counted {
                state.gone.entry(*kind).or_default().add(totals);
            }
            state.session.handle_carrier_lost(id, now());
            if !state.has_joined {
                // The login's carrier. Without it the peer cannot know of the session.
                state.session.end(EndReason::GraceExpired);
            }
            Some((watched, state.all_streams()))
        });
        let Some((watched, streams)) = lost else {
            return;
        };
        for shared in streams {
            shared.with(|inner, wakes| inner.handle_carrier_lost(id, wakes));
        }
        // What may close the carrier comes last, and under no lock.
        drop(watched);
    }

    /// Does something with the session, and then what follows from it.
    fn change<T>(&self, op: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let before = state.session.in_use();
        let result = op(&mut state);
        let event = state.session.poll_event();
        if let Some(Event::InUse(_, generation)) = event {
            state.generation = generation;
            state.grace = None;
        }
        let (mut gone, mut ended) = (BTreeMap::new(), Vec::new());
        if let Some(Event::Over(reason)) = event {
            state.over = Some(reason);
            gone = std::mem::take(&mut state.carriers);
            ended = state.streams.drain().map(|(_, shared)| shared).collect();
        }
        self.publish(&state);
        drop(state);

        match event {
            Some(Event::InUse(carrier, _)) if before != Some(carrier) => self.move_streams(carrier),
            // Only its number has risen: nothing moves.
            Some(Event::InUse(..)) => {}
            Some(Event::Holding { until }) => self.wait_for_grace(until),
            Some(Event::Over(reason)) => tracing::debug!("the session is over: {reason:?}"),
            None => {}
        }
        for shared in ended {
            shared.with(|inner, wakes| inner.end(now(), wakes));
        }
        // Last: a carrier that closes sends what was written before.
        drop(gone);
        result
    }

    fn publish(&self, state: &State) {
        let status = Status {
            in_use: state.session.in_use().map(|id| (id, state.generation)),
            holding_until: state.session.poll_timeout(),
            over: state.over,
        };
        self.status.send_if_modified(|known| {
            let is_new = *known != status;
            *known = status;
            is_new
        });
    }

    /// Tells the streams that this side opened, in the order in which they are to move.
    fn move_streams(&self, carrier: CarrierId) {
        let own = |id: &u64| id.is_multiple_of(2) == (self.role == Role::Client);
        let streams: HashMap<u64, Arc<Shared>> = {
            let state = self.state.lock();
            let own = state.streams.iter().filter(|(id, _)| own(id));
            own.map(|(id, shared)| (*id, Arc::clone(shared))).collect()
        };
        if streams.is_empty() {
            return;
        }
        let classes: HashMap<u64, _> = streams
            .iter()
            .map(|(id, shared)| (*id, shared.look(|inner| seen::place(inner.current_class()))))
            .collect();
        let order = self.state.lock().session.moving_order(|id| {
            let known = classes.get(&id).copied();
            known.unwrap_or(frp_proto::hold::session::Class::Interactive)
        });
        for shared in order.iter().filter_map(|id| streams.get(id)) {
            shared.with(|inner, wakes| inner.handle_in_use(carrier, wakes));
        }
    }

    /// Ends the session when the grace time has passed without a carrier.
    fn wait_for_grace(&self, until: Instant) {
        let this = Weak::clone(&self.this);
        let waiting = task::spawn("grace time", async move {
            tokio::time::sleep_until(until.into()).await;
            if let Some(session) = this.upgrade() {
                session.change(|state| state.session.handle_timeout(now()));
            }
        });
        // One for each session at most: that of the outage before ends here.
        self.state.lock().grace = Some(AbortOnDropHandle::new(waiting));
    }
}

impl State {
    fn in_use(&self) -> Option<&Arc<HeldCarrier>> {
        let id = self.session.in_use()?;
        self.carriers.get(&id).map(|watched| &watched.held)
    }

    fn all_streams(&self) -> Vec<Arc<Shared>> {
        self.streams.values().cloned().collect()
    }
}

impl fmt::Debug for HeldSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldSession")
            .field("role", &self.role)
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}
