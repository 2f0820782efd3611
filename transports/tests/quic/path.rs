//! What holds when the path is bad, moves or ends.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use transports::quic::{QuicDialConfig, QuicListenConfig};
use transports::{Carrier, CarrierError, DialError};

use transports::tls::self_signed;

use crate::support::{
    LONG, Path, Server, client, closed, dial, numbered, server, server_tls, server_with,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carrier_that_moves_in_the_middle_of_a_transfer_loses_nothing() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    let (mut ours, mut theirs) = pair.stream().await;
    let up = numbered(8 * 1024 * 1024);
    let sending = tokio::spawn({
        let up = up.clone();
        async move {
            for part in up.chunks(64 * 1024) {
                ours.write_all(part).await.unwrap();
            }
            ours.shutdown().await.unwrap();
            let mut echo = Vec::new();
            ours.read_to_end(&mut echo).await.unwrap();
            echo
        }
    });
    let receiving = async {
        let mut received = Vec::new();
        let mut part = vec![0; 1024 * 1024];
        for _ in 0..8 {
            theirs.read_exact(&mut part).await.unwrap();
            received.extend_from_slice(&part);
            let before = pair.client.local_addr();
            pair.client.rebind().await.unwrap();
            assert_ne!(pair.client.local_addr(), before);
        }
        theirs.write_all(&received).await.unwrap();
        theirs.shutdown().await.unwrap();
        received
    };
    assert!(timeout(LONG, receiving).await.unwrap() == up);
    assert!(timeout(LONG, sending).await.unwrap().unwrap() == up);
    assert_eq!(
        pair.server.peer_addr().port(),
        pair.client.local_addr().unwrap().port(),
        "the server has followed"
    );
}

#[tokio::test]
async fn a_path_that_loses_a_fifth_of_the_packets_delivers_everything() {
    let server = Server::start(server()).await;
    let path = Path::to(server.addr()).await;
    path.lose(20);
    let pair = server.pair_over(path.addr, client()).await;
    let (mut ours, mut theirs) = pair.stream().await;
    let sent = numbered(500_000);
    let sending = tokio::spawn({
        let sent = sent.clone();
        async move {
            ours.write_all(&sent).await.unwrap();
            drop(ours);
        }
    });
    let mut received = Vec::new();
    let reading = theirs.read_to_end(&mut received);
    timeout(3 * LONG, reading).await.unwrap().unwrap();
    assert!(received == sent);
    sending.await.unwrap();
    let stats = pair.client.path_stats();
    assert!(stats.packets_lost.unwrap() > 0);
    assert!(stats.packets_sent.unwrap() > stats.packets_lost.unwrap());
    assert!(stats.rtt.unwrap() > Duration::ZERO);
}

#[tokio::test]
async fn closing_sends_what_was_written_over_a_path_that_loses_packets() {
    for _ in 0..5 {
        let server = Server::start(server()).await;
        let path = Path::to(server.addr()).await;
        let pair = server.pair_over(path.addr, client()).await;
        let (mut ours, mut theirs) = pair.stream().await;
        path.lose(10);
        let sent = numbered(20_000);
        ours.write_all(&sent).await.unwrap();
        pair.client.close();
        drop(ours);
        let mut received = vec![0; sent.len()];
        let reading = theirs.read_exact(&mut received);
        timeout(LONG, reading).await.unwrap().unwrap();
        assert!(received == sent);
        path.lose(0);
        let end = timeout(LONG, theirs.read(&mut [0])).await.unwrap();
        assert!(end.is_err(), "a stream that is broken off has no good end");
    }
}

#[tokio::test]
async fn an_idle_carrier_is_kept_alive() {
    let idle_timeout = Duration::from_secs(1);
    let server = Server::start(QuicListenConfig {
        idle_timeout,
        ..server()
    })
    .await;
    let pair = server.pair(client()).await;
    tokio::time::sleep(idle_timeout * 3).await;
    pair.works().await;
}

