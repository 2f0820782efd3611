//! `/metrics`: frp's names first, then ours: clients, their sessions and carriers, proxies.

mod clients;
mod proxies;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use frp_core::metrics::catalog::Program;
use frp_core::metrics::exposition::Exposition;
use frp_core::metrics::kind::Kind;
use frp_core::metrics::{self, Page, certificates};

use crate::server::Server;

/// Starts collecting.
pub(crate) fn install() -> Page {
    metrics::install(Program::Frps)
}

/// The route of the page.
pub(super) fn routes(page: Page) -> Router<Arc<Server>> {
    let scrape = async move |State(server): State<Arc<Server>>| {
        let fill = move |out: &mut Exposition| write(&server, out);
        page.clone().answer(fill).await
    };
    Router::new().route("/metrics", get(scrape))
}

fn write(server: &Server, out: &mut Exposition) {
    let proxies = proxies::Proxies::list(server);
    proxies.write_as_frp(server, out);
    let mut clients = clients::Clients::list(server);
    clients.write(server, out);
    proxies.write(&mut clients, out);
    write_folded(&proxies, &clients, out);
    write_held(server, out);
    let tls = &server.config.transport.tls;
    let files = [
        ("own", tls.cert_file.as_deref()),
        ("trusted_ca", tls.trusted_ca_file.as_deref()),
    ];
    certificates::write(out, &files);
}

/// How many had to share a label.
fn write_folded(proxies: &proxies::Proxies, clients: &clients::Clients, out: &mut Exposition) {
    let mut family = out.family(
        "holdfast_folded_labels",
        Kind::Gauge,
        "Proxies and clients beyond the bounds, which share the label other.",
    );
    family.add_count(&[("label", "client")], clients.n_folded() as u64);
    family.add_count(&[("label", "proxy")], proxies.n_folded() as u64);
}

/// What is held at this moment, for all clients together.
fn write_held(server: &Server, out: &mut Exposition) {
    let held = server.held.list();
    let (mut n_streams, mut n_bytes, mut n_away) = (0, 0, 0);
    for held in &held {
        let stats = held.stats();
        n_streams += stats.n_streams as u64;
        n_bytes += stats.kept_bytes;
        n_away += u64::from(held.is_holding());
    }
    let mut one = |name, help, value| {
        out.family(name, Kind::Gauge, help).add_count(&[], value);
    };
    one(
        "holdfast_sessions_held",
        "Sessions whose streams outlive their carriers.",
        held.len() as u64,
    );
    one(
        "holdfast_sessions_away",
        "Held sessions that are without a carrier.",
        n_away,
    );
    one("holdfast_held_streams", "Held streams.", n_streams);
    one(
        "holdfast_held_bytes",
        "Bytes kept for repetition, and received bytes that were not read yet.",
        n_bytes,
    );
    one(
        "holdfast_held_bytes_limit",
        "What all held streams may keep together.",
        crate::held::MAX_BYTES,
    );
}
