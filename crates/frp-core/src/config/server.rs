//! The checked configuration of frps.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use super::{
    AuthConfig, HoldConfig, LogConfig, MaxRate, PortRanges, QuicConfig, ServerAuto, TcpConfig,
    WebServerConfig,
};

/// Everything that frps is told. The names are frp's; `Default` is what an empty file means.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// How clients prove themselves.
    pub auth: AuthConfig,
    /// The address of the main listener. `0.0.0.0` and `::` mean both families.
    pub bind_addr: String,
    /// The port of the main listener. 0 asks the system for one.
    pub bind_port: u16,
    /// The UDP port for KCP, at `bind_addr`. `None` is off.
    pub kcp_bind_port: Option<NonZeroU16>,
    /// The UDP port for QUIC, at `bind_addr`. `None` is off.
    pub quic_bind_port: Option<NonZeroU16>,
    /// The address of the proxies' listeners; `bind_addr` when the file says nothing.
    pub proxy_bind_addr: String,
    /// The admin API.
    pub web_server: WebServerConfig,
    /// Whether the admin API has `/metrics`.
    pub enable_prometheus: bool,
    /// Logs.
    pub log: LogConfig,
    /// What lies below the messages.
    pub transport: ServerTransport,
    /// Whether clients are told causes, or only that something failed.
    pub detailed_errors_to_client: bool,
    /// How many ports a client may have. `None` is no limit.
    pub max_ports_per_client: Option<u64>,
    /// How long a user's connection waits for a work connection.
    pub user_conn_timeout: Duration,
    /// The largest UDP packet of a `udp` proxy. Clients must have the same.
    pub udp_packet_size: usize,
    /// The ports that proxies may use.
    pub allow_ports: PortRanges,
    /// Where state is kept between runs. Ours.
    pub state_dir: Option<PathBuf>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            auth: AuthConfig::default(),
            bind_addr: "0.0.0.0".to_owned(),
            bind_port: 7000,
            kcp_bind_port: None,
            quic_bind_port: None,
            proxy_bind_addr: "0.0.0.0".to_owned(),
            web_server: WebServerConfig::default(),
            enable_prometheus: false,
            log: LogConfig::default(),
            transport: ServerTransport::default(),
            detailed_errors_to_client: true,
            max_ports_per_client: None,
            user_conn_timeout: Duration::from_secs(10),
            udp_packet_size: 1500,
            allow_ports: PortRanges::default(),
            state_dir: None,
        }
    }
}

/// What lies below the messages (`transport` of frps).
#[derive(Clone, Debug, PartialEq)]
pub struct ServerTransport {
    /// Whether connections carry many streams. Clients must have the same.
    pub tcp_mux: bool,
    /// How often the multiplexer asks whether the peer is there.
    pub tcp_mux_keepalive_interval: Duration,
    /// TCP keepalive on the main listener's connections. `None` is off.
    pub tcp_keepalive: Option<Duration>,
    /// The most work connections that a client keeps ready.
    pub max_pool_count: u32,
    /// After which silence a client is given up. `None` is off.
    pub heartbeat_timeout: Option<Duration>,
    /// QUIC.
    pub quic: QuicConfig,
    /// TCP, also below WebSocket. Ours.
    pub tcp: TcpConfig,
    /// The most that is sent on one connection to the peer. Ours.
    pub max_rate: Option<MaxRate>,
    /// Streams that outlive their carrier. Ours.
    pub hold: HoldConfig,
    /// Which transports are open on the main port. Ours.
    pub auto: ServerAuto,
    /// TLS.
    pub tls: ServerTls,
}

impl Default for ServerTransport {
    fn default() -> Self {
        Self {
            tcp_mux: true,
            tcp_mux_keepalive_interval: Duration::from_secs(30),
            tcp_keepalive: Some(Duration::from_secs(7200)),
            max_pool_count: 5,
            heartbeat_timeout: None,
            quic: QuicConfig::default(),
            tcp: TcpConfig::default(),
            max_rate: None,
            hold: HoldConfig::default(),
            auto: ServerAuto::default(),
            tls: ServerTls::default(),
        }
    }
}

/// TLS of the main listener and of QUIC (`transport.tls` of frps).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTls {
    /// Whether connections without TLS are refused. Always with `trusted_ca_file`.
    pub force: bool,
    /// The certificate chain. Without it, a self-signed one is made.
    pub cert_file: Option<PathBuf>,
    /// The private key of it.
    pub key_file: Option<PathBuf>,
    /// The authority that clients' certificates must come from.
    pub trusted_ca_file: Option<PathBuf>,
}
