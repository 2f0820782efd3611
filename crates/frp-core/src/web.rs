//! The web server under both programs' admin APIs.
//!
//! [`serve`] answers connections, of which there are few, each with bounded times. [`guarded`] puts
//! frp's request log and the [`Guard`] around routes. [`ApiError`] is what frp answers when
//! something goes wrong. [`local`] is the same on a unix socket, for commands of the same user, and
//! [`client`] is the side that asks.

pub mod client;
pub mod guard;
pub mod local;
mod patient;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, lookup_host};
use transports::half_open::{HalfOpen, HalfOpenLimits};
use transports::tcp::{accept::Acceptor, bind};

use crate::config::WebServerConfig;
use crate::task;

use guard::{Guard, Peer, Refusal};
use patient::Patient;

/// Binds the web server's address. The text of the error is frp's.
pub async fn listen(config: &WebServerConfig) -> Result<TcpListener, ListenError> {
    let WebServerConfig { addr, port, .. } = config;
    let failed = |source| ListenError {
        addr: address(config),
        source,
    };
    let addr = match addr.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, *port),
        Err(_) => lookup_host((addr.as_str(), *port))
            .await
            .map_err(failed)?
            .next()
            .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?,
    };
    bind::listen(addr).map_err(failed)
}

/// Host and port as the configuration has them.
pub fn address(config: &WebServerConfig) -> String {
    let WebServerConfig { addr, port, .. } = config;
    if addr.contains(':') && !addr.starts_with('[') {
        format!("[{addr}]:{port}")
    } else {
        format!("{addr}:{port}")
    }
}

/// The web server's address cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("listen tcp {addr}: {text}", text = bind_text(.source))]
pub struct ListenError {
    addr: String,
    source: io::Error,
}

/// What the system said, in the words that frp's users know.
fn bind_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
        io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
        io::ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
        _ => error.to_string(),
    }
}

/// Answers requests on `listener` with `app` until the future is dropped.
pub async fn serve(listener: TcpListener, app: Router) {
    let places = HalfOpen::new(PLACES);
    let mut acceptor = Acceptor::new(listener, "web server");
    loop {
        let (conn, peer) = acceptor.accept().await;
        let entry = places.enter(peer.ip());
        let app = app.clone().layer(axum::Extension(Peer(peer.ip())));
        task::spawn("web conn", async move {
            let Some(place) = entry.place().await else {
                return;
            };
            serve_conn(conn, app).await;
            drop(place);
        });
    }
}

/// Answers the requests of one connection, in bounded time.
async fn serve_conn(conn: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, app: Router) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_LEN)
        .serve_connection(
            TokioIo::new(Patient::new(conn, WRITE_TIMEOUT)),
            TowerToHyperService::new(app),
        );
    // Whatever went wrong is the requester's affair.
    let _ = tokio::time::timeout(CONN_TIMEOUT, served).await;
}

/// Puts frp's request log and `guard` around the routes of `router`.
pub fn guarded<S>(router: Router<S>, guard: Guard) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    router
        .fallback(not_found)
        .layer(from_fn_with_state(Arc::new(guard), check))
}

async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let path: String = request.uri().path().chars().take(MAX_LOGGED_PATH).collect();
    tracing::info!("http request: [{path}]");
    let response = match guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            // Guessing takes time, and a place among the few connections.
            tokio::time::sleep(guard::REFUSAL_DELAY).await;
            refusal.into_response()
        }
    };
    let code = response.status().as_u16();
    tracing::info!("http response [{path}]: code [{code}]");
    response
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

/// What frp answers when something goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The status.
    pub code: StatusCode,
    /// The cause.
    pub text: String,
}

impl ApiError {
    /// An error with a status of its own.
    pub fn new(code: StatusCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// The request makes no sense.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// What the request is about is not there.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// It is our fault.
    pub fn internal(cause: &impl ToString) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, cause.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        tracing::warn!("admin api: error: {}", self.text);
        let body = serde_json::json!({ "Code": self.code.as_u16(), "Msg": self.text });
        json_text(self.code, body.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let headers = [(header::WWW_AUTHENTICATE, "Basic realm=\"Restricted\"")];
        match self {
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, headers, "Unauthorized\n").into_response()
            }
            Self::LockedOut => {
                let text = "too many failed logins, try again in a minute";
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, text).into_response()
            }
            Self::Foreign(text) => ApiError::new(StatusCode::FORBIDDEN, text).into_response(),
        }
    }
}

/// A JSON answer, with frp's newline behind it.
pub fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => json_text(StatusCode::OK, text),
        Err(error) => ApiError::internal(&error).into_response(),
    }
}

/// A JSON answer that is written out already.
pub fn json_text(code: StatusCode, mut text: String) -> Response {
    text.push('\n');
    (code, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// Connections at once. Whoever reaches the port may hold some of them without a password, and a
/// liveness probe must still get through: so each address has a share only.
const PLACES: HalfOpenLimits = HalfOpenLimits {
    total: 64,
    per_address: 16,
    waiting: 64,
    waiting_per_address: 32,
    customers: usize::MAX,
    per_customer: usize::MAX,
};

/// A request's line and headers: what frp's server takes, rounded down.
const MAX_HEAD_LEN: usize = 64 * 1024;

/// For a request's line and headers, the wait for the next request included: how long a silent
/// connection keeps its place.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// For an answer to be read, once it does not fit into the socket: frp's value.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// For a whole connection: none is worth keeping longer, and none can hold a place for ever.
const CONN_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Characters of a path that are logged.
const MAX_LOGGED_PATH: usize = 256;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpSocket, TcpStream};

    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    #[tokio::test]
    async fn unfinished_requests_of_one_address_do_not_delay_another_address() {
        let addr = server().await;
        let mut unfinished = Vec::new();
        for _ in 0..200 {
            let mut conn = connect("127.0.0.2", addr).await;
            conn.write_all(b"GET /healthz HT").await.unwrap();
            unfinished.push(conn);
        }
        let mut conn = connect("127.0.0.1", addr).await;
        conn.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        let reading = conn.read_to_string(&mut answer);
        tokio::time::timeout(HEAD_TIMEOUT / 2, reading)
            .await
            .unwrap()
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    async fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let app = Router::new().route("/healthz", get(async || StatusCode::OK));
        task::spawn("test web server", serve(listener, app));
        addr
    }

    async fn connect(from: &str, addr: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::new(from.parse().unwrap(), 0))
            .unwrap();
        socket.connect(addr).await.unwrap()
    }
}
