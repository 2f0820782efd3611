//! The features of frp that this program does not have yet: one table for each kind of object.
//!
//! Their keys are read like all others. A row speaks up when its feature is *used*, so that no
//! configuration silently does less than it says. Whoever builds a feature removes its row.

use super::raw::{RawClient, RawServer, RawWebServer};
use super::raw_proxy::{RawProxy, RawVisitor};

/// A feature: the key that is reported, and the feature's name if a configuration uses it.
pub(super) struct Feature<T> {
    key: &'static str,
    used: fn(&T) -> Option<String>,
}

impl<T> Feature<T> {
    /// The key and the message, if `config` uses the feature.
    pub(super) fn refuse(&self, config: &T) -> Option<(&'static str, String)> {
        let name = (self.used)(config)?;
        Some((self.key, format!("not supported yet: {name}")))
    }
}

/// A row whose feature goes by the name of its key.
macro_rules! feature {
    ($key:literal, $config:ident => $used:expr) => {
        Feature {
            key: $key,
            used: |$config| $used.then(|| $key.to_owned()),
        }
    };
}

/// A row whose feature's name has a value in it: `proxy type xtcp`.
macro_rules! valued {
    ($key:literal, $name:literal, $config:ident => $value:expr, $later:pat) => {
        Feature {
            key: $key,
            used: |$config| {
                let value = $value.as_str();
                matches!(value, $later).then(|| format!("{} {value}", $name))
            },
        }
    };
}

/// What frps does not have yet.
pub(super) static SERVER: &[Feature<RawServer>] = &[
    feature!("vhostHTTPPort", c => (c.vhost_http_port > 0)),
    feature!("vhostHTTPSPort", c => (c.vhost_https_port > 0)),
    feature!("tcpmuxHTTPConnectPort", c => (c.tcpmux_http_connect_port > 0)),
    feature!("sshTunnelGateway.bindPort", c => (c.ssh_tunnel_gateway.bind_port > 0)),
    feature!("httpPlugins", c => (!c.http_plugins.is_empty())),
    valued!("auth.method", "auth.method", c => c.auth.method, "oidc"),
];

/// What frpc does not have yet.
pub(super) static CLIENT: &[Feature<RawClient>] = &[
    feature!("dnsServer", c => (!c.dns_server.is_empty())),
    feature!("store.path", c => (!c.store.path.is_empty())),
    feature!("webServer.pprofEnable", c => c.web_server.pprof_enable),
    feature!("virtualNet.address", c => (!c.virtual_net.address.is_empty())),
    Feature {
        key: "featureGates",
        used: |c| {
            let gate = c.feature_gates.iter().find(|(_, is_on)| **is_on);
            gate.map(|(name, _)| format!("featureGates {name}"))
        },
    },
    valued!("auth.method", "auth.method", c => c.auth.method, "oidc"),
];

/// What neither program's web server has yet.
pub(super) static WEB_SERVER: &[Feature<RawWebServer>] = &[
    feature!("webServer.tls", c => c.tls.is_some()),
    feature!("webServer.assetsDir", c => (!c.assets_dir.is_empty())),
];

/// What proxies do not have yet.
pub(super) static PROXY: &[Feature<RawProxy>] = &[
    valued!("type", "proxy type", c => c.kind, "http" | "https" | "tcpmux" | "sudp" | "xtcp"),
    feature!("healthCheck.type", c => (!c.health_check.kind.is_empty())),
    feature!("loadBalancer.group", c => (!c.load_balancer.group.is_empty())),
    Feature {
        key: "plugin",
        used: |c| {
            c.plugin
                .as_ref()
                .map(|plugin| format!("plugin {}", plugin.kind))
        },
    },
];

/// What visitors do not have yet.
pub(super) static VISITOR: &[Feature<RawVisitor>] = &[
    valued!("type", "visitor type", c => c.kind, "sudp" | "xtcp"),
    Feature {
        key: "plugin",
        used: |c| {
            c.plugin
                .as_ref()
                .map(|plugin| format!("visitor plugin {}", plugin.kind))
        },
    },
];
