//! Clients of WebSocket, and requests written by hand.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use transports::tcp::{TcpDialConfig, TcpListenConfig};
use transports::tls::{ClientTls, ClientTlsConfig};
use transports::websocket::{WebsocketDialConfig, WebsocketTransport};
use transports::{Carrier, DialError, Endpoint, Incoming, Transport};

use crate::tcp_support::{LONG, Server, plain_client, server_config, trusting_client};

pub const PATH: &str = "/~!frp";

/// A server that grants upgrades, with a self-signed certificate and without multiplexing.
pub fn listen_config() -> TcpListenConfig {
    TcpListenConfig {
        websocket_path: Some(PATH),
        ..server_config()
    }
}

/// A client without TLS, or with TLS inside.
pub fn websocket(inside: TcpDialConfig) -> WebsocketDialConfig {
    WebsocketDialConfig {
        tcp: inside,
        outer_tls: None,
        path: PATH,
    }
}

pub fn plain_websocket() -> WebsocketDialConfig {
    websocket(plain_client())
}

pub fn websocket_with_tls_inside(marker: Option<u8>) -> WebsocketDialConfig {
    websocket(TcpDialConfig {
        marker,
        ..trusting_client()
    })
}

pub fn wss() -> WebsocketDialConfig {
    WebsocketDialConfig {
        outer_tls: Some(trusting_tls()),
        ..plain_websocket()
    }
}

pub fn trusting_tls() -> ClientTls {
    ClientTlsConfig::default().build().unwrap()
}

pub async fn dial(
    endpoint: &Endpoint,
    config: WebsocketDialConfig,
) -> Result<Arc<dyn Carrier>, DialError> {
    let transport = WebsocketTransport::dialer(config);
    timeout(LONG, transport.dial(endpoint)).await.unwrap()
}

/// Dials `server`, has it accept, and sends bytes both ways.
pub async fn serves(
    server: &Server,
    endpoint: &Endpoint,
    client: WebsocketDialConfig,
) -> (Arc<dyn Carrier>, Incoming) {
    let client = dial(endpoint, client).await.unwrap();
    let asking = tokio::spawn(ask(client.clone()));
    let incoming = server.accept().await;
    let stream = timeout(LONG, incoming.carrier.accept_stream()).await;
    let mut stream = stream.unwrap().unwrap().unwrap();
    let mut question = [0; 4];
    let asked = timeout(LONG, stream.read_exact(&mut question)).await;
    asked.unwrap().unwrap();
    assert_eq!(&question, b"ping");
    stream.write_all(b"pong").await.unwrap();
    stream.flush().await.unwrap();
    timeout(LONG, asking).await.unwrap().unwrap();
    assert_eq!(incoming.carrier.kind(), client.kind());
    (client, incoming)
}

async fn ask(client: Arc<dyn Carrier>) {
    let mut stream = client.open_stream().await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"pong");
}

/// frpc's request.
pub const REQUEST: &str = "GET /~!frp HTTP/1.1\r\n\
    Host: 127.0.0.1:17703\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: http://127.0.0.1:17703\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// frps' answer to it.
pub const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Connects, and writes `text`.
pub async fn say(server: &Server, text: impl AsRef<[u8]>) -> TcpStream {
    let mut socket = TcpStream::connect(server.addr()).await.unwrap();
    socket.write_all(text.as_ref()).await.unwrap();
    socket
}

/// Whatever comes up to the end, which must come.
pub async fn read_all(io: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut received = Vec::new();
    // A reset is an end as well.
    let _ = timeout(LONG, io.read_to_end(&mut received)).await.unwrap();
    String::from_utf8_lossy(&received).into_owned()
}

/// Reads as much as `expected`, which it must be.
pub async fn expect(io: &mut (impl tokio::io::AsyncRead + Unpin), expected: impl AsRef<[u8]>) {
    let mut received = vec![0; expected.as_ref().len()];
    let read = timeout(LONG, io.read_exact(&mut received)).await;
    read.unwrap().unwrap();
    assert_eq!(received, expected.as_ref());
}
