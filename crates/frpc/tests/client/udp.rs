//! Datagrams: one work conn for all users, one local socket for each.

use bytes::Bytes;
use frp_core::config::{ProxyConfig, ProxyKind, ProxyProtocol};
use frp_core::conn::MessageStream;
use frp_core::proto::msg::{Message, UdpAddr, UdpPacket};
use frp_core::work::{self, WorkOptions};
use tokio::net::UdpSocket;

use super::server::{Frps, Session, TOKEN, soon, v2};

async fn udp_service() -> (UdpSocket, ProxyConfig) {
    let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut proxy = ProxyConfig::new("dns", ProxyKind::Udp { remote_port: 53 });
    proxy.local_port = service.local_addr().unwrap().port();
    (service, proxy)
}

fn packet(user: &str, content: &[u8]) -> UdpPacket {
    UdpPacket {
        content: Bytes::copy_from_slice(content),
        remote: Some(UdpAddr::from(user.parse::<std::net::SocketAddr>().unwrap())),
        ..UdpPacket::default()
    }
}

async fn send(conn: &mut MessageStream, user: &str, content: &[u8]) {
    conn.write(&packet(user, content).into()).await.unwrap();
}

async fn receive(conn: &mut MessageStream) -> UdpPacket {
    match soon("packet", conn.read()).await.unwrap() {
        Message::UdpPacket(packet) => packet,
        other => panic!("{other:?} instead of UDPPacket"),
    }
}

async fn open(session: &mut Session, options: &WorkOptions) -> MessageStream {
    let wire = frp_core::proto::WireVersion::V1;
    let stream = session.connect_user("dns").await;
    MessageStream::resume(work::wrap(stream, options), wire)
}

#[tokio::test]
async fn each_user_has_a_socket_of_its_own_and_gets_its_own_answers() {
    let (service, proxy) = udp_service().await;
    let frps = Frps::start().await;
    let _client = frps.client(|config| config.proxies = vec![proxy]);
    let mut session = frps.log_in("id").await;
    session.agree().await;
    let mut conn = open(&mut session, &WorkOptions::default()).await;

    let mut buf = [0; 100];
    let mut seen = Vec::new();
    for user in ["192.0.2.1:1000", "192.0.2.2:1000", "[2001:db8::1]:1000"] {
        send(&mut conn, user, user.as_bytes()).await;
        let (len, from) = soon("datagram", service.recv_from(&mut buf)).await.unwrap();
        assert_eq!(&buf[..len], user.as_bytes());
        assert!(!seen.contains(&from), "a socket of its own");
        seen.push(from);
    }
    for (from, user) in seen
        .iter()
        .zip(["192.0.2.1:1000", "192.0.2.2:1000", "[2001:db8::1]:1000"])
    {
        service.send_to(b"answer", from).await.unwrap();
        assert_eq!(receive(&mut conn).await, packet(user, b"answer"));
    }
}

#[tokio::test]
async fn datagrams_pass_encryption_and_compression_in_both_versions() {
    for version in [
        frp_core::proto::WireVersion::V1,
        frp_core::proto::WireVersion::V2,
    ] {
        let (service, mut proxy) = udp_service().await;
        proxy.transport.use_encryption = true;
        proxy.transport.use_compression = true;
        let frps = Frps::start().await;
        let _client = frps.client(|config| {
            if version == frp_core::proto::WireVersion::V2 {
                v2(config);
            }
            config.proxies = vec![proxy];
        });
        let mut session = frps.log_in("id").await;
        session.agree().await;
        let stream = session.connect_user("dns").await;
        let layers = WorkOptions::new(true, true, TOKEN.as_bytes());
        let mut conn = MessageStream::resume(work::wrap(stream, &layers), version);

        send(&mut conn, "192.0.2.1:1000", &[3; 1400]).await;
        let mut buf = [0; 2000];
        let (len, from) = soon("datagram", service.recv_from(&mut buf)).await.unwrap();
        assert_eq!(len, 1400);
        service.send_to(b"answer", from).await.unwrap();
        assert_eq!(
            receive(&mut conn).await,
            packet("192.0.2.1:1000", b"answer")
        );
    }
}

