//! What is behind the lock of a held stream: the state machine, its routes, and who waits.

mod user;

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use frp_proto::hold::frame::{Attach, AttachStatus, Attached, Frame, ResetCode};
use frp_proto::hold::stream::Event;
use frp_proto::hold::{CarrierId, Generation, HeldStream, Output, Route, Side, StreamError};
use transports::{BoxStream, Class};

use super::link::{Arrival, ArrivalError, Link};
use crate::hold::session::carriers::{HeldCarrier, MAX_COPY_LEN};
use crate::hold::session::counters::Counters;

/// Reads from a carrier's stream before other tasks get a turn.
const MAX_READS: usize = 32;

/// Rounds of writing likewise, each of [`BATCH_LEN`] at most.
const MAX_WRITES: usize = 16;

/// How much is handed out for a route at once. What is handed out goes over this route, whatever
/// is decided meanwhile.
const BATCH_LEN: usize = 64 * 1024;

/// A stream that was bulk is interactive again once no more than this is kept: far below what
/// makes it bulk, so that the class does not change with every acknowledgement.
const CALM_BYTES: u64 = 4 * 1024;

/// How long a dropped stream waits for the peer's end. The same as for a carrier's streams.
const LINGER_TIMEOUT: Duration = Duration::from_secs(300);

/// What a peer may go on sending on a dropped stream before it is told by a reset.
const DISCARD_MAX: u64 = 64 * 1024;

/// How long a peer that sends more than that has to read our last bytes before the reset, which
/// may cost it what it has not read.
const DISCARD_GRACE: Duration = Duration::from_secs(10);

/// How long a stream of a session that is over waits for its carrier to take the reset.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// One held stream with its routes.
#[derive(Debug)]
pub(in crate::hold) struct Inner {
    held: HeldStream,
    counters: Arc<Counters>,
    /// One; two or three while a switch is under way.
    links: Vec<Link>,
    /// Of the last attachment on this side.
    generation: Option<Generation>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The stream's task. Whoever moves bytes does it in its name: a carrier's stream wakes only
    /// one task for each half.
    driver: Option<Waker>,
    /// When the task's timer fires, if it is set.
    armed: Option<Instant>,
    /// What the user says that the stream carries, and what the carrier was told.
    class: Option<Class>,
    told_class: Class,
    /// A carrier has come into use that is not that of the current route.
    is_switch_due: bool,
    is_dropped: bool,
    n_discarded: u64,
    /// When the stream is reset although the peer has not ended it.
    linger_until: Option<Instant>,
    /// The session is over: until when its reset may be written.
    ends_by: Option<Instant>,
    failure: Option<ResetCode>,
    /// The task has ended, and nothing moves any more.
    is_done: bool,
}

/// Whom to wake once the lock is released.
#[derive(Debug, Default)]
#[must_use]
pub(in crate::hold) struct Wakes {
    reader: Option<Waker>,
    writer: Option<Waker>,
    driver: Option<Waker>,
}

/// What the task of the stream has to do.
#[derive(Debug)]
pub(in crate::hold) struct Plan {
    /// The stream is over, and can be forgotten.
    pub(in crate::hold) is_done: bool,
    /// It is to be attached to the carrier in use.
    pub(in crate::hold) wants_route: bool,
    pub(in crate::hold) timeout: Option<Instant>,
}

