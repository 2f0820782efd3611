//! A session, and what its endpoint keeps of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use kcp_proto::control::Unlimited;
use kcp_proto::{Config, End, Session};

use super::Fast;
use super::LINGER;
use super::io::{Break, Figures, Shared};

/// One session of an endpoint.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) session: Session,
    pub(super) peer: SocketAddr,
    /// The address of this host that the peer knows.
    pub(super) local_ip: Option<IpAddr>,
    shared: Arc<Shared>,
    /// Taken from the writer and not yet by the session.
    unsent: Bytes,
    is_admitted: bool,
    /// Present until the peer has shown that its address is its own.
    credit: Option<Credit>,
    policy: Policy,
    is_holdfast: bool,
    is_watched: bool,
    heard_at: Instant,
    asked_at: Option<Instant>,
    /// From when on nobody has used the session any more.
    left_at: Option<Instant>,
    /// From when on both sides have ended, and this one knows that the peer knows.
    done_at: Option<Instant>,
    /// Nothing is sent any more: the peer has forgotten the session.
    is_mute: bool,
    n_refusals: u32,
    /// The timer that is set for it.
    pub(super) timer: Option<Instant>,
    /// It has its place in the queue of those with something to do.
    pub(super) is_queued: bool,
}

/// How the sessions of an endpoint are run.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    /// A peer that has not been heard of for so long is gone.
    pub(super) silence: Duration,
    /// What changes when the peer is a Holdfast.
    pub(super) fast: Option<Fast>,
    pub(super) farewell: Farewell,
}

/// How a session ends towards a peer that is not known to be a Holdfast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// By a segment that says so.
    Said,
    /// By what is inside, TLS and the multiplexer. frp's server forgets a session at once when it has
    /// read that, without an acknowledgement, and takes whatever comes later for the beginning of
    /// another one. It then waits for ten seconds for what that may want, and lets nobody else in
    /// meanwhile. So the last words are sent once, as frp's own client does.
    Silent,
}

/// What may be sent to an address that anyone may have named.
#[derive(Debug, Default)]
struct Credit {
    n_received: usize,
    n_sent: usize,
}

/// What becomes of a member after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    /// Nothing is left to be done for it.
    Over,
}

impl Member {
    /// A session that a stranger opens. `clock` is where its clock starts: at a number that nobody
    /// can guess, since whoever echoes it has received it.
    pub(super) fn accepted(
        mut config: Config,
        clock: u32,
        (peer, local_ip): (SocketAddr, Option<IpAddr>),
        policy: Policy,
        shared: Arc<Shared>,
        now: Instant,
    ) -> Self {
        config.receive_window = STRANGER_WINDOW;
        config.first.ts = clock;
        Self {
            credit: Some(Credit::default()),
            is_admitted: false,
            ..Self::new(config, peer, local_ip, policy, shared, now)
        }
    }

    /// A session that this side opens.
    pub(super) fn new(
        config: Config,
        peer: SocketAddr,
        local_ip: Option<IpAddr>,
        policy: Policy,
        shared: Arc<Shared>,
        now: Instant,
    ) -> Self {
        Self {
            session: Session::new(config, Box::new(Unlimited::FRP), now),
            peer,
            local_ip,
            shared,
            unsent: Bytes::new(),
            is_admitted: true,
            credit: None,
            policy,
            is_holdfast: false,
            is_watched: false,
            heard_at: now,
            asked_at: None,
            left_at: None,
            done_at: None,
            is_mute: false,
            n_refusals: 0,
            timer: None,
            is_queued: false,
        }
    }

    /// Takes a datagram from the peer's address.
    pub(super) fn handle_datagram(&mut self, datagram: &[u8], now: Instant) {
        if let Some(credit) = &mut self.credit {
            credit.n_received = credit.n_received.saturating_add(datagram.len());
        }
        // A copy of its own, so that what is kept of it keeps nothing else.
        let datagram = Bytes::copy_from_slice(datagram);
        match self.session.handle_datagram(&datagram, now) {
            Ok(()) => {
                self.heard_at = now;
                self.asked_at = None;
                self.n_refusals = 0;
            }
            Err(error) => {
                tracing::trace!(peer = %self.peer, %error, "datagram refused");
                metrics::counter!("holdfast_kcp_datagrams_refused_total").increment(1);
            }
        }
        if self.session.srtt().is_some() {
            self.credit = None;
        }
    }

    /// The peer's host has refused a packet. Twice in a row without a word from the peer in between,
    /// or once if there never was one, means that nobody is there: anyone can forge a single one.
    pub(super) fn handle_refusal(&mut self) -> Fate {
        self.n_refusals += 1;
        let was_heard = self.session.stats().n_datagrams_received > 0;
        if self.n_refusals > u32::from(was_heard) {
            self.break_off(Break::Refused);
            return Fate::Over;
        }
        Fate::Lives
    }

