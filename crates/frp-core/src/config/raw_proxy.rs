//! What the files say about proxies, visitors and their plugins, before defaults and checks.
//!
//! Each struct has the keys of all types; the tables of variants say which type has which.

use std::collections::BTreeMap;

use super::shape::{Variant, Variants, raw};

raw! {
    /// An entry of `proxies`: the keys of all types together.
    RawProxy is "v1.TypedProxyConfig", variants PROXY_VARIANTS {
        "name" name: String,
        "type" kind: String,
        "enabled" enabled: Option<bool>,
        "annotations" annotations: BTreeMap<String, String>,
        "transport" transport: RawProxyTransport,
        "metadatas" metadatas: BTreeMap<String, String>,
        "loadBalancer" load_balancer: RawLoadBalancer,
        "healthCheck" health_check: RawHealthCheck,
        "localIP" local_ip: String,
        "localPort" local_port: isize,
        "plugin" plugin: Option<RawPlugin>,
        "remotePort" remote_port: isize,
        "customDomains" custom_domains: Vec<String>,
        "subdomain" subdomain: String,
        "locations" locations: Vec<String>,
        "httpUser" http_user: String,
        "httpPassword" http_password: String,
        "hostHeaderRewrite" host_header_rewrite: String,
        "requestHeaders" request_headers: RawHeaders,
        "responseHeaders" response_headers: RawHeaders,
        "routeByHTTPUser" route_by_http_user: String,
        "multiplexer" multiplexer: String,
        "secretKey" secret_key: String,
        "allowUsers" allow_users: Vec<String>,
        "natTraversal" nat_traversal: RawNatTraversal,
    }
}

/// The types of proxies.
pub(super) static PROXY_VARIANTS: Variants = Variants {
    noun: "proxy type",
    context: "unmarshal ProxyConfig error: ",
    outer: "",
    missing: None,
    base: &[
        "name",
        "type",
        "enabled",
        "annotations",
        "transport",
        "metadatas",
        "loadBalancer",
        "healthCheck",
        "localIP",
        "localPort",
        "plugin",
    ],
    types: &[
        Variant {
            name: "tcp",
            go_name: "TCPProxyConfig",
            keys: &["remotePort"],
        },
        Variant {
            name: "udp",
            go_name: "UDPProxyConfig",
            keys: &["remotePort"],
        },
        Variant {
            name: "http",
            go_name: "HTTPProxyConfig",
            keys: &[
                "customDomains",
                "subdomain",
                "locations",
                "httpUser",
                "httpPassword",
                "hostHeaderRewrite",
                "requestHeaders",
                "responseHeaders",
                "routeByHTTPUser",
            ],
        },
        Variant {
            name: "https",
            go_name: "HTTPSProxyConfig",
            keys: &["customDomains", "subdomain"],
        },
        Variant {
            name: "tcpmux",
            go_name: "TCPMuxProxyConfig",
            keys: &[
                "customDomains",
                "subdomain",
                "httpUser",
                "httpPassword",
                "routeByHTTPUser",
                "multiplexer",
            ],
        },
        Variant {
            name: "stcp",
            go_name: "STCPProxyConfig",
            keys: &["secretKey", "allowUsers"],
        },
        Variant {
            name: "sudp",
            go_name: "SUDPProxyConfig",
            keys: &["secretKey", "allowUsers"],
        },
        Variant {
            name: "xtcp",
            go_name: "XTCPProxyConfig",
            keys: &["secretKey", "allowUsers", "natTraversal"],
        },
    ],
};

raw! {
    /// `transport` of a proxy.
    RawProxyTransport is "v1.ProxyTransport" {
        "useEncryption" use_encryption: bool,
        "useCompression" use_compression: bool,
        "bandwidthLimit" bandwidth_limit: String,
        "bandwidthLimitMode" bandwidth_limit_mode: String,
        "proxyProtocolVersion" proxy_protocol_version: String,
    }
}

raw! {
    /// `loadBalancer`.
    RawLoadBalancer is "v1.LoadBalancerConfig" {
        "group" group: String,
        "groupKey" group_key: String,
    }
}

raw! {
    /// `healthCheck`.
    RawHealthCheck is "v1.HealthCheckConfig" {
        "type" kind: String,
        "timeoutSeconds" timeout_seconds: isize,
        "maxFailed" max_failed: isize,
        "intervalSeconds" interval_seconds: isize,
        "path" path: String,
        "httpHeaders" http_headers: Vec<RawNameValue>,
    }
}

raw! {
    /// `requestHeaders` and `responseHeaders`.
    RawHeaders is "v1.HeaderOperations" {
        "set" set: BTreeMap<String, String>,
    }
}

raw! {
    /// `natTraversal`.
    RawNatTraversal is "v1.NatTraversalConfig" {
        "disableAssistedAddrs" disable_assisted_addrs: bool,
    }
}

raw! {
    /// `plugin` of a proxy: the keys of all types together.
    RawPlugin is "v1.TypedClientPluginOptions", variants PLUGIN_VARIANTS {
        "type" kind: String,
        "localAddr" local_addr: String,
        "hostHeaderRewrite" host_header_rewrite: String,
        "requestHeaders" request_headers: RawHeaders,
        "httpUser" http_user: String,
        "httpPassword" http_password: String,
        "enableHTTP2" enable_http2: Option<bool>,
        "crtPath" crt_path: String,
        "keyPath" key_path: String,
        "username" username: String,
        "password" password: String,
        "localPath" local_path: String,
        "stripPrefix" strip_prefix: String,
        "unixPath" unix_path: String,
    }
}

