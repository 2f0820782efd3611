//! Sessions and their carriers, as both programs show them.

use std::collections::BTreeMap;

use frp_proto::path::{PathReport, Tally};
use transports::TransportKind;

use super::exposition::{Exposition, Family};
use super::kind::Kind;
use crate::hold::{CarrierNumbers, HoldStats, TransportNumbers};

/// What is shown of one session.
#[derive(Clone, Debug)]
pub struct SessionNumbers {
    /// The client's label; a client has only one server and no label for itself.
    pub client: Option<String>,
    /// One of the states that were given for all.
    pub state: &'static str,
    /// Streams that users are on.
    pub n_users: usize,
    /// What is held, if streams are.
    pub held: Option<HoldStats>,
    /// The carriers.
    pub paths: BTreeMap<TransportKind, TransportNumbers>,
}

/// Writes the families of sessions and of carriers. `states` are those that a session can be in.
pub fn write(out: &mut Exposition, states: &[&'static str], sessions: &[SessionNumbers]) {
    write_states(out, states, sessions);
    write_held(out, sessions);
    let paths: Vec<_> = sessions
        .iter()
        .flat_map(|session| {
            let paths = session.paths.iter();
            paths.map(|(kind, numbers)| Path {
                client: session.client.as_deref(),
                transport: kind.name(),
                numbers,
            })
        })
        .collect();
    write_live(out, &paths);
    write_delays(out, &paths);
    write_totals(out, &paths);
}

/// The carriers of one transport, with their labels.
struct Path<'a> {
    client: Option<&'a str>,
    transport: &'static str,
    numbers: &'a TransportNumbers,
}

/// Up to three labels, the client's first where there is one.
fn with_client<'a>(
    client: Option<&'a str>,
    rest: &[(&'static str, &'a str)],
) -> Vec<(&'static str, &'a str)> {
    let client = client.map(|client| ("client", client));
    client.into_iter().chain(rest.iter().copied()).collect()
}

