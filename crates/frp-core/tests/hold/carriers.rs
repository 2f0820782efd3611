//! Real carriers, and those in memory.

use std::net::SocketAddr;
use std::sync::Arc;

use transports::memory::MemoryTransport;
use transports::mux::MuxConfig;
use transports::quic::{QuicDialConfig, QuicListenConfig, QuicTransport};
use transports::tcp::{TcpDialConfig, TcpListenConfig, TcpTransport};
use transports::tls::{
    ClientTls, ClientTlsConfig, ServerCertificate, ServerTls, ServerTlsConfig, self_signed,
};
use transports::{Carrier, Endpoint, Listener, Transport};

pub(crate) type Carriers = (
    Arc<dyn Carrier>,
    Arc<dyn Carrier>,
    Option<Box<dyn Listener>>,
);

pub(crate) async fn over_memory() -> Carriers {
    let network = MemoryTransport::new();
    let (client, server, listener) = between(&network, &network).await;
    (client, server, Some(listener))
}

/// TLS and yamux, on the loopback interface.
pub(crate) async fn over_tcp() -> Carriers {
    let (client_tls, server_tls) = tls();
    let dialer = TcpTransport::dialer(TcpDialConfig {
        tls: Some(client_tls),
        mux: Some(MuxConfig::default()),
        ..TcpDialConfig::default()
    });
    let listener = TcpTransport::listener(TcpListenConfig {
        tls: Some(server_tls),
        mux: Some(MuxConfig::default()),
        ..TcpListenConfig::default()
    });
    let (client, server, listener) = between(&dialer, &listener).await;
    (client, server, Some(listener))
}

/// On the loopback interface.
pub(crate) async fn over_quic() -> Carriers {
    let (client_tls, server_tls) = tls();
    let dialer = QuicTransport::dialer(QuicDialConfig::new(client_tls, b"test"));
    let listener = QuicTransport::listener(QuicListenConfig::new(server_tls, b"test"));
    let (client, server, listener) = between(&dialer, &listener).await;
    (client, server, Some(listener))
}

/// A self-signed certificate that is not verified.
fn tls() -> (ClientTls, ServerTls) {
    let server = ServerTlsConfig {
        certificate: ServerCertificate::Pair(self_signed().unwrap()),
        trusted_ca: None,
    };
    (
        ClientTlsConfig::default().build().unwrap(),
        server.build().unwrap(),
    )
}

async fn between(
    dialer: &dyn Transport,
    listener: &dyn Transport,
) -> (Arc<dyn Carrier>, Arc<dyn Carrier>, Box<dyn Listener>) {
    let listener = listener
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let server = Endpoint {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().port(),
    };
    let (client, server) = tokio::join!(dialer.dial(&server), listener.accept());
    let (client, server) = (client.unwrap(), server.unwrap().carrier);
    server.admit();
    (client, server, listener)
}
