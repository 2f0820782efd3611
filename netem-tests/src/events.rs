//! What `frpc` tells of its decisions, as its log has them.

use std::time::Instant;

/// A change of the carrier in use.
#[derive(Clone, Debug)]
pub struct Switch {
    /// When it was told.
    pub at: Instant,
    /// The line that told it.
    pub line: String,
}

/// Finds the switches in lines of a log. The first carrier of a session is none.
pub fn switches(lines: &[(Instant, String)]) -> Vec<Switch> {
    lines
        .iter()
        .filter(|(_, line)| is_switch(line))
        .map(|(at, line)| Switch {
            at: *at,
            line: line.clone(),
        })
        .collect()
}

/// Says whether a line tells that something may be wrong with the link.
pub(crate) fn tells_of_trouble(line: &str) -> bool {
    let line = line.to_lowercase();
    [
        "suspect",
        "silent",
        "dead",
        "holding",
        "switch",
        "lost",
        "reconnect",
        "error",
    ]
    .iter()
    .any(|word| line.contains(word))
}

/// Returns the lines that tell of decisions, of whatever level.
pub fn decisions<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let told = lines.filter(|line| line.contains("[links/"));
    told.collect::<Vec<_>>().join("\n")
}

/// Returns the carrier that a line says is used from then on.
pub fn in_use(line: &str) -> Option<&str> {
    let (_, rest) = match line.split_once(SWITCHED) {
        Some((_, rest)) => rest.split_once(" to ")?,
        None => line.split_once(FIRST)?,
    };
    let end = rest.find([':', ';', ',', ' ']).unwrap_or(rest.len());
    rest.get(..end).filter(|name| !name.is_empty())
}

fn is_switch(line: &str) -> bool {
    line.contains(SWITCHED)
}

/// How the client's log tells of a switch: "switched from quic to tcp: why".
const SWITCHED: &str = "switched from ";

/// And of the first carrier: "use quic: connected".
const FIRST: &str = " use ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_used_from_then_on() {
        let switched = "2026-11-21 15:00:00 [I] switched from quic to tcp: silence; 1.2 s";
        assert!(is_switch(switched));
        assert_eq!(in_use(switched), Some("tcp"));

        let first = "2026-11-21 15:00:00 [I] use quic: connected";
        assert!(!is_switch(first));
        assert_eq!(in_use(first), Some("quic"));
        assert_eq!(in_use("[I] start proxy success"), None);
    }
}
