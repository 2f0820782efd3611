//! Publishing: opening proxies, serving users, changing the set, ending.

use std::time::Duration;

use frp_core::config::{Bandwidth, ProxyKind, ProxyProtocol};
use frp_core::proto::auth;
use frp_core::proto::msg::{Message, NewProxyResp, StartWorkConn};
use frp_core::transports::memory::MemoryTransport;
use frp_core::work::{self, WorkOptions};
use frpc::control::Services;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::server::{Frps, TOKEN, echo_service, echoes, soon, tcp, v2, wait_for_status};

#[tokio::test]
async fn a_user_reaches_the_local_service_in_both_versions() {
    for change in [|_: &mut _| (), v2] {
        let frps = Frps::start().await;
        let port = echo_service().await;
        let _client = frps.client(|config| {
            change(config);
            config.user = "me".to_owned();
            config.proxies = vec![tcp("echo", port)];
        });
        let mut session = frps.log_in("id").await;
        let proxy = session.agree().await;
        assert_eq!(
            (proxy.proxy_name.as_str(), proxy.proxy_type.as_str()),
            ("me.echo", "tcp")
        );

        let mut user = session.connect_user("me.echo").await;
        echoes(&mut user, b"hello").await;
        echoes(&mut user, &vec![5; 300_000]).await;
    }
}

#[tokio::test]
async fn without_multiplexing_every_conn_is_a_carrier() {
    let frps = Frps::on(MemoryTransport::single_stream()).await;
    let port = echo_service().await;
    let _client = frps.client(|config| config.proxies = vec![tcp("echo", port)]);
    let mut session = frps.log_in("id").await;
    session.agree().await;
    session
        .send(frp_core::proto::msg::ReqWorkConn::default())
        .await;
    let _control = std::mem::replace(&mut session.carrier, frps.accept().await);
    let mut conn = session.accept_conn().await;
    assert!(matches!(
        conn.read().await.unwrap(),
        Message::NewWorkConn(_)
    ));
    let start = StartWorkConn {
        proxy_name: "echo".to_owned(),
        ..StartWorkConn::default()
    };
    conn.write(&start.into()).await.unwrap();
    echoes(&mut conn.into_stream(), b"hello").await;
}

#[tokio::test]
async fn encryption_and_compression_go_around_the_users_bytes() {
    let frps = Frps::start().await;
    let port = echo_service().await;
    let _client = frps.client(|config| {
        let mut proxy = tcp("echo", port);
        proxy.transport.use_encryption = true;
        proxy.transport.use_compression = true;
        config.proxies = vec![proxy];
    });
    let mut session = frps.log_in("id").await;
    let proxy = session.agree().await;
    assert!(proxy.use_encryption && proxy.use_compression);
    let user = session.connect_user("echo").await;
    let mut user = work::wrap(user, &WorkOptions::new(true, true, TOKEN.as_bytes()));
    echoes(&mut user, &vec![b'a'; 100_000]).await;
}

