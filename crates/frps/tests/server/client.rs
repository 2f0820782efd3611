//! A server to test, and a client that does exactly what a test tells it to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frp_core::config::{Secret, ServerConfig};
use frp_core::conn::{Frame, MessageReader, MessageStream, MessageWriter};
use frp_core::proto::auth::privilege_key;
use frp_core::proto::hello::{self, ControlKeys};
use frp_core::proto::msg::{Login, LoginResp, NewProxy, NewProxyResp, NewWorkConn, StartWorkConn};
use frp_core::proto::v2::FrameType;
use frp_core::proto::{Message, WireVersion, cfb};
use frp_core::session::Session;
use frp_core::transform::TransformStream;
use frp_core::transform::aead::{Aead, Side};
use frp_core::transform::cfb::Cfb;
use frp_core::transports::half_open::HalfOpenLimits;
use frp_core::transports::mux::MuxConfig;
use frp_core::transports::quic::{QuicDialConfig, QuicListenConfig, QuicTransport};
use frp_core::transports::tcp::{TcpDialConfig, TcpListenConfig, TcpTransport};
use frp_core::transports::tls::{ClientTlsConfig, ServerCertificate, ServerTlsConfig, self_signed};
use frp_core::transports::{BoxStream, Endpoint, Transport};
use frp_core::work::{WorkOptions, wrap};
use frps::{Handle, Server, Timing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const TOKEN: &str = "a token for tests";

/// Whatever is waited for comes within this time, or the test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A server on loopback, as `configure` wants it.
pub(crate) struct TestServer {
    pub(crate) handle: Handle,
    mux: bool,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(configure: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::with_timing(Timing::default(), configure).await
    }

    pub(crate) async fn with_timing(
        timing: Timing,
        configure: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let mut config = config();
        configure(&mut config);
        let mux = config.transport.tcp_mux;
        let transport = TcpTransport::listener(TcpListenConfig {
            mux: mux.then(MuxConfig::default),
            login_timeout: timing.login_timeout,
            // So that tests from one address do not wait for each other.
            limits: HalfOpenLimits {
                total: 256,
                per_address: 256,
                ..HalfOpenLimits::default()
            },
            ..TcpListenConfig::default()
        });
        let listener = transport
            .bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        Self {
            handle: Server::start_on(config, listener, timing).unwrap(),
            mux,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    pub(crate) async fn dial(&self) -> Session {
        let transport = TcpTransport::dialer(TcpDialConfig {
            mux: self.mux.then(MuxConfig::default),
            ..TcpDialConfig::default()
        });
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: self.addr().port(),
        };
        Session::dial(Arc::new(transport), endpoint).await.unwrap()
    }

    /// Has the server listen for QUIC too, and returns where.
    pub(crate) async fn listen_on_quic(&self) -> SocketAddr {
        let tls = ServerTlsConfig {
            certificate: ServerCertificate::Pair(self_signed().unwrap()),
            trusted_ca: None,
        };
        let config = QuicListenConfig::new(tls.build().unwrap(), b"frp");
        let listener = QuicTransport::listener(config)
            .bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let addr = listener.local_addr();
        self.handle.serve_clients(listener);
        addr
    }

    /// Logs in on a connection of its own.
    pub(crate) async fn log_in(
        &self,
        wire: WireVersion,
        login: Login,
    ) -> Result<Client, LoginResp> {
        Client::log_in(self.dial().await, wire, login).await
    }

    pub(crate) async fn client(&self) -> Client {
        self.log_in(WireVersion::V1, login()).await.unwrap()
    }
}

/// A connection over QUIC.
pub(crate) async fn dial_quic(addr: SocketAddr) -> Session {
    let tls = ClientTlsConfig::default().build().unwrap();
    let transport = QuicTransport::dialer(QuicDialConfig::new(tls, b"frp"));
    let endpoint = Endpoint {
        host: addr.ip().to_string(),
        port: addr.port(),
    };
    Session::dial(Arc::new(transport), endpoint).await.unwrap()
}

/// A server's configuration for loopback.
pub(crate) fn config() -> ServerConfig {
    let mut config = ServerConfig {
        bind_addr: "127.0.0.1".to_owned(),
        proxy_bind_addr: "127.0.0.1".to_owned(),
        ..ServerConfig::default()
    };
    config.auth.token = Secret::new(TOKEN);
    config
}

/// A login with the right token.
pub(crate) fn login() -> Login {
    login_at(1_700_000_000)
}

/// A login with the right token, made at `timestamp`.
pub(crate) fn login_at(timestamp: i64) -> Login {
    Login {
        version: "0.70.1".to_owned(),
        privilege_key: privilege_key(TOKEN.as_bytes(), timestamp),
        timestamp,
        pool_count: 1,
        ..Login::default()
    }
}

/// A client that is logged in.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) wire: WireVersion,
    pub(crate) response: LoginResp,
    pub(crate) reader: MessageReader,
    pub(crate) writer: MessageWriter,
}

impl Client {
    pub(crate) async fn log_in(
        session: Session,
        wire: WireVersion,
        login: Login,
    ) -> Result<Self, LoginResp> {
        let mut conn = MessageStream::open(session.open_conn().await.unwrap(), wire);
        let client_hello = hello::client_hello("tcp", false, true, [7; 32]);
        if wire == WireVersion::V2 {
            conn.write_hello(FrameType::ClientHello, &client_hello)
                .await
                .unwrap();
        }
        conn.write(&login.into()).await.unwrap();
        let mut frame = within(conn.read_frame()).await.unwrap();
        let mut keys = None;
        if let Frame::ServerHello(server_hello) = &frame {
            let algorithm = hello::check_server_hello(&client_hello, server_hello).unwrap();
            let token = TOKEN.as_bytes();
            keys = Some(ControlKeys::derive(
                token,
                algorithm,
                &client_hello,
                server_hello,
            ));
            frame = within(conn.read_frame()).await.unwrap();
        }
        let Frame::Message(Message::LoginResp(response)) = frame else {
            panic!("{frame:?}")
        };
        if !response.error.is_empty() {
            let rest = within(conn.read()).await;
            assert!(rest.is_err(), "closed after the refusal, not {rest:?}");
            return Err(response);
        }
        let conn = conn.map(|io| match keys {
            Some(keys) => Box::new(TransformStream::new(io, Aead::new(keys, Side::Client))),
            None => {
                let key = cfb::derive_key(TOKEN.as_bytes());
                Box::new(TransformStream::new(io, Cfb::new(key))) as BoxStream
            }
        });
        let (reader, writer) = conn.split();
        Ok(Self {
            session,
            wire,
            response,
            reader,
            writer,
        })
    }

    pub(crate) fn run_id(&self) -> &str {
        &self.response.run_id
    }

    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        self.writer.write(&message.into()).await.unwrap();
    }

    /// The next message that is not `ReqWorkConn`.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            match within(self.reader.read()).await.unwrap() {
                Message::ReqWorkConn(_) => {}
                message => return message,
            }
        }
    }

    /// Waits until the server asks for a work stream.
    pub(crate) async fn asked_for_work_stream(&mut self) {
        let message = within(self.reader.read()).await.unwrap();
        assert!(matches!(message, Message::ReqWorkConn(_)), "{message:?}");
    }

    /// Waits until the server ends the session.
    pub(crate) async fn ended(&mut self) {
        while within(self.reader.read()).await.is_ok() {}
    }

    pub(crate) async fn new_proxy(&mut self, proxy: NewProxy) -> NewProxyResp {
        self.send(proxy).await;
        match self.next().await {
            Message::NewProxyResp(response) => response,
            other => panic!("{other:?}"),
        }
    }

    /// Starts a `tcp` proxy on any port and returns the port.
    pub(crate) async fn tcp_proxy(&mut self, name: &str) -> u16 {
        let response = self.new_proxy(tcp(name)).await;
        assert_eq!(response.error, "");
        port_of(&response)
    }

    /// Opens a work stream; the server has not answered yet.
    pub(crate) async fn open_work_stream(&self) -> MessageStream {
        let message = NewWorkConn {
            run_id: self.run_id().to_owned(),
            ..NewWorkConn::default()
        };
        open_with(&self.session, self.wire, message).await
    }

    /// From here on answers every request for a work stream, and on each echoes what comes.
    pub(crate) fn echo(self, options: WorkOptions) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            let Self {
                session,
                wire,
                response,
                mut reader,
                writer,
            } = self;
            while let Ok(message) = reader.read().await {
                if matches!(message, Message::ReqWorkConn(_)) {
                    let run_id = response.run_id.clone();
                    let message = NewWorkConn {
                        run_id,
                        ..NewWorkConn::default()
                    };
                    let conn = open_with(&session, wire, message).await;
                    tokio::spawn(echo_on(conn, options.clone()));
                }
            }
            drop(writer);
        })
    }
}

