//! The overview for people: the session, what it goes over, what happened, what is wrong; and below
//! that frp's tables of proxies, as they are.

use std::fmt::Write as _;
use std::time::Duration;

use frp_core::terminal::{self, Paint, clock, printable, push_table, since};

use super::overview::{Overview, Remark, loss_pct};
use super::render;
use crate::links::CarrierStatus;

/// What `frpc status` prints.
pub fn page(overview: &Overview, paint: Paint) -> String {
    let mut text = String::new();
    // A frpc of frp's tells nothing else.
    if !overview.session.state.is_empty() {
        push_session(&mut text, overview, paint);
        push_carriers(&mut text, overview, paint);
        push_switches(&mut text, overview, paint);
        push_remarks(&mut text, overview, paint);
    }
    text.push_str(&render(&overview.by_kind()));
    text
}

fn push_session(text: &mut String, overview: &Overview, paint: Paint) {
    let session = &overview.session;
    let state = printable(&session.state);
    let state = match session.state.as_str() {
        "connected" => paint.good(&state),
        "switching" | "degraded" => paint.warn(&state),
        _ => paint.bad(&state),
    };
    let peer = match session.peer.as_str() {
        "holdfast" => " (Holdfast)",
        "frp" => " (frp)",
        _ => "",
    };
    let in_use = overview.carriers.iter().find(|carrier| carrier.in_use);
    let over = in_use.map_or_else(String::new, |carrier| {
        format!(" over {}", printable(&carrier.transport))
    });
    let mut row = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<13} {value}", format!("{name}:"));
    };
    row("Server", &format!("{}{peer}", printable(&overview.server)));
    let since_when = since(session.since_ms, overview.now_ms);
    row("Session", &format!("{state}{over} since {since_when}"));
    let held = match session.held {
        true => format!(
            "held: {} open, {} kept, {} sent again",
            session.held_streams,
            terminal::bytes(session.held_bytes),
            terminal::bytes(session.replayed_bytes)
        ),
        false if session.note.is_empty() => "not held".to_owned(),
        false => format!("not held: {}", printable(&session.note)),
    };
    row("Connections", &held);
    if !session.by_hand.is_empty() {
        let chosen = printable(&session.by_hand);
        row(
            "Chosen",
            &format!("{chosen}, by hand (frpc switch auto ends that)"),
        );
    }
    let up = overview.now_ms.saturating_sub(overview.started_ms);
    let up = terminal::span(Duration::from_millis(up));
    let version = printable(&overview.version);
    row("Program", &format!("Holdfast {version}, running for {up}"));
    text.push('\n');
}

fn push_carriers(text: &mut String, overview: &Overview, paint: Paint) {
    if overview.carriers.is_empty() {
        return;
    }
    let row = |carrier: &CarrierStatus| {
        [
            printable(&carrier.transport),
            printable(&carrier.address),
            printable(&carrier.state),
            format!("{:.1} ms", carrier.srtt_ms),
            format!("{:.1} %", loss_pct(carrier)),
            terminal::rate(carrier.rate),
            since(carrier.since_ms, overview.now_ms),
        ]
    };
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(overview.carriers.iter().map(row));
    push_table(text, paint, &rows);
    text.push('\n');
}

const HEADINGS: [&str; 7] = [
    "Transport",
    "Address",
    "State",
    "RTT",
    "Loss",
    "Rate",
    "Since",
];

fn push_switches(text: &mut String, overview: &Overview, paint: Paint) {
    let switches = overview.events.iter().filter(|e| e.kind == "switched");
    let switches: Vec<_> = switches.rev().take(MAX_SWITCHES).collect();
    if switches.is_empty() {
        return;
    }
    let _ = writeln!(text, "{}", paint.bold("Last switches"));
    for event in switches.iter().rev() {
        let _ = writeln!(text, "{}  {}", clock(event.at_ms), printable(&event.text));
    }
    text.push('\n');
}

fn push_remarks(text: &mut String, overview: &Overview, paint: Paint) {
    let mut push = |word: String, remark: &Remark| {
        let what = printable(&remark.text);
        let _ = match remark.since_ms {
            0 => writeln!(text, "{word} {what}"),
            at => writeln!(text, "{word} {what}, since {}", since(at, overview.now_ms)),
        };
    };
    for problem in &overview.problems {
        push(paint.bad("Wrong:"), problem);
    }
    for note in &overview.notes {
        push(paint.warn("Note:"), note);
    }
    if overview.problems.is_empty() {
        let _ = writeln!(text, "{}", paint.good("Nothing is wrong."));
    }
    text.push('\n');
}

/// Switches that are shown, the newest last.
const MAX_SWITCHES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::EventStatus;
    use crate::status::overview::{ProxyOverview, SessionOverview};

    fn overview() -> Overview {
        Overview {
            server: "192.0.2.1:7000".to_owned(),
            version: "1.0.0".to_owned(),
            now_ms: 600_000,
            started_ms: 1,
            session: SessionOverview {
                state: "connected".to_owned(),
                since_ms: 300_000,
                peer: "holdfast".to_owned(),
                held: true,
                held_streams: 2,
                ..SessionOverview::default()
            },
            carriers: vec![CarrierStatus {
                transport: "quic".to_owned(),
                address: "192.0.2.1:7000".to_owned(),
                in_use: true,
                state: "in use".to_owned(),
                srtt_ms: 50.04,
                packet_loss_pct: Some(1.0),
                ..CarrierStatus::default()
            }],
            events: vec![EventStatus {
                kind: "switched".to_owned(),
                text: "use quic: connected\u{1b}[2J".to_owned(),
                ..EventStatus::default()
            }],
            ..Overview::default()
        }
    }

    #[test]
    fn the_session_is_above_frps_tables_which_are_as_they_are() {
        let overview = overview();
        let text = page(&overview, Paint::off());
        let (above, tables) = text.split_at(text.find("Proxy Status...").unwrap_or_default());
        assert_eq!(tables, render(&overview.by_kind()));
        for part in [
            "Server:       192.0.2.1:7000 (Holdfast)\n",
            "Session:      connected over quic since ",
            "Connections:  held: 2 open, 0 B kept, 0 B sent again\n",
            "quic       192.0.2.1:7000  in use  50.0 ms  1.0 %",
            "use quic: connected [2J\n",
            "Nothing is wrong.\n",
        ] {
            assert!(above.contains(part), "{part:?} in {above}");
        }
    }

    #[test]
    fn what_is_wrong_and_since_when_is_one_line() {
        let mut overview = overview();
        overview.problems.push(Remark {
            since_ms: 480_000,
            text: "there is no session with the server".to_owned(),
        });
        let text = page(&overview, Paint::off());
        let line = text.lines().find(|line| line.starts_with("Wrong:"));
        let line = line.unwrap_or_default();
        assert!(line.starts_with("Wrong: there is no session with the server, since "));
        assert!(line.ends_with("(2 min)"), "{line}");
        assert!(!text.contains("Nothing is wrong"));
    }

    #[test]
    fn of_a_frpc_of_frps_there_are_its_tables_alone() {
        let overview = Overview {
            proxies: vec![ProxyOverview::default()],
            ..Overview::default()
        };
        assert!(page(&overview, Paint::off()).starts_with("Proxy Status..."));
    }
}
