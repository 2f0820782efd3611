//! A scripted frps that holds streams: what a Holdfast's does, as far as the tests need it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use frp_core::config::ClientConfig;
use frp_core::conn::{MessageReader, MessageStream, MessageWriter};
use frp_core::hold::flow::Flow;
use frp_core::hold::join::{First, answer_join, exporter, sort};
use frp_core::hold::watch::{
    Allowance, CarrierWatch, WatchConfig, WatchEvent, answer_mirror, answer_padding,
};
use frp_core::hold::{CarrierId, HeldSession};
use frp_core::proto::cfb;
use frp_core::proto::extension::{HoldfastWelcome, VERSION};
use frp_core::proto::hold::Budget;
use frp_core::proto::hold::key::{ResumeKey, SessionId, SessionKey};
use frp_core::proto::hold::session::{Config as SessionConfig, EndReason, Role as HoldRole};
use frp_core::proto::msg::{
    Login, LoginResp, Message, NewProxy, NewProxyResp, ReqWorkConn, StartWorkConn,
};
use frp_core::proto::path::{Pace, ProberConfig, Role};
use frp_core::transform::TransformStream;
use frp_core::transform::cfb::Cfb;
use frp_core::transports::memory::MemoryTransport;
use frp_core::transports::{BoxStream, Carrier, Transport, TransportKind};
use frpc::client::Client;
use frpc::links::memory::Memory;
use frpc::transport::Dialers;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::super::server::{Running, TOKEN, soon};

/// A network for each transport, so that one can be down while the other is not.
pub(crate) struct Net(BTreeMap<TransportKind, MemoryTransport>);

impl Net {
    pub(crate) fn new(kinds: &[TransportKind]) -> Self {
        let nets = kinds.iter().map(|kind| {
            let transport = MemoryTransport::new().with_keys().with_datagrams();
            (*kind, transport)
        });
        Self(nets.collect())
    }

    pub(crate) fn of(&self, kind: TransportKind) -> &MemoryTransport {
        &self.0[&kind]
    }

    pub(crate) fn client(&self, config: ClientConfig, memory: Memory) -> Running {
        let transports = self.0.iter().map(|(kind, transport)| {
            let transport: Arc<dyn Transport> = Arc::new(transport.clone());
            (*kind, transport)
        });
        Self::client_by(Dialers::from_transports(transports), config, memory)
    }

    /// A client that dials by these.
    pub(crate) fn client_by(dialers: Dialers, config: ClientConfig, memory: Memory) -> Running {
        let client = Client::new(config, TOKEN.into(), dialers, memory, [7; 16]);
        let running = client.clone();
        Running {
            client,
            task: tokio::spawn(async move { running.run().await }),
        }
    }
}

/// The server. Its carriers are served for as long as the test runs.
pub(crate) struct Holder {
    shared: Arc<Shared>,
    sessions: mpsc::UnboundedReceiver<Session>,
}

struct Shared {
    live: Mutex<BTreeMap<SessionId, Arc<HeldSession>>>,
    conns: Mutex<BTreeMap<SessionId, mpsc::UnboundedSender<MessageStream>>>,
    resume: Mutex<Option<(SessionId, ResumeKey)>>,
    begun: mpsc::UnboundedSender<Session>,
    budget: Budget,
    next_carrier: AtomicU64,
    n_logins: AtomicUsize,
    lies: AtomicBool,
    is_plain: AtomicBool,
    /// Whether joins are answered.
    answers: watch::Sender<bool>,
}

/// A session as the server sees it.
pub(crate) struct Session {
    pub(crate) login: Login,
    /// Its proof that the session before was its own is right.
    pub(crate) is_resumed: bool,
    pub(crate) held: Arc<HeldSession>,
    reader: MessageReader,
    writer: MessageWriter,
    conns: mpsc::UnboundedReceiver<MessageStream>,
    early: VecDeque<Message>,
}

