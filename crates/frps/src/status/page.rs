//! The overview for people.

use std::fmt::Write as _;
use std::time::Duration;

use frp_core::terminal::{self, Paint, printable, push_table, since};

use super::overview::{Client, Overview, Remark};

/// What `frps status` prints.
pub(super) fn page(overview: &Overview, paint: Paint) -> String {
    let mut text = String::new();
    push_server(&mut text, overview);
    push_remarks(&mut text, overview, paint);
    push_clients(&mut text, overview, paint);
    push_proxies(&mut text, overview, paint);
    push_refused(&mut text, overview, paint);
    text
}

fn push_server(text: &mut String, overview: &Overview) {
    let totals = &overview.totals;
    let ways: Vec<_> = overview
        .listeners
        .iter()
        .map(|way| format!("{} ({})", printable(&way.transport), way.port))
        .collect();
    let up = overview.now_ms.saturating_sub(overview.started_ms);
    let up = terminal::span(Duration::from_millis(up));
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "Server:       Holdfast {}, running for {up}\n\
         Clients by:   {}\n\
         Clients:      {} there, {} of them away with their connections kept\n\
         Proxies:      {} published, {} connections of users\n\
         Today:        {} from users, {} to them\n\n",
        printable(&overview.version),
        ways.join(", "),
        totals.clients,
        totals.clients_holding,
        totals.proxies,
        totals.connections,
        terminal::bytes(totals.bytes_in_today),
        terminal::bytes(totals.bytes_out_today),
    );
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
}

fn push_clients(text: &mut String, overview: &Overview, paint: Paint) {
    if overview.clients.is_empty() {
        return;
    }
    let row = |client: &Client| {
        let in_use = client
            .carriers
            .iter()
            .find(|carrier| carrier.state == "in use");
        let (rtt, loss) = in_use.map_or_else(Default::default, |carrier| {
            let loss = carrier.loss_in_pct.max(carrier.loss_out_pct);
            (format!("{:.1} ms", carrier.rtt_ms), format!("{loss:.1} %"))
        });
        let standby: Vec<_> = client
            .carriers
            .iter()
            .filter(|carrier| carrier.state != "in use")
            .map(|carrier| match carrier.state.as_str() {
                "silent" => format!("{} (silent)", carrier.transport),
                _ => carrier.transport.clone(),
            })
            .collect();
        [
            printable(&client.key),
            printable(&client.address),
            printable(&client.state),
            since(client.since_ms, overview.now_ms),
            printable(&client.transport),
            printable(&standby.join(" ")),
            rtt,
            loss,
            client.proxies.to_string(),
            client.connections.to_string(),
        ]
    };
    let mut rows = vec![CLIENT_HEADINGS.map(str::to_owned)];
    rows.extend(overview.clients.iter().map(row));
    text.push('\n');
    push_table(text, paint, &rows);
}

const CLIENT_HEADINGS: [&str; 10] = [
    "Client", "Address", "State", "Since", "Over", "Standby", "RTT", "Loss", "Proxies", "Conns",
];

fn push_proxies(text: &mut String, overview: &Overview, paint: Paint) {
    if overview.proxies.is_empty() {
        return;
    }
    let mut rows = vec![PROXY_HEADINGS.map(str::to_owned)];
    rows.extend(overview.proxies.iter().map(|proxy| {
        [
            printable(&proxy.name),
            printable(&proxy.kind),
            proxy.port.map_or_else(String::new, |port| port.to_string()),
            printable(&proxy.client),
            printable(&proxy.status),
            since(proxy.since_ms, overview.now_ms),
            proxy.connections.to_string(),
            proxy.failed_total.to_string(),
            terminal::bytes(proxy.bytes_in_today),
            terminal::bytes(proxy.bytes_out_today),
        ]
    }));
    text.push('\n');
    push_table(text, paint, &rows);
}

const PROXY_HEADINGS: [&str; 10] = [
    "Proxy", "Type", "Port", "Client", "Status", "Since", "Conns", "Failed", "In", "Out",
];

fn push_refused(text: &mut String, overview: &Overview, paint: Paint) {
    if overview.refused.is_empty() {
        return;
    }
    let mut rows = vec![["Refused or given up", "Times", "Last"].map(str::to_owned)];
    rows.extend(overview.refused.iter().map(|refused| {
        [
            printable(&refused.cause),
            refused.count.to_string(),
            since(refused.last_ms, overview.now_ms),
        ]
    }));
    text.push('\n');
    push_table(text, paint, &rows);
}

#[cfg(test)]
mod tests {
    use super::super::overview::{Carrier, Listener, Proxy};
    use super::*;

    #[test]
    fn clients_proxies_and_what_is_wrong_are_on_one_page() {
        let carrier = |transport: &str, state: &str| Carrier {
            transport: transport.to_owned(),
            state: state.to_owned(),
            rtt_ms: 50.0,
            loss_in_pct: 1.0,
            ..Carrier::default()
        };
        let overview = Overview {
            listeners: vec![Listener {
                transport: "quic".to_owned(),
                port: 7000,
            }],
            clients: vec![Client {
                key: "home\u{7}".to_owned(),
                state: "connected".to_owned(),
                transport: "quic".to_owned(),
                carriers: vec![carrier("quic", "in use"), carrier("tcp", "standby")],
                ..Client::default()
            }],
            proxies: vec![Proxy {
                name: "ssh".to_owned(),
                port: Some(6000),
                ..Proxy::default()
            }],
            problems: vec![Remark {
                since_ms: 0,
                text: "client x is away".to_owned(),
            }],
            ..Overview::default()
        };
        let text = page(&overview, Paint::off());
        assert!(text.contains("Clients by:   quic (7000)\n"), "{text}");
        assert!(text.contains("Wrong: client x is away\n"), "{text}");
        let line = text.lines().find(|line| line.starts_with("home "));
        let line = line.unwrap_or_default();
        for cell in ["connected", "quic", "tcp", "50.0 ms", "1.0 %"] {
            assert!(line.contains(cell), "{cell} in {line}");
        }
        assert!(text.contains("ssh          6000"), "{text}");
    }
}
