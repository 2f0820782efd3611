//! Keys of held streams and of the choice among transports: all ours.

use std::fmt::Write as _;
use std::time::Duration;

use frp_proto::path::ProberConfig;
use frp_proto::policy;
use transports::TransportKind;

use super::*;

/// The warnings of a client's file.
fn warnings(text: &str) -> Vec<String> {
    client(text).unwrap().warnings
}

#[test]
fn without_keys_everything_is_as_the_pure_parts_have_it() {
    let transport = client("").unwrap().config.transport;
    assert_eq!(transport.protocol, Protocol::Pinned(TransportKind::Tcp));
    assert_eq!(transport.hold, HoldConfig::default());
    assert_eq!(transport.auto, ClientAuto::default());
    assert_eq!(transport.auto.prober, ProberConfig::default());
    assert_eq!(transport.auto.policy, policy::Config::default());
    assert_eq!(transport.auto.policy.grace, transport.hold.grace);
    let transport = server("").unwrap().config.transport;
    assert_eq!(transport.hold, HoldConfig::default());
    assert_eq!(transport.auto, ServerAuto::default());
}

#[test]
fn auto_is_a_protocol_in_every_place_where_one_is_given() {
    let from_flag = {
        let flag = Flag::new("--protocol", "transport.protocol", "auto");
        let input = Input::Flags(std::slice::from_ref(&flag));
        load::client(&input, None, &LoadOptions::default(), &Env::sealed(&[])).unwrap()
    };
    let env = |name| client_named("frpc.toml", "", &[(name, "auto")], true).unwrap();
    for loaded in [
        client("transport.protocol = \"auto\"").unwrap(),
        client("transport = \"auto\"").unwrap(),
        client_of_any_format("transport: auto").unwrap(),
        client_of_any_format("{\"transport\": {\"protocol\": \"auto\"}}").unwrap(),
        env("HOLDFAST_TRANSPORT"),
        env("HOLDFAST_TRANSPORT__PROTOCOL"),
        from_flag,
    ] {
        assert_eq!(loaded.config.transport.protocol, Protocol::Auto);
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }
}

#[test]
fn the_keys_that_are_no_numbers_are_read() {
    let text = r#"
        [transport]
        protocol = "quic"
        hold = { enable = true, graceSeconds = 90 }
        [transport.auto]
        fallback = ["tcp", "wss"]
        preference = ["kcp", "tcp"]
        requirePeer = true
        dryRun = true
        [[transport.auto.endpoints]]
        transport = "quic"
        port = 7001
        [[transport.auto.endpoints]]
        transport = "wss"
        port = 443
    "#;
    let transport = client(text).unwrap().config.transport;
    assert_eq!(transport.hold.grace, Duration::from_secs(90));
    let auto = transport.auto;
    assert_eq!(auto.fallback, [TransportKind::Tcp, TransportKind::Wss]);
    let endpoints = auto.endpoints.iter();
    let endpoints: Vec<_> = endpoints
        .map(|point| (point.transport, point.port))
        .collect();
    assert_eq!(
        endpoints,
        [(TransportKind::Quic, 7001), (TransportKind::Wss, 443)]
    );
    assert!(auto.require_peer && auto.policy.is_dry_run);
    assert_eq!(auto.policy.grace, Duration::from_secs(90));
    use policy::Transport::{Kcp, Quic, Tcp, WebSocket, Wss};
    assert_eq!(auto.policy.preference, [Kcp, Tcp, Quic, Wss, WebSocket]);

    let text =
        "transport.auto.enable = true\ntransport.hold = { enable = false, graceSeconds = 5 }";
    let transport = server(text).unwrap().config.transport;
    assert!(transport.auto.enable && !transport.hold.enable);
    assert_eq!(transport.hold.grace, Duration::from_secs(5));
}

