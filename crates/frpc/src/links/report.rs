//! What the policy decides, in words and numbers: for the log, metrics, and `frpc status`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use frp_core::proto::path::PathReport;
use frp_core::proto::policy::{DialFailure, Measured, Notice, State, Transport};
use frp_core::terminal::now_ms;
use frp_core::transports::PathStats;
use serde::{Deserialize, Serialize};

use super::candidates::over;
use crate::transport::Addresses;

/// Where everything stands: `/api/links`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinksStatus {
    /// `connected`, `degraded`, `switching`, `holding`, `reconnecting`, `refused`; `plain` where
    /// the session goes over one carrier for its life.
    pub state: String,
    /// Since when, in milliseconds since 1970; 0 where that is not known.
    pub state_since_ms: u64,
    /// Why connections are not held, where they are not.
    pub note: String,
    /// The transport that was chosen by hand, or empty.
    pub by_hand: String,
    /// The carriers that are open.
    pub carriers: Vec<CarrierStatus>,
    /// Held streams.
    pub held_streams: usize,
    /// Bytes that they keep.
    pub held_bytes: u64,
    /// Bytes that were sent a second time.
    pub replayed_bytes: u64,
    /// Copies of interactive data that were sent, and the server's that came before what they are
    /// copies of.
    pub copies_sent: u64,
    /// See `copies_sent`.
    pub copies_used: u64,
    /// Transports that do not get through, and since when.
    pub failing: Vec<WayStatus>,
    /// Why the last login failed, if there has been none since that did not.
    pub last_error: Option<EventStatus>,
    /// What happened last, the newest last.
    pub events: Vec<EventStatus>,
}

/// A way to the server on which no carrier comes about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WayStatus {
    /// `quic`, `tcp`, ...
    pub transport: String,
    /// In a few words, of the last attempt.
    pub error: String,
    /// When it failed first, in milliseconds since 1970.
    pub since_ms: u64,
    /// When it failed last.
    pub at_ms: u64,
}

/// One carrier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarrierStatus {
    /// Its number.
    pub id: u64,
    /// `quic`, `tcp`, ...
    pub transport: String,
    /// The server's address.
    pub address: String,
    /// Whether the session goes over it.
    pub in_use: bool,
    /// `in use`, `standby`, `joining` the session, or `silent`.
    pub state: String,
    /// When it was opened, in milliseconds since 1970.
    pub since_ms: u64,
    /// Smoothed round-trip time in milliseconds.
    pub srtt_ms: f64,
    /// Share of heartbeats that were lost or late, in percent.
    pub heartbeat_loss_pct: f64,
    /// Share of packets that were lost, in percent, where the transport counts them.
    pub packet_loss_pct: Option<f64>,
    /// Bytes a second that the server has acknowledged of late.
    pub rate: u64,
    /// What decides here how fast TCP sends: `bbr`, `auto` (the system's default until packets are
    /// lost that no full queue dropped), or `system`. Not there on other transports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_control: Option<String>,
}

/// Something that was decided, or happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventStatus {
    /// In milliseconds since 1970.
    pub at_ms: u64,
    /// In a word: `switched`, `dead`, ...
    pub kind: String,
    /// With its numbers.
    pub text: String,
}

/// Keeps the last events.
#[derive(Debug)]
pub(super) struct Report {
    events: VecDeque<EventStatus>,
    complained_at: Option<Instant>,
    state_since_ms: u64,
    /// By what the way is called.
    failing: BTreeMap<String, WayStatus>,
    last_error: Option<EventStatus>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            complained_at: None,
            state_since_ms: now_ms(),
            failing: BTreeMap::new(),
            last_error: None,
        }
    }
}

/// What to call the ways to the server.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// In the policy's order.
    pub(super) candidates: Vec<String>,
    /// The version of IP tells them apart.
    pub(super) has_both_ips: bool,
}

/// The events that are kept. At the bound the oldest is dropped.
const MAX_EVENTS: usize = 64;

/// Between two warnings about a server that cannot be reached: attempts come twice a second.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

