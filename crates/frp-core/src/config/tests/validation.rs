//! frp's texts, each at the end of its line.

use super::*;

/// Each text comes out alone, for this file of frps.
#[test]
fn the_servers_checks_have_frps_texts() {
    for (text, expected) in [
        (
            "auth.method = \"x\"",
            "frps.toml:1:6: auth.method: invalid auth method, optional values are [token oidc]",
        ),
        (
            "auth.additionalScopes = [\"HeartBeats\", \"x\"]",
            "frps.toml:1:6: auth.additionalScopes: invalid auth additional scopes, optional \
             values are [HeartBeats NewWorkConns]",
        ),
        (
            "auth.token = \"x\"\nauth.tokenSource = { type = \"file\", file = { path = \"p\" } }",
            "frps.toml:2:6: auth.tokenSource: cannot specify both auth.token and auth.tokenSource",
        ),
        (
            "auth.tokenSource = { type = \"exec\", exec = { command = \"c\" } }",
            "frps.toml:1:22: auth.tokenSource.type: unsafe feature \"TokenSourceExec\" is not \
             enabled. To enable it, ensure it is allowed in the configuration or command line \
             flags",
        ),
        (
            "auth.tokenSource = { type = \"x\" }",
            "frps.toml:1:22: auth.tokenSource.type: invalid auth.tokenSource: unsupported value \
             source type: x (only 'file' and 'exec' are supported)",
        ),
        (
            "auth.tokenSource = { type = \"file\" }",
            "frps.toml:1:6: auth.tokenSource: invalid auth.tokenSource: file configuration is \
             required when type is 'file'",
        ),
        (
            "auth.tokenSource = { type = \"file\", file = {} }",
            "frps.toml:1:37: auth.tokenSource.file.path: invalid auth.tokenSource: file path \
             cannot be empty",
        ),
        (
            "log.level = \"loud\"",
            "frps.toml:1:5: log.level: invalid log level, optional values are [trace debug info \
             warn error]",
        ),
        (
            "log.format = \"xml\"",
            "frps.toml:1:5: log.format: invalid log format, optional values are [text json]",
        ),
        (
            "webServer.port = -1",
            "frps.toml:1:11: webServer.port: webServer.port: port number -1 must be in the range \
             0..65535",
        ),
        (
            "bindPort = 65536",
            "frps.toml:1:1: bindPort: bindPort: port number 65536 must be in the range 0..65535",
        ),
        (
            "kcpBindPort = -1",
            "frps.toml:1:1: kcpBindPort: kcpBindPort: port number -1 must be in the range 0..65535",
        ),
        (
            "quicBindPort = -1",
            "frps.toml:1:1: quicBindPort: quicBindPort: port number -1 must be in the range \
             0..65535",
        ),
        (
            "transport.quic.maxIdleTimeout = -1",
            "frps.toml:1:16: transport.quic.maxIdleTimeout: transport.quic.maxIdleTimeout: -1 \
             seconds is not a time; it must be positive",
        ),
        (
            "transport.quic.maxIncomingStreams = -1",
            "frps.toml:1:16: transport.quic.maxIncomingStreams: \
             transport.quic.maxIncomingStreams: -1 must be positive",
        ),
        (
            "vhostHTTPPort = -1",
            "frps.toml:1:1: vhostHTTPPort: vhostHTTPPort: port number -1 must be in the range \
             0..65535",
        ),
        (
            "vhostHTTPSPort = -1",
            "frps.toml:1:1: vhostHTTPSPort: vhostHTTPSPort: port number -1 must be in the range \
             0..65535",
        ),
        (
            "tcpmuxHTTPConnectPort = -1",
            "frps.toml:1:1: tcpmuxHTTPConnectPort: tcpMuxHTTPConnectPort: port number -1 must be \
             in the range 0..65535",
        ),
        (
            "udpPacketSize = -1",
            "frps.toml:1:1: udpPacketSize: udpPacketSize: -1 must be in the range 1..65535",
        ),
        (
            "userConnTimeout = -1",
            "frps.toml:1:1: userConnTimeout: userConnTimeout: -1 seconds is not a time; it must \
             be positive",
        ),
    ] {
        assert_eq!(server_errors(text), [expected], "{text}");
    }
}

