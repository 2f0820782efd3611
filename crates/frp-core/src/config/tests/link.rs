//! Keys of ours about the connections between the two programs.

use super::*;

#[test]
fn both_programs_can_be_told_how_to_send() {
    let text = "[transport]\nmaxRate = \"100Mbit\"\n[transport.quic]\ncongestion = \"bbr\"\n\
                backend = \"quinn\"\n[transport.tcp]\ncongestion = \"cubic\"\nnotsentLowat = 65536";
    let tcp = TcpConfig {
        congestion: TcpCongestion::Named("cubic".to_owned()),
        notsent_lowat: Some(65536),
    };
    let rate = MaxRate {
        bytes_per_second: 12_500_000,
    };
    let client = client(text).unwrap().config.transport;
    assert_eq!(client.quic.congestion, QuicCongestion::Bbr);
    assert_eq!(client.quic.backend, QuicBackend::Quinn);
    assert_eq!((client.tcp, client.max_rate), (tcp.clone(), Some(rate)));
    let server = server(text).unwrap().config.transport;
    assert_eq!(server.quic, client.quic);
    assert_eq!((server.tcp, server.max_rate), (tcp, Some(rate)));
}

#[test]
fn without_the_keys_the_programs_choose() {
    let client = client("").unwrap().config.transport;
    let server = server("").unwrap().config.transport;
    assert_eq!(client.tcp, TcpConfig::default());
    assert_eq!(server.tcp, TcpConfig::default());
    assert_eq!((client.max_rate, server.max_rate), (None, None));
    assert_eq!(client.tcp.congestion, TcpCongestion::Auto);
    let bbr = super::client("transport.tcp.congestion = \"bbr\"");
    let bbr = bbr.unwrap().config.transport.tcp;
    assert_eq!(bbr.congestion, TcpCongestion::Bbr);
}

#[test]
fn what_the_system_has_by_default_can_be_asked_for() {
    let text = "transport.tcp = { congestion = \"system\", notsentLowat = -1 }";
    let expected = TcpConfig {
        congestion: TcpCongestion::System,
        notsent_lowat: None,
    };
    assert_eq!(client(text).unwrap().config.transport.tcp, expected);
}

#[test]
fn wrong_values_are_errors_that_name_their_place() {
    for (text, expected) in [
        (
            "transport.quic.congestion = \"reno\"",
            "f.toml:1:16: transport.quic.congestion: invalid transport.quic.congestion, optional \
             values are [lossy cubic bbr]",
        ),
        (
            "transport.quic.backend = \"quiche\"",
            "f.toml:1:16: transport.quic.backend: invalid transport.quic.backend, optional values \
             are [quinn s2n]",
        ),
        (
            "transport.tcp.congestion = \"no such thing\"",
            "f.toml:1:15: transport.tcp.congestion: transport.tcp.congestion: not the name of a \
             congestion control, which is up to 15 letters, digits, '-' and '_', such as \"cubic\"",
        ),
        (
            "transport.maxRate = \"20Mb\"",
            "f.toml:1:11: transport.maxRate: transport.maxRate: \"20Mb\": a rate is a number with \
             KB or MB (bytes a second, 1024-based) or Kbit, Mbit or Gbit (bits a second, \
             1000-based), and at least 8KB: \"20MB\", \"100Mbit\"",
        ),
    ] {
        let client = expected.replace("f.toml", "frpc.toml");
        assert_eq!(client_errors(text), [client], "{text}");
        let server = expected.replace("f.toml", "frps.toml");
        assert_eq!(server_errors(text), [server], "{text}");
    }
}

#[test]
fn the_second_implementation_of_quic_is_refused_where_it_is_not_built_in() {
    let text = "transport.quic.backend = \"s2n\"";
    if let Some(backend) = QuicBackend::S2N {
        let quic = client(text).unwrap().config.transport.quic;
        assert_eq!(
            (quic.backend, quic.congestion),
            (backend, QuicCongestion::Bbr)
        );
        let text = format!("{text}\ntransport.quic.congestion = \"lossy\"");
        let expected = "frps.toml:2:16: transport.quic.congestion: \"lossy\" needs \
                        transport.quic.backend \"quinn\"; s2n-quic has \"cubic\" and \"bbr\"";
        assert_eq!(server_errors(&text), [expected]);
        return;
    }
    let expected = "frps.toml:1:16: transport.quic.backend: this program was built without \
                    s2n-quic: build it with `--features s2n`, or leave the key out";
    assert_eq!(server_errors(text), [expected]);
}

#[test]
fn rates_are_read_in_bytes_as_frp_writes_them_and_in_bits() {
    for (text, expected) in [
        ("20MB", Some(20 * 1024 * 1024)),
        ("500KB", Some(500 * 1024)),
        ("100Mbit", Some(12_500_000)),
        ("1.5Gbit", Some(187_500_000)),
        ("100 Kbit", Some(12_500)),
        ("", None),
        ("0MB", None),
        ("-1Mbit", None),
    ] {
        let rate = MaxRate::parse(text).ok().flatten();
        assert_eq!(rate.map(|rate| rate.bytes_per_second), expected, "{text}");
    }
    for bad in [
        "20", "20Mb", "20mbit", "xMbit", "infMbit", "NaNMbit", "1KB", "64Kbit",
    ] {
        MaxRate::parse(bad).unwrap_err();
    }
}
