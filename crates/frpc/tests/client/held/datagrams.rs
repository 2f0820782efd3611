//! Datagrams of a `udp` proxy beside its work conn.

use std::net::SocketAddr;

use bytes::Bytes;
use frp_core::config::{ClientConfig, ProxyConfig, ProxyKind, ProxyProtocol};
use frp_core::conn::MessageStream;
use frp_core::hold::flow::Flow;
use frp_core::proto::WireVersion;
use frp_core::proto::msg::{Message, UdpPacket};
use frp_core::transports::TransportKind::Tcp;
use frp_core::work::{self, WorkOptions};
use frpc::links::memory::Memory;
use tokio::net::UdpSocket;

use super::super::server::{TOKEN, soon};
use super::holder::{Holder, Net};

const USER: ([u8; 4], u16) = ([192, 0, 2, 7], 4000);

/// A service, and a client of a server that holds streams, with a proxy for it.
async fn with_service(configure: impl FnOnce(&mut ProxyConfig)) -> (UdpSocket, ClientConfig) {
    let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut proxy = ProxyConfig::new("dns", ProxyKind::Udp { remote_port: 53 });
    proxy.local_port = service.local_addr().unwrap().port();
    configure(&mut proxy);
    let config = ClientConfig {
        proxies: vec![proxy],
        ..Holder::config()
    };
    (service, config)
}

fn user() -> SocketAddr {
    USER.into()
}

/// What the service gets, and from where.
async fn received(service: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buf = [0; 2000];
    let (len, from) = soon("datagram", service.recv_from(&mut buf)).await.unwrap();
    (buf[..len].to_vec(), from)
}

async fn ping(conn: &mut MessageStream) {
    let message = soon("ping", conn.read()).await.unwrap();
    assert!(matches!(message, Message::Ping(_)), "{message:?}");
}

/// Asks the service until a carrier takes the question.
async fn asks(flow: &Flow, service: &UdpSocket) -> SocketAddr {
    let asking = async {
        while flow.send(user(), b"question").is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon("a carrier", asking).await;
    let (content, from) = received(service).await;
    assert_eq!(content, b"question");
    from
}

#[tokio::test]
async fn datagrams_go_beside_the_work_conn_and_users_keep_their_sockets() {
    let (service, config) = with_service(|_| {}).await;
    let net = Net::new(&[Tcp]);
    let mut holder = Holder::start(&net).await;
    let _running = net.client(config, Memory::forgetful());
    let mut session = holder.session().await;
    let hello = session.login.holdfast.get().unwrap();
    assert!(hello.capabilities.iter().any(|name| name == "udp"));
    session.agree().await;
    let (stream, flow) = session.connect_flow("dns").await;
    let mut conn = MessageStream::resume(stream, WireVersion::V1);
    ping(&mut conn).await;

    let from = asks(&flow, &service).await;
    service.send_to(b"answer", from).await.unwrap();
    let answer = soon("answer", flow.recv()).await;
    assert_eq!(answer, (user(), Bytes::from_static(b"answer")));

    // What is too long for a datagram goes over the work conn, from the same socket.
    service.send_to(&[7; 1400], from).await.unwrap();
    let Message::UdpPacket(long) = soon("answer", conn.read()).await.unwrap() else {
        panic!("something else");
    };
    assert_eq!(long.content.len(), 1400);
    assert_eq!(conn.write(&long.into()).await.ok(), Some(()));
    assert_eq!(received(&service).await, (vec![7; 1400], from));

    net.of(Tcp).lose_all();
    assert_eq!(asks(&flow, &service).await, from, "the same socket");
    assert_eq!(holder.n_logins(), 1);
}

#[tokio::test]
async fn the_first_datagram_of_a_user_tells_the_service_on_whichever_way_it_comes() {
    let (service, config) = with_service(|proxy| {
        proxy.transport.proxy_protocol_version = Some(ProxyProtocol::V2);
    })
    .await;
    let net = Net::new(&[Tcp]);
    let mut holder = Holder::start(&net).await;
    let _running = net.client(config, Memory::forgetful());
    let mut session = holder.session().await;
    session.agree().await;
    let (stream, flow) = session.connect_flow("dns").await;
    let mut conn = MessageStream::resume(stream, WireVersion::V1);
    ping(&mut conn).await;

    let over_stream = UdpPacket {
        content: Bytes::from_static(b"over the conn"),
        remote: Some(SocketAddr::from(([192, 0, 2, 8], 1)).into()),
        ..UdpPacket::default()
    };
    conn.write(&over_stream.into()).await.unwrap();
    assert_tells(&received(&service).await.0, b"over the conn");
    flow.send(([192, 0, 2, 8], 1).into(), b"once").unwrap();
    assert_eq!(received(&service).await.0, b"once");
    flow.send(user(), b"beside it").unwrap();
    assert_tells(&received(&service).await.0, b"beside it");
}

fn assert_tells(datagram: &[u8], content: &[u8]) {
    assert!(
        datagram.starts_with(b"\r\n\r\n\0\r\nQUIT\n"),
        "{datagram:?}"
    );
    assert!(datagram.ends_with(content), "{datagram:?}");
}

#[tokio::test]
async fn a_flow_for_a_proxy_with_a_cipher_is_not_taken() {
    let (service, config) = with_service(|proxy| proxy.transport.use_encryption = true).await;
    let net = Net::new(&[Tcp]);
    let mut holder = Holder::start(&net).await;
    let _running = net.client(config, Memory::forgetful());
    let mut session = holder.session().await;
    session.agree().await;
    let (stream, flow) = session.connect_flow("dns").await;
    let layers = WorkOptions::new(true, false, TOKEN.as_bytes());
    let mut conn = MessageStream::resume(work::wrap(stream, &layers), WireVersion::V1);
    flow.send(user(), b"in the clear").unwrap();
    let packet = UdpPacket {
        content: Bytes::from_static(b"encrypted"),
        remote: Some(user().into()),
        ..UdpPacket::default()
    };
    conn.write(&packet.into()).await.unwrap();
    assert_eq!(received(&service).await.0, b"encrypted");
}
