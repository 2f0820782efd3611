//! The one page of `frps status`, made of what the server knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use chrono::{DateTime, TimeZone};
use frp_core::proto::path::PathReport;
use frp_core::terminal::{ago_ms, now_ms};
use frp_core::web;

use crate::cli::FRP_VERSION;
use crate::clients::{ClientInfo, key_of};
use crate::held::{CarrierState, Held};
use crate::refusals;
use crate::server::Server;
use crate::status::overview::{
    Carrier, Client, FORMAT, Overview, PATH, Proxy, Refused, Remark, Switch, Totals,
};

pub(super) fn routes() -> Router<Arc<Server>> {
    Router::new().route(PATH, get(show))
}

async fn show(State(server): State<Arc<Server>>) -> Response {
    web::json(&overview(&server))
}

fn overview(server: &Server) -> Overview {
    let proxies: Vec<_> = proxies(server);
    let mut published: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for proxy in proxies.iter().filter(|proxy| proxy.status == ONLINE) {
        let (n_proxies, n_conns) = published.entry(proxy.client.as_str()).or_default();
        *n_proxies += 1;
        *n_conns += proxy.connections;
    }
    let clients: Vec<_> = server
        .clients
        .list()
        .iter()
        .map(|info| {
            let mut client = client(server, info);
            if let Some((n_proxies, n_conns)) = published.get(client.key.as_str()) {
                (client.proxies, client.connections) = (*n_proxies, *n_conns);
            }
            client
        })
        .collect();
    let today = server.stats.today();
    let count = |state: fn(&str) -> bool| clients.iter().filter(|c| state(&c.state)).count();
    let problems: Vec<_> = clients.iter().filter_map(judge).collect();
    let now_ms = now_ms();
    let refused: Vec<_> = refusals::list()
        .into_iter()
        .map(|(cause, refused)| Refused {
            cause: cause.to_owned(),
            count: refused.n,
            last_ms: refused.last_ms,
        })
        .collect();
    let notes = refused
        .iter()
        .filter(|refused| now_ms.saturating_sub(refused.last_ms) < LATELY_MS)
        .map(|refused| Remark {
            since_ms: refused.last_ms,
            text: format!(
                "refused or given up: {} ({} times since the start), the last time",
                refused.cause, refused.count
            ),
        });
    Overview {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        frp_version: FRP_VERSION.to_owned(),
        now_ms,
        started_ms: server.started_ms,
        ok: problems.is_empty(),
        problems,
        notes: notes.collect(),
        listeners: server.listeners(),
        totals: Totals {
            clients: count(|state| state != OFFLINE),
            clients_holding: count(|state| state == HOLDING),
            proxies: proxies
                .iter()
                .filter(|proxy| proxy.status == ONLINE)
                .count(),
            connections: server.stats.n_conns(),
            bytes_in_today: today.inbound,
            bytes_out_today: today.outbound,
        },
        clients,
        proxies,
        refused,
    }
}

const ONLINE: &str = "online";
const OFFLINE: &str = "offline";
const HOLDING: &str = "holding";

/// What was refused within this is worth a note.
const LATELY_MS: u64 = 5 * 60 * 1000;

fn judge(client: &Client) -> Option<Remark> {
    (client.state == HOLDING).then(|| Remark {
        since_ms: client.since_ms,
        text: format!(
            "client {} is out of reach; {} of its connections are kept",
            client.key, client.held_streams
        ),
    })
}

