//! All that there is to know of a running frpc on one page: `/api/overview`, and what
//! `frpc status --json` prints. docs/operations.md describes the members.

use std::collections::BTreeMap;

use frp_core::terminal::{ago_ms, now_ms};
use serde::{Deserialize, Serialize};

use super::{ProxyStatus, StatusByKind, by_kind};
use crate::client::Client;
use crate::links::{CarrierStatus, EventStatus, LinksStatus, WayStatus, is_way_of};
use crate::login::FRP_VERSION;

/// The form of the document. It grows by members; one that is gone or means something else is
/// another form.
pub const FORMAT: u32 = 1;

/// The document. Times are in milliseconds since 1970, and 0 where they are not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overview {
    /// [`FORMAT`].
    pub format: u32,
    /// Of this program.
    pub version: String,
    /// The version of frp that it stands for.
    pub frp_version: String,
    /// When this was so.
    pub now_ms: u64,
    /// When the client began.
    pub started_ms: u64,
    /// The server, as configured.
    pub server: String,
    /// Whether nothing is wrong.
    pub ok: bool,
    /// What is wrong, in sentences, and since when.
    pub problems: Vec<Remark>,
    /// What need not be wrong, and is worth knowing.
    pub notes: Vec<Remark>,
    /// The session with the server.
    pub session: SessionOverview,
    /// The connections to the server, the one in use first.
    pub carriers: Vec<CarrierStatus>,
    /// Transports on which none comes about.
    pub failing: Vec<WayStatus>,
    /// What was decided and happened last, the newest last.
    pub events: Vec<EventStatus>,
    /// The proxies, by name.
    pub proxies: Vec<ProxyOverview>,
}

/// A sentence, and since when it is true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remark {
    /// Since when.
    pub since_ms: u64,
    /// The sentence.
    pub text: String,
}

/// The session with the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionOverview {
    /// `connected`, `degraded`, `switching`, `holding`, `reconnecting` or `refused`.
    pub state: String,
    /// Since when.
    pub since_ms: u64,
    /// `holdfast`, `frp`, or empty before the first login.
    pub peer: String,
    /// Whether users' connections outlive the connection to the server.
    pub held: bool,
    /// Why not, or what else there is to say.
    pub note: String,
    /// The transport that was chosen by hand, or empty.
    pub by_hand: String,
    /// Held streams.
    pub held_streams: usize,
    /// Bytes that they keep.
    pub held_bytes: u64,
    /// Bytes that were sent a second time.
    pub replayed_bytes: u64,
    /// Why the last login failed, if none has succeeded since.
    pub last_error: Option<EventStatus>,
}

/// A proxy, with more than frp tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxyOverview {
    /// What frp tells.
    #[serde(flatten)]
    pub frp: ProxyStatus,
    /// Since when it runs, or does not.
    pub since_ms: u64,
    /// Users' connections at the moment.
    pub connections: u64,
    /// Connections since the session began.
    pub connections_total: u64,
    /// Users whom the local service did not take.
    pub failed_total: u64,
    /// Bytes from the local service.
    pub bytes_from_service: u64,
    /// Bytes to it.
    pub bytes_to_service: u64,
}

