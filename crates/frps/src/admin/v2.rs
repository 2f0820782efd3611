//! The second generation of the API: `/api/v2/...`. Every answer is in an envelope, and lists come
//! in pages: see [`answer`].

mod answer;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::Uri;
use axum::response::Response;
use axum::routing::{get, post};
use chrono::{Days, Local};
use serde::Serialize;

use answer::{Failure, Page, Status, contains, last_segment, success};

use super::v1::{Members, NO_PROXY};
use super::view::{ClientView, ServerConfigView, ServerStatusView, VERSION, limit_mode, phase};
use crate::catalog::ProxyInfo;
use crate::server::Server;
use crate::stats::ProxyStats;

pub(super) fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/api/v2/system/info", get(system_info))
        .route("/api/v2/system/prune", post(prune))
        .route("/api/v2/users", get(users))
        .route("/api/v2/clients", get(clients))
        .route("/api/v2/clients/{key}", get(client))
        .route("/api/v2/proxies", get(proxies))
        .route("/api/v2/proxies/{name}", get(proxy))
        .route("/api/v2/proxies/{name}/traffic", get(traffic))
}

type QueryMembers = Query<Vec<(String, String)>>;

async fn system_info(State(server): State<Arc<Server>>) -> Response {
    #[derive(Serialize)]
    struct SystemInfo {
        version: &'static str,
        config: ServerConfigView,
        status: ServerStatusView,
    }
    success(&SystemInfo {
        version: VERSION,
        config: ServerConfigView::new(&server, true),
        status: ServerStatusView::new(&server),
    })
}

async fn prune(
    State(server): State<Arc<Server>>,
    Query(query): QueryMembers,
) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct Pruned {
        r#type: &'static str,
        cleared: usize,
        total: usize,
    }
    match Members(query).get("type").to_lowercase().as_str() {
        "offline_proxies" => {
            let (cleared, total) = server.stats.forget_offline();
            Ok(success(&Pruned {
                r#type: "offline_proxies",
                cleared,
                total,
            }))
        }
        "" => Err(Failure::bad_request("type is required")),
        _ => Err(Failure::bad_request("type must be one of offline_proxies")),
    }
}

async fn users(
    State(server): State<Arc<Server>>,
    Query(query): QueryMembers,
) -> Result<Response, Failure> {
    #[derive(Default, Serialize)]
    #[serde(rename_all = "camelCase")]
    struct User {
        user: String,
        client_count: usize,
        proxy_count: usize,
    }
    let query = Members(query);
    let page = Page::of(&query)?;
    let mut users: BTreeMap<String, User> = BTreeMap::new();
    for client in server.clients.list() {
        users.entry(client.user).or_default().client_count += 1;
    }
    for proxy in server.stats.proxies() {
        users
            .entry(proxy.snapshot().owner.user)
            .or_default()
            .proxy_count += 1;
    }
    let wanted = query.get("q").to_lowercase();
    let users = users
        .into_iter()
        .filter(|(name, _)| name.to_lowercase().contains(&wanted))
        .map(|(name, counts)| User {
            user: name,
            ..counts
        });
    Ok(page.answer(users.collect()))
}

async fn clients(
    State(server): State<Arc<Server>>,
    Query(query): QueryMembers,
) -> Result<Response, Failure> {
    let query = Members(query);
    let page = Page::of(&query)?;
    let status = Status::of(&query)?;
    let text = query.get("q").to_lowercase();
    let is_wanted = |name: &str, value: &str| {
        let wanted = query.get(name);
        wanted.is_empty() || wanted == value
    };
    let clients = server.clients.list();
    let clients = clients
        .iter()
        .filter(|client| {
            // Present and empty asks for clients without a user.
            query.find("user").is_none_or(|user| user == client.user)
                && is_wanted("clientID", &client.client_id)
                && (is_wanted("runID", &client.run_id)
                    || is_wanted("runID", &client.short_run_id()))
                && status.includes(client.online())
        })
        .map(|client| ClientView::new(&server, client))
        .filter(|client| {
            contains(
                &text,
                &[
                    &client.key,
                    &client.user,
                    &client.client_id,
                    &client.run_id,
                    &client.version,
                    client.wire_protocol,
                    &client.hostname,
                    &client.client_ip,
                ],
            )
        });
    Ok(page.answer(clients.collect()))
}

async fn client(State(server): State<Arc<Server>>, uri: Uri) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct Detail {
        #[serde(flatten)]
        client: ClientView,
        status: ClientStatus,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ClientStatus {
        phase: &'static str,
        cur_conns: usize,
        proxy_count: usize,
    }
    let key = last_segment(uri.path(), "", "client key")?;
    let client = server.clients.get(&key);
    let client = client.ok_or_else(|| Failure::not_found(format!("client {key} not found")))?;
    let (mut cur_conns, mut proxy_count) = (0, 0);
    for proxy in server.stats.proxies() {
        let snapshot = proxy.snapshot();
        if snapshot.owner.user == client.user && snapshot.owner.client_id == client.client_id {
            cur_conns += snapshot.n_conns.unwrap_or(0);
            proxy_count += 1;
        }
    }
    let status = ClientStatus {
        phase: phase(client.online()),
        cur_conns,
        proxy_count,
    };
    Ok(success(&Detail {
        client: ClientView::new(&server, &client),
        status,
    }))
}

