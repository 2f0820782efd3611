//! Checks of proxies and visitors. Their errors begin with the entry's name, as in frp.

use super::super::raw_proxy::{RawPlugin, RawProxy, RawProxyTransport, RawVisitor};
use super::super::unsupported::{self, Feature};
use super::super::{
    Bandwidth, LimitMode, ProxyConfig, ProxyKind, ProxyProtocol, ProxyTransport, Secret,
    VisitorConfig, VisitorKind, VisitorTransport,
};
use super::common::{or_default, port_error};
use super::names::annotation_errors;
use super::{Context, Located};

impl Context<'_> {
    /// A proxy, unless something is wrong with it or its kind comes later.
    pub(super) fn proxy(&mut self, entry: &Located<RawProxy>) -> Option<ProxyConfig> {
        let raw = &entry.raw;
        let mut entry = Entry {
            context: self,
            file: entry.file,
            located_key: &|key| entry.key(key),
            prefix: format!("proxy {}: ", raw.name),
            is_alone: entry.path.is_empty(),
            is_good: true,
        };
        if raw.name.is_empty() {
            entry.error("name", "name should not be empty");
        }
        for (key, problem) in annotation_errors(&raw.annotations) {
            entry.error(&key, problem);
        }
        let transport = entry.proxy_transport(&raw.transport);
        let local_port = entry.local_port(raw);
        entry.health_check(raw);
        if let Some(plugin) = &raw.plugin {
            entry.plugin(plugin);
        }
        if matches!(raw.kind.as_str(), "http" | "https" | "tcpmux") {
            entry.domains(raw);
        }
        entry.refuse(unsupported::PROXY, raw);
        if !entry.is_good {
            return None;
        }
        let int = |port: isize| i64::try_from(port).unwrap_or(i64::MAX);
        let kind = match raw.kind.as_str() {
            "tcp" => ProxyKind::Tcp {
                remote_port: int(raw.remote_port),
            },
            "udp" => ProxyKind::Udp {
                remote_port: int(raw.remote_port),
            },
            "stcp" => ProxyKind::Stcp {
                secret_key: Secret::new(raw.secret_key.as_str()),
                allow_users: raw.allow_users.clone(),
            },
            // The walk has refused unknown types, and the table those that come later.
            other => {
                entry.error("type", format!("unknown proxy type: {other}"));
                return None;
            }
        };
        Some(ProxyConfig {
            name: raw.name.clone(),
            annotations: raw.annotations.clone(),
            metadatas: raw.metadatas.clone(),
            transport,
            local_ip: or_default(&raw.local_ip, "127.0.0.1"),
            local_port,
            kind,
        })
    }

    /// A visitor, unless something is wrong with it or its kind comes later.
    pub(super) fn visitor(&mut self, entry: &Located<RawVisitor>) -> Option<VisitorConfig> {
        let raw = &entry.raw;
        let mut entry = Entry {
            context: self,
            file: entry.file,
            located_key: &|key| entry.key(key),
            prefix: format!("visitor {}: ", raw.name),
            is_alone: entry.path.is_empty(),
            is_good: true,
        };
        if raw.name.is_empty() {
            entry.error("name", "name is required");
        }
        if raw.server_name.is_empty() {
            entry.error("serverName", "server name is required");
        }
        let bind_port = entry.bind_port(raw.bind_port);
        if raw.kind == "xtcp" && !matches!(raw.protocol.as_str(), "" | "kcp" | "quic") {
            entry.error("protocol", "protocol should be kcp or quic");
        }
        entry.refuse(unsupported::VISITOR, raw);
        if !entry.is_good {
            return None;
        }
        let kind = match raw.kind.as_str() {
            "stcp" => VisitorKind::Stcp,
            other => {
                entry.error("type", format!("unknown visitor type: {other}"));
                return None;
            }
        };
        Some(VisitorConfig {
            name: raw.name.clone(),
            transport: VisitorTransport {
                use_encryption: raw.transport.use_encryption,
                use_compression: raw.transport.use_compression,
            },
            secret_key: Secret::new(raw.secret_key.as_str()),
            server_user: raw.server_user.clone(),
            server_name: raw.server_name.clone(),
            bind_addr: or_default(&raw.bind_addr, "127.0.0.1"),
            bind_port,
            kind,
        })
    }
}