#[tokio::test]
async fn a_new_work_conn_replaces_the_one_before_it() {
    let (service, proxy) = udp_service().await;
    let frps = Frps::start().await;
    let _client = frps.client(|config| config.proxies = vec![proxy]);
    let mut session = frps.log_in("id").await;
    session.agree().await;
    let mut first = open(&mut session, &WorkOptions::default()).await;
    let mut second = open(&mut session, &WorkOptions::default()).await;
    assert!(soon("end of the first", first.read()).await.is_err());
    send(&mut second, "192.0.2.1:1000", b"hello").await;
    let mut buf = [0; 100];
    soon("datagram", service.recv_from(&mut buf)).await.unwrap();
}

#[tokio::test]
async fn the_service_is_told_each_user_once() {
    let (service, mut proxy) = udp_service().await;
    proxy.transport.proxy_protocol_version = Some(ProxyProtocol::V2);
    let frps = Frps::start().await;
    let _client = frps.client(|config| config.proxies = vec![proxy]);
    let mut session = frps.log_in("id").await;
    session.agree().await;
    let mut conn = open(&mut session, &WorkOptions::default()).await;
    let mut buf = [0; 100];
    send(&mut conn, "192.0.2.1:1000", b"one").await;
    let (len, _) = soon("datagram", service.recv_from(&mut buf)).await.unwrap();
    assert!(
        buf.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x12"),
        "{:?}",
        &buf[..len]
    );
    assert!(buf[..len].ends_with(b"one"));
    send(&mut conn, "192.0.2.1:1000", b"two").await;
    let (len, _) = soon("datagram", service.recv_from(&mut buf)).await.unwrap();
    assert_eq!(&buf[..len], b"two");
}

#[tokio::test]
async fn packets_without_an_address_or_with_a_senseless_one_are_lost() {
    let (service, proxy) = udp_service().await;
    let frps = Frps::start().await;
    let _client = frps.client(|config| config.proxies = vec![proxy]);
    let mut session = frps.log_in("id").await;
    session.agree().await;
    let mut conn = open(&mut session, &WorkOptions::default()).await;
    conn.write(
        &UdpPacket {
            content: "lost".into(),
            ..UdpPacket::default()
        }
        .into(),
    )
    .await
    .unwrap();
    for port in [-1, 65_536, i64::MAX] {
        let mut lost = packet("192.0.2.1:1000", b"lost");
        lost.remote = lost.remote.map(|addr| UdpAddr { port, ..addr });
        conn.write(&lost.into()).await.unwrap();
    }
    send(&mut conn, "192.0.2.1:1000", b"found").await;
    let mut buf = [0; 100];
    let (len, _) = soon("datagram", service.recv_from(&mut buf)).await.unwrap();
    assert_eq!(&buf[..len], b"found");
}

#[tokio::test]
async fn other_messages_end_the_work_conn() {
    let (_service, proxy) = udp_service().await;
    let frps = Frps::start().await;
    let _client = frps.client(|config| config.proxies = vec![proxy]);
    let mut session = frps.log_in("id").await;
    session.agree().await;
    let mut conn = open(&mut session, &WorkOptions::default()).await;
    conn.write(&frp_core::proto::msg::Login::default().into())
        .await
        .unwrap();
    assert!(soon("end", conn.read()).await.is_err());
}

#[tokio::test]
async fn datagrams_longer_than_the_limit_are_cut() {
    let (service, proxy) = udp_service().await;
    let frps = Frps::start().await;
    let _client = frps.client(|config| {
        config.udp_packet_size = 10;
        config.proxies = vec![proxy];
    });
    let mut session = frps.log_in("id").await;
    session.agree().await;
    let mut conn = open(&mut session, &WorkOptions::default()).await;
    send(&mut conn, "192.0.2.1:1000", b"x").await;
    let mut buf = [0; 100];
    let (_, from) = soon("datagram", service.recv_from(&mut buf)).await.unwrap();
    service.send_to(&[1; 50], from).await.unwrap();
    assert_eq!(receive(&mut conn).await.content.len(), 10);
}