#[test]
fn the_keys_mean_the_same_in_all_formats() {
    let toml = "transport.protocol = \"auto\"\ntransport.hold.graceSeconds = 90\n[transport.auto]\n\
                lossThreshold = 12.5\ntcpLossThreshold = 2\nprobeIntervalMs = 100\n\
                preference = [\"tcp\"]\nendpoints = [{ transport = \"wss\", port = 443 }]\n";
    let yaml = "transport:\n  protocol: auto\n  hold: {graceSeconds: 90}\n  auto:\n    \
                lossThreshold: 12.5\n    tcpLossThreshold: 2\n    probeIntervalMs: 100\n    \
                preference: [tcp]\n    endpoints:\n    - {transport: wss, port: 443}\n";
    let json = r#"{"transport": {"protocol": "auto", "hold": {"graceSeconds": 90}, "auto": {
        "lossThreshold": 12.5, "tcpLossThreshold": 2.0, "probeIntervalMs": 1e2,
        "preference": ["tcp"], "endpoints": [{"transport": "wss", "port": 443}]}}}"#;
    let expected = client(toml).unwrap().config;
    assert_eq!(expected.transport.auto.policy.loss_threshold, 0.125);
    for text in [yaml, json] {
        assert_eq!(
            client_of_any_format(text).unwrap().config,
            expected,
            "{text}"
        );
    }
    let yaml = "transport: {hold: {graceSeconds: 90000}}";
    let errors = lines(client_of_any_format(yaml));
    assert!(
        errors[0].starts_with("frpc:1:20: transport.hold.graceSeconds: "),
        "{errors:?}"
    );
}

#[test]
fn lists_can_be_given_by_the_environment() {
    let env = [
        ("HOLDFAST_TRANSPORT", "auto"),
        ("HOLDFAST_TRANSPORT__AUTO__ENDPOINTS", "quic:7001, tcp:443"),
        ("HOLDFAST_TRANSPORT__AUTO__PREFERENCE", "tcp,quic"),
        ("HOLDFAST_TRANSPORT__AUTO__LOSS_THRESHOLD", "12.5"),
        ("HOLDFAST_TRANSPORT__AUTO__PROBE_INTERVAL_MS", "100"),
        // Of the other program.
        ("HOLDFAST_TRANSPORT__AUTO__ENABLE", "true"),
    ];
    let config = client_named("frpc.toml", "", &env, true).unwrap().config;
    let auto = config.transport.auto;
    assert_eq!(auto.endpoints.len(), 2);
    assert_eq!(auto.endpoints[1].port, 443);
    assert_eq!(auto.policy.preference[0], policy::Transport::Tcp);
    assert_eq!(auto.policy.loss_threshold, 0.125);
    assert_eq!(auto.prober.cadence.in_use, Duration::from_millis(100));
    for (value, expected) in [
        ("quic", "quic must be formatted as transport:port"),
        ("quic:x", "quic:x must be formatted as transport:port"),
    ] {
        let env = [("HOLDFAST_TRANSPORT__AUTO__ENDPOINTS", value)];
        let errors = lines(client_named("frpc.toml", "", &env, true));
        assert!(
            errors.len() == 1 && errors[0].ends_with(expected),
            "{errors:?}"
        );
    }
}

/// Every key has a value here that is not its default, so a field that is as by default has no
/// key, or is not read.
#[test]
fn every_field_of_the_pure_parts_has_a_key() {
    let mut text = "transport.hold.graceSeconds = 7\ntransport.auto.dryRun = true\n\
                    transport.auto.preference = [\"tcp\"]\n"
        .to_owned();
    for row in documented() {
        let default: f64 = row.default.parse().unwrap();
        let other = [default + 1.0, default - 1.0];
        let fits = |value: &f64| row.range.contains(value);
        let value = other.into_iter().find(fits).unwrap();
        writeln!(text, "transport.auto.{} = {value}", row.key).unwrap();
    }
    let auto = client(&text).unwrap().config.transport.auto;
    let (prober, policy) = (ProberConfig::default(), policy::Config::default());
    for (ours, default) in [
        (format!("{:#?}", auto.prober), format!("{prober:#?}")),
        (format!("{:#?}", auto.policy), format!("{policy:#?}")),
    ] {
        assert_eq!(ours.lines().count(), default.lines().count());
        for (ours, default) in ours.lines().zip(default.lines()) {
            let is_value = ours.contains(": ") && !ours.ends_with(['{', '[']);
            assert!(!is_value || ours != default, "{ours} has no key");
        }
    }
}

