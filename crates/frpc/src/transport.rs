//! The transports that the configuration asks for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use frp_core::config::ClientConfig;
use frp_core::transports::kcp::{Fast, KcpDialConfig, KcpTransport};
use frp_core::transports::mux::MuxConfig;
use frp_core::transports::quic::QuicDialConfig;
use frp_core::transports::tcp::{ProxyUrl, ProxyUrlError, TcpDialConfig, TcpTransport};
use frp_core::transports::tls::{ClientTls, ClientTlsConfig, FingerprintParseError, TlsError};
use frp_core::transports::websocket::{WebsocketDialConfig, WebsocketTransport};
use frp_core::transports::{Transport, TransportKind};

/// Why a transport cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A file of the TLS settings cannot be used; the text names it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The outbound proxy is not one that can be used.
    #[error(transparent)]
    Proxy(#[from] ProxyUrlError),
    /// The pin is none.
    #[error("transport.tls.pin: {0}")]
    Pin(#[from] FingerprintParseError),
    /// The program knows no way to dial this one.
    #[error("not supported yet: transport.protocol {0}")]
    Unsupported(TransportKind),
}

/// The transports by which a client may dial its server, prepared at start: the files of the TLS
/// settings are read once, and what is wrong with them ends the program then.
#[derive(Clone, Debug)]
pub struct Dialers(BTreeMap<(TransportKind, Addresses), Arc<dyn Transport>>);

/// Which addresses of the server a dial tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Addresses {
    /// Whichever there are.
    All,
    /// Those of IPv6.
    V6,
    /// Those of IPv4.
    V4,
}

impl Addresses {
    /// Those that the server of `config` is to be looked for at, apart from each other: of a name
    /// there may be both kinds, and one of them may be broken.
    pub(crate) fn apart(config: &ClientConfig) -> &'static [Self] {
        // A zone belongs to an address.
        let host = config.server_addr.split('%').next().unwrap_or_default();
        let transport = &config.transport;
        let is_bound = transport.connect_server_local_ip.is_some();
        let is_one = host.parse::<IpAddr>().is_ok() || is_bound || transport.proxy_url.is_some();
        if is_one {
            &[Self::All]
        } else {
            &[Self::V6, Self::V4]
        }
    }

    /// Dialling from no address in particular, but of one kind, leaves out the others.
    fn local_ip(self) -> Option<IpAddr> {
        match self {
            Self::All => None,
            Self::V6 => Some(Ipv6Addr::UNSPECIFIED.into()),
            Self::V4 => Some(Ipv4Addr::UNSPECIFIED.into()),
        }
    }
}

impl Dialers {
    /// Prepares what `config` asks for: the pinned transport and its fallbacks, or all.
    pub fn new(config: &ClientConfig) -> Result<Self, TransportError> {
        let transport = &config.transport;
        let kinds = match transport.protocol.pinned() {
            Some(kind) => [&[kind][..], &transport.auto.fallback].concat(),
            None => ALL.to_vec(),
        };
        let mut dialers = BTreeMap::new();
        for kind in kinds {
            dialers.insert((kind, Addresses::All), dialer_of(config, kind)?);
            for &addresses in Addresses::apart(config) {
                if let Some(ip) = addresses.local_ip() {
                    let mut config = config.clone();
                    config.transport.connect_server_local_ip = Some(ip);
                    dialers.insert((kind, addresses), dialer_of(&config, kind)?);
                }
            }
        }
        Ok(Self(dialers))
    }

    /// These, whatever is configured: for tests, where `kind` may be another than the transport's
    /// own.
    pub fn from_transports(
        transports: impl IntoIterator<Item = (TransportKind, Arc<dyn Transport>)>,
    ) -> Self {
        let all = |(kind, transport)| ((kind, Addresses::All), transport);
        Self(transports.into_iter().map(all).collect())
    }

    /// This one for these addresses only.
    #[must_use]
    pub fn with(
        mut self,
        kind: TransportKind,
        addresses: Addresses,
        transport: Arc<dyn Transport>,
    ) -> Self {
        self.0.insert((kind, addresses), transport);
        self
    }

    /// The one of this kind, if it was prepared.
    pub(crate) fn get(
        &self,
        kind: TransportKind,
        addresses: Addresses,
    ) -> Option<Arc<dyn Transport>> {
        let of = |addresses| self.0.get(&(kind, addresses)).cloned();
        of(addresses).or_else(|| of(Addresses::All))
    }
}