#[test]
fn exec_sources_are_checked_once_they_are_allowed() {
    let options = LoadOptions {
        allow_unsafe: vec!["TokenSourceExec".to_owned()],
        ..LoadOptions::default()
    };
    let load = |text: &str| {
        let input = Input::Text(Path::new("f"), text.as_bytes());
        load::server(&input, &options, &Env::sealed(&[])).map_err(|errors| errors.to_string())
    };
    for (exec, expected) in [
        ("", "exec configuration is required when type is 'exec'"),
        ("exec = {}", "exec command cannot be empty"),
        (
            "exec = { command = \"c\", env = [{ name = \"\", value = \"v\" }] }",
            "exec env name cannot be empty",
        ),
        (
            "exec = { command = \"c\", env = [{ name = \"a=b\", value = \"v\" }] }",
            "exec env name cannot contain '='",
        ),
    ] {
        let text = format!("[auth.tokenSource]\ntype = \"exec\"\n{exec}\n");
        let error = load(&text).unwrap_err();
        let expected = format!("invalid auth.tokenSource: {expected}");
        assert!(error.ends_with(&expected), "{error}");
    }
    let good =
        "auth.tokenSource = { type = \"exec\", exec = { command = \"echo\", args = [\" t \"] } }";
    let config = load(good).unwrap().config;
    assert_eq!(resolve_token(&config.auth).unwrap().expose(), "t");
}

#[test]
fn tokens_come_from_their_sources() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "  secret\n").unwrap();
    let mut auth = AuthConfig {
        token_source: Some(TokenSource::File { path: file.clone() }),
        ..AuthConfig::default()
    };
    assert_eq!(resolve_token(&auth).unwrap().expose(), "secret");
    std::fs::remove_file(&file).unwrap();
    let error = resolve_token(&auth).unwrap_err().to_string();
    let path = file.display();
    assert_eq!(
        error,
        format!(
            "failed to resolve auth.tokenSource: failed to read file {path}: open {path}: no such \
             file or directory"
        )
    );
    auth.token_source = Some(TokenSource::File {
        path: "/dev/zero".into(),
    });
    assert!(resolve_token(&auth).is_err(), "an endless file is refused");
    auth.token_source = Some(TokenSource::Exec {
        command: "sh".to_owned(),
        args: vec!["-c".to_owned(), "printf %s \"$T\"; exit $C".to_owned()],
        env: vec![("T".to_owned(), "x".into()), ("C".to_owned(), "3".into())],
    });
    let error = resolve_token(&auth).unwrap_err().to_string();
    assert!(
        error.ends_with("failed to execute command sh: exit status 3"),
        "{error}"
    );
    auth.token_source = None;
    auth.token = "plain".into();
    assert_eq!(resolve_token(&auth).unwrap().expose(), "plain");
}

