//! A scripted frps: it takes logins and sends what the test says.

use std::sync::Arc;
use std::time::Duration;

use frp_core::config::{ClientConfig, ProxyConfig, ProxyKind, WireProtocol};
use frp_core::conn::{ConnError, Frame, MessageReader, MessageStream, MessageWriter};
use frp_core::proto::hello::{self, ControlKeys};
use frp_core::proto::msg::{
    Login, LoginResp, Message, NewProxy, NewProxyResp, NewWorkConn, ReqWorkConn, StartWorkConn,
};
use frp_core::proto::v2::FrameType;
use frp_core::proto::{WireVersion, cfb};
use frp_core::transform::TransformStream;
use frp_core::transform::aead::{Aead, Side};
use frp_core::transform::cfb::Cfb;
use frp_core::transports::memory::MemoryTransport;
use frp_core::transports::{BoxStream, Carrier, Listener, Transport};
use frpc::client::{Client, ClientError};
use frpc::links::memory::Memory;
use frpc::transport::Dialers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) const TOKEN: &str = "the token";

/// Long enough for a busy machine; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that must happen.
pub(crate) async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event)
        .await
        .unwrap_or_else(|_| panic!("no {what}"))
}

/// The server, listening.
pub(crate) struct Frps {
    pub(crate) transport: MemoryTransport,
    listener: Box<dyn Listener>,
}

/// A client under test. Ends with the test.
pub(crate) struct Running {
    pub(crate) client: Arc<Client>,
    pub(crate) task: JoinHandle<Result<(), ClientError>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Frps {
    pub(crate) async fn start() -> Self {
        Self::on(MemoryTransport::new()).await
    }

    pub(crate) async fn on(transport: MemoryTransport) -> Self {
        let listener = transport.bind(([127, 0, 0, 1], 7000).into()).await.unwrap();
        Self {
            transport,
            listener,
        }
    }

    /// Starts a client of this server.
    pub(crate) fn client(&self, change: impl FnOnce(&mut ClientConfig)) -> Running {
        let mut config = ClientConfig {
            server_addr: "127.0.0.1".to_owned(),
            ..ClientConfig::default()
        };
        change(&mut config);
        let transport: Arc<dyn Transport> = Arc::new(self.transport.clone());
        let kinds = config.transport.protocol.pinned();
        let dialers = Dialers::from_transports(kinds.map(|kind| (kind, transport)));
        let client = Client::new(config, TOKEN.into(), dialers, Memory::forgetful(), [7; 16]);
        let running = client.clone();
        Running {
            client,
            task: tokio::spawn(async move { running.run().await }),
        }
    }

    /// The next carrier that a client dials.
    pub(crate) async fn accept(&self) -> Arc<dyn Carrier> {
        let carrier = soon("carrier", self.listener.accept())
            .await
            .unwrap()
            .carrier;
        carrier.admit();
        carrier
    }

    /// Takes the next login and answers it with `answer`.
    pub(crate) async fn log_in_with(&self, answer: LoginResp) -> Session {
        let carrier = self.accept().await;
        let (login, mut stream, keys) = accept_login(&carrier).await;
        stream.write(&answer.into()).await.unwrap();
        let stream = stream.map(|stream| -> BoxStream {
            match keys {
                Some(keys) => Box::new(TransformStream::new(stream, Aead::new(keys, Side::Server))),
                None => {
                    let key = cfb::derive_key(TOKEN.as_bytes());
                    Box::new(TransformStream::new(stream, Cfb::new(key)))
                }
            }
        });
        let (reader, writer) = stream.split();
        Session {
            login,
            carrier,
            reader,
            writer,
        }
    }

    /// Takes the next login as frps does.
    pub(crate) async fn log_in(&self, run_id: &str) -> Session {
        self.log_in_with(LoginResp {
            run_id: run_id.to_owned(),
            ..LoginResp::default()
        })
        .await
    }
}

/// Reads a login, and in v2 answers the hello.
pub(crate) async fn accept_login(
    carrier: &Arc<dyn Carrier>,
) -> (Login, MessageStream, Option<ControlKeys>) {
    let stream = soon("stream", carrier.accept_stream())
        .await
        .unwrap()
        .unwrap();
    let mut stream = soon("first bytes", MessageStream::accept(stream))
        .await
        .unwrap();
    let mut keys = None;
    if stream.wire() == WireVersion::V2 {
        let Frame::ClientHello(client_hello) = stream.read_frame().await.unwrap() else {
            panic!("no hello");
        };
        let chosen = hello::negotiate(&client_hello, [9; 32]).unwrap();
        let server_hello = chosen.server_hello;
        keys = Some(ControlKeys::derive(
            TOKEN.as_bytes(),
            chosen.algorithm,
            &client_hello,
            &server_hello,
        ));
        let Message::Login(login) = stream.read().await.unwrap() else {
            panic!("no login")
        };
        stream
            .write_hello(FrameType::ServerHello, &server_hello)
            .await
            .unwrap();
        return (*login, stream, keys);
    }
    let Message::Login(login) = soon("login", stream.read()).await.unwrap() else {
        panic!("no login");
    };
    (*login, stream, keys)
}

/// A logged in client as the server sees it.
pub(crate) struct Session {
    pub(crate) login: Login,
    pub(crate) carrier: Arc<dyn Carrier>,
    pub(crate) reader: MessageReader,
    pub(crate) writer: MessageWriter,
}

impl Session {
    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        soon("room", self.writer.write(&message.into()))
            .await
            .unwrap();
    }