#[tokio::test]
async fn a_watched_carrier_asks_for_nothing_and_lives_through_silence() {
    let idle_timeout = Duration::from_secs(1);
    let server = Server::start(QuicListenConfig {
        idle_timeout,
        ..server()
    })
    .await;
    let client = QuicDialConfig {
        idle_timeout,
        ..client()
    };
    let pair = server.pair(client).await;
    pair.works().await;
    pair.client.handle_watched();
    pair.server.handle_watched();
    // What is sent while a connection is young comes to its end.
    tokio::time::sleep(idle_timeout * 3).await;
    let n_sent = || {
        let sent = |carrier: &dyn Carrier| carrier.path_stats().packets_sent;
        (sent(&*pair.client), sent(&*pair.server))
    };
    let before = n_sent();
    tokio::time::sleep(idle_timeout * 3).await;
    assert_eq!(n_sent(), before);
    pair.works().await;
}

#[tokio::test]
async fn a_silent_path_ends_the_carrier_at_both_ends() {
    let idle_timeout = Duration::from_secs(1);
    let server = Server::start(QuicListenConfig {
        idle_timeout,
        ..server()
    })
    .await;
    let path = Path::to(server.addr()).await;
    let client = QuicDialConfig {
        idle_timeout,
        ..client()
    };
    let pair = server.pair_over(path.addr, client).await;
    path.silence_client();
    path.silence_server();
    let silent = CarrierError::Silent(idle_timeout);
    assert_eq!(closed(&pair.client).await, silent);
    assert_eq!(closed(&pair.server).await, silent);
    assert_eq!(pair.server.accept_stream().await.unwrap_err(), silent);
}

#[tokio::test]
async fn a_server_whose_port_is_gone_is_noticed_long_before_the_idle_timeout() {
    let server = Server::start(server()).await;
    let path = Path::to(server.addr()).await;
    let pair = server.pair_over(path.addr, client()).await;
    let (mut ours, _theirs) = pair.stream().await;
    path.tear_down();
    let started = Instant::now();
    ours.write_all(b"anybody there?").await.unwrap();
    let reason = closed(&pair.client).await;
    assert!(matches!(&reason, CarrierError::Lost(why) if why.contains("nobody listens")));
    assert!(started.elapsed() < Duration::from_secs(10), "{reason}");
}

#[tokio::test]
async fn a_server_that_was_killed_and_started_again_says_that_it_knows_nothing() {
    let tls = server_tls(self_signed().unwrap());
    let (first, second) = (
        Server::start(server_with(tls.clone())).await,
        Server::start(server_with(tls)).await,
    );
    let path = Path::to(first.addr()).await;
    let pair = first.pair_over(path.addr, client()).await;
    let (mut ours, _theirs) = pair.stream().await;
    path.lead_to(second.addr());
    ours.write_all(b"still there?").await.unwrap();
    let reason = closed(&pair.client).await;
    assert!(
        matches!(&reason, CarrierError::Lost(why) if why.contains("reset")),
        "{reason}"
    );
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_refused_at_once() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    drop(taken);
    let error = dial(addr, client()).await.unwrap_err();
    let DialError::ConnectUdp {
        addr: named,
        source,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(named, addr.to_string());
    assert_eq!(source.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_server_that_does_not_answer_fails_the_dial_in_time() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let impatient = QuicDialConfig {
        timeout: Duration::from_millis(300),
        ..client()
    };
    let error = dial(silent.local_addr().unwrap(), impatient).await;
    assert!(matches!(error, Err(DialError::Timeout { .. })));
}

#[tokio::test]
async fn the_address_to_dial_from_is_kept_through_a_move() {
    let server = Server::start(server()).await;
    let local_ip = "127.0.0.3".parse().unwrap();
    let client = QuicDialConfig {
        local_ip: Some(local_ip),
        ..client()
    };
    let pair = server.pair(client).await;
    pair.client.rebind().await.unwrap();
    pair.works().await;
    assert_eq!(pair.client.local_addr().unwrap().ip(), local_ip);
    assert_eq!(pair.server.peer_addr().ip(), local_ip);
}

#[tokio::test]
async fn datagrams_arrive_beside_a_stream_that_is_not_read() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    let (mut ours, _unread) = pair.stream().await;
    let filling = tokio::spawn(async move {
        let _ = ours.write_all(&vec![0; 32 * 1024 * 1024]).await;
    });
    for n in 0..20_u8 {
        let sent = Bytes::from(vec![n; 900]);
        pair.client.send_datagram(sent.clone()).unwrap();
        let received = timeout(LONG, pair.server.recv_datagram()).await;
        assert_eq!(received.unwrap().unwrap(), sent);
    }
    filling.abort();
}
