//! The proxies, in frp's names and in ours.

use frp_core::metrics::Places;
use frp_core::metrics::exposition::Exposition;
use frp_core::metrics::kind::Kind;

use super::clients::Clients;
use crate::clients::key_of;
use crate::server::Server;
use crate::stats::ProxySnapshot;

/// Those that are there, and those that were.
pub(super) struct Proxies {
    shown: Vec<Shown>,
    n_folded: usize,
}

/// One proxy with its label.
struct Shown {
    label: String,
    kind: &'static str,
    snapshot: ProxySnapshot,
}

/// Proxies with labels of their own, of which each has a dozen series; those that started first.
const MAX_PROXIES: usize = 4000;

impl Proxies {
    pub(super) fn list(server: &Server) -> Self {
        let mut proxies: Vec<_> = server
            .stats
            .proxies()
            .into_iter()
            .map(|proxy| (proxy.snapshot(), proxy))
            .collect();
        // As with clients: who is there before who was, and who came first keeps its label.
        proxies.sort_by_key(|(snapshot, _)| (!snapshot.online, snapshot.started));
        let mut places = Places::new(MAX_PROXIES);
        let shown = proxies
            .into_iter()
            .map(|(snapshot, proxy)| Shown {
                label: places.label(&proxy.name).to_owned(),
                kind: proxy.kind,
                snapshot,
            })
            .collect();
        Self {
            shown,
            n_folded: places.n_turned_away(),
        }
    }

    /// How many share a label.
    pub(super) fn n_folded(&self) -> usize {
        self.n_folded
    }

    /// frp's metrics, in frp's order. Where there is no value there is no metric.
    pub(super) fn write_as_frp(&self, server: &Server, out: &mut Exposition) {
        out.family(
            "frp_server_client_counts",
            Kind::Gauge,
            "The current client counts of frps",
        )
        .add_count(&[], server.registry.n_running() as u64);
        self.write_one_as_frp(
            out,
            "frp_server_connection_counts",
            Kind::Gauge,
            "The current connection counts",
            |snapshot| snapshot.n_conns.map(|n| n as u64),
        );
        let mut family = out
            .family(
                "frp_server_proxy_counts",
                Kind::Gauge,
                "The current proxy counts",
            )
            .optional();
        for (kind, n) in server.stats.n_by_kind() {
            family.add_count(&[("type", kind)], n as u64);
        }
        drop(family);
        self.write_one_as_frp(
            out,
            "frp_server_proxy_counts_detailed",
            Kind::Gauge,
            "The current number of proxies grouped by type and name",
            |snapshot| Some(u64::from(snapshot.online)),
        );
        self.write_one_as_frp(
            out,
            "frp_server_traffic_in",
            Kind::Counter,
            "The total in traffic",
            |snapshot| snapshot.lifetime.map(|bytes| bytes.inbound),
        );
        self.write_one_as_frp(
            out,
            "frp_server_traffic_out",
            Kind::Counter,
            "The total out traffic",
            |snapshot| snapshot.lifetime.map(|bytes| bytes.outbound),
        );
    }

    fn write_one_as_frp(
        &self,
        out: &mut Exposition,
        name: &'static str,
        kind: Kind,
        help: &'static str,
        get: fn(&ProxySnapshot) -> Option<u64>,
    ) {
        let mut family = out.family(name, kind, help).optional();
        for proxy in &self.shown {
            if let Some(value) = get(&proxy.snapshot) {
                family.add_count(&[("name", &proxy.label), ("type", proxy.kind)], value);
            }
        }
    }

    /// Ours: with the client that publishes, and bytes as they pass.
    pub(super) fn write(&self, clients: &mut Clients, out: &mut Exposition) {
        let owners: Vec<String> = self
            .shown
            .iter()
            .map(|proxy| {
                let owner = &proxy.snapshot.owner;
                let key = key_of(&owner.user, &owner.client_id);
                clients.label(&key).to_owned()
            })
            .collect();
        type Get = fn(&ProxySnapshot) -> u64;
        let families: [(&'static str, Kind, &'static str, Get); 4] = [
            (
                "holdfast_proxy_up",
                Kind::Gauge,
                "Whether the proxy is published.",
                |snapshot| u64::from(snapshot.online),
            ),
            (
                "holdfast_proxy_connections",
                Kind::Gauge,
                "Connections of users that are open.",
                |snapshot| snapshot.n_conns.unwrap_or(0) as u64,
            ),
            (
                "holdfast_proxy_connections_total",
                Kind::Counter,
                "Connections of users that were carried.",
                |snapshot| snapshot.n_carried,
            ),
            (
                "holdfast_proxy_failed_connections_total",
                Kind::Counter,
                "Users that could not be connected to the client.",
                |snapshot| snapshot.n_failed,
            ),
        ];
        for (name, kind, help, get) in families {
            let mut family = out.family(name, kind, help);
            for (proxy, owner) in self.shown.iter().zip(&owners) {
                let labels = [
                    ("client", owner.as_str()),
                    ("proxy", &proxy.label),
                    ("type", proxy.kind),
                ];
                family.add_count(&labels, get(&proxy.snapshot));
            }
        }
        let mut family = out.family(
            "holdfast_proxy_bytes_total",
            Kind::Counter,
            "Bytes from users (in) and to them (out), those of open connections included.",
        );
        for (proxy, owner) in self.shown.iter().zip(&owners) {
            let (inbound, outbound) = proxy.snapshot.carried;
            for (direction, value) in [("in", inbound), ("out", outbound)] {
                let labels = [
                    ("client", owner.as_str()),
                    ("direction", direction),
                    ("proxy", &proxy.label),
                    ("type", proxy.kind),
                ];
                family.add_count(&labels, value);
            }
        }
    }
}
