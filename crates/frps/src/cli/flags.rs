//! The flags that stand for configuration keys: frp's names, short forms and defaults.

use clap::ArgMatches;
use frp_core::config::Flag;

use super::words::{any_text, check_int, check_ports};

/// The server's flags by their keys, including the defaults that only flags have.
pub(super) fn server_flags(matches: &ArgMatches) -> Vec<Flag> {
    SERVER_FLAGS
        .iter()
        .filter_map(|flag| {
            let value = if flag.is_switch {
                matches.get_one::<bool>(flag.name).map(ToString::to_string)
            } else {
                matches.get_one::<String>(flag.name).cloned()
            };
            let value = value.filter(|value| !value.is_empty())?;
            Some(Flag::new(format!("--{}", flag.name), flag.key, value))
        })
        .collect()
}

/// A flag that stands for a configuration key.
pub(super) struct ServerFlag {
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) key: &'static str,
    /// Empty when the key's own default holds.
    pub(super) default: &'static str,
    pub(super) help: &'static str,
    pub(super) is_switch: bool,
    /// Refuses a value that can only be a mistake, as frp's parser does.
    pub(super) check: fn(&str) -> Result<String, String>,
}

const fn flag(
    name: &'static str,
    key: &'static str,
    default: &'static str,
    help: &'static str,
) -> ServerFlag {
    ServerFlag {
        name,
        short: None,
        key,
        default,
        help,
        is_switch: false,
        check: any_text,
    }
}

const fn number(
    name: &'static str,
    key: &'static str,
    default: &'static str,
    help: &'static str,
) -> ServerFlag {
    let mut flag = flag(name, key, default, help);
    flag.check = check_int;
    flag
}

const fn switch(name: &'static str, key: &'static str, help: &'static str) -> ServerFlag {
    ServerFlag {
        name,
        short: None,
        key,
        default: "",
        help,
        is_switch: true,
        check: any_text,
    }
}

impl ServerFlag {
    const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    const fn checked(mut self, check: fn(&str) -> Result<String, String>) -> Self {
        self.check = check;
        self
    }
}

/// frp's flags. `dashboard-tls-mode` is not among them: in frp it swallows the next word and does
/// nothing else; see [`WITHOUT_EFFECT`].
pub(super) const SERVER_FLAGS: [ServerFlag; 22] = [
    flag("bind-addr", "bindAddr", "0.0.0.0", "bind address"),
    number("bind-port", "bindPort", "7000", "bind port").short('p'),
    number("kcp-bind-port", "kcpBindPort", "", "kcp bind udp port"),
    number("quic-bind-port", "quicBindPort", "", "quic bind udp port"),
    // In a file the default is bindAddr. frp's flags differ, and scripts may rely on it.
    flag(
        "proxy-bind-addr",
        "proxyBindAddr",
        "0.0.0.0",
        "proxy bind address",
    ),
    number("vhost-http-port", "vhostHTTPPort", "", "vhost http port"),
    number("vhost-https-port", "vhostHTTPSPort", "", "vhost https port"),
    number(
        "vhost-http-timeout",
        "vhostHTTPTimeout",
        "",
        "vhost http response header timeout",
    ),
    flag(
        "dashboard-addr",
        "webServer.addr",
        "0.0.0.0",
        "dashboard address",
    ),
    number("dashboard-port", "webServer.port", "", "dashboard port"),
    flag(
        "dashboard-user",
        "webServer.user",
        "admin",
        "dashboard user",
    ),
    flag(
        "dashboard-pwd",
        "webServer.password",
        "admin",
        "dashboard password",
    ),
    switch(
        "enable-prometheus",
        "enablePrometheus",
        "enable prometheus dashboard",
    ),
    flag("log-file", "log.to", "console", "log file"),
    flag("log-level", "log.level", "info", "log level"),
    number("log-max-days", "log.maxDays", "3", "log max days"),
    switch(
        "disable-log-color",
        "log.disablePrintColor",
        "disable log color in console",
    ),
    flag("token", "auth.token", "", "auth token").short('t'),
    flag("subdomain-host", "subDomainHost", "", "subdomain host"),
    flag("allow-ports", "allowPorts", "", "allow ports").checked(check_ports),
    number(
        "max-ports-per-client",
        "maxPortsPerClient",
        "",
        "max ports per client",
    ),
    switch("tls-only", "transport.tls.force", "frps tls only"),
];

/// Flags that frp has without any effect: they take a value and change nothing.
pub(super) const WITHOUT_EFFECT: [(&str, &str); 3] = [
    (
        "dashboard-tls-mode",
        "without effect, as in frp: set webServer.tls in a file",
    ),
    (
        "dashboard-tls-cert-file",
        "without effect, as in frp: set webServer.tls in a file",
    ),
    (
        "dashboard-tls-key-file",
        "without effect, as in frp: set webServer.tls in a file",
    ),
];