impl Report {
    /// Logs, counts and keeps what the policy tells.
    pub(super) fn notice(&mut self, notice: &Notice, names: &Names) {
        let (kind, text) = describe(notice, names);
        match notice {
            Notice::Switched {
                is_dry_run: true, ..
            } => tracing::info!("dry run, nothing is done: would have {text}"),
            Notice::Switched {
                from, to, cause, ..
            } => {
                tracing::info!("{text}");
                metrics::counter!(
                    "holdfast_switches_total",
                    "from" => from.map_or("none", Transport::name),
                    "to" => to.name(),
                    "cause" => cause.name()
                )
                .increment(1);
            }
            Notice::State { to, .. } => {
                self.state_since_ms = now_ms();
                if matches!(to, State::Holding | State::Refused) {
                    tracing::warn!("{text}");
                } else {
                    tracing::debug!("{text}");
                }
            }
            Notice::Suspect { .. } => tracing::info!("{text}"),
            Notice::Dead { transport, .. } => {
                tracing::info!("{text}");
                metrics::counter!("holdfast_carrier_deaths_total", "transport" => transport.name())
                    .increment(1);
            }
            Notice::DialFailed {
                candidate, failure, ..
            } => {
                tracing::debug!("{text}");
                if let Some(name) = names.candidates.get(*candidate) {
                    self.failed(name, failure_words(*failure));
                }
            }
            _ => tracing::debug!("{text}"),
        }
        if !matches!(notice, Notice::DialFailed { .. }) {
            self.keep(kind, text);
        }
    }

    /// Keeps something that is not the policy's.
    pub(super) fn keep(&mut self, kind: &str, text: String) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(EventStatus {
            at_ms: now_ms(),
            kind: kind.to_owned(),
            text,
        });
    }

    /// A login has failed while there is no session.
    pub(super) fn login_failed(&mut self, now: Instant, error: &dyn fmt::Display) {
        self.last_error = Some(EventStatus {
            at_ms: now_ms(),
            kind: "login".to_owned(),
            text: error.to_string(),
        });
        let is_due = self
            .complained_at
            .is_none_or(|at| now.saturating_duration_since(at) >= COMPLAIN_EVERY);
        if is_due {
            self.complained_at = Some(now);
            tracing::warn!("connect to server error: {error}");
        } else {
            tracing::debug!("connect to server error: {error}");
        }
    }

    /// There is a session again: the next failure is worth a warning.
    pub(super) fn logged_in(&mut self) {
        self.complained_at = None;
        self.last_error = None;
    }

    fn failed(&mut self, transport: &str, error: &str) {
        let at_ms = now_ms();
        let way = self.failing.entry(transport.to_owned());
        let way = way.or_insert_with(|| WayStatus {
            transport: transport.to_owned(),
            since_ms: at_ms,
            ..WayStatus::default()
        });
        error.clone_into(&mut way.error);
        way.at_ms = at_ms;
    }

    /// A carrier of this transport has come about.
    pub(super) fn reached(&mut self, transport: Transport) {
        self.failing
            .retain(|name, _| !is_way_of(name, transport.name()));
    }

    /// Puts what is kept here into `status`.
    pub(super) fn fill(&self, status: &mut LinksStatus) {
        status.state_since_ms = self.state_since_ms;
        status.failing = self.failing.values().cloned().collect();
        status.last_error.clone_from(&self.last_error);
        status.events = self.events();
    }

    fn events(&self) -> Vec<EventStatus> {
        self.events.iter().cloned().collect()
    }
}

/// The word for logs, metrics and status.
pub(super) fn state_name(state: State) -> &'static str {
    match state {
        State::Connected => "connected",
        State::Degraded => "degraded",
        State::Switching => "switching",
        State::Holding => "holding",
        State::Reconnecting => "reconnecting",
        State::Refused => "refused",
    }
}

/// A carrier as its watch knows it.
pub(super) fn carrier_status(
    id: u64,
    transport: Transport,
    address: String,
    in_use: bool,
    report: &PathReport,
) -> CarrierStatus {
    let silence = report.inbound_silence.max(report.outbound_silence);
    let state = match (silence >= SILENCE, in_use) {
        (true, _) => "silent",
        (false, true) => "in use",
        (false, false) => "standby",
    };
    CarrierStatus {
        state: state.to_owned(),
        since_ms: 0,
        id,
        transport: transport.name().to_owned(),
        address,
        in_use,
        srtt_ms: millis(report.srtt),
        heartbeat_loss_pct: percent(report.heartbeats.share()),
        packet_loss_pct: report.packets.map(|packets| percent(packets.share())),
        rate: report.delivered_rate,
        tcp_control: None,
    }
}

/// What [`CarrierStatus::tcp_control`] says of a carrier over TCP.
pub(super) fn tcp_control(stats: &PathStats) -> &'static str {
    match (stats.is_bbr, stats.adapts_to_loss) {
        (true, _) => "bbr",
        (false, true) => "auto",
        (false, false) => "system",
    }
}

/// A carrier that has said nothing for so long, though it should have, is called silent.
const SILENCE: Duration = Duration::from_secs(1);

/// Whether the way that is called `name` is one of this transport: it may say over which version of
/// IP it goes.
pub(crate) fn is_way_of(name: &str, transport: &str) -> bool {
    name.split(' ').next() == Some(transport)
}