impl Overview {
    /// What there is to say of `client` now.
    pub async fn of(client: &Client) -> Self {
        let links = client.links().await;
        let config = client.config();
        let standing = client.standing();
        let (is_up, since_ms) = standing.session();
        let is_plain = links.state == PLAIN;
        let (state, since_ms) = match (is_plain, is_up) {
            (false, _) => (links.state.as_str(), links.state_since_ms),
            (true, true) => ("connected", since_ms),
            (true, false) => ("reconnecting", since_ms),
        };
        let session = SessionOverview {
            state: state.to_owned(),
            since_ms,
            peer: match standing.is_holdfast() {
                Some(true) => "holdfast",
                Some(false) => "frp",
                None => "",
            }
            .to_owned(),
            held: client
                .session()
                .is_some_and(|session| session.hold().is_some()),
            note: links.note.clone(),
            by_hand: links.by_hand.clone(),
            held_streams: links.held_streams,
            held_bytes: links.held_bytes,
            replayed_bytes: links.replayed_bytes,
            last_error: links.last_error.clone().or_else(|| standing.last_error()),
        };
        let server = frp_core::transports::Endpoint {
            host: config.server_addr.clone(),
            port: config.server_port,
        };
        let mut overview = Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            frp_version: FRP_VERSION.to_owned(),
            now_ms: now_ms(),
            started_ms: standing.started_ms(),
            server: server.to_string(),
            session,
            carriers: carriers(client, &links),
            failing: links.failing,
            events: links.events,
            proxies: proxies(client),
            ..Self::default()
        };
        // What has come about since is not failing any more.
        let carriers = &overview.carriers;
        overview.failing.retain(|way| {
            carriers
                .iter()
                .all(|c| !is_way_of(&way.transport, &c.transport))
        });
        overview.judge();
        overview
    }

    /// What can be said of a frpc that answers as frp's does.
    pub fn of_frp(status: &StatusByKind) -> Self {
        let entries = status.values().flatten().cloned();
        let mut overview = Self {
            format: FORMAT,
            now_ms: now_ms(),
            proxies: entries
                .map(|frp| ProxyOverview {
                    frp,
                    ..ProxyOverview::default()
                })
                .collect(),
            ..Self::default()
        };
        overview.judge();
        overview
    }

    /// frp's part of it.
    pub fn by_kind(&self) -> StatusByKind {
        by_kind(self.proxies.iter().map(|proxy| proxy.frp.clone()).collect())
    }

    /// Says what is wrong.
    fn judge(&mut self) {
        let mut problems: Vec<_> = self.judge_session().into_iter().collect();
        problems.extend(self.proxies.iter().filter_map(judge_proxy));
        self.ok = problems.is_empty();
        self.problems = problems;
        let note = |way: &WayStatus| Remark {
            since_ms: way.since_ms,
            text: format!("{} does not get through: {}", way.transport, way.error),
        };
        self.notes = self.failing.iter().map(note).collect();
    }

    fn judge_session(&self) -> Option<Remark> {
        let session = &self.session;
        let last_error = session
            .last_error
            .as_ref()
            .map_or_else(String::new, |error| {
                format!("; the last attempt failed: {}", error.text)
            });
        let text = match session.state.as_str() {
            "holding" => format!(
                "the server cannot be reached; {} open connections are kept{last_error}",
                session.held_streams
            ),
            "reconnecting" => format!("there is no session with the server{last_error}"),
            "refused" => format!("the server refuses this client{last_error}"),
            "degraded" => {
                let in_use = self.carriers.iter().find(|carrier| carrier.in_use);
                in_use.map_or_else(
                    || "the connection to the server is in doubt".to_owned(),
                    |carrier| {
                        format!(
                            "the connection over {} is bad: {:.1} % lost, round trip {:.0} ms",
                            carrier.transport,
                            loss_pct(carrier),
                            carrier.srtt_ms
                        )
                    },
                )
            }
            _ => return None,
        };
        Some(Remark {
            since_ms: session.since_ms,
            text,
        })
    }
}

/// The packets that were lost, or the heartbeats where packets are not counted.
pub fn loss_pct(carrier: &CarrierStatus) -> f64 {
    carrier
        .packet_loss_pct
        .unwrap_or(carrier.heartbeat_loss_pct)
}

fn judge_proxy(proxy: &ProxyOverview) -> Option<Remark> {
    let ProxyStatus {
        name, status, err, ..
    } = &proxy.frp;
    if status == "running" {
        return None;
    }
    let why = match err.as_str() {
        "" => format!("it is in the state \"{status}\""),
        err => format!("the server refuses it: {err}"),
    };
    Some(Remark {
        since_ms: proxy.since_ms,
        text: format!("proxy {name} is not published: {why}"),
    })
}

