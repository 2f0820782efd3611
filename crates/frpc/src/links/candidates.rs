//! Which ways there are to the server.

use std::net::IpAddr;

use frp_core::config::{ClientConfig, Protocol};
use frp_core::proto::policy::{Candidate, Family, Transport};
use frp_core::transports::{Endpoint, TransportKind};

use crate::transport::Addresses;

/// The ways to one server, in the order in which the policy knows them.
#[derive(Clone, Debug)]
pub(crate) struct Ways {
    host: String,
    ways: Vec<Way>,
    /// What the server says counts from this one on.
    first_open: usize,
}

#[derive(Clone, Debug)]
struct Way {
    kind: TransportKind,
    port: u16,
    addresses: Addresses,
    is_fallback: bool,
}

/// Each transport over IPv6 and over IPv4: whatever is configured beyond that is left out.
const MAX_WAYS: usize = 2 * ALL.len();

impl Ways {
    /// Those that are configured; where none are, those that the server told last; else each of
    /// QUIC, KCP and TCP at the server's port. Of a server that has a name, each over IPv6 and over
    /// IPv4: whether it has addresses of both is found out with each dial.
    pub(crate) fn new(config: &ClientConfig, remembered: &[(String, u16)]) -> Self {
        let auto = &config.transport.auto;
        let way = |kind, port| Way {
            kind,
            port,
            addresses: Addresses::All,
            is_fallback: false,
        };
        let configured = |kind: TransportKind| {
            let endpoint = auto.endpoints.iter().find(|e| e.transport == kind);
            endpoint.map(|endpoint| endpoint.port)
        };
        let told = |kind: TransportKind| {
            let name = kind.to_string();
            let endpoint = remembered.iter().find(|(told, _)| *told == name);
            endpoint.map(|(_, port)| *port)
        };
        let mut ways = Vec::new();
        match config.transport.protocol {
            // What is pinned is where the file says, as in frp; only a fallback may be elsewhere.
            Protocol::Pinned(kind) => {
                ways.push(way(kind, configured(kind).unwrap_or(config.server_port)));
                for &kind in &auto.fallback {
                    let port = configured(kind).or_else(|| told(kind));
                    ways.push(Way {
                        is_fallback: true,
                        ..way(kind, port.unwrap_or(config.server_port))
                    });
                }
            }
            Protocol::Auto if !auto.endpoints.is_empty() => {
                ways.extend(auto.endpoints.iter().map(|e| way(e.transport, e.port)));
            }
            Protocol::Auto => {
                for kind in ALL {
                    let port = told(kind).or_else(|| {
                        // Towards a server that nothing is known of. TCP is always tried where the
                        // file says, too: what was told may have become wrong.
                        let is_guess = remembered.is_empty() || kind == TransportKind::Tcp;
                        (is_guess && GUESSED.contains(&kind)).then_some(config.server_port)
                    });
                    ways.extend(port.map(|port| way(kind, port)));
                }
            }
        }
        // An outbound proxy takes TCP only, and where there is one, nothing else gets out.
        let is_proxied =
            config.transport.proxy_url.is_some() && config.transport.protocol == Protocol::Auto;
        ways.retain(|way| {
            transport(way.kind).is_some_and(|kind| !is_proxied || kind.family() == Family::Tcp)
        });
        let apart = Addresses::apart(config);
        let mut ways: Vec<_> = (ways.iter())
            .flat_map(|way| {
                let over = |&addresses| Way {
                    addresses,
                    ..way.clone()
                };
                apart.iter().map(over)
            })
            .collect();
        ways.truncate(MAX_WAYS);
        Self {
            host: config.server_addr.clone(),
            first_open: match config.transport.protocol {
                _ if !auto.endpoints.is_empty() => ways.len(),
                Protocol::Pinned(_) => apart.len(),
                Protocol::Auto => 0,
            },
            ways,
        }
    }

    /// For the policy.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let candidate = |way: &Way| {
            Some(Candidate {
                transport: transport(way.kind)?,
                // Where they are not told apart, a dial takes what answers.
                is_ipv6: way.addresses == Addresses::V6,
                is_fallback: way.is_fallback,
            })
        };
        self.ways.iter().filter_map(candidate).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ways.len()
    }

    /// What they are called, the version of IP with them where there are both.
    pub(crate) fn names(&self) -> Vec<String> {
        let name = |way: &Way| format!("{}{}", way.kind, over(way.addresses));
        self.ways.iter().map(name).collect()
    }

    /// Whether both versions of IP are told apart.
    pub(crate) fn has_both_ips(&self) -> bool {
        let mut ways = self.ways.iter();
        ways.any(|way| way.addresses != Addresses::All)
    }

    /// Whether a carrier of the pinned transport to `peer` is one of this candidate.
    pub(crate) fn is_of_pinned(&self, candidate: usize, peer: IpAddr) -> bool {
        let is_ipv6 = peer.to_canonical().is_ipv6();
        let pinned = self.ways.first().map(|way| way.kind);
        self.ways.get(candidate).is_some_and(|way| {
            pinned == Some(way.kind)
                && match way.addresses {
                    Addresses::All => true,
                    Addresses::V6 => is_ipv6,
                    Addresses::V4 => !is_ipv6,
                }
        })
    }

    /// What a candidate of the policy is to be dialled by, and where.
    pub(crate) fn get(&self, candidate: usize) -> Option<(TransportKind, Addresses, Endpoint)> {
        let way = self.ways.get(candidate)?;
        let endpoint = Endpoint {
            host: self.host.clone(),
            port: way.port,
        };
        Some((way.kind, way.addresses, endpoint))
    }

    /// The server has said where it can be reached, over a carrier of candidate `over`, whose own
    /// port has just been seen to be right.
    pub(crate) fn learn(&mut self, over: usize, told: &[(String, u16)]) {
        let right = self.ways.get(over).map(|way| way.kind);
        for way in self.ways.iter_mut().skip(self.first_open) {
            let name = way.kind.to_string();
            let port = told.iter().find(|(told, _)| *told == name);
            if let Some((_, port)) = port.filter(|_| right != Some(way.kind)) {
                way.port = *port;
            }
        }
    }
}

