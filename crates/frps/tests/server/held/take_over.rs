//! The next process of a client takes the place of the one before.

use std::time::Duration;

use frp_core::proto::Message;
use frp_core::proto::extension::Resume;
use frp_core::proto::hold::session::EndReason;
use frp_core::proto::hold::session_frame::GoodbyeReason;
use frp_core::proto::msg::{Login, NewProxy, Ping};

use super::rig::{HeldClient, Rig, exporter, hello};
use crate::client::{closed, expect_echo, login_at, port_of, tcp, user, within};

#[tokio::test]
async fn a_proven_successor_has_the_ports_at_once() {
    let rig = Rig::start().await;
    let mut old = rig.client().await;
    let port = old.tcp_proxy("web").await;
    old.echo();
    let mut old_user = user(port).await;
    expect_echo(&mut old_user, b"before").await;

    let mut new = successor(&rig, &old, true).await;
    // Nobody waits for the grace time of a process that is no more.
    closed(&mut old_user).await;
    let response = new.new_proxy(at(port)).await;
    assert_eq!((response.error.as_str(), port_of(&response)), ("", port));
    new.echo();
    expect_echo(&mut user(port).await, b"after").await;
    let reason = within(old.held.over()).await;
    let taken_over = GoodbyeReason::TAKEN_OVER;
    assert_eq!(reason, EndReason::GoodbyeByPeer(taken_over));
}

#[tokio::test]
async fn a_wrong_proof_takes_nothing_over() {
    let rig = Rig::start().await;
    let mut old = rig.client().await;
    let port = old.tcp_proxy("web").await;
    old.echo();
    let mut old_user = user(port).await;

    let mut thief = successor(&rig, &old, false).await;
    expect_echo(&mut old_user, b"unharmed").await;
    let response = thief.new_proxy(at(port)).await;
    assert_ne!(response.error, "");
    expect_echo(&mut user(port).await, b"and open").await;
}

#[tokio::test]
async fn a_successor_without_proof_waits_for_a_sign_of_life_of_who_is_in_its_way() {
    let rig = Rig::start().await;
    let mut old = rig.client().await;
    let port = old.tcp_proxy("web").await;
    let mut old_user = user(port).await;
    // Killed: its connection is gone, and it does not come back.
    rig.network.lose_all();

    let mut new = rig.log_in(login_at(1_700_000_000), hello([2; 16])).await;
    new.send(at(port)).await;
    // Its other messages are answered meanwhile.
    new.send(Ping::default()).await;
    assert!(matches!(new.next().await, Message::Pong(_)));
    let Message::NewProxyResp(response) = new.next().await else {
        panic!("something else")
    };
    assert_eq!((response.error.as_str(), port_of(&response)), ("", port));
    closed(&mut old_user).await;
    new.echo();
    expect_echo(&mut user(port).await, b"after").await;
}

#[tokio::test]
async fn a_proxy_that_a_live_client_has_is_not_taken() {
    let rig = Rig::start().await;
    let mut old = rig.client().await;
    let port = old.tcp_proxy("web").await;
    old.echo();
    // Longer than the time in which its last message counts as life.
    tokio::time::sleep(Duration::from_millis(3200)).await;

    let mut new = rig.log_in(login_at(1_700_000_000), hello([2; 16])).await;
    let by_name = new.new_proxy(tcp("web")).await;
    assert_eq!(by_name.error, "proxy [web] already exists");
    let by_port = new.new_proxy(NewProxy {
        remote_port: port.into(),
        ..tcp("other")
    });
    assert_eq!(by_port.await.error, "port already used");
    expect_echo(&mut user(port).await, b"unharmed").await;
}

#[tokio::test]
async fn another_users_silent_client_is_left_alone() {
    let rig = Rig::start().await;
    let mut old = rig.client().await;
    let port = old.tcp_proxy("web").await;
    rig.network.lose_all();

    let login = Login {
        user: "somebody else".to_owned(),
        ..login_at(1_700_000_000)
    };
    let mut new = rig.log_in(login, hello([2; 16])).await;
    let response = new.new_proxy(at(port)).await;
    assert_ne!(response.error, "");
    old.come_back(&rig).await;
    old.echo();
    expect_echo(&mut user(port).await, b"unharmed").await;
}

/// The next process of the same client, which kept its run id or has nothing but a guess.
async fn successor(rig: &Rig, old: &HeldClient, is_proven: bool) -> HeldClient {
    let carrier = rig.dial().await;
    let session_id = *old.held.id();
    let key = old.held.key().resume_key();
    let proof = if is_proven {
        key.proof(&session_id, &exporter(&carrier))
    } else {
        [0; 32]
    };
    let mut hello = hello([2; 16]);
    hello.resume = Some(Resume { session_id, proof });
    let login = login_at(1_700_000_000);
    HeldClient::log_in(carrier, login, hello).await
}

fn at(port: u16) -> NewProxy {
    NewProxy {
        remote_port: port.into(),
        ..tcp("web")
    }
}
