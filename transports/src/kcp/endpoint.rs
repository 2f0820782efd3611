//! The task of one socket and of all its sessions.
//!
//! Each round receives what has arrived, hears which sessions have been written to or read from and
//! whose time has come, and gives each of these a turn. A turn sends a bounded number of datagrams;
//! who has more comes again after the others. When the system takes no more, everything waits for
//! it, in order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use kcp_proto::Config;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::N_EARLY;
use super::farewell::Farewells;
use super::io::{Break, Calls, KcpIo, Shared};
use super::member::{Fate, Member, Policy};
use super::socket::{Batch, UdpSocket};
use super::table::{Lookup, Table};
use crate::half_open::{HalfOpen, Place};

/// Drives a socket until it has no sessions and can get no more.
pub(super) struct Endpoint {
    socket: UdpSocket,
    members: Vec<Option<Box<Member>>>,
    free_ids: Vec<usize>,
    n_members: usize,
    calls: Arc<Calls>,
    called: Vec<usize>,
    /// Those with something to do.
    queue: VecDeque<usize>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    timer: Pin<Box<Sleep>>,
    side: Side,
    out: Vec<u8>,
    /// What is in `out` has to wait for the system.
    blocked: Option<Batch>,
    /// The peer's host has refused a packet.
    is_refused: bool,
    farewells: Farewells,
}

/// Where sessions come from.
enum Side {
    /// The one that there is has been dialled.
    Client,
    Server(Doorkeeper),
}

/// Lets strangers in.
pub(super) struct Doorkeeper {
    pub(super) half_open: Arc<HalfOpen>,
    /// Takes new sessions. When it is gone there are no more.
    pub(super) door: mpsc::Sender<Newcomer>,
    pub(super) policy: Policy,
    pub(super) table: Table,
}

/// A session that a stranger has opened.
pub(super) struct Newcomer {
    pub(super) io: KcpIo,
    pub(super) shared: Arc<Shared>,
    pub(super) peer: SocketAddr,
    pub(super) local_ip: Option<IpAddr>,
    pub(super) place: Place,
}

impl Endpoint {
    /// Makes the endpoint of a client, which is connected to `peer`, with its one session.
    pub(super) fn dialled(
        socket: UdpSocket,
        peer: SocketAddr,
        config: Config,
        policy: Policy,
    ) -> (Self, KcpIo) {
        let mut endpoint = Self::new(socket, Side::Client);
        let now = Instant::now();
        let id = next_id(&mut endpoint.free_ids, &mut endpoint.members);
        let shared = Shared::new(id, Arc::clone(&endpoint.calls));
        let mut member = Member::new(config, peer, None, policy, Arc::clone(&shared), now);
        enqueue(&mut member, id, &mut endpoint.queue);
        endpoint.members[id] = Some(Box::new(member));
        endpoint.n_members += 1;
        (endpoint, KcpIo::new(shared))
    }

    /// Makes the endpoint of a server.
    pub(super) fn listening(socket: UdpSocket, doorkeeper: Doorkeeper) -> Self {
        Self::new(socket, Side::Server(doorkeeper))
    }

    fn new(socket: UdpSocket, side: Side) -> Self {
        Self {
            socket,
            members: Vec::new(),
            free_ids: Vec::new(),
            n_members: 0,
            calls: Arc::default(),
            called: Vec::new(),
            queue: VecDeque::new(),
            timers: BinaryHeap::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            side,
            out: Vec::new(),
            blocked: None,
            is_refused: false,
            farewells: Farewells::default(),
        }
    }