fn client(server: &Server, info: &ClientInfo) -> Client {
    let mut client = Client {
        key: info.key.clone(),
        hostname: info.hostname.clone(),
        address: info.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        state: OFFLINE.to_owned(),
        since_ms: millis(info.disconnected.as_ref().unwrap_or(&info.last_connected)),
        ..Client::default()
    };
    let Some(session) = server.registry.running(&info.run_id) else {
        return client;
    };
    if let Some(carrier) = session.carrier_in_use() {
        client.transport = carrier.kind().to_string();
        client.address = carrier.peer_addr().to_string();
    }
    match session.held() {
        None => {
            client.state = "plain".to_owned();
            let rtt = session.link.carrier.path_stats().rtt;
            client.carriers = vec![Carrier {
                transport: client.transport.clone(),
                address: client.address.clone(),
                state: "in use".to_owned(),
                rtt_ms: rtt.map_or(0.0, |rtt| rtt.as_secs_f64() * 1e3),
                ..Carrier::default()
            }];
        }
        Some(held) => {
            client.state = "connected".to_owned();
            show_held(&mut client, held, server.config.transport.hold.grace);
        }
    }
    client
}

fn show_held(client: &mut Client, held: &Held, grace: Duration) {
    if let Some(until) = held.session.status().holding_until {
        let left = until.saturating_duration_since(Instant::now());
        client.state = HOLDING.to_owned();
        client.since_ms = ago_ms(grace.saturating_sub(left));
        let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        client.kept_until_ms = Some(now_ms().saturating_add(left_ms));
    }
    let stats = held.stats();
    client.held_streams = stats.n_streams;
    client.held_bytes = stats.kept_bytes;
    let in_use = held.carrier_in_use().map(|(id, _)| id);
    let mut carriers = held.carriers.list();
    carriers.sort_by_key(|state| in_use != Some(state.id));
    client.carriers = carriers
        .iter()
        .map(|state| carrier(state, in_use == Some(state.id)))
        .collect();
    client.switches = held
        .switches()
        .iter()
        .rev()
        .map(|switch| Switch {
            at_ms: millis(&switch.at),
            from: switch.from.to_string(),
            to: switch.to.to_string(),
            cause: switch.cause.to_owned(),
        })
        .collect();
}

fn carrier(state: &CarrierState, is_in_use: bool) -> Carrier {
    let path: PathReport = state.path.unwrap_or_default();
    let word = match (path.inbound_silence >= SILENCE, is_in_use) {
        (true, _) => "silent",
        (false, true) => "in use",
        (false, false) => "standby",
    };
    Carrier {
        transport: state.kind.to_string(),
        address: state.peer.to_string(),
        state: word.to_owned(),
        rtt_ms: path.srtt.as_secs_f64() * 1e3,
        loss_in_pct: path.inbound.share() * 100.0,
        loss_out_pct: path.outbound.share() * 100.0,
        rate: path.delivered_rate,
    }
}

/// A carrier that has said nothing for so long, though it should have, is called silent.
const SILENCE: Duration = Duration::from_secs(1);

fn proxies(server: &Server) -> Vec<Proxy> {
    let all = server.stats.proxies();
    let mut proxies: Vec<_> = all
        .iter()
        .map(|proxy| {
            let snapshot = proxy.snapshot();
            let info = server.catalog.get(&proxy.name);
            let since = match snapshot.online {
                true => snapshot.started,
                false => snapshot.closed,
            };
            Proxy {
                name: proxy.name.clone(),
                kind: proxy.kind.to_owned(),
                client: key_of(&snapshot.owner.user, &snapshot.owner.client_id),
                status: if snapshot.online { ONLINE } else { OFFLINE }.to_owned(),
                since_ms: since.as_ref().map_or(0, millis),
                port: info.and_then(|info| info.port()),
                connections: snapshot.n_conns.unwrap_or(0),
                connections_total: snapshot.n_carried,
                failed_total: snapshot.n_failed,
                bytes_in_today: snapshot.history[0].inbound,
                bytes_out_today: snapshot.history[0].outbound,
            }
        })
        .collect();
    proxies.sort_by(|a, b| a.name.cmp(&b.name));
    proxies
}

fn millis<Z: TimeZone>(at: &DateTime<Z>) -> u64 {
    u64::try_from(at.timestamp_millis()).unwrap_or_default()
}