/// What came of an attempt.
fn failure_words(failure: DialFailure) -> &'static str {
    match failure {
        DialFailure::Resolve => "the server's name is not resolved",
        DialFailure::Timeout => "no answer",
        DialFailure::Refused => "refused: nobody listens there, or a firewall rejects it",
        DialFailure::Unreachable => "no route there",
        DialFailure::Handshake => "the handshake fails",
        DialFailure::Login => "the login is refused",
    }
}

fn describe(notice: &Notice, names: &Names) -> (&'static str, String) {
    match notice {
        Notice::State { from, to } => {
            let (from, to) = (state_name(*from), state_name(*to));
            ("state", format!("state {from} -> {to}"))
        }
        Notice::Suspect {
            carrier,
            direction,
            silence,
        } => (
            "suspect",
            format!(
                "{carrier} is silent ({direction:?}) for {:.0} ms",
                millis(*silence)
            ),
        ),
        Notice::Revived { carrier } => ("revived", format!("{carrier} lives")),
        Notice::Dead {
            carrier,
            transport,
            cause,
        } => (
            "dead",
            format!("{carrier} ({transport}) is dead: {cause:?}"),
        ),
        Notice::Questioned {
            carrier,
            heartbeat_loss,
            stall,
        } => (
            "questioned",
            format!(
                "{carrier} is compared: {:.1} % of heartbeats lost, stall {:.0} ms",
                percent(*heartbeat_loss),
                millis(*stall)
            ),
        ),
        Notice::Stayed {
            from,
            to,
            is_barred,
        } => {
            let why = match is_barred {
                true => "better, and too soon to switch again",
                false => "not better",
            };
            ("stayed", format!("the other is {why}: {}", pair(from, to)))
        }
        Notice::Switched {
            from,
            to,
            is_ipv6,
            cause,
            numbers,
            ..
        } => {
            let cause = cause.name();
            let to = match (names.has_both_ips, is_ipv6) {
                (false, _) => to.to_string(),
                (true, true) => format!("{to}{}", over(Addresses::V6)),
                (true, false) => format!("{to}{}", over(Addresses::V4)),
            };
            let mut text = match from {
                Some(from) => format!("switched from {from} to {to}: {cause}"),
                None => format!("use {to}: {cause}"),
            };
            if let Some((from, to)) = numbers {
                text = format!("{text}; {}", pair(from, to));
            }
            ("switched", text)
        }
        Notice::DialFailed {
            candidate,
            failure,
            retry_in,
        } => {
            let name = names.candidates.get(*candidate).map_or("?", String::as_str);
            let retry = retry_in.map_or_else(String::new, |wait| {
                format!(", next in {:.0} s", wait.as_secs_f64())
            });
            (
                "dial_failed",
                format!("{name} cannot be reached: {failure:?}{retry}"),
            )
        }
    }
}

fn pair(from: &Measured, to: &Measured) -> String {
    format!("{} against {}", measured(from), measured(to))
}

fn measured(numbers: &Measured) -> String {
    format!(
        "heartbeats lost {:.1} %, packets {:.1} %, srtt {:.0} ms, stall {:.0} ms, bulk {:.1} Mbit/s",
        percent(numbers.heartbeat_loss),
        percent(numbers.packet_loss),
        millis(numbers.srtt),
        millis(numbers.stall),
        numbers.bulk_rate * 8.0 / 1e6
    )
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn percent(share: f64) -> f64 {
    share * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use frp_core::proto::policy::{Cause, DeathCause};

    #[test]
    fn a_switch_is_told_with_its_cause_and_numbers_and_the_oldest_events_go() {
        let mut report = Report::default();
        for _ in 0..MAX_EVENTS {
            report.keep("old", String::new());
        }
        let numbers = Measured {
            packet_loss: 0.1,
            srtt: Duration::from_millis(50),
            ..Measured::default()
        };
        report.notice(
            &Notice::Switched {
                from: Some(Transport::Tcp),
                to: Transport::Quic,
                is_ipv6: false,
                cause: Cause::Slow,
                numbers: Some((numbers, numbers)),
                is_dry_run: false,
            },
            &Names::default(),
        );
        let events = report.events();
        assert_eq!(events.len(), MAX_EVENTS);
        let last = &events[MAX_EVENTS - 1];
        assert_eq!(last.kind, "switched");
        let begin =
            "switched from tcp to quic: slow; heartbeats lost 0.0 %, packets 10.0 %, srtt 50";
        assert!(last.text.starts_with(begin), "{}", last.text);
        let died = Notice::Switched {
            from: None,
            to: Transport::Quic,
            is_ipv6: true,
            cause: Cause::Died(DeathCause::Closed),
            numbers: None,
            is_dry_run: false,
        };
        assert_eq!(describe(&died, &Names::default()).1, "use quic: closed");
        let both = Names {
            has_both_ips: true,
            ..Names::default()
        };
        assert_eq!(describe(&died, &both).1, "use quic over IPv6: closed");
    }
}
