//! Which congestion control a connection has while it is used.
//!
//! BBR does not mind packets that are lost by chance, and leaves a Cubic flow beside it little. The
//! system's default, Cubic nearly everywhere, shares a link with others' Cubic, and comes to a halt
//! where packets are lost by chance. So a connection begins with the first, and the second is there
//! while others fill a queue: [`Sharing`] decides, here is what the decision is made of and
//! what it does.
//!
//! The system is asked when something is read or written, and by a timer while whoever does that
//! waits and something is on its way: a connection that stands still is one of those that matter.
//! Nothing of it costs anything at rest.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::Context;
use std::time::{Duration, Instant};

use lossy::{Cause, Look, Sharing, Turn};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::info::TcpInfo;
use super::options::{self, BBR, NO_MAX_RATE, Sending, TcpCongestion};

/// Watches a connection.
#[derive(Debug)]
pub(super) struct Adapting {
    rule: Sharing,
    /// The name of what the system has by default.
    default: Vec<u8>,
    /// The most that may be sent in any case, in bytes a second.
    max_rate: u64,
    look_at: Instant,
    /// Whether something was on its way at the last look.
    is_busy: bool,
    /// What the peer had told to have arrived by then.
    acked: u64,
    timer: Option<Timer>,
}

/// Wakes whoever waits for the connection for the next look.
#[derive(Debug)]
struct Timer {
    sleep: Pin<Box<Sleep>>,
    interval: Duration,
}

impl Adapting {
    /// Gives `socket` BBR and returns what watches it, if `sending` asks for that and there is
    /// anything to choose from.
    pub(super) fn begin(socket: &TcpStream, sending: &Sending) -> Option<Box<Self>> {
        if sending.congestion != TcpCongestion::Auto || !offers_bbr() {
            return None;
        }
        let control = SockRef::from(socket);
        let default = control.tcp_congestion().ok()?;
        // Padded with zeros to the longest name.
        let default: Vec<u8> = default.into_iter().take_while(|byte| *byte != 0).collect();
        // Whoever has made it the system's default wants it for everybody.
        let is_wanted = !default.starts_with(BBR.as_bytes());
        if !is_wanted || control.set_tcp_congestion(BBR.as_bytes()).is_err() {
            return None;
        }
        Some(Box::new(Self {
            rule: Sharing::default(),
            default,
            max_rate: sending.max_rate.unwrap_or(NO_MAX_RATE),
            look_at: Instant::now(),
            is_busy: false,
            acked: 0,
            timer: None,
        }))
    }

    /// Something is to be read from the connection or written to it. Returns whether BBR sends from
    /// now on, where that changes.
    pub(super) fn handle_use(&mut self, socket: &TcpStream) -> Option<bool> {
        let now = Instant::now();
        if now < self.look_at {
            return None;
        }
        self.look_at = now + LOOK_INTERVAL;
        let info = TcpInfo::of(socket)?;
        self.is_busy = info.is_busy();
        self.handle_look(socket, info.look(now)?)
    }

    /// Whoever reads or writes waits, and is woken for the next look as long as something is on its
    /// way. Returns what [`Adapting::handle_use`] returns.
    pub(super) fn poll_waiting(
        &mut self,
        socket: &TcpStream,
        cx: &mut Context<'_>,
    ) -> Option<bool> {
        if !self.is_busy {
            return None;
        }
        let timer = self.timer.get_or_insert_with(Timer::new);
        let mut changed = None;
        if timer.sleep.as_mut().poll(cx).is_ready() {
            let acked = self.acked;
            changed = self.handle_use(socket);
            if !self.is_busy {
                return changed;
            }
            let is_going_on = self.acked > acked;
            let timer = self.timer.get_or_insert_with(Timer::new);
            timer.begin(is_going_on);
            // New, it is not over: what it returns says nothing.
            let _ = timer.sleep.as_mut().poll(cx);
        }
        changed
    }

