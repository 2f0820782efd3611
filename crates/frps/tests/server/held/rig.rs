//! A server with carriers in memory, and the client's end of held sessions as a test wants it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use frp_core::config::ServerConfig;
use frp_core::conn::{MessageReader, MessageStream, MessageWriter};
use frp_core::hold::join::{self, JoinFailure};
use frp_core::hold::watch::{CarrierWatch, WatchConfig};
use frp_core::hold::{CarrierId, HeldSession};
use frp_core::proto::extension::{HoldfastHello, HoldfastWelcome};
use frp_core::proto::hold::Budget;
use frp_core::proto::hold::key::{Exporter, SessionKey};
use frp_core::proto::hold::session::{Config, Role};
use frp_core::proto::msg::{Login, LoginResp, NewProxy, NewProxyResp, NewWorkConn};
use frp_core::proto::path::{Pace, ProberConfig};
use frp_core::proto::{Message, WireVersion, cfb, path};
use frp_core::transform::TransformStream;
use frp_core::transform::cfb::Cfb;
use frp_core::transports::memory::MemoryTransport;
use frp_core::transports::{BoxStream, Carrier, Endpoint, Transport};
use frps::{Handle, Server, Timing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::AbortHandle;

use crate::client::{PATIENCE, TOKEN, config, login_at, port_of, within};

/// A server, and the network that leads to it.
pub(crate) struct Rig {
    pub(crate) handle: Handle,
    pub(crate) network: MemoryTransport,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(configure: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::on(MemoryTransport::new().with_keys(), configure).await
    }

    pub(crate) async fn on(
        network: MemoryTransport,
        configure: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let mut config = config();
        configure(&mut config);
        let addr = "127.0.0.1:7000".parse().unwrap();
        let listener = network.bind(addr).await.unwrap();
        Self {
            handle: Server::start_on(config, listener, Timing::default()).unwrap(),
            network,
        }
    }

    pub(crate) async fn dial(&self) -> Arc<dyn Carrier> {
        let endpoint = Endpoint {
            host: "server".to_owned(),
            port: 7000,
        };
        self.network.dial(&endpoint).await.unwrap()
    }

    /// A client's process that logs in for the first time.
    pub(crate) async fn client(&self) -> HeldClient {
        self.log_in(login_at(1_700_000_000), hello([1; 16])).await
    }

    pub(crate) async fn log_in(&self, login: Login, hello: HoldfastHello) -> HeldClient {
        let carrier = self.dial().await;
        HeldClient::log_in(carrier, login, hello).await
    }
}

/// What a process of that instance says of itself.
pub(crate) fn hello(instance: [u8; 16]) -> HoldfastHello {
    HoldfastHello {
        version: 1,
        capabilities: vec!["hold".to_owned()],
        client_random: [5; 32],
        instance,
        ..HoldfastHello::default()
    }
}

/// A client whose streams are held.
pub(crate) struct HeldClient {
    pub(crate) held: Arc<HeldSession>,
    pub(crate) response: LoginResp,
    /// Until somebody else takes what comes.
    pub(crate) reader: Option<MessageReader>,
    pub(crate) writer: MessageWriter,
    /// The carriers that have joined.
    pub(crate) paths: Vec<Path>,
}

/// A carrier that has joined.
pub(crate) struct Path {
    pub(crate) id: CarrierId,
    pub(crate) carrier: Arc<dyn Carrier>,
    pub(crate) watch: CarrierWatch,
}

impl HeldClient {
    /// Logs in, and joins with the same carrier.
    pub(crate) async fn log_in(
        carrier: Arc<dyn Carrier>,
        login: Login,
        hello: HoldfastHello,
    ) -> Self {
        let mut client = Self::log_in_only(&carrier, login, hello).await;
        client.join(carrier).await.unwrap();
        client.use_last(false);
        client
    }

    /// Logs in, and leaves it at that.
    pub(crate) async fn log_in_only(
        carrier: &Arc<dyn Carrier>,
        login: Login,
        hello: HoldfastHello,
    ) -> Self {
        let (random, instance) = (hello.client_random, hello.instance);
        let login = Login {
            holdfast: hello.into(),
            ..login
        };
        let stream = carrier.open_stream().await.unwrap();
        let mut conn = MessageStream::open(stream, WireVersion::V1);
        conn.write(&login.into()).await.unwrap();
        let Message::LoginResp(response) = within(conn.read()).await.unwrap() else {
            panic!("something else")
        };
        assert_eq!(response.error, "");
        let welcome = welcome(&response);
        let exporter = exporter(carrier);
        let key = SessionKey::derive(&random, &welcome.server_random, &exporter, TOKEN.as_bytes());
        let proof = welcome.proof.expect("the streams are held");
        assert!(key.verify_login_proof(&welcome.session_id, &proof));
        let config = Config {
            role: Role::Client,
            instance,
            grace: welcome.grace,
            max_streams: 10_000,
            max_bytes: 1 << 30,
        };
        let held = HeldSession::new(config, welcome.session_id, key, &Budget::new(1 << 30));
        let id = next_id();
        let conn = conn.map(|io| held.hold_control(id, carrier, io));
        let key = cfb::derive_key(TOKEN.as_bytes());
        let conn = conn.map(|io| Box::new(TransformStream::new(io, Cfb::new(key))) as BoxStream);
        let (reader, writer) = conn.split();
        Self {
            held,
            response,
            reader: Some(reader),
            writer,
            paths: Vec::new(),
        }
    }

    pub(crate) fn welcome(&self) -> &HoldfastWelcome {
        welcome(&self.response)
    }

    /// Joins with one more carrier.
    pub(crate) async fn join(&mut self, carrier: Arc<dyn Carrier>) -> Result<(), JoinFailure> {
        let id = next_id();
        let stream = join::join(&self.held, id, &carrier, PATIENCE).await?;
        let config = WatchConfig {
            role: path::Role::Asking,
            prober: ProberConfig::default(),
            pace: Pace::Standby,
        };
        let (watch, _) = CarrierWatch::start(&self.held, id, &carrier, stream, config);
        self.paths.push(Path { id, carrier, watch });
        Ok(())
    }

    /// Uses the carrier that came last.
    pub(crate) fn use_last(&mut self, is_planned: bool) {
        let path = self.paths.last().unwrap();
        let generation = self.held.use_carrier(path.id, is_planned).unwrap();
        path.watch.send_use(generation);
    }

    /// Comes back over a new carrier.
    pub(crate) async fn come_back(&mut self, rig: &Rig) {
        self.join(rig.dial().await).await.unwrap();
        self.use_last(false);
    }

    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        self.writer.write(&message.into()).await.unwrap();
    }

    /// The next message that is not `ReqWorkConn`.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            let reader = self.reader.as_mut().unwrap();
            match within(reader.read()).await.unwrap() {
                Message::ReqWorkConn(_) => {}
                message => return message,
            }
        }
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
        let response = self.new_proxy(crate::client::tcp(name)).await;
        assert_eq!(response.error, "");
        port_of(&response)
    }

    /// From here on answers every request for a work stream, and on each echoes what comes.
    pub(crate) fn echo(&mut self) -> AbortHandle {
        let (held, run_id) = (Arc::clone(&self.held), self.response.run_id.clone());
        let mut reader = self.reader.take().unwrap();
        let answering = async move {
            while let Ok(message) = reader.read().await {
                if matches!(message, Message::ReqWorkConn(_)) {
                    let Ok(stream) = held.open_stream() else {
                        return;
                    };
                    tokio::spawn(echo_on(stream, run_id.clone()));
                }
            }
        };
        tokio::spawn(answering).abort_handle()
    }
}

async fn echo_on(stream: BoxStream, run_id: String) {
    let mut conn = MessageStream::open(stream, WireVersion::V1);
    let message = NewWorkConn {
        run_id,
        ..NewWorkConn::default()
    };
    if conn.write(&message.into()).await.is_err() {
        return;
    }
    let Ok(Message::StartWorkConn(start)) = conn.read().await else {
        return;
    };
    assert_eq!(start.error, "");
    let mut stream = conn.into_stream();
    let mut buf = vec![0; 64 * 1024];
    while let Ok(len) = stream.read(&mut buf).await {
        if len == 0 || stream.write_all(&buf[..len]).await.is_err() {
            break;
        }
        let _ = stream.flush().await;
    }
    let _ = stream.shutdown().await;
}

fn welcome(response: &LoginResp) -> &HoldfastWelcome {
    response.holdfast.get().expect("a Holdfast answers")
}

pub(crate) fn exporter(carrier: &Arc<dyn Carrier>) -> Exporter {
    join::exporter(carrier).unwrap()
}

pub(crate) fn next_id() -> CarrierId {
    static LAST: AtomicU64 = AtomicU64::new(0);
    CarrierId(LAST.fetch_add(1, Ordering::Relaxed) + 1)
}