    /// Exchanges bytes with the user, and sees what the time has brought. What is to be sent then is
    /// [taken](Self::next_batch).
    pub(super) fn handle_turn(&mut self, now: Instant) -> Fate {
        self.session.handle_timeout(now);
        if self.check_silence(now) == Fate::Over {
            return Fate::Over;
        }
        let figures = self.figures();
        let says_end = self.is_holdfast || self.policy.farewell == Farewell::Said;
        let mut is_settled = false;
        let Self {
            shared,
            session,
            unsent,
            ..
        } = self;
        let (is_left, is_admitted, is_holdfast, is_watched) = shared.serve(|state| {
            state.figures = figures;
            if state.ending == Some(End::Reset) {
                state.outbound.clear();
                unsent.clear();
            }
            push(session, unsent, now);
            if unsent.is_empty() && !state.outbound.is_empty() {
                *unsent = state.outbound.split().freeze();
                push(session, unsent, now);
            }
            while state.is_left || state.wants_inbound() {
                let Some(data) = session.read(usize::MAX, now) else {
                    break;
                };
                if !state.is_left {
                    state.deliver(data);
                }
            }
            if let Some(datagrams) = &mut state.datagrams {
                datagrams.exchange(session, now);
            }
            state.has_more = session.is_readable();
            if state.peer_end.is_none() {
                state.peer_end = session.end();
            }
            let is_all_taken = unsent.is_empty() && state.outbound.is_empty();
            if state.is_left && state.ending.is_none() {
                state.ending = Some(End::Finished);
            }
            let ending = state.ending.filter(|_| is_all_taken);
            state.is_settled = ending.is_some_and(|end| {
                if says_end {
                    session.finish(end);
                }
                match end {
                    _ if says_end => session.is_settled(),
                    // What an earlier turn has taken up has been sent by now.
                    End::Finished => session.n_queued() == 0,
                    End::Reset => true,
                }
            });
            is_settled = state.is_settled;
            (
                state.is_left,
                state.is_admitted,
                state.is_holdfast,
                state.is_watched,
            )
        });
        if session.can_send_datagrams() {
            shared.allow_datagrams();
        }
        if !unsent.is_empty() {
            // There is more than may wait here: let what can leave make room.
            session.flush();
        }
        if is_admitted && !std::mem::replace(&mut self.is_admitted, true) {
            self.credit = None;
            session.grow_windows(Config::FRP_WINDOW, Config::FRP_WINDOW);
        }
        if is_holdfast
            && !std::mem::replace(&mut self.is_holdfast, true)
            && let Some(fast) = &self.policy.fast
        {
            fast.apply(&mut self.session, now);
        }
        self.is_watched = is_watched;
        if is_left {
            self.left_at.get_or_insert(now);
        }
        if is_settled && self.session.end().is_some() {
            self.done_at.get_or_insert(now);
        }
        if is_settled && !says_end {
            self.is_mute = true;
            if is_left {
                return Fate::Over;
            }
        }
        match self.over_at() {
            Some(at) if now >= at => Fate::Over,
            _ => Fate::Lives,
        }
    }

    /// When nothing is to be kept of a session that its user has left. The peer may not have heard
    /// that its last words have arrived, and say them again; one that has ended as well does so
    /// within its retransmission time. A stranger who has never shown its address is owed nothing.
    fn over_at(&self) -> Option<Instant> {
        let left_at = self.left_at?;
        if self.credit.is_some() {
            return Some(left_at);
        }
        let limit = left_at + LINGER;
        let done = self.done_at.map(|at| at + N_LAST_RTOS * self.session.rto());
        Some(done.map_or(limit, |done| done.max(left_at).min(limit)))
    }

    /// Whether the writer has more than the session has taken.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Appends datagrams that are to be sent now to `out`. Their length, or `None` without any.
    pub(super) fn next_batch(
        &mut self,
        out: &mut Vec<u8>,
        max_datagrams: usize,
        now: Instant,
    ) -> Option<usize> {
        if self.is_mute {
            return None;
        }
        let Some(credit) = &mut self.credit else {
            let transmit = self.session.poll_transmit(out, max_datagrams, now)?;
            return Some(transmit.datagram_len);
        };
        // An acknowledgement on its own would have the peer wait for an answer which may be longer
        // than what it may be sent, or may have been lost. Without one it sends what it has said
        // again, and so may be sent more.
        if self.session.n_waiting() == 0 {
            return None;
        }
        loop {
            let transmit = self.session.poll_transmit(out, 1, now)?;
            let is_covered = credit.n_sent + out.len() <= MAX_AMPLIFICATION * credit.n_received;
            if is_covered && transmit.has_data {
                credit.n_sent += out.len();
                return Some(transmit.datagram_len);
            }
            // As if lost on the way.
            out.clear();
        }
    }