impl Holder {
    pub(crate) async fn start(net: &Net) -> Self {
        let (begun, sessions) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            live: Mutex::default(),
            conns: Mutex::default(),
            resume: Mutex::default(),
            begun,
            budget: Budget::new(64 << 20),
            next_carrier: AtomicU64::new(1),
            n_logins: AtomicUsize::new(0),
            lies: AtomicBool::new(false),
            is_plain: AtomicBool::new(false),
            answers: watch::Sender::new(true),
        });
        for transport in net.0.values() {
            let listener = transport.bind(([127, 0, 0, 1], 7000).into()).await.unwrap();
            let shared = shared.clone();
            tokio::spawn(async move {
                loop {
                    let carrier = listener.accept().await.unwrap().carrier;
                    carrier.admit();
                    tokio::spawn(shared.clone().serve(carrier));
                }
            });
        }
        Self { shared, sessions }
    }

    pub(crate) fn config() -> ClientConfig {
        ClientConfig {
            server_addr: "127.0.0.1".to_owned(),
            ..ClientConfig::default()
        }
    }

    /// The next session that begins.
    pub(crate) async fn session(&mut self) -> Session {
        soon("session", self.sessions.recv()).await.unwrap()
    }

    /// The same for a server that is plain frp.
    pub(crate) async fn plain_session(&mut self) -> Session {
        self.session().await
    }

    pub(crate) fn n_logins(&self) -> usize {
        self.shared.n_logins.load(Ordering::Relaxed)
    }

    /// As a server that was killed and started again.
    pub(crate) fn forget(&self) {
        for (_, held) in std::mem::take(&mut *self.shared.live.lock()) {
            held.end(EndReason::GraceExpired);
        }
    }

    /// Answers logins with a wrong proof, from here on.
    pub(crate) fn lie(&self, is_on: bool) {
        self.shared.lies.store(is_on, Ordering::Relaxed);
    }

    /// Answers joins, or leaves them waiting until it does again.
    pub(crate) fn answer_joins(&self, is_on: bool) {
        self.shared.answers.send_replace(is_on);
    }

    /// Says nothing of Holdfast, from here on.
    pub(crate) fn be_plain(&self, is_on: bool) {
        self.shared.is_plain.store(is_on, Ordering::Relaxed);
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, carrier: Arc<dyn Carrier>) {
        let id = CarrierId(self.next_carrier.fetch_add(1, Ordering::Relaxed));
        let mine: Arc<Mutex<Option<Arc<HeldSession>>>> = Arc::default();
        while let Ok(Some(stream)) = carrier.accept_stream().await {
            let (this, carrier, mine) = (self.clone(), carrier.clone(), mine.clone());
            tokio::spawn(async move {
                match sort(stream).await {
                    Ok(First::Frp(stream)) => this.take_frp(id, &carrier, stream, &mine).await,
                    Ok(First::Route(stream)) => {
                        let held = mine.lock().clone().expect("routes come after the join");
                        if let Ok(Some(stream)) = held.accept_route(id, stream).await {
                            this.take_conn(*held.id(), stream).await;
                        }
                    }
                    Ok(First::Join(stream)) => {
                        let _ = this.answers.subscribe().wait_for(|is_on| *is_on).await;
                        let find =
                            async |session: SessionId| this.live.lock().get(&session).cloned();
                        let joined = answer_join(stream, &carrier, id, find, || ()).await;
                        let Ok((held, stream)) = joined else {
                            return;
                        };
                        *mine.lock() = Some(held.clone());
                        let config = WatchConfig {
                            role: Role::Answering,
                            prober: ProberConfig::default(),
                            pace: Pace::InUse,
                        };
                        let (_watch, mut told) =
                            CarrierWatch::start(&held, id, &carrier, stream, config);
                        while let Some(event) = told.recv().await {
                            if matches!(event, WatchEvent::Closed(_)) {
                                return;
                            }
                        }
                    }
                    Ok(First::Padding(stream)) => answer_padding(stream).await,
                    Ok(First::Mirror(stream)) => {
                        answer_mirror(stream, carrier.peer_addr(), &Allowance::default()).await;
                    }
                    Err(_) => {}
                }
            });
        }
    }

    async fn take_conn(&self, session: SessionId, stream: BoxStream) {
        let Ok(conn) = MessageStream::accept(stream).await else {
            return;
        };
        if let Some(conns) = self.conns.lock().get(&session) {
            let _ = conns.send(conn);
        }
    }

    async fn take_frp(
        &self,
        id: CarrierId,
        carrier: &Arc<dyn Carrier>,
        stream: BoxStream,
        mine: &Mutex<Option<Arc<HeldSession>>>,
    ) {
        let mut stream = MessageStream::accept(stream).await.unwrap();
        let login = match stream.read().await.unwrap() {
            Message::Login(login) => *login,
            Message::NewWorkConn(_) => {
                // Over a plain session's carrier.
                let conns = self.conns.lock();
                let (_, conns) = conns.iter().next_back().unwrap();
                let _ = conns.send(MessageStream::resume(stream.into_stream(), message_wire()));
                return;
            }
            other => panic!("{other:?} instead of Login"),
        };
        let n_logins = self.n_logins.fetch_add(1, Ordering::Relaxed);
        let session_id = [u8::try_from(n_logins).unwrap() + 1; 16];
        let exporter = exporter(carrier).unwrap();
        let hello = login.holdfast.get().unwrap().clone();
        let server_random = [9; 32];
        let token = TOKEN.as_bytes();
        let key = SessionKey::derive(&hello.client_random, &server_random, &exporter, token);
        let mut proof = key.login_proof(&session_id);
        if self.lies.load(Ordering::Relaxed) {
            proof[0] ^= 1;
        }
        let is_resumed = match (&hello.resume, &*self.resume.lock()) {
            (Some(resume), Some((before, key))) => {
                resume.session_id == *before && key.verify(before, &exporter, &resume.proof)
            }
            _ => false,
        };
        *self.resume.lock() = Some((session_id, key.resume_key()));
        let welcome = HoldfastWelcome {
            version: VERSION,
            session_id,
            server_random,
            grace: GRACE,
            proof: Some(proof),
            ..HoldfastWelcome::default()
        };
        let is_plain = self.is_plain.load(Ordering::Relaxed);
        let answer = LoginResp {
            run_id: "run-id".to_owned(),
            holdfast: Some(welcome).filter(|_| !is_plain).into(),
            ..LoginResp::default()
        };
        stream.write(&answer.into()).await.unwrap();
        let config = SessionConfig {
            role: HoldRole::Server,
            instance: hello.instance,
            grace: GRACE,
            max_streams: 1024,
            max_bytes: 16 << 20,
        };
        let held = HeldSession::new(config, session_id, key, &self.budget);
        let (conns_tx, conns) = mpsc::unbounded_channel();
        self.conns.lock().insert(session_id, conns_tx);
        let cipher = |stream: BoxStream| -> BoxStream {
            Box::new(TransformStream::new(
                stream,
                Cfb::new(cfb::derive_key(token)),
            ))
        };
        let stream = match is_plain {
            true => stream.map(cipher),
            false => stream.map(|stream| cipher(held.hold_control(id, carrier, stream))),
        };
        *mine.lock() = Some(held.clone());
        self.live.lock().insert(session_id, held.clone());
        let (reader, writer) = stream.split();
        let session = Session {
            login,
            is_resumed,
            held,
            reader,
            writer,
            conns,
            early: VecDeque::new(),
        };
        let _ = self.begun.send(session);
    }
}

