//! Work and visitor streams: from their first message to where they belong.

use std::sync::Arc;
use std::time::Duration;

use frp_core::conn::MessageStream;
use frp_core::proto::ids::Short;
use frp_core::proto::msg::{NewVisitorConn, NewVisitorConnResp, NewWorkConn, StartWorkConn};
use frp_core::relay::HalfClose;
use tracing::{debug, warn};

use crate::auth::WrongToken;
use crate::link::Origin;
use crate::proxy::{Admission, UserAddrs, VisitorRefused};
use crate::server::{Server, reject};
use crate::session::Session;
use crate::work_pool::PutError;

/// Takes a work stream into the pool of its session, or tells the client why not.
pub(crate) async fn take_in_work_stream(
    server: &Arc<Server>,
    origin: &Origin,
    conn: MessageStream,
    message: &NewWorkConn,
) {
    let session = match session_for_work(server, origin, message) {
        Ok(session) => session,
        Err(error) => return refuse_work_stream(server, conn, &error).await,
    };
    origin.link.admit();
    session.touch();
    match session.work_streams.put(conn) {
        Ok(()) => session
            .span
            .in_scope(|| debug!("new work connection registered")),
        Err(PutError::Full(conn)) => {
            refuse_work_stream(server, conn, &WorkRefused::PoolFull).await;
        }
        Err(PutError::Closed(conn)) => {
            let error = WorkRefused::NotRunning(Short(&message.run_id).to_string());
            refuse_work_stream(server, conn, &error).await;
        }
    }
}

fn session_for_work(
    server: &Arc<Server>,
    origin: &Origin,
    message: &NewWorkConn,
) -> Result<Arc<Session>, WorkRefused> {
    let session = session_on(server, origin, &message.run_id)?;
    server.auth.check_work_conn(message)?;
    Ok(session)
}

async fn refuse_work_stream(server: &Arc<Server>, mut conn: MessageStream, error: &WorkRefused) {
    // frp warns of every one. A full pool is the client's zeal and no reason to look.
    if matches!(error, WorkRefused::WrongToken(_)) {
        warn!("invalid NewWorkConn: {error}");
    } else {
        debug!("invalid NewWorkConn: {error}");
    }
    reject(error.cause());
    let response = StartWorkConn {
        error: server.error_for_client("invalid NewWorkConn", error),
        ..StartWorkConn::default()
    };
    if let Err(error) = conn.write_within(&response.into(), WRITE_TIMEOUT).await {
        debug!("cannot tell the client: {error}");
    }
}

/// Connects a visitor to the proxy it asks for, or tells it why not.
pub(crate) async fn serve_visitor(
    server: Arc<Server>,
    origin: Origin,
    mut conn: MessageStream,
    message: NewVisitorConn,
) {
    let (admission, half_close) = match admit_visitor(&server, &origin, &message) {
        Ok(admitted) => admitted,
        Err(error) => {
            warn!("register visitor conn error: {error}");
            reject(error.cause());
            let response = NewVisitorConnResp {
                proxy_name: message.proxy_name,
                error: server.error_for_client("register visitor conn error", &error),
            };
            if let Err(error) = conn.write_within(&response.into(), WRITE_TIMEOUT).await {
                debug!("cannot tell the visitor: {error}");
            }
            return;
        }
    };
    origin.link.admit();
    let response = NewVisitorConnResp {
        proxy_name: message.proxy_name,
        ..NewVisitorConnResp::default()
    };
    // The answer goes first: behind it the service may be the one that speaks.
    if let Err(error) = conn.write_within(&response.into(), WRITE_TIMEOUT).await {
        debug!("the visitor left: {error}");
        return;
    }
    let carrier = &origin.link.carrier;
    let addrs = UserAddrs {
        src: Some(carrier.peer_addr()),
        dst: carrier.local_addr(),
    };
    admission.serve(conn.into_stream(), addrs, half_close).await;
}

fn admit_visitor(
    server: &Arc<Server>,
    origin: &Origin,
    message: &NewVisitorConn,
) -> Result<(Admission, HalfClose), VisitError> {
    // Clients before 0.50 have visitors that do not say whose they are.
    if message.run_id.is_empty() {
        return Ok((server.visitors.admit(message, "")?, HalfClose::EndBoth));
    }
    let session = session_on(server, origin, &message.run_id)?;
    session.touch();
    let admission = server.visitors.admit(message, &session.login.user)?;
    Ok((admission, session.half_close()))
}

/// The running session with that run id, if a stream from there may belong to it: where streams
/// share a carrier, or are held, knowing the run id is not enough.
fn session_on(
    server: &Arc<Server>,
    origin: &Origin,
    run_id: &str,
) -> Result<Arc<Session>, NoSession> {
    let short = || Short(run_id).to_string();
    let session = server
        .registry
        .running(run_id)
        .ok_or_else(|| NoSession::Unknown(short()))?;
    let is_its_own = match &origin.held {
        Some(held) => session.held().is_some_and(|own| Arc::ptr_eq(own, held)),
        None => {
            let (link, own) = (&origin.link, &session.link);
            let is_shared = link.carrier.is_multiplexed() || own.carrier.is_multiplexed();
            !is_shared || Arc::ptr_eq(link, own)
        }
    };
    if !is_its_own {
        return Err(NoSession::OtherCarrier(short()));
    }
    Ok(session)
}

/// Why a stream belongs to no session. The texts are frp's, the run ids cut short.
#[derive(Debug, thiserror::Error)]
enum NoSession {
    #[error("no client control found for run id [{0}]")]
    Unknown(String),
    #[error("client control for run id [{0}] is no longer current")]
    OtherCarrier(String),
}

/// Why a work stream is refused. The texts are frp's.
#[derive(Debug, thiserror::Error)]
enum WorkRefused {
    #[error(transparent)]
    NoSession(#[from] NoSession),
    #[error("client control for run id [{0}] is not running")]
    NotRunning(String),
    #[error(transparent)]
    WrongToken(#[from] WrongToken),
    #[error("work connection pool is full, discarding")]
    PoolFull,
}

impl WorkRefused {
    fn cause(&self) -> &'static str {
        match self {
            Self::NoSession(NoSession::Unknown(_)) | Self::NotRunning(_) => "work run id",
            Self::NoSession(NoSession::OtherCarrier(_)) => "work carrier",
            Self::WrongToken(_) => "work token",
            Self::PoolFull => "work pool full",
        }
    }
}

/// Why a visitor is refused.
#[derive(Debug, thiserror::Error)]
enum VisitError {
    #[error(transparent)]
    NoSession(#[from] NoSession),
    #[error(transparent)]
    Refused(#[from] VisitorRefused),
}

impl VisitError {
    fn cause(&self) -> &'static str {
        match self {
            Self::NoSession(NoSession::Unknown(_)) => "visitor run id",
            Self::NoSession(NoSession::OtherCarrier(_)) => "visitor carrier",
            Self::Refused(VisitorRefused::NoProxy(_)) => "visitor proxy",
            Self::Refused(VisitorRefused::WrongKey(_)) => "visitor key",
            Self::Refused(VisitorRefused::NotAllowed(..)) => "visitor user",
        }
    }
}

/// How long a peer may take to accept an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
