//! How carriers end, on a transport that has no word for it.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::sleep;
use transports::kcp::{KcpDialConfig, KcpListenConfig, LINGER};
use transports::{CarrierError, DatagramError, DialError};

use crate::support::{Path, Server, client, closed, dial, plain_client, seed, server};

#[tokio::test]
async fn without_tls_and_multiplexing_each_half_ends_on_its_own() {
    let server = Server::start(KcpListenConfig {
        mux: None,
        ..server()
    })
    .await;
    let client = dial(
        server.addr(),
        KcpDialConfig {
            mux: None,
            ..plain_client()
        },
    )
    .await
    .unwrap();
    let mut ours = client.open_stream().await.unwrap();
    ours.write_all(b"question").await.unwrap();
    let carrier = server.accept().await.carrier;
    carrier.admit();
    ours.shutdown().await.unwrap();
    let mut theirs = carrier.open_stream().await.unwrap();
    let mut question = String::new();
    theirs.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    theirs.write_all(b"answer").await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut answer = String::new();
    ours.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
    assert_eq!(closed(&client).await, CarrierError::ClosedByPeer);
}

#[tokio::test]
async fn a_client_says_its_last_words_once_to_a_server_that_may_have_forgotten_it() {
    let server = Server::start(server()).await;
    let path = Path::to(server.addr(), seed()).await;
    let pair = server.pair_over(path.addr, client()).await;
    pair.works().await;
    // As from a server that forgets a session before it has acknowledged the end of it.
    path.mute_server();
    pair.client.close();
    closed(&pair.server).await;
    let n_said = path.n_from_client();
    sleep(LINGER).await;
    assert_eq!(path.n_from_client(), n_said, "and then nothing");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_refused_at_once() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    drop(socket);
    let error = dial(addr, client()).await.unwrap_err();
    assert!(matches!(error, DialError::ConnectUdp { .. }), "{error:?}");
    assert!(error.to_string().contains("nobody listens"), "{error}");
}

#[tokio::test]
async fn without_tls_a_refusal_ends_the_carrier() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    drop(socket);
    let carrier = dial(addr, plain_client()).await.unwrap();
    let mut stream = carrier.open_stream().await.unwrap();
    stream.write_all(b"hello").await.ok();
    assert!(matches!(closed(&carrier).await, CarrierError::Lost(_)));
}

#[tokio::test]
async fn a_server_that_was_restarted_ends_the_sessions_of_its_earlier_life() {
    let server = Server::start(server()).await;
    let path = Path::to(server.addr(), seed()).await;
    let pair = server.pair_over(path.addr, client()).await;
    pair.works().await;
    // The new life has another port, to which the path leads from now on.
    let restarted = Server::start(crate::support::server()).await;
    path.lead_to(restarted.addr()).await;
    pair.client
        .open_stream()
        .await
        .unwrap()
        .flush()
        .await
        .unwrap();
    let reason = closed(&pair.client).await;
    assert!(matches!(reason, CarrierError::Lost(_)), "{reason:?}");
}

#[tokio::test]
async fn a_restarted_server_answers_a_datagram_of_its_earlier_life_as_well() {
    let server = Server::start(server()).await;
    let path = Path::to(server.addr(), seed()).await;
    let pair = server.pair_over(path.addr, client()).await;
    pair.client.handle_holdfast_peer();
    pair.server.handle_holdfast_peer();
    // Both hear of each other that they take datagrams.
    while !(pair.client.wants_copies() && pair.server.wants_copies()) {
        pair.works().await;
    }
    let restarted = Server::start(crate::support::server()).await;
    path.lead_to(restarted.addr()).await;
    pair.client
        .send_datagram(Bytes::from_static(b"probe"))
        .unwrap();
    let reason = closed(&pair.client).await;
    assert!(matches!(reason, CarrierError::Lost(_)), "{reason:?}");
}

#[tokio::test]
async fn a_holdfast_sends_no_datagrams_to_a_peer_that_has_none() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    pair.client.handle_holdfast_peer();
    pair.carries(100_000).await;
    assert!(!pair.client.wants_copies());
    let sent = pair.client.send_datagram(Bytes::from_static(b"probe"));
    assert_eq!(sent, Err(DatagramError::Unsupported));
}

#[tokio::test]
async fn a_single_stream_without_a_sign_of_life_ends() {
    let silence = Duration::from_millis(600);
    let server = Server::start(KcpListenConfig {
        mux: None,
        silence,
        ..server()
    })
    .await;
    let path = Path::to(server.addr(), seed()).await;
    let config = KcpDialConfig {
        mux: None,
        silence,
        ..client()
    };
    let pair = server.pair_over(path.addr, config).await;
    let (mut ours, mut theirs) = pair.stream().await;
    ours.write_all(b"x").await.unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'x');
    // Several times the silence: both answer each other's questions.
    let idle = tokio::time::timeout(3 * silence, theirs.read_u8()).await;
    assert!(idle.is_err(), "an idle stream stays open: {idle:?}");
    path.cut();
    assert!(ours.read_u8().await.is_err());
    assert!(theirs.read_u8().await.is_err());
    assert!(closed(&pair.client).await.is_carrier_lost());
    assert!(closed(&pair.server).await.is_carrier_lost());
}

#[tokio::test]
async fn a_listener_that_is_dropped_leaves_its_carriers_alive() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    drop(server);
    pair.works().await;
    pair.client.close();
    assert_eq!(closed(&pair.server).await, CarrierError::ClosedByPeer);
}
