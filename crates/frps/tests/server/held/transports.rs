//! One client, and every transport of one server, on one port.

use std::sync::Arc;

use frp_core::transports::kcp::{KcpDialConfig, KcpTransport};
use frp_core::transports::quic::{QuicDialConfig, QuicTransport};
use frp_core::transports::tcp::{TcpDialConfig, TcpTransport};
use frp_core::transports::tls::{ClientTls, ClientTlsConfig};
use frp_core::transports::{Carrier, Endpoint, Transport, TransportKind};
use frps::{Handle, Server, StartError};

use super::rig::{HeldClient, hello};
use crate::client::{config, expect_echo, login_at, user};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_connection_goes_from_transport_to_transport() {
    let server = start().await;
    let login = login_at(1_700_000_000);
    let carrier = dial(&server, TransportKind::Tcp).await;
    let mut client = HeldClient::log_in(carrier, login, hello([1; 16])).await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    let mut user = user(port).await;
    expect_echo(&mut user, b"over tcp").await;

    for kind in [TransportKind::Quic, TransportKind::Kcp, TransportKind::Tcp] {
        client.join(dial(&server, kind).await).await.unwrap();
        client.use_last(true);
        expect_echo(&mut user, &vec![9; 200_000]).await;
        let before = client.paths.remove(0);
        before.carrier.close();
        expect_echo(&mut user, kind.to_string().as_bytes()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_log_in_by_any_transport_and_is_told_of_all() {
    let server = start().await;
    for (n, kind) in (1..).zip([TransportKind::Quic, TransportKind::Kcp, TransportKind::Tcp]) {
        let carrier = dial(&server, kind).await;
        let client = HeldClient::log_in(carrier, login_at(1_700_000_000), hello([n; 16])).await;
        let port = server.local_addr().port();
        let offers = &client.welcome().endpoints;
        let kinds: Vec<_> = offers
            .iter()
            .map(|offer| offer.transport.as_str())
            .collect();
        assert_eq!(kinds, ["tcp", "websocket", "wss", "quic", "kcp"]);
        assert!(offers.iter().all(|offer| offer.port == port), "{offers:?}");
    }
}

#[tokio::test]
async fn frps_own_ports_may_be_the_same_as_bind_port() {
    let mut config = config();
    config.transport.auto.enable = true;
    let server = loop {
        // Some port that is free at the moment. Somebody else may be quicker.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        config.bind_port = free.local_addr().unwrap().port();
        config.kcp_bind_port = config.bind_port.try_into().ok();
        drop(free);
        match Server::start(config.clone()).await {
            Ok(server) => break server,
            Err(StartError::Listen { .. } | StartError::ListenUdp { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let carrier = dial(&server, TransportKind::Kcp).await;
    HeldClient::log_in(carrier, login_at(1_700_000_000), hello([1; 16])).await;
}

async fn start() -> Handle {
    let mut config = config();
    config.bind_port = 0;
    config.transport.auto.enable = true;
    Server::start(config).await.unwrap()
}

async fn dial(server: &Handle, kind: TransportKind) -> Arc<dyn Carrier> {
    let transport: Arc<dyn Transport> = match kind {
        TransportKind::Tcp => Arc::new(TcpTransport::dialer(TcpDialConfig {
            tls: Some(tls()),
            ..TcpDialConfig::default()
        })),
        TransportKind::Kcp => Arc::new(KcpTransport::dialer(KcpDialConfig {
            tls: Some(tls()),
            ..KcpDialConfig::default()
        })),
        TransportKind::Quic => Arc::new(QuicTransport::dialer(QuicDialConfig::new(tls(), b"frp"))),
        other => panic!("{other}"),
    };
    let endpoint = Endpoint {
        host: "127.0.0.1".to_owned(),
        port: server.local_addr().port(),
    };
    let carrier = transport.dial(&endpoint).await.unwrap();
    assert_eq!(carrier.kind(), kind);
    carrier
}

fn tls() -> ClientTls {
    ClientTlsConfig::default().build().unwrap()
}
