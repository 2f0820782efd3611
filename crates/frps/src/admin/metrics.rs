//! `/metrics`: frp's names first, the process, then ours.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::debug;

use crate::server::Server;

/// Starts collecting our own metrics. They are the process's, so only the first call counts.
pub(crate) fn install() {
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        match metrics::set_global_recorder(recorder) {
            Ok(()) => Some(handle),
            Err(_) => {
                debug!("another part of this process collects metrics already");
                None
            }
        }
    });
}

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

pub(super) async fn scrape(State(server): State<Arc<Server>>) -> Response {
    let mut text = String::new();
    write_server(&server, &mut text);
    write_process(&mut text);
    if let Some(handle) = RECORDER.get().and_then(Option::as_ref) {
        note_held(&server);
        handle.run_upkeep();
        text.push_str(&handle.render());
    }
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

/// What is held at this moment.
#[expect(
    clippy::cast_precision_loss,
    reason = "gauges are floats, and these are far below 2^52"
)]
fn note_held(server: &Server) {
    let held = server.held.list();
    let (mut n_streams, mut n_bytes, mut n_away) = (0, 0, 0_usize);
    for held in &held {
        let stats = held.stats();
        n_streams += stats.n_streams;
        n_bytes += stats.kept_bytes;
        n_away += usize::from(held.is_holding());
    }
    metrics::gauge!("holdfast_sessions_held").set(held.len() as f64);
    metrics::gauge!("holdfast_sessions_away").set(n_away as f64);
    metrics::gauge!("holdfast_held_streams").set(n_streams as f64);
    metrics::gauge!("holdfast_held_bytes").set(n_bytes as f64);
}

/// frp's metrics, in frp's order.
fn write_server(server: &Server, text: &mut String) {
    let clients = [(String::new(), server.registry.n_running().to_string())];
    let help = "The current client counts of frps";
    family(text, "frp_server_client_counts", "gauge", help, clients);

    let proxies: Vec<_> = server.stats.proxies();
    let snapshots: Vec<_> = proxies
        .iter()
        .map(|proxy| {
            let name = escape_label(&proxy.name);
            (
                format!("{{name=\"{name}\",type=\"{}\"}}", proxy.kind),
                proxy.snapshot(),
            )
        })
        .collect();
    let each = |value: &dyn Fn(&crate::stats::ProxySnapshot) -> Option<String>| -> Vec<_> {
        snapshots
            .iter()
            .filter_map(|(labels, snapshot)| Some((labels.clone(), value(snapshot)?)))
            .collect()
    };

    let conns = each(&|proxy| proxy.n_conns.map(|n| n.to_string()));
    let help = "The current connection counts";
    family(text, "frp_server_connection_counts", "gauge", help, conns);

    let counts = server
        .stats
        .n_by_kind()
        .into_iter()
        .map(|(kind, n)| (format!("{{type=\"{kind}\"}}"), n.to_string()));
    family(
        text,
        "frp_server_proxy_counts",
        "gauge",
        "The current proxy counts",
        counts,
    );

    let online = each(&|proxy| Some(u8::from(proxy.online).to_string()));
    let help = "The current number of proxies grouped by type and name";
    family(
        text,
        "frp_server_proxy_counts_detailed",
        "gauge",
        help,
        online,
    );

    let inbound = each(&|proxy| proxy.lifetime.map(|bytes| bytes.inbound.to_string()));
    family(
        text,
        "frp_server_traffic_in",
        "counter",
        "The total in traffic",
        inbound,
    );
    let outbound = each(&|proxy| proxy.lifetime.map(|bytes| bytes.outbound.to_string()));
    family(
        text,
        "frp_server_traffic_out",
        "counter",
        "The total out traffic",
        outbound,
    );
}

/// One metric with its values by labels. Nothing at all without a value, as in frp.
fn family(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    values: impl IntoIterator<Item = (String, String)>,
) {
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}

fn escape_label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The names that Go's own collector has for the process.
fn write_process(text: &mut String) {
    let Some(process) = Process::read() else {
        return;
    };
    let mut one = |name, kind, help, value: String| {
        family(text, name, kind, help, [(String::new(), value)]);
    };
    one(
        "process_cpu_seconds_total",
        "counter",
        "Total user and system CPU time spent in seconds.",
        format!("{:.2}", process.cpu_seconds),
    );
    one(
        "process_open_fds",
        "gauge",
        "Number of open file descriptors.",
        process.n_fds.to_string(),
    );
    one(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory size in bytes.",
        process.resident_bytes.to_string(),
    );
    one(
        "process_virtual_memory_bytes",
        "gauge",
        "Virtual memory size in bytes.",
        process.virtual_bytes.to_string(),
    );
}

/// What the system says of this process.
struct Process {
    cpu_seconds: f64,
    n_fds: usize,
    resident_bytes: u64,
    virtual_bytes: u64,
}

impl Process {
    /// `None` where there is no `/proc`.
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The program's name is in parentheses and may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // proc(5) counts from 1, and two fields are gone: 14 utime, 15 stime, 23 vsize.
        let ticks: u32 =
            fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let resident_kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse()
            .ok()?;
        Some(Self {
            cpu_seconds: f64::from(ticks) / TICKS_PER_SECOND,
            n_fds: std::fs::read_dir("/proc/self/fd").ok()?.count(),
            resident_bytes: resident_kib * 1024,
            virtual_bytes: fields.get(20)?.parse().ok()?,
        })
    }
}

/// Linux reports CPU time in this unit on every architecture that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_family_without_values_is_not_there() {
        let mut text = String::new();
        family(&mut text, "a", "gauge", "help", []);
        assert_eq!(text, "");
        let values = [("{name=\"x\"}".to_owned(), "1".to_owned())];
        family(&mut text, "a", "gauge", "help", values);
        assert_eq!(text, "# HELP a help\n# TYPE a gauge\na{name=\"x\"} 1\n");
    }

    #[test]
    fn a_name_cannot_break_out_of_its_label() {
        assert_eq!(escape_label("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }

    #[test]
    fn the_process_is_described() {
        let process = Process::read().unwrap();
        assert!(process.n_fds > 0 && process.resident_bytes > 0);
        assert!(process.virtual_bytes >= process.resident_bytes);
    }
}