/// How a way differs from the others of its kind.
pub(crate) fn over(addresses: Addresses) -> &'static str {
    match addresses {
        Addresses::All => "",
        Addresses::V6 => " over IPv6",
        Addresses::V4 => " over IPv4",
    }
}

/// In the order of preference.
const ALL: [TransportKind; 5] = [
    TransportKind::Quic,
    TransportKind::Kcp,
    TransportKind::Tcp,
    TransportKind::Wss,
    TransportKind::Websocket,
];

/// Tried without having been told: WebSocket runs where TCP does, and only helps through a proxy
/// that lets nothing else pass, which whoever has one says.
const GUESSED: [TransportKind; 3] = [TransportKind::Quic, TransportKind::Kcp, TransportKind::Tcp];

/// The policy's word for a transport.
pub(crate) fn transport(kind: TransportKind) -> Option<Transport> {
    match kind {
        TransportKind::Quic => Some(Transport::Quic),
        TransportKind::Kcp => Some(Transport::Kcp),
        TransportKind::Tcp => Some(Transport::Tcp),
        TransportKind::Wss => Some(Transport::Wss),
        TransportKind::Websocket => Some(Transport::WebSocket),
        TransportKind::Memory => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use frp_core::config::AutoEndpoint;

    fn ports(ways: &Ways) -> Vec<String> {
        let get = |index| {
            let (kind, _, endpoint) = ways.get(index).unwrap();
            format!("{kind} {}", endpoint.port)
        };
        (0..ways.len()).map(get).collect()
    }

    fn auto() -> ClientConfig {
        let mut config = ClientConfig::default();
        config.transport.protocol = Protocol::Auto;
        config
    }

    #[test]
    fn an_unknown_server_is_tried_at_its_port_by_the_three_that_it_may_speak() {
        let ways = Ways::new(&auto(), &[]);
        assert_eq!(ports(&ways), ["quic 7000", "kcp 7000", "tcp 7000"]);
    }

    #[test]
    fn what_the_server_told_is_used_and_what_is_configured_comes_before_it() {
        let told = [("wss".to_owned(), 443), ("quic".to_owned(), 7001)];
        let mut config = auto();
        let ways = Ways::new(&config, &told);
        assert_eq!(ports(&ways), ["quic 7001", "tcp 7000", "wss 443"]);

        config.transport.auto.endpoints = vec![AutoEndpoint {
            transport: TransportKind::Kcp,
            port: 9,
        }];
        let mut ways = Ways::new(&config, &told);
        ways.learn(0, &[("kcp".to_owned(), 10)]);
        assert_eq!(ports(&ways), ["kcp 9"]);
    }

    #[test]
    fn a_pinned_transport_stays_where_the_file_says() {
        let mut config = ClientConfig::default();
        config.transport.protocol = Protocol::Pinned(TransportKind::Quic);
        config.transport.auto.fallback = vec![TransportKind::Tcp];
        let told = [("quic".to_owned(), 1), ("tcp".to_owned(), 2)];
        let ways = Ways::new(&config, &told);
        assert_eq!(ports(&ways), ["quic 7000", "tcp 2"]);
        assert!(ways.candidates()[1].is_fallback);
    }

    #[test]
    fn of_a_name_each_transport_is_tried_over_ipv6_and_ipv4() {
        let mut config = auto();
        config.server_addr = "frps.example".to_owned();
        let mut ways = Ways::new(&config, &[]);
        assert_eq!(
            ways.names(),
            [
                "quic over IPv6",
                "quic over IPv4",
                "kcp over IPv6",
                "kcp over IPv4",
                "tcp over IPv6",
                "tcp over IPv4"
            ]
        );
        let is_ipv6: Vec<_> = ways.candidates().iter().map(|way| way.is_ipv6).collect();
        assert_eq!(is_ipv6, [true, false, true, false, true, false]);
        assert!(ways.is_of_pinned(1, "::ffff:192.0.2.1".parse().unwrap()));
        assert!(!ways.is_of_pinned(0, "192.0.2.1".parse().unwrap()));
        // What was seen to be right over one version is right over the other.
        ways.learn(1, &[("quic".to_owned(), 1), ("kcp".to_owned(), 2)]);
        assert_eq!(
            ports(&ways),
            [
                "quic 7000",
                "quic 7000",
                "kcp 2",
                "kcp 2",
                "tcp 7000",
                "tcp 7000"
            ]
        );

        config.transport.auto.endpoints = vec![
            AutoEndpoint {
                transport: TransportKind::Tcp,
                port: 9,
            };
            50
        ];
        assert_eq!(Ways::new(&config, &[]).len(), MAX_WAYS);
    }

    #[test]
    fn a_port_that_works_is_not_corrected() {
        let mut ways = Ways::new(&auto(), &[]);
        ways.learn(0, &[("quic".to_owned(), 1), ("kcp".to_owned(), 2)]);
        assert_eq!(ports(&ways), ["quic 7000", "kcp 2", "tcp 7000"]);
    }
}
