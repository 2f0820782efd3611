//! Our programs with Go frp on the other side of a bad link, over every transport that is not plain
//! TCP, and with each other on the same links.
//!
//! Each row moves checksummed bytes both ways, first in bursts with pauses longer than the
//! retransmission time and then without (4 MiB, or 100 MiB when `FULL` is set), and prints how long
//! that took.
//!
//! These tests need root, and frp's `frps` and `frpc` in the directory that `FRP_PEER_DIR` names.
//! Without either each of them says that it is skipped.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{self, Write as _};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use netem_tests::intruder::forge;
use netem_tests::traffic::EchoConn;
use netem_tests::{
    Intruder, Lab, Link, PairBuilder, Place, Profile, Programs, Proxy, Service, Sides, Transport,
    Wire, bursts,
};

/// Makes four tests of each row: both versions of frp's protocol, on a clean link and on one that
/// loses every tenth packet.
macro_rules! rows {
    ($sides:expr; $($name:ident: $transport:ident $front:ident,)+) => {
        $(
            mod $name {
                use super::*;

                #[test]
                fn in_wire_v1() {
                    moves_bytes_intact($sides, Transport::$transport, Front::$front, Wire::V1, 0);
                }

                #[test]
                fn in_wire_v2() {
                    moves_bytes_intact($sides, Transport::$transport, Front::$front, Wire::V2, 0);
                }

                #[test]
                fn in_wire_v1_at_ten_percent_loss() {
                    moves_bytes_intact($sides, Transport::$transport, Front::$front, Wire::V1, 10);
                }

                #[test]
                fn in_wire_v2_at_ten_percent_loss() {
                    moves_bytes_intact($sides, Transport::$transport, Front::$front, Wire::V2, 10);
                }
            }
        )+
    };
}

mod our_client_and_their_server_move_bytes_intact_over {
    use super::*;

    rows! { Whose::THEIR_SERVER;
        kcp:                    Kcp       Bare,
        quic:                   Quic      Bare,
        websocket:              Websocket Bare,
        wss_behind_a_terminator: Wss      Terminator,
    }
}

mod their_client_and_our_server_move_bytes_intact_over {
    use super::*;

    rows! { Whose::THEIR_CLIENT;
        kcp:                    Kcp       Bare,
        quic:                   Quic      Bare,
        websocket:              Websocket Bare,
        wss:                    Wss       Bare,
        wss_behind_a_terminator: Wss      Terminator,
    }
}

mod our_client_and_our_server_move_bytes_intact_over {
    use super::*;

    rows! { Whose::OURS;
        kcp:       Kcp       Bare,
        quic:      Quic      Bare,
        websocket: Websocket Bare,
        wss:       Wss       Bare,
    }
}

/// Whose programs a row has.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Whose {
    server: &'static str,
    client: &'static str,
}

impl Whose {
    const OURS: Self = Self {
        server: OURS,
        client: OURS,
    };
    const THEIR_SERVER: Self = Self {
        server: THEIRS,
        client: OURS,
    };
    const THEIR_CLIENT: Self = Self {
        server: OURS,
        client: THEIRS,
    };

    fn sides(self) -> Option<Sides> {
        let of = |who| match who {
            OURS => Some(Programs::ours().unwrap()),
            _ => peer(),
        };
        Some(Sides {
            server: of(self.server)?,
            client: of(self.client)?,
        })
    }
}

/// What the client connects to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Front {
    /// The server.
    Bare,
    /// Something that takes TLS off in front of the server.
    Terminator,
}