/// Each text comes out alone, for this file of frpc.
#[test]
fn the_clients_checks_have_frps_texts() {
    for (text, expected) in [
        (
            "virtualNet.address = \"100.86.0.1/24\"",
            "VirtualNet feature is not enabled; enable it by setting the appropriate feature gate \
             flag",
        ),
        (
            "transport.heartbeatInterval = 30\ntransport.heartbeatTimeout = 20",
            "invalid transport.heartbeatTimeout, heartbeat timeout should not less than heartbeat \
             interval",
        ),
        (
            "transport.protocol = \"udp\"",
            "invalid transport.protocol, optional values are [tcp kcp quic websocket wss auto]",
        ),
        (
            "transport.wireProtocol = \"v3\"",
            "invalid transport.wireProtocol, optional values are [v1 v2]",
        ),
        (
            "transport.tls.pin = \"abc\"",
            "a pin is the SHA-256 of the server's public key in 64 hexadecimal digits, as `frps fingerprint` prints it",
        ),
        (
            "webServer.tls = {}",
            "tls.certFile must be specified when tls is enabled",
        ),
        (
            "webServer.tls.certFile = \"c\"",
            "tls.keyFile must be specified when tls is enabled",
        ),
        (
            "auth.oidc.clientID = \"c\"\n\
             auth.oidc.tokenSource = { type = \"file\", file = { path = \"p\" } }",
            "cannot specify both auth.oidc.tokenSource and any other field of auth.oidc",
        ),
        (
            "auth.oidc.tokenSource = { type = \"x\" }",
            "invalid auth.oidc.tokenSource: unsupported value source type: x (only 'file' and \
             'exec' are supported)",
        ),
        (
            "auth.method = \"oidc\"",
            "auth.oidc.clientID is required; auth.oidc.tokenEndpointURL is required",
        ),
        (
            "auth.method = \"oidc\"\nauth.oidc = { clientID = \"c\", tokenEndpointURL = \"x\" }",
            "auth.oidc.tokenEndpointURL must be an absolute http or https URL",
        ),
        (
            "auth.method = \"oidc\"\n\
             auth.oidc = { clientID = \"c\", tokenEndpointURL = \"ftp://x\" }",
            "auth.oidc.tokenEndpointURL must use http or https",
        ),
        (
            "auth.method = \"oidc\"\nauth.oidc = { clientID = \"c\", tokenEndpointURL = \
             \"http://x\", audience = \"a\", additionalEndpointParams = { scope = \"s\", audience \
             = \"a\" } }",
            "auth.oidc.additionalEndpointParams.scope is not allowed; use auth.oidc.scope \
             instead; cannot specify both auth.oidc.audience and \
             auth.oidc.additionalEndpointParams.audience",
        ),
    ] {
        let errors = client_errors(text);
        let found = errors
            .iter()
            .any(|error| error.ends_with(&format!(": {expected}")));
        assert!(found, "{text}: {errors:?}");
        let rest = errors.iter().filter(|error| !error.ends_with(expected));
        let rest: Vec<_> = rest
            .filter(|error| !error.contains("not supported yet"))
            .collect();
        assert_eq!(rest, Vec::<&String>::new(), "{text}");
    }
}

#[test]
fn tls_keys_without_tls_are_only_warned_about() {
    let text =
        "[transport.tls]\nenable = false\ncertFile = \"c\"\nkeyFile = \"k\"\ntrustedCaFile = \"t\"";
    assert_eq!(
        client(text).unwrap().warnings,
        [
            "transport.tls.certFile is invalid when transport.tls.enable is false",
            "transport.tls.keyFile is invalid when transport.tls.enable is false",
            "transport.tls.trustedCaFile is invalid when transport.tls.enable is false",
        ]
    );
}

