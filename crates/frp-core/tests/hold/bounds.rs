//! What grows, and what must not; and that nobody sleeps who should be awake.

use std::time::Duration;

use frp_core::hold::RouteError;
use frp_proto::hold::session::SessionError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rig::*;
use super::traffic::*;

#[tokio::test]
async fn a_reader_that_does_not_read_stops_its_writer_and_no_one_else() {
    let (pair, path) = Pair::connected().await;
    let (mut ours, mut theirs) = pair.open().await;
    let writing = tokio::spawn(async move {
        let mut n = 0;
        while n < 10_000_000 {
            ours.write_all(&bytes(1, n, 50_000)).await.unwrap();
            n += 50_000;
        }
        ours.shutdown().await.unwrap();
        ours
    });
    let mut random = Random::seeded(4);
    exchange(pair.open().await, 3_000_000, &mut random)
        .await
        .unwrap();
    assert!(!writing.is_finished());
    // The first window at one end, and as much again that waits at the other.
    assert!(pair.server.stats().kept_bytes <= 64 * 1024);
    assert!(pair.client.stats().kept_bytes <= 128 * 1024);

    pair.replace(&path, false).await;
    let mut received = Vec::new();
    theirs.read_to_end(&mut received).await.unwrap();
    assert!(received == bytes(1, 0, 10_000_000));
    drop((writing.await.unwrap(), theirs));
    pair.wait_for_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_budget_every_stream_still_goes_on() {
    let mut random = Random::seeded(5);
    let pair = Pair::with(|config| config.max_bytes = 100_000).await;
    let path = pair.connect().await;
    pair.switch(&path, false);
    let mut exchanges = Vec::new();
    for _ in 0..20 {
        exchanges.push(exchange(pair.open().await, 200_000, &mut random));
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let next = pair.replace(&path, false).await;
    for exchange in exchanges {
        exchange.await.unwrap();
    }
    drop(next);
    pair.wait_for_nothing().await;
}

#[tokio::test]
async fn streams_beyond_the_bound_are_refused() {
    let pair = Pair::with(|config| config.max_streams = 3).await;
    let path = pair.connect().await;
    pair.switch(&path, false);
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(pair.open().await);
    }
    let refused = pair.client.open_stream().unwrap_err();
    assert_eq!(refused, SessionError::TooManyStreams);
    streams.clear();
    pair.wait_for_nothing().await;
    drop(pair.open().await);
}

#[tokio::test]
async fn what_is_no_attachment_costs_its_stream_only() {
    let (pair, path) = Pair::connected().await;
    let (mut ours, mut theirs) = pair.open().await;
    // A whole ATTACH of a stream that is known, with an old number; of an unknown one; frames
    // that come before it; what is no frame; an end within one.
    for (sent, expected) in [
        (&b"\x84\x00\x02\x01\x00\x00"[..], "refused"),
        (b"\x84\x00\x08\x3f\x00\x00", "refused"),
        (b"\x81\x00\x00", "no attachment"),
        (b"\x20", "no attachment"),
        (b"\x84\x00\x02", "no attachment"),
        (b"\x84\x04\x02\x01\x00\x00", "no attachment"),
        (b"", "no attachment"),
    ] {
        let side = pair.dial().await;
        let mut stream = side.client.open_stream().await.unwrap();
        stream.write_all(sent).await.unwrap();
        stream.shutdown().await.unwrap();
        let route = side.server.accept_stream().await.unwrap().unwrap();
        let error = pair.server.accept_route(path.id, route).await.unwrap_err();
        let found = match error {
            RouteError::Attach(_) => "no attachment",
            RouteError::Refused(_) => "refused",
        };
        assert_eq!(found, expected, "{sent:?}: {error}");
    }
    let n_refused = pair.server.stats().n_refused;
    assert_eq!(n_refused, 4, "an overtaken switch is nobody's fault");
    ours.write_all(b"x").await.unwrap();
    theirs.read_u8().await.unwrap();
}

#[tokio::test]
async fn nonsense_on_a_route_costs_the_route_only() {
    let pair = Pair::new().await;
    let path = pair.dial().await;
    pair.server
        .add_carrier(path.id, pair.client.next_generation(), path.server.clone())
        .unwrap();
    // A client of another kind.
    let attach = |generation: u8, flags: u8| vec![0x84, flags, 2, generation, 0, 0];
    let mut stream = path.client.open_stream().await.unwrap();
    stream.write_all(&attach(5, 1)).await.unwrap();
    stream.write_all(b"\x80\x00\x05first").await.unwrap();
    let route = path.server.accept_stream().await.unwrap().unwrap();
    let theirs = pair.server.accept_route(path.id, route).await.unwrap();
    let mut theirs = theirs.unwrap();
    let mut buf = [0; 5];
    theirs.read_exact(&mut buf).await.unwrap();

    for (generation, nonsense) in [
        (6, &b"\xff"[..]),
        (7, b"\x81\x09\x00"),
        (8, b"\x80\x80\x20\x00\x00\x01x"),
        (9, b"\x84\x00\x02\x05\x00\x00"),
        (10, b"\x86"),
    ] {
        let mut stream = path.client.open_stream().await.unwrap();
        stream.write_all(&attach(generation, 0)).await.unwrap();
        let route = path.server.accept_stream().await.unwrap().unwrap();
        let known = pair.server.accept_route(path.id, route).await.unwrap();
        assert!(known.is_none());
        let before = pair.server.stats().n_refused;
        stream.write_all(nonsense).await.unwrap();
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).await.is_err(), "it is reset");
        assert_eq!(pair.server.stats().n_refused, before + 1, "{nonsense:?}");
    }
    let mut stream = path.client.open_stream().await.unwrap();
    stream.write_all(&attach(20, 0)).await.unwrap();
    stream.write_all(b"\x80\x05\x05again").await.unwrap();
    let route = path.server.accept_stream().await.unwrap().unwrap();
    pair.server.accept_route(path.id, route).await.unwrap();
    theirs.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn many_small_messages_are_all_answered() {
    // A wake-up that is lost leaves one of these waiting for ever.
    let mut random = Random::seeded(6);
    let (pair, path) = Pair::connected().await;
    let mut echoes = Vec::new();
    for _ in 0..8 {
        let (mut ours, theirs) = pair.open().await;
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(theirs);
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
            let _ = writer.shutdown().await;
        });
        let mut random = Random(random.next());
        echoes.push(tokio::spawn(async move {
            for _ in 0..3_000 {
                let asked = bytes(
                    3,
                    random.below(1000),
                    1 + usize::try_from(random.below(40)).unwrap(),
                );
                ours.write_all(&asked).await.unwrap();
                let mut answer = vec![0; asked.len()];
                ours.read_exact(&mut answer).await.unwrap();
                assert_eq!(answer, asked);
            }
        }));
    }
    let mut before = path;
    while echoes.iter().any(|echo| !echo.is_finished()) {
        tokio::time::sleep(Duration::from_millis(40)).await;
        before = pair.replace(&before, false).await;
    }
    for echo in echoes {
        let in_time = tokio::time::timeout(PATIENCE, echo).await;
        in_time.expect("nobody sleeps for ever").unwrap();
    }
    pair.wait_for_nothing().await;
}