impl Wakes {
    /// Wakes them.
    pub(in crate::hold) fn wake(self) {
        let wakers = [self.reader, self.writer, self.driver];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Inner {
    pub(in crate::hold) fn new(held: HeldStream, counters: Arc<Counters>) -> Self {
        Self {
            held,
            counters,
            links: Vec::new(),
            generation: None,
            reader: None,
            writer: None,
            driver: None,
            armed: None,
            class: None,
            // What carriers take new streams for.
            told_class: Class::Bulk,
            is_switch_due: false,
            is_dropped: false,
            n_discarded: 0,
            linger_until: None,
            ends_by: None,
            failure: None,
            is_done: false,
        }
    }

    // For the session.

    /// Another carrier has come into use, or the one that the stream waited for.
    pub(in crate::hold) fn handle_in_use(&mut self, carrier: CarrierId, wakes: &mut Wakes) {
        if self.held.side() == Side::Opener {
            self.is_switch_due = self.held.carrier().is_some_and(|before| before != carrier);
            self.wake_driver(wakes);
        }
    }

    /// The carrier is gone, or as good as gone.
    pub(in crate::hold) fn handle_carrier_lost(&mut self, carrier: CarrierId, wakes: &mut Wakes) {
        while let Some(at) = self.link_on(|link| link.carrier.id == carrier) {
            self.lose_link(at);
        }
        self.handle_events(wakes);
        self.wake_driver(wakes);
    }

    /// The session is over.
    pub(in crate::hold) fn end(&mut self, now: Instant, wakes: &mut Wakes) {
        self.ends_by.get_or_insert(now + END_PATIENCE);
        self.reset(ResetCode::SESSION_OVER, now, wakes);
        self.wake_driver(wakes);
    }

    /// Opener: goes on over a new stream of a carrier.
    pub(in crate::hold) fn attach(
        &mut self,
        carrier: &Arc<HeldCarrier>,
        generation: Generation,
        stream: BoxStream,
        is_planned: bool,
        now: Instant,
        wakes: &mut Wakes,
    ) {
        let route = route(carrier, generation);
        self.add_link(Link::new(route, Arc::clone(carrier), stream, Bytes::new()));
        self.generation = Some(generation);
        self.is_switch_due = false;
        self.held.attach(route, is_planned, now);
        self.handle_events(wakes);
    }

    /// Acceptor: the opener goes on over this stream, of which `input` has been read behind ATTACH.
    /// Refused, the stream comes back with the answer.
    pub(in crate::hold) fn handle_attach(
        &mut self,
        carrier: &Arc<HeldCarrier>,
        attach: &Attach,
        stream: BoxStream,
        input: Bytes,
        now: Instant,
        wakes: &mut Wakes,
    ) -> Result<(), (BoxStream, StreamError)> {
        let route = route(carrier, attach.generation);
        if self.is_done {
            return Err((stream, StreamError::Over));
        }
        if let Err(error) = self.held.handle_attach(route, attach, now) {
            return Err((stream, error));
        }
        self.add_link(Link::new(route, Arc::clone(carrier), stream, input));
        self.generation = Some(attach.generation);
        self.handle_events(wakes);
        self.wake_driver(wakes);
        Ok(())
    }

    /// The control stream's first route, which both sides know without ATTACH.
    pub(in crate::hold) fn begin_on(
        &mut self,
        route: Route,
        carrier: Arc<HeldCarrier>,
        stream: BoxStream,
    ) {
        self.class = Some(Class::Control);
        self.add_link(Link::new(route, carrier, stream, Bytes::new()));
        self.generation = Some(route.generation);
    }

    pub(in crate::hold) fn handle_datagram(
        &mut self,
        offset: u64,
        payload: Bytes,
        now: Instant,
        wakes: &mut Wakes,
    ) -> Result<(), StreamError> {
        if self.held.handle_datagram(offset, payload, now)? {
            self.counters.count_copy_used();
        }
        self.handle_events(wakes);
        self.discard(now);
        self.send(now, wakes);
        Ok(())
    }

    pub(in crate::hold) fn held(&self) -> &HeldStream {
        &self.held
    }

    pub(in crate::hold) fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// Whether what the stream has is in a user's way who types.
    pub(in crate::hold) fn current_class(&self) -> Class {
        self.class.unwrap_or({
            let kept = self.held.unacknowledged();
            let was_bulk = self.told_class == Class::Bulk && !self.links.is_empty();
            if self.held.is_bulk() || (was_bulk && kept > CALM_BYTES) {
                Class::Bulk
            } else {
                Class::Interactive
            }
        })
    }

    // For the task.

    /// Moves what can be moved, and says what remains to be done.
    pub(in crate::hold) fn drive(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        wakes: &mut Wakes,
    ) -> Plan {
        match &mut self.driver {
            Some(driver) => driver.clone_from(cx.waker()),
            None => self.driver = Some(cx.waker().clone()),
        }
        self.held.handle_timeout(now);
        self.receive(cx, now, wakes);
        self.discard(now);
        if self.linger_until.is_some_and(|until| until <= now) {
            self.linger_until = None;
            self.held.reset(ResetCode::BROKEN);
        }
        self.transmit(cx, now, wakes);
        let is_written = self.links.iter().all(Link::is_written);
        let is_cut_off = self.ends_by.is_some_and(|by| is_written || by <= now);
        self.is_done = is_cut_off || (self.held.is_over() && is_written);
        if self.is_done {
            if !is_written {
                self.links.iter_mut().for_each(Link::reset);
            }
            self.links = Vec::new();
        }
        // What is due and was not sent waits for room.
        let stream_timeout = self.held.next_timeout(now);
        let timeouts = [stream_timeout, self.linger_until, self.ends_by];
        let timeout = timeouts.into_iter().flatten().min();
        self.armed = timeout;
        if timeout.is_none() {
            self.held.rest();
            self.links.iter_mut().for_each(Link::rest);
            self.links.shrink_to_fit();
        }
        Plan {
            is_done: self.is_done,
            wants_route: self.ends_by.is_none() && (self.held.wants_route() || self.is_switch_due),
            timeout,
        }
    }

    /// The carrier in use is that of the current route.
    pub(in crate::hold) fn cancel_switch(&mut self) {
        self.is_switch_due = false;
    }

    /// The task is gone without having brought the stream to its end.
    pub(in crate::hold) fn abandon(&mut self, wakes: &mut Wakes) {
        if !self.is_done {
            self.is_done = true;
            self.fail(ResetCode::BROKEN, wakes);
            self.links.iter_mut().for_each(Link::reset);
            self.links = Vec::new();
        }
    }

    /// Takes what the routes bring.
    fn receive(&mut self, cx: &mut Context<'_>, now: Instant, wakes: &mut Wakes) {
        let mut n_reads = MAX_READS;
        let mut at = 0;
        while at < self.links.len() {
            let route = self.links[at].route;
            match self.links[at].poll_arrival(cx, &mut n_reads) {
                Poll::Pending => at += 1,
                Poll::Ready(Ok(Arrival::Frame(frame))) => {
                    if let Err(error) = self.held.handle_frame(route, frame, now) {
                        if error.is_peers_fault() {
                            self.counters.refuse(error.cause());
                        }
                        self.lose_link(at);
                    }
                }
                Poll::Ready(Ok(Arrival::End)) => {
                    self.held.handle_route_end(route, true);
                    if self.links[at].is_over() {
                        self.links.swap_remove(at);
                    }
                }
                Poll::Ready(Err(error)) => {
                    match error {
                        ArrivalError::Frame(error) => self.counters.refuse(error.cause()),
                        ArrivalError::Cut => self.counters.refuse("cut frame"),
                        ArrivalError::Io(error) => tracing::trace!("a route broke: {error}"),
                    }
                    self.lose_link(at);
                }
            }
            self.handle_events(wakes);
        }
        if n_reads == 0 {
            cx.waker().wake_by_ref();
        }
    }

    /// Sends in the name of the task, which is woken only for what it alone can do.
    fn send(&mut self, now: Instant, wakes: &mut Wakes) {
        // Before its first turn the task has not said who it is; then it looks at everything.
        let Some(driver) = self.driver.take() else {
            return;
        };
        self.handle_events(wakes);
        if self.held.wants_transmit(now) || self.links.iter().any(|link| !link.is_written()) {
            let mut cx = Context::from_waker(&driver);
            self.transmit(&mut cx, now, wakes);
        }
        self.driver = Some(driver);
        let timeout = self.held.next_timeout(now);
        let is_late = timeout.is_some_and(|at| self.armed.is_none_or(|armed| at < armed));
        if is_late || self.held.wants_route() || self.held.is_over() {
            self.wake_driver(wakes);
        }
    }

    /// Gives the routes what they take.
    fn transmit(&mut self, cx: &mut Context<'_>, now: Instant, wakes: &mut Wakes) {
        self.write_links(cx);
        self.handle_events(wakes);
        let mut out = OUTPUT.take();
        for round in 0.. {
            let Some(at) = self.current_link() else {
                break;
            };
            let link = &mut self.links[at];
            if !link.is_written() {
                break;
            }
            if round == MAX_WRITES {
                cx.waker().wake_by_ref();
                break;
            }
            if let Some(rtt) = link.carrier.rtt() {
                self.held.set_rtt(rtt);
            }
            if !self
                .held
                .poll_transmit(link.route, BATCH_LEN, now, &mut out)
            {
                break;
            }
            link.push(out.take());
            if let Some(plan) = link.carrier.plan_copies(self.held.uncopied(), now) {
                self.held.plan_copies(MAX_COPY_LEN, plan, now);
            }
            self.tell_class();
            self.write_links(cx);
            self.handle_events(wakes);
        }
        OUTPUT.set(out);
        self.send_copies(now);
        // The end of a route may be due without anything to send before it.
        self.write_links(cx);
        self.handle_events(wakes);
        self.tell_class();
    }

    /// Sends the copies that are due.
    fn send_copies(&mut self, now: Instant) {
        while let Some(datagram) = self.held.poll_datagram(MAX_COPY_LEN, now) {
            let sent = self.current_link().is_some_and(|at| {
                let link = &self.links[at];
                link.carrier.send_copy(datagram)
            });
            if sent {
                self.counters.count_copy_sent();
            }
        }
    }

    fn write_links(&mut self, cx: &mut Context<'_>) {
        let mut at = 0;
        while at < self.links.len() {
            let link = &mut self.links[at];
            match link.poll_write(cx) {
                Poll::Ready(Err(error)) => {
                    tracing::trace!("a route broke: {error}");
                    self.lose_link(at);
                }
                Poll::Ready(Ok(())) if link.is_over() => {
                    self.links.swap_remove(at);
                }
                Poll::Ready(Ok(())) | Poll::Pending => at += 1,
            }
        }
    }

    fn handle_events(&mut self, wakes: &mut Wakes) {
        while let Some(event) = self.held.poll_event() {
            match event {
                Event::Readable => wakes.reader = self.reader.take().or(wakes.reader.take()),
                Event::Writable => wakes.writer = self.writer.take().or(wakes.writer.take()),
                Event::Reset(code) => self.fail(code, wakes),
                Event::FinishRoute(route) => {
                    if let Some(at) = self.link_on(|link| link.route == route) {
                        self.links[at].finish();
                    }
                }
                Event::DropRoute(route) => {
                    if let Some(at) = self.link_on(|link| link.route == route) {
                        self.links.swap_remove(at).reset();
                    }
                }
            }
        }
    }

    /// A route brings and takes nothing more.
    fn lose_link(&mut self, at: usize) {
        let mut link = self.links.swap_remove(at);
        link.reset();
        self.held.handle_route_end(link.route, false);
    }

    fn fail(&mut self, code: ResetCode, wakes: &mut Wakes) {
        self.failure.get_or_insert(code);
        wakes.reader = self.reader.take().or(wakes.reader.take());
        wakes.writer = self.writer.take().or(wakes.writer.take());
    }

    /// Takes what nobody reads any more.
    fn discard(&mut self, now: Instant) {
        if !self.is_dropped {
            return;
        }
        while let Some(bytes) = self.held.read(usize::MAX, now) {
            self.n_discarded += bytes.len() as u64;
        }
        if self.held.is_over() {
            self.linger_until = None;
        } else if self.n_discarded > DISCARD_MAX {
            let soon = now + DISCARD_GRACE;
            self.linger_until = self.linger_until.map(|until| until.min(soon));
        }
    }

    /// Tells the carrier of the class, if it has changed.
    fn tell_class(&mut self) {
        let class = self.current_class();
        if class != self.told_class
            && let Some(at) = self.current_link()
        {
            self.told_class = class;
            self.links[at].set_class(class);
        }
    }

    fn add_link(&mut self, mut link: Link) {
        let class = self.current_class();
        link.set_class(class);
        self.told_class = class;
        // Few streams ever have a second one.
        self.links.reserve_exact(1);
        self.links.push(link);
    }

    fn wake_driver(&self, wakes: &mut Wakes) {
        wakes.driver = self.driver.clone();
    }

    fn current_link(&self) -> Option<usize> {
        let route = self.held.route()?;
        self.link_on(|link| link.route == route)
    }

    fn link_on(&self, is_it: impl Fn(&Link) -> bool) -> Option<usize> {
        self.links.iter().position(is_it)
    }
}

thread_local! {
    /// Lent to one stream at a time, so that idle ones have none. After a panic it is another one.
    static OUTPUT: Cell<Output> = Cell::default();
}

/// The answer to an attachment that is refused, as it is on the wire.
pub(in crate::hold) fn refusal(status: AttachStatus, generation: Generation) -> Vec<u8> {
    let mut out = Vec::new();
    Frame::Attached(Attached::refusal(status, generation)).put_header(&mut out);
    out
}

fn route(carrier: &HeldCarrier, generation: Generation) -> Route {
    Route {
        carrier: carrier.id,
        generation,
    }
}