    /// What wakes the endpoint, for when its listener is dropped.
    pub(super) fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }

    /// Receives, within bounds. Says whether there may be more.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..MAX_RECEIVES {
            let Self {
                socket,
                members,
                free_ids,
                queue,
                side,
                calls,
                n_members,
                farewells,
                ..
            } = self;
            let now = Instant::now();
            let mut room = Room {
                members,
                free_ids,
                queue,
                calls,
                n_members,
                farewells,
            };
            let received = socket.poll_receive(cx, |datagram, peer, local_ip| {
                room.handle_datagram(side, datagram, (peer, local_ip), now);
            });
            match received {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => self.note_error(&error),
                Poll::Pending => return false,
            }
        }
        true
    }

    /// Hears of what the socket says. Nothing ends it.
    fn note_error(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            self.is_refused = true;
        } else {
            tracing::trace!(%error, "UDP socket");
        }
    }

    /// Has a client's session hear of a refusal. A server's socket hears of none that would mean
    /// anything.
    fn handle_refusal(&mut self) {
        if !std::mem::take(&mut self.is_refused) || !matches!(self.side, Side::Client) {
            return;
        }
        if let Some(member) = self.members.first_mut().and_then(Option::as_mut)
            && member.handle_refusal() == Fate::Over
        {
            self.remove(0);
        }
    }

    /// Puts those whose time has come into the queue.
    fn handle_timers(&mut self, now: Instant) {
        while let Some(&Reverse((at, id))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            // Others may have been set for it meanwhile: only the one it knows of counts.
            if let Some(member) = self.members.get_mut(id).and_then(Option::as_mut)
                && member.timer == Some(at)
            {
                member.timer = None;
                enqueue(member, id, &mut self.queue);
            }
        }
    }

    /// Gives each that has something to do one turn. Says whether there is more to do.
    fn serve(&mut self) -> bool {
        for _ in 0..self.queue.len() {
            if self.blocked.is_some() {
                return false;
            }
            let Some(id) = self.queue.pop_front() else {
                break;
            };
            self.give_turn(id);
        }
        !self.queue.is_empty()
    }

    fn give_turn(&mut self, id: usize) {
        let now = Instant::now();
        let Some(mut member) = self.members.get_mut(id).and_then(Option::take) else {
            return;
        };
        member.is_queued = false;
        let mut n_left = TURN_LEN;
        let mut fate = member.handle_turn(now);
        while n_left > 0 && self.blocked.is_none() {
            let n_sent = self.transmit(&mut member, n_left, now);
            n_left -= n_sent.min(n_left);
            if n_sent > 0 && member.has_unsent() && fate == Fate::Lives {
                fate = member.handle_turn(now);
            } else if n_sent == 0 {
                break;
            }
        }
        if fate == Fate::Lives {
            let has_more = n_left == 0 || self.blocked.is_some();
            if has_more {
                enqueue(&mut member, id, &mut self.queue);
            } else {
                let at = member.next_turn(now);
                if member.timer.is_none_or(|timer| at < timer) {
                    member.timer = Some(at);
                    self.timers.push(Reverse((at, id)));
                }
            }
        }
        self.members[id] = Some(member);
        if fate == Fate::Over {
            self.remove(id);
        }
    }

    /// Sends one batch of a session, and returns how many datagrams that were.
    fn transmit(&mut self, member: &mut Member, n_max: usize, now: Instant) -> usize {
        self.out.clear();
        let longest = member.session.config().max_datagram_len();
        let n_max = self.socket.max_batch(longest).min(n_max);
        let Some(datagram_len) = member.next_batch(&mut self.out, n_max, now) else {
            return 0;
        };
        let batch = Batch {
            peer: member.peer,
            local_ip: member.local_ip,
            datagram_len,
        };
        self.send(batch);
        self.out.len().div_ceil(datagram_len)
    }

    /// Sends what is in `out`, or leaves it there until the system takes it.
    fn send(&mut self, batch: Batch) {
        for _ in 0..SEND_ATTEMPTS {
            match self.socket.try_send(batch, &self.out) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = Some(batch);
                    return;
                }
                // It is about an earlier packet; this one has not been sent yet.
                Err(e) => self.note_error(&e),
                Ok(()) => return,
            }
        }
    }

    /// Sends what has had to wait. Says whether that is no longer so.
    fn unblock(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(batch) = self.blocked {
            if self.socket.poll_send_ready(cx).is_pending() {
                return false;
            }
            self.blocked = None;
            self.send(batch);
        }
        true
    }

    fn remove(&mut self, id: usize) {
        let Some(member) = self.members.get_mut(id).and_then(Option::take) else {
            return;
        };
        if let Side::Server(doorkeeper) = &mut self.side {
            doorkeeper.table.remove(member.peer, id);
        }
        self.n_members -= 1;
        self.free_ids.push(id);
    }

    /// Sets the timer for the first of the times.
    fn arm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(&Reverse((at, _))) = self.timers.peek() else {
            return Poll::Pending;
        };
        let at = tokio::time::Instant::from_std(at);
        if self.timer.deadline() != at || self.timer.is_elapsed() {
            self.timer.as_mut().reset(at);
        }
        self.timer.as_mut().poll(cx)
    }

    fn is_over(&self) -> bool {
        let may_grow = match &self.side {
            Side::Client => false,
            Side::Server(doorkeeper) => !doorkeeper.door.is_closed(),
        };
        self.n_members == 0 && !may_grow && self.blocked.is_none()
    }
}

