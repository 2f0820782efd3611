//! QUIC and KCP on one port.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code, reason = "tests")]

#[path = "../kcp/support.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{LONG, Pair, Path, client, dial, seed, server};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use transports::quic::{QuicDialConfig, QuicListenConfig, QuicTransport};
use transports::tls::{ClientTlsConfig, ServerCertificate, ServerTlsConfig, self_signed};
use transports::udp_port::{self, Listeners};
use transports::{Carrier, Endpoint, Listener, Transport, TransportKind};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_work_at_once_at_ten_percent_of_loss() {
    let port = Port::start();
    let seed = seed();
    let kcp_path = Path::to(port.addr, seed).await;
    let quic_path = Path::to(port.addr, seed + 1).await;
    kcp_path.set_loss_pct(10);
    quic_path.set_loss_pct(10);

    let kcp = port.kcp_pair(kcp_path.addr).await;
    let quic = port.quic_pair(quic_path.addr).await;
    tokio::join!(kcp.carries(1024 * 1024), quic.carries(1024 * 1024));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_of_either_kind_find_their_own() {
    let port = Port::start();
    for _ in 0..16 {
        // The ids of QUIC's connections are random, and so are KCP's conversations.
        let kcp = port.kcp_pair(port.addr).await;
        let quic = port.quic_pair(port.addr).await;
        tokio::join!(kcp.carries(64 * 1024), quic.carries(64 * 1024));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_goes_on_when_the_other_is_no_more() {
    let port = Port::start();
    let kcp = port.kcp_pair(port.addr).await;
    let Port { addr, listeners } = port;
    drop(listeners.quic);
    kcp.carries(256 * 1024).await;
    let client = dial(addr, client()).await.unwrap();
    let server = accept(&*listeners.kcp).await;
    Pair { client, server }.works().await;

    let port = Port::start();
    let quic = port.quic_pair(port.addr).await;
    drop(port.listeners.kcp);
    quic.carries(256 * 1024).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_disturbs_neither() {
    let port = Port::start();
    let kcp = port.kcp_pair(port.addr).await;
    let quic = port.quic_pair(port.addr).await;
    let mut random = StdRng::seed_from_u64(seed());
    let flooding = tokio::spawn(async move {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for n in 0..20_000_u32 {
            let mut datagram = vec![0; random.random_range(0..1400)];
            random.fill(&mut datagram[..]);
            if let Some(mark) = datagram.get_mut(4) {
                // Both kinds get their share.
                *mark = [81, 0xf1, 0xf2, 1][n as usize % 4];
            }
            let _ = socket.send_to(&datagram, port.addr).await;
        }
    });
    tokio::join!(kcp.carries(256 * 1024), quic.carries(256 * 1024));
    flooding.await.unwrap();
    kcp.works().await;
    quic.works().await;
}

/// One port with both listeners.
struct Port {
    addr: SocketAddr,
    listeners: Listeners,
}

impl Port {
    fn start() -> Self {
        let tls = ServerTlsConfig {
            certificate: ServerCertificate::Pair(self_signed().unwrap()),
            trusted_ca: None,
        };
        let quic = QuicListenConfig {
            login_timeout: LONG,
            ..QuicListenConfig::new(tls.build().unwrap(), b"test")
        };
        let listeners = udp_port::bind("127.0.0.1:0".parse().unwrap(), quic, server()).unwrap();
        let addr = listeners.quic.local_addr();
        assert_eq!(listeners.kcp.local_addr(), addr);
        Self { addr, listeners }
    }

    async fn kcp_pair(&self, addr: SocketAddr) -> Pair {
        let client = dial(addr, client()).await.unwrap();
        let server = accept(&*self.listeners.kcp).await;
        assert_eq!([client.kind(), server.kind()], [TransportKind::Kcp; 2]);
        Pair { client, server }
    }

    async fn quic_pair(&self, addr: SocketAddr) -> Pair {
        let tls = ClientTlsConfig::default().build().unwrap();
        let transport = QuicTransport::dialer(QuicDialConfig {
            timeout: LONG,
            ..QuicDialConfig::new(tls, b"test")
        });
        let endpoint = Endpoint {
            host: addr.ip().to_string(),
            port: addr.port(),
        };
        let client = transport.dial(&endpoint).await.unwrap();
        let server = accept(&*self.listeners.quic).await;
        assert_eq!([client.kind(), server.kind()], [TransportKind::Quic; 2]);
        Pair { client, server }
    }
}

async fn accept(listener: &dyn Listener) -> Arc<dyn Carrier> {
    let accepted = timeout(LONG, listener.accept()).await;
    let carrier = accepted.expect("somebody comes in").unwrap().carrier;
    carrier.admit();
    carrier
}
