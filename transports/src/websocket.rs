//! WebSocket (RFC 6455), as frp has it: the bytes of a TCP carrier in binary frames, for paths that
//! let nothing but HTTP through.
//!
//! Dialling is that of TCP up to the connection, outbound proxies included. Then comes the upgrade
//! and, inside of it, what a TCP connection would have: the marker, TLS, and yamux or one bare
//! stream. With [outer TLS](WebsocketDialConfig::outer_tls) it is `wss`: TLS first, then the
//! upgrade.
//!
//! There is no listener of its own: such connections come in through that of TCP, which knows them
//! by their first bytes ([`TcpListenConfig::websocket_path`]), outside and inside of TLS.
//!
//! `connect` and `accept` run the upgrade over any byte stream, with `head` for HTTP and `origin`
//! for one header of it; `stream` is what they make, with `decoder` and `frame` for the frames.
//!
//! [`TcpListenConfig::websocket_path`]: crate::tcp::TcpListenConfig::websocket_path

mod accept;
mod connect;
mod decoder;
mod dial;
mod frame;
mod fuzz;
mod head;
mod origin;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::tcp::TcpDialConfig;
use crate::tls::ClientTls;
use crate::{
    BindError, BoxFuture, Carrier, DialError, Endpoint, Listener, Transport, TransportKind,
};

pub(crate) use accept::{AcceptError, accept};
pub(crate) use fuzz::fuzz;

/// How to reach a server over WebSocket.
#[derive(Clone, Debug)]
pub struct WebsocketDialConfig {
    /// The way to the server, and what is inside: its marker, TLS and multiplexing.
    pub tcp: TcpDialConfig,
    /// TLS around the WebSocket: `wss`. frp's has no TLS inside then. With both, something on the
    /// way has to take the outer one off.
    pub outer_tls: Option<ClientTls>,
    /// What to ask the server for: a slash and more.
    pub path: &'static str,
}

/// The WebSocket transport of a client.
#[derive(Clone, Debug)]
pub struct WebsocketTransport {
    config: Arc<WebsocketDialConfig>,
}

impl WebsocketTransport {
    /// Creates a client's transport.
    pub fn dialer(config: WebsocketDialConfig) -> Self {
        Self {
            config: Arc::new(config),
        }
    }
}

impl Transport for WebsocketTransport {
    fn kind(&self) -> TransportKind {
        match self.config.outer_tls {
            Some(_) => TransportKind::Wss,
            None => TransportKind::Websocket,
        }
    }

    fn dial<'a>(
        &'a self,
        server: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Carrier>, DialError>> {
        Box::pin(dial::dial(&self.config, self.kind(), server))
    }

    fn bind(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, BindError>> {
        let problem = "WebSocket connections come in through the TCP listener";
        let error = BindError {
            transport: self.kind(),
            addr,
            source: io::Error::new(io::ErrorKind::Unsupported, problem),
        };
        Box::pin(async { Err(error) })
    }
}
