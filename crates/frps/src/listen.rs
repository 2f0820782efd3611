//! What the listeners for clients are told: TLS, multiplexing, bounds.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use frp_core::config::ServerConfig;
use frp_core::state::StateDir;
use frp_core::transports::half_open::HalfOpenLimits;
use frp_core::transports::kcp::{Fast, KcpListenConfig, KcpTransport};
use frp_core::transports::mux::MuxConfig;
use frp_core::transports::quic::QuicListenConfig;
use frp_core::transports::tcp::TcpListenConfig;
use frp_core::transports::tls::{
    Fingerprint, PemPair, ServerCertificate, ServerTls, ServerTlsConfig, self_signed,
};
use frp_core::transports::{Listener, Transport, TransportKind, udp_port};
use tracing::{info, warn};

use crate::net;

use crate::server::{StartError, Timing};

/// The settings for frp's bindPort.
pub(crate) fn tcp(config: &ServerConfig, tls: ServerTls, timing: Timing) -> TcpListenConfig {
    let transport = &config.transport;
    TcpListenConfig {
        keepalive: transport.tcp_keepalive,
        sending: transport.tcp.sending(transport.max_rate),
        tls: Some(tls),
        force_tls: transport.tls.force,
        websocket_path: Some(WEBSOCKET_PATH),
        marker: Some(TLS_MARKER),
        mux: mux(config),
        limits: HalfOpenLimits::default(),
        login_timeout: timing.login_timeout,
    }
}

/// The settings for frp's kcpBindPort: what is on a session is what is on a TCP connection.
pub(crate) fn kcp(config: &ServerConfig, tls: ServerTls, timing: Timing) -> KcpListenConfig {
    KcpListenConfig {
        tls: Some(tls),
        force_tls: config.transport.tls.force,
        marker: Some(TLS_MARKER),
        mux: mux(config),
        login_timeout: timing.login_timeout,
        fast: Some(Fast::lossy(max_rate(config))),
        ..KcpListenConfig::default()
    }
}

/// `transport.maxRate` in bytes per second.
fn max_rate(config: &ServerConfig) -> Option<u64> {
    config.transport.max_rate.map(|rate| rate.bytes_per_second)
}

/// frp's `tcpMux`.
fn mux(config: &ServerConfig) -> Option<MuxConfig> {
    let transport = &config.transport;
    transport.tcp_mux.then(|| MuxConfig {
        keepalive_interval: transport.tcp_mux_keepalive_interval,
        ..MuxConfig::default()
    })
}

/// The transport for frp's quicBindPort.
pub(crate) fn quic(config: &ServerConfig, tls: ServerTls, timing: Timing) -> Arc<dyn Transport> {
    let quic = &config.transport.quic;
    let listen = quic_config(config, tls, timing);
    quic.backend
        .listener(listen, quic.congestion, max_rate(config))
}

/// The settings for QUIC. There is always TLS, so `tls.force` says nothing here. On the UDP side of
/// bindPort it is always quinn that runs by them: s2n-quic has its socket for itself.
fn quic_config(config: &ServerConfig, tls: ServerTls, timing: Timing) -> QuicListenConfig {
    let quic = &config.transport.quic;
    QuicListenConfig {
        keepalive_interval: quic.keepalive_period.unwrap_or(Duration::ZERO),
        idle_timeout: quic.max_idle_timeout,
        max_incoming_streams: quic.max_incoming_streams,
        login_timeout: timing.login_timeout,
        congestion: quic.congestion.build(max_rate(config)),
        ..QuicListenConfig::new(tls, QUIC_ALPN)
    }
}

