//! Carriers come and go, and what users have of it is nothing.

use std::time::Duration;

use frp_core::hold::Status;
use frp_core::proto::hold::session::EndReason;
use frp_core::proto::hold::session_frame::GoodbyeReason;
use frp_core::proto::msg::Ping;
use frp_core::proto::{Message, path};
use frp_core::transports::memory::MemoryTransport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rig::{HeldClient, Rig};
use crate::client::{PATIENCE, closed, expect_echo, tcp, user, within};

#[tokio::test]
async fn a_users_connection_outlives_its_carrier() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    let mut user = user(port).await;
    expect_echo(&mut user, b"before").await;

    for round in 0..5 {
        rig.network.lose_all();
        let text = format!("round {round}");
        user.write_all(text.as_bytes()).await.unwrap();
        client.come_back(&rig).await;
        let mut back = vec![0; text.len()];
        within(user.read_exact(&mut back)).await.unwrap();
        assert_eq!(back, text.as_bytes());
    }
    // The one that the login came over is long gone.
    expect_echo(&mut user, &vec![7; 300_000]).await;
    expect_echo(&mut crate::client::user(port).await, b"somebody new").await;
}

#[tokio::test]
async fn a_standby_on_which_nothing_happened_for_long_takes_streams() {
    let time_to_log_in = Duration::from_millis(200);
    let network = MemoryTransport::new().with_keys();
    let rig = Rig::on(network.with_login_timeout(time_to_log_in), |_| {}).await;
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    let mut user = user(port).await;
    expect_echo(&mut user, b"before").await;

    client.join(rig.dial().await).await.unwrap();
    // It has joined, so that this is nothing to it.
    tokio::time::sleep(2 * time_to_log_in).await;
    client.use_last(true);
    expect_echo(&mut user, b"behind").await;
    expect_echo(&mut crate::client::user(port).await, b"somebody new").await;
}

#[tokio::test]
async fn a_switch_moves_users_while_their_bytes_are_under_way() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    let user = user(port).await;
    let (mut reader, mut writer) = user.into_split();
    let sent: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let to_send = sent.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&to_send).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let reading = tokio::spawn(async move {
        let mut back = Vec::new();
        reader.read_to_end(&mut back).await.unwrap();
        back
    });
    for _ in 0..4 {
        client.join(rig.dial().await).await.unwrap();
        client.use_last(true);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let old = client.paths.remove(0);
        old.carrier.close();
    }
    let back = tokio::time::timeout(4 * PATIENCE, reading).await;
    assert!(back.expect("everything comes back").unwrap() == sent);
    writing.await.unwrap();
}

#[tokio::test]
async fn a_thousand_idle_users_come_along() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    let mut users: Vec<TcpStream> = Vec::new();
    for _ in 0..1000 {
        users.push(user(port).await);
    }
    for user in &mut users {
        expect_echo(user, b"before").await;
    }
    // Both ways that there are: with the old carrier, and without it.
    client.join(rig.dial().await).await.unwrap();
    client.use_last(true);
    for user in &mut users {
        expect_echo(user, b"switched").await;
    }
    rig.network.lose_all();
    client.come_back(&rig).await;
    for user in &mut users {
        expect_echo(user, b"resumed").await;
    }
}

#[tokio::test]
async fn users_who_come_while_the_client_is_away_are_served_when_it_is_back() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    expect_echo(&mut user(port).await, b"before").await;

    rig.network.lose_all();
    let mut users: Vec<TcpStream> = Vec::new();
    for _ in 0..20 {
        let mut user = user(port).await;
        user.write_all(b"anybody there?").await.unwrap();
        users.push(user);
    }
    client.come_back(&rig).await;
    for user in &mut users {
        let mut back = [0; 14];
        within(user.read_exact(&mut back)).await.unwrap();
    }
}

#[tokio::test]
async fn users_wait_for_a_client_that_is_away_as_long_as_they_wait_for_any() {
    let rig = Rig::with(|config| config.user_conn_timeout = Duration::from_millis(200)).await;
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    let mut before = user(port).await;
    expect_echo(&mut before, b"before").await;

    rig.network.lose_all();
    let away = |status: &Status| status.holding_until.is_some();
    within(client.held.subscribe().wait_for(away))
        .await
        .unwrap();
    closed(&mut user(port).await).await;

    client.come_back(&rig).await;
    expect_echo(&mut before, b"still there").await;
    expect_echo(&mut user(port).await, b"and others").await;
}

#[tokio::test]
async fn a_heartbeat_that_cannot_come_does_not_end_a_session_that_is_held() {
    let rig = Rig::with(|config| {
        config.transport.heartbeat_timeout = Some(Duration::from_secs(1));
    })
    .await;
    let mut client = rig.client().await;
    client.tcp_proxy("web").await;

    rig.network.lose_all();
    tokio::time::sleep(Duration::from_millis(3500)).await;
    client.come_back(&rig).await;
    client.send(Ping::default()).await;
    assert!(matches!(client.next().await, Message::Pong(_)));
}

#[tokio::test]
async fn what_is_not_taken_up_within_the_grace_time_is_given_back() {
    let rig = Rig::with(|config| {
        config.transport.hold.grace = Duration::from_millis(300);
    })
    .await;
    let mut client = rig.client().await;
    assert_eq!(client.welcome().grace, Duration::from_millis(300));
    let port = client.tcp_proxy("web").await;
    client.echo();
    let mut user = user(port).await;
    expect_echo(&mut user, b"before").await;

    rig.network.lose_all();
    closed(&mut user).await;
    let mut other = rig.client().await;
    is_free(&mut other, port).await;
}

#[tokio::test]
async fn a_client_that_says_goodbye_leaves_nobody_waiting() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    let mut user = user(port).await;
    expect_echo(&mut user, b"before").await;

    let path = &client.paths[0];
    path.watch.goodbye(GoodbyeReason::STOPPED, PATIENCE).await;
    closed(&mut user).await;
    let mut other = rig.client().await;
    is_free(&mut other, port).await;
}

#[tokio::test]
async fn a_server_that_stops_says_so_on_every_carrier() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    client.join(rig.dial().await).await.unwrap();
    let mut user = user(port).await;
    expect_echo(&mut user, b"before").await;

    rig.handle.shut_down().await;
    let reason = within(client.held.over()).await;
    assert_eq!(reason, EndReason::GoodbyeByPeer(GoodbyeReason::STOPPED));
    closed(&mut user).await;
}

#[tokio::test]
async fn the_end_of_the_login_carrier_alone_is_no_end() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    client.join(rig.dial().await).await.unwrap();
    client.use_last(true);
    let mut user = user(port).await;
    expect_echo(&mut user, b"before").await;

    let login = client.paths.remove(0);
    login.carrier.close();
    expect_echo(&mut user, b"after").await;
    expect_echo(&mut crate::client::user(port).await, b"new").await;
}

#[tokio::test]
async fn a_carrier_is_watched_from_both_ends() {
    let rig = Rig::start().await;
    let client = rig.client().await;
    let watch = &client.paths[0].watch;
    watch.set_pace(path::Pace::Questioned);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while watch.report().heartbeats.total < 5 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "probes are answered"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(watch.report().heartbeats.lost, 0);
}

/// The port can be had again within moments.
async fn is_free(client: &mut HeldClient, port: u16) {
    let proxy = frp_core::proto::msg::NewProxy {
        remote_port: port.into(),
        ..tcp("another")
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let response = client.new_proxy(proxy.clone()).await;
        if response.error.is_empty() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{response:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