    fn handle_look(&mut self, socket: &TcpStream, look: Look) -> Option<bool> {
        self.acked = look.acked;
        let turn = self.rule.handle_look(look)?;
        let outcome = self.turn(socket, turn);
        if let Err(error) = outcome {
            // It sends on as it did, and the rule goes by what it sees.
            tracing::debug!(%error, ?turn, "cannot change how TCP sends");
            return None;
        }
        let peer = socket.peer_addr().ok().map(tracing::field::display);
        let (rtt_ms, min_rtt_ms) = (look.srtt.as_millis(), look.min_rtt.as_millis());
        let (sent, sent_again) = (look.sent, look.sent_again);
        match turn {
            Turn::GiveWay { at_most } => {
                let default = String::from_utf8_lossy(&self.default);
                tracing::info!(
                    peer,
                    sent,
                    sent_again,
                    rtt_ms,
                    min_rtt_ms,
                    at_most,
                    "others fill the queue that TCP sends through: {default} shares it with them"
                );
                Some(false)
            }
            Turn::Bound { at_most } => {
                tracing::debug!(
                    peer,
                    rtt_ms,
                    min_rtt_ms,
                    at_most,
                    "TCP has its queue drained"
                );
                None
            }
            Turn::Unbound => {
                tracing::debug!(peer, rtt_ms, min_rtt_ms, "TCP sends without a bound again");
                None
            }
            Turn::Return(cause) => {
                let why = match cause {
                    Cause::RandomLoss => "TCP loses packets where no queue stands",
                    Cause::NobodyElse => "nobody else fills the queue that TCP sends through",
                    Cause::Rest => "there was nothing to send over TCP",
                };
                tracing::info!(
                    peer,
                    sent,
                    sent_again,
                    rtt_ms,
                    min_rtt_ms,
                    "{why}: {BBR} sends on this connection again"
                );
                Some(true)
            }
        }
    }

    fn turn(&self, socket: &TcpStream, turn: Turn) -> io::Result<()> {
        let socket = SockRef::from(socket);
        let (name, rate) = match turn {
            Turn::GiveWay { at_most } => (Some(&*self.default), at_most.min(self.max_rate)),
            Turn::Bound { at_most } => (None, at_most.min(self.max_rate)),
            Turn::Unbound => (None, self.max_rate),
            Turn::Return(_) => (Some(BBR.as_bytes()), self.max_rate),
        };
        if let Some(name) = name {
            socket.set_tcp_congestion(name)?;
        }
        options::set_max_pacing_rate(&socket, rate)
    }
}

impl Timer {
    fn new() -> Self {
        Self {
            sleep: Box::pin(tokio::time::sleep(LOOK_INTERVAL)),
            interval: LOOK_INTERVAL,
        }
    }

    /// `is_going_on` says that something has arrived since the last look: what stands still has
    /// less to tell.
    fn begin(&mut self, is_going_on: bool) {
        self.interval = match is_going_on {
            true => LOOK_INTERVAL,
            false => (self.interval * 2).min(LONGEST_LOOK_INTERVAL),
        };
        self.sleep
            .as_mut()
            .reset(tokio::time::Instant::now() + self.interval);
    }
}

/// Whether the system lets this process have BBR. It is the same for every connection, so one
/// socket is asked, once.
fn offers_bbr() -> bool {
    static OFFERS: OnceLock<bool> = OnceLock::new();
    *OFFERS.get_or_init(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)
            .or_else(|_| Socket::new(Domain::IPV6, Type::STREAM, None));
        let outcome = socket.and_then(|socket| socket.set_tcp_congestion(BBR.as_bytes()));
        if let Err(error) = &outcome {
            tracing::debug!(%error, "no {BBR} for TCP here: the system's default stays");
        }
        outcome.is_ok()
    })
}

