//! What was found: the document that `frpc doctor --json` prints. docs/doctor.md describes it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::target::Target;

/// The form of the document. It grows by members; one that is gone or means something else is
/// another form.
pub(super) const FORMAT: u32 = 1;

/// The document.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    /// [`FORMAT`].
    pub(super) format: u32,
    /// `fine`, `findings`, or `nothing` when nothing gets through.
    pub(super) verdict: &'static str,
    /// When, in milliseconds since 1970.
    pub(super) at_ms: u64,
    /// The server.
    pub(super) server: String,
    /// `transport.protocol`.
    pub(super) configured: String,
    /// What is wrong, and what to do about it.
    pub(super) findings: Vec<Finding>,
    /// What is worth knowing.
    pub(super) notes: Vec<String>,
    /// The server's name.
    pub(super) dns: Dns,
    /// The server's program.
    pub(super) peer: Option<Peer>,
    /// The server's certificate.
    pub(super) tls: Option<Tls>,
    /// Every way that was tried.
    pub(super) paths: Vec<PathReport>,
    /// UDP ports at which QUIC was not tried, since a server of frp has KCP there.
    #[serde(skip)]
    pub(super) quic_held_back: BTreeSet<u16>,
}

impl Report {
    pub(super) fn exit_code(&self) -> u8 {
        match self.verdict {
            "fine" => 0,
            "nothing" => 1,
            _ => 3,
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// In a word, for programs.
    pub(super) kind: &'static str,
    /// What is wrong.
    pub(super) text: String,
    /// What to do.
    pub(super) advice: String,
    /// The line of configuration that helps, if one does.
    pub(super) config: Option<String>,
}

/// What the resolver said.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Dns {
    /// The name, or the address that needs no resolving.
    pub(super) name: String,
    /// Whether there is something to resolve.
    pub(super) is_name: bool,
    /// How long it took.
    pub(super) time_ms: f64,
    /// The addresses.
    pub(super) addresses: Vec<String>,
    /// Why there are none.
    pub(super) error: Option<String>,
}

/// Who answers.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Peer {
    /// Whether it is a Holdfast.
    pub(super) is_holdfast: bool,
    /// The version of frp that it says it is.
    pub(super) frp_version: String,
    /// Of the extension that both Holdfasts speak.
    pub(super) extension: Option<u32>,
    /// frp's wire format that was spoken.
    pub(super) wire: &'static str,
    /// Whether open connections outlive the one to the server.
    pub(super) holds: bool,
    /// For how long.
    pub(super) grace_seconds: Option<u64>,
    /// Where it can be reached, as it says.
    pub(super) endpoints: Vec<EndpointReport>,
}

/// One way in, as the server says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct EndpointReport {
    pub(super) transport: String,
    pub(super) port: u16,
}

/// What the server showed of itself.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Tls {
    /// Whether the configuration has the certificate checked, and how: `ca`, `pin`, `ca and pin`,
    /// or `nothing`.
    pub(super) checked_by: &'static str,
    /// The key's fingerprint, for `transport.tls.pin`.
    pub(super) fingerprint: Option<String>,
    /// When the certificate expires, in seconds since 1970.
    pub(super) expires_at: Option<i64>,
    /// Days until then.
    pub(super) expires_in_days: Option<i64>,
    /// Whether the certificate is for the server's name.
    pub(super) is_for_name: bool,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It gets through, up to the login.
    #[default]
    Works,
    /// TCP was refused: nobody listens, or a firewall says so.
    Refused,
    /// UDP was refused by ICMP: nobody listens, or a firewall says so.
    Rejected,
    /// Nothing came back.
    Silent,
    /// This host knows no way there.
    Unreachable,
    /// TLS failed.
    Tls,
    /// Somebody answered, and not as the server would.
    Handshake,
    /// The server has refused the login.
    LoginRefused,
}

/// One transport at one address.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct PathReport {
    /// `quic`, ...
    pub(super) transport: String,
    /// Address and port.
    pub(super) address: String,
    /// The port.
    pub(super) port: u16,
    pub(super) is_ipv6: bool,
    pub(super) is_udp: bool,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// What was said, where it did not get through.
    pub(super) error: String,
    /// From the first packet to the end of the handshakes.
    pub(super) handshake_ms: Option<f64>,
    /// From the login's first byte to its answer.
    pub(super) login_ms: Option<f64>,
    /// What it is like.
    pub(super) measured: Option<Measured>,
    /// What was dialled.
    #[serde(skip)]
    pub(super) target: Option<Target>,
}

impl PathReport {
    /// Whether it works as far as it was tried.
    pub(super) fn is_through(&self) -> bool {
        self.outcome == Outcome::Works
    }
}

/// What one path is like. What could not be measured is `None`.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Measured {
    /// Round trips that were measured, and those that took far too long or never ended.
    pub(super) round_trips: usize,
    pub(super) round_trips_lost: usize,
    pub(super) rtt_min_ms: Option<f64>,
    pub(super) rtt_median_ms: Option<f64>,
    /// The mean difference between one round trip and the next.
    pub(super) jitter_ms: Option<f64>,
    /// Probes to the server, and of these lost, in percent. Over TCP nothing is lost, but late.
    pub(super) probes_out: u64,
    pub(super) loss_out_pct: Option<f64>,
    /// The same from the server.
    pub(super) probes_in: u64,
    pub(super) loss_in_pct: Option<f64>,
    /// Packets of all kinds to the server, as the transport counted them.
    pub(super) packets_out: u64,
    /// Those that were lost of them, in percent.
    pub(super) packet_loss_pct: Option<f64>,
    /// Bytes a second to the server, and from it.
    pub(super) rate_out: Option<u64>,
    pub(super) rate_in: Option<u64>,
    /// The longest packet that gets through, IP headers included.
    pub(super) mtu: Option<u16>,
    /// This end's address.
    pub(super) local_address: Option<String>,
    /// The same as the server sees it.
    pub(super) seen_address: Option<String>,
    /// How far the server's clock is ahead.
    pub(super) clock_ahead_ms: Option<i64>,
}

/// To a hundredth of a millisecond.
pub(super) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}
