//! A bug that panics ends one connection and nothing else.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use frp_core::proto::WireVersion;
use frp_core::proto::msg::{NewProxy, Ping};
use frp_core::session::Session;
use frp_core::transports::memory::MemoryTransport;
use frp_core::transports::{
    BoxFuture, BoxStream, Carrier, CarrierError, Endpoint, ExportError, Incoming, Listener,
    ListenerClosed, PathStats, Stream, Transport, TransportKind,
};
use frps::{Server, Timing};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::client::{Client, config, login, port_of, tcp};

#[tokio::test]
async fn a_panic_on_a_control_stream_ends_that_session_and_frees_what_it_had() {
    let transport = MemoryTransport::new();
    let trap = Trap::default();
    let inner = transport
        .bind("127.0.0.1:7000".parse().unwrap())
        .await
        .unwrap();
    let listener = Box::new(TrapListener {
        inner,
        trap: trap.clone(),
    });
    let server = Server::start_on(config(), listener, Timing::default()).unwrap();
    let dial = async || {
        let endpoint = Endpoint {
            host: "server".to_owned(),
            port: server.local_addr().port(),
        };
        Session::dial(Arc::new(transport.clone()), endpoint)
            .await
            .unwrap()
    };

    let mut bystander = Client::log_in(dial().await, WireVersion::V1, login())
        .await
        .unwrap();
    bystander.tcp_proxy("other").await;
    let mut victim = Client::log_in(dial().await, WireVersion::V2, login())
        .await
        .unwrap();
    let port = victim.tcp_proxy("web").await;

    trap.arm();
    victim.send(Ping::default()).await;
    victim.ended().await;

    // Name and port are free once the session has been cleared away.
    let again = || NewProxy {
        remote_port: port.into(),
        ..tcp("web")
    };
    let mut response = bystander.new_proxy(again()).await;
    while !response.error.is_empty() {
        response = bystander.new_proxy(again()).await;
    }
    assert_eq!(port_of(&response), port);
}

/// The next read of any stream panics.
#[derive(Clone, Debug, Default)]
struct Trap(Arc<AtomicBool>);

impl Trap {
    fn arm(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct TrapListener {
    inner: Box<dyn Listener>,
    trap: Trap,
}

impl Listener for TrapListener {
    fn accept(&self) -> BoxFuture<'_, Result<Incoming, ListenerClosed>> {
        Box::pin(async {
            let incoming = self.inner.accept().await?;
            let trap = self.trap.clone();
            let carrier = Arc::new(TrapCarrier {
                inner: incoming.carrier,
                trap,
            });
            Ok(Incoming {
                carrier,
                ..incoming
            })
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }
}

#[derive(Debug)]
struct TrapCarrier {
    inner: Arc<dyn Carrier>,
    trap: Trap,
}

impl Carrier for TrapCarrier {
    fn kind(&self) -> TransportKind {
        self.inner.kind()
    }
    fn is_multiplexed(&self) -> bool {
        self.inner.is_multiplexed()
    }
    fn open_stream(&self) -> BoxFuture<'_, Result<BoxStream, CarrierError>> {
        self.inner.open_stream()
    }
    fn accept_stream(&self) -> BoxFuture<'_, Result<Option<BoxStream>, CarrierError>> {
        Box::pin(async {
            let inner = self.inner.accept_stream().await?;
            let trapped = |inner| TrapStream {
                inner,
                trap: self.trap.clone(),
            };
            Ok(inner.map(|inner| Box::new(trapped(inner)) as BoxStream))
        })
    }
    fn path_stats(&self) -> PathStats {
        self.inner.path_stats()
    }
    fn export_keying_material(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportError> {
        self.inner.export_keying_material(out, label, context)
    }
    fn admit(&self) {
        self.inner.admit();
    }
    fn drain(&self) {
        self.inner.drain();
    }
    fn close(&self) {
        self.inner.close();
    }
    fn closed(&self) -> BoxFuture<'_, CarrierError> {
        self.inner.closed()
    }
    fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local_addr()
    }
    fn peer_addr(&self) -> SocketAddr {
        self.inner.peer_addr()
    }
}

struct TrapStream {
    inner: BoxStream,
    trap: Trap,
}

impl fmt::Debug for TrapStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Stream for TrapStream {
    fn reset(&mut self) {
        self.inner.reset();
    }
}

impl AsyncRead for TrapStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buf);
        let has_read = poll.is_ready() && buf.filled().len() > before;
        assert!(
            !(has_read && self.trap.0.swap(false, Ordering::SeqCst)),
            "a bug, on purpose"
        );
        poll
    }
}

impl AsyncWrite for TrapStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