/// How often the system is asked while there is something to send: several times in a round trip of
/// most paths that lose packets, and 50 system calls a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How often it is asked where nothing arrives, such as on a path that is dead.
const LONGEST_LOOK_INTERVAL: Duration = Duration::from_millis(320);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::tcp::info::tests::info;
    use crate::tcp::options::is_bbr;
    use tokio::net::TcpListener;

    /// A connection of a system that has reno by default, whatever this one has: every Linux has
    /// it, and lets everyone use it.
    async fn socket() -> (TcpListener, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap());
        let socket = socket.await.unwrap();
        SockRef::from(&socket).set_tcp_congestion(b"reno").unwrap();
        (listener, socket)
    }

    fn sending(congestion: TcpCongestion) -> Sending {
        Sending {
            congestion,
            max_rate: Some(7_000_000),
            ..Sending::default()
        }
    }

    /// What a connection sends, from one look to the next.
    struct Sender {
        adapting: Box<Adapting>,
        at: Instant,
        sent: u32,
        sent_again: u32,
    }

    impl Sender {
        /// Looks until something changes, for `n` looks at most, as `lost` segments of each hundred
        /// are sent again.
        fn look(&mut self, socket: &TcpStream, n: u32, lost: u32, srtt_ms: u32) -> Option<bool> {
            (0..n).find_map(|_| {
                self.at += Duration::from_millis(60);
                self.sent += 100;
                self.sent_again += lost;
                let told = info(self.sent, self.sent_again, srtt_ms * 1000, 50_000);
                let look = told.look(self.at).unwrap();
                self.adapting.handle_look(socket, look)
            })
        }
    }

    #[tokio::test]
    async fn a_live_connection_gives_way_to_others_and_returns_when_it_loses_without_a_queue() {
        let (_listener, socket) = socket().await;
        let Some(adapting) = Adapting::begin(&socket, &sending(TcpCongestion::Auto)) else {
            assert!(!offers_bbr());
            return;
        };
        let mut sender = Sender {
            adapting,
            at: Instant::now(),
            sent: 0,
            sent_again: 0,
        };
        assert!(is_bbr(&socket));
        assert_eq!(sender.look(&socket, 200, 0, 51), None);
        // Some of these looks are those of the drain, which the queue of this test survives.
        assert_eq!(sender.look(&socket, 200, 0, 100), Some(false));
        let name = SockRef::from(&socket).tcp_congestion().unwrap();
        assert!(name.starts_with(b"reno"), "{name:?}");
        assert_eq!(sender.look(&socket, 100, 1, 100), None);
        assert_eq!(sender.look(&socket, 20, 3, 51), Some(true));
        assert!(is_bbr(&socket));
    }

    #[tokio::test]
    async fn only_auto_is_watched() {
        let (_listener, socket) = socket().await;
        let is_watched = |congestion| Adapting::begin(&socket, &sending(congestion)).is_some();
        assert!(!is_watched(TcpCongestion::System));
        assert!(!is_watched(TcpCongestion::Named("reno".into())));
        assert!(!is_watched(TcpCongestion::Bbr));
        assert!(!is_bbr(&socket));
        assert_eq!(is_watched(TcpCongestion::Auto), offers_bbr());
        assert_eq!(is_bbr(&socket), offers_bbr());
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_for_a_look_as_long_as_something_is_on_its_way() {
        let (listener, socket) = socket().await;
        let Some(mut adapting) = Adapting::begin(&socket, &sending(TcpCongestion::Auto)) else {
            assert!(!offers_bbr());
            return;
        };
        // The peer never reads, so what is written stays on its way.
        let (_peer, _) = listener.accept().await.unwrap();
        while socket.try_write(&[1; 100_000]).is_ok() {}
        assert_eq!(adapting.handle_use(&socket), None);
        assert!(adapting.is_busy);
        let before = adapting.look_at;
        std::future::poll_fn(|cx| {
            adapting.poll_waiting(&socket, cx);
            match adapting.look_at > before {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
    }

    #[tokio::test]
    async fn nobody_is_woken_at_rest() {
        let (_listener, socket) = socket().await;
        let Some(mut adapting) = Adapting::begin(&socket, &sending(TcpCongestion::Auto)) else {
            assert!(!offers_bbr());
            return;
        };
        assert_eq!(adapting.handle_use(&socket), None);
        std::future::poll_fn(|cx| {
            adapting.poll_waiting(&socket, cx);
            std::task::Poll::Ready(())
        })
        .await;
        assert!(adapting.timer.is_none());
    }
}
