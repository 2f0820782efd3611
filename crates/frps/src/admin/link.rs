//! What the API shows of a client beyond frp: how it is connected, and what is held for it.

use frp_core::proto::path::{PathReport, Tally};
use serde::Serialize;

use crate::held::{CarrierState, Held, Switch};
use crate::session::Session;

/// How a client is connected.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LinkView {
    /// The transport in use; absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<String>,
    /// Where the client connects from over it, with the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// `plain`: connections end with the one to the client. `connected` and `holding`: they are
    /// held, with a carrier and without.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<HeldView>,
}

/// What is held for a client.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeldView {
    streams: usize,
    /// Bytes kept for repetition and for slow readers.
    kept_bytes: u64,
    /// Bytes that were sent a second time.
    replayed_bytes: u64,
    /// Copies of interactive data that were sent, and the client's that came before what they are
    /// copies of.
    copies_sent: u64,
    copies_used: u64,
    /// How often a connection moved to another carrier.
    moved: u64,
    /// What of the client's was refused.
    refused: u64,
    carriers: Vec<CarrierView>,
    /// The last switches, the latest first.
    switches: Vec<SwitchView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CarrierView {
    /// By which both ends know it.
    number: u64,
    transport: String,
    address: String,
    in_use: bool,
    rtt_ms: f64,
    /// Of probes in either direction.
    loss_pct: f64,
    /// For how long nothing has come from the client, though something should have.
    silent_ms: u128,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SwitchView {
    /// Unix time.
    at: i64,
    from: String,
    to: String,
    cause: &'static str,
}

impl LinkView {
    pub(super) fn new(session: &Session) -> Self {
        let carrier = session.carrier_in_use();
        let state = match session.held() {
            None => "plain",
            Some(held) if held.is_holding() => "holding",
            Some(_) => "connected",
        };
        Self {
            transport: carrier.as_ref().map(|carrier| carrier.kind().to_string()),
            address: carrier.map(|carrier| carrier.peer_addr().to_string()),
            state,
            held: session.held().map(|held| HeldView::new(held)),
        }
    }
}

impl HeldView {
    fn new(held: &Held) -> Self {
        let stats = held.stats();
        let in_use = held.carrier_in_use().map(|(id, _)| id);
        let carriers = held.carriers.list();
        let carriers = carriers
            .iter()
            .map(|state| CarrierView::new(state, in_use == Some(state.id)));
        let switches = held.switches();
        Self {
            streams: stats.n_streams,
            kept_bytes: stats.kept_bytes,
            replayed_bytes: stats.replayed_bytes,
            copies_sent: stats.n_copies_sent,
            copies_used: stats.n_copies_used,
            moved: stats.n_moved,
            refused: stats.n_refused,
            carriers: carriers.collect(),
            switches: switches.iter().rev().map(SwitchView::from).collect(),
        }
    }
}

impl CarrierView {
    fn new(state: &CarrierState, in_use: bool) -> Self {
        let path = state.path.as_ref();
        let srtt = path.map_or(0.0, |path| path.srtt.as_secs_f64());
        Self {
            number: state.generation.0,
            transport: state.kind.to_string(),
            address: state.peer.to_string(),
            in_use,
            rtt_ms: (srtt * 10_000.0).round() / 10.0,
            loss_pct: (path.map_or(0.0, loss) * 1000.0).round() / 10.0,
            silent_ms: path.map_or(0, |path| path.inbound_silence.as_millis()),
        }
    }
}

impl From<&Switch> for SwitchView {
    fn from(switch: &Switch) -> Self {
        Self {
            at: switch.at.timestamp(),
            from: switch.from.to_string(),
            to: switch.to.to_string(),
            cause: switch.cause,
        }
    }
}

/// The worse direction's.
fn loss(path: &PathReport) -> f64 {
    let share = |tally: Tally| tally.share();
    share(path.inbound).max(share(path.outbound))
}
