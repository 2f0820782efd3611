//! frpc's admin API: status, reload, stop, and the configuration file; ours beside frp's are links,
//! switch and metrics.
//!
//! A request passes the guards first (password, and what a browser's page may not do), then one
//! handler. Connections are few and bounded, each head and body has its time, and no answer tells
//! more than frp's does.

mod recovery;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use frp_core::config::{LoadOptions, WebServerConfig, load_client_with_texts};
use frp_core::metrics::{Page, keep_up};
use frp_core::state;
use frp_core::task;
use frp_core::web::client::BY_COMMAND;
use frp_core::web::local::LocalSocket;
use frp_core::web::{self, ApiError, guard::Guard};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::client::Client;
use crate::metrics;
use crate::recovery::history::Why;
use crate::recovery::{Given, Recovery};
use crate::status;
use crate::status::overview::Overview;

/// What the admin API acts on.
#[derive(Debug)]
pub struct Admin {
    client: Arc<Client>,
    file: Option<ConfigFile>,
    web: WebServerConfig,
    recovery: Arc<Recovery>,
    /// Where `/metrics` is on.
    page: Option<Page>,
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
        let recovery = Recovery::without_file(client.config());
        Self::with_recovery(client, file, config, recovery)
    }

    /// The same for a client that `recovery` looks after.
    pub fn with_recovery(
        client: Arc<Client>,
        file: Option<ConfigFile>,
        config: &WebServerConfig,
        recovery: Arc<Recovery>,
    ) -> Arc<Self> {
        let page = client.config().enable_prometheus.then(metrics::install);
        Arc::new(Self {
            client,
            file,
            web: config.clone(),
            recovery,
            page,
            changing: Mutex::new(()),
        })
    }

    /// Answers requests on `listener` until the future is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let _upkeep = self.page.as_ref().map(keep_up);
        web::serve(listener, self.router()).await;
    }

    /// Answers requests on `socket`, for commands of the same user, until the future is dropped.
    pub async fn serve_locally(self: Arc<Self>, socket: LocalSocket) {
        socket.serve(self.routes(), self.clone()).await;
    }

    fn routes(&self) -> Router<Arc<Self>> {
        let mut routes = Router::new()
            .route("/api/status", get(Self::status))
            .route("/api/reload", get(Self::reload).post(Self::reload))
            .route("/api/stop", post(Self::stop))
            .route("/api/links", get(Self::links))
            .route("/api/overview", get(Self::overview))
            .route("/api/switch", post(Self::switch))
            .route(
                "/api/config",
                get(Self::read_config).put(Self::write_config),
            );
        routes = recovery::routes(routes);
        if self.page.is_some() {
            routes = routes.route("/metrics", get(Self::scrape));
        }
        routes
    }

    fn router(self: &Arc<Self>) -> Router {
        let WebServerConfig {
            addr,
            user,
            password,
            ..
        } = &self.web;
        web::guarded(self.routes(), Guard::new(addr, user, password.clone()))
            // Liveness is open to everybody, and says nothing.
            .route("/healthz", any(async || StatusCode::OK))
            .with_state(self.clone())
    }

    async fn status(State(admin): State<Arc<Self>>) -> Response {
        web::json(&status::by_kind(admin.client.status()))
    }

    /// Ours: what Prometheus reads.
    async fn scrape(State(admin): State<Arc<Self>>) -> Response {
        match &admin.page {
            Some(page) => metrics::scrape(&admin.client, &admin.recovery, page.clone()).await,
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }

    /// Ours: the carriers to the server, and what was decided about them.
    async fn links(State(admin): State<Arc<Self>>) -> Response {
        web::json(&admin.client.links().await)
    }

    /// Ours: all that there is to say, for `frpc status`.
    async fn overview(State(admin): State<Arc<Self>>) -> Response {
        web::json(&Overview::of(&admin.client).await)
    }

    /// Ours: goes over to another transport by hand.
    async fn switch(
        State(admin): State<Arc<Self>>,
        Query(query): Query<SwitchQuery>,
    ) -> Result<StatusCode, ApiError> {
        let switched = admin.client.switch(&query.transport).await;
        switched.map_err(|error| ApiError::bad_request(error.to_string()))?;
        tracing::info!("asked to switch to {}", query.transport);
        Ok(StatusCode::OK)
    }

    async fn reload(
        State(admin): State<Arc<Self>>,
        Query(query): Query<ReloadQuery>,
        headers: HeaderMap,
    ) -> Result<StatusCode, ApiError> {
        let ConfigFile { path, mut options } = admin.config_file()?.clone();
        // What is missing or unreadable means no, as in frp.
        options.strict = matches!(
            query.strict_config.as_deref(),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True")
        );
        let _changing = admin.changing.lock().await;
        let strict = options.strict;
        let reading = move || load_client_with_texts(&path, &options);
        let (loaded, texts) = tokio::task::spawn_blocking(reading)
            .await
            .map_err(|error| ApiError::internal(&error))?;
        let loaded = loaded.map_err(|errors| invalid(&errors))?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let given = Given {
            config: loaded.config,
            texts,
            strict,
            why: match headers.contains_key(BY_COMMAND) {
                true => Why::Command,
                false => Why::Api,
            },
        };
        admin.recovery.reload(&admin.client, given).await;
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
            .map_err(|error| invalid(&error))?;
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
            .map_err(|error| ApiError::bad_request(format!("read request body error: {error}")))?;
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

    fn config_file(&self) -> Result<&ConfigFile, ApiError> {
        self.file
            .as_ref()
            .ok_or_else(|| invalid(&"frpc has no config file path"))
    }
}

#[derive(Debug, Deserialize)]
struct ReloadQuery {
    #[serde(rename = "strictConfig")]
    strict_config: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SwitchQuery {
    transport: String,
}

/// Writes a configuration file whole. A link stays one, and an existing file keeps its mode.
pub(crate) fn replace_file(path: PathBuf, content: &[u8]) -> io::Result<()> {
    let path = path.canonicalize().unwrap_or(path);
    let permissions = std::fs::metadata(&path).map(|meta| meta.permissions());
    match state::write_whole(&path, content) {
        // A file that is mounted alone can be written and not replaced.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::fs::write(&path, content),
        Err(error) => Err(error),
        Ok(()) => permissions.map_or(Ok(()), |mode| std::fs::set_permissions(&path, mode)),
    }
}

/// What the request wants cannot be done with what there is. The text is frp's.
fn invalid(cause: &impl ToString) -> ApiError {
    ApiError::bad_request(format!("invalid argument: {}", cause.to_string()))
}

/// How long frps has to read that the proxies are gone when `stop` is asked for. frp's value.
const STOP_GRACE: Duration = Duration::from_millis(100);

/// The largest configuration file that is taken over.
const MAX_CONFIG_LEN: usize = 4 * 1024 * 1024;

/// For a request's body. frp's value.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
