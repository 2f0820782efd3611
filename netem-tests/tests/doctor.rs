//! `frpc doctor` on links of the lab: what it says of each, beside a frpc with the same
//! configuration that is not to notice it.
//!
//! These tests need root. Without it each of them says that it is skipped. With `DOCTOR_PAGES=DIR`
//! each writes there what the command prints for people.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::{env, fs};

use netem_tests::traffic::EchoConn;
use netem_tests::{Fault, Lab, Link, Pair, PairBuilder, Profile, Proxy, Service, Sides, Transport};
use serde_json::Value;

#[test]
fn a_clean_link_is_fine() {
    let Some(report) = examine("clean", &clean(), None) else {
        return;
    };
    assert_eq!(report.code, 0, "{}", report.text);
    assert_eq!(report.kinds(), Vec::<String>::new());
    for transport in ["quic", "kcp", "tcp", "websocket", "wss"] {
        let path = report.path(transport);
        assert_eq!(path["outcome"], "works", "{transport}: {}", report.text);
        let rtt = path["measured"]["rtt_min_ms"].as_f64().unwrap();
        assert!((35.0..200.0).contains(&rtt), "{transport}: {rtt}");
    }
    let measured = &report.path("quic")["measured"];
    assert!(measured["rate_out"].as_u64() > Some(100_000), "{measured}");
    assert!(measured["rate_in"].as_u64() > Some(100_000), "{measured}");
    assert_eq!(
        measured["local_address"], measured["seen_address"],
        "no NAT"
    );
    assert!(measured["clock_ahead_ms"].as_i64().unwrap().abs() < 1000);
    assert_eq!(report.json["peer"]["is_holdfast"], true);
}

#[test]
fn a_tenth_lost_is_seen_in_both_directions() {
    let Some(report) = examine("loss", &clean().loss_pct(10), None) else {
        return;
    };
    assert_eq!(report.code, 3, "{}", report.text);
    assert!(
        report.kinds().contains(&"loss".to_owned()),
        "{}",
        report.text
    );
    assert_eq!(report.path("quic")["outcome"], "works");
    assert_eq!(report.path("tcp")["outcome"], "works");
}

#[test]
fn udp_that_is_dropped_is_blocked() {
    let Some(report) = examine("udp-blocked", &clean(), Some(Fault::drop_udp())) else {
        return;
    };
    assert_eq!(report.code, 3, "{}", report.text);
    assert_eq!(report.kinds(), ["udp_blocked"], "{}", report.text);
    assert_eq!(report.path("quic")["outcome"], "silent");
    assert_eq!(report.path("kcp")["outcome"], "silent");
    assert_eq!(report.path("tcp")["outcome"], "works");
}

#[test]
fn udp_that_is_rejected_is_told_from_that() {
    let Some(report) = examine("udp-rejected", &clean(), Some(Fault::reject_udp())) else {
        return;
    };
    assert_eq!(report.code, 3, "{}", report.text);
    assert_eq!(report.kinds(), ["udp_rejected"], "{}", report.text);
    assert_eq!(report.path("quic")["outcome"], "rejected");
    assert_eq!(report.path("tcp")["outcome"], "works");
}

#[test]
fn a_link_that_is_dead_lets_nothing_through() {
    let Some(report) = examine("dead", &clean(), Some(Fault::drop_all())) else {
        return;
    };
    assert_eq!(report.code, 1, "{}", report.text);
    assert_eq!(report.kinds(), ["silent"], "{}", report.text);
}

/// 20 Mbit/s, 40 ms there and back.
fn clean() -> Profile {
    Profile::delay_ms(20).rate_mbit(20)
}

struct Report {
    code: i32,
    text: String,
    json: Value,
}

impl Report {
    fn kinds(&self) -> Vec<String> {
        let findings = self.json["findings"].as_array().unwrap();
        let kinds = findings
            .iter()
            .map(|f| f["kind"].as_str().unwrap().to_owned());
        kinds.collect()
    }

    fn path(&self, transport: &str) -> &Value {
        let paths = self.json["paths"].as_array().unwrap();
        paths
            .iter()
            .find(|path| path["transport"] == transport)
            .unwrap()
    }
}

/// What the doctor says of a link, once there is a tunnel over it and then a fault on it.
fn examine(name: &str, profile: &Profile, fault: Option<Fault>) -> Option<Report> {
    if !Lab::is_available_for("frpc doctor") {
        return None;
    }
    let lab = Lab::start(&format!("doctor-{name}"), profile).unwrap();
    let service = lab.far().enter(Service::start).unwrap();
    let link = Link {
        transport: Transport::Auto,
        ..Link::DEFAULT
    };
    let pair = PairBuilder::new(&Sides::ours().unwrap())
        .in_lab(&lab)
        .link(link)
        .proxy(Proxy::tcp("echo", service.port()))
        .start()
        .unwrap();
    let port = pair.port("echo").unwrap();
    let mut conn = pair.as_user(|| EchoConn::open(port)).unwrap();
    pair.as_user(|| conn.round()).unwrap();
    let is_faulty = fault.is_some();
    if let Some(fault) = fault {
        lab.fault(fault).unwrap();
    }

    let report = doctor(&pair);
    if let Some(dir) = env::var_os("DOCTOR_PAGES") {
        let (_, page) = pair.frpc("doctor").unwrap();
        fs::write(Path::new(&dir).join(name), page).unwrap();
    }
    if is_faulty {
        lab.clear_faults().unwrap();
    }
    // The tunnel beside it is as it was.
    pair.as_user(|| conn.round()).unwrap();
    Some(report)
}

fn doctor(pair: &Pair) -> Report {
    let (status, text) = pair.frpc_with("doctor", &["--json"]).unwrap();
    let line = text.lines().find(|line| line.starts_with('{'));
    let line = line.unwrap_or_else(|| panic!("no report: {text}"));
    Report {
        code: status.code().unwrap(),
        json: serde_json::from_str(line).unwrap(),
        text,
    }
}
