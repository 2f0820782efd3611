//! `/metrics`: the session and its carriers, the proxies, and what has happened.
//!
//! A process with several configurations has a page for each, and what has happened in all of them
//! together on every page.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use frp_core::config::ClientConfig;
use frp_core::metrics::catalog::Program;
use frp_core::metrics::exposition::Exposition;
use frp_core::metrics::kind::Kind;
use frp_core::metrics::sessions::{self, SessionNumbers};
use frp_core::metrics::{self, Page, Places, certificates};
use frp_core::session::Session;
use frp_core::transports::TransportKind;

use crate::client::Client;
use crate::proxy::ProxyNumbers;
use crate::recovery::Recovery;
use crate::recovery::status::RecoveryStatus;
use crate::recovery::watch::Trouble;

/// Starts collecting.
pub(crate) fn install() -> Page {
    metrics::install(Program::Frpc)
}

/// Answers a scrape.
pub(crate) async fn scrape(client: &Client, recovery: &Recovery, page: Page) -> Response {
    let state = tokio::time::timeout(STATE_PATIENCE, client.links()).await;
    let facts = Facts {
        state: state.map_or_else(|_| String::new(), |links| links.state),
        session: client.session(),
        proxies: client.proxies(),
        config: client.config().clone(),
        recovery: recovery.status(),
    };
    page.answer(move |out| facts.write(out)).await
}

/// What is known when somebody asks.
struct Facts {
    state: String,
    session: Option<Arc<Session>>,
    proxies: Vec<ProxyNumbers>,
    config: Arc<ClientConfig>,
    recovery: RecoveryStatus,
}

/// The states that a session can be in here: the policy's, and one for a session without a policy.
const STATES: [&str; 7] = [
    "plain",
    "connected",
    "degraded",
    "switching",
    "holding",
    "reconnecting",
    "refused",
];

/// For the answer of a task that never waits: in time at every scrape, or something is wrong.
const STATE_PATIENCE: Duration = Duration::from_secs(1);

/// Proxies with labels of their own. Their names are this client's own configuration, which may be
/// made by a program.
const MAX_PROXIES: usize = 4000;

impl Facts {
    fn write(&self, out: &mut Exposition) {
        let state = STATES.into_iter().find(|state| *state == self.state);
        // Without a policy and without a session it is about to log in.
        let state = match (state, &self.session) {
            (Some("plain"), None) => "reconnecting",
            (Some(state), _) => state,
            (None, _) => "",
        };
        let numbers = SessionNumbers {
            client: None,
            state,
            n_users: 0,
            held: None,
            paths: Default::default(),
        };
        let numbers = match &self.session {
            None => numbers,
            Some(session) => {
                let held = session.hold();
                SessionNumbers {
                    n_users: held.map_or(0, |held| held.n_busy_streams()),
                    held: held.map(|held| held.stats()),
                    paths: session.paths(),
                    ..numbers
                }
            }
        };
        self.write_fallback(&numbers, out);
        sessions::write(out, &STATES, &[numbers]);
        self.write_proxies(out);
        self.write_recovery(out);
        let tls = &self.config.transport.tls;
        let files = [
            ("own", tls.cert_file.as_deref()),
            ("trusted_ca", tls.trusted_ca_file.as_deref()),
        ];
        certificates::write(out, &files);
    }

    fn write_fallback(&self, numbers: &SessionNumbers, out: &mut Exposition) {
        let mut paths = numbers.paths.iter();
        let in_use = paths.find(|(_, path)| path.live.first().is_some_and(|live| live.is_in_use));
        let is_fallback = in_use.is_some_and(|(kind, _)| is_fallback(&self.config, *kind));
        out.family(
            "holdfast_fallback_in_use",
            Kind::Gauge,
            "Whether another transport is in use than the first choice: in auto, one over TCP.",
        )
        .add_count(&[], u64::from(is_fallback));
    }

    fn write_recovery(&self, out: &mut Exposition) {
        let status = &self.recovery;
        out.family(
            "holdfast_config_version",
            Kind::Gauge,
            "The version of the configuration that runs, as the history counts.",
        )
        .add_count(&[], status.version);
        let mut family = out.family(
            "holdfast_config_state",
            Kind::Gauge,
            "1 for what is known of that version: confirmed, on trial or unconfirmed.",
        );
        for state in ["confirmed", "on trial", "unconfirmed"] {
            let is_so = u64::from(status.version_state == state);
            family.add_count(&[("state", state)], is_so);
        }
        drop(family);
        let mut family = out.family(
            "holdfast_recovery_troubles",
            Kind::Gauge,
            "What is wrong at the moment, by kind.",
        );
        for trouble in Trouble::ALL.map(Trouble::name) {
            let troubles = status.troubles.iter();
            let n = troubles.filter(|seen| seen.trouble == trouble).count();
            family.add_count(&[("trouble", trouble)], n as u64);
        }
    }

    fn write_proxies(&self, out: &mut Exposition) {
        let mut places = Places::new(MAX_PROXIES);
        let labels: Vec<&str> = self
            .proxies
            .iter()
            .map(|proxy| places.label(&proxy.name))
            .collect();
        type Get = fn(&ProxyNumbers) -> u64;
        let families: [(&'static str, Kind, &'static str, Get); 4] = [
            (
                "holdfast_proxy_up",
                Kind::Gauge,
                "Whether the proxy is published.",
                |proxy| u64::from(proxy.is_up),
            ),
            (
                "holdfast_proxy_connections",
                Kind::Gauge,
                "Connections of users that are open.",
                |proxy| proxy.n_open,
            ),
            (
                "holdfast_proxy_connections_total",
                Kind::Counter,
                "Connections of users that were carried.",
                |proxy| proxy.n_carried,
            ),
            (
                "holdfast_proxy_failed_connections_total",
                Kind::Counter,
                "Users that the local service did not take.",
                |proxy| proxy.n_failed,
            ),
        ];
        for (name, kind, help, get) in families {
            let mut family = out.family(name, kind, help);
            for (proxy, label) in self.proxies.iter().zip(&labels) {
                family.add_count(&[("proxy", label), ("type", proxy.kind)], get(proxy));
            }
        }
        let mut family = out.family(
            "holdfast_proxy_bytes_total",
            Kind::Counter,
            "Bytes from users (in) and to them (out) of connections, open ones included.",
        );
        for (proxy, label) in self.proxies.iter().zip(&labels) {
            let (to_users, from_users) = proxy.carried;
            for (direction, value) in [("in", from_users), ("out", to_users)] {
                let labels = [
                    ("direction", direction),
                    ("proxy", label),
                    ("type", proxy.kind),
                ];
                family.add_count(&labels, value);
            }
        }
    }
}

/// Whether `kind` is not what the configuration wants first.
fn is_fallback(config: &ClientConfig, kind: TransportKind) -> bool {
    match config.transport.protocol.pinned() {
        Some(pinned) => pinned != kind,
        None => !matches!(kind, TransportKind::Quic | TransportKind::Kcp),
    }
}
