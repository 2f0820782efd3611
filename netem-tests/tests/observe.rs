//! Dashboards and alerts, asked of a real Prometheus that scrapes two tunnels on a bad link.
//!
//! What needs `prometheus`, `promtool` or root says that it is skipped where they are not.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use netem_tests::dashboards::{Dashboard, Variables, family, metrics_in, repository};
use netem_tests::fleet::{CLIENTS, Fleet, PROXY};
use netem_tests::observe::Rates;
use netem_tests::{Fault, Lab, PATIENCE, Profile, Prometheus};

#[test]
fn dashboards_can_be_provisioned() {
    let mut uids = BTreeSet::new();
    for dashboard in Dashboard::load_all().unwrap() {
        let Dashboard { uid, model, .. } = &dashboard;
        assert!(uid.starts_with("holdfast-"), "{uid}");
        assert!(uids.insert(uid.clone()), "{uid} is there twice");
        assert!(
            model["id"].is_null(),
            "{uid}: a number is the installation's"
        );
        let variables = model["templating"]["list"].as_array().unwrap();
        let source = &variables[0];
        assert_eq!(source["type"], "datasource", "{uid}");
        assert_eq!(source["query"], "prometheus", "{uid}");
        let mut ids = BTreeSet::new();
        for panel in model["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{uid}: {panel}");
            let place = &panel["gridPos"];
            let (x, width) = (place["x"].as_u64().unwrap(), place["w"].as_u64().unwrap());
            assert!(x + width <= 24, "{uid}: {panel}");
            for target in panel["targets"].as_array().unwrap() {
                assert_eq!(
                    target["datasource"]["uid"], "${datasource}",
                    "{uid}: {target}"
                );
            }
        }
    }
    assert_eq!(uids.len(), 3);
}

#[test]
fn what_dashboards_and_alerts_ask_for_is_in_the_document() {
    let document = fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let known: BTreeSet<String> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    let mut asked = BTreeSet::new();
    for dashboard in Dashboard::load_all().unwrap() {
        asked.extend(dashboard.expressions().flat_map(metrics_in));
    }
    for file in ["holdfast.rules.yml", "holdfast.rules.test.yml"] {
        let text = fs::read_to_string(configs().join(file)).unwrap();
        asked.extend(metrics_in(&text));
    }
    let unknown: Vec<_> = asked
        .iter()
        .filter(|name| !known.contains(family(name)))
        .collect();
    assert!(asked.len() > 40 && unknown.is_empty(), "{unknown:?}");
}

#[test]
fn alerts_do_what_they_are_to_do() {
    if !Prometheus::is_available_for("promtool", "the test of the alerts") {
        return;
    }
    for args in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "holdfast.rules.yml"],
        ["test", "rules", "holdfast.rules.test.yml"],
    ] {
        let mut promtool = Command::new("promtool");
        let output = promtool.args(args).current_dir(configs()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}{complained}");
    }
}

#[test]
fn every_panel_of_every_dashboard_has_something_to_show() {
    let what = "the test of the dashboards";
    if !Lab::is_available_for(what) || !Prometheus::is_available_for("prometheus", what) {
        return;
    }
    let profile = Profile::delay_ms(15).rate_mbit(50).loss_pct(3);
    let mut fleet = Fleet::start("observe", &profile, Duration::from_secs(1)).unwrap();
    fleet.traffic_begins(Rates::both(2.0)).unwrap();
    let Fleet {
        prometheus,
        chooser,
        lab,
        ..
    } = &fleet;
    prometheus.wait_for("frp_server_traffic_in > 0").unwrap();
    let client = chooser.client().unwrap();
    let mark = client.mark();
    lab.fault(Fault::drop_udp()).unwrap();
    client.wait_for_line_after(mark, "switched from").unwrap();
    let outage = "holdfast_session_state{job=\"frps\",client=\"pinned\",state=\"silent\"} == 1";
    prometheus.wait_for(outage).unwrap();
    lab.clear_faults().unwrap();
    let switched = "holdfast_session_last_switch_timestamp_seconds{client=\"chooser\"}";
    prometheus.wait_for(switched).unwrap();
    let came_back = "holdfast_silence_seconds_count{job=\"frps\"} > 0";
    prometheus.wait_for(came_back).unwrap();

    // On a busy machine a scrape may come too late, and what it would have brought is stale then.
    let deadline = Instant::now() + PATIENCE;
    let mut silent: Vec<String> = Dashboard::load_all()
        .unwrap()
        .iter()
        .flat_map(Dashboard::expressions)
        .map(|expression| without_label_values(expression).to_owned())
        .collect();
    assert!(silent.len() > 60, "{silent:?}");
    while !silent.is_empty() && Instant::now() < deadline {
        silent.retain(|expression| !is_answered(prometheus, expression));
    }
    assert!(silent.is_empty(), "nothing to show:\n{}", silent.join("\n"));
}

/// Whether there is something to see for one of the clients.
fn is_answered(prometheus: &Prometheus, expression: &str) -> bool {
    CLIENTS.iter().any(|client| {
        let variables = Variables {
            client,
            proxy: PROXY,
            rate_interval: "10s",
        };
        let answer = prometheus.query(&variables.fill(expression));
        !answer.unwrap().is_empty()
    })
}

/// A variable asks for the values of a label: what it asks of is an expression.
fn without_label_values(expression: &str) -> &str {
    let inner = expression.strip_prefix("label_values(");
    inner
        .and_then(|inner| inner.rsplit_once(','))
        .map_or(expression, |(metric, _)| metric)
}

fn configs() -> PathBuf {
    repository().join("configs/prometheus")
}
