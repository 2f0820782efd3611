//! What both generations of the API show, with frp's names.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use chrono::{DateTime, Local};
use serde::Serialize;

use crate::catalog::ProxyInfo;
use crate::cli::FRP_VERSION;
use crate::clients::ClientInfo;
use crate::server::Server;
use crate::stats::ProxyStats;

use super::link::LinkView;

/// `config` of the server, as far as it concerns clients. Ports of features that are not there
/// are 0.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerConfigView {
    bind_port: u16,
    #[serde(rename = "vhostHTTPPort")]
    vhost_http_port: u16,
    #[serde(rename = "vhostHTTPSPort")]
    vhost_https_port: u16,
    #[serde(rename = "tcpmuxHTTPConnectPort")]
    tcpmux_http_connect_port: u16,
    #[serde(rename = "kcpBindPort")]
    kcp_bind_port: u16,
    #[serde(rename = "quicBindPort")]
    quic_bind_port: u16,
    subdomain_host: &'static str,
    max_pool_count: u32,
    max_ports_per_client: u64,
    heartbeat_timeout: i64,
    #[serde(rename = "allowPortsStr", skip_serializing_if = "Option::is_none")]
    allow_ports: Option<String>,
    #[serde(rename = "tlsForce", skip_serializing_if = "Option::is_none")]
    tls_force: Option<bool>,
}

impl ServerConfigView {
    /// `is_full` keeps members that are empty or false, as v2 does.
    pub(super) fn new(server: &Server, is_full: bool) -> Self {
        let config = &server.config;
        let allow_ports = config.allow_ports.to_string();
        let tls_force = config.transport.tls.force;
        Self {
            bind_port: server.port(),
            vhost_http_port: 0,
            vhost_https_port: 0,
            tcpmux_http_connect_port: 0,
            kcp_bind_port: config.kcp_bind_port.map_or(0, NonZeroU16::get),
            quic_bind_port: config.quic_bind_port.map_or(0, NonZeroU16::get),
            subdomain_host: "",
            max_pool_count: config.transport.max_pool_count,
            max_ports_per_client: config.max_ports_per_client.unwrap_or(0),
            heartbeat_timeout: config
                .transport
                .heartbeat_timeout
                .map_or(-1, |limit| limit.as_secs().try_into().unwrap_or(i64::MAX)),
            allow_ports: (is_full || !allow_ports.is_empty()).then_some(allow_ports),
            tls_force: (is_full || tls_force).then_some(tls_force),
        }
    }
}

/// What the server does at the moment.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerStatusView {
    total_traffic_in: u64,
    total_traffic_out: u64,
    cur_conns: usize,
    client_counts: usize,
    proxy_type_count: BTreeMap<&'static str, usize>,
}

impl ServerStatusView {
    pub(super) fn new(server: &Server) -> Self {
        let today = server.stats.today();
        Self {
            total_traffic_in: today.inbound,
            total_traffic_out: today.outbound,
            cur_conns: server.stats.n_conns(),
            client_counts: server.registry.n_running(),
            proxy_type_count: server.stats.n_by_kind(),
        }
    }
}

/// The version of frp that the API belongs to.
pub(super) const VERSION: &str = FRP_VERSION;

/// A client.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientView {
    pub(super) key: String,
    pub(super) user: String,
    #[serde(rename = "clientID")]
    pub(super) client_id: String,
    /// The first characters only: whoever has it whole can take the client's place.
    #[serde(rename = "runID")]
    pub(super) run_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) version: String,
    pub(super) wire_protocol: &'static str,
    pub(super) hostname: String,
    #[serde(rename = "clientIP", skip_serializing_if = "String::is_empty")]
    pub(super) client_ip: String,
    first_connected_at: i64,
    last_connected_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnected_at: Option<i64>,
    pub(super) online: bool,
    /// Ours; absent while the client is offline.
    #[serde(skip_serializing_if = "Option::is_none")]
    holdfast: Option<LinkView>,
}

