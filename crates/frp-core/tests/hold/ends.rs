//! How streams and sessions end.

use std::io::ErrorKind;
use std::time::Duration;

use frp_core::hold::CarrierId;
use frp_proto::hold::session::{EndReason, SessionError};
use frp_proto::hold::session_frame::GoodbyeReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rig::*;
use super::traffic::*;

#[tokio::test]
async fn a_half_that_is_closed_leaves_the_other_one_open_over_a_switch() {
    let (pair, path) = Pair::connected().await;
    let (mut ours, mut theirs) = pair.open().await;
    ours.write_all(b"request").await.unwrap();
    ours.shutdown().await.unwrap();
    let mut request = Vec::new();
    theirs.read_to_end(&mut request).await.unwrap();
    assert_eq!(request, b"request");

    pair.replace(&path, false).await;
    let answer = bytes(2, 0, 300_000);
    let (sent, mut received) = (answer.clone(), Vec::new());
    let writing = tokio::spawn(async move {
        theirs.write_all(&sent).await.unwrap();
        theirs.shutdown().await.unwrap();
    });
    ours.read_to_end(&mut received).await.unwrap();
    assert!(received == answer);
    writing.await.unwrap();
    drop(ours);
    pair.wait_for_nothing().await;
}

#[tokio::test]
async fn a_reset_reaches_the_peer_also_over_the_next_carrier() {
    let (pair, path) = Pair::connected().await;
    let (mut ours, mut theirs) = pair.open().await;
    path.cut();
    ours.reset();
    assert!(ours.read_u8().await.is_err());
    pair.replace(&path, false).await;
    let error = theirs.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(theirs.write_all(b"x").await.is_err());
    drop((ours, theirs));
    pair.wait_for_nothing().await;

    let (mut ours, mut theirs) = pair.open().await;
    theirs.reset();
    assert!(ours.read_u8().await.is_err());
    drop((ours, theirs));
    pair.wait_for_nothing().await;
}

#[tokio::test]
async fn what_was_written_before_a_drop_is_still_sent() {
    let (pair, path) = Pair::connected().await;
    let (mut ours, mut theirs) = pair.open().await;
    let sent = bytes(1, 0, 60_000);
    path.cut();
    ours.write_all(&sent).await.unwrap();
    drop(ours);
    pair.replace(&path, false).await;
    let mut received = Vec::new();
    theirs.read_to_end(&mut received).await.unwrap();
    assert!(received == sent);
    drop(theirs);
    pair.wait_for_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_writing_to_a_dropped_stream_is_told_in_the_end() {
    let (pair, _path) = Pair::connected().await;
    let (ours, mut theirs) = pair.open().await;
    drop(ours);
    let block = vec![0; 10_000];
    let error = loop {
        if let Err(error) = theirs.write_all(&block).await {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    drop(theirs);
    pair.wait_for_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_carrier_the_session_lasts_for_the_grace_time() {
    let (pair, path) = Pair::connected().await;
    let (mut ours, mut theirs) = pair.open().await;
    let began = tokio::time::Instant::now();
    path.cut();
    wait_until(|| pair.server.status().holding_until.is_some()).await;
    assert!(pair.server.status().in_use.is_none());

    for session in [&pair.client, &pair.server] {
        assert_eq!(session.over().await, EndReason::GraceExpired);
    }
    assert!(began.elapsed() >= Duration::from_secs(60));
    for stream in [&mut ours, &mut theirs] {
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    }
    assert_eq!(pair.client.open_stream().unwrap_err(), SessionError::Over);
    drop((ours, theirs));
    pair.wait_for_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_carrier_within_the_grace_time_takes_the_session_up() {
    let (pair, path) = Pair::connected().await;
    let (mut ours, mut theirs) = pair.open().await;
    path.cut();
    tokio::time::sleep(Duration::from_secs(59)).await;
    ours.write_all(b"late").await.unwrap();
    pair.replace(&path, false).await;
    let mut buf = [0; 4];
    theirs.read_exact(&mut buf).await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(pair.server.status().over, None);
    assert_eq!(pair.server.status().holding_until, None);
}

#[tokio::test]
async fn an_ended_session_resets_every_stream_at_both_ends() {
    let (pair, path) = Pair::connected().await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(pair.open().await);
    }
    let reason = EndReason::GoodbyeHere(GoodbyeReason::STOPPED);
    pair.client.end(reason);
    assert_eq!(pair.client.over().await, reason);
    for (mut ours, mut theirs) in streams {
        let error = ours.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        let error = theirs.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "the frame came");
    }
    drop(path);
    pair.wait_for_nothing().await;
}

#[tokio::test]
async fn the_control_stream_is_held_from_the_first_byte() {
    let pair = Pair::new().await;
    let login = pair.dial().await;
    let ours = login.client.open_stream().await.unwrap();
    let mut ours = pair.client.hold_control(login.id, &login.client, ours);
    ours.write_all(b"Ping").await.unwrap();
    let theirs = login.server.accept_stream().await.unwrap().unwrap();
    let mut theirs = pair.server.hold_control(login.id, &login.server, theirs);
    let mut buf = [0; 4];
    theirs.read_exact(&mut buf).await.unwrap();

    pair.join(&login);
    pair.switch(&login, false);
    assert_eq!(pair.client.stats().n_moved, 0, "it is there already");
    theirs.write_all(b"Pong").await.unwrap();
    ours.read_exact(&mut buf).await.unwrap();

    ours.write_all(b"next").await.unwrap();
    let next = pair.replace(&login, true).await;
    theirs.read_exact(&mut buf).await.unwrap();
    login.cut();
    theirs.write_all(b"more").await.unwrap();
    ours.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"more");
    assert_eq!(pair.client.n_busy_streams(), 0);
    drop(next);
}

#[tokio::test]
async fn a_login_carrier_that_never_joins_takes_its_session_along() {
    let pair = Pair::new().await;
    let login = pair.dial().await;
    let ours = login.client.open_stream().await.unwrap();
    let mut ours = pair.client.hold_control(login.id, &login.client, ours);
    login.cut();
    assert_eq!(pair.client.over().await, EndReason::GraceExpired);
    assert!(ours.read_u8().await.is_err());
}

#[tokio::test]
async fn another_instance_of_the_client_ends_the_session() {
    let (pair, _path) = Pair::connected().await;
    let (_ours, mut theirs) = pair.open().await;
    assert!(!pair.server.handle_login([1; 16]));
    assert!(pair.server.handle_login([2; 16]));
    assert_eq!(pair.server.over().await, EndReason::TakenOver);
    assert!(theirs.read_u8().await.is_err());
}

#[tokio::test]
async fn a_carrier_that_is_taken_for_dead_is_left_although_it_is_open() {
    let (pair, path) = Pair::connected().await;
    let (mut ours, mut theirs) = pair.open().await;
    pair.client.lose_carrier(path.id);
    assert!(pair.client.carrier_in_use().is_none());
    assert_eq!(
        pair.client.use_carrier(CarrierId(99), false),
        Err(SessionError::NotJoined)
    );
    ours.write_all(b"later").await.unwrap();
    let next = pair.connect().await;
    pair.switch(&next, false);
    let mut buf = [0; 5];
    theirs.read_exact(&mut buf).await.unwrap();
    assert_eq!(pair.client.carrier_in_use().unwrap().0, next.id);
}
