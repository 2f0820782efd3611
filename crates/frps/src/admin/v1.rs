//! The first generation of the API: `/api/...`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{delete, get};
use frp_core::web::{ApiError, json};
use serde::Serialize;
use tracing::info;

use super::view::{ClientView, ProxyView, ServerConfigView, ServerStatusView, VERSION};
use crate::server::Server;

pub(super) fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/api/serverinfo", get(server_info))
        .route("/api/proxy/{type}", get(proxies_of_type))
        .route("/api/proxy/{type}/{name}", get(proxy_of_type))
        .route("/api/proxies/{name}", get(proxy))
        .route("/api/proxies", delete(forget_proxies))
        .route("/api/traffic/{name}", get(traffic))
        .route("/api/clients", get(clients))
        .route("/api/clients/{key}", get(client))
}

/// The query's members in their order. The first of several with one name counts, as in Go.
pub(super) struct Members(pub(super) Vec<(String, String)>);

impl Members {
    /// The value of `name`; empty when there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.find(name).unwrap_or_default()
    }

    /// The value of `name`, if it is there.
    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

async fn server_info(State(server): State<Arc<Server>>) -> Response {
    #[derive(Serialize)]
    struct ServerInfo {
        version: &'static str,
        #[serde(flatten)]
        config: ServerConfigView,
        #[serde(flatten)]
        status: ServerStatusView,
    }
    json(&ServerInfo {
        version: VERSION,
        config: ServerConfigView::new(&server, false),
        status: ServerStatusView::new(&server),
    })
}

async fn proxies_of_type(State(server): State<Arc<Server>>, Path(kind): Path<String>) -> Response {
    #[derive(Serialize)]
    struct Proxies {
        proxies: Vec<ProxyView>,
    }
    let of_type = server
        .stats
        .proxies()
        .into_iter()
        .filter(|proxy| proxy.kind == kind);
    json(&Proxies {
        proxies: of_type
            .map(|proxy| ProxyView::new(&server, &proxy))
            .collect(),
    })
}

async fn proxy_of_type(
    State(server): State<Arc<Server>>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let proxy = server.stats.proxy(&name).filter(|proxy| proxy.kind == kind);
    let proxy = proxy.ok_or_else(|| ApiError::not_found(NO_PROXY))?;
    Ok(json(&ProxyView::new(&server, &proxy)))
}

async fn proxy(
    State(server): State<Arc<Server>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let proxy = server
        .stats
        .proxy(&name)
        .ok_or_else(|| ApiError::not_found(NO_PROXY))?;
    Ok(json(&ProxyView::new(&server, &proxy)))
}

async fn forget_proxies(
    State(server): State<Arc<Server>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Done {
        code: u16,
        msg: &'static str,
    }
    if Members(query).get("status") != "offline" {
        return Err(ApiError::bad_request("status only support offline"));
    }
    let (n_forgotten, n_before) = server.stats.forget_offline();
    info!("cleared [{n_forgotten}] offline proxies, total [{n_before}] proxies");
    Ok(json(&Done {
        code: 200,
        msg: "success",
    }))
}

async fn traffic(
    State(server): State<Arc<Server>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Traffic {
        name: String,
        traffic_in: Vec<u64>,
        traffic_out: Vec<u64>,
    }
    let proxy = server
        .stats
        .proxy(&name)
        .ok_or_else(|| ApiError::not_found(NO_PROXY))?;
    let history = proxy.snapshot().history;
    Ok(json(&Traffic {
        name,
        traffic_in: history.iter().map(|day| day.inbound).collect(),
        traffic_out: history.iter().map(|day| day.outbound).collect(),
    }))
}

async fn clients(
    State(server): State<Arc<Server>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let query = Members(query);
    let is_wanted = |name: &str, value: &str| {
        let wanted = query.get(name);
        wanted.is_empty() || wanted == value
    };
    let status = query.get("status").to_lowercase();
    let clients: Vec<ClientView> = server
        .clients
        .list()
        .iter()
        .filter(|client| {
            is_wanted("user", &client.user)
                && is_wanted("clientId", &client.client_id)
                && (is_wanted("runId", &client.run_id)
                    || is_wanted("runId", &client.short_run_id()))
                && match status.as_str() {
                    "online" => client.online(),
                    "offline" => !client.online(),
                    _ => true,
                }
        })
        .map(|client| ClientView::new(&server, client))
        .collect();
    json(&clients)
}

async fn client(
    State(server): State<Arc<Server>>,
    Path(key): Path<String>,
) -> Result<Response, ApiError> {
    match server.clients.get(&key) {
        Some(client) => Ok(json(&ClientView::new(&server, &client))),
        None => Err(ApiError::not_found(format!("client {key} not found"))),
    }
}

/// frp's text.
pub(super) const NO_PROXY: &str = "no proxy info found";