impl Future for Endpoint {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        for _ in 0..MAX_ROUNDS {
            let mut has_more = this.receive(cx);
            let mut called = std::mem::take(&mut this.called);
            this.calls.take(&mut called, cx);
            has_more |= !called.is_empty();
            for id in called.drain(..) {
                if let Some(member) = this.members.get_mut(id).and_then(Option::as_mut) {
                    enqueue(member, id, &mut this.queue);
                }
            }
            this.called = called;
            this.farewells.send(&this.socket);
            this.handle_timers(Instant::now());
            if this.unblock(cx) {
                has_more |= this.serve();
                // Only now does the system say when there is room again.
                has_more |= this.blocked.is_some();
            }
            this.handle_refusal();
            if this.is_over() {
                return Poll::Ready(());
            }
            if !has_more && this.arm(cx).is_pending() {
                this.socket.rest();
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Endpoint {
    /// The task ends after its last session, with the runtime, or by a panic.
    fn drop(&mut self) {
        for member in self.members.iter_mut().flatten() {
            member.break_off(Break::Gone);
        }
    }
}

/// What of an endpoint takes datagrams, while its socket receives them.
struct Room<'a> {
    members: &'a mut Vec<Option<Box<Member>>>,
    free_ids: &'a mut Vec<usize>,
    queue: &'a mut VecDeque<usize>,
    calls: &'a Arc<Calls>,
    n_members: &'a mut usize,
    farewells: &'a mut Farewells,
}

impl Room<'_> {
    fn handle_datagram(
        &mut self,
        side: &mut Side,
        datagram: &[u8],
        from: (SocketAddr, Option<IpAddr>),
        now: Instant,
    ) {
        let id = match side {
            Side::Client => Some(0),
            Side::Server(doorkeeper) => match doorkeeper.table.look_up(from.0, datagram) {
                Lookup::Member(id) => Some(id),
                Lookup::New { conv, has_fec } => {
                    let mut config = Config::frp(conv);
                    config.fec = config.fec.filter(|_| has_fec);
                    config.n_early = N_EARLY;
                    self.let_in(doorkeeper, config, from, now)
                }
                Lookup::Lost(header) => {
                    self.farewells.add(header, from, now);
                    None
                }
                Lookup::Nowhere => None,
            },
        };
        let member = id.and_then(|id| Some((id, self.members.get_mut(id)?.as_mut()?)));
        let Some((id, member)) = member else {
            metrics::counter!("holdfast_kcp_datagrams_refused_total").increment(1);
            return;
        };
        member.handle_datagram(datagram, now);
        enqueue(member, id, self.queue);
    }

    /// Makes a session for a stranger, if there is a place for one.
    fn let_in(
        &mut self,
        doorkeeper: &mut Doorkeeper,
        config: Config,
        (peer, local_ip): (SocketAddr, Option<IpAddr>),
        now: Instant,
    ) -> Option<usize> {
        let door = doorkeeper.door.try_reserve().ok()?;
        let place = doorkeeper.half_open.try_enter(peer.ip())?;
        let id = next_id(self.free_ids, self.members);
        let shared = Shared::new(id, Arc::clone(self.calls));
        let conv = config.conv;
        let clock = rand::random();
        let member = Member::accepted(
            config,
            clock,
            (peer, local_ip),
            doorkeeper.policy.clone(),
            Arc::clone(&shared),
            now,
        );
        self.members[id] = Some(Box::new(member));
        *self.n_members += 1;
        doorkeeper.table.insert(peer, conv, id);
        door.send(Newcomer {
            io: KcpIo::new(Arc::clone(&shared)),
            shared,
            peer,
            local_ip,
            place,
        });
        Some(id)
    }
}

fn next_id(free_ids: &mut Vec<usize>, members: &mut Vec<Option<Box<Member>>>) -> usize {
    free_ids.pop().unwrap_or_else(|| {
        members.push(None);
        members.len() - 1
    })
}

fn enqueue(member: &mut Member, id: usize, queue: &mut VecDeque<usize>) {
    if !std::mem::replace(&mut member.is_queued, true) {
        queue.push_back(id);
    }
}

/// System calls for receiving before sessions get their turns.
const MAX_RECEIVES: usize = 4;

/// Datagrams that a session sends in one turn.
const TURN_LEN: usize = 64;

/// Rounds before other tasks get their turn.
const MAX_ROUNDS: usize = 16;

/// An error about an earlier packet is reported in place of sending; there is one at a time.
const SEND_ATTEMPTS: usize = 2;