fn message_wire() -> frp_core::proto::WireVersion {
    frp_core::proto::WireVersion::V1
}

const GRACE: Duration = Duration::from_secs(30);

impl Session {
    pub(crate) fn id(&self) -> SessionId {
        *self.held.id()
    }

    async fn next(&mut self) -> Message {
        match self.early.pop_front() {
            Some(message) => message,
            None => soon("message", self.reader.read()).await.unwrap(),
        }
    }

    /// Takes the next NewProxy and agrees to it.
    pub(crate) async fn agree(&mut self) -> NewProxy {
        let Message::NewProxy(proxy) = self.next().await else {
            panic!("no NewProxy");
        };
        let answer = NewProxyResp {
            proxy_name: proxy.proxy_name.clone(),
            remote_addr: ":6000".to_owned(),
            ..NewProxyResp::default()
        };
        self.send(answer.into()).await;
        *proxy
    }

    async fn send(&mut self, message: Message) {
        soon("room", self.writer.write(&message)).await.unwrap();
    }

    /// Connects a user of proxy `name`.
    pub(crate) async fn connect_user(&mut self, name: &str) -> BoxStream {
        self.begin_work(name, 0).await
    }

    /// Begins to use a work stream for the `udp` proxy `name`, with a flow.
    pub(crate) async fn connect_flow(&mut self, name: &str) -> (BoxStream, Flow) {
        let flow = self.held.open_flow().unwrap();
        let number = flow.number().cast_signed();
        (self.begin_work(name, number).await, flow)
    }

    async fn begin_work(&mut self, name: &str, holdfast_flow: i64) -> BoxStream {
        self.send(ReqWorkConn::default().into()).await;
        let mut conn = soon("conn", self.conns.recv()).await.unwrap();
        // A held stream begins with NewWorkConn; over a plain carrier it has been read.
        if !self.login_is_plain() {
            let Message::NewWorkConn(_) = soon("NewWorkConn", conn.read()).await.unwrap() else {
                panic!("no NewWorkConn");
            };
        }
        let start = StartWorkConn {
            proxy_name: name.to_owned(),
            src_addr: "192.0.2.1".to_owned(),
            src_port: 4000,
            dst_addr: "192.0.2.2".to_owned(),
            dst_port: 80,
            holdfast_flow,
            ..StartWorkConn::default()
        };
        conn.write(&start.into()).await.unwrap();
        conn.into_stream()
    }

    fn login_is_plain(&self) -> bool {
        self.held.status().in_use.is_none() && self.held.stats().n_streams == 0
    }
}
