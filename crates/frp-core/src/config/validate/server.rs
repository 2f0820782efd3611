//! Checks of frps's configuration.

use std::num::NonZeroU16;

use super::super::raw::{RawServer, RawServerTransport};
use super::super::unsupported;
use super::super::{PortRange, PortRanges, ServerConfig, ServerTls, ServerTransport};
use super::Context;
use super::common::{count, or, or_default, path, seconds_or_off};

/// The operations that a plugin can be called for, as frp lists them in its error.
const PLUGIN_OPS: [&str; 6] = [
    "Login",
    "NewProxy",
    "CloseProxy",
    "Ping",
    "NewWorkConn",
    "NewUserConn",
];

/// Checks what a file says, and fills in what it does not say.
pub(in super::super) fn server(context: &mut Context<'_>, raw: &RawServer) -> ServerConfig {
    let auth = context.server_auth(&raw.auth);
    let log = context.log(&raw.log);
    let web_server = context.web_server(&raw.web_server);
    let bind_port = context.port("bindPort", "bindPort", raw.bind_port);
    let quic_bind_port = context.port("quicBindPort", "quicBindPort", raw.quic_bind_port);
    let kcp_bind_port = context.port("kcpBindPort", "kcpBindPort", raw.kcp_bind_port);
    for (key, frp_key, port) in [
        ("vhostHTTPPort", "vhostHTTPPort", raw.vhost_http_port),
        ("vhostHTTPSPort", "vhostHTTPSPort", raw.vhost_https_port),
        // frp's error has another spelling than the key.
        (
            "tcpmuxHTTPConnectPort",
            "tcpMuxHTTPConnectPort",
            raw.tcpmux_http_connect_port,
        ),
    ] {
        context.port(key, frp_key, port);
    }
    for (idx, plugin) in raw.http_plugins.iter().enumerate() {
        if !plugin
            .ops
            .iter()
            .all(|op| PLUGIN_OPS.contains(&op.as_str()))
        {
            let ops = PLUGIN_OPS.join(" ");
            let message = format!("invalid http plugin ops, optional values are [{ops}]");
            context.error(&format!("httpPlugins[{idx}].ops"), message);
        }
    }
    context.refuse(unsupported::SERVER, raw);
    let bind_addr = or_default(&raw.bind_addr, "0.0.0.0");
    ServerConfig {
        auth,
        proxy_bind_addr: or_default(&raw.proxy_bind_addr, &bind_addr),
        bind_addr,
        bind_port: if bind_port == 0 { 7000 } else { bind_port },
        kcp_bind_port: NonZeroU16::new(kcp_bind_port),
        quic_bind_port: NonZeroU16::new(quic_bind_port),
        web_server,
        enable_prometheus: raw.enable_prometheus,
        log,
        transport: transport(context, &raw.transport),
        detailed_errors_to_client: raw.detailed_errors_to_client.unwrap_or(true),
        max_ports_per_client: u64::try_from(raw.max_ports_per_client)
            .ok()
            .filter(|max| *max > 0),
        user_conn_timeout: context.seconds("userConnTimeout", or(raw.user_conn_timeout, 10)),
        udp_packet_size: context.udp_packet_size(raw.udp_packet_size),
        allow_ports: allow_ports(raw),
        state_dir: path(&raw.state_dir),
    }
}

fn transport(context: &mut Context<'_>, raw: &RawServerTransport) -> ServerTransport {
    let tcp_mux = raw.tcp_mux.unwrap_or(true);
    let tls = &raw.tls;
    let (hold, auto) = context.server_switching(raw, tcp_mux);
    ServerTransport {
        tcp_mux,
        tcp_mux_keepalive_interval: context.seconds(
            "transport.tcpMuxKeepaliveInterval",
            or(raw.tcp_mux_keepalive_interval, 30),
        ),
        tcp_keepalive: seconds_or_off(or(raw.tcp_keepalive, 7200)),
        max_pool_count: count(or(raw.max_pool_count, 5)),
        // The multiplexer finds out by itself whether the peer is there.
        heartbeat_timeout: seconds_or_off(or(raw.heartbeat_timeout, if tcp_mux { -1 } else { 90 })),
        quic: context.quic(&raw.quic),
        tcp: context.tcp(&raw.tcp),
        max_rate: context.max_rate(&raw.max_rate),
        hold,
        auto,
        tls: ServerTls {
            force: tls.force || !tls.trusted_ca_file.is_empty(),
            cert_file: path(&tls.cert_file),
            key_file: path(&tls.key_file),
            trusted_ca_file: path(&tls.trusted_ca_file),
        },
    }
}

fn allow_ports(raw: &RawServer) -> PortRanges {
    let int = |port: isize| i64::try_from(port).unwrap_or(i64::MAX);
    let ranges = raw.allow_ports.iter().map(|range| {
        if range.single > 0 {
            PortRange::Single(int(range.single))
        } else {
            PortRange::Span {
                start: int(range.start),
                end: int(range.end),
            }
        }
    });
    PortRanges::new(ranges.collect())
}