fn write_states(out: &mut Exposition, states: &[&'static str], sessions: &[SessionNumbers]) {
    let mut family = out.family(
        "holdfast_session_state",
        Kind::Gauge,
        "1 for the state that the session is in, 0 for the others.",
    );
    for session in sessions {
        for state in states {
            let labels = with_client(session.client.as_deref(), &[("state", state)]);
            let is_it = session.state == *state;
            family.add(&labels, f64::from(u8::from(is_it)));
        }
    }
}

fn write_held(out: &mut Exposition, sessions: &[SessionNumbers]) {
    let mut family = out.family(
        "holdfast_session_users",
        Kind::Gauge,
        "Held streams that users are on.",
    );
    for session in sessions {
        let labels = with_client(session.client.as_deref(), &[]);
        family.add_count(&labels, session.n_users as u64);
    }
    drop(family);
    type Get = fn(&HoldStats) -> u64;
    let families: [(&'static str, Kind, &'static str, Get); 7] = [
        (
            "holdfast_session_streams",
            Kind::Gauge,
            "Held streams, the control stream and those that wait for users included.",
            |stats| stats.n_streams as u64,
        ),
        (
            "holdfast_session_kept_bytes",
            Kind::Gauge,
            "Bytes kept for repetition, and received bytes that were not read yet.",
            |stats| stats.kept_bytes,
        ),
        (
            "holdfast_session_replayed_bytes_total",
            Kind::Counter,
            "Bytes that were sent again over another carrier.",
            |stats| stats.replayed_bytes,
        ),
        (
            "holdfast_session_moved_streams_total",
            Kind::Counter,
            "How often a stream moved to another carrier.",
            |stats| stats.n_moved,
        ),
        (
            "holdfast_session_refused_total",
            Kind::Counter,
            "Frames, routes and attachments of the peer's that were refused.",
            |stats| stats.n_refused,
        ),
        (
            "holdfast_session_copies_sent_total",
            Kind::Counter,
            "Copies of interactive data that were sent to the peer.",
            |stats| stats.n_copies_sent,
        ),
        (
            "holdfast_session_copies_used_total",
            Kind::Counter,
            "Copies of the peer's that came before what they are copies of.",
            |stats| stats.n_copies_used,
        ),
    ];
    for (name, kind, help, get) in families {
        let mut family = out.family(name, kind, help);
        for session in sessions {
            if let Some(stats) = &session.held {
                let labels = with_client(session.client.as_deref(), &[]);
                family.add_count(&labels, get(stats));
            }
        }
    }
}

/// How many carriers there are, and what the one that counts has under way.
fn write_live(out: &mut Exposition, paths: &[Path<'_>]) {
    type Get = fn(&TransportNumbers) -> Option<u64>;
    let families: [(&'static str, &'static str, Get); 7] = [
        ("holdfast_carriers", "Carriers that are open.", |numbers| {
            Some(numbers.live.len() as u64)
        }),
        (
            "holdfast_carrier_in_use",
            "Whether the session goes over a carrier of this transport.",
            |numbers| Some(u64::from(numbers.live.first()?.is_in_use)),
        ),
        (
            "holdfast_carrier_streams",
            "Streams that are open on carriers of this transport.",
            |numbers| {
                let live = numbers.live.iter();
                let sum = live.map(|carrier| carrier.stats.n_streams as u64).sum();
                (!numbers.live.is_empty()).then_some(sum)
            },
        ),
        (
            "holdfast_carrier_delivered_bytes_per_second",
            "What the peer has acknowledged over the last second.",
            |numbers| Some(path(numbers)?.delivered_rate),
        ),
        (
            "holdfast_carrier_window_bytes",
            "What congestion control lets be under way.",
            |numbers| numbers.live.first()?.stats.window,
        ),
        (
            "holdfast_carrier_in_flight_bytes",
            "What is under way.",
            |numbers| numbers.live.first()?.stats.in_flight,
        ),
        (
            "holdfast_carrier_queue_bytes",
            "What waits in streams for being sent and acknowledged.",
            |numbers| {
                let queues = path(numbers)?.queues;
                Some(queues.interactive.saturating_add(queues.bulk))
            },
        ),
    ];
    for (name, help, get) in families {
        let mut family = out.family(name, Kind::Gauge, help);
        for path in paths {
            if let Some(value) = get(path.numbers) {
                family.add_count(&path.labels(&[]), value);
            }
        }
    }
}

/// Times, of the carrier that counts.
fn write_delays(out: &mut Exposition, paths: &[Path<'_>]) {
    type Get = fn(&CarrierNumbers) -> Option<f64>;
    let families: [(&'static str, &'static str, Get); 5] = [
        (
            "holdfast_carrier_rtt_seconds",
            "Smoothed round-trip time.",
            |carrier| {
                let probed = carrier.path.map(|path| path.srtt);
                let probed = probed.filter(|srtt| !srtt.is_zero());
                probed.or(carrier.stats.rtt).map(|rtt| rtt.as_secs_f64())
            },
        ),
        (
            "holdfast_carrier_min_rtt_seconds",
            "Shortest round-trip time of late.",
            |carrier| {
                let rtt = carrier.path?.min_rtt;
                (!rtt.is_zero()).then_some(rtt.as_secs_f64())
            },
        ),
        (
            "holdfast_carrier_rtt_variation_seconds",
            "Smoothed variation of the round-trip time.",
            |carrier| Some(carrier.path?.rttvar.as_secs_f64()),
        ),
        (
            "holdfast_carrier_queue_delay_seconds",
            "How long the last byte that waits will take to be sent.",
            |carrier| Some(carrier.path?.queues.delay.as_secs_f64()),
        ),
        (
            "holdfast_carrier_stall_seconds",
            "Longest time of the last seconds in which data waited and none was acknowledged.",
            |carrier| Some(carrier.path?.stall.as_secs_f64()),
        ),
    ];
    for (name, help, get) in families {
        let mut family = out.family(name, Kind::Gauge, help).highest();
        for path in paths {
            let value = path.numbers.live.first().and_then(get);
            if let Some(value) = value {
                family.add(&path.labels(&[]), value);
            }
        }
    }
    let mut family = out
        .family(
            "holdfast_carrier_silence_seconds",
            Kind::Gauge,
            "For how long nothing has come (in), or nothing that was sent was answered (out), though \
             it should have.",
        )
        .highest();
    for carrier in paths {
        if let Some(report) = path(carrier.numbers) {
            let silences = [
                ("in", report.inbound_silence),
                ("out", report.outbound_silence),
            ];
            for (direction, silence) in silences {
                let labels = carrier.labels(&[("direction", direction)]);
                family.add(&labels, silence.as_secs_f64());
            }
        }
    }
}

/// What only grows, for as long as the session lives.
fn write_totals(out: &mut Exposition, paths: &[Path<'_>]) {
    type Get = fn(&TransportNumbers) -> Option<u64>;
    let families: [(&'static str, &'static str, Get); 6] = [
        (
            "holdfast_carrier_heartbeats_total",
            "Heartbeats of which it is known what became of them.",
            |numbers| Some(numbers.totals.heartbeats.total),
        ),
        (
            "holdfast_carrier_heartbeats_lost_total",
            "Heartbeats whose answer was late or never came.",
            |numbers| Some(numbers.totals.heartbeats.lost),
        ),
        (
            "holdfast_carrier_packets_total",
            "Data packets sent, those sent again included.",
            |numbers| Some(numbers.totals.packets?.total),
        ),
        (
            "holdfast_carrier_packets_lost_total",
            "Data packets taken for lost, and sent again.",
            |numbers| Some(numbers.totals.packets?.lost),
        ),
        (
            "holdfast_carrier_redundant_packets_total",
            "Packets sent before it was known whether they were needed.",
            |numbers| numbers.totals.redundant_sent,
        ),
        (
            "holdfast_carrier_recovered_packets_total",
            "Packets that were lost on their way here and made again from others.",
            |numbers| numbers.totals.redundant_used,
        ),
    ];
    for (name, help, get) in families {
        let mut family = out.family(name, Kind::Counter, help);
        for path in paths {
            if let Some(value) = get(path.numbers) {
                family.add_count(&path.labels(&[]), value);
            }
        }
    }
    let mut family = out.family(
        "holdfast_carrier_bytes_total",
        Kind::Counter,
        "Bytes of streams over carriers, by direction as seen from this program.",
    );
    for path in paths {
        let totals = &path.numbers.totals;
        for (direction, value) in [("in", totals.bytes_received), ("out", totals.bytes_sent)] {
            family.add_count(&path.labels(&[("direction", direction)]), value);
        }
    }
    drop(family);
    let get: fn(&Tally) -> u64 = |tally| tally.total;
    let get_lost: fn(&Tally) -> u64 = |tally| tally.lost;
    for (name, help, get) in [
        (
            "holdfast_carrier_probes_total",
            "Probes of any kind by direction as seen from this program.",
            get,
        ),
        (
            "holdfast_carrier_probes_lost_total",
            "Probes that did not arrive, by direction: the loss of each way by itself.",
            get_lost,
        ),
    ] {
        let mut family = out.family(name, Kind::Counter, help);
        for path in paths {
            add_both(&mut family, path, get);
        }
    }
}

fn add_both(family: &mut Family<'_>, path: &Path<'_>, get: fn(&Tally) -> u64) {
    let totals = &path.numbers.totals;
    for (direction, tally) in [("in", &totals.inbound), ("out", &totals.outbound)] {
        family.add_count(&path.labels(&[("direction", direction)]), get(tally));
    }
}

impl<'a> Path<'a> {
    /// `first` comes between the client and the transport in the alphabet.
    fn labels(&self, first: &[(&'static str, &'a str)]) -> Vec<(&'static str, &'a str)> {
        let mut labels = with_client(self.client, first);
        labels.push(("transport", self.transport));
        labels
    }
}

/// What probes say of the carrier that counts: the one in use, or else the youngest.
fn path(numbers: &TransportNumbers) -> Option<&PathReport> {
    numbers.live.first()?.path.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::Totals;

    #[test]
    fn a_transport_without_a_carrier_keeps_its_counts_and_shows_nothing_else() {
        let totals = Totals {
            heartbeats: Tally { total: 9, lost: 3 },
            ..Totals::default()
        };
        let gone = TransportNumbers {
            live: Vec::new(),
            totals,
        };
        let session = SessionNumbers {
            client: Some("alice.\"home".to_owned()),
            state: "holding",
            n_users: 2,
            held: None,
            paths: [(TransportKind::Quic, gone)].into(),
        };
        let mut out = Exposition::default();
        write(&mut out, &["connected", "holding"], &[session]);
        let text = out.into_text();
        for line in [
            "holdfast_session_state{client=\"alice.\\\"home\",state=\"connected\"} 0",
            "holdfast_session_state{client=\"alice.\\\"home\",state=\"holding\"} 1",
            "holdfast_carriers{client=\"alice.\\\"home\",transport=\"quic\"} 0",
            "holdfast_carrier_heartbeats_lost_total{client=\"alice.\\\"home\",transport=\"quic\"} 3",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("holdfast_carrier_rtt_seconds{"));
    }
}
