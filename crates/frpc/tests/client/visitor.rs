//! Visiting: local ports that lead to other people's secret proxies.

use std::net::TcpListener as StdListener;
use std::time::Duration;

use frp_core::config::{VisitorConfig, VisitorKind};
use frp_core::proto::auth;
use frp_core::proto::msg::{Message, NewVisitorConn, NewVisitorConnResp};
use frp_core::work::{self, WorkOptions};
use frpc::control::Services;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::server::{Frps, Session, echoes, is_closed, soon, v2};

fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn visitor(port: i32) -> VisitorConfig {
    let mut visitor = VisitorConfig::new("door", "secret", port, VisitorKind::Stcp);
    visitor.secret_key = "the key".into();
    visitor
}

async fn connect(port: u16) -> TcpStream {
    let connected = async {
        loop {
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(conn) => return conn,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    soon("visitor's listener", connected).await
}

async fn accept_visitor(session: &mut Session) -> (NewVisitorConn, frp_core::conn::MessageStream) {
    let mut conn = session.accept_conn().await;
    match soon("NewVisitorConn", conn.read()).await.unwrap() {
        Message::NewVisitorConn(message) => (message, conn),
        other => panic!("{other:?} instead of NewVisitorConn"),
    }
}

#[tokio::test]
async fn a_user_of_a_visitor_reaches_the_proxy() {
    for change in [|_: &mut _| (), v2] {
        let frps = Frps::start().await;
        let port = free_port();
        let _client = frps.client(|config| {
            change(config);
            config.user = "me".to_owned();
            let mut visitor = visitor(port.into());
            visitor.transport.use_encryption = true;
            visitor.transport.use_compression = true;
            config.visitors = vec![visitor];
        });
        let mut session = frps.log_in("id").await;
        let mut user = connect(port).await;
        let (message, mut conn) = accept_visitor(&mut session).await;
        assert_eq!(
            (message.run_id.as_str(), message.proxy_name.as_str()),
            ("id", "me.secret")
        );
        assert!(auth::verify(
            &message.sign_key,
            b"the key",
            message.timestamp
        ));
        assert!(message.use_encryption && message.use_compression);
        conn.write(&NewVisitorConnResp::default().into())
            .await
            .unwrap();

        let stream = conn.into_stream();
        let mut proxy = work::wrap(stream, &WorkOptions::new(true, true, b"the key"));
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(&mut proxy);
            let _ = tokio::io::copy(&mut from, &mut to).await;
        });
        echoes(&mut user, b"hello").await;
    }
}

#[tokio::test]
async fn another_users_proxy_is_asked_for_by_its_user() {
    let frps = Frps::start().await;
    let port = free_port();
    let _client = frps.client(|config| {
        config.user = "me".to_owned();
        let mut visitor = visitor(port.into());
        visitor.server_user = "you".to_owned();
        config.visitors = vec![visitor];
    });
    let mut session = frps.log_in("id").await;
    let _user = connect(port).await;
    assert_eq!(
        accept_visitor(&mut session).await.0.proxy_name,
        "you.secret"
    );
}

#[tokio::test]
async fn a_refused_user_is_sent_away_and_the_next_may_try() {
    let frps = Frps::start().await;
    let port = free_port();
    let _client = frps.client(|config| config.visitors = vec![visitor(port.into())]);
    let mut session = frps.log_in("id").await;
    for _ in 0..2 {
        let mut user = connect(port).await;
        let (_, mut conn) = accept_visitor(&mut session).await;
        let error = "visitor connection of [secret] auth failed".to_owned();
        let answer = NewVisitorConnResp {
            error,
            ..NewVisitorConnResp::default()
        };
        conn.write(&answer.into()).await.unwrap();
        assert!(is_closed(&mut user).await);
    }
}

#[tokio::test]
async fn garbage_in_the_place_of_the_answer_costs_that_user_alone() {
    let frps = Frps::start().await;
    let port = free_port();
    let _client = frps.client(|config| config.visitors = vec![visitor(port.into())]);
    let mut session = frps.log_in("id").await;
    let mut user = connect(port).await;
    let (_, conn) = accept_visitor(&mut session).await;
    let mut stream = conn.into_stream();
    stream
        .write_all(b"3\xff\xff\xff\xff\xff\xff\xff\xff")
        .await
        .unwrap();
    stream.flush().await.unwrap();
    assert!(is_closed(&mut user).await);
    let _user = connect(port).await;
    accept_visitor(&mut session).await;
}

#[tokio::test]
async fn a_visitor_is_moved_by_a_reload_and_its_old_port_is_free() {
    let frps = Frps::start().await;
    let (old, new) = (free_port(), free_port());
    let client = frps.client(|config| config.visitors = vec![visitor(old.into())]);
    let _session = frps.log_in("id").await;
    connect(old).await;

    let services = Services {
        proxies: vec![],
        visitors: vec![visitor(new.into())],
    };
    client.client.update(services).await;

    connect(new).await;
    StdListener::bind(("127.0.0.1", old)).expect("the old port is free");
}

#[tokio::test]
async fn a_visitor_with_a_negative_port_listens_nowhere_and_harms_nobody() {
    let frps = Frps::start().await;
    let port = free_port();
    let _client = frps.client(|config| {
        let mut silent = visitor(-1);
        silent.name = "silent".to_owned();
        config.visitors = vec![silent, visitor(port.into())];
    });
    let mut session = frps.log_in("id").await;
    let _user = connect(port).await;
    accept_visitor(&mut session).await;
}

#[tokio::test]
async fn a_taken_port_does_not_hold_up_the_other_visitors() {
    let taken = StdListener::bind("127.0.0.1:0").unwrap();
    let frps = Frps::start().await;
    let port = free_port();
    let _client = frps.client(|config| {
        let mut blocked = visitor(taken.local_addr().unwrap().port().into());
        blocked.name = "blocked".to_owned();
        config.visitors = vec![blocked, visitor(port.into())];
    });
    let mut session = frps.log_in("id").await;
    let _user = connect(port).await;
    accept_visitor(&mut session).await;
}
