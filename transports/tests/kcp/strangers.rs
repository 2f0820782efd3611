//! Who gets in, and what those who do not can do to the others.

use std::time::Duration;

use kcp_proto::fec::{Encoder, Shards};
use kcp_proto::segment::{Command, Header};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::UdpSocket;
use transports::half_open::HalfOpenLimits;
use transports::kcp::KcpListenConfig;

use crate::support::{Path, Server, client, dial, seed, server};

#[tokio::test]
async fn garbage_at_the_port_disturbs_nobody_and_is_not_amplified() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.addr()).await.unwrap();
    let mut random = StdRng::seed_from_u64(seed());
    let mut n_sent = 0;
    for n in 0..3_000_usize {
        let mut datagram: Vec<u8> = (0..n % 1_400).map(|_| random.random()).collect();
        // Some look like the first datagram of a conversation.
        if n % 3 == 0 && datagram.len() > 40 {
            datagram = first(random.random(), &datagram[..datagram.len() - 40]);
        }
        n_sent += datagram.len();
        socket.send(&datagram).await.unwrap();
    }
    pair.works().await;
    pair.carries(200_000).await;

    let mut n_received = 0;
    let mut buf = [0; 2048];
    while let Ok(len) = socket.try_recv(&mut buf) {
        n_received += len;
    }
    assert!(n_received <= 3 * n_sent, "{n_received} for {n_sent}");
}

#[tokio::test]
async fn half_open_sessions_of_one_address_are_bounded_and_give_way_in_time() {
    let server = Server::start(KcpListenConfig {
        limits: HalfOpenLimits {
            total: 100,
            per_address: 3,
            ..KcpListenConfig::default().limits
        },
        first_bytes_timeout: Duration::from_millis(300),
        login_timeout: Duration::from_millis(600),
        ..server()
    })
    .await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.addr()).await.unwrap();
    for conv in 0..7 {
        // The beginning of a TLS handshake that never comes.
        socket.send(&first(conv, &[0x17, 0x16])).await.unwrap();
    }
    // There is a place when theirs have run out, and not before.
    let before = std::time::Instant::now();
    let client = dial(server.addr(), client()).await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(250));
    let carrier = server.accept().await.carrier;
    carrier.admit();
    drop(client);
}

#[tokio::test]
async fn an_address_that_has_not_answered_is_sent_three_times_as_much_at_most() {
    let server = Server::start(server()).await;
    let path = Path::to(server.addr(), seed()).await;
    path.mute_server();
    let addr = path.addr;
    let dialling = tokio::spawn(async move { dial(addr, client()).await.map(drop) });
    // Long enough for several retransmissions of both sides.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (n_sent, n_received) = (path.n_from_client(), path.n_from_server());
    assert!(n_sent > 0);
    assert!(n_received <= 3 * n_sent, "{n_received} for {n_sent}");
    dialling.abort();
}

#[tokio::test]
async fn a_replayed_or_forged_datagram_does_not_end_a_live_session() {
    let server = Server::start(server()).await;
    let path = Path::to(server.addr(), seed()).await;
    let pair = server.pair_over(path.addr, client()).await;
    let mut random = StdRng::seed_from_u64(seed());
    let forger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    forger.connect(path.addr).await.unwrap();
    // The path sends these on from the client's own address, with conversations of their own.
    for _ in 0..50 {
        let bytes: [u8; 100] = std::array::from_fn(|_| random.random());
        forger.send(&first(random.random(), &bytes)).await.unwrap();
        forger.send(&bytes).await.unwrap();
    }
    pair.carries(100_000).await;
}

/// What begins the conversation `conv`.
fn first(conv: u32, data: &[u8]) -> Vec<u8> {
    let header = Header {
        conv,
        cmd: Command::Push,
        frg: 0,
        wnd: 128,
        ts: 0,
        sn: 0,
        una: 0,
        len: u32::try_from(data.len()).unwrap(),
    };
    let mut datagram = vec![0; kcp_proto::fec::DATA_HEADER_LEN];
    datagram.extend(header.encode());
    datagram.extend(data);
    let now = std::time::Instant::now();
    Encoder::new(Shards::FRP, 0)
        .unwrap()
        .seal(&mut datagram, now);
    datagram
}
