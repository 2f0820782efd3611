//! What the files say, before defaults and checks: frp's keys under frp's names. The entries of
//! `proxies` and `visitors` are in `raw_proxy.rs`, `transport.auto` in `raw_switching.rs`, `recovery`
//! and `alerts` in `raw_recovery.rs`.
//!
//! A zero value means "not set", as in frp. Only where the difference matters there is an `Option`.

use std::collections::BTreeMap;

use super::raw_proxy::{RawNameValue, RawProxy, RawVisitor};
use super::raw_recovery::{RawAlert, RawRecovery};
use super::raw_switching::{RawClientAuto, RawHold, RawServerAuto};
use super::shape::raw;

raw! {
    /// A file of frps.
    RawServer is "v1.ServerConfig" {
        "version" version: String,
        "auth" auth: RawServerAuth,
        "bindAddr" bind_addr: String,
        "bindPort" bind_port: isize,
        "kcpBindPort" kcp_bind_port: isize,
        "quicBindPort" quic_bind_port: isize,
        "proxyBindAddr" proxy_bind_addr: String,
        "vhostHTTPPort" vhost_http_port: isize,
        "vhostHTTPTimeout" vhost_http_timeout: i64,
        "vhostHTTPSPort" vhost_https_port: isize,
        "tcpmuxHTTPConnectPort" tcpmux_http_connect_port: isize,
        "tcpmuxPassthrough" tcpmux_passthrough: bool,
        "subDomainHost" sub_domain_host: String,
        "custom404Page" custom_404_page: String,
        "sshTunnelGateway" ssh_tunnel_gateway: RawSshGateway,
        "webServer" web_server: RawWebServer,
        "enablePrometheus" enable_prometheus: bool,
        "log" log: RawLog,
        "transport" transport: RawServerTransport,
        "detailedErrorsToClient" detailed_errors_to_client: Option<bool>,
        "maxPortsPerClient" max_ports_per_client: i64,
        "userConnTimeout" user_conn_timeout: i64,
        "udpPacketSize" udp_packet_size: i64,
        "natholeAnalysisDataReserveHours" nat_hole_analysis_data_reserve_hours: i64,
        "allowPorts" allow_ports: Vec<RawPortRange>,
        "httpPlugins" http_plugins: Vec<RawHttpPlugin>,
        "stateDir" state_dir: String,
    }
}

raw! {
    /// `auth` of frps.
    RawServerAuth is "v1.AuthServerConfig" {
        "method" method: String,
        "additionalScopes" additional_scopes: Vec<String>,
        "token" token: String,
        "tokenSource" token_source: Option<RawValueSource>,
        "oidc" oidc: RawServerOidc,
    }
}

raw! {
    /// `auth.oidc` of frps.
    RawServerOidc is "v1.AuthOIDCServerConfig" {
        "issuer" issuer: String,
        "audience" audience: String,
        "skipExpiryCheck" skip_expiry_check: bool,
        "skipIssuerCheck" skip_issuer_check: bool,
    }
}

raw! {
    /// `sshTunnelGateway`.
    RawSshGateway is "v1.SSHTunnelGateway" {
        "bindPort" bind_port: isize,
        "privateKeyFile" private_key_file: String,
        "autoGenPrivateKeyPath" auto_gen_private_key_path: String,
        "authorizedKeysFile" authorized_keys_file: String,
    }
}

raw! {
    /// `transport` of frps.
    RawServerTransport is "v1.ServerTransportConfig" {
        "tcpMux" tcp_mux: Option<bool>,
        "tcpMuxKeepaliveInterval" tcp_mux_keepalive_interval: i64,
        "tcpKeepalive" tcp_keepalive: i64,
        "maxPoolCount" max_pool_count: i64,
        "heartbeatTimeout" heartbeat_timeout: i64,
        "quic" quic: RawQuic,
        "tcp" tcp: RawTcp,
        "maxRate" max_rate: String,
        "tls" tls: RawServerTls,
        "auto" auto: RawServerAuto,
        "hold" hold: RawHold,
    }
}

raw! {
    /// `transport.tls` of frps.
    RawServerTls is "v1.TLSServerConfig" {
        "force" force: bool,
        "certFile" cert_file: String,
        "keyFile" key_file: String,
        "trustedCaFile" trusted_ca_file: String,
        "serverName" server_name: String,
    }
}

raw! {
    /// An entry of `allowPorts`.
    RawPortRange is "types.PortsRange" {
        "start" start: isize,
        "end" end: isize,
        "single" single: isize,
    }
}

raw! {
    /// An entry of `httpPlugins`.
    RawHttpPlugin is "v1.HTTPPluginOptions" {
        "name" name: String,
        "addr" addr: String,
        "path" path: String,
        "ops" ops: Vec<String>,
        "tlsVerify" tls_verify: bool,
    }
}

