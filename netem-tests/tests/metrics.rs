//! What the programs show on `/metrics`, and what docs/metrics.md says of it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use netem_tests::dashboards::{family, repository};
use netem_tests::traffic::{self, EchoConn};
use netem_tests::{Link, PairBuilder, Proxy, Service, Sides, UdpEcho};

#[test]
fn the_document_has_every_metric_and_every_metric_is_in_the_document() {
    let (service, udp) = (Service::start().unwrap(), UdpEcho::start().unwrap());
    let pair = PairBuilder::new(&Sides::ours().unwrap())
        .link(Link::AUTO)
        .with_metrics()
        .unwrap()
        .with_client_metrics()
        .unwrap()
        .proxy(Proxy::tcp("web", service.port()))
        .proxy(Proxy::udp("dns", udp.port()))
        .start()
        .unwrap();
    let web = pair.port("web").unwrap();
    EchoConn::open(web).unwrap().round().unwrap();
    traffic::datagrams(pair.port("dns").unwrap()).unwrap();

    let document = fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let rows: Vec<Row> = document.lines().filter_map(Row::read).collect();
    let mut wrong = Vec::new();
    for (program, text) in [
        // The client's page goes through the tunnel as well: its connection ends before the
        // server is asked, which so has one that it has counted.
        ("frpc", pair.client_metrics().unwrap()),
        ("frps", counted(|| pair.server_metrics().unwrap())),
    ] {
        compare(program, &text, &rows, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Asks until frp's counters are there, which come when a connection has ended.
fn counted(ask: impl Fn() -> String) -> String {
    let deadline = std::time::Instant::now() + netem_tests::PATIENCE;
    loop {
        let text = ask();
        if text.contains("\nfrp_server_traffic_in{") || std::time::Instant::now() > deadline {
            return text;
        }
    }
}

/// A row of the document.
struct Row {
    name: String,
    kind: String,
    labels: BTreeSet<String>,
    of: String,
}

impl Row {
    fn read(line: &str) -> Option<Self> {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, of, ..] = cells.as_slice() else {
            return None;
        };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        let labels = labels
            .split(',')
            .map(|label| label.trim().trim_matches('`'));
        Some(Self {
            name: name.to_owned(),
            kind: (*kind).to_owned(),
            labels: labels
                .filter(|label| !label.is_empty())
                .map(str::to_owned)
                .collect(),
            of: (*of).to_owned(),
        })
    }

    fn is_of(&self, program: &str) -> bool {
        self.of == program || self.of == "both"
    }
}

/// A metric on a page.
#[derive(Default)]
struct Shown {
    kind: String,
    labels: BTreeSet<String>,
}

fn compare(program: &str, text: &str, rows: &[Row], wrong: &mut Vec<String>) {
    let shown = read_page(text);
    for (name, metric) in &shown {
        let Some(row) = rows.iter().find(|row| row.name == *name) else {
            wrong.push(format!("{program}: {name} is not in the document"));
            continue;
        };
        if !row.is_of(program) {
            wrong.push(format!("{program} shows {name}, which is of {}", row.of));
        }
        if row.kind != metric.kind {
            wrong.push(format!("{program}: {name} is a {}", metric.kind));
        }
        if !metric.labels.is_subset(&row.labels) {
            wrong.push(format!("{program}: {name} has {:?}", metric.labels));
        }
    }
    for row in rows.iter().filter(|row| row.is_of(program)) {
        if !shown.contains_key(&row.name) {
            wrong.push(format!("{program} does not show {}", row.name));
        }
    }
}

fn read_page(text: &str) -> BTreeMap<String, Shown> {
    let mut shown: BTreeMap<String, Shown> = BTreeMap::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let (name, kind) = head.split_once(' ').unwrap();
            let known = shown.insert(
                name.to_owned(),
                Shown {
                    kind: kind.to_owned(),
                    ..Shown::default()
                },
            );
            assert!(known.is_none(), "{name} is there twice");
        }
        if line.starts_with('#') || !line.contains(' ') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        if value.parse::<f64>().is_err() {
            // The head of the answer.
            continue;
        }
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let Some(metric) = shown.get_mut(family(name)) else {
            continue;
        };
        // Values of labels have no comma in this test.
        let labels = labels.trim_end_matches('}').split(',');
        let labels = labels.filter_map(|label| label.split_once('='));
        let names = labels.map(|(label, _)| label.to_owned());
        metric.labels.extend(names.filter(|label| label != "le"));
    }
    shown
}
