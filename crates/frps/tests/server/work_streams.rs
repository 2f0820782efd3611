//! Work streams: whose they are, and how many.

use frp_core::config::ServerConfig;
use frp_core::proto::WireVersion;
use frp_core::proto::msg::{Login, NewWorkConn};

use crate::client::{Client, TestServer, closed, dial_quic, login, open_with, started, user};

#[tokio::test]
async fn a_work_stream_must_come_over_the_carrier_of_its_session() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let port = client.tcp_proxy("web").await;

    // Somebody else, who has learnt the run id, and even has a login of their own.
    let thief = server.client().await;
    let message = NewWorkConn {
        run_id: client.run_id().to_owned(),
        ..NewWorkConn::default()
    };
    let mut stolen = open_with(&thief.session, WireVersion::V1, message.clone()).await;
    let refused = started(&mut stolen).await;
    let short = &client.run_id()[..4];
    let error = format!("client control for run id [{short}] is no longer current");
    assert_eq!(refused.error, error);

    let stranger = server.dial().await;
    let mut stolen = open_with(&stranger, WireVersion::V2, message).await;
    assert_eq!(started(&mut stolen).await.error, error);

    let mut own = client.open_work_stream().await;
    let _user = user(port).await;
    assert_eq!(started(&mut own).await.proxy_name, "web");
}

#[tokio::test]
async fn over_quic_too_a_work_stream_must_come_over_the_carrier_of_its_session() {
    let server = TestServer::start().await;
    let quic = server.listen_on_quic().await;
    for wire in [WireVersion::V1, WireVersion::V2] {
        let session = dial_quic(quic).await;
        let mut client = Client::log_in(session, wire, login()).await.unwrap();
        let port = client.tcp_proxy(&format!("web-{wire}")).await;
        let message = NewWorkConn {
            run_id: client.run_id().to_owned(),
            ..NewWorkConn::default()
        };
        let short = &client.run_id()[..4];
        let error = format!("client control for run id [{short}] is no longer current");

        for stranger in [dial_quic(quic).await, server.dial().await] {
            let mut stolen = open_with(&stranger, wire, message.clone()).await;
            assert_eq!(started(&mut stolen).await.error, error);
        }

        let mut own = client.open_work_stream().await;
        let _user = user(port).await;
        assert_eq!(started(&mut own).await.proxy_name, format!("web-{wire}"));
    }
}

#[tokio::test]
async fn without_multiplexing_a_work_stream_comes_on_its_own() {
    let server = TestServer::with(|config| config.transport.tcp_mux = false).await;
    let mut client = server.client().await;
    let port = client.tcp_proxy("web").await;
    let mut own = client.open_work_stream().await;
    let _user = user(port).await;
    assert_eq!(started(&mut own).await.proxy_name, "web");
}

#[tokio::test]
async fn a_work_stream_of_nobody_is_refused() {
    let server = TestServer::start().await;
    let session = server.dial().await;
    let message = NewWorkConn {
        run_id: "feedfacefeedface".to_owned(),
        ..NewWorkConn::default()
    };
    let mut conn = open_with(&session, WireVersion::V1, message).await;
    assert_eq!(
        started(&mut conn).await.error,
        "no client control found for run id [feed]"
    );
    closed(&mut conn.into_stream()).await;
}

#[tokio::test]
async fn work_streams_prove_the_token_when_asked_to() {
    let scope = |config: &mut ServerConfig| config.auth.additional_scopes.new_work_conns = true;
    let server = TestServer::with(scope).await;
    let mut client = server.client().await;
    let port = client.tcp_proxy("web").await;
    let mut without = client.open_work_stream().await;
    let refused = started(&mut without).await;
    assert_eq!(
        refused.error,
        "token in NewWorkConn doesn't match token from configuration"
    );

    let Login {
        privilege_key,
        timestamp,
        ..
    } = login();
    let message = NewWorkConn {
        run_id: client.run_id().to_owned(),
        privilege_key,
        timestamp,
    };
    let mut with = open_with(&client.session, WireVersion::V1, message).await;
    let _user = user(port).await;
    assert_eq!(started(&mut with).await.error, "");
}

#[tokio::test]
async fn more_work_streams_than_were_asked_for_are_refused() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let mut pooled = Vec::new();
    for _ in 0..11 {
        pooled.push(client.open_work_stream().await);
    }
    // One pool count and ten to spare; they may overtake each other on the way.
    pooled.push(client.open_work_stream().await);
    let mut reads: Vec<_> = pooled
        .iter_mut()
        .map(|conn| Box::pin(started(conn)))
        .collect();
    let refused = std::future::poll_fn(|cx| {
        reads
            .iter_mut()
            .find_map(|read| match read.as_mut().poll(cx) {
                std::task::Poll::Ready(start) => Some(start),
                std::task::Poll::Pending => None,
            })
            .map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    })
    .await;
    assert_eq!(refused.error, "work connection pool is full, discarding");
}

#[tokio::test]
async fn a_broken_work_stream_is_passed_over() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let port = client.tcp_proxy("web").await;
    let mut broken = client.open_work_stream().await.into_stream();
    broken.reset();
    drop(broken);
    let mut good = client.open_work_stream().await;
    let _user = user(port).await;
    assert_eq!(started(&mut good).await.proxy_name, "web");
}