/// The types of plugins.
pub(super) static PLUGIN_VARIANTS: Variants = Variants {
    noun: "plugin type",
    context: "unmarshal ClientPluginOptions error: ",
    outer: "unmarshal proxy plugin error: ",
    missing: Some("plugin type is empty"),
    base: &["type"],
    types: &[
        Variant {
            name: "http_proxy",
            go_name: "HTTPProxyPluginOptions",
            keys: &["httpUser", "httpPassword"],
        },
        Variant {
            name: "socks5",
            go_name: "Socks5PluginOptions",
            keys: &["username", "password"],
        },
        Variant {
            name: "static_file",
            go_name: "StaticFilePluginOptions",
            keys: &["localPath", "stripPrefix", "httpUser", "httpPassword"],
        },
        Variant {
            name: "unix_domain_socket",
            go_name: "UnixDomainSocketPluginOptions",
            keys: &["unixPath"],
        },
        Variant {
            name: "http2http",
            go_name: "HTTP2HTTPPluginOptions",
            keys: &["localAddr", "hostHeaderRewrite", "requestHeaders"],
        },
        Variant {
            name: "http2https",
            go_name: "HTTP2HTTPSPluginOptions",
            keys: &["localAddr", "hostHeaderRewrite", "requestHeaders"],
        },
        Variant {
            name: "https2http",
            go_name: "HTTPS2HTTPPluginOptions",
            keys: &[
                "localAddr",
                "hostHeaderRewrite",
                "requestHeaders",
                "enableHTTP2",
                "crtPath",
                "keyPath",
            ],
        },
        Variant {
            name: "https2https",
            go_name: "HTTPS2HTTPSPluginOptions",
            keys: &[
                "localAddr",
                "hostHeaderRewrite",
                "requestHeaders",
                "enableHTTP2",
                "crtPath",
                "keyPath",
            ],
        },
        Variant {
            name: "tls2raw",
            go_name: "TLS2RawPluginOptions",
            keys: &["localAddr", "crtPath", "keyPath"],
        },
        Variant {
            name: "virtual_net",
            go_name: "VirtualNetPluginOptions",
            keys: &[],
        },
    ],
};

raw! {
    /// An entry of `visitors`: the keys of all types together.
    RawVisitor is "v1.TypedVisitorConfig", variants VISITOR_VARIANTS {
        "name" name: String,
        "type" kind: String,
        "enabled" enabled: Option<bool>,
        "transport" transport: RawVisitorTransport,
        "secretKey" secret_key: String,
        "serverUser" server_user: String,
        "serverName" server_name: String,
        "bindAddr" bind_addr: String,
        "bindPort" bind_port: isize,
        "plugin" plugin: Option<RawVisitorPlugin>,
        "protocol" protocol: String,
        "keepTunnelOpen" keep_tunnel_open: bool,
        "maxRetriesAnHour" max_retries_an_hour: isize,
        "minRetryInterval" min_retry_interval: isize,
        "fallbackTo" fallback_to: String,
        "fallbackTimeoutMs" fallback_timeout_ms: isize,
        "natTraversal" nat_traversal: RawNatTraversal,
    }
}

/// The types of visitors.
pub(super) static VISITOR_VARIANTS: Variants = Variants {
    noun: "visitor type",
    context: "unmarshal VisitorConfig error: ",
    outer: "",
    missing: None,
    base: &[
        "name",
        "type",
        "enabled",
        "transport",
        "secretKey",
        "serverUser",
        "serverName",
        "bindAddr",
        "bindPort",
        "plugin",
    ],
    types: &[
        Variant {
            name: "stcp",
            go_name: "STCPVisitorConfig",
            keys: &[],
        },
        Variant {
            name: "sudp",
            go_name: "SUDPVisitorConfig",
            keys: &[],
        },
        Variant {
            name: "xtcp",
            go_name: "XTCPVisitorConfig",
            keys: &[
                "protocol",
                "keepTunnelOpen",
                "maxRetriesAnHour",
                "minRetryInterval",
                "fallbackTo",
                "fallbackTimeoutMs",
                "natTraversal",
            ],
        },
    ],
};

raw! {
    /// `transport` of a visitor.
    RawVisitorTransport is "v1.VisitorTransport" {
        "useEncryption" use_encryption: bool,
        "useCompression" use_compression: bool,
    }
}

raw! {
    /// `plugin` of a visitor.
    RawVisitorPlugin is "v1.TypedVisitorPluginOptions", variants VISITOR_PLUGIN_VARIANTS {
        "type" kind: String,
        "destinationIP" destination_ip: String,
    }
}

/// The types of visitors' plugins.
pub(super) static VISITOR_PLUGIN_VARIANTS: Variants = Variants {
    noun: "visitor plugin type",
    context: "unmarshal VisitorPluginOptions error: ",
    outer: "unmarshal visitor plugin error: ",
    missing: Some("visitor plugin type is empty"),
    base: &["type"],
    types: &[Variant {
        name: "virtual_net",
        go_name: "VirtualNetVisitorPluginOptions",
        keys: &["destinationIP"],
    }],
};

raw! {
    /// A name with a value: a header, a variable.
    RawNameValue is "v1.HTTPHeader" {
        "name" name: String,
        "value" value: String,
    }
}