async fn proxies(
    State(server): State<Arc<Server>>,
    Query(query): QueryMembers,
) -> Result<Response, Failure> {
    let query = Members(query);
    let page = Page::of(&query)?;
    let status = Status::of(&query)?;
    let kind = query.get("type").to_lowercase();
    if !kind.is_empty() && !ALL_KINDS.contains(&kind.as_str()) {
        let text = "type must be one of tcp, udp, http, https, tcpmux, stcp, xtcp, sudp";
        return Err(Failure::bad_request(text));
    }
    let text = query.get("q").to_lowercase();
    let client_id = query.get("clientID");
    let mut proxies: Vec<ProxyView> = server
        .stats
        .proxies()
        .iter()
        .filter(|proxy| kind.is_empty() || proxy.kind == kind)
        .map(|proxy| ProxyView::new(&server, proxy))
        .filter(|proxy| {
            query.find("user").is_none_or(|user| user == proxy.user)
                && (client_id.is_empty() || client_id == proxy.client_id)
                && status.includes(proxy.status.phase == "online")
                && proxy.matches(&text)
        })
        .collect();
    proxies.sort_by(|a, b| (a.spec.kind, &a.name).cmp(&(b.spec.kind, &b.name)));
    Ok(page.answer(proxies))
}

async fn proxy(State(server): State<Arc<Server>>, uri: Uri) -> Result<Response, Failure> {
    let name = last_segment(uri.path(), "", "proxy name")?;
    let proxy = server
        .stats
        .proxy(&name)
        .ok_or_else(|| Failure::not_found(NO_PROXY))?;
    Ok(success(&ProxyView::new(&server, &proxy)))
}

async fn traffic(State(server): State<Arc<Server>>, uri: Uri) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct Traffic {
        name: String,
        unit: &'static str,
        granularity: &'static str,
        history: Vec<Day>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Day {
        date: String,
        traffic_in: u64,
        traffic_out: u64,
    }
    let name = last_segment(uri.path(), "/traffic", "proxy name")?;
    let proxy = server
        .stats
        .proxy(&name)
        .ok_or_else(|| Failure::not_found(NO_PROXY))?;
    let today = Local::now().date_naive();
    let history = proxy.snapshot().history;
    let days = (0_u64..).zip(&history).map(|(age, bytes)| Day {
        date: (today - Days::new(age)).format("%Y-%m-%d").to_string(),
        traffic_in: bytes.inbound,
        traffic_out: bytes.outbound,
    });
    // Oldest first, unlike v1.
    let mut history: Vec<Day> = days.collect();
    history.reverse();
    Ok(success(&Traffic {
        name,
        unit: "bytes",
        granularity: "day",
        history,
    }))
}

/// A proxy.
#[derive(Serialize)]
struct ProxyView {
    name: String,
    user: String,
    #[serde(rename = "clientID")]
    client_id: String,
    spec: Spec,
    status: ProxyStatus,
}

/// `type`, and a member of that name with what the type has.
#[derive(Serialize)]
struct Spec {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    block: BTreeMap<&'static str, SpecBlock>,
}

/// Empty for a proxy that is gone.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct SpecBlock {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadatas: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<SpecTransport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_balancer: Option<SpecLoadBalancer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_port: Option<u16>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpecTransport {
    use_encryption: bool,
    use_compression: bool,
    bandwidth_limit: String,
    bandwidth_limit_mode: String,
}

#[derive(Serialize)]
struct SpecLoadBalancer {
    group: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyStatus {
    phase: &'static str,
    today_traffic_in: u64,
    today_traffic_out: u64,
    cur_conns: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_start_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_close_at: Option<i64>,
}

impl ProxyView {
    fn new(server: &Server, proxy: &ProxyStats) -> Self {
        let snapshot = proxy.snapshot();
        let info = server.catalog.get(&proxy.name);
        let block = info.as_deref().map(SpecBlock::new).unwrap_or_default();
        Self {
            name: proxy.name.clone(),
            user: snapshot.owner.user,
            client_id: snapshot.owner.client_id,
            spec: Spec {
                kind: proxy.kind,
                block: [(proxy.kind, block)].into(),
            },
            status: ProxyStatus {
                phase: phase(info.is_some()),
                today_traffic_in: snapshot.history[0].inbound,
                today_traffic_out: snapshot.history[0].outbound,
                cur_conns: snapshot.n_conns.unwrap_or(0),
                last_start_at: snapshot.started.map(|at| at.timestamp()),
                last_close_at: snapshot.closed.map(|at| at.timestamp()),
            },
        }
    }

    fn matches(&self, text: &str) -> bool {
        let port = self.spec.block.values().find_map(|block| block.remote_port);
        let port = port.map(|port| port.to_string()).unwrap_or_default();
        let Self {
            name,
            user,
            client_id,
            ..
        } = self;
        contains(
            text,
            &[
                name,
                self.spec.kind,
                user,
                client_id,
                self.status.phase,
                &port,
            ],
        )
    }
}

impl SpecBlock {
    fn new(info: &ProxyInfo) -> Self {
        let spec = &info.spec;
        Self {
            annotations: spec.annotations.clone(),
            metadatas: spec.metas.clone(),
            transport: Some(SpecTransport {
                use_encryption: spec.use_encryption,
                use_compression: spec.use_compression,
                bandwidth_limit: spec.bandwidth_limit.clone(),
                bandwidth_limit_mode: limit_mode(info),
            }),
            load_balancer: Some(SpecLoadBalancer {
                group: spec.group.clone(),
            }),
            remote_port: info.port(),
        }
    }
}

/// frp's types, whether they are there yet or not.
const ALL_KINDS: [&str; 8] = [
    "tcp", "udp", "http", "https", "tcpmux", "stcp", "xtcp", "sudp",
];
