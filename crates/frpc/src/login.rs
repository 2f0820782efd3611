//! The login: the first exchange on the first conn of a session.
//!
//! v1: Login, LoginResp in clear, then both ways encrypted with the token. v2: the two hellos go
//! before each of them, and the keys come from both hellos and the token. Between two Holdfasts that
//! hold streams, the conn is a held stream from right behind LoginResp, below the cipher.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use frp_core::conn::{ConnError, Frame, MessageReader, MessageStream, MessageWriter};
use frp_core::hold::{CarrierId, HeldSession, join};
use frp_core::proto::extension::{self, HoldfastHello, HoldfastWelcome, Resume};
use frp_core::proto::hello::{self, ControlKeys, HelloError};
use frp_core::proto::hold::Budget;
use frp_core::proto::hold::key::{Exporter, ResumeKey, SessionId, SessionKey};
use frp_core::proto::hold::session::{Config as SessionConfig, Role};
use frp_core::proto::msg::{Login, LoginResp, Message};
use frp_core::proto::v2::FrameType;
use frp_core::proto::{WireVersion, cfb, ids};
use frp_core::session::{OpenError, Session};
use frp_core::transform::TransformStream;
use frp_core::transform::aead::{Aead, Side};
use frp_core::transform::cfb::Cfb;
use frp_core::transports::{Carrier, Class, DialError, TransportKind};

use crate::context::Context;
use crate::go_text;
use crate::transport::has_tls;

/// The version that frpc calls itself: peers and scripts compare it with frp's.
pub const FRP_VERSION: &str = "0.70.1";

/// How long frps has to answer a login. frp's value.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A session has begun.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    /// The session's id, to be sent again when logging in anew.
    pub(crate) run_id: String,
    /// What frps calls its version.
    pub(crate) version: String,
    /// What frps has said of itself, if it is a Holdfast.
    pub(crate) welcome: Option<HoldfastWelcome>,
    /// The session of held streams, if both sides hold. The login's carrier has not joined it yet.
    pub(crate) held: Option<Arc<HeldSession>>,
    /// From frps.
    pub(crate) reader: MessageReader,
    /// To frps.
    pub(crate) writer: MessageWriter,
}

impl LoggedIn {
    /// Where else the server can be reached, if it is a Holdfast.
    pub(crate) fn endpoints(&self) -> Option<Vec<(String, u16)>> {
        let endpoints = &self.welcome.as_ref()?.endpoints;
        let told = endpoints.iter().map(|e| (e.transport.clone(), e.port));
        Some(told.collect())
    }

    /// How long the session is kept without a carrier.
    pub(crate) fn grace(&self) -> Duration {
        let welcome = self.welcome.as_ref().filter(|_| self.held.is_some());
        welcome.map_or(Duration::ZERO, |welcome| welcome.grace)
    }
}