/// Binds what is over UDP: the ports that frp has for KCP and QUIC, and the UDP side of
/// `bind_port`. Each with its address as the configuration has it.
pub(crate) async fn over_udp(
    config: &ServerConfig,
    tls: &ServerTls,
    timing: Timing,
    bind_port: SocketAddr,
) -> Result<Vec<(TransportKind, String, Box<dyn Listener>)>, StartError> {
    let mut listeners = Vec::new();
    let address_of = |port| net::join_host_port(&config.bind_addr, port);
    if config.transport.auto.enable {
        let address = address_of(bind_port.port());
        let quic = quic_config(config, tls.clone(), timing);
        let kcp = kcp(config, tls.clone(), timing);
        let both = udp_port::bind(bind_port, quic, kcp).map_err(|error| StartError::ListenUdp {
            address: address.clone(),
            source: error.source,
        })?;
        listeners.push((TransportKind::Quic, address.clone(), both.quic));
        listeners.push((TransportKind::Kcp, address, both.kcp));
    }
    // Usual in frp's files: there the UDP side of bindPort is one's own to give.
    let is_open = |port: u16| config.transport.auto.enable && port == bind_port.port();
    if let Some(port) = config.kcp_bind_port.map(NonZeroU16::get)
        && !is_open(port)
    {
        let transport = KcpTransport::listener(kcp(config, tls.clone(), timing));
        let address = address_of(port);
        match transport.bind(SocketAddr::new(bind_port.ip(), port)).await {
            Ok(listener) => listeners.push((TransportKind::Kcp, address, listener)),
            Err(error) => {
                let source = error.source;
                return Err(StartError::ListenKcp { address, source });
            }
        }
    }
    if let Some(port) = config.quic_bind_port.map(NonZeroU16::get)
        && !is_open(port)
    {
        let transport = quic(config, tls.clone(), timing);
        let address = address_of(port);
        match transport.bind(SocketAddr::new(bind_port.ip(), port)).await {
            Ok(listener) => listeners.push((TransportKind::Quic, address, listener)),
            Err(error) => {
                let source = error.source;
                return Err(StartError::ListenQuic { address, source });
            }
        }
    }
    Ok(listeners)
}

/// What clients can pin: the fingerprint of the certificate that a server with `config` presents.
/// Makes the certificate when there is none yet.
pub fn fingerprint(config: &ServerConfig) -> Result<Fingerprint, FingerprintError> {
    let state = StateDir::open(config.state_dir.as_deref(), PROGRAM);
    let tls_config = &config.transport.tls;
    let has_own = tls_config.cert_file.is_some() && tls_config.key_file.is_some();
    if !has_own && state.path().is_none() {
        return Err(FingerprintError::NotKept);
    }
    Ok(tls(config, &state)?.fingerprint())
}

/// Why there is no fingerprint to pin.
#[derive(Debug, thiserror::Error)]
pub enum FingerprintError {
    /// The certificate would be another one at the next start.
    #[error("the self-signed certificate cannot be kept: set stateDir or transport.tls.certFile")]
    NotKept,
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] StartError),
}

/// Where frp grants upgrades to WebSocket.
const WEBSOCKET_PATH: &str = "/~!frp";

/// frp's protocol over QUIC.
const QUIC_ALPN: &[u8] = b"frp";

/// The name of the state directory below the user's.
pub const PROGRAM: &str = "frps";

/// What the server shows to clients, and whom it trusts, over whichever transport.
pub(crate) fn tls(config: &ServerConfig, state: &StateDir) -> Result<ServerTls, StartError> {
    let tls = &config.transport.tls;
    let certificate = match (&tls.cert_file, &tls.key_file) {
        (Some(certificate), Some(key)) => ServerCertificate::Files {
            certificate: certificate.clone(),
            key: key.clone(),
        },
        _ => {
            let config = |pair| ServerTlsConfig {
                certificate: ServerCertificate::Pair(pair),
                trusted_ca: tls.trusted_ca_file.clone(),
            };
            if let Some(pair) = kept_pair(state) {
                match config(pair).build() {
                    Ok(tls) => return Ok(tls),
                    Err(error) => warn!("cannot use the certificate that was kept: {error}"),
                }
            }
            ServerCertificate::Pair(new_pair(state)?)
        }
    };
    Ok(ServerTlsConfig {
        certificate,
        trusted_ca: tls.trusted_ca_file.clone(),
    }
    .build()?)
}

/// The self-signed certificate of earlier runs: a new one at each start could not be pinned.
fn kept_pair(state: &StateDir) -> Option<PemPair> {
    let read = |name| match state.read(name) {
        Ok(content) => content.and_then(|content| String::from_utf8(content).ok()),
        Err(error) => {
            warn!("cannot read {name} in the state directory: {error}");
            None
        }
    };
    Some(PemPair {
        cert_pem: read(CERT_NAME)?,
        key_pem: read(KEY_NAME)?,
    })
}

fn new_pair(state: &StateDir) -> Result<PemPair, StartError> {
    let pair = self_signed()?;
    let kept = state
        .write_whole(KEY_NAME, pair.key_pem.as_bytes())
        .and_then(|()| state.write_whole(CERT_NAME, pair.cert_pem.as_bytes()));
    match kept {
        Ok(()) => info!("made a self-signed certificate"),
        Err(error) => {
            warn!("cannot keep the self-signed certificate, clients cannot pin it: {error}");
        }
    }
    Ok(pair)
}

/// What a client may send before TLS, so that a shared port can tell frp from HTTPS.
const TLS_MARKER: u8 = 0x17;

const CERT_NAME: &str = "tls-cert.pem";
const KEY_NAME: &str = "tls-key.pem";