/// A row of the tables in `docs/switching.md`.
struct Row {
    key: String,
    default: String,
    range: std::ops::RangeInclusive<f64>,
}

/// The rows `key`, default, range, why.
fn documented() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/switching.md");
    let text = std::fs::read_to_string(path).unwrap();
    let number = |text: &str| text.replace(',', "").parse::<f64>();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [key, default, range, _why] = cells.as_slice() else {
            return None;
        };
        let key = key.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        let (start, end) = range.split_once(" to ")?;
        Some(Row {
            key,
            default: default.replace(',', ""),
            range: number(start).ok()?..=number(end).ok()?,
        })
    });
    rows.collect()
}

#[test]
fn the_documents_have_every_key_with_its_default_and_its_range() {
    let rows = documented();
    let mut keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    let schema = load::table::<raw_switching::RawClientAuto>().fields.iter();
    let is_number = |shape| matches!(shape, shape::Shape::Int(_) | shape::Shape::Float);
    let schema = schema.filter(|field| is_number((field.shape)()));
    let mut expected: Vec<&str> = schema.map(|field| field.key).collect();
    keys.sort_unstable();
    expected.sort_unstable();
    assert_eq!(keys, expected);

    for Row {
        key,
        default,
        range,
    } in rows
    {
        let config = client(&format!("transport.auto.{key} = {default}")).unwrap();
        assert_eq!(config.config, ClientConfig::default(), "{key}");
        let (start, end) = (range.start(), range.end());
        for wrong in [start - 0.5, end + 1.0, -1.0] {
            let wrong = if wrong < *start && start.fract() == 0.0 && wrong.fract() != 0.0 {
                start - 1.0
            } else {
                wrong
            };
            let errors = client_errors(&format!("transport.auto.{key} = {wrong}"));
            let text = format!("must be in the range {start}..{end}: ");
            assert!(errors[0].contains(&text), "{key}: {errors:?}");
        }
    }
}

