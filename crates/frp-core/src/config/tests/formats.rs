//! TOML, YAML and JSON, told apart by content.

use std::num::NonZeroU16;
use std::time::Duration;

use transports::TransportKind;

use super::*;

#[test]
fn an_empty_file_means_the_defaults() {
    for text in ["", "\n", "# nothing\n", "{}", "---\n", "null", "\u{feff}"] {
        assert_eq!(
            client_of_any_format(text).unwrap().config,
            ClientConfig::default(),
            "{text:?}"
        );
    }
    assert_eq!(server("").unwrap().config, ServerConfig::default());
}

#[test]
fn the_three_formats_mean_the_same() {
    let toml = r#"
        serverAddr = "example.com"
        serverPort = 7_001
        auth.token = "secret"
        transport.tls.enable = false
        metadatas = { a = "b" }
        [[proxies]]
        name = "ssh"
        type = "tcp"
        localPort = 22
        remotePort = 6000
        transport.bandwidthLimit = "1MB"
        [[visitors]]
        name = "v"
        type = "stcp"
        serverName = "x"
        secretKey = "k"
        bindPort = 9000
    "#;
    let yaml = r#"
serverAddr: example.com
serverPort: 7001
auth: {token: secret}
transport:
  tls:
    enable: off
metadatas:
  a: b
proxies:
  - name: ssh
    type: tcp
    localPort: 22
    remotePort: 6000
    transport: {bandwidthLimit: "1MB"}
visitors:
- name: v
  type: stcp
  serverName: x
  secretKey: k
  bindPort: 9000
"#;
    let json = r#"  {
        "serverAddr": "example.com", "serverPort": 7001, "auth": {"token": "secret"},
        "transport": {"tls": {"enable": false}}, "metadatas": {"a": "b"},
        "proxies": [{"name": "ssh", "type": "tcp", "localPort": 22, "remotePort": 6000,
                     "transport": {"bandwidthLimit": "1MB"}}],
        "visitors": [{"name": "v", "type": "stcp", "serverName": "x", "secretKey": "k",
                      "bindPort": 9000}]
    }"#;
    let config = client_of_any_format(toml).unwrap().config;
    assert_eq!(client_of_any_format(yaml).unwrap().config, config);
    assert_eq!(client_of_any_format(json).unwrap().config, config);

    assert_eq!(config.server_addr, "example.com");
    assert_eq!(config.server_port, 7001);
    assert_eq!(config.auth.token.expose(), "secret");
    assert!(!config.transport.tls.enable);
    let mut ssh = ProxyConfig::new("ssh", ProxyKind::Tcp { remote_port: 6000 });
    ssh.local_port = 22;
    ssh.transport.bandwidth_limit = Bandwidth::parse("1MB").unwrap();
    assert_eq!(config.proxies, [ssh]);
    let mut visitor = VisitorConfig::new("v", "x", 9000, VisitorKind::Stcp);
    visitor.secret_key = "k".into();
    assert_eq!(config.visitors, [visitor]);
}

#[test]
fn keys_match_in_any_case() {
    let config = server("bindport = 7001\nBINDADDR = \"::\"\nsubdomainHost = \"x\"")
        .unwrap()
        .config;
    assert_eq!(config.bind_port, 7001);
    assert_eq!(config.bind_addr, "::");
    assert_eq!(config.proxy_bind_addr, "::", "it follows bindAddr");
}

#[test]
fn zero_and_null_mean_not_set() {
    let config =
        server("transport.maxPoolCount = 0\nlog.maxDays = 0\nbindPort = 0\nbindAddr = \"\"");
    assert_eq!(config.unwrap().config, ServerConfig::default());
    let config = client_of_any_format("{\"serverPort\": null, \"auth\": null, \"start\": null}");
    assert_eq!(config.unwrap().config, ClientConfig::default());
}

#[test]
fn defaults_that_depend_on_others_follow_them() {
    use std::time::Duration;
    let config = server("transport.tcpMux = false").unwrap().config;
    assert_eq!(
        config.transport.heartbeat_timeout,
        Some(Duration::from_secs(90))
    );
    let config = server("transport.tls.trustedCaFile = \"ca\"")
        .unwrap()
        .config;
    assert!(config.transport.tls.force);
    let config = client("transport.tcpMux = false").unwrap().config.transport;
    assert_eq!(config.heartbeat_interval, Some(Duration::from_secs(30)));
    assert_eq!(config.heartbeat_timeout, Some(Duration::from_secs(90)));
    let config = client("transport.dialServerKeepalive = -1")
        .unwrap()
        .config
        .transport;
    assert_eq!(config.dial_server_keepalive, None);
}

