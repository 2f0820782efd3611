//! The second generation of the API: `/api/v2/...`. Every answer is in an envelope, and lists come
//! in pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::{Days, Local};
use frp_core::web::json_text;
use serde::Serialize;

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
        .map(ClientView::from)
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
        client: ClientView::from(&client),
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

/// Whether one of `values` contains `text`, which is in lower case. Nothing is in everything.
fn contains(text: &str, values: &[&str]) -> bool {
    values
        .iter()
        .any(|value| value.to_lowercase().contains(text))
}

/// The page of a list that is asked for.
struct Page {
    page: usize,
    page_size: usize,
}

impl Page {
    fn of(query: &Members) -> Result<Self, Failure> {
        let page = positive(query.get("page"), 1, "page")?;
        let page_size = positive(query.get("pageSize"), DEFAULT_PAGE_SIZE, "pageSize")?;
        if page_size > MAX_PAGE_SIZE {
            let text = format!("pageSize must be between 1 and {MAX_PAGE_SIZE}");
            return Err(Failure::bad_request(text));
        }
        if page
            .checked_mul(page_size)
            .is_none_or(|end| isize::try_from(end).is_err())
        {
            return Err(Failure::bad_request("page is too large"));
        }
        Ok(Self { page, page_size })
    }

    fn answer<T: Serialize>(&self, items: Vec<T>) -> Response {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct List<T> {
            total: usize,
            page: usize,
            page_size: usize,
            items: Vec<T>,
        }
        let Self { page, page_size } = *self;
        let total = items.len();
        let items = items
            .into_iter()
            .skip((page - 1) * page_size)
            .take(page_size)
            .collect();
        success(&List {
            total,
            page,
            page_size,
            items,
        })
    }
}

fn positive(text: &str, default: usize, name: &str) -> Result<usize, Failure> {
    if text.is_empty() {
        return Ok(default);
    }
    text.strip_prefix('+')
        .unwrap_or(text)
        .parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Failure::bad_request(format!("{name} must be a positive integer")))
}

/// Which of those that are there, or were.
enum Status {
    All,
    Only { online: bool },
}

impl Status {
    fn of(query: &Members) -> Result<Self, Failure> {
        match query.get("status").to_lowercase().as_str() {
            "" | "all" => Ok(Self::All),
            "online" => Ok(Self::Only { online: true }),
            "offline" => Ok(Self::Only { online: false }),
            _ => Err(Failure::bad_request(
                "status must be one of all, online, offline",
            )),
        }
    }

    fn includes(&self, is_online: bool) -> bool {
        match self {
            Self::All => true,
            Self::Only { online } => *online == is_online,
        }
    }
}

/// The last segment of `path` before `suffix`, with its escapes undone once: a name may have a
/// slash in it.
fn last_segment(path: &str, suffix: &str, what: &str) -> Result<String, Failure> {
    let path = path.strip_suffix(suffix).unwrap_or(path);
    let segment = path.rsplit('/').next().unwrap_or_default();
    let bytes = unescape(segment.as_bytes())
        .ok_or_else(|| Failure::bad_request(format!("invalid {what}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    Some(bytes)
}

/// What every answer is in.
#[derive(Serialize)]
struct Envelope<'a, T> {
    code: u16,
    msg: &'a str,
    data: Option<T>,
}

fn success(data: &impl Serialize) -> Response {
    let envelope = Envelope {
        code: 200,
        msg: "success",
        data: Some(data),
    };
    match serde_json::to_string(&envelope) {
        Ok(text) => json_text(StatusCode::OK, text),
        Err(error) => {
            let code = StatusCode::INTERNAL_SERVER_ERROR;
            Failure {
                code,
                text: error.to_string(),
            }
            .into_response()
        }
    }
}

/// What goes wrong, in the same envelope.
#[derive(Debug)]
struct Failure {
    code: StatusCode,
    text: String,
}

impl Failure {
    fn bad_request(text: impl Into<String>) -> Self {
        Self {
            code: StatusCode::BAD_REQUEST,
            text: text.into(),
        }
    }

    fn not_found(text: impl Into<String>) -> Self {
        Self {
            code: StatusCode::NOT_FOUND,
            text: text.into(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self { code, text } = self;
        let envelope = Envelope::<()> {
            code: code.as_u16(),
            msg: &text,
            data: None,
        };
        // Neither a number nor text can fail to be written.
        json_text(code, serde_json::to_string(&envelope).unwrap_or_default())
    }
}

/// frp's types, whether they are there yet or not.
const ALL_KINDS: [&str; 8] = [
    "tcp", "udp", "http", "https", "tcpmux", "stcp", "xtcp", "sudp",
];

/// frp's values.
const DEFAULT_PAGE_SIZE: usize = 50;
const MAX_PAGE_SIZE: usize = 200;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_path_is_unescaped_once() {
        let name = |path: &str| last_segment(path, "/traffic", "proxy name").map_err(|e| e.text);
        assert_eq!(name("/api/v2/proxies/a%2Fb").unwrap(), "a/b");
        assert_eq!(name("/api/v2/proxies/a%252F/traffic").unwrap(), "a%2F");
        assert_eq!(
            name("/api/v2/proxies/a%2/traffic").unwrap_err(),
            "invalid proxy name"
        );
        assert_eq!(
            name("/api/v2/proxies/%+1").unwrap_err(),
            "invalid proxy name"
        );
    }

    #[test]
    fn pages_are_checked_in_frps_words() {
        let error = |query: &[(&str, &str)]| {
            let query = query
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect();
            Page::of(&Members(query)).err().map(|failure| failure.text)
        };
        assert_eq!(error(&[]), None);
        assert_eq!(error(&[("page", "3"), ("pageSize", "200")]), None);
        for page in ["0", "-1", "x", "1.5", "99999999999999999999"] {
            assert_eq!(
                error(&[("page", page)]).unwrap(),
                "page must be a positive integer"
            );
        }
        assert_eq!(
            error(&[("pageSize", "201")]).unwrap(),
            "pageSize must be between 1 and 200"
        );
        assert_eq!(
            error(&[("page", "9223372036854775807")]).unwrap(),
            "page is too large"
        );
    }
}