/// All that this program can dial by.
const ALL: [TransportKind; 5] = [
    TransportKind::Quic,
    TransportKind::Kcp,
    TransportKind::Tcp,
    TransportKind::Wss,
    TransportKind::Websocket,
];

/// Prepares to dial the server of `config` by this transport.
pub(crate) fn dialer_of(
    config: &ClientConfig,
    kind: TransportKind,
) -> Result<Arc<dyn Transport>, TransportError> {
    let is_tls_on = config.transport.tls.enable;
    Ok(match kind {
        TransportKind::Tcp => Arc::new(TcpTransport::dialer(tcp(config, is_tls_on)?)),
        TransportKind::Websocket => websocket(WebsocketDialConfig {
            tcp: tcp(config, is_tls_on)?,
            outer_tls: None,
            path: WEBSOCKET_PATH,
        }),
        TransportKind::Wss => websocket(WebsocketDialConfig {
            tcp: tcp(config, false)?,
            outer_tls: Some(tls(config)?),
            path: WEBSOCKET_PATH,
        }),
        TransportKind::Kcp => Arc::new(KcpTransport::dialer(kcp(config)?)),
        TransportKind::Quic => {
            let keys = &config.transport.quic;
            keys.backend
                .dialer(quic(config)?, keys.congestion, max_rate(config))
        }
        kind @ TransportKind::Memory => return Err(TransportError::Unsupported(kind)),
    })
}

/// Says whether the server has to be told when this program ends. Where the system closes nothing
/// on its behalf, it would find out only after the idle timeout.
pub fn needs_goodbye(kind: TransportKind) -> bool {
    matches!(kind, TransportKind::Kcp | TransportKind::Quic)
}

/// Says whether `config` makes connections of this kind that are encrypted.
pub(crate) fn has_tls(config: &ClientConfig, kind: TransportKind) -> bool {
    config.transport.tls.enable || matches!(kind, TransportKind::Wss | TransportKind::Quic)
}

fn tcp(config: &ClientConfig, has_tls: bool) -> Result<TcpDialConfig, TransportError> {
    let transport = &config.transport;
    let proxy = transport.proxy_url.as_ref();
    Ok(TcpDialConfig {
        timeout: transport.dial_server_timeout,
        keepalive: transport.dial_server_keepalive,
        sending: transport.tcp.sending(transport.max_rate),
        local_ip: transport.connect_server_local_ip,
        proxy: proxy
            .map(|proxy| proxy.url().as_str().parse::<ProxyUrl>())
            .transpose()?,
        tls: has_tls.then(|| tls(config)).transpose()?,
        marker: (!transport.tls.disable_custom_first_byte).then_some(TLS_MARKER),
        mux: mux(config),
    })
}

/// KCP carries what TCP does, and takes no proxy.
fn kcp(config: &ClientConfig) -> Result<KcpDialConfig, TransportError> {
    let transport = &config.transport;
    Ok(KcpDialConfig {
        timeout: transport.dial_server_timeout,
        local_ip: transport.connect_server_local_ip,
        tls: transport.tls.enable.then(|| tls(config)).transpose()?,
        marker: (!transport.tls.disable_custom_first_byte).then_some(TLS_MARKER),
        mux: mux(config),
        fast: Some(Fast::lossy(max_rate(config))),
        ..KcpDialConfig::default()
    })
}

/// `transport.maxRate` in bytes per second.
fn max_rate(config: &ClientConfig) -> Option<u64> {
    config.transport.max_rate.map(|rate| rate.bytes_per_second)
}

/// frp's `tcpMux`.
fn mux(config: &ClientConfig) -> Option<MuxConfig> {
    let transport = &config.transport;
    transport.tcp_mux.then(|| MuxConfig {
        keepalive_interval: transport.tcp_mux_keepalive_interval,
        ..MuxConfig::default()
    })
}

fn websocket(config: WebsocketDialConfig) -> Arc<dyn Transport> {
    Arc::new(WebsocketTransport::dialer(config))
}

