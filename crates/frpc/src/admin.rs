//! frpc's admin API: status, reload, stop, and the configuration file.
//!
//! A request passes the guards first (password, and what a browser's page may not do), then one
//! handler. Connections are few and bounded, each head and body has its time, and no answer tells
//! more than frp's does.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use frp_core::config::{LoadOptions, WebServerConfig, load_client};
use frp_core::state;
use frp_core::task;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};

use crate::client::Client;
use crate::control::Services;
use crate::go_text;
use crate::status;

mod guard;

use guard::{Guard, Refusal};

/// What the admin API acts on.
#[derive(Debug)]
pub struct Admin {
    client: Arc<Client>,
    file: Option<ConfigFile>,
    guard: Guard,
    /// One reload or write at a time.
    changing: Mutex<()>,
}

/// The file that a reload reads.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// How it is read; the request decides on strictness.
    pub options: LoadOptions,
}

impl Admin {
    /// An API for `client`, whose configuration came from `file`.
    pub fn new(
        client: Arc<Client>,
        file: Option<ConfigFile>,
        config: &WebServerConfig,
    ) -> Arc<Self> {
        let guard = Guard::new(&config.addr, &config.user, config.password.clone());
        Arc::new(Self {
            client,
            file,
            guard,
            changing: Mutex::new(()),
        })
    }

    /// Answers requests on `listener` until it is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let app = self.router();
        let places = Arc::new(Semaphore::new(MAX_CONNS));
        let mut retry = ACCEPT_RETRY.0;
        loop {
            // Never closed, so there is always a permit to wait for.
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let (conn, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("admin server: accept: {error}");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(ACCEPT_RETRY.1);
                    continue;
                }
            };
            retry = ACCEPT_RETRY.0;
            let app = app.clone().layer(axum::Extension(guard::Peer(peer.ip())));
            task::spawn("admin conn", async move {
                let served = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .max_buf_size(MAX_HEAD_LEN)
                    .serve_connection(TokioIo::new(conn), TowerToHyperService::new(app));
                // Whatever went wrong is the requester's affair.
                let _ = tokio::time::timeout(CONN_TIMEOUT, served).await;
                drop(place);
            });
        }
    }

    fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/api/status", get(Self::status))
            .route("/api/reload", get(Self::reload).post(Self::reload))
            .route("/api/stop", post(Self::stop))
            .route(
                "/api/config",
                get(Self::read_config).put(Self::write_config),
            )
            .fallback(Self::not_found)
            .layer(from_fn_with_state(self.clone(), Self::check))
            // Liveness is open to everybody, and says nothing.
            .route("/healthz", any(async || StatusCode::OK))
            .with_state(self.clone())
    }

    async fn check(State(admin): State<Arc<Self>>, request: Request, next: Next) -> Response {
        let path = request.uri().path().to_owned();
        tracing::info!("http request: [{path}]");
        let response = match admin.guard.check(&request) {
            Ok(()) => next.run(request).await,
            Err(refusal) => {
                // Guessing takes time, and a place among the few connections.
                tokio::time::sleep(guard::REFUSAL_DELAY).await;
                refusal.into_response()
            }
        };
        tracing::info!(
            "http response [{path}]: code [{}]",
            response.status().as_u16()
        );
        response
    }

    async fn status(State(admin): State<Arc<Self>>) -> Response {
        let entries = status::by_kind(admin.client.status());
        match serde_json::to_string(&entries) {
            Ok(json) => json_response(StatusCode::OK, json),
            Err(error) => ApiError::internal(&error).into_response(),
        }
    }

    async fn reload(
        State(admin): State<Arc<Self>>,
        Query(query): Query<ReloadQuery>,
    ) -> Result<StatusCode, ApiError> {
        let ConfigFile { path, mut options } = admin.config_file()?.clone();
        // What is missing or unreadable means no, as in frp.
        options.strict = matches!(
            query.strict_config.as_deref(),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True")
        );
        let _changing = admin.changing.lock().await;
        let loaded = tokio::task::spawn_blocking(move || load_client(&path, &options))
            .await
            .map_err(|error| ApiError::internal(&error))?
            .map_err(|errors| ApiError::invalid(&errors))?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let mut config = loaded.config;
        let services = Services {
            proxies: std::mem::take(&mut config.proxies),
            visitors: std::mem::take(&mut config.visitors),
        };
        admin.client.update(services).await;
        tracing::info!("success reload conf");
        Ok(StatusCode::OK)
    }

    async fn stop(State(admin): State<Arc<Self>>) -> StatusCode {
        // Answered first: the answer would not get through a program that has ended.
        let client = admin.client.clone();
        task::spawn("stop", async move { client.stop(STOP_GRACE).await });
        StatusCode::OK
    }

    async fn read_config(State(admin): State<Arc<Self>>) -> Result<Response, ApiError> {
        let path = &admin.config_file()?.path;
        let text = tokio::fs::read(path)
            .await
            .map_err(|error| ApiError::invalid(&error))?;
        Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
    }

    async fn write_config(
        State(admin): State<Arc<Self>>,
        body: Body,
    ) -> Result<StatusCode, ApiError> {
        let path = admin.config_file()?.path.clone();
        let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_CONFIG_LEN))
            .await
            .map_err(|_| ApiError::bad_request("read request body error: too slow"))?
            .map_err(|error| ApiError::bad_request(&format!("read request body error: {error}")))?;
        if body.is_empty() {
            return Err(ApiError::bad_request("body can't be empty"));
        }
        let _changing = admin.changing.lock().await;
        tokio::task::spawn_blocking(move || replace_file(path, &body))
            .await
            .map_err(|error| ApiError::internal(&error))?
            .map_err(|error| match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ApiError {
                    code: StatusCode::INSUFFICIENT_STORAGE,
                    text: error.to_string(),
                },
                _ => ApiError::internal(&error),
            })?;
        Ok(StatusCode::OK)
    }

    async fn not_found() -> Response {
        (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
    }

    fn config_file(&self) -> Result<&ConfigFile, ApiError> {
        self.file
            .as_ref()
            .ok_or_else(|| ApiError::invalid(&"frpc has no config file path"))
    }
}

