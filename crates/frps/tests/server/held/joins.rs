//! Who may come to a session, and who may not.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use frp_core::conn::MessageStream;
use frp_core::hold::join::JoinFailure;
use frp_core::hold::{Generation, HeldSession};
use frp_core::proto::WireVersion;
use frp_core::proto::hold::Budget;
use frp_core::proto::hold::frame::{Ack, Attach, AttachStatus, Decoder, Frame};
use frp_core::proto::hold::join::{Join, JoinStatus, Joined};
use frp_core::proto::hold::key::SessionKey;
use frp_core::proto::hold::session::{Config, Role};
use frp_core::proto::msg::NewWorkConn;
use frp_core::transports::Carrier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rig::{HeldClient, Rig, exporter, hello, next_id};
use crate::client::{PATIENCE, closed, expect_echo, login_at, started, user, within};

#[tokio::test]
async fn wrong_proofs_are_refused_and_the_live_session_is_unharmed() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    let mut user = user(port).await;
    expect_echo(&mut user, b"before").await;

    let wrong = SessionKey::derive(&[0; 32], &[0; 32], &[0; 32], b"guessed");
    let thief = HeldSession::new(config(), *client.held.id(), wrong, &Budget::new(1 << 20));
    let nowhere = HeldSession::new(config(), [9; 16], key(), &Budget::new(1 << 20));
    for _ in 0..50 {
        for session in [&thief, &nowhere] {
            let carrier = rig.dial().await;
            for _ in 0..2 {
                let failure = join(session, &carrier).await.unwrap_err();
                assert!(
                    matches!(failure, JoinFailure::UnknownSession),
                    "{failure:?}"
                );
            }
            // Nothing more can be tried over it.
            within(carrier.closed()).await;
        }
    }
    expect_echo(&mut user, b"after").await;
    client.come_back(&rig).await;
    expect_echo(&mut user, b"still").await;
}

#[tokio::test]
async fn a_client_that_is_not_known_any_more_logs_in_over_the_same_carrier() {
    let rig = Rig::start().await;
    let forgotten = HeldSession::new(config(), [9; 16], key(), &Budget::new(1 << 20));
    let carrier = rig.dial().await;
    let failure = join(&forgotten, &carrier).await.unwrap_err();
    assert!(
        matches!(failure, JoinFailure::UnknownSession),
        "{failure:?}"
    );

    let login = login_at(1_700_000_000);
    let mut client = HeldClient::log_in(carrier, login, hello([1; 16])).await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    expect_echo(&mut user(port).await, b"here again").await;
}

#[tokio::test]
async fn a_proof_that_was_seen_elsewhere_is_worth_nothing() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    let mut user = user(port).await;

    let carrier = rig.dial().await;
    let generation = client.held.next_generation();
    let (key, id) = (client.held.key(), *client.held.id());
    let join = Join::new(key, id, generation, &exporter(&carrier));
    let elsewhere = rig.dial().await;
    let answer = ask(&elsewhere, &join).await;
    assert_eq!(answer.status, JoinStatus::Unknown);
    let answer = ask(&carrier, &join).await;
    assert_eq!(
        answer.status,
        JoinStatus::Ok,
        "where it belongs it is right"
    );
    expect_echo(&mut user, b"after").await;
}

#[tokio::test]
async fn carriers_from_before_the_last_switch_are_refused() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.join(rig.dial().await).await.unwrap();
    client.use_last(true);
    client.echo();
    // Over the new carrier, so that the server knows of it.
    expect_echo(&mut user(port).await, b"after the switch").await;

    let (key, id) = (client.held.key(), *client.held.id());
    for _ in 0..20 {
        let carrier = rig.dial().await;
        let join = Join::new(key, id, Generation(1), &exporter(&carrier));
        let answer = ask(&carrier, &join).await;
        let status = answer.verify(key, &join, &exporter(&carrier));
        assert_eq!(status, Ok(JoinStatus::OldGeneration));
        assert!(answer.generation > Generation(1));
    }
    expect_echo(&mut user(port).await, b"unharmed").await;
}

#[tokio::test]
async fn a_clients_carrier_and_streams_belong_to_no_other_client() {
    let rig = Rig::start().await;
    let mut one = rig.client().await;
    let port = one.tcp_proxy("web").await;
    let other = rig.log_in(login_at(1_700_000_000), hello([2; 16])).await;

    // Its carrier is a joined one, and its streams are held: but they are not those of the first.
    let mut conn = MessageStream::open(other.held.open_stream().unwrap(), WireVersion::V1);
    let message = NewWorkConn {
        run_id: one.response.run_id.clone(),
        ..NewWorkConn::default()
    };
    conn.write(&message.into()).await.unwrap();
    let refused = started(&mut conn).await;
    assert!(
        refused.error.ends_with("is no longer current"),
        "{refused:?}"
    );

    // Nor may its carrier join the session of the first, also by who has the key.
    let failure = join(&one.held, &other.paths[0].carrier).await.unwrap_err();
    assert!(
        matches!(failure, JoinFailure::UnknownSession),
        "{failure:?}"
    );

    one.echo();
    expect_echo(&mut user(port).await, b"unharmed").await;
}