/// QUIC has its own multiplexing and takes no proxy. Without `tls.enable` it has TLS all the same,
/// as in frp, but neither shows a certificate nor checks one.
fn quic(config: &ClientConfig) -> Result<QuicDialConfig, TransportError> {
    let transport = &config.transport;
    let tls = if transport.tls.enable {
        tls(config)?
    } else {
        let unchecked = ClientTlsConfig {
            server_name: transport.tls.server_name.clone(),
            ..ClientTlsConfig::default()
        };
        unchecked.build()?
    };
    let quic = &transport.quic;
    Ok(QuicDialConfig {
        timeout: transport.dial_server_timeout,
        keepalive_interval: quic.keepalive_period.unwrap_or(Duration::ZERO),
        idle_timeout: quic.max_idle_timeout,
        max_incoming_streams: quic.max_incoming_streams,
        local_ip: transport.connect_server_local_ip,
        ..QuicDialConfig::new(tls, QUIC_ALPN)
    })
}

fn tls(config: &ClientConfig) -> Result<ClientTls, TransportError> {
    let tls = &config.transport.tls;
    let config = ClientTlsConfig {
        cert_and_key: tls.cert_file.clone().zip(tls.key_file.clone()),
        trusted_ca: tls.trusted_ca_file.clone(),
        server_name: tls.server_name.clone(),
        pin: tls.pin.map(|pin| pin.to_string().parse()).transpose()?,
    };
    Ok(config.build()?)
}

/// frp's byte before TLS, for servers that share the port with others who speak TLS.
pub(crate) const TLS_MARKER: u8 = 0x17;

/// Where frp grants upgrades to WebSocket.
const WEBSOCKET_PATH: &str = "/~!frp";

/// frp's protocol over QUIC.
const QUIC_ALPN: &[u8] = b"frp";

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use frp_core::config::Protocol;

    fn is_checked(kind: TransportKind, change: impl FnOnce(&mut ClientConfig)) -> bool {
        let mut config = ClientConfig::default();
        change(&mut config);
        config.transport.tls.trusted_ca_file = Some("/nowhere/ca.crt".into());
        dialer_of(&config, kind).is_err()
    }

    #[test]
    fn every_protocol_has_its_transport() {
        let mut config = ClientConfig::default();
        for kind in ALL {
            config.transport.protocol = Protocol::Pinned(kind);
            let dialers = Dialers::new(&config).unwrap();
            assert_eq!(dialers.get(kind, Addresses::All).unwrap().kind(), kind);
            assert_eq!(dialers.0.len(), 1);
        }
        config.transport.auto.fallback = vec![TransportKind::Tcp];
        assert_eq!(Dialers::new(&config).unwrap().0.len(), 2);
        config.transport.protocol = Protocol::Auto;
        assert_eq!(Dialers::new(&config).unwrap().0.len(), 5);
    }

    #[test]
    fn only_of_a_name_that_is_dialled_directly_both_versions_of_ip_are_told_apart() {
        let apart = |change: &dyn Fn(&mut ClientConfig)| {
            let mut config = ClientConfig {
                server_addr: "frps.example".to_owned(),
                ..ClientConfig::default()
            };
            change(&mut config);
            let n_dialers = Dialers::new(&config).unwrap().0.len();
            (Addresses::apart(&config).len(), n_dialers)
        };
        assert_eq!(apart(&|_| {}), (2, 3));
        assert_eq!(apart(&|c| c.server_addr = "192.0.2.1".into()), (1, 1));
        assert_eq!(apart(&|c| c.server_addr = "fe80::1%eth0".into()), (1, 1));
        let local = Some("192.0.2.2".parse().unwrap());
        assert_eq!(
            apart(&|c| c.transport.connect_server_local_ip = local),
            (1, 1)
        );
    }

    #[test]
    fn wss_and_quic_have_tls_even_when_it_is_off() {
        let mut config = ClientConfig::default();
        assert!(ALL.iter().all(|kind| has_tls(&config, *kind)));
        config.transport.tls.enable = false;
        let encrypted = ALL.map(|kind| has_tls(&config, kind));
        assert_eq!(encrypted, [true, false, false, true, false]);
    }

    #[test]
    fn wss_checks_certificates_even_when_tls_is_off_and_quic_does_not() {
        let is_checked = ALL.map(|kind| is_checked(kind, |c| c.transport.tls.enable = false));
        assert_eq!(is_checked, [false, false, false, true, false]);
    }
}