#[tokio::test]
async fn a_bandwidth_limit_of_the_client_slows_its_users_down() {
    let frps = Frps::start().await;
    let port = echo_service().await;
    let _client = frps.client(|config| {
        let mut proxy = tcp("echo", port);
        proxy.transport.bandwidth_limit = Bandwidth::parse("10KB").unwrap();
        config.proxies = vec![proxy];
    });
    let mut session = frps.log_in("id").await;
    assert_eq!(session.agree().await.bandwidth_limit, "10KB");
    let mut user = session.connect_user("echo").await;
    let start = std::time::Instant::now();
    // 15 KiB there and 15 back, 10 of them at once from a full bucket.
    echoes(&mut user, &[1; 15 * 1024]).await;
    assert!(
        start.elapsed() > Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn the_service_is_told_its_user_when_it_wants_to_know() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let frps = Frps::start().await;
    let _client = frps.client(|config| {
        let mut proxy = tcp("web", port);
        proxy.transport.proxy_protocol_version = Some(ProxyProtocol::V1);
        config.proxies = vec![proxy];
    });
    let mut session = frps.log_in("id").await;
    session.agree().await;
    let mut user = session.connect_user("web").await;
    user.write_all(b"hello").await.unwrap();
    let (mut conn, _) = listener.accept().await.unwrap();
    let expected = b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 80\r\nhello";
    let mut got = vec![0; expected.len()];
    soon("header", conn.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn a_user_of_a_service_that_is_down_is_sent_away() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let frps = Frps::start().await;
    let _client = frps.client(|config| config.proxies = vec![tcp("down", port)]);
    let mut session = frps.log_in("id").await;
    session.agree().await;
    let mut user = session.connect_user("down").await;
    let mut buf = [0; 1];
    assert!(matches!(
        soon("end", user.read(&mut buf)).await,
        Ok(0) | Err(_)
    ));
    session.take_work_conn().await;
}

#[tokio::test]
async fn a_work_conn_for_a_proxy_that_does_not_run_is_closed() {
    let frps = Frps::start().await;
    let _client = frps.client(|config| config.proxies = vec![tcp("ssh", 22)]);
    let mut session = frps.log_in("id").await;
    session.next_proxy().await;
    for name in ["ssh", "nobody", ""] {
        let mut user = session.connect_user(name).await;
        let mut buf = [0; 1];
        assert!(
            matches!(soon("end", user.read(&mut buf)).await, Ok(0) | Err(_)),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_scope_for_work_conns_adds_a_key() {
    let frps = Frps::start().await;
    let _client = frps.client(|config| config.auth.additional_scopes.new_work_conns = true);
    let mut session = frps.log_in("id").await;
    let (message, _) = session.take_work_conn().await;
    assert_eq!(message.run_id, "id");
    assert!(auth::verify(
        &message.privilege_key,
        TOKEN.as_bytes(),
        message.timestamp
    ));
}

#[tokio::test]
async fn a_refused_proxy_says_why_and_the_others_run() {
    let frps = Frps::start().await;
    let client = frps.client(|config| config.proxies = vec![tcp("a", 1), tcp("b", 2)]);
    let mut session = frps.log_in("id").await;
    let refused = session.next_proxy().await;
    let error = "port already used".to_owned();
    let answer = NewProxyResp {
        proxy_name: refused.proxy_name,
        error,
        ..NewProxyResp::default()
    };
    session.send(answer).await;
    session.agree().await;
    let expected = "a=start error port already used, b=running";
    wait_for_status(&client.client, "status", |status| status == expected).await;
}

#[tokio::test]
async fn a_reload_leaves_unchanged_proxies_and_their_connections_alone() {
    let frps = Frps::start().await;
    let port = echo_service().await;
    let (same, changed, gone) = (tcp("same", port), tcp("changed", port), tcp("gone", port));
    let client = frps.client(|config| {
        config.proxies = vec![changed.clone(), gone, same.clone()];
    });
    let mut session = frps.log_in("id").await;
    for _ in 0..3 {
        session.agree().await;
    }
    let mut user = session.connect_user("same").await;
    echoes(&mut user, b"before").await;

    let mut moved = changed;
    moved.kind = ProxyKind::Tcp { remote_port: 6001 };
    let services = Services {
        proxies: vec![moved, tcp("new", port), same],
        visitors: vec![],
    };
    client.client.update(services).await;

    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(match session.next().await {
            Message::CloseProxy(m) => format!("close {}", m.proxy_name),
            Message::NewProxy(m) => format!("open {}", m.proxy_name),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(
        told,
        ["close changed", "close gone", "open changed", "open new"]
    );
    echoes(&mut user, b"after").await;
}

#[tokio::test]
async fn services_that_change_without_a_session_are_opened_by_the_next() {
    let frps = Frps::start().await;
    let client = frps.client(|config| config.login_fail_exit = false);
    let services = Services {
        proxies: vec![tcp("new", 22)],
        visitors: vec![],
    };
    client.client.update(services).await;
    let mut session = frps.log_in("id").await;
    assert_eq!(session.next_proxy().await.proxy_name, "new");
}

#[tokio::test]
async fn a_graceful_stop_takes_the_proxies_back_and_ends_without_an_error() {
    let frps = Frps::start().await;
    let mut client = frps.client(|config| config.proxies = vec![tcp("a", 1), tcp("b", 2)]);
    let mut session = frps.log_in("id").await;
    session.agree().await;
    session.agree().await;

    let stopping = client.client.clone();
    let stopped = tokio::spawn(async move { stopping.stop(Duration::from_millis(100)).await });
    for name in ["a", "b"] {
        let Message::CloseProxy(close) = session.next().await else {
            panic!("no CloseProxy")
        };
        assert_eq!(close.proxy_name, name);
    }
    session.closed().await;
    stopped.await.unwrap();
    soon("end", &mut client.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_before_the_first_login_ends_the_program_too() {
    let transport = MemoryTransport::new();
    transport.set_reachable(false);
    let frps = Frps::on(transport).await;
    let mut client = frps.client(|config| config.login_fail_exit = false);
    client.client.stop(Duration::ZERO).await;
    soon("end", &mut client.task).await.unwrap().unwrap();
}
