//! What is said of paths that were measured.

use std::collections::BTreeSet;

use frp_core::transports::TransportKind;

use super::super::report::{EndpointReport, Peer, Tls};
use super::*;

fn path(transport: &str, outcome: Outcome) -> PathReport {
    let is_udp = matches!(transport, "quic" | "kcp");
    PathReport {
        transport: transport.to_owned(),
        address: "192.0.2.1:7000".to_owned(),
        port: 7000,
        is_udp,
        outcome,
        measured: (outcome == Outcome::Works).then(|| Measured {
            rtt_min_ms: Some(20.0),
            probes_out: 70,
            probes_in: 70,
            loss_out_pct: is_udp.then_some(0.0),
            loss_in_pct: is_udp.then_some(0.0),
            rate_out: Some(2_500_000),
            rate_in: Some(2_500_000),
            mtu: Some(1480),
            local_address: Some("10.0.0.2:40000".to_owned()),
            seen_address: Some("10.0.0.2:40000".to_owned()),
            clock_ahead_ms: Some(3),
            ..Measured::default()
        }),
        ..PathReport::default()
    }
}

fn judged(configured: &str, paths: Vec<PathReport>) -> Report {
    let endpoint = |transport: &str| EndpointReport {
        transport: transport.to_owned(),
        port: 7000,
    };
    let mut config = ClientConfig::default();
    if configured == "auto" {
        config.transport.protocol = Protocol::Auto;
    }
    let is_through = paths.iter().any(PathReport::is_through);
    let mut report = Report {
        server: "frps.example:7000".to_owned(),
        configured: configured.to_owned(),
        peer: is_through.then(|| Peer {
            is_holdfast: true,
            holds: true,
            endpoints: ["quic", "kcp", "tcp"].map(endpoint).to_vec(),
            ..Peer::default()
        }),
        paths,
        ..Report::default()
    };
    judge(&mut report, &config);
    report
}

