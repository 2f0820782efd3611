//! All that there is to know of a running frps on one page: `/api/overview`, and what
//! `frps status --json` prints. docs/operations.md describes the members.

use serde::{Deserialize, Serialize};

/// Where the API has it.
pub(crate) const PATH: &str = "/api/overview";

/// The form of the document. It grows by members; one that is gone or means something else is
/// another form.
pub(crate) const FORMAT: u32 = 1;

/// The document. Times are in milliseconds since 1970, and 0 where they are not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Overview {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// Of this program.
    pub(crate) version: String,
    /// The version of frp that it stands for.
    pub(crate) frp_version: String,
    /// When this was so.
    pub(crate) now_ms: u64,
    /// When the server started.
    pub(crate) started_ms: u64,
    /// Whether nothing is wrong.
    pub(crate) ok: bool,
    /// What is wrong, in sentences, and since when.
    pub(crate) problems: Vec<Remark>,
    /// What need not be wrong, and is worth knowing.
    pub(crate) notes: Vec<Remark>,
    /// How clients can come.
    pub(crate) listeners: Vec<Listener>,
    /// Sums.
    pub(crate) totals: Totals,
    /// The clients: who is there, and who was and has a client id.
    pub(crate) clients: Vec<Client>,
    /// The proxies, those that are gone too.
    pub(crate) proxies: Vec<Proxy>,
    /// What was refused or given up, by cause, since the server started.
    pub(crate) refused: Vec<Refused>,
}

/// A sentence, and since when it is true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Remark {
    /// Since when.
    pub(crate) since_ms: u64,
    /// The sentence.
    pub(crate) text: String,
}

/// One way in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Listener {
    /// `tcp`, `quic`, ...
    pub(crate) transport: String,
    /// Where.
    pub(crate) port: u16,
}

/// Sums over all clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Totals {
    /// Clients that are there.
    pub(crate) clients: usize,
    /// Of these, those whose connection is out while theirs are kept.
    pub(crate) clients_holding: usize,
    /// Proxies that are there.
    pub(crate) proxies: usize,
    /// Users' connections.
    pub(crate) connections: usize,
    /// Bytes from users today.
    pub(crate) bytes_in_today: u64,
    /// Bytes to users today.
    pub(crate) bytes_out_today: u64,
}

/// One client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Client {
    /// By which the API and the metrics know it.
    pub(crate) key: String,
    /// What its host is called.
    pub(crate) hostname: String,
    /// Where it comes from at the moment, or came from.
    pub(crate) address: String,
    /// `connected` and `holding` where its connections are held, with a carrier and without;
    /// `plain` where they are not; `offline`.
    pub(crate) state: String,
    /// Since when it is there, holding, or gone.
    pub(crate) since_ms: u64,
    /// Until when its connections are kept, while it is holding.
    pub(crate) kept_until_ms: Option<u64>,
    /// The transport in use, or empty.
    pub(crate) transport: String,
    /// Held streams.
    pub(crate) held_streams: usize,
    /// Bytes that they keep.
    pub(crate) held_bytes: u64,
    /// Switches of its session that are remembered, the last one first.
    pub(crate) switches: Vec<Switch>,
    /// Its carriers, the one in use first.
    pub(crate) carriers: Vec<Carrier>,
    /// Its proxies that are there.
    pub(crate) proxies: usize,
    /// Users' connections to them.
    pub(crate) connections: usize,
}

/// One carrier of a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Carrier {
    /// `quic`, `tcp`, ...
    pub(crate) transport: String,
    /// Where it comes from.
    pub(crate) address: String,
    /// `in use`, `standby`, or `silent`.
    pub(crate) state: String,
    /// Smoothed round trip.
    pub(crate) rtt_ms: f64,
    /// Of probes from the client.
    pub(crate) loss_in_pct: f64,
    /// Of probes to it.
    pub(crate) loss_out_pct: f64,
    /// Bytes a second that the client has acknowledged of late.
    pub(crate) rate: u64,
}

/// A change of the carrier in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Switch {
    /// When.
    pub(crate) at_ms: u64,
    /// What was in use before.
    pub(crate) from: String,
    /// What is in use since then.
    pub(crate) to: String,
    /// Why, as far as the server can tell.
    pub(crate) cause: String,
}

/// One proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Proxy {
    /// On the wire.
    pub(crate) name: String,
    /// `tcp`, `udp`, ...
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Whose it is, or was.
    pub(crate) client: String,
    /// `online` or `offline`.
    pub(crate) status: String,
    /// Since when.
    pub(crate) since_ms: u64,
    /// The port, where it has one.
    pub(crate) port: Option<u16>,
    /// Users' connections at the moment.
    pub(crate) connections: usize,
    /// Since the server started.
    pub(crate) connections_total: u64,
    /// Users that could not be connected to the client.
    pub(crate) failed_total: u64,
    /// Bytes from users today.
    pub(crate) bytes_in_today: u64,
    /// Bytes to users today.
    pub(crate) bytes_out_today: u64,
}

/// A cause for which something was refused or given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Refused {
    /// As the metrics call it.
    pub(crate) cause: String,
    /// How often.
    pub(crate) count: u64,
    /// When last.
    pub(crate) last_ms: u64,
}
