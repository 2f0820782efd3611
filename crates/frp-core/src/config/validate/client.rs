//! Checks of frpc's configuration.

use std::collections::BTreeSet;
use std::net::IpAddr;

use url::Url;

use super::super::raw::{RawClient, RawClientTls, RawClientTransport};
use super::super::raw_proxy::{RawProxy, RawVisitor};
use super::super::unsupported;
use super::super::{
    CertificatePin, ClientConfig, ClientTls, ClientTransport, ProxyUrl, WireProtocol,
};
use super::common::{count, or, or_default, path, seconds_or_off};
use super::{Context, Located};

/// Checks what the files say, and fills in what they do not say.
pub(in super::super) fn client(
    context: &mut Context<'_>,
    raw: &RawClient,
    proxies: &[Located<RawProxy>],
    visitors: &[Located<RawVisitor>],
) -> ClientConfig {
    let has_virtual_net = !raw.virtual_net.address.is_empty();
    if has_virtual_net && raw.feature_gates.get("VirtualNet") != Some(&true) {
        let message = "VirtualNet feature is not enabled; enable it by setting the appropriate \
                       feature gate flag";
        context.error("virtualNet.address", message);
    }
    let auth = context.client_auth(&raw.auth);
    let log = context.log(&raw.log);
    let web_server = context.web_server(&raw.web_server);
    let transport = transport(context, &raw.transport);
    context.refuse(unsupported::CLIENT, raw);
    let server_port = server_port(context, raw.server_port);
    let udp_packet_size = context.udp_packet_size(raw.udp_packet_size);

    let recovery = context.recovery(&raw.recovery);
    let alerts = context.alerts(&raw.alerts);

    unique(context, "proxy", proxies, |proxy| &proxy.name);
    unique(context, "visitor", visitors, |visitor| &visitor.name);
    let is_used = |name: &str, enabled: Option<bool>| {
        enabled != Some(false) && (raw.start.is_empty() || raw.start.iter().any(|n| n == name))
    };
    let used = proxies
        .iter()
        .filter(|proxy| is_used(&proxy.raw.name, proxy.raw.enabled));
    let mut checked_proxies: Vec<_> = used.filter_map(|proxy| context.proxy(proxy)).collect();
    let used = visitors
        .iter()
        .filter(|visitor| is_used(&visitor.raw.name, visitor.raw.enabled));
    let mut checked_visitors: Vec<_> = used
        .filter_map(|visitor| context.visitor(visitor))
        .collect();
    checked_proxies.sort_by(|a, b| a.name.cmp(&b.name));
    checked_visitors.sort_by(|a, b| a.name.cmp(&b.name));

    ClientConfig {
        auth,
        user: raw.user.clone(),
        client_id: raw.client_id.clone(),
        server_addr: or_default(&raw.server_addr, "0.0.0.0"),
        server_port,
        login_fail_exit: raw.login_fail_exit.unwrap_or(true),
        start: raw.start.clone(),
        log,
        web_server,
        enable_prometheus: raw.enable_prometheus,
        transport,
        udp_packet_size,
        metadatas: raw.metadatas.clone(),
        state_dir: path(&raw.state_dir),
        recovery,
        alerts,
        proxies: checked_proxies,
        visitors: checked_visitors,
    }
}

/// frp finds out about a bad port only when it dials.
fn server_port(context: &mut Context<'_>, port: isize) -> u16 {
    match context.port("serverPort", "serverPort", port) {
        0 => 7000,
        port => port,
    }
}

/// Names must differ, also those of entries that are not used.
fn unique<T>(
    context: &mut Context<'_>,
    noun: &str,
    entries: &[Located<T>],
    name: fn(&T) -> &String,
) {
    let mut seen = BTreeSet::new();
    for entry in entries {
        let name = name(&entry.raw);
        if !seen.insert(name) {
            let message = format!("{noun} name [{name}] is duplicated");
            context
                .report
                .error(entry.file, &entry.key("name"), message);
        }
    }
}

