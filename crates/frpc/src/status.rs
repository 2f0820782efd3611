//! What `frpc status` shows: one entry for each proxy, as JSON between the programs and as frp's
//! tables for people. What it shows beyond frp is the [`overview`], for people a [`page`]; the
//! command itself is [`command`].

pub mod command;
pub mod overview;
pub mod page;
pub(crate) mod standing;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use frp_core::config::{ProxyConfig, ProxyKind};
use frp_core::terminal::printable;
use serde::{Deserialize, Serialize};

use crate::proxy::local_addr_text;
use crate::proxy::state::ProxyState;

/// One proxy as `/api/status` has it. Every member is always there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxyStatus {
    /// Without the user's prefix.
    pub name: String,
    /// `tcp`, `udp`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// `new`, `wait start`, `start error`, `running`, `closed`.
    pub status: String,
    /// What frps said when it refused.
    pub err: String,
    /// `localIP:localPort`, or empty.
    pub local_addr: String,
    /// The plugin in the place of a local service, or empty.
    pub plugin: String,
    /// Where users reach it.
    pub remote_addr: String,
}

impl ProxyStatus {
    /// The entry for one proxy of a server at `server_addr`.
    pub fn new(config: &ProxyConfig, state: &ProxyState, server_addr: &str) -> Self {
        // frp puts the configured address before the port as it is, brackets or not.
        let remote_addr = match (&config.kind, state.error()) {
            (ProxyKind::Tcp { .. } | ProxyKind::Udp { .. }, "") => {
                format!("{server_addr}{}", state.remote_addr())
            }
            (ProxyKind::Stcp { .. }, "") => state.remote_addr().to_owned(),
            _ => String::new(),
        };
        Self {
            name: config.name.clone(),
            kind: config.kind.as_str().to_owned(),
            status: state.phase().to_string(),
            err: state.error().to_owned(),
            local_addr: local_addr_text(config),
            plugin: String::new(),
            remote_addr,
        }
    }
}

/// What `/api/status` answers: the entries of each type, by name.
pub type StatusByKind = BTreeMap<String, Vec<ProxyStatus>>;

/// Sorts `entries` by type. Within a type they keep their order.
pub fn by_kind(entries: Vec<ProxyStatus>) -> StatusByKind {
    let mut by_kind = StatusByKind::new();
    for entry in entries {
        by_kind.entry(entry.kind.clone()).or_default().push(entry);
    }
    by_kind
}

/// The types in the order in which `frpc status` shows them.
const KINDS: [&str; 8] = [
    "tcp", "udp", "tcpmux", "http", "https", "stcp", "sudp", "xtcp",
];

const HEADINGS: [&str; 6] = [
    "Name",
    "Status",
    "LocalAddr",
    "Plugin",
    "RemoteAddr",
    "Error",
];

/// Spaces behind the widest cell of a column, the last one too.
const PADDING: usize = 2;

/// frp's tables of proxies.
pub fn render(status: &StatusByKind) -> String {
    let mut text = "Proxy Status...\n\n".to_owned();
    for kind in KINDS {
        let entries = status.get(kind).map(Vec::as_slice).unwrap_or_default();
        if entries.is_empty() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", kind.to_uppercase());
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        rows.extend(entries.iter().map(|entry| {
            let ProxyStatus {
                name,
                status,
                local_addr,
                plugin,
                remote_addr,
                err,
                ..
            } = entry;
            [name, status, local_addr, plugin, remote_addr, err].map(|cell| printable(cell))
        }));
        push_table(&mut text, &rows);
        text.push('\n');
    }
    text
}

fn push_table<const N: usize>(text: &mut String, rows: &[[String; N]]) {
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
            + PADDING
    });
    for row in rows {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "{cell:<width$}");
        }
        text.push('\n');
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::time::Instant;

    fn entry(name: &str, kind: &str, status: &str) -> ProxyStatus {
        ProxyStatus {
            name: name.to_owned(),
            kind: kind.to_owned(),
            status: status.to_owned(),
            ..ProxyStatus::default()
        }
    }

    #[test]
    fn the_table_is_frps_to_the_last_blank() {
        let running = ProxyStatus {
            local_addr: "127.0.0.1:22".to_owned(),
            remote_addr: "127.0.0.1:17022".to_owned(),
            ..entry("t1", "tcp", "running")
        };
        let refused = ProxyStatus {
            local_addr: "127.0.0.1:23".to_owned(),
            err: "port already used".to_owned(),
            ..entry("t2", "tcp", "start error")
        };
        assert_eq!(
            render(&by_kind(vec![running, refused])),
            "Proxy Status...\n\nTCP\n\
             Name  Status       LocalAddr     Plugin  RemoteAddr       Error              \n\
             t1    running      127.0.0.1:22          127.0.0.1:17022                     \n\
             t2    start error  127.0.0.1:23                           port already used  \n\n"
        );
    }

    #[test]
    fn the_types_come_in_frps_order() {
        let text = render(&by_kind(vec![
            entry("a", "stcp", "running"),
            entry("b", "udp", "running"),
            entry("c", "tcp", "running"),
        ]));
        let kinds: Vec<_> = text
            .lines()
            .filter(|l| KINDS.contains(&&*l.to_lowercase()))
            .collect();
        assert_eq!(kinds, ["TCP", "UDP", "STCP"]);
    }

    #[test]
    fn without_proxies_only_the_heading_is_printed() {
        assert_eq!(render(&StatusByKind::new()), "Proxy Status...\n\n");
    }

    #[test]
    fn the_remote_address_is_the_servers_with_the_answered_port() {
        let now = Instant::now();
        let mut config = ProxyConfig::new("p", ProxyKind::Tcp { remote_port: 0 });
        config.local_port = 22;
        let mut state = ProxyState::new(now);
        let status = ProxyStatus::new(&config, &state, "10.0.0.1");
        assert_eq!(
            (status.status.as_str(), status.remote_addr.as_str()),
            ("new", "10.0.0.1")
        );

        assert!(state.poll(now));
        state.handle_answer(now, ":6000", "").unwrap();
        let status = ProxyStatus::new(&config, &state, "10.0.0.1");
        assert_eq!(status.remote_addr, "10.0.0.1:6000");
        assert_eq!(status.local_addr, "127.0.0.1:22");
    }

    #[test]
    fn an_entry_is_json_with_frps_names() {
        let json = serde_json::to_string(&entry("t1", "tcp", "new")).unwrap();
        assert_eq!(
            json,
            r#"{"name":"t1","type":"tcp","status":"new","err":"","local_addr":"","plugin":"","remote_addr":""}"#
        );
    }
}
