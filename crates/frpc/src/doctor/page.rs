//! The report for people: the verdict last, where the eye is when the program has ended.

use std::fmt::Write as _;

use frp_core::terminal::{self, Paint, printable, push_table};

use super::report::{Measured, Outcome, PathReport, Report};
use super::verdict::outcome_words;

/// What `frpc doctor` prints.
pub(super) fn page(report: &Report, paint: Paint) -> String {
    let mut text = String::new();
    push_server(&mut text, report);
    push_paths(&mut text, report, paint);
    push_verdict(&mut text, report, paint);
    text
}

fn push_server(text: &mut String, report: &Report) {
    let mut row = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<13} {}", format!("{name}:"), printable(&value));
    };
    row(
        "Server",
        format!(
            "{}, transport.protocol = {:?}",
            report.server, report.configured
        ),
    );
    let dns = &report.dns;
    if dns.is_name {
        row(
            "DNS",
            match &dns.error {
                Some(error) => format!("{} is not resolved: {error}", dns.name),
                None => format!("{} in {:.1} ms", dns.addresses.join(", "), dns.time_ms),
            },
        );
    }
    if let Some(peer) = &report.peer {
        let held = match peer.grace_seconds {
            Some(seconds) => format!("connections are held for up to {seconds} s"),
            None => "connections are not held".to_owned(),
        };
        row(
            "Peer",
            match peer.is_holdfast {
                true => format!(
                    "Holdfast (as frp {}, wire {}), {held}",
                    peer.frp_version, peer.wire
                ),
                false => format!("frp {}, wire {}, {held}", peer.frp_version, peer.wire),
            },
        );
    }
    if let Some(tls) = &report.tls {
        let expiry = tls
            .expires_in_days
            .map_or_else(String::new, |days| format!(", expires in {days} days"));
        let name = match tls.is_for_name {
            true => "for the server's name",
            false => "for another name",
        };
        row(
            "Certificate",
            format!("{name}, checked by {}{expiry}", tls.checked_by),
        );
    }
    let seen = report
        .paths
        .iter()
        .filter_map(|path| path.measured.as_ref());
    let seen = seen
        .clone()
        .find_map(|m| m.seen_address.as_ref().zip(m.local_address.as_ref()));
    if let Some((there, here)) = seen {
        row(
            "This host",
            format!("{here}, which the server sees as {there}"),
        );
    }
    let clock = report
        .paths
        .iter()
        .filter_map(|path| path.measured.as_ref()?.clock_ahead_ms);
    if let Some(ahead) = clock.clone().next() {
        row("Clocks", format!("{} ms apart", ahead.abs()));
    }
    text.push('\n');
}

fn push_paths(text: &mut String, report: &Report, paint: Paint) {
    if report.paths.is_empty() {
        return;
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(report.paths.iter().map(row));
    push_table(text, paint, &rows);
    for path in report.paths.iter().filter(|path| !path.error.is_empty()) {
        let _ = writeln!(
            text,
            "{} at {}: {}",
            path.transport,
            printable(&path.address),
            printable(&path.error)
        );
    }
    text.push('\n');
}

const HEADINGS: [&str; 10] = [
    "Transport",
    "Address",
    "Result",
    "Handshake",
    "RTT min/med",
    "Jitter",
    "Loss out/in",
    "Rate out",
    "Rate in",
    "MTU",
];

fn row(path: &PathReport) -> [String; 10] {
    let none = Measured::default();
    let measured = path.measured.as_ref().unwrap_or(&none);
    let pair = |a: Option<f64>, b: Option<f64>, unit: &str| match (a, b) {
        (Some(a), Some(b)) => format!("{a:.1}/{b:.1} {unit}"),
        _ => String::new(),
    };
    let ms = |time: Option<f64>| time.map_or_else(String::new, |ms| format!("{ms:.1} ms"));
    let rate = |rate: Option<u64>| rate.map_or_else(String::new, terminal::rate);
    [
        path.transport.clone(),
        printable(&path.address),
        outcome_words(path.outcome).to_owned(),
        ms(path.handshake_ms),
        pair(measured.rtt_min_ms, measured.rtt_median_ms, "ms"),
        ms(measured.jitter_ms),
        pair(measured.loss_out_pct, measured.loss_in_pct, "%"),
        rate(measured.rate_out),
        rate(measured.rate_in),
        measured.mtu.map_or_else(String::new, |mtu| mtu.to_string()),
    ]
}

fn push_verdict(text: &mut String, report: &Report, paint: Paint) {
    for note in &report.notes {
        let _ = writeln!(text, "{} {}", paint.warn("Note:"), printable(note));
    }
    for finding in &report.findings {
        let _ = writeln!(
            text,
            "{} {}.",
            paint.bad("Found:"),
            printable(&finding.text)
        );
        let _ = writeln!(text, "       {}", printable(&finding.advice));
        if let Some(line) = &finding.config {
            let _ = writeln!(
                text,
                "       In the configuration: {}",
                paint.bold(&printable(line))
            );
        }
    }
    let works: Vec<_> = report
        .paths
        .iter()
        .filter(|path| path.outcome == Outcome::Works)
        .map(|path| path.transport.as_str())
        .collect();
    let mut named: Vec<&str> = Vec::new();
    for name in works {
        if !named.contains(&name) {
            named.push(name);
        }
    }
    let _ = match report.verdict {
        "fine" => writeln!(text, "{}", paint.good("All is fine.")),
        "nothing" => writeln!(text, "{}", paint.bad("Nothing gets through.")),
        _ => writeln!(
            text,
            "{}",
            paint.warn(&format!(
                "The server can be reached ({}), with the above.",
                named.join(", ")
            ))
        ),
    };
}

#[cfg(test)]
mod tests {
    use super::super::report::Finding;
    use super::*;

    #[test]
    fn the_page_has_a_row_for_each_way_and_ends_with_the_verdict() {
        let report = Report {
            verdict: "findings",
            server: "frps.example:7000".to_owned(),
            configured: "auto".to_owned(),
            findings: vec![Finding {
                kind: "udp_blocked",
                text: "UDP is blocked".to_owned(),
                advice: "Open it.".to_owned(),
                config: Some("transport.protocol = \"auto\"".to_owned()),
            }],
            paths: vec![
                PathReport {
                    transport: "quic".to_owned(),
                    address: "192.0.2.1:7000".to_owned(),
                    outcome: Outcome::Silent,
                    error: "no answer\u{1b}[2J".to_owned(),
                    ..PathReport::default()
                },
                PathReport {
                    transport: "tcp".to_owned(),
                    address: "192.0.2.1:7000".to_owned(),
                    measured: Some(Measured {
                        rtt_min_ms: Some(50.0),
                        rtt_median_ms: Some(51.26),
                        rate_out: Some(2_500_000),
                        ..Measured::default()
                    }),
                    ..PathReport::default()
                },
            ],
            ..Report::default()
        };
        let text = page(&report, Paint::off());
        assert!(text.contains("tcp        192.0.2.1:7000  works "), "{text}");
        assert!(
            text.contains("50.0/51.3 ms") && text.contains("20.0 Mbit/s"),
            "{text}"
        );
        assert!(
            text.contains("quic at 192.0.2.1:7000: no answer [2J\n"),
            "{text}"
        );
        assert!(text.contains("In the configuration: transport.protocol = \"auto\"\n"));
        assert!(
            text.ends_with("The server can be reached (tcp), with the above.\n"),
            "{text}"
        );
    }
}
