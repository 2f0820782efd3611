//! The last word to peers of sessions that are no more.
//!
//! It is the segment that our ends break a session off with, as the next one that the peer waits
//! for. It is no longer than what it answers, so nothing is amplified.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use kcp_proto::End;
use kcp_proto::segment::{Command, Header};

use super::socket::{Batch, UdpSocket};

/// Last words that wait to be sent, within their rate.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    waiting: Vec<(SocketAddr, Option<IpAddr>, [u8; Header::LEN])>,
    period: Option<(Instant, u32)>,
}

impl Farewells {
    /// Answers a segment of a session that is no more.
    pub(super) fn add(
        &mut self,
        header: Header,
        (peer, local_ip): (SocketAddr, Option<IpAddr>),
        now: Instant,
    ) {
        let n_sent = match &mut self.period {
            Some((start, n_sent)) if now.saturating_duration_since(*start) < PERIOD => n_sent,
            period => &mut period.insert((now, 0)).1,
        };
        if *n_sent >= MAX_IN_PERIOD {
            return;
        }
        *n_sent += 1;
        let last = Header {
            conv: header.conv,
            cmd: Command::Push,
            frg: End::Reset.frg(),
            wnd: 0,
            ts: header.ts,
            sn: header.una,
            // It acknowledges nothing.
            una: 0,
            len: 0,
        };
        self.waiting.push((peer, local_ip, last.encode()));
    }

    /// Sends those that wait. One that cannot be sent is as good as lost on the way.
    pub(super) fn send(&mut self, socket: &UdpSocket) {
        for (peer, local_ip, last) in self.waiting.drain(..) {
            let batch = Batch {
                peer,
                local_ip,
                datagram_len: last.len(),
            };
            let _ = socket.try_send(batch, &last);
        }
    }
}

/// Last words in each period: what a restarted server says to as many clients in a second. The
/// others ask again.
const MAX_IN_PERIOD: u32 = 1000;
const PERIOD: Duration = Duration::from_secs(1);