#[test]
fn features_that_come_later_are_refused_when_used() {
    for (text, expected) in [
        ("vhostHTTPPort = 80", "not supported yet: vhostHTTPPort"),
        ("vhostHTTPSPort = 443", "not supported yet: vhostHTTPSPort"),
        (
            "tcpmuxHTTPConnectPort = 1",
            "not supported yet: tcpmuxHTTPConnectPort",
        ),
        (
            "sshTunnelGateway.bindPort = 22",
            "not supported yet: sshTunnelGateway.bindPort",
        ),
        (
            "[[httpPlugins]]\nname = \"x\"",
            "not supported yet: httpPlugins",
        ),
        (
            "auth.method = \"oidc\"",
            "not supported yet: auth.method oidc",
        ),
        (
            "webServer.assetsDir = \"x\"",
            "not supported yet: webServer.assetsDir",
        ),
    ] {
        let errors = server_errors(text);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].ends_with(expected), "{text}: {errors:?}");
    }
    for (text, expected) in [
        ("dnsServer = \"8.8.8.8\"", "not supported yet: dnsServer"),
        ("store.path = \"x\"", "not supported yet: store.path"),
        (
            "webServer.pprofEnable = true",
            "not supported yet: webServer.pprofEnable",
        ),
        (
            "featureGates = { VirtualNet = true }",
            "not supported yet: featureGates VirtualNet",
        ),
        (
            "transport.proxyURL = \"ntlm://x\"",
            "not supported yet: transport.proxyURL with ntlm",
        ),
        (
            "[[proxies]]\nname = \"p\"\ntype = \"xtcp\"",
            "proxy p: not supported yet: proxy type xtcp",
        ),
        (
            "[[proxies]]\nname = \"p\"\ntype = \"tcp\"\nloadBalancer.group = \"g\"",
            "proxy p: not supported yet: loadBalancer.group",
        ),
        (
            "[[proxies]]\nname = \"p\"\ntype = \"tcp\"\nhealthCheck.type = \"tcp\"",
            "proxy p: not supported yet: healthCheck.type",
        ),
        (
            "[[proxies]]\nname = \"p\"\ntype = \"tcp\"\nplugin = { type = \"socks5\" }",
            "proxy p: not supported yet: plugin socks5",
        ),
        (
            "[[visitors]]\nname = \"v\"\ntype = \"sudp\"\nserverName = \"x\"\nbindPort = 1",
            "visitor v: not supported yet: visitor type sudp",
        ),
    ] {
        let errors = client_errors(text);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].ends_with(expected), "{text}: {errors:?}");
    }
}

#[test]
fn keys_of_later_features_that_are_not_in_use_do_no_harm() {
    let text = r#"
        version = "0.70.1"
        kcpBindPort = 0
        vhostHTTPTimeout = 60
        subDomainHost = "frps.com"
        custom404Page = "/404.html"
        tcpmuxPassthrough = false
        sshTunnelGateway.autoGenPrivateKeyPath = "x"
        natholeAnalysisDataReserveHours = 168
        enablePrometheus = true
        auth.oidc = { issuer = "i", audience = "a", skipExpiryCheck = false }
        transport.tls.serverName = "x"
    "#;
    assert!(server(text).unwrap().config.enable_prometheus);
    let text = "natHoleStunServer = \"s:1\"\nfeatureGates = { VirtualNet = false }\n\
                [[proxies]]\nname = \"p\"\ntype = \"tcp\"\nhealthCheck.intervalSeconds = 5";
    assert!(client(text).is_ok());
}

#[test]
fn secrets_do_not_show() {
    let text = r#"
        auth.token = "hunter2"
        webServer.password = "hunter2"
        transport.proxyURL = "http://u:hunter2@p:1"
        [[proxies]]
        name = "p"
        type = "stcp"
        secretKey = "hunter2"
        [[visitors]]
        name = "v"
        type = "stcp"
        serverName = "p"
        bindPort = 1
        secretKey = "hunter2"
    "#;
    let shown = format!("{:?}", client(text).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(shown.matches("***").count(), 5);
}

#[test]
fn port_ranges_allow_what_they_say() {
    let text = "allowPorts = [{ start = 10, end = 20 }, { single = 5 }, { start = 9, end = 1 }, \
                { start = -3, end = 2 }, { start = 65000, end = 99999 }]";
    let ports = server(text).unwrap().config.allow_ports;
    for (port, expected) in [
        (0, false),
        (1, true),
        (2, true),
        (3, false),
        (5, true),
        (9, false),
        (10, true),
        (20, true),
        (21, false),
        (65535, true),
    ] {
        assert_eq!(ports.contains(port), expected, "{port}");
    }
    assert!(PortRanges::default().contains(1) && !PortRanges::default().contains(0));
    assert_eq!(
        PortRanges::default().spans().collect::<Vec<_>>(),
        [1..=65535]
    );
    let parsed = parse_port_ranges(" 10-20 , 5").unwrap();
    assert!(parsed.contains(15) && parsed.contains(5));
    for bad in ["", "x", "1-2-3", "2-1", "1,", "-5", "99999999999999999999"] {
        assert!(parse_port_ranges(bad).is_err(), "{bad}");
    }
}
