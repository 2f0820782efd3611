//! What holds on a path that loses packets, or everything.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use transports::quic::{QuicDialConfig, QuicListenConfig};
use transports::{CarrierError, DialError};

use crate::support::{LONG, Path, Server, client, closed, dial, numbered, server};

#[tokio::test]
async fn a_path_that_loses_a_twentieth_of_the_packets_delivers_everything() {
    let server = Server::start(server()).await;
    let path = Path::to(server.addr()).await;
    let pair = server.pair_over(path.addr, client()).await;
    path.lose(5);
    let sent = numbered(1024 * 1024);
    let mut ours = pair.client.open_stream().await.unwrap();
    ours.write_all(&sent).await.unwrap();
    // The end of the stream and of the carrier come after what was written.
    drop(ours);
    let mut theirs = pair.server.accept_stream().await.unwrap().unwrap();
    let mut received = Vec::new();
    let reading = timeout(2 * LONG, theirs.read_to_end(&mut received));
    reading.await.unwrap().unwrap();
    assert!(received == sent);
    let stats = pair.client.path_stats();
    assert!(stats.packets_lost.unwrap() > 0, "{stats:?}");
    assert!(stats.packets_sent.unwrap() > stats.packets_lost.unwrap());
    assert!(stats.rtt.is_some());
}

#[tokio::test]
async fn an_idle_carrier_is_kept_alive() {
    let idle_timeout = Duration::from_secs(1);
    let server = Server::start(QuicListenConfig {
        idle_timeout,
        ..server()
    })
    .await;
    // The client does it: its pings are what comes.
    let pair = server
        .pair(QuicDialConfig {
            idle_timeout,
            ..client()
        })
        .await;
    tokio::time::sleep(idle_timeout * 3).await;
    let mut ours = pair.client.open_stream().await.unwrap();
    ours.write_u8(7).await.unwrap();
    let mut theirs = pair.server.accept_stream().await.unwrap().unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), 7);
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
async fn a_server_that_does_not_answer_fails_the_dial_in_time() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let impatient = QuicDialConfig {
        timeout: Duration::from_millis(300),
        ..client()
    };
    let error = dial(silent.local_addr().unwrap(), impatient).await;
    let error = error.unwrap_err();
    let is_in_time = matches!(
        &error,
        DialError::Timeout { .. } | DialError::ConnectUdp { .. }
    );
    assert!(is_in_time, "{error}");
}
