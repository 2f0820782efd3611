//! The flags of a single-proxy command, as the configuration keys that they set.

use frp_core::config::{Flag, Single};

use crate::cli::{
    Command, ConnectionFlags, DomainFlags, HttpProxy, ProxyFlags, TcpmuxProxy, VisitorCommand,
    VisitorFlags,
};

/// A command that runs exactly one proxy or visitor.
#[derive(Debug)]
pub struct SingleService {
    /// What concerns the whole client.
    pub common: Vec<Flag>,
    /// The proxy or visitor.
    pub service: Single,
}

/// What `command` asks for. `None` when it is not about a single proxy or visitor.
pub fn single_service(command: &Command) -> Option<SingleService> {
    let (kind, connection, mut proxy, visitor) = match command {
        Command::Tcp(tcp) => port_proxy("tcp", tcp),
        Command::Udp(udp) => port_proxy("udp", udp),
        Command::Stcp(stcp) => secret_proxy("stcp", stcp),
        Command::Sudp(sudp) => secret_proxy("sudp", sudp),
        Command::Xtcp(xtcp) => secret_proxy("xtcp", xtcp),
        Command::Http(http) => ("http", &http.connection, http_flags(http), None),
        Command::Https(https) => (
            "https",
            &https.connection,
            domain_flags(&https.proxy, &https.domain),
            None,
        ),
        Command::Tcpmux(mux) => ("tcpmux", &mux.connection, tcpmux_flags(mux), None),
        Command::Verify { .. }
        | Command::Reload(_)
        | Command::Status(_)
        | Command::Doctor(_)
        | Command::Stop(_)
        | Command::Switch { .. }
        | Command::Config { .. }
        | Command::Recovery(_)
        | Command::Nathole { .. }
        | Command::Completion { .. }
        | Command::Man { .. } => return None,
    };
    let kind = Flag::new("type", "type", kind);
    let service = match visitor {
        None => {
            proxy.insert(0, kind);
            Single::Proxy(proxy)
        }
        Some(visitor) => {
            let mut flags = visitor_flags(visitor);
            flags.insert(0, kind);
            Single::Visitor(flags)
        }
    };
    Some(SingleService {
        common: common_flags(connection),
        service,
    })
}

type Parts<'a> = (
    &'static str,
    &'a ConnectionFlags,
    Vec<Flag>,
    Option<&'a VisitorFlags>,
);

fn port_proxy<'a>(kind: &'static str, flags: &'a crate::cli::PortProxy) -> Parts<'a> {
    let mut proxy = proxy_flags(&flags.proxy);
    proxy.push(number("remote-port", "remotePort", flags.remote_port));
    (kind, &flags.connection, proxy, None)
}

fn secret_proxy<'a>(kind: &'static str, flags: &'a crate::cli::SecretProxy) -> Parts<'a> {
    let mut proxy = proxy_flags(&flags.proxy);
    proxy.push(Flag::new("--sk", "secretKey", &*flags.sk));
    push_given(
        &mut proxy,
        "allow-users",
        "allowUsers",
        &flags.allow_users.join(","),
    );
    let visitor = flags
        .visitor
        .as_ref()
        .map(|VisitorCommand::Visitor(visitor)| &**visitor);
    (kind, &flags.connection, proxy, visitor)
}

fn common_flags(flags: &ConnectionFlags) -> Vec<Flag> {
    let mut common = vec![
        text("server-addr", "serverAddr", &flags.server_addr),
        number("server-port", "serverPort", flags.server_port),
        text("protocol", "transport.protocol", &flags.protocol),
        text("log-level", "log.level", &flags.log_level),
        text("log-file", "log.to", &flags.log_file),
        number("log-max-days", "log.maxDays", flags.log_max_days),
        switch(
            "disable-log-color",
            "log.disablePrintColor",
            flags.disable_log_color,
        ),
        switch("tls-enable", "transport.tls.enable", flags.tls_enable),
    ];
    push_given(&mut common, "user", "user", &flags.user);
    push_given(&mut common, "token", "auth.token", &flags.token);
    push_given(&mut common, "client-id", "clientID", &flags.client_id);
    let server_name = &flags.tls_server_name;
    push_given(
        &mut common,
        "tls-server-name",
        "transport.tls.serverName",
        server_name,
    );
    push_given(&mut common, "dns-server", "dnsServer", &flags.dns_server);
    common
}

fn proxy_flags(flags: &ProxyFlags) -> Vec<Flag> {
    let mut proxy = vec![
        text("proxy-name", "name", &flags.name),
        text("local-ip", "localIP", &flags.local_ip),
        number("local-port", "localPort", flags.local_port),
        switch("ue", "transport.useEncryption", flags.use_encryption),
        switch("uc", "transport.useCompression", flags.use_compression),
        text(
            "bandwidth-limit-mode",
            "transport.bandwidthLimitMode",
            &flags.bandwidth_limit_mode,
        ),
    ];
    let limit = &flags.bandwidth_limit;
    push_given(
        &mut proxy,
        "bandwidth-limit",
        "transport.bandwidthLimit",
        limit,
    );
    push_given(
        &mut proxy,
        "metadatas",
        "metadatas",
        &flags.metadatas.join(","),
    );
    push_given(
        &mut proxy,
        "annotations",
        "annotations",
        &flags.annotations.join(","),
    );
    proxy
}