#[tokio::test]
async fn a_held_stream_on_a_carrier_that_has_not_joined_is_told_so() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    let attach = Frame::Attach(Attach {
        stream: 2,
        generation: Generation(100),
        is_open: true,
        is_drain: false,
        ack: Ack::default(),
    });
    let mut bytes = Vec::new();
    attach.put_header(&mut bytes);
    let carrier = rig.dial().await;
    let mut stream = carrier.open_stream().await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    let frame = Decoder::default().decode(&mut Bytes::from(answer)).unwrap();
    let Some(Frame::Attached(attached)) = frame else {
        panic!("{frame:?}")
    };
    assert_eq!(attached.status, AttachStatus::NotJoined);
    assert!(client.held.status().over.is_none());
}

#[tokio::test]
async fn nobody_logs_in_over_a_held_stream() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    let mut conn = MessageStream::open(client.held.open_stream().unwrap(), WireVersion::V1);
    conn.write(&login_at(1_700_000_001).into()).await.unwrap();
    closed(&mut conn.into_stream()).await;
}

#[tokio::test]
async fn a_client_that_does_not_ask_for_it_has_no_held_streams() {
    let rig = Rig::start().await;
    let carrier = rig.dial().await;
    let mut hello = hello([1; 16]);
    hello.capabilities.clear();
    let login = frp_core::proto::msg::Login {
        holdfast: hello.into(),
        ..login_at(1_700_000_000)
    };
    let mut conn = MessageStream::open(carrier.open_stream().await.unwrap(), WireVersion::V1);
    conn.write(&login.into()).await.unwrap();
    let frp_core::proto::Message::LoginResp(response) = within(conn.read()).await.unwrap() else {
        panic!("something else")
    };
    let welcome = response.holdfast.get().unwrap();
    assert!(welcome.grace.is_zero() && welcome.proof.is_none());
}

#[tokio::test]
async fn a_join_right_behind_the_login_finds_the_session() {
    let rig = Rig::start().await;
    for n in 0..20 {
        let carrier = rig.dial().await;
        let mut hello = hello([n; 16]);
        hello.client_random = [n; 32];
        let mut client = HeldClient::log_in_only(&carrier, login_at(1_700_000_000), hello).await;
        let (a, b) = (rig.dial().await, rig.dial().await);
        client.join(a).await.unwrap();
        client.join(b).await.unwrap();
    }
}

#[tokio::test]
async fn carriers_that_a_client_has_left_behind_are_not_in_the_way_of_new_ones() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    expect_echo(&mut user(port).await, b"before").await;
    // Each has announced a probe that never comes.
    let mut left = Vec::new();
    for _ in 0..15 {
        client.join(rig.dial().await).await.unwrap();
        let path = client.paths.pop().unwrap();
        path.watch.set_pace(frp_core::proto::path::Pace::Questioned);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while path.watch.report().heartbeats.total == 0 {
            assert!(tokio::time::Instant::now() < deadline, "it is watched");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        drop(path.watch);
        left.push(path.carrier);
    }
    let full = client.join(rig.dial().await).await.unwrap_err();
    assert!(matches!(full, JoinFailure::Refused(_)), "{full:?}");

    tokio::time::sleep(std::time::Duration::from_millis(3500)).await;
    client.join(rig.dial().await).await.unwrap();
    client.use_last(true);
    expect_echo(&mut user(port).await, b"after").await;
}

async fn join(session: &Arc<HeldSession>, carrier: &Arc<dyn Carrier>) -> Result<(), JoinFailure> {
    let joined = frp_core::hold::join::join(session, next_id(), carrier, PATIENCE).await;
    joined.map(drop)
}

async fn ask(carrier: &Arc<dyn Carrier>, join: &Join) -> Joined {
    let mut message = Vec::new();
    join.encode(&mut message);
    let mut stream = carrier.open_stream().await.unwrap();
    stream.write_all(&message).await.unwrap();
    let mut answer = [0; Joined::LEN];
    within(stream.read_exact(&mut answer)).await.unwrap();
    let decoded = Joined::decode(&mut BytesMut::from(&answer[..])).unwrap();
    // The carrier lives on with the answer, as long as the stream does.
    std::mem::forget(stream);
    decoded.unwrap()
}

fn config() -> Config {
    Config {
        role: Role::Client,
        instance: [7; 16],
        grace: PATIENCE,
        max_streams: 10,
        max_bytes: 1 << 20,
    }
}

fn key() -> SessionKey {
    SessionKey::derive(&[1; 32], &[2; 32], &[3; 32], b"token")
}