fn transport(context: &mut Context<'_>, raw: &RawClientTransport) -> ClientTransport {
    let tcp_mux = raw.tcp_mux.unwrap_or(true);
    let off_with_mux = |default: i64| if tcp_mux { -1 } else { default };
    let interval = seconds_or_off(or(raw.heartbeat_interval, off_with_mux(30)));
    let timeout = seconds_or_off(or(raw.heartbeat_timeout, off_with_mux(90)));
    if let (Some(interval), Some(timeout)) = (interval, timeout)
        && timeout < interval
    {
        let message = "invalid transport.heartbeatTimeout, heartbeat timeout should not less than \
                       heartbeat interval";
        context.error("transport.heartbeatTimeout", message);
    }
    let wire_protocol = match raw.wire_protocol.as_str() {
        "" | "v1" => WireProtocol::V1,
        "v2" => WireProtocol::V2,
        _ => {
            let message = "invalid transport.wireProtocol, optional values are [v1 v2]";
            context.error("transport.wireProtocol", message);
            WireProtocol::V1
        }
    };
    let dial_timeout = context.seconds(
        "transport.dialServerTimeout",
        or(raw.dial_server_timeout, 10),
    );
    let hold = context.hold(&raw.hold);
    let mut transport = ClientTransport {
        protocol: context.protocol(&raw.protocol),
        wire_protocol,
        dial_server_timeout: dial_timeout,
        dial_server_keepalive: seconds_or_off(or(raw.dial_server_keepalive, 7200)),
        connect_server_local_ip: local_ip(context, &raw.connect_server_local_ip),
        proxy_url: proxy_url(context, &raw.proxy_url),
        pool_count: count(or(i64::try_from(raw.pool_count).unwrap_or(i64::MAX), 1)),
        tcp_mux,
        tcp_mux_keepalive_interval: context.seconds(
            "transport.tcpMuxKeepaliveInterval",
            or(raw.tcp_mux_keepalive_interval, 30),
        ),
        heartbeat_interval: interval,
        heartbeat_timeout: timeout,
        quic: context.quic(&raw.quic),
        tcp: context.tcp(&raw.tcp),
        max_rate: context.max_rate(&raw.max_rate),
        auto: context.client_auto(&raw.auto, &hold, dial_timeout),
        hold,
        tls: tls(context, &raw.tls),
    };
    context.client_switching_conflicts(raw, &mut transport);
    transport
}

fn tls(context: &mut Context<'_>, raw: &RawClientTls) -> ClientTls {
    let enable = raw.enable.unwrap_or(true);
    if !enable {
        for (key, value) in [
            ("certFile", &raw.cert_file),
            ("keyFile", &raw.key_file),
            ("trustedCaFile", &raw.trusted_ca_file),
            ("pin", &raw.pin),
        ] {
            if !value.is_empty() {
                let key = format!("transport.tls.{key}");
                let text = format!("{key} is invalid when transport.tls.enable is false");
                context.report.warn(text);
            }
        }
    }
    let pin = (!raw.pin.is_empty()).then(|| raw.pin.parse::<CertificatePin>());
    let pin = pin.and_then(|pin| {
        pin.map_err(|err| context.error("transport.tls.pin", err.to_string()))
            .ok()
    });
    ClientTls {
        enable,
        disable_custom_first_byte: raw.disable_custom_first_byte.unwrap_or(true),
        cert_file: path(&raw.cert_file),
        key_file: path(&raw.key_file),
        trusted_ca_file: path(&raw.trusted_ca_file),
        server_name: (!raw.server_name.is_empty()).then(|| raw.server_name.clone()),
        pin,
    }
}

fn local_ip(context: &mut Context<'_>, text: &str) -> Option<IpAddr> {
    if text.is_empty() {
        return None;
    }
    let ip = text.parse();
    if ip.is_err() {
        let message = format!("transport.connectServerLocalIP: {text:?} is not an IP address");
        context.error("transport.connectServerLocalIP", message);
    }
    ip.ok()
}

/// The proxy to dial through: the file's, else the environment's. The URL may hold a password, so
/// the errors do not repeat it.
fn proxy_url(context: &mut Context<'_>, text: &str) -> Option<ProxyUrl> {
    let key = "transport.proxyURL";
    let (text, source) = if text.is_empty() {
        (
            context.env.get("http_proxy")?,
            "the environment's http_proxy",
        )
    } else {
        (text.to_owned(), key)
    };
    if text.is_empty() {
        return None;
    }
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "socks5") && url.has_host() => {
            return Some(ProxyUrl::from(url));
        }
        Ok(url) if url.scheme() == "ntlm" => {
            context.error(key, format!("not supported yet: {source} with ntlm"));
        }
        Ok(_) => context.error(key, format!("{source} must be an http or socks5 URL")),
        Err(err) => context.error(key, format!("{source} is not a URL: {err}")),
    }
    None
}
