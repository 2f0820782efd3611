//! The clients, with their sessions and carriers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use frp_core::hold::{CarrierNumbers, TransportNumbers};
use frp_core::metrics::exposition::Exposition;
use frp_core::metrics::kind::Kind;
use frp_core::metrics::sessions::{self, SessionNumbers};
use frp_core::metrics::{OTHER, Places};

use crate::clients::ClientInfo;
use crate::server::Server;
use crate::session::Session;

/// Those that are shown.
pub(super) struct Clients {
    infos: Vec<ClientInfo>,
    places: Places,
    n_folded: usize,
}

/// The states that a session can be in here.
const STATES: [&str; 4] = ["plain", "connected", "silent", "holding"];

/// Clients with labels of their own; those that came first. Each has up to a hundred series.
const MAX_CLIENTS: usize = 1000;

/// Nothing has come for so long though it should have: the client is out of reach, but its carriers
/// are there. It may come back over them, or with others; they are given up much later.
const SILENT_AFTER: Duration = Duration::from_secs(3);

impl Clients {
    pub(super) fn list(server: &Server) -> Self {
        let mut infos = server.clients.list();
        // Who is there goes before who was: and who was there first keeps its label when others
        // come in masses.
        infos.sort_by_key(|client| (!client.online(), client.first_connected));
        let mut places = Places::new(MAX_CLIENTS);
        for client in &infos {
            places.label(&client.key);
        }
        Self {
            n_folded: places.n_turned_away(),
            infos,
            places,
        }
    }

    /// How many share a label.
    pub(super) fn n_folded(&self) -> usize {
        self.n_folded
    }

    /// The label of a client, if it is known.
    pub(super) fn label<'a>(&mut self, key: &'a str) -> &'a str {
        self.places.label(key)
    }

    pub(super) fn write(&mut self, server: &Server, out: &mut Exposition) {
        let Self { infos, places, .. } = self;
        let labels: Vec<&str> = infos
            .iter()
            .map(|client| places.label(&client.key))
            .collect();
        write_presence(out, infos, &labels);
        let by_session: HashMap<u64, &str> = infos
            .iter()
            .zip(&labels)
            .filter(|(client, _)| client.online())
            .map(|(client, label)| (client.session_id, *label))
            .collect();
        let sessions = server.registry.list_running();
        let with_labels: Vec<(&str, &Arc<Session>)> = sessions
            .iter()
            .map(|session| {
                let label = by_session.get(&session.id);
                (label.copied().unwrap_or(OTHER), session)
            })
            .collect();
        write_switches(out, &with_labels);
        let numbers: Vec<_> = with_labels
            .iter()
            .map(|(label, session)| numbers(label, session))
            .collect();
        sessions::write(out, &STATES, &numbers);
    }
}

fn write_presence(out: &mut Exposition, infos: &[ClientInfo], labels: &[&str]) {
    let mut family = out.family(
        "holdfast_client_online",
        Kind::Gauge,
        "Whether the client is there. Those with a client id stay listed when they leave.",
    );
    for (client, label) in infos.iter().zip(labels) {
        family.add(&[("client", label)], f64::from(u8::from(client.online())));
    }
    drop(family);
    let mut family = out
        .family(
            "holdfast_client_info",
            Kind::Gauge,
            "What is known of a client that is there; the value is always 1.",
        )
        .highest();
    for (client, label) in infos.iter().zip(labels) {
        if client.online() && *label != OTHER {
            let labels = [
                ("client", *label),
                ("run_id", &client.short_run_id()),
                ("user", &client.user),
                ("version", &client.version),
                ("wire", client.wire),
            ];
            family.add(&labels, 1.0);
        }
    }
    drop(family);
    let mut family = out
        .family(
            "holdfast_client_connected_timestamp_seconds",
            Kind::Gauge,
            "When the client came last.",
        )
        .highest();
    for (client, label) in infos.iter().zip(labels) {
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
        let at = client.last_connected.timestamp() as f64;
        family.add(&[("client", label)], at);
    }
}

fn write_switches(out: &mut Exposition, sessions: &[(&str, &Arc<Session>)]) {
    let mut family = out.family(
        "holdfast_session_switches_total",
        Kind::Counter,
        "Changes of the carrier in use.",
    );
    for (label, session) in sessions {
        if let Some(held) = session.held() {
            let counts = held.switch_counts();
            let n_switches = counts.values().map(|count| count.n).sum();
            family.add_count(&[("client", label)], n_switches);
        }
    }
    drop(family);
    let mut by_cause = Vec::new();
    for (label, session) in sessions {
        let counts = session.held().map(|held| held.switch_counts());
        for (way, count) in counts.unwrap_or_default() {
            by_cause.push((*label, way, count));
        }
    }
    let mut family = out.family(
        "holdfast_session_switches_by_cause_total",
        Kind::Counter,
        "The same, by cause and by what was left for what.",
    );
    for (label, way, count) in &by_cause {
        family.add_count(&way.labels(label), count.n);
    }
    drop(family);
    let mut family = out
        .family(
            "holdfast_session_last_switch_timestamp_seconds",
            Kind::Gauge,
            "When that happened last.",
        )
        .highest();
    for (label, way, count) in &by_cause {
        #[expect(clippy::cast_precision_loss, reason = "a time in milliseconds")]
        let at = count.last.timestamp_millis() as f64 / 1e3;
        family.add(&way.labels(label), at);
    }
}

fn numbers(label: &str, session: &Session) -> SessionNumbers {
    let client = Some(label.to_owned());
    let Some(held) = session.held() else {
        let carrier = CarrierNumbers::of_plain(&session.link.carrier);
        let numbers = TransportNumbers {
            totals: carrier.totals(),
            live: vec![carrier],
        };
        return SessionNumbers {
            client,
            state: "plain",
            n_users: 0,
            held: None,
            paths: BTreeMap::from([(session.link.carrier.kind(), numbers)]),
        };
    };
    let paths = held.session.paths();
    let live = paths.values().flat_map(|numbers| &numbers.live);
    let silence = live
        .filter(|carrier| carrier.is_in_use)
        .filter_map(|carrier| carrier.path)
        .map(|path| path.inbound_silence)
        .max();
    SessionNumbers {
        client,
        state: match silence {
            _ if held.is_holding() => "holding",
            Some(silence) if silence >= SILENT_AFTER => "silent",
            _ => "connected",
        },
        n_users: held.session.n_busy_streams(),
        held: Some(held.stats()),
        paths,
    }
}