/// Opens a stream whose first message is `message`.
pub(crate) async fn open_with(
    session: &Session,
    wire: WireVersion,
    message: impl Into<Message>,
) -> MessageStream {
    let mut conn = MessageStream::open(session.open_conn().await.unwrap(), wire);
    conn.write(&message.into()).await.unwrap();
    conn
}

async fn echo_on(mut conn: MessageStream, options: WorkOptions) {
    let Ok(Message::StartWorkConn(start)) = conn.read().await else {
        return;
    };
    if !start.error.is_empty() {
        return;
    }
    let mut stream = wrap(conn.into_stream(), &options);
    let mut buf = vec![0; 64 * 1024];
    while let Ok(len) = stream.read(&mut buf).await {
        if len == 0 || stream.write_all(&buf[..len]).await.is_err() {
            break;
        }
        let _ = stream.flush().await;
    }
    let _ = stream.shutdown().await;
}

pub(crate) fn tcp(name: &str) -> NewProxy {
    NewProxy {
        proxy_name: name.to_owned(),
        proxy_type: "tcp".to_owned(),
        ..NewProxy::default()
    }
}

/// The port in `remote_addr`, which is `:PORT`.
pub(crate) fn port_of(response: &NewProxyResp) -> u16 {
    response
        .remote_addr
        .strip_prefix(':')
        .unwrap()
        .parse()
        .unwrap()
}

/// A user of a proxy.
pub(crate) async fn user(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.unwrap()
}

/// Sends `data` and expects it back.
pub(crate) async fn expect_echo<S>(stream: &mut S, data: &[u8])
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    stream.write_all(data).await.unwrap();
    stream.flush().await.unwrap();
    let mut back = vec![0; data.len()];
    within(stream.read_exact(&mut back)).await.unwrap();
    assert!(back == data, "what comes back is what was sent");
}

/// The `StartWorkConn` on a work stream.
pub(crate) async fn started(conn: &mut MessageStream) -> StartWorkConn {
    match within(conn.read()).await.unwrap() {
        Message::StartWorkConn(start) => start,
        other => panic!("{other:?}"),
    }
}

/// Waits until the stream is closed by the server; nothing may come before.
pub(crate) async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut buf = [0; 64];
    match within(stream.read(&mut buf)).await {
        Ok(0) | Err(_) => {}
        Ok(len) => panic!("{:?} before the end", &buf[..len]),
    }
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("this comes in time")
}