    /// When the next turn is due, if nothing happens before.
    pub(super) fn next_turn(&self, now: Instant) -> Instant {
        let asking = self.asked_at.map_or(self.heard_at + self.patience(), |at| {
            (at + self.ask_interval()).min(self.heard_at + self.policy.silence)
        });
        let life = match self.is_watched() {
            true => self.heard_at + self.silence_max(),
            false => asking,
        };
        let linger = self.over_at();
        // Nobody can be answered yet: only the peer can change that.
        let is_mute = self.is_mute || (self.credit.is_some() && self.session.n_waiting() == 0);
        let session = self.session.poll_timeout().filter(|_| !is_mute);
        let next = [Some(life), linger, session].into_iter().flatten().min();
        // What was due has been done. Were it due again at once, others would get no turn.
        next.unwrap_or(life).max(now + MIN_SLEEP)
    }

    /// Ends the session for its user.
    pub(super) fn break_off(&mut self, reason: Break) {
        self.shared.serve(|state| {
            state.broken.get_or_insert(reason);
        });
    }

    /// Whether others look after the peer's life. A session that its user has left is looked after
    /// by nobody.
    fn is_watched(&self) -> bool {
        self.is_watched && self.left_at.is_none()
    }

    fn silence_max(&self) -> Duration {
        match self.is_watched() {
            true => self.policy.silence.max(WATCHED_SILENCE),
            false => self.policy.silence,
        }
    }

    fn check_silence(&mut self, now: Instant) -> Fate {
        let silent_for = now.saturating_duration_since(self.heard_at);
        if silent_for >= self.silence_max() {
            self.break_off(Break::Silent);
            return Fate::Over;
        }
        let is_due = self
            .asked_at
            .is_none_or(|at| now >= at + self.ask_interval());
        let is_due = is_due && !self.is_watched();
        if silent_for >= self.patience() && is_due {
            self.asked_at = Some(now);
            self.session.ask_window();
        }
        Fate::Lives
    }

    /// Some questions get lost.
    fn ask_interval(&self) -> Duration {
        self.policy.silence / 2 / N_QUESTIONS
    }

    /// How long the peer may be silent before it is asked. A Holdfast that has been restarted says
    /// that it knows nothing of this session.
    fn patience(&self) -> Duration {
        let patience = self.policy.silence / 2;
        if self.is_holdfast {
            patience.min(HOLDFAST_PATIENCE)
        } else {
            patience
        }
    }

    fn figures(&self) -> Figures {
        let stats = self.session.stats();
        let n_resent = stats.n_resent_overtaken + stats.n_resent_timed_out;
        let mss = self.session.config().mss() as u64;
        let in_flight = u64::from(self.session.n_in_flight());
        // Segments are full but for the last of each write.
        let n_acked = stats.n_segments_sent.saturating_sub(in_flight);
        let window = Some(self.session.control().window()).filter(|n| *n < u32::MAX);
        Figures {
            rtt: self.session.srtt(),
            n_sent: stats.n_segments_sent + n_resent,
            n_lost: n_resent.saturating_sub(stats.n_spurious),
            acked_bytes: n_acked * mss,
            in_flight: in_flight * mss,
            window: window.map(|n_segments| u64::from(n_segments) * mss),
            n_redundant_sent: stats.n_copies_sent + stats.n_parity_sent,
            n_redundant_used: stats.fec.n_recovered,
            n_refused: self.n_refusals.into(),
        }
    }
}

/// Hands bytes on to the session, as long as few wait in it: the order of what waits there cannot be
/// changed any more.
fn push(session: &mut Session, unsent: &mut Bytes, now: Instant) {
    let mss = session.config().mss();
    while !unsent.is_empty() {
        let room = MAX_QUEUED.saturating_sub(session.n_queued()) * mss;
        let mut piece = unsent.slice(..room.min(unsent.len()));
        if piece.is_empty() {
            return;
        }
        let n_taken = session.send(&mut piece, now);
        if n_taken == 0 {
            return;
        }
        unsent.advance(n_taken);
    }
}

/// The receive window of a session whose peer has not logged in: room for handshakes and the login.
pub(super) const STRANGER_WINDOW: u32 = 32;

/// An address that has not been shown to be its sender's is sent this many times what came from it.
/// As with QUIC (RFC 9000 section 8.1).
const MAX_AMPLIFICATION: usize = 3;

/// Segments that wait in a session to be sent for the first time: what a turn sends. Beyond it they
/// wait with the writer, whose order is by streams.
const MAX_QUEUED: usize = 64;

/// How many retransmission times a session that has ended on both sides is kept.
const N_LAST_RTOS: u32 = 3;

/// How long a Holdfast may be silent before it is asked. Both answers and questions are short: about
/// a megabyte a day.
const HOLDFAST_PATIENCE: Duration = Duration::from_secs(10);

/// How long a peer that others look after may be silent: the quietest probes are five minutes
/// apart. Beyond it nobody looks after it any more.
const WATCHED_SILENCE: Duration = Duration::from_secs(660);

/// How often a silent peer is asked for a sign of life before it is given up.
const N_QUESTIONS: u32 = 10;

/// The least time between two turns that nothing but the clock asks for: the timer's precision.
const MIN_SLEEP: Duration = Duration::from_millis(1);
