//! Which congestion control a connection has while it is used.
//!
//! The system's default, Cubic nearly everywhere, shares a link with others' Cubic evenly, and comes
//! to a halt where packets are lost by chance. BBR goes on there, and leaves a Cubic flow beside it
//! little. So a connection begins with the first, and goes over to the second once its losses are
//! [known](lossy::RandomLoss) to be no full queue's. It stays there: the link has shown what it does.
//!
//! Nothing of it costs anything at rest: the system is asked when something is read or written.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use lossy::RandomLoss;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpStream;

use super::info::TcpInfo;
use super::options::{BBR, TcpCongestion, is_bbr};

/// Watches a connection until it has BBR.
#[derive(Debug)]
pub(super) struct Adapting {
    rule: RandomLoss,
    look_at: Instant,
}

/// What has come of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adapted {
    /// Nothing to be done yet.
    NotYet,
    /// The connection has BBR now.
    Bbr,
    /// It cannot have it.
    Never,
}

impl Adapting {
    /// Returns what watches `socket`, if `congestion` asks for that and there is anything to gain.
    pub(super) fn begin(socket: &TcpStream, congestion: &TcpCongestion) -> Option<Box<Self>> {
        let is_wanted = *congestion == TcpCongestion::Auto && !is_bbr(socket) && offers_bbr();
        is_wanted.then(|| {
            Box::new(Self {
                rule: RandomLoss::default(),
                look_at: Instant::now(),
            })
        })
    }

    /// Something has been read from the connection or written to it.
    pub(super) fn handle_use(&mut self, socket: &TcpStream) -> Adapted {
        let now = Instant::now();
        if now < self.look_at {
            return Adapted::NotYet;
        }
        self.look_at = now + LOOK_INTERVAL;
        match TcpInfo::of(socket) {
            Some(info) => self.handle_info(socket, &info, now),
            None => Adapted::NotYet,
        }
    }

    fn handle_info(&mut self, socket: &TcpStream, info: &TcpInfo, now: Instant) -> Adapted {
        let Some(look) = info.look(now) else {
            return Adapted::NotYet;
        };
        if !self.rule.handle_look(look) {
            return Adapted::NotYet;
        }
        if let Err(error) = SockRef::from(socket).set_tcp_congestion(BBR.as_bytes()) {
            tracing::debug!(%error, "a connection that loses packets cannot have {BBR}");
            return Adapted::Never;
        }
        tracing::info!(
            peer = socket.peer_addr().ok().map(tracing::field::display),
            sent = look.sent,
            sent_again = look.sent_again,
            rtt_ms = look.srtt.as_millis(),
            min_rtt_ms = look.min_rtt.as_millis(),
            "TCP loses packets where no queue stands: {BBR} sends on this connection from here on"
        );
        Adapted::Bbr
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::tcp::info::tests::info;
    use tokio::net::TcpListener;

    /// Looks at one connection as `lost` segments of each hundred are sent again.
    async fn after_looks(lost: u32, srtt_ms: u32) -> (Adapted, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap());
        let socket = socket.await.unwrap();
        SockRef::from(&socket).set_tcp_congestion(b"reno").unwrap();
        let mut adapting = Adapting {
            rule: RandomLoss::default(),
            look_at: Instant::now(),
        };
        let start = Instant::now();
        let mut outcome = Adapted::NotYet;
        for n in 0..20 {
            let now = start + Duration::from_millis(60) * n;
            let told = info(n * 100, n * lost, srtt_ms * 1000, 50_000);
            outcome = adapting.handle_info(&socket, &told, now);
            if outcome != Adapted::NotYet {
                break;
            }
        }
        (outcome, is_bbr(&socket))
    }

    #[tokio::test]
    async fn a_live_connection_goes_over_when_it_loses_without_a_queue() {
        let expected = match offers_bbr() {
            true => (Adapted::Bbr, true),
            false => (Adapted::Never, false),
        };
        assert_eq!(after_looks(1, 51).await, expected);
    }

    #[tokio::test]
    async fn it_stays_where_nothing_is_lost_or_a_queue_stands() {
        assert_eq!(after_looks(0, 51).await, (Adapted::NotYet, false));
        assert_eq!(after_looks(5, 90).await, (Adapted::NotYet, false));
    }

    #[tokio::test]
    async fn only_auto_is_watched() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap());
        let socket = socket.await.unwrap();
        SockRef::from(&socket).set_tcp_congestion(b"reno").unwrap();
        let is_watched = |congestion| Adapting::begin(&socket, &congestion).is_some();
        assert_eq!(is_watched(TcpCongestion::Auto), offers_bbr());
        assert!(!is_watched(TcpCongestion::System));
        assert!(!is_watched(TcpCongestion::Named("reno".into())));
    }
}