raw! {
    /// A file of frpc.
    RawClient is "v1.rawClientConfig" {
        "version" version: String,
        "auth" auth: RawClientAuth,
        "user" user: String,
        "clientID" client_id: String,
        "serverAddr" server_addr: String,
        "serverPort" server_port: isize,
        "natHoleStunServer" nat_hole_stun_server: String,
        "dnsServer" dns_server: String,
        "loginFailExit" login_fail_exit: Option<bool>,
        "start" start: Vec<String>,
        "log" log: RawLog,
        "webServer" web_server: RawWebServer,
        "enablePrometheus" enable_prometheus: bool,
        "transport" transport: RawClientTransport,
        "virtualNet" virtual_net: RawVirtualNet,
        "featureGates" feature_gates: BTreeMap<String, bool>,
        "udpPacketSize" udp_packet_size: i64,
        "metadatas" metadatas: BTreeMap<String, String>,
        "includes" includes: Vec<String>,
        "store" store: RawStore,
        "proxies" proxies: Vec<RawProxy>,
        "visitors" visitors: Vec<RawVisitor>,
        "stateDir" state_dir: String,
        "recovery" recovery: RawRecovery,
        "alerts" alerts: Vec<RawAlert>,
    }
}

raw! {
    /// `auth` of frpc.
    RawClientAuth is "v1.AuthClientConfig" {
        "method" method: String,
        "additionalScopes" additional_scopes: Vec<String>,
        "token" token: String,
        "tokenSource" token_source: Option<RawValueSource>,
        "oidc" oidc: RawClientOidc,
    }
}

raw! {
    /// `auth.oidc` of frpc.
    RawClientOidc is "v1.AuthOIDCClientConfig" {
        "clientID" client_id: String,
        "clientSecret" client_secret: String,
        "audience" audience: String,
        "scope" scope: String,
        "tokenEndpointURL" token_endpoint_url: String,
        "additionalEndpointParams" additional_endpoint_params: BTreeMap<String, String>,
        "trustedCaFile" trusted_ca_file: String,
        "insecureSkipVerify" insecure_skip_verify: bool,
        "proxyURL" proxy_url: String,
        "tokenSource" token_source: Option<RawValueSource>,
    }
}

raw! {
    /// `virtualNet`.
    RawVirtualNet is "v1.VirtualNetConfig" {
        "address" address: String,
    }
}

raw! {
    /// `store`.
    RawStore is "v1.StoreConfig" {
        "path" path: String,
    }
}

raw! {
    /// `transport` of frpc. A string in its place is the protocol.
    RawClientTransport is "v1.ClientTransportConfig", short "protocol" {
        "protocol" protocol: String,
        "wireProtocol" wire_protocol: String,
        "dialServerTimeout" dial_server_timeout: i64,
        "dialServerKeepalive" dial_server_keepalive: i64,
        "connectServerLocalIP" connect_server_local_ip: String,
        "proxyURL" proxy_url: String,
        "poolCount" pool_count: isize,
        "tcpMux" tcp_mux: Option<bool>,
        "tcpMuxKeepaliveInterval" tcp_mux_keepalive_interval: i64,
        "quic" quic: RawQuic,
        "tcp" tcp: RawTcp,
        "maxRate" max_rate: String,
        "heartbeatInterval" heartbeat_interval: i64,
        "heartbeatTimeout" heartbeat_timeout: i64,
        "tls" tls: RawClientTls,
        "auto" auto: RawClientAuto,
        "hold" hold: RawHold,
    }
}

raw! {
    /// `transport.tls` of frpc.
    RawClientTls is "v1.TLSClientConfig" {
        "enable" enable: Option<bool>,
        "disableCustomTLSFirstByte" disable_custom_first_byte: Option<bool>,
        "certFile" cert_file: String,
        "keyFile" key_file: String,
        "trustedCaFile" trusted_ca_file: String,
        "serverName" server_name: String,
        "pin" pin: String,
    }
}

raw! {
    /// `transport.quic`.
    RawQuic is "v1.QUICOptions" {
        "keepalivePeriod" keepalive_period: isize,
        "maxIdleTimeout" max_idle_timeout: isize,
        "maxIncomingStreams" max_incoming_streams: isize,
        "congestion" congestion: String,
        "backend" backend: String,
    }
}

raw! {
    /// `transport.tcp`. Ours, so Go has no name for it.
    RawTcp is "transport.tcp" {
        "congestion" congestion: String,
        "notsentLowat" notsent_lowat: i64,
    }
}

raw! {
    /// `webServer`.
    RawWebServer is "v1.WebServerConfig" {
        "addr" addr: String,
        "port" port: isize,
        "user" user: String,
        "password" password: String,
        "assetsDir" assets_dir: String,
        "pprofEnable" pprof_enable: bool,
        "tls" tls: Option<RawTlsFiles>,
    }
}

raw! {
    /// `webServer.tls`.
    RawTlsFiles is "v1.TLSConfig" {
        "certFile" cert_file: String,
        "keyFile" key_file: String,
        "trustedCaFile" trusted_ca_file: String,
        "serverName" server_name: String,
    }
}

raw! {
    /// `log`.
    RawLog is "v1.LogConfig" {
        "to" to: String,
        "level" level: String,
        "maxDays" max_days: i64,
        "disablePrintColor" disable_print_color: bool,
        "format" format: String,
    }
}

raw! {
    /// `auth.tokenSource`.
    RawValueSource is "v1.ValueSource" {
        "type" kind: String,
        "file" file: Option<RawFileSource>,
        "exec" exec: Option<RawExecSource>,
    }
}

raw! {
    /// `auth.tokenSource.file`.
    RawFileSource is "v1.FileSource" {
        "path" path: String,
    }
}

raw! {
    /// `auth.tokenSource.exec`.
    RawExecSource is "v1.ExecSource" {
        "command" command: String,
        "args" args: Vec<String>,
        "env" env: Vec<RawNameValue>,
    }
}
