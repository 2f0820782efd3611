//! The checked configuration of frpc.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use transports::TransportKind;

use super::{
    AlertConfig, AuthConfig, CertificatePin, ClientAuto, HoldConfig, LogConfig, MaxRate, Protocol,
    ProxyConfig, ProxyUrl, QuicConfig, RecoveryConfig, TcpConfig, VisitorConfig, WebServerConfig,
};

/// Everything that frpc is told. The names are frp's; `Default` is what an empty file means.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientConfig {
    /// How this client proves itself.
    pub auth: AuthConfig,
    /// Goes before the names of proxies, with a dot. May be empty.
    pub user: String,
    /// This client's name for the server. Empty: the run id.
    pub client_id: String,
    /// The server's host name or address.
    pub server_addr: String,
    /// The server's port.
    pub server_port: u16,
    /// Whether the program ends when the first login fails.
    pub login_fail_exit: bool,
    /// The proxies and visitors to use, by their names. Empty: all.
    pub start: Vec<String>,
    /// Logs.
    pub log: LogConfig,
    /// The admin API.
    pub web_server: WebServerConfig,
    /// Whether it has `/metrics`. Ours.
    pub enable_prometheus: bool,
    /// What lies below the messages.
    pub transport: ClientTransport,
    /// The largest UDP packet of a `udp` proxy. The server must have the same.
    pub udp_packet_size: usize,
    /// Sent at login for the server's plugins.
    pub metadatas: BTreeMap<String, String>,
    /// Where state is kept between runs. Ours.
    pub state_dir: Option<PathBuf>,
    /// How the program gets itself out of trouble. Ours.
    pub recovery: RecoveryConfig,
    /// Who is told of trouble. Ours.
    pub alerts: Vec<AlertConfig>,
    /// The proxies in use: those of all files, without the disabled, in the order of their names.
    pub proxies: Vec<ProxyConfig>,
    /// The visitors in use, likewise.
    pub visitors: Vec<VisitorConfig>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            auth: AuthConfig::default(),
            user: String::new(),
            client_id: String::new(),
            server_addr: "0.0.0.0".to_owned(),
            server_port: 7000,
            login_fail_exit: true,
            start: Vec::new(),
            log: LogConfig::default(),
            web_server: WebServerConfig::default(),
            enable_prometheus: false,
            transport: ClientTransport::default(),
            udp_packet_size: 1500,
            metadatas: BTreeMap::new(),
            state_dir: None,
            recovery: RecoveryConfig::default(),
            alerts: Vec::new(),
            proxies: Vec::new(),
            visitors: Vec::new(),
        }
    }
}

/// What lies below the messages (`transport` of frpc).
#[derive(Clone, Debug, PartialEq)]
pub struct ClientTransport {
    /// How the server is reached.
    pub protocol: Protocol,
    /// The version of frp's wire format.
    pub wire_protocol: WireProtocol,
    /// How long a dial may take.
    pub dial_server_timeout: Duration,
    /// TCP keepalive. `None` is off.
    pub dial_server_keepalive: Option<Duration>,
    /// The local address to dial from.
    pub connect_server_local_ip: Option<IpAddr>,
    /// The proxy to dial through, except with QUIC. The environment's `http_proxy` when the file
    /// says nothing.
    pub proxy_url: Option<ProxyUrl>,
    /// How many work connections are opened ahead.
    pub pool_count: u32,
    /// Whether connections carry many streams. The server must have the same. With QUIC they always
    /// do.
    pub tcp_mux: bool,
    /// How often the multiplexer asks whether the peer is there.
    pub tcp_mux_keepalive_interval: Duration,
    /// How often a `Ping` is sent. `None` is never.
    pub heartbeat_interval: Option<Duration>,
    /// How long without a `Pong` is too long. `None` is never.
    pub heartbeat_timeout: Option<Duration>,
    /// QUIC.
    pub quic: QuicConfig,
    /// TCP, also below WebSocket. Ours.
    pub tcp: TcpConfig,
    /// The most that is sent on one connection to the peer. Ours.
    pub max_rate: Option<MaxRate>,
    /// Streams that outlive their carrier. Ours.
    pub hold: HoldConfig,
    /// The choice among transports. Ours.
    pub auto: ClientAuto,
    /// TLS.
    pub tls: ClientTls,
}

impl Default for ClientTransport {
    fn default() -> Self {
        Self {
            protocol: Protocol::Pinned(TransportKind::Tcp),
            wire_protocol: WireProtocol::V1,
            dial_server_timeout: Duration::from_secs(10),
            dial_server_keepalive: Some(Duration::from_secs(7200)),
            connect_server_local_ip: None,
            proxy_url: None,
            pool_count: 1,
            tcp_mux: true,
            tcp_mux_keepalive_interval: Duration::from_secs(30),
            heartbeat_interval: None,
            heartbeat_timeout: None,
            quic: QuicConfig::default(),
            tcp: TcpConfig::default(),
            max_rate: None,
            hold: HoldConfig::default(),
            auto: ClientAuto::default(),
            tls: ClientTls::default(),
        }
    }
}

/// The version of frp's wire format (`transport.wireProtocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WireProtocol {
    /// `v1`.
    #[default]
    V1,
    /// `v2`.
    V2,
}

/// TLS towards the server (`transport.tls` of frpc).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// Whether TLS is used. `wss` and QUIC always use it; QUIC goes without the files below when
    /// this is off.
    pub enable: bool,
    /// Whether the byte 0x17 before TLS is left out.
    pub disable_custom_first_byte: bool,
    /// The client's certificate chain.
    pub cert_file: Option<PathBuf>,
    /// The private key of it.
    pub key_file: Option<PathBuf>,
    /// The authority that the server's certificate must come from. Without it, and without `pin`,
    /// any certificate will do.
    pub trusted_ca_file: Option<PathBuf>,
    /// The name in the server's certificate; `None`: the server's address.
    pub server_name: Option<String>,
    /// The server's certificate itself. Ours.
    pub pin: Option<CertificatePin>,
}

impl Default for ClientTls {
    fn default() -> Self {
        Self {
            enable: true,
            disable_custom_first_byte: true,
            cert_file: None,
            key_file: None,
            trusted_ca_file: None,
            server_name: None,
            pin: None,
        }
    }
}
