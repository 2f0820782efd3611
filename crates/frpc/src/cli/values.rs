//! What flags take, and how it is read.

use std::time::Duration;

use frp_core::config::Bandwidth;
use frp_core::transports::TransportKind;

/// Takes `100KB` or `1MB`, as the configuration will.
pub(super) fn check_bandwidth(text: &str) -> Result<String, String> {
    Bandwidth::parse(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

pub(super) fn parse_transport(text: &str) -> Result<TransportKind, String> {
    let kinds = [
        TransportKind::Quic,
        TransportKind::Kcp,
        TransportKind::Tcp,
        TransportKind::Websocket,
        TransportKind::Wss,
    ];
    let found = kinds.into_iter().find(|kind| kind.name() == text);
    found.ok_or_else(|| "quic, kcp, tcp, websocket or wss".to_owned())
}

pub(super) fn parse_pair(text: &str) -> Result<String, String> {
    if !text.contains('=') {
        return Err(format!("{text} must be formatted as key=value"));
    }
    Ok(text.to_owned())
}

/// A duration as Go writes it: `30s`, `1m30s`, `1.5h`, `250ms`, `0`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration \"{text}\"");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(invalid)?;
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let unit_len = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        total += number
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(invalid()),
            };
        rest = after;
    }
    Duration::try_from_secs_f64(total).map_err(|_| invalid())
}