fn moves_bytes_intact(whose: Whose, transport: Transport, front: Front, wire: Wire, loss_pct: u32) {
    let Some(sides) = whose.sides() else { return };
    let row = format!(
        "{} to {}, {}{}, {}, {loss_pct} % loss",
        whose.client,
        whose.server,
        transport.name(),
        match front {
            Front::Bare => "",
            Front::Terminator => " (TLS terminator)",
        },
        match wire {
            Wire::V1 => "v1",
            Wire::V2 => "v2",
        },
    );
    if !Lab::is_available_for(&row) {
        return;
    }
    let lab = Lab::start(&row, &link(loss_pct)).unwrap();
    use_bbr(lab.near());
    use_bbr(lab.far());
    let hears_kcp = transport == Transport::Kcp && whose != Whose::OURS;
    // On the side where ours is: what it sends is heard there before any of it is lost.
    let our_side = if whose.server == OURS {
        lab.near()
    } else {
        lab.far()
    };
    let intruder = hears_kcp.then(|| Intruder::listen(our_side).unwrap());
    let service = lab.far().enter(Service::start).unwrap();
    let mut builder = PairBuilder::new(&sides)
        .in_lab(&lab)
        .quiet()
        .link(Link {
            transport,
            wire,
            ..Link::DEFAULT
        })
        .proxy(Proxy::tcp("bulk", service.port()));
    if front == Front::Terminator {
        builder = builder.behind_tls();
    }
    let pair = builder.start().unwrap();
    let port = pair.port("bulk").unwrap();
    let len = transfer_len();

    let mut times = Vec::new();
    let mut idle_user = pair.as_user(|| EchoConn::open(port)).unwrap();
    for transfer in [bursts::download, bursts::upload] {
        let start = Instant::now();
        pair.as_user(|| transfer(port, len, lab.seed())).unwrap();
        times.push(start.elapsed());
    }
    idle_user.round().unwrap();

    if let Some(intruder) = intruder {
        our_groups_are_whole(&intruder, our_side);
    }
    report(&row, len, &times);
    for took in times {
        assert!(took < BOUND, "{row}: {took:?}");
    }
}

/// frp's decoder expects every group of thirteen to begin where the last one has ended, and it
/// recovers nothing any more once one does not. That must hold whatever pauses there were.
fn our_groups_are_whole(intruder: &Intruder, our_side: &Place) {
    let packets = intruder.packets();
    let ours = packets
        .iter()
        .filter(|packet| *packet.from.ip() == our_side.address());
    let (mut n_data, mut n_parity) = (0, 0);
    for packet in ours {
        let seqid = forge::seqid(&packet.payload).unwrap();
        let position = seqid % forge::N_GROUP;
        match forge::fec_type(&packet.payload) {
            Some(forge::FEC_DATA) => {
                assert!(
                    position < forge::N_DATA,
                    "data in the place of parity: {seqid}"
                );
                n_data += 1;
            }
            Some(forge::FEC_PARITY) => {
                assert!(
                    position >= forge::N_DATA,
                    "parity in the place of data: {seqid}"
                );
                n_parity += 1;
            }
            other => panic!("a datagram without error correction: {other:?}"),
        }
    }
    // Most groups have their parity: those of the bulk, at least.
    assert!(
        n_parity * 10 > n_data,
        "{n_data} data and {n_parity} parity datagrams"
    );
}

/// A millisecond each way: on a longer path the congestion control of QUIC takes an hour for 100 MiB
/// at ten percent of loss. The queue holds a window of frp's KCP.
fn link(loss_pct: u32) -> Profile {
    Profile::delay_ms(1)
        .rate_mbit(200)
        .queue_packets(1500)
        .loss_pct(loss_pct)
}

/// Lets TCP move at ten percent of loss. Where the kernel has no BBR it is slow.
fn use_bbr(place: &Place) {
    let path = "/proc/sys/net/ipv4/tcp_congestion_control";
    let _ = place.enter(|| fs::write(path, "bbr"));
}

/// Prints a row of the table, past what the test runner keeps to itself.
fn report(row: &str, len: u64, times: &[Duration]) {
    let mib = len as f64 / (1024.0 * 1024.0);
    let [download, upload] = [0, 1].map(|n| times.get(n).copied().unwrap_or_default());
    let line = format!(
        "ROW {row}: {mib:.0} MiB down in {:.1} s, up in {:.1} s\n",
        download.as_secs_f64(),
        upload.as_secs_f64(),
    );
    let _ = io::stderr().write_all(line.as_bytes());
}

fn peer() -> Option<Programs> {
    let peer = Programs::peer().unwrap();
    if peer.is_none() {
        let current = thread::current();
        let test = current.name().unwrap_or("this test");
        let notice = format!("SKIPPED: {test}: FRP_PEER_DIR is not set\n");
        let _ = io::stderr().write_all(notice.as_bytes());
    }
    peer
}

/// 4 MiB, or 100 MiB when `FULL` is set.
fn transfer_len() -> u64 {
    match env::var("FULL") {
        Ok(value) if !value.is_empty() => 100 * MIB,
        _ => 4 * MIB,
    }
}

const OURS: &str = "holdfast";
const THEIRS: &str = "frp";
const MIB: u64 = 1024 * 1024;

/// The slowest row, QUIC from frp's server at ten percent of loss, takes a minute and a half on an
/// idle machine and three times that on a busy one.
const BOUND: Duration = Duration::from_secs(900);
