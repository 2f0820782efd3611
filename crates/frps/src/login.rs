//! From the first message of a control stream to a running session.

use std::sync::Arc;
use std::time::Duration;

use frp_core::conn::{ConnError, MessageStream};
use frp_core::proto::WireVersion;
use frp_core::proto::cfb;
use frp_core::proto::hello::{self, ControlKeys, Negotiated};
use frp_core::proto::ids::{self, Short};
use frp_core::proto::msg::{Login, LoginResp};
use frp_core::proto::v2::FrameType;
use frp_core::transform::TransformStream;
use frp_core::transform::aead::{Aead, Side};
use frp_core::transform::cfb::Cfb;
use frp_core::transports::Class;
use tokio::io::AsyncWriteExt;
use tracing::{Instrument, Span, debug, info, info_span, warn};

use crate::auth::WrongToken;
use crate::cli::FRP_VERSION;
use crate::clients::{Arrival, ClientIdTaken};
use crate::control::{self, Place};
use crate::displacement::{HeldOff, Stamp};
use crate::held;
use crate::link::Link;
use crate::registry::Closed;
use crate::server::{Server, reject};
use crate::session::{Beginning, EndCause, Session};
use crate::text::printable;

/// Answers a v2 client's hello. The keys that come out of it encrypt the control stream after the
/// login. Nothing waits for the answer, so it is left to go out with the next one.
pub(crate) async fn answer_hello(
    mut conn: MessageStream,
    client_hello: &[u8],
    token: &[u8],
) -> Result<(MessageStream, ControlKeys), ConnError> {
    let answering = async {
        match hello::negotiate(client_hello, rand::random()) {
            Ok(Negotiated {
                algorithm,
                server_hello,
            }) => {
                conn.write_hello(FrameType::ServerHello, &server_hello)
                    .await?;
                let keys = ControlKeys::derive(token, algorithm, client_hello, &server_hello);
                Ok((conn, keys))
            }
            Err(refusal) => {
                debug!("refused a client's hello: {}", refusal.error);
                if let Some(server_hello) = refusal.server_hello {
                    conn.write_hello(FrameType::ServerHello, &server_hello)
                        .await?;
                    conn.into_stream().flush().await?;
                }
                Err(ConnError::Unexpected(
                    "an unusable ClientHello",
                    "one we can answer",
                ))
            }
        }
    };
    tokio::time::timeout(WRITE_TIMEOUT, answering)
        .await
        .map_err(|_| ConnError::Timeout(WRITE_TIMEOUT))?
}

/// Answers a login, and runs the session that it leads to until its end.
pub(crate) async fn serve(
    server: Arc<Server>,
    link: Arc<Link>,
    mut conn: MessageStream,
    login: Login,
    keys: Option<ControlKeys>,
) {
    let run_id = if login.run_id.is_empty() {
        new_run_id()
    } else {
        login.run_id.clone()
    };
    let span = info_span!("control", run_id = %Short(&run_id));
    let logging_in = async {
        match log_in(&server, &link, conn.wire(), login, run_id, keys.is_some()).await {
            Ok(place) => Some(place),
            Err(error) => {
                warn!("register control error: {error}");
                reject(error.cause());
                count_login(error.cause());
                let response = LoginResp {
                    version: FRP_VERSION.to_owned(),
                    error: server.error_for_client("register control error", &error),
                    ..LoginResp::default()
                };
                if let Err(error) = conn.write_within(&response.into(), WRITE_TIMEOUT).await {
                    debug!("cannot tell the client: {error}");
                }
                None
            }
        }
    };
    let Some(place) = logging_in.instrument(span).await else {
        return;
    };
    start(server, place, conn, keys).await;
}

/// Answers `LoginResp` and runs the control stream.
async fn start(
    server: Arc<Server>,
    place: Place,
    mut conn: MessageStream,
    keys: Option<ControlKeys>,
) {
    let session = Arc::clone(place.session());
    let span = session.span.clone();
    let answering = async {
        // Before the answer: the client's next streams may come right behind it.
        session.link.admit();
        if !server.registry.start(&session) {
            debug!("{}", LoginError::Replaced);
            return false;
        }
        // Ahead of whatever users send over the same carrier.
        conn.set_class(Class::Control);
        let response = LoginResp {
            version: FRP_VERSION.to_owned(),
            run_id: session.run_id.clone(),
            holdfast: held::welcome(&server, &session),
            ..LoginResp::default()
        };
        match conn.write_within(&response.into(), WRITE_TIMEOUT).await {
            Ok(()) => {
                count_login("ok");
                if session.login.holdfast.get().is_some() {
                    session.link.carrier.handle_holdfast_peer();
                }
                true
            }
            Err(error) => {
                warn!("complete control login error: {error}");
                session.end(EndCause::LoginFailed);
                false
            }
        }
    };
    if !answering.instrument(span.clone()).await {
        return;
    }
    let conn = match session.held() {
        Some(held) => conn.map(|io| held.begin(&session.link, io)),
        None => conn,
    };
    let conn = match keys {
        Some(keys) => {
            conn.map(|io| Box::new(TransformStream::new(io, Aead::new(keys, Side::Server))))
        }
        None => {
            let key = cfb::derive_key(server.auth.token());
            conn.map(|io| Box::new(TransformStream::new(io, Cfb::new(key))))
        }
    };
    let (reader, writer) = conn.split();
    control::run(server, place, reader, writer)
        .instrument(span)
        .await;
}

