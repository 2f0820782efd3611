//! What a stream does to its peer, and to the other streams.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use transports::quic::{QuicDialConfig, QuicListenConfig, Windows};
use transports::{CarrierError, Class};

use crate::support::{LONG, Server, client, closed, numbered, server};

#[tokio::test]
async fn what_a_peer_wrote_before_it_dropped_the_stream_is_read_while_one_goes_on_writing() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    for len in [0, 1, 200_000] {
        let (mut ours, mut theirs) = pair.stream().await;
        let sent = numbered(len);
        theirs.write_all(&sent).await.unwrap();
        drop(theirs);
        // The news that nobody reads comes with the end of what was written, or before it.
        for _ in 0..20 {
            ours.write_all(&[1; 1_000]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut received = Vec::new();
        let reading = ours.read_to_end(&mut received);
        timeout(LONG, reading).await.unwrap().unwrap();
        assert!(received == sent);
        let error = ours.write_all(b"late").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

#[tokio::test]
async fn a_writer_without_end_waits_for_the_reading_once_its_peer_is_gone() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    let (ours, theirs) = pair.stream().await;
    drop(theirs);
    let (mut read, mut write) = tokio::io::split(ours);
    let writing = tokio::spawn(async move {
        let chunk = [0; 16 * 1024];
        loop {
            if let Err(error) = write.write_all(&chunk).await {
                return error;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!writing.is_finished());
    assert_eq!(read.read(&mut [0]).await.unwrap(), 0);
    let error = timeout(LONG, writing).await.unwrap().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn streams_that_nobody_reads_do_not_use_up_the_connections_window() {
    let windows = Windows {
        stream: 256 * 1024,
        connection: 512 * 1024,
        ..Windows::default()
    };
    let server = Server::start(QuicListenConfig {
        windows,
        ..server()
    })
    .await;
    let pair = server.pair(client()).await;
    let mut stuck = Vec::new();
    for _ in 0..12 {
        let (mut ours, theirs) = pair.stream().await;
        let filling = async { ours.write_all(&vec![0; 200 * 1024]).await.unwrap() };
        timeout(LONG, filling).await.expect("there is room");
        stuck.push((ours, theirs));
    }
    pair.works().await;
}

#[tokio::test]
async fn an_urgent_stream_does_not_wait_behind_bulk() {
    let windows = Windows {
        stream: 64 * 1024 * 1024,
        ..Windows::default()
    };
    let server = Server::start(QuicListenConfig {
        windows,
        ..server()
    })
    .await;
    let small_send_window = Windows {
        send: 256 * 1024,
        ..windows
    };
    let path = crate::support::Path::to(server.addr()).await;
    let client = QuicDialConfig {
        windows: small_send_window,
        ..client()
    };
    let pair = server.pair_over(path.addr, client).await;
    let (mut bulk, _unread) = pair.stream().await;
    let (mut urgent, _theirs) = pair.stream().await;
    urgent.set_class(Class::Control);
    // Nothing is acknowledged any more, so the window stays as full as it is.
    path.silence_server();
    let filling = tokio::spawn(async move {
        let _ = bulk.write_all(&vec![0; 16 * 1024 * 1024]).await;
    });
    while pair.client.path_stats().bytes_sent < 256 * 1024 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let writing = urgent.write_all(b"now");
    timeout(LONG, writing).await.unwrap().unwrap();
    assert!(!filling.is_finished());
    filling.abort();
}

#[tokio::test]
async fn a_client_at_the_peers_bound_waits_for_a_stream_to_end() {
    let server = Server::start(QuicListenConfig {
        max_incoming_streams: 2,
        ..server()
    })
    .await;
    let pair = server.pair(client()).await;
    let first = pair.stream().await;
    let _second = pair.stream().await;
    let early = timeout(Duration::from_millis(200), pair.client.open_stream()).await;
    assert!(early.is_err(), "two are open");
    drop(first);
    timeout(LONG, pair.stream()).await.unwrap();
}

#[tokio::test]
async fn a_drained_carrier_delivers_what_its_last_stream_wrote_and_closes() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    let (mut ours, mut theirs) = pair.stream().await;
    pair.client.drain();
    let sent = numbered(3_000_000);
    let writing = tokio::spawn({
        let sent = sent.clone();
        async move {
            ours.write_all(&sent).await.unwrap();
            drop(ours);
        }
    });
    let mut received = Vec::new();
    let reading = theirs.read_to_end(&mut received);
    timeout(LONG, reading).await.unwrap().unwrap();
    assert!(received == sent);
    writing.await.unwrap();
    assert_eq!(closed(&pair.client).await, CarrierError::ClosedHere);
    assert_eq!(closed(&pair.server).await, CarrierError::ClosedByPeer);
    assert!(pair.server.accept_stream().await.unwrap().is_none());
}