fn domain_flags(proxy: &ProxyFlags, domain: &DomainFlags) -> Vec<Flag> {
    let mut flags = proxy_flags(proxy);
    push_given(
        &mut flags,
        "custom-domain",
        "customDomains",
        &domain.custom_domain.join(","),
    );
    push_option(&mut flags, "sd", "subdomain", domain.sd.as_deref());
    flags
}

fn http_flags(http: &HttpProxy) -> Vec<Flag> {
    let mut flags = domain_flags(&http.proxy, &http.domain);
    push_given(
        &mut flags,
        "locations",
        "locations",
        &http.locations.join(","),
    );
    push_option(
        &mut flags,
        "http-user",
        "httpUser",
        http.http_user.as_deref(),
    );
    push_option(
        &mut flags,
        "http-pwd",
        "httpPassword",
        http.http_pwd.as_deref(),
    );
    let rewrite = http.host_header_rewrite.as_deref();
    push_option(
        &mut flags,
        "host-header-rewrite",
        "hostHeaderRewrite",
        rewrite,
    );
    flags
}

fn tcpmux_flags(mux: &TcpmuxProxy) -> Vec<Flag> {
    let mut flags = domain_flags(&mux.proxy, &mux.domain);
    push_option(&mut flags, "mux", "multiplexer", mux.mux.as_deref());
    push_option(
        &mut flags,
        "http-user",
        "httpUser",
        mux.http_user.as_deref(),
    );
    push_option(
        &mut flags,
        "http-pwd",
        "httpPassword",
        mux.http_pwd.as_deref(),
    );
    flags
}

fn visitor_flags(flags: &VisitorFlags) -> Vec<Flag> {
    let mut visitor = vec![
        text("visitor-name", "name", &flags.name),
        switch("ue", "transport.useEncryption", flags.use_encryption),
        switch("uc", "transport.useCompression", flags.use_compression),
        text("sk", "secretKey", &flags.secret_key),
        text("server-name", "serverName", &flags.server_name),
        number("bind-port", "bindPort", flags.bind_port),
    ];
    push_given(
        &mut visitor,
        "server-user",
        "serverUser",
        &flags.server_user,
    );
    push_given(&mut visitor, "bind-addr", "bindAddr", &flags.bind_addr);
    visitor
}

fn text(flag: &str, key: &str, value: &str) -> Flag {
    Flag::new(format!("--{flag}"), key, value)
}

fn number(flag: &str, key: &str, value: i64) -> Flag {
    text(flag, key, &value.to_string())
}

fn switch(flag: &str, key: &str, value: bool) -> Flag {
    text(flag, key, if value { "true" } else { "false" })
}

fn push_option(flags: &mut Vec<Flag>, flag: &str, key: &str, value: Option<&str>) {
    push_given(flags, flag, key, value.unwrap_or_default());
}

/// An empty value means that the flag was not given.
fn push_given(flags: &mut Vec<Flag>, flag: &str, key: &str, value: &str) {
    if !value.is_empty() {
        flags.push(text(flag, key, value));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn parsed(line: &str) -> SingleService {
        let cli = crate::cli::parse(std::iter::once("frpc").chain(line.split(' '))).unwrap();
        single_service(&cli.command.unwrap()).unwrap()
    }

    fn value<'a>(flags: &'a [Flag], key: &str) -> Option<&'a str> {
        flags
            .iter()
            .find(|flag| flag.key == key)
            .map(|flag| flag.value.as_str())
    }

    #[test]
    fn flags_become_the_keys_of_one_proxy() {
        let single = parsed("tcp -n ssh -l 22 -r 6000 --ue -t secret --annotations a=1,b=2");
        let Single::Proxy(proxy) = &single.service else {
            panic!("not a proxy")
        };
        assert_eq!(value(proxy, "type"), Some("tcp"));
        assert_eq!(value(proxy, "name"), Some("ssh"));
        assert_eq!(value(proxy, "localPort"), Some("22"));
        assert_eq!(value(proxy, "remotePort"), Some("6000"));
        assert_eq!(value(proxy, "transport.useEncryption"), Some("true"));
        assert_eq!(value(proxy, "annotations"), Some("a=1,b=2"));
        assert_eq!(value(proxy, "metadatas"), None);
        assert_eq!(value(&single.common, "auth.token"), Some("secret"));
        assert_eq!(value(&single.common, "serverAddr"), Some("127.0.0.1"));
        assert_eq!(value(&single.common, "user"), None);
    }

    #[test]
    fn a_visitor_takes_the_place_of_the_proxy() {
        let single = parsed("stcp visitor -n v --sk k --server-name ssh --bind-port 6001 -u me");
        let Single::Visitor(visitor) = &single.service else {
            panic!("not a visitor")
        };
        assert_eq!(value(visitor, "type"), Some("stcp"));
        assert_eq!(value(visitor, "serverName"), Some("ssh"));
        assert_eq!(value(visitor, "bindPort"), Some("6001"));
        assert_eq!(value(&single.common, "user"), Some("me"));
    }

    #[test]
    fn types_that_come_later_keep_their_name() {
        let single = parsed("http -n web -l 80 -d example.com");
        let Single::Proxy(proxy) = &single.service else {
            panic!("not a proxy")
        };
        assert_eq!(value(proxy, "type"), Some("http"));
    }
}