/// Why no session has begun. The texts end up in `connect to server error: ...`.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The server cannot be reached.
    #[error("{}", go_text::dial(.0))]
    Dial(#[from] DialError),
    /// It can, but no conn could be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The exchange broke off.
    #[error(transparent)]
    Conn(#[from] ConnError),
    /// frps refused, in these words.
    #[error("{0}")]
    Refused(String),
    /// frps gave the session a name that cannot be used.
    #[error("the server gave an unusable run id")]
    RunId,
    /// The hellos do not agree.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// There is no way to dial by this one.
    #[error("not supported yet: transport.protocol {0}")]
    NoTransport(TransportKind),
    /// The server has been a Holdfast, and this one does not show it; `requirePeer` is set.
    #[error("{0}, and transport.auto.requirePeer is set")]
    NotHoldfast(&'static str),
    /// The system has no randomness.
    #[error("no random numbers from the system: {0}")]
    Random(#[from] getrandom::Error),
}

impl LoginError {
    /// For the metric, so one of few.
    fn cause(&self) -> &'static str {
        match self {
            Self::Dial(_) | Self::Open(_) => "unreachable",
            Self::Conn(ConnError::Timeout(_)) => "timeout",
            Self::Conn(_) | Self::RunId | Self::Hello(_) => "protocol",
            Self::Refused(_) => "refused",
            Self::NoTransport(_) | Self::Random(_) => "error",
            Self::NotHoldfast(_) => "no holdfast",
        }
    }
}

/// What a login goes over, and what it says of the time before.
#[derive(Debug)]
pub(crate) struct Over {
    /// The carrier.
    pub(crate) carrier: Arc<dyn Carrier>,
    /// Its number in the held session that may come of the login.
    pub(crate) id: CarrierId,
    /// How the server was dialled.
    pub(crate) kind: TransportKind,
    /// The run id of the session before, or empty.
    pub(crate) run_id: String,
    /// What proves that the session before was this client's.
    pub(crate) previous: Option<(SessionId, ResumeKey)>,
    /// The server has been a Holdfast before.
    pub(crate) is_known_holdfast: bool,
}

/// Logs in over a new conn of `session`, which is one of plain conns over `over.carrier`.
pub(crate) async fn login(
    context: &Context,
    session: &Session,
    over: &Over,
) -> Result<LoggedIn, LoginError> {
    let began = Instant::now();
    let result = try_login(context, session, over).await;
    let cause = match &result {
        Ok(_) => "ok",
        Err(error) => error.cause(),
    };
    let labels = [("result", cause), ("transport", over.kind.name())];
    metrics::counter!("holdfast_login_attempts_total", &labels).increment(1);
    if result.is_ok() {
        metrics::histogram!("holdfast_login_seconds").record(began.elapsed().as_secs_f64());
    }
    result
}

async fn try_login(
    context: &Context,
    session: &Session,
    over: &Over,
) -> Result<LoggedIn, LoginError> {
    let mut stream = session.open_conn().await?;
    stream.set_class(Class::Control);
    let stream = MessageStream::open(stream, context.wire());
    let offer = Offer::new(context, over)?;
    let stamp = context.sign_login().await;
    let login = login_message(context, over, &offer, stamp).into();
    tokio::time::timeout(
        ANSWER_TIMEOUT,
        exchange(context, stream, &login, over, &offer),
    )
    .await
    .map_err(|_| ConnError::Timeout(ANSWER_TIMEOUT))?
}

async fn exchange(
    context: &Context,
    mut stream: MessageStream,
    login: &Message,
    over: &Over,
    offer: &Offer,
) -> Result<LoggedIn, LoginError> {
    let token = context.token.expose().as_bytes();
    let mut keys = None;
    if stream.wire() == WireVersion::V2 {
        let transport = &context.config.transport;
        let mut random = [0; hello::RANDOM_LEN];
        getrandom::fill(&mut random)?;
        let name = over.kind.to_string();
        let has_tls = has_tls(&context.config, over.kind);
        let client_hello = hello::client_hello(&name, has_tls, transport.tcp_mux, random);
        stream
            .write_hello(FrameType::ClientHello, &client_hello)
            .await?;
        stream.write(login).await?;
        let Frame::ServerHello(server_hello) = stream.read_frame().await? else {
            return Err(ConnError::Unexpected("another frame", "ServerHello").into());
        };
        let algorithm = hello::check_server_hello(&client_hello, &server_hello)?;
        keys = Some(ControlKeys::derive(
            token,
            algorithm,
            &client_hello,
            &server_hello,
        ));
    } else {
        stream.write(login).await?;
    }

    let answer = match stream.read().await? {
        Message::LoginResp(answer) => answer,
        other => return Err(ConnError::Unexpected(other.name(), "LoginResp").into()),
    };
    let LoginResp {
        version,
        run_id,
        error,
        holdfast,
        ..
    } = answer;
    if !error.is_empty() {
        return Err(LoginError::Refused(error));
    }
    // It is sent back with every work conn and the next login, and stands in logs.
    if !ids::is_acceptable(&run_id) {
        return Err(LoginError::RunId);
    }
    if holdfast.is_malformed() {
        tracing::warn!("the server's holdfast extension makes no sense: taken for plain frp");
    }
    let key = match offer.agree(holdfast.get(), token, over.is_known_holdfast) {
        Agreement::Hold(key) => Some(key),
        Agreement::Holdfast => None,
        Agreement::Doubtful(what) => {
            if over.is_known_holdfast && context.config.transport.auto.require_peer {
                return Err(LoginError::NotHoldfast(what));
            }
            if over.is_known_holdfast || holdfast.get().is_some() {
                tracing::warn!(
                    "{what}: somebody may be in between, or the server was exchanged; taken for \
                     plain frp, without held connections (transport.auto.requirePeer refuses it)"
                );
            }
            None
        }
    };
    let welcome = holdfast.get().cloned();
    let held = welcome
        .as_ref()
        .zip(key)
        .map(|(welcome, key)| held_session(context, welcome, key));
    // Nothing behind LoginResp has been read, so the held stream and the cipher start there.
    let stream = stream.map(|stream| match &held {
        Some(held) => held.hold_control(over.id, &over.carrier, stream),
        None => stream,
    });
    let stream = stream.map(|stream| match keys {
        Some(keys) => Box::new(TransformStream::new(stream, Aead::new(keys, Side::Client))),
        None => Box::new(TransformStream::new(
            stream,
            Cfb::new(cfb::derive_key(token)),
        )),
    });
    let (reader, writer) = stream.split();
    Ok(LoggedIn {
        run_id,
        version,
        welcome,
        held,
        reader,
        writer,
    })
}

/// What this client offers beyond frp.
#[derive(Debug)]
struct Offer {
    client_random: [u8; 32],
    /// What the carrier's TLS exports, where streams can be held over it.
    exporter: Option<Exporter>,
}

/// What has come of it.
#[derive(Debug)]
enum Agreement {
    /// Streams are held in a session with this key.
    Hold(SessionKey),
    /// The server is a Holdfast that holds no streams.
    Holdfast,
    /// The server is no Holdfast, or no longer.
    Doubtful(&'static str),
}

impl Offer {
    fn new(context: &Context, over: &Over) -> Result<Self, getrandom::Error> {
        let mut client_random = [0; 32];
        getrandom::fill(&mut client_random)?;
        let can_hold = context.config.transport.hold.enable && over.carrier.is_multiplexed();
        let exporter = can_hold.then(|| join::exporter(&over.carrier).ok());
        Ok(Self {
            client_random,
            exporter: exporter.flatten(),
        })
    }

    fn agree(
        &self,
        welcome: Option<&HoldfastWelcome>,
        token: &[u8],
        was_proven: bool,
    ) -> Agreement {
        let Some(welcome) = welcome else {
            return Agreement::Doubtful("the server does not show that it is a Holdfast");
        };
        let Some(exporter) = self.exporter else {
            return Agreement::Holdfast;
        };
        if welcome.grace.is_zero() {
            // Nothing is proven by that: whoever sits in between can say it.
            return match was_proven {
                true => Agreement::Doubtful("the server no longer proves that it is a Holdfast"),
                false => Agreement::Holdfast,
            };
        }
        let random = &welcome.server_random;
        let key = SessionKey::derive(&self.client_random, random, &exporter, token);
        let proves = |proof| key.verify_login_proof(&welcome.session_id, proof);
        if welcome.proof.as_ref().is_some_and(proves) {
            Agreement::Hold(key)
        } else {
            Agreement::Doubtful("the server's proof is wrong")
        }
    }
}

fn held_session(context: &Context, welcome: &HoldfastWelcome, key: SessionKey) -> Arc<HeldSession> {
    let limits = &welcome.limits;
    let max_streams = match limits.held_streams {
        0 => MAX_HELD_STREAMS,
        n => usize::try_from(n).map_or(MAX_HELD_STREAMS, |n| n.min(MAX_HELD_STREAMS)),
    };
    let max_bytes = match limits.replay_bytes {
        0 => MAX_HELD_BYTES,
        n => n.min(MAX_HELD_BYTES),
    };
    let config = SessionConfig {
        role: Role::Client,
        instance: context.instance,
        grace: welcome.grace,
        max_streams,
        max_bytes,
    };
    HeldSession::new(config, welcome.session_id, key, process_budget())
}

/// Held streams of a session, also where the server allows more: as many as work conns can wait and
/// be served. At the bound a further one is refused.
const MAX_HELD_STREAMS: usize = 64 * 1024;

/// What the streams of a session keep, for repetition and for their readers: eight of them at their
/// largest window. At the bound each goes on with its floor.
const MAX_HELD_BYTES: u64 = 128 * 1024 * 1024;

/// The same for all sessions of this program, twice as much: with many configurations in one
/// directory there are many.
fn process_budget() -> &'static Budget {
    static PROCESS: OnceLock<Budget> = OnceLock::new();
    PROCESS.get_or_init(|| Budget::new(2 * MAX_HELD_BYTES))
}

fn login_message(
    context: &Context,
    over: &Over,
    offer: &Offer,
    (privilege_key, timestamp): (String, i64),
) -> Login {
    let config = &context.config;
    let resume = over.previous.as_ref().zip(offer.exporter);
    let resume = resume.map(|((session_id, key), exporter)| Resume {
        session_id: *session_id,
        proof: key.proof(session_id, &exporter),
    });
    let hello = HoldfastHello {
        version: extension::VERSION,
        capabilities: match offer.exporter {
            Some(_) => vec![CAN_HOLD.to_owned(), CAN_UDP.to_owned()],
            None => Vec::new(),
        },
        client_random: offer.client_random,
        instance: context.instance,
        resume,
    };
    Login {
        version: FRP_VERSION.to_owned(),
        hostname: context.hostname.clone(),
        os: go_os().to_owned(),
        arch: go_arch().to_owned(),
        user: config.user.clone(),
        privilege_key,
        timestamp,
        run_id: over.run_id.clone(),
        client_id: config.client_id.clone(),
        metas: config.metadatas.clone(),
        pool_count: config.transport.pool_count.into(),
        holdfast: hello.into(),
        ..Login::default()
    }
}

/// The capability of holding streams, joining carriers, and probing.
const CAN_HOLD: &str = "hold";

/// The capability of taking the datagrams of `udp` proxies beside their work conns.
const CAN_UDP: &str = "udp";

/// Go's name for the operating system.
fn go_os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    }
}

/// Go's name for the processor architecture.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        arch => arch,
    }
}