fn kinds(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn a_clean_link_is_fine() {
    let works = ["quic", "kcp", "tcp"].map(|name| path(name, Outcome::Works));
    let report = judged("auto", works.to_vec());
    assert_eq!((report.verdict, report.exit_code()), ("fine", 0));
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn udp_without_an_answer_is_blocked_and_with_icmp_rejected() {
    for (outcome, kind) in [
        (Outcome::Silent, "udp_blocked"),
        (Outcome::Rejected, "udp_rejected"),
    ] {
        let paths = vec![
            path("quic", outcome),
            path("kcp", outcome),
            path("tcp", Outcome::Works),
        ];
        let report = judged("auto", paths.clone());
        assert_eq!((kinds(&report), report.exit_code()), (vec![kind], 3));
        assert_eq!(
            report.findings[0].config, None,
            "auto does what is to be done"
        );
        let report = judged("quic", paths);
        let line = report.findings[0].config.as_deref();
        assert_eq!(line, Some("transport.protocol = \"auto\""));
        assert!(
            report.findings[0]
                .advice
                .contains("pins what does not get through")
        );
    }
}

#[test]
fn loss_is_told_by_datagrams_and_in_each_direction() {
    let mut quic = path("quic", Outcome::Works);
    if let Some(measured) = &mut quic.measured {
        (measured.loss_out_pct, measured.loss_in_pct) = (Some(11.4), Some(2.0));
    }
    let report = judged("tcp", vec![quic, path("tcp", Outcome::Works)]);
    assert_eq!(kinds(&report), ["loss"]);
    let finding = &report.findings[0];
    assert!(
        finding.text.contains("11 % to the server and 2 % back"),
        "{}",
        finding.text
    );
    assert_eq!(
        finding.config.as_deref(),
        Some("transport.protocol = \"auto\"")
    );
}

#[test]
fn udp_that_gets_a_third_of_tcp_is_policed() {
    let mut quic = path("quic", Outcome::Works);
    if let Some(measured) = &mut quic.measured {
        measured.rate_out = Some(500_000);
    }
    let report = judged("auto", vec![quic, path("tcp", Outcome::Works)]);
    assert_eq!(kinds(&report), ["udp_policed"]);
    assert!(
        report.findings[0]
            .text
            .contains("gets 4.0 Mbit/s, TCP 20.0 Mbit/s")
    );
}

#[test]
fn of_what_does_not_get_through_at_all_the_reason_that_explains_most_is_told() {
    let all = |outcome| {
        let paths = ["quic", "tcp"].map(|name| path(name, outcome));
        judged("tcp", paths.to_vec())
    };
    for (outcome, kind) in [
        (Outcome::Silent, "silent"),
        (Outcome::Unreachable, "unreachable"),
        (Outcome::LoginRefused, "login"),
        (Outcome::Tls, "tls"),
        (Outcome::Handshake, "handshake"),
    ] {
        let report = all(outcome);
        assert_eq!((kinds(&report), report.exit_code()), (vec![kind], 1));
    }
    let mixed = vec![
        path("tcp", Outcome::Refused),
        path("quic", Outcome::Rejected),
    ];
    let report = judged("tcp", mixed);
    assert_eq!(kinds(&report), ["refused"]);
    assert!(
        report.findings[0]
            .text
            .contains("quic rejected by ICMP, tcp refused")
    );
}

#[test]
fn what_the_server_does_not_have_is_a_note() {
    let mut wss = path("wss", Outcome::Handshake);
    wss.transport = "wss".to_owned();
    let report = judged("auto", vec![path("tcp", Outcome::Works), wss]);
    assert_eq!(report.exit_code(), 0);
    assert!(
        report.notes[0].starts_with("wss does not get through"),
        "{:?}",
        report.notes
    );
}

#[test]
fn a_clock_that_is_off_and_a_nat_are_seen() {
    let mut tcp = path("tcp", Outcome::Works);
    if let Some(measured) = &mut tcp.measured {
        measured.clock_ahead_ms = Some(-90_500);
        measured.seen_address = Some("198.51.100.7:1".to_owned());
    }
    let report = judged("auto", vec![tcp]);
    assert_eq!(kinds(&report), ["clock"]);
    assert!(report.findings[0].text.contains("90 s behind this host's"));
    assert!(report.notes[0].contains("this host is 10.0.0.2, the server sees 198.51.100.7"));
}

/// What is said where a server of frp has answered, which tells nothing of itself.
fn judged_of_go(configured: TransportKind, paths: Vec<PathReport>) -> Report {
    let mut config = ClientConfig::default();
    config.transport.protocol = Protocol::Pinned(configured);
    let is_through = paths.iter().any(PathReport::is_through);
    let mut report = Report {
        configured: configured.to_string(),
        peer: is_through.then(Peer::default),
        paths,
        quic_held_back: BTreeSet::from([7000]),
        tls: Some(Tls {
            checked_by: "nothing",
            fingerprint: Some("sha256:00".to_owned()),
            ..Tls::default()
        }),
        ..Report::default()
    };
    judge(&mut report, &config);
    report
}

/// Over a path that counts its packets.
fn counted(transport: &str, loss_pct: f64) -> PathReport {
    let mut path = path(transport, Outcome::Works);
    path.measured = Some(Measured {
        packets_out: 150,
        packet_loss_pct: Some(loss_pct),
        ..Measured::default()
    });
    path
}

#[test]
fn of_frps_own_server_nothing_is_said_that_only_a_holdfast_does() {
    let report = judged_of_go(
        TransportKind::Tcp,
        vec![
            path("kcp", Outcome::Works),
            path("tcp", Outcome::Works),
            path("wss", Outcome::Handshake),
        ],
    );
    assert_eq!((report.verdict, report.exit_code()), ("fine", 0));
    let [elsewhere, wss, peer, pin] = &report.notes[..] else {
        panic!("{:?}", report.notes);
    };
    assert!(
        elsewhere.contains("quic (not tried: kcp has UDP port 7000"),
        "{elsewhere}"
    );
    assert!(wss.starts_with("wss does not get through"), "{wss}");
    assert!(peer.starts_with("The server is frp"), "{peer}");
    assert!(pin.contains("new key with each start"), "{pin}");
}

#[test]
fn loss_towards_frps_own_server_is_what_the_transports_have_counted() {
    let report = judged_of_go(TransportKind::Tcp, vec![counted("tcp", 1.0)]);
    assert_eq!(kinds(&report), Vec::<&str>::new());
    let both = vec![counted("quic", 9.0), counted("tcp", 8.0)];
    let report = judged_of_go(TransportKind::Tcp, both);
    assert_eq!(kinds(&report), ["loss"]);
    assert!(
        report.findings[0]
            .text
            .contains("9 % of those to the server over quic")
    );
    let few = vec![counted("quic", 4.0), counted("tcp", 0.0)];
    let report = judged_of_go(TransportKind::Tcp, few);
    assert_eq!(kinds(&report), ["loss"], "TCP may have had luck");
    let alone = vec![counted("quic", 20.0), counted("tcp", 0.0)];
    let report = judged_of_go(TransportKind::Quic, alone);
    assert_eq!(kinds(&report), ["udp_policed"]);
    let line = report.findings[0].config.as_deref();
    assert_eq!(line, Some("transport.protocol = \"tcp\""));
}

#[test]
fn what_the_doctors_own_bursts_lose_is_nobodys_fault() {
    let report = judged("auto", vec![counted("quic", 20.0), counted("tcp", 0.0)]);
    assert_eq!(kinds(&report), Vec::<&str>::new());
}

#[test]
fn a_pinned_transport_over_udp_is_not_told_to_look_for_bind_port() {
    let paths = vec![path("quic", Outcome::Silent), path("tcp", Outcome::Refused)];
    let report = judged_of_go(TransportKind::Quic, paths);
    assert_eq!((kinds(&report), report.exit_code()), (vec!["silent"], 1));
    let advice = &report.findings[0].advice;
    assert!(advice.contains("7000 is not its quicBindPort"), "{advice}");

    let paths = vec![path("kcp", Outcome::Silent), path("tcp", Outcome::Works)];
    let report = judged_of_go(TransportKind::Kcp, paths);
    assert_eq!(kinds(&report), ["udp_blocked"]);
    let advice = &report.findings[0].advice;
    assert!(
        advice.contains("serverPort is the server's kcpBindPort"),
        "{advice}"
    );
}
