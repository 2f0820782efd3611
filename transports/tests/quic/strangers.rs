//! Who gets in, and what those who do not can do to the others.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use transports::half_open::HalfOpenLimits;
use transports::quic::QuicListenConfig;

use crate::support::{LONG, Path, Server, client, closed, dial, server};

#[tokio::test]
async fn beyond_fifty_half_open_connections_a_client_has_to_show_its_address() {
    let server = Server::start(server()).await;
    let path = Path::to(server.addr()).await;
    let mut half_open = Vec::new();
    for _ in 0..50 {
        let client = dial(server.addr(), client()).await.unwrap();
        half_open.push((client, server.accept().await));
    }
    let first = server.pair_over(path.addr, client()).await;
    first.works().await;
    assert_eq!(path.n_retries(), 1);

    for (client, accepted) in half_open {
        drop(accepted);
        closed(&client).await;
    }
    let second = server.pair_over(path.addr, client()).await;
    second.works().await;
    assert_eq!(path.n_retries(), 1, "few are half-open now");
}

#[tokio::test]
async fn beyond_its_bound_a_connection_is_delayed_and_not_refused() {
    let server = Server::start(QuicListenConfig {
        limits: HalfOpenLimits {
            total: 1,
            ..HalfOpenLimits::default()
        },
        ..server()
    })
    .await;
    let first = dial(server.addr(), client()).await.unwrap();
    let first_accepted = server.accept().await;
    let addr = server.addr();
    let second = tokio::spawn(async move { dial(addr, client()).await });
    let too_early = timeout(Duration::from_millis(300), server.accept()).await;
    assert!(too_early.is_err(), "there is no place");

    drop(first_accepted);
    drop(first);
    server.accept().await;
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_falls_silent_in_the_handshake_loses_its_place_in_time() {
    let login_timeout = Duration::from_millis(500);
    let server = Server::start(QuicListenConfig {
        limits: HalfOpenLimits {
            total: 1,
            ..HalfOpenLimits::default()
        },
        login_timeout,
        ..server()
    })
    .await;
    let path = Path::to(server.addr()).await;
    path.silence_server();
    let (addr, started) = (path.addr, Instant::now());
    let silent = tokio::spawn(async move { dial(addr, client()).await });
    // The first packet may have to be sent again before it is the one that takes the place.
    tokio::time::sleep(login_timeout / 4).await;

    let second = dial(server.addr(), client()).await.unwrap();
    assert!(started.elapsed() >= login_timeout);
    let incoming = server.accept().await;
    assert!(incoming.login_deadline <= Instant::now() + login_timeout);
    silent.abort();
    drop(second);
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "to run it again")]
async fn garbage_at_the_port_disturbs_nobody_and_is_not_amplified() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.addr()).await.unwrap();
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut random: u64 = seed.unwrap_or_else(rand::random);
    println!("SEED={random}");
    let mut n_sent = 0;
    for n in 0..3_000_usize {
        let mut datagram: Vec<u8> = (0..n % 1_400)
            .map(|_| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                random.to_be_bytes()[0]
            })
            .collect();
        // Some look like the first packet of a connection.
        if n % 3 == 0 && datagram.len() > 20 {
            let version = if n % 2 == 0 { 1 } else { 0x0a1a_2a3a_u32 };
            datagram[0] = 0xc0 | (datagram[0] & 0x3f);
            datagram[1..5].copy_from_slice(&version.to_be_bytes());
            datagram[5] = 8;
            datagram[14] = 8;
        }
        n_sent += datagram.len();
        socket.send(&datagram).await.unwrap();
    }
    pair.works().await;
    server.pair(client()).await.works().await;

    let mut n_received = 0;
    let mut buf = [0; 2048];
    while let Ok(len) = socket.try_recv(&mut buf) {
        n_received += len;
    }
    assert!(n_received <= 3 * n_sent, "{n_received} for {n_sent}");
}

#[tokio::test]
async fn a_stranger_cannot_fill_more_than_a_megabyte() {
    let server = Server::start(server()).await;
    let client = dial(server.addr(), client()).await.unwrap();
    let carrier = server.accept().await.carrier;
    let mut stream = client.open_stream().await.unwrap();
    let sending = tokio::spawn(async move {
        stream.write_all(&vec![7; 3 * 1024 * 1024]).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut accepted = carrier.accept_stream().await.unwrap().unwrap();
    // Nothing shows that it will wait for ever; the rest would have come many times over.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let received = client.path_stats().bytes_sent;
    assert!(received <= 1024 * 1024, "{received}");
    assert!(!sending.is_finished());

    carrier.admit();
    let mut all = Vec::new();
    timeout(LONG, accepted.read_to_end(&mut all))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(all.len(), 3 * 1024 * 1024);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_listener_that_is_dropped_leaves_its_carriers_alive() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    let addr = server.addr();
    drop(server);
    let refused = dial(addr, client()).await.unwrap_err().to_string();
    assert!(refused.contains("refused"), "{refused}");
    pair.works().await;
}

#[tokio::test]
async fn an_unspecified_address_listens_on_both_families() {
    let transport = transports::quic::QuicTransport::listener(server());
    let addr = "0.0.0.0:0".parse().unwrap();
    let listener = transports::Transport::bind(&transport, addr).await.unwrap();
    let server = Server { listener };
    let port = server.addr().port();
    let over_v4 = server.pair_over(([127, 0, 0, 1], port).into(), client());
    let pair = over_v4.await;
    pair.works().await;
    assert!(pair.server.peer_addr().is_ipv4());
    assert!(pair.server.local_addr().unwrap().is_ipv4());
    // A host without IPv6 has nothing to show for the other half.
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        let over_v6 = server.pair_over(([0, 0, 0, 0, 0, 0, 0, 1], port).into(), client());
        over_v6.await.works().await;
    }
}