#[test]
fn wrong_values_are_errors_with_their_place_and_the_reason() {
    for (text, expected) in [
        (
            "transport.auto.probeIntervalMs = 10",
            "1:16: transport.auto.probeIntervalMs: transport.auto.probeIntervalMs: 10 must be in \
             the range 20..10000: more often is a load of its own, and a fault is noticed after \
             three of them",
        ),
        (
            "transport.auto.lossThreshold = 95",
            "1:16: transport.auto.lossThreshold: transport.auto.lossThreshold: 95 must be in the \
             range 1..90: a percentage: every link loses 1 % at times, and what loses 90 % is dead",
        ),
        (
            "transport.hold.graceSeconds = 0",
            "1:16: transport.hold.graceSeconds: transport.hold.graceSeconds: 0 must be in the \
             range 1..86400: streams are kept for a day at most; not to keep any, set \
             transport.hold.enable = false",
        ),
        (
            "transport.auto.lossThreshold = \"15%\"",
            "1:32: transport.auto.lossThreshold: field \"transport.auto.lossThreshold\": cannot \
             unmarshal string into float64",
        ),
        (
            "transport.auto.wins = 1.5",
            "1:23: transport.auto.wins: field \"transport.auto.wins\": cannot unmarshal number \
             1.5 into int64",
        ),
        (
            "transport.auto.backoffFactor = nan",
            "1:16: transport.auto.backoffFactor: transport.auto.backoffFactor: NaN must be in the \
             range 1..10: attempts become rarer, and not all at once",
        ),
        (
            "transport.auto.idleIntervalMs = 100",
            "1:16: transport.auto.idleIntervalMs: transport.auto.idleIntervalMs: must not be below \
             transport.auto.probeIntervalMs",
        ),
        (
            "transport.auto.aliveAnswers = 13",
            "1:16: transport.auto.aliveAnswers: transport.auto.aliveAnswers: must not be above \
             transport.auto.burstLen",
        ),
        (
            "transport.auto.burstSpacingMs = 20",
            "1:16: transport.auto.burstSpacingMs: transport.auto.burstSpacingMs: with burstSpread, \
             probes of a burst would come every 15 ms; not more often than every 20 ms",
        ),
        (
            "transport.auto.burstSpread = 50.5",
            "1:16: transport.auto.burstSpread: transport.auto.burstSpread: 50.5 must be in the \
             range 0..50: in percent of burstSpacingMs",
        ),
        (
            "transport.auto.fallback = [\"tcp\", \"udp\"]",
            "1:35: transport.auto.fallback[1]: invalid transport.auto.fallback, optional values \
             are [tcp kcp quic websocket wss]",
        ),
        (
            "transport.auto.fallback = [\"wss\", \"wss\"]",
            "1:35: transport.auto.fallback[1]: transport wss is duplicated",
        ),
        (
            "transport.auto.endpoints = [{ transport = \"auto\", port = 1 }]",
            "1:31: transport.auto.endpoints[0].transport: invalid transport.auto.endpoints, \
             optional values of transport are [tcp kcp quic websocket wss]",
        ),
        (
            "transport.auto.endpoints = [{ transport = \"tcp\" }]",
            "1:29: transport.auto.endpoints[0].port: transport.auto.endpoints[0].port: port number \
             0 must be in the range 1..65535",
        ),
        (
            "transport.auto.endpoints = [{ transport = \"tcp\", port = 1 }, { transport = \"tcp\", \
             port = 2 }]",
            "1:64: transport.auto.endpoints[1].transport: transport tcp is duplicated",
        ),
        (
            "transport.auto.probeInterval = 250",
            "1:16: transport.auto.probeInterval: did you mean \"probeIntervalMs\"?: json: unknown \
             field \"probeInterval\"",
        ),
        (
            "transport.auto.enable = true",
            "1:16: transport.auto.enable: did you mean transport.protocol = \"auto\"?: json: \
             unknown field \"enable\"",
        ),
        (
            "transport.hold.graceSecond = 5",
            "1:16: transport.hold.graceSecond: did you mean \"graceSeconds\"?: json: unknown field \
             \"graceSecond\"",
        ),
        (
            "transport.auto = true",
            "1:18: transport.auto: field \"transport.auto\": cannot unmarshal bool into \
             transport.auto",
        ),
    ] {
        assert_eq!(
            client_errors(text),
            [format!("frpc.toml:{expected}")],
            "{text}"
        );
    }
    let errors = server_errors("transport.hold.graceSeconds = 90000");
    assert!(errors[0].contains("90000 must be in the range 1..86400"));
}

#[test]
fn defaults_follow_a_key_that_they_may_not_be_below() {
    let text = "transport.auto.probeIntervalMs = 2000\ntransport.auto.burstLen = 3";
    let auto = client(text).unwrap().config.transport.auto;
    assert_eq!(auto.prober.cadence.idle, Duration::from_secs(2));
    assert_eq!((auto.policy.confirm_len, auto.policy.alive_answers), (3, 3));
    let text = "transport.dialServerTimeout = 25\ntransport.auto.quietAfterSeconds = 30";
    let auto = client(text).unwrap().config.transport.auto;
    assert_eq!(auto.policy.dial_timeout, Duration::from_secs(25));
    assert_eq!(auto.policy.quiet_after, Duration::from_secs(30));
    assert_eq!(auto.prober.cadence.quiet_after, Duration::from_secs(30));
}

