//! Checks of held streams and of the choice among transports.

mod keys;
mod policy;
mod probing;

use std::collections::BTreeSet;
use std::time::Duration;

use frp_proto::policy::{Config, Family, Transport};
use transports::TransportKind;

use super::super::raw::{RawClientTransport, RawServerTransport};
use super::super::raw_switching::{RawClientAuto, RawHold};
use super::super::{AutoEndpoint, ClientAuto, ClientTransport, HoldConfig, Protocol, ServerAuto};
use super::Context;
use keys::Keys;

/// The longest grace time in seconds, a day: what is kept for a client that never comes back, port
/// and memory, is not kept for longer.
const MAX_GRACE: u64 = 86_400;

/// The transports as frp lists them in its error.
const NAMES: &str = "tcp kcp quic websocket wss";

impl Context<'_> {
    pub(super) fn hold(&mut self, raw: &RawHold) -> HoldConfig {
        let mut config = HoldConfig::default();
        config.enable = raw.enable.unwrap_or(config.enable);
        let why = "streams are kept for a day at most; not to keep any, set \
                   transport.hold.enable = false";
        let (given, range) = (raw.grace_seconds, 1..=MAX_GRACE);
        let mut keys = Keys::new(self, "transport.hold");
        keys.seconds(&mut config.grace, "graceSeconds", given, range, why);
        config
    }

    pub(super) fn server_switching(
        &mut self,
        raw: &RawServerTransport,
        tcp_mux: bool,
    ) -> (HoldConfig, ServerAuto) {
        let hold = self.hold(&raw.hold);
        let mut auto = ServerAuto::default();
        auto.enable = raw.auto.enable.unwrap_or(auto.enable);
        let is_wanted = raw.hold.enable == Some(true) || auto.enable;
        if is_wanted && hold.enable && !tcp_mux {
            self.warn_not_held("transport.tcpMux", "tcp, kcp, websocket and wss");
        }
        (hold, auto)
    }

    pub(super) fn protocol(&mut self, name: &str) -> Protocol {
        match name {
            "" => Protocol::Pinned(TransportKind::Tcp),
            "auto" => Protocol::Auto,
            name => Protocol::Pinned(kind(name).unwrap_or_else(|| {
                let key = "transport.protocol";
                let message = format!("invalid {key}, optional values are [{NAMES} auto]");
                self.error(key, message);
                TransportKind::Tcp
            })),
        }
    }

    /// The grace time is also the policy's; `dial_timeout` is `transport.dialServerTimeout`.
    pub(super) fn client_auto(
        &mut self,
        raw: &RawClientAuto,
        hold: &HoldConfig,
        dial_timeout: Duration,
    ) -> ClientAuto {
        let fallback = self.transports("fallback", &raw.fallback, kind);
        let preferred = self.transports("preference", &raw.preference, Transport::from_name);
        let endpoints = self.endpoints(raw);
        let mut keys = Keys::new(self, "transport.auto");
        let prober = probing::prober(&mut keys, raw);
        let bounds = policy::DIAL_TIMEOUT;
        let [least, most] = [bounds.start(), bounds.end()].map(|secs| Duration::from_secs(*secs));
        let base = Config {
            grace: hold.grace,
            dial_timeout: dial_timeout.clamp(least, most),
            quiet_after: prober.cadence.quiet_after,
            preference: policy::preference(preferred),
            is_dry_run: raw.dry_run.unwrap_or(false),
            ..Config::default()
        };
        ClientAuto {
            fallback,
            endpoints,
            require_peer: raw.require_peer.unwrap_or(false),
            policy: policy::policy(&mut keys, raw, base),
            prober,
        }
    }

    /// Says what of the settings has no effect beside the others.
    pub(super) fn client_switching_conflicts(
        &mut self,
        raw: &RawClientTransport,
        transport: &mut ClientTransport,
    ) {
        let auto = &mut transport.auto;
        if let Protocol::Pinned(pinned) = transport.protocol
            && auto.fallback.contains(&pinned)
        {
            let text = format!("{pinned} is what transport.protocol says already");
            self.report.warn(format!("transport.auto.fallback: {text}"));
            auto.fallback.retain(|kind| *kind != pinned);
        }
        let mut used: Vec<TransportKind> = match transport.protocol {
            Protocol::Pinned(kind) => vec![kind],
            Protocol::Auto if auto.endpoints.is_empty() => KINDS.to_vec(),
            Protocol::Auto => auto.endpoints.iter().map(|point| point.transport).collect(),
        };
        match transport.protocol {
            Protocol::Auto if !auto.fallback.is_empty() => {
                let text = "has no effect with transport.protocol = \"auto\", which falls back to \
                            every transport";
                self.report.warn(format!("transport.auto.fallback {text}"));
            }
            _ => used.extend(&auto.fallback),
        }
        if transport.protocol == Protocol::Auto && transport.proxy_url.is_some() {
            self.proxy_and_auto(raw, &mut used);
        }
        let is_switching = transport.protocol == Protocol::Auto || !auto.fallback.is_empty();
        if is_switching && !transport.hold.enable {
            let text = "with transport.hold.enable = false, open connections end with their \
                        carrier, and a switch of transport is a new login";
            self.report.warn(text);
        }
        if transport.hold.enable && (is_switching || raw.hold.enable == Some(true)) {
            // QUIC has streams and TLS of its own, and wss has TLS.
            let names = |is_affected: fn(&TransportKind) -> bool| {
                let names = used.iter().filter(|kind| is_affected(kind));
                names
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let without_mux = names(|kind| *kind != TransportKind::Quic);
            let without_tls =
                names(|kind| !matches!(kind, TransportKind::Quic | TransportKind::Wss));
            if !transport.tcp_mux && !without_mux.is_empty() {
                self.warn_not_held("transport.tcpMux", &without_mux);
            }
            if !transport.tls.enable && !without_tls.is_empty() {
                self.warn_not_held("transport.tls.enable", &without_tls);
            }
        }
    }

    /// Only what runs over TCP goes through a proxy, and `auto` goes around none.
    fn proxy_and_auto(&mut self, raw: &RawClientTransport, used: &mut Vec<TransportKind>) {
        let source = match raw.proxy_url.as_str() {
            "" => "the proxy of the environment's http_proxy",
            _ => "transport.proxyURL",
        };
        used.retain(|kind| family(*kind) == Some(Family::Tcp));
        if used.is_empty() {
            let message = format!(
                "quic and kcp cannot go through {source}: name a port for tcp, wss or websocket \
                 too"
            );
            self.error("transport.auto.endpoints", message);
        }
        self.report.warn(format!(
            "with {source}, transport.protocol = \"auto\" uses only tcp, wss and websocket: quic \
             and kcp cannot go through it"
        ));
    }

    fn warn_not_held(&mut self, key: &str, transports: &str) {
        self.report.warn(format!(
            "with {key} = false, streams over {transports} are not held: open connections end with \
             their carrier, and a switch of transport is a new login"
        ));
    }

    /// A list of transports' names, none of them twice.
    fn transports<T: Copy + Ord>(
        &mut self,
        key: &str,
        names: &[String],
        read: fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let mut seen = BTreeSet::new();
        let mut kinds = Vec::new();
        for (idx, name) in names.iter().enumerate() {
            let path = format!("transport.auto.{key}[{idx}]");
            match read(name) {
                None => {
                    let text = format!("invalid transport.auto.{key}, optional values are");
                    self.error(&path, format!("{text} [{NAMES}]"));
                }
                Some(kind) if seen.insert(kind) => kinds.push(kind),
                Some(_) => self.error(&path, format!("transport {name} is duplicated")),
            }
        }
        kinds
    }

    fn endpoints(&mut self, raw: &RawClientAuto) -> Vec<AutoEndpoint> {
        let mut seen = BTreeSet::new();
        let mut endpoints = Vec::new();
        for (idx, entry) in raw.endpoints.iter().enumerate() {
            let path = format!("transport.auto.endpoints[{idx}]");
            let kind = kind(&entry.transport);
            if kind.is_none() {
                let key = format!("{path}.transport");
                let text = "invalid transport.auto.endpoints, optional values of transport are";
                self.error(&key, format!("{text} [{NAMES}]"));
            }
            let port = u16::try_from(entry.port).ok().filter(|port| *port > 0);
            if port.is_none() {
                let text = format!("port number {} must be in the range 1..65535", entry.port);
                self.error(&format!("{path}.port"), format!("{path}.port: {text}"));
            }
            if let (Some(transport), Some(port)) = (kind, port) {
                if seen.insert(transport) {
                    endpoints.push(AutoEndpoint { transport, port });
                } else {
                    let text = format!("transport {transport} is duplicated");
                    self.error(&format!("{path}.transport"), text);
                }
            }
        }
        endpoints
    }
}

/// What `auto` may use.
const KINDS: [TransportKind; 5] = [
    TransportKind::Tcp,
    TransportKind::Kcp,
    TransportKind::Quic,
    TransportKind::Websocket,
    TransportKind::Wss,
];

/// The transport of that name.
fn kind(name: &str) -> Option<TransportKind> {
    KINDS.into_iter().find(|kind| kind.to_string() == name)
}

/// What a transport runs over.
fn family(kind: TransportKind) -> Option<Family> {
    Transport::from_name(&kind.to_string()).map(Transport::family)
}
