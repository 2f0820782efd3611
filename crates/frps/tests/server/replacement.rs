//! A new session in the place of an old one: when that is right, and when it is not.

use frp_core::proto::msg::{Login, Ping};
use frp_core::proto::{Message, WireVersion};
use frp_core::work::WorkOptions;
use tokio::io::AsyncReadExt;

use crate::client::{
    Client, TestServer, expect_echo, login, login_at, port_of, started, tcp, user, within,
};

/// A login of the same client, `seconds` after its first.
fn again(client: &Client, seconds: i64) -> Login {
    Login {
        run_id: client.run_id().to_owned(),
        ..login_at(login().timestamp + seconds)
    }
}

#[tokio::test]
async fn a_client_that_comes_back_finds_its_names_and_ports_free() {
    let server = TestServer::start().await;
    let mut old = server.client().await;
    let port = old.tcp_proxy("web").await;

    let mut new = server
        .log_in(WireVersion::V1, again(&old, 1))
        .await
        .unwrap();
    assert_eq!(new.run_id(), old.run_id());
    let proxy = frp_core::proto::msg::NewProxy {
        remote_port: port.into(),
        ..tcp("web")
    };
    let response = new.new_proxy(proxy).await;
    assert_eq!((response.error.as_str(), port_of(&response)), ("", port));
    old.ended().await;

    let _echo = new.echo(WorkOptions::default());
    expect_echo(&mut user(port).await, b"hello").await;
}

#[tokio::test]
async fn users_of_the_old_session_stay_while_its_carrier_lives() {
    let server = TestServer::start().await;
    let mut old = server.client().await;
    let port = old.tcp_proxy("web").await;
    let mut work_stream = old.open_work_stream().await;
    let mut user = user(port).await;
    started(&mut work_stream).await;

    let _new = server
        .log_in(WireVersion::V1, again(&old, 1))
        .await
        .unwrap();
    old.ended().await;
    let mut stream = work_stream.into_stream();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"still here")
        .await
        .unwrap();
    let mut buf = [0; 10];
    within(user.read_exact(&mut buf)).await.unwrap();
}

#[tokio::test]
async fn a_repeated_login_does_not_displace_a_session_that_lives() {
    let server = TestServer::start().await;
    let first = server.client().await;
    let recorded = again(&first, 1);
    let mut live = server
        .log_in(WireVersion::V1, recorded.clone())
        .await
        .unwrap();

    let stale = [recorded.clone(), again(&first, 0), again(&first, -100)];
    for login in stale {
        let refused = server.log_in(WireVersion::V1, login).await.err().unwrap();
        assert_eq!(
            refused.error,
            "this login repeats an earlier one, and the session of that one is alive"
        );
    }
    live.send(Ping::default()).await;
    assert!(matches!(live.next().await, Message::Pong(_)));
}

#[tokio::test]
async fn a_live_session_proves_itself_even_when_it_was_silent_for_long() {
    let server = TestServer::start().await;
    let first = server.client().await;
    let recorded = again(&first, 1);
    let live = server
        .log_in(WireVersion::V1, recorded.clone())
        .await
        .unwrap();
    let _echo = live.echo(WorkOptions::default());
    // Longer than the time in which the last message counts as life.
    tokio::time::sleep(std::time::Duration::from_millis(3200)).await;
    assert!(server.log_in(WireVersion::V1, recorded).await.is_err());
}

#[tokio::test]
async fn a_repeated_login_is_good_once_the_old_session_is_gone() {
    let server = TestServer::start().await;
    let first = server.client().await;
    let login = again(&first, 0);
    drop(first);
    // A Go client does this within the second of its timestamp.
    let mut refusals = 0;
    while server.log_in(WireVersion::V1, login.clone()).await.is_err() {
        refusals += 1;
        assert!(refusals < 100, "the old session ends");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_repeated_login_is_good_once_the_old_session_is_dead() {
    let server = TestServer::start().await;
    // Its carrier stays open, but it answers nothing.
    let dead = server.client().await;
    tokio::time::sleep(std::time::Duration::from_millis(3200)).await;
    server
        .log_in(WireVersion::V1, again(&dead, 0))
        .await
        .unwrap();
}

#[tokio::test]
async fn two_live_clients_with_one_run_id_do_not_displace_each_other_for_ever() {
    let server = TestServer::start().await;
    let mut seconds = 0;
    let mut client = server.client().await;
    for _ in 0..3 {
        seconds += 1;
        let next = server
            .log_in(WireVersion::V1, again(&client, seconds))
            .await
            .unwrap();
        client = next;
    }
    let next = again(&client, 10);
    let _live = client.echo(WorkOptions::default());
    let refused = server.log_in(WireVersion::V1, next).await.err().unwrap();
    assert!(
        refused
            .error
            .starts_with("another client with the same run id"),
        "{refused:?}"
    );
}