impl ClientView {
    pub(super) fn new(server: &Server, info: &ClientInfo) -> Self {
        let session = server.registry.running(&info.run_id);
        let carrier = session
            .as_ref()
            .and_then(|session| session.carrier_in_use());
        // Where it is at the moment, else where it was when it logged in.
        let ip = carrier.map(|carrier| carrier.peer_addr().ip().to_canonical());
        Self {
            key: info.key.clone(),
            user: info.user.clone(),
            client_id: info.client_id.clone(),
            run_id: info.short_run_id(),
            version: info.version.clone(),
            wire_protocol: info.wire,
            hostname: info.hostname.clone(),
            client_ip: ip.or(info.ip).map(|ip| ip.to_string()).unwrap_or_default(),
            first_connected_at: info.first_connected.timestamp(),
            last_connected_at: info.last_connected.timestamp(),
            disconnected_at: info.disconnected.map(|at| at.timestamp()),
            online: info.online(),
            holdfast: session.map(|session| LinkView::new(&session)),
        }
    }
}

/// A proxy's numbers, as v1 shows them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProxyView {
    pub(super) name: String,
    conf: Option<ConfView>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(rename = "clientID", skip_serializing_if = "String::is_empty")]
    client_id: String,
    today_traffic_in: u64,
    today_traffic_out: u64,
    cur_conns: usize,
    last_start_time: String,
    last_close_time: String,
    status: &'static str,
}

impl ProxyView {
    pub(super) fn new(server: &Server, proxy: &ProxyStats) -> Self {
        let snapshot = proxy.snapshot();
        let conf = server
            .catalog
            .get(&proxy.name)
            .map(|info| ConfView::new(&info));
        Self {
            name: proxy.name.clone(),
            status: phase(conf.is_some()),
            conf,
            user: snapshot.owner.user,
            client_id: snapshot.owner.client_id,
            today_traffic_in: snapshot.history[0].inbound,
            today_traffic_out: snapshot.history[0].outbound,
            cur_conns: snapshot.n_conns.unwrap_or(0),
            last_start_time: clock_time(snapshot.started),
            last_close_time: clock_time(snapshot.closed),
        }
    }
}

pub(super) fn phase(is_online: bool) -> &'static str {
    if is_online { "online" } else { "offline" }
}

fn clock_time(at: Option<DateTime<Local>>) -> String {
    at.map(|at| at.format("%m-%d %H:%M:%S").to_string())
        .unwrap_or_default()
}

/// What the server knows of a proxy's configuration, in the form that a client's file has. Members
/// that only the client knows have frp's fillers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfView {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    transport: ConfTransport,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadatas: BTreeMap<String, String>,
    load_balancer: ConfLoadBalancer,
    health_check: ConfHealthCheck,
    #[serde(rename = "localIP")]
    local_ip: &'static str,
    plugin: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_port: Option<u16>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfTransport {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    use_encryption: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    use_compression: bool,
    bandwidth_limit: String,
    bandwidth_limit_mode: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfLoadBalancer {
    group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group_key: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfHealthCheck {
    #[serde(rename = "type")]
    kind: &'static str,
    interval_seconds: u32,
}

impl ConfView {
    fn new(info: &ProxyInfo) -> Self {
        let spec = &info.spec;
        Self {
            name: spec.proxy_name.clone(),
            kind: info.kind,
            annotations: spec.annotations.clone(),
            transport: ConfTransport {
                use_encryption: spec.use_encryption,
                use_compression: spec.use_compression,
                bandwidth_limit: spec.bandwidth_limit.clone(),
                bandwidth_limit_mode: limit_mode(info),
            },
            metadatas: spec.metas.clone(),
            load_balancer: ConfLoadBalancer {
                group: spec.group.clone(),
                group_key: spec.group_key.clone(),
            },
            health_check: ConfHealthCheck {
                kind: "",
                interval_seconds: 0,
            },
            local_ip: "127.0.0.1",
            plugin: None,
            remote_port: info.port(),
        }
    }
}

/// `client` is not on the wire.
pub(super) fn limit_mode(info: &ProxyInfo) -> String {
    let mode = &info.spec.bandwidth_limit_mode;
    if mode.is_empty() {
        "client".to_owned()
    } else {
        mode.clone()
    }
}