/// Checks a login and gives its session a place. The answer is still to be written.
async fn log_in(
    server: &Arc<Server>,
    link: &Arc<Link>,
    wire: WireVersion,
    login: Login,
    run_id: String,
    has_keys: bool,
) -> Result<Place, LoginError> {
    info!(
        "client login info: ip [{}] version [{}] hostname [{}] os [{}] arch [{}]",
        link.carrier.peer_addr(),
        printable(&login.version),
        printable(&login.hostname),
        printable(&login.os),
        printable(&login.arch),
    );
    if wire == WireVersion::V2 && !has_keys {
        return Err(LoginError::NoHello);
    }
    if !ids::is_acceptable(&run_id) {
        return Err(LoginError::RunId);
    }
    if login.holdfast.is_malformed() {
        debug!("the client's holdfast extension makes no sense: taken for plain frp");
    }
    server.auth.check_login(&login)?;
    let stamp = Stamp {
        timestamp: login.timestamp,
        privilege_key: &login.privilege_key,
    };
    let instance = login.holdfast.get().map(|hello| &hello.instance);
    if let Some(before) = held::take_over(server, link, &login) {
        info!("takes over from the client's process before");
        before.end(EndCause::TakenOver);
        before.finished().await;
    }
    // Its own run id is free by now; another client's is not given away by that proof.
    let registry = &server.registry;
    registry.may_displace(&run_id, stamp, instance).await?;

    let has_own_id = !login.client_id.is_empty();
    let session = Session::new(Beginning {
        id: server.registry.next_id(),
        client_id: if has_own_id {
            login.client_id.clone()
        } else {
            server.clients.name_for(&run_id)
        },
        run_id,
        login,
        wire,
        link: Arc::clone(link),
        max_pool_count: server.max_pool_count,
        span: Span::current(),
    });
    let displaced = server.registry.insert(&session)?;
    let place = Place::new(server, &session);
    if let Some(displaced) = displaced {
        displaced.finished().await;
    }
    if !server.registry.is_current(&session) {
        return Err(LoginError::Replaced);
    }
    server.clients.arrive(&Arrival {
        user: &session.login.user,
        client_id: &session.client_id,
        has_own_id,
        run_id: &session.run_id,
        session_id: session.id,
        hostname: &session.login.hostname,
        version: &session.login.version,
        wire: match session.wire {
            WireVersion::V1 => "v1",
            WireVersion::V2 => "v2",
        },
        ip: Some(link.carrier.peer_addr().ip().to_canonical()),
    })?;
    Ok(place)
}

fn count_login(result: &'static str) {
    metrics::counter!("holdfast_logins_total", "result" => result).increment(1);
}

fn new_run_id() -> String {
    ids::run_id(rand::random())
}

/// Why a login is refused. The texts are frp's where frp has one.
#[derive(Debug, thiserror::Error)]
enum LoginError {
    #[error("missing v2 crypto negotiation")]
    NoHello,
    #[error("invalid run id")]
    RunId,
    #[error(transparent)]
    WrongToken(#[from] WrongToken),
    #[error(transparent)]
    HeldOff(#[from] HeldOff),
    #[error(transparent)]
    ClientIdTaken(#[from] ClientIdTaken),
    #[error("control was replaced during login")]
    Replaced,
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl LoginError {
    /// For the metric, so one of few.
    fn cause(&self) -> &'static str {
        match self {
            Self::NoHello => "login without hello",
            Self::RunId => "login run id",
            Self::WrongToken(_) => "login token",
            Self::HeldOff(HeldOff::Stale) => "login repeated",
            Self::HeldOff(HeldOff::Duel) => "login duel",
            Self::ClientIdTaken(_) => "login client id",
            Self::Replaced => "login replaced",
            Self::Closed(_) => "login at shutdown",
        }
    }
}

/// How long a client may take to accept an answer, as in frp.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