/// Those of the policy; that of a session without one is known by its transport only.
fn carriers(client: &Client, links: &LinksStatus) -> Vec<CarrierStatus> {
    let mut carriers = links.carriers.clone();
    carriers.sort_by_key(|carrier| !carrier.in_use);
    if !carriers.is_empty() {
        return carriers;
    }
    let Some(session) = client.session() else {
        return carriers;
    };
    let (_, since_ms) = client.standing().session();
    let config = client.config();
    for (kind, numbers) in session.paths() {
        carriers.extend(numbers.live.iter().map(|live| CarrierStatus {
            transport: kind.name().to_owned(),
            address: format!("{}:{}", config.server_addr, config.server_port),
            in_use: true,
            state: "in use".to_owned(),
            since_ms,
            srtt_ms: live.stats.rtt.map_or(0.0, |rtt| rtt.as_secs_f64() * 1e3),
            packet_loss_pct: numbers.totals.packets.map(|tally| tally.share() * 100.0),
            ..CarrierStatus::default()
        }));
    }
    carriers
}

fn proxies(client: &Client) -> Vec<ProxyOverview> {
    let server_addr = &client.config().server_addr;
    let mut numbers: BTreeMap<_, _> = client
        .proxies()
        .into_iter()
        .map(|numbers| (numbers.name.clone(), numbers))
        .collect();
    client
        .view_proxies(|config, state| {
            (
                ProxyStatus::new(config, state, server_addr),
                ago_ms(state.turned().elapsed()),
            )
        })
        .into_iter()
        .map(|(frp, since_ms)| {
            let numbers = numbers.remove(&frp.name).unwrap_or_default();
            let (bytes_from_service, bytes_to_service) = numbers.carried;
            ProxyOverview {
                frp,
                since_ms,
                connections: numbers.n_open,
                connections_total: numbers.n_carried,
                failed_total: numbers.n_failed,
                bytes_from_service,
                bytes_to_service,
            }
        })
        .collect()
}

/// The state of a session that goes over one carrier for its life.
const PLAIN: &str = "plain";

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(change: impl FnOnce(&mut Overview)) -> Overview {
        let mut overview = Overview {
            session: SessionOverview {
                state: "connected".to_owned(),
                since_ms: 5,
                ..SessionOverview::default()
            },
            proxies: vec![ProxyOverview {
                frp: ProxyStatus {
                    name: "ssh".to_owned(),
                    status: "running".to_owned(),
                    ..ProxyStatus::default()
                },
                since_ms: 7,
                ..ProxyOverview::default()
            }],
            ..Overview::default()
        };
        change(&mut overview);
        overview.judge();
        overview
    }

    #[test]
    fn a_session_with_all_proxies_is_well_and_a_transport_that_fails_is_only_noted() {
        let overview = judged(|overview| {
            overview.failing.push(WayStatus {
                transport: "quic".to_owned(),
                error: "no answer".to_owned(),
                ..WayStatus::default()
            });
        });
        assert!(overview.ok && overview.problems.is_empty());
        assert_eq!(
            overview.notes[0].text,
            "quic does not get through: no answer"
        );
    }

    #[test]
    fn what_is_wrong_is_a_sentence_with_its_time() {
        let overview = judged(|overview| {
            overview.session.state = "holding".to_owned();
            overview.session.held_streams = 3;
            overview.session.last_error = Some(EventStatus {
                text: "dial tcp 192.0.2.1:7000: i/o timeout".to_owned(),
                ..EventStatus::default()
            });
            overview.proxies[0].frp.status = "start error".to_owned();
            overview.proxies[0].frp.err = "port already used".to_owned();
        });
        assert!(!overview.ok);
        let texts: Vec<_> = overview
            .problems
            .iter()
            .map(|p| (p.since_ms, &*p.text))
            .collect();
        assert_eq!(
            texts,
            [
                (
                    5,
                    "the server cannot be reached; 3 open connections are kept; the last attempt \
                     failed: dial tcp 192.0.2.1:7000: i/o timeout"
                ),
                (
                    7,
                    "proxy ssh is not published: the server refuses it: port already used"
                ),
            ]
        );
    }

    #[test]
    fn a_frpc_of_frps_is_judged_by_its_proxies() {
        let entry = ProxyStatus {
            name: "a".to_owned(),
            kind: "tcp".to_owned(),
            status: "running".to_owned(),
            ..ProxyStatus::default()
        };
        let overview = Overview::of_frp(&by_kind(vec![entry.clone()]));
        assert!(overview.ok);
        assert_eq!(overview.by_kind()["tcp"], [entry]);
    }
}