/// The entry that is being checked.
struct Entry<'a, 'b> {
    context: &'a mut Context<'b>,
    file: usize,
    located_key: &'a dyn Fn(&str) -> String,
    /// What frp says before an error about it.
    prefix: String,
    /// Whether it comes from flags, where frp has no prefix.
    is_alone: bool,
    is_good: bool,
}

impl Entry<'_, '_> {
    fn error(&mut self, key: &str, message: impl AsRef<str>) {
        self.is_good = false;
        let prefix = if self.is_alone { "" } else { &self.prefix };
        let message = format!("{prefix}{}", message.as_ref());
        self.context
            .report
            .error(self.file, &(self.located_key)(key), message);
    }

    fn refuse<T>(&mut self, table: &[Feature<T>], raw: &T) {
        for (key, message) in table.iter().filter_map(|feature| feature.refuse(raw)) {
            self.error(key, message);
        }
    }

    fn proxy_transport(&mut self, raw: &RawProxyTransport) -> ProxyTransport {
        let proxy_protocol_version = match raw.proxy_protocol_version.as_str() {
            "" => None,
            "v1" => Some(ProxyProtocol::V1),
            "v2" => Some(ProxyProtocol::V2),
            other => {
                let message = format!("not support proxy protocol version: {other}");
                self.error("transport.proxyProtocolVersion", message);
                None
            }
        };
        let bandwidth_limit_mode = match raw.bandwidth_limit_mode.as_str() {
            "" | "client" => LimitMode::Client,
            "server" => LimitMode::Server,
            _ => {
                let message = "bandwidth limit mode should be client or server";
                self.error("transport.bandwidthLimitMode", message);
                LimitMode::Client
            }
        };
        let bandwidth_limit = Bandwidth::parse(&raw.bandwidth_limit).unwrap_or_else(|err| {
            self.error("transport.bandwidthLimit", err.to_string());
            None
        });
        ProxyTransport {
            use_encryption: raw.use_encryption,
            use_compression: raw.use_compression,
            bandwidth_limit,
            bandwidth_limit_mode,
            proxy_protocol_version,
        }
    }

    fn local_port(&mut self, raw: &RawProxy) -> u16 {
        if raw.plugin.is_some() {
            return 0;
        }
        u16::try_from(raw.local_port).unwrap_or_else(|_| {
            let message = format!("localPort: {}", port_error("localPort", raw.local_port));
            self.error("localPort", message);
            0
        })
    }

    fn health_check(&mut self, raw: &RawProxy) {
        match raw.health_check.kind.as_str() {
            "" | "tcp" => {}
            "http" if raw.health_check.path.is_empty() => {
                self.error("healthCheck.path", "health check path should not be empty");
            }
            "http" => {}
            other => {
                let message = format!("not support health check type: {other}");
                self.error("healthCheck.type", message);
            }
        }
    }

    fn plugin(&mut self, plugin: &RawPlugin) {
        let missing = match plugin.kind.as_str() {
            "http2https" | "https2http" | "https2https" | "tls2raw" => {
                plugin.local_addr.is_empty().then_some("localAddr")
            }
            "static_file" => plugin.local_path.is_empty().then_some("localPath"),
            "unix_domain_socket" => plugin.unix_path.is_empty().then_some("unixPath"),
            _ => None,
        };
        if let Some(key) = missing {
            let message = format!("plugin {}: {key} is required", plugin.kind);
            self.error(&format!("plugin.{key}"), message);
        }
    }

    fn domains(&mut self, raw: &RawProxy) {
        if raw.subdomain.is_empty() && raw.custom_domains.is_empty() {
            let message = "subdomain and custom domains should not be both empty";
            self.error("customDomains", message);
        }
        if raw.kind == "tcpmux" && raw.multiplexer != "httpconnect" {
            let message = format!("not support multiplexer: {}", raw.multiplexer);
            self.error("multiplexer", message);
        }
    }

    fn bind_port(&mut self, port: isize) -> i32 {
        if port == 0 {
            self.error("bindPort", "bind port is required");
        } else if port > isize::from(i16::MAX) * 2 + 1 {
            // frp finds out only when it listens.
            self.error("bindPort", port_error("bindPort", port));
        }
        i32::try_from(port).unwrap_or(-1)
    }
}