#[test]
fn yaml_has_anchors_merges_and_its_old_scalars() {
    let text = "
.base: &base
  type: tcp
  localIP: 10.0.0.1
  transport: {useEncryption: yes}
loginFailExit: No
udpPacketSize: 0x10
proxies:
- <<: *base
  name: a
  localPort: 017
- <<: [*base, {localPort: 5}]
  name: b
  localIP: 10.0.0.2
";
    let config = client_of_any_format(text).unwrap().config;
    assert!(!config.login_fail_exit);
    assert_eq!(config.udp_packet_size, 16);
    let [a, b] = config.proxies.as_slice() else {
        panic!("two proxies");
    };
    assert_eq!((a.local_ip.as_str(), a.local_port), ("10.0.0.1", 15));
    assert_eq!((b.local_ip.as_str(), b.local_port), ("10.0.0.2", 5));
    assert!(a.transport.use_encryption && b.transport.use_encryption);
}

#[test]
fn aliases_of_aliases_are_bounded() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(8);
        text += &format!("a{level}: &a{level} [{below}]\n");
    }
    let errors = lines(client_of_any_format(&text));
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].ends_with("yaml: document contains excessive aliasing"),
        "{errors:?}"
    );
}

#[test]
fn deep_nesting_is_refused_in_each_format() {
    for text in [
        format!("{{\"a\":{}", "[".repeat(100_000)),
        format!("a: {}", "[".repeat(100_000)),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}{}", "[".repeat(70), "]".repeat(70)),
    ] {
        assert!(client_of_any_format(&text).is_err());
        assert!(client(&text).is_err());
    }
}

#[test]
fn only_the_first_yaml_document_counts() {
    let config = client_of_any_format("user: a\n---\nuser: b\n")
        .unwrap()
        .config;
    assert_eq!(config.user, "a");
}

#[test]
fn json_has_all_its_escapes() {
    let text = r#"{"user": "\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud800x"}"#;
    let config = client_of_any_format(text).unwrap().config;
    assert_eq!(config.user, "\"\\/\u{8}\u{c}\n\r\té😀\u{fffd}x");
}

#[test]
fn an_ini_file_is_told_that_it_comes_later() {
    assert_eq!(
        client_errors("# old\n  [common]\nserver_addr = 1.2.3.4\n"),
        ["frpc.toml:2:3: not supported yet: INI files; use TOML, YAML or JSON"]
    );
}

#[test]
fn a_file_beyond_the_bound_is_refused() {
    let text = "#".repeat(source::MAX_TEXT_LEN + 1);
    assert_eq!(
        client_errors(&text),
        ["frpc.toml: the file is larger than 4194304 bytes"]
    );
}

#[test]
fn the_short_form_of_transport_is_its_protocol() {
    assert_eq!(
        client("transport = \"tcp\"").unwrap().config,
        ClientConfig::default()
    );
    for (name, expected) in [
        ("quic", Protocol::Pinned(TransportKind::Quic)),
        ("auto", Protocol::Auto),
    ] {
        let config = client(&format!("transport = \"{name}\"")).unwrap().config;
        assert_eq!(config.transport.protocol, expected);
    }
}

#[test]
fn every_protocol_has_its_name() {
    for kind in [
        TransportKind::Tcp,
        TransportKind::Kcp,
        TransportKind::Quic,
        TransportKind::Websocket,
        TransportKind::Wss,
    ] {
        let config = client(&format!("transport.protocol = \"{kind}\""))
            .unwrap()
            .config;
        assert_eq!(config.transport.protocol, Protocol::Pinned(kind));
    }
}

#[test]
fn quic_has_frps_keys_and_defaults_on_both_sides() {
    let defaults = QuicConfig {
        keepalive_period: Some(Duration::from_secs(10)),
        max_idle_timeout: Duration::from_secs(30),
        max_incoming_streams: 100_000,
        congestion: QuicCongestion::default(),
        backend: QuicBackend::Quinn,
    };
    assert_eq!(client("").unwrap().config.transport.quic, defaults);
    let config = server("quicBindPort = 7001").unwrap().config;
    assert_eq!(config.quic_bind_port, NonZeroU16::new(7001));
    assert_eq!(config.transport.quic, defaults);

    let text = "[transport.quic]\nkeepalivePeriod = -1\nmaxIdleTimeout = 5\n\
                maxIncomingStreams = 7";
    let given = QuicConfig {
        keepalive_period: None,
        max_idle_timeout: Duration::from_secs(5),
        max_incoming_streams: 7,
        ..defaults
    };
    assert_eq!(client(text).unwrap().config.transport.quic, given);
    assert_eq!(server(text).unwrap().config.transport.quic, given);
    assert_eq!(server(text).unwrap().config.quic_bind_port, None);
}

#[test]
fn our_own_keys_are_read() {
    let pin = "AB:".repeat(31) + "ab";
    let text = format!("log.format = \"json\"\nstateDir = \"/s\"\ntransport.tls.pin = \"{pin}\"");
    let config = client(&text).unwrap().config;
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.state_dir.as_deref(), Some(Path::new("/s")));
    assert_eq!(config.transport.tls.pin, Some(CertificatePin([0xab; 32])));
}

#[test]
fn a_missing_file_has_frps_text_alone() {
    let error = load_client(Path::new("/nonexistent/frpc.toml"), &LoadOptions::default());
    let text = "open /nonexistent/frpc.toml: no such file or directory";
    assert_eq!(error.unwrap_err().to_string(), text);
}