    pub(crate) async fn next(&mut self) -> Message {
        soon("message", self.reader.read()).await.unwrap()
    }

    /// Waits until the client has closed the control.
    pub(crate) async fn closed(&mut self) -> ConnError {
        loop {
            if let Err(error) = soon("end", self.reader.read()).await {
                return error;
            }
        }
    }

    pub(crate) async fn next_proxy(&mut self) -> NewProxy {
        match self.next().await {
            Message::NewProxy(proxy) => *proxy,
            other => panic!("{other:?} instead of NewProxy"),
        }
    }

    /// Takes the next NewProxy and agrees to it.
    pub(crate) async fn agree(&mut self) -> NewProxy {
        let proxy = self.next_proxy().await;
        let answer = NewProxyResp {
            proxy_name: proxy.proxy_name.clone(),
            remote_addr: format!(":{}", proxy.remote_port),
            ..NewProxyResp::default()
        };
        self.send(answer).await;
        proxy
    }

    /// A conn that the client has opened.
    pub(crate) async fn accept_conn(&mut self) -> MessageStream {
        let stream = soon("conn", self.carrier.accept_stream())
            .await
            .unwrap()
            .unwrap();
        soon("first bytes", MessageStream::accept(stream))
            .await
            .unwrap()
    }

    /// Asks for a work conn, and takes it.
    pub(crate) async fn take_work_conn(&mut self) -> (NewWorkConn, MessageStream) {
        self.send(ReqWorkConn::default()).await;
        let mut conn = self.accept_conn().await;
        match soon("NewWorkConn", conn.read()).await.unwrap() {
            Message::NewWorkConn(message) => (message, conn),
            other => panic!("{other:?} instead of NewWorkConn"),
        }
    }

    /// Connects a user of proxy `name`.
    pub(crate) async fn connect_user(&mut self, name: &str) -> BoxStream {
        let (_, mut conn) = self.take_work_conn().await;
        let start = StartWorkConn {
            proxy_name: name.to_owned(),
            src_addr: "192.0.2.1".to_owned(),
            src_port: 4000,
            dst_addr: "192.0.2.2".to_owned(),
            dst_port: 80,
            ..StartWorkConn::default()
        };
        conn.write(&start.into()).await.unwrap();
        conn.into_stream()
    }
}

/// Waits until the client's status is what `is_so` asks for.
pub(crate) async fn wait_for_status(client: &Client, what: &str, is_so: impl Fn(&str) -> bool) {
    let polled = async {
        loop {
            let status = client.status();
            let text: Vec<_> = status
                .iter()
                .map(|s| {
                    format!("{}={} {}", s.name, s.status, s.err)
                        .trim()
                        .to_owned()
                })
                .collect();
            if is_so(&text.join(", ")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, polled).await;
}

/// A proxy for the local service at `local_port`.
pub(crate) fn tcp(name: &str, local_port: u16) -> ProxyConfig {
    let mut proxy = ProxyConfig::new(name, ProxyKind::Tcp { remote_port: 6000 });
    proxy.local_port = local_port;
    proxy
}

pub(crate) fn v2(config: &mut ClientConfig) {
    config.transport.wire_protocol = WireProtocol::V2;
}

/// A local service that sends back what it gets.
pub(crate) async fn echo_service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut conn, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = conn.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    port
}

/// Whether what is written comes back.
pub(crate) async fn echoes<S>(stream: &mut S, bytes: &[u8])
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    let mut back = vec![0; bytes.len()];
    soon("echo", stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, bytes);
}

/// Whether the other end has closed `conn`.
pub(crate) async fn is_closed(conn: &mut TcpStream) -> bool {
    let mut buf = [0; 1];
    matches!(
        soon("end of the connection", conn.read(&mut buf)).await,
        Ok(0) | Err(_)
    )
}