#[derive(Debug, Deserialize)]
struct ReloadQuery {
    #[serde(rename = "strictConfig")]
    strict_config: Option<String>,
}

/// Binds the address of the admin API. The text of the error is frp's.
pub async fn bind(config: &WebServerConfig) -> Result<TcpListener, BindError> {
    let WebServerConfig { addr, port, .. } = config;
    TcpListener::bind((addr.as_str(), *port))
        .await
        .map_err(|source| BindError {
            addr: format!("{addr}:{port}"),
            source,
        })
}

/// The address of the admin API cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("listen tcp {addr}: {}", go_text::bind(source))]
pub struct BindError {
    addr: String,
    source: io::Error,
}

/// Writes a configuration file whole. A link stays one, and an existing file keeps its mode.
fn replace_file(path: PathBuf, content: &[u8]) -> io::Result<()> {
    let path = path.canonicalize().unwrap_or(path);
    let permissions = std::fs::metadata(&path).map(|meta| meta.permissions());
    match state::write_whole(&path, content) {
        // A file that is mounted alone can be written and not replaced.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::fs::write(&path, content),
        Err(error) => Err(error),
        Ok(()) => permissions.map_or(Ok(()), |mode| std::fs::set_permissions(&path, mode)),
    }
}

/// What frp answers when something goes wrong.
#[derive(Debug)]
struct ApiError {
    code: StatusCode,
    text: String,
}

impl ApiError {
    fn bad_request(text: &str) -> Self {
        Self {
            code: StatusCode::BAD_REQUEST,
            text: text.to_owned(),
        }
    }

    fn invalid(cause: &impl ToString) -> Self {
        Self::bad_request(&format!("invalid argument: {}", cause.to_string()))
    }

    fn internal(cause: &impl ToString) -> Self {
        Self {
            code: StatusCode::INTERNAL_SERVER_ERROR,
            text: cause.to_string(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        tracing::warn!("admin api: error: {}", self.text);
        let body = serde_json::json!({ "Code": self.code.as_u16(), "Msg": self.text });
        json_response(self.code, body.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let headers = [(header::WWW_AUTHENTICATE, "Basic realm=\"Restricted\"")];
        match self {
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, headers, "Unauthorized\n").into_response()
            }
            Self::LockedOut => ApiError {
                code: StatusCode::TOO_MANY_REQUESTS,
                text: "too many failed logins, try again in a minute".to_owned(),
            }
            .into_response(),
            Self::Foreign(text) => ApiError {
                code: StatusCode::FORBIDDEN,
                text: text.to_owned(),
            }
            .into_response(),
        }
    }
}

fn json_response(code: StatusCode, mut json: String) -> Response {
    json.push('\n');
    (code, [(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// How long frps has to read that the proxies are gone when `stop` is asked for. frp's value.
const STOP_GRACE: Duration = Duration::from_millis(100);

/// Connections at once; further ones wait in the listener's backlog.
const MAX_CONNS: usize = 64;

/// A request's line and headers: what frp's server takes, rounded down.
const MAX_HEAD_LEN: usize = 64 * 1024;

/// The largest configuration file that is taken over.
const MAX_CONFIG_LEN: usize = 4 * 1024 * 1024;

/// For a request's line and headers, the wait for the next request included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// For a request's body. frp's value.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// For a whole connection: none is worth keeping longer, and none can hold a place for ever.
const CONN_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// The waits after an accept that failed for want of file descriptors, say.
const ACCEPT_RETRY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