#[test]
fn what_cannot_go_together_is_said() {
    let not_held = |key: &str, transports: &str| {
        format!(
            "with {key} = false, streams over {transports} are not held: open connections end with \
             their carrier, and a switch of transport is a new login"
        )
    };
    for (text, expected) in [
        (
            "protocol = \"auto\"\ntcpMux = false",
            not_held("transport.tcpMux", "tcp, kcp, websocket, wss"),
        ),
        (
            "protocol = \"auto\"\ntls.enable = false",
            not_held("transport.tls.enable", "tcp, kcp, websocket"),
        ),
        (
            "protocol = \"quic\"\ntls.enable = false\nauto.fallback = [\"tcp\"]",
            not_held("transport.tls.enable", "tcp"),
        ),
        (
            "tcpMux = false\nhold.enable = true",
            not_held("transport.tcpMux", "tcp"),
        ),
        (
            "protocol = \"auto\"\nhold.enable = false",
            "with transport.hold.enable = false, open connections end with their carrier, and a \
             switch of transport is a new login"
                .to_owned(),
        ),
        (
            "protocol = \"auto\"\nauto.fallback = [\"tcp\"]",
            "transport.auto.fallback has no effect with transport.protocol = \"auto\", which falls \
             back to every transport"
                .to_owned(),
        ),
        (
            "protocol = \"tcp\"\nauto.fallback = [\"tcp\"]",
            "transport.auto.fallback: tcp is what transport.protocol says already".to_owned(),
        ),
        (
            "protocol = \"auto\"\nproxyURL = \"http://p:1\"",
            "with transport.proxyURL, transport.protocol = \"auto\" uses only tcp, wss and \
             websocket: quic and kcp cannot go through it"
                .to_owned(),
        ),
    ] {
        assert_eq!(warnings(&format!("[transport]\n{text}")), [expected], "{text}");
    }
    let text = "transport = { tcpMux = false }\ntransport.auto.enable = true";
    assert!(
        server(text).is_err(),
        "TOML does not extend what stands in braces"
    );
    let text = "transport.tcpMux = false\ntransport.auto.enable = true";
    let expected = not_held("transport.tcpMux", "tcp, kcp, websocket and wss");
    assert_eq!(server(text).unwrap().warnings, [expected]);
}

#[test]
fn what_frp_can_say_as_well_brings_no_warning() {
    for text in [
        "tcpMux = false",
        "tls.enable = false",
        "protocol = \"quic\"\nproxyURL = \"http://p:1\"",
        "protocol = \"quic\"\ntcpMux = false\ntls.enable = false\nhold.enable = true",
        "hold.enable = false",
    ] {
        let text = format!("[transport]\n{text}");
        assert_eq!(warnings(&text), Vec::<String>::new(), "{text}");
    }
    assert!(
        server("transport.tcpMux = false")
            .unwrap()
            .warnings
            .is_empty()
    );
}

#[test]
fn auto_through_a_proxy_needs_something_over_tcp() {
    let text = "[transport]\nprotocol = \"auto\"\nproxyURL = \"http://p:1\"\n\
                auto.endpoints = [{ transport = \"quic\", port = 7000 }]";
    assert_eq!(
        client_errors(text),
        [
            "frpc.toml:4:6: transport.auto.endpoints: quic and kcp cannot go through \
             transport.proxyURL: name a port for tcp, wss or websocket too"
        ]
    );
    let env = [("http_proxy", "http://p:1")];
    let loaded = client_named("frpc.toml", "transport = \"auto\"", &env, true).unwrap();
    assert!(loaded.warnings[0].starts_with("with the proxy of the environment's http_proxy, "));
}
