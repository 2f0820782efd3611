//! The events that are counted where they happen.

use super::kind::{Kind, put_head};

/// A metric that is fed by the crate `metrics`.
#[derive(Debug)]
pub struct Event {
    /// As in the code that counts it.
    pub name: &'static str,
    /// Counter or histogram.
    pub kind: Kind,
    /// What it means, in a sentence.
    pub help: &'static str,
    at: At,
    /// Series that begin at 0: the first event shows as an increase only then. Each is its labels
    /// with their values.
    begins: &'static [&'static [(&'static str, &'static str)]],
}

/// Which program answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The server.
    Frps,
    /// The client.
    Frpc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Frps,
    Frpc,
    Both,
}

impl Event {
    /// Whether this program can count it.
    pub fn is_of(&self, program: Program) -> bool {
        match self.at {
            At::Both => true,
            At::Frps => program == Program::Frps,
            At::Frpc => program == Program::Frpc,
        }
    }

    const fn counter(at: At, name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Counter,
            help,
            at,
            begins: &[],
        }
    }

    const fn histogram(
        at: At,
        name: &'static str,
        help: &'static str,
        bounds: &'static [f64],
    ) -> Self {
        Self {
            name,
            kind: Kind::Histogram(bounds),
            help,
            at,
            begins: &[],
        }
    }

    const fn begins(mut self, series: &'static [&'static [(&'static str, &'static str)]]) -> Self {
        self.begins = series;
        self
    }
}

/// Tells the recorder what the events mean, and begins those series that are known beforehand.
pub(super) fn start(program: Program) {
    for event in EVENTS.iter().filter(|event| event.is_of(program)) {
        match event.kind {
            Kind::Counter => metrics::describe_counter!(event.name, event.help),
            Kind::Gauge => metrics::describe_gauge!(event.name, event.help),
            Kind::Histogram(_) => metrics::describe_histogram!(event.name, event.help),
        }
        for labels in event.begins {
            metrics::counter!(event.name, &labels.to_vec()).increment(0);
        }
    }
}

/// Adds `rendered`, and names the events of which nothing has been counted yet: so it can be seen
/// what there is.
pub(super) fn describe(program: Program, rendered: &str, text: &mut String) {
    text.push_str(rendered);
    for event in EVENTS.iter().filter(|event| event.is_of(program)) {
        let head = format!("# TYPE {} ", event.name);
        if !rendered.contains(&head) {
            put_head(text, event.name, event.kind, event.help);
        }
    }
}

/// Without labels.
const PLAIN: &[&[(&str, &str)]] = &[&[]];

/// From a millisecond, for what happens on one machine, to the longest that somebody waits.
const WAITS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Round trips: a rack to a satellite with a full queue.
const ROUND_TRIPS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0,
    5.0,
];

/// Outages: shorter than users notice, to beyond the grace time.
const OUTAGES: &[f64] = &[
    0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0,
];

/// All of them.
pub static EVENTS: &[Event] = &[
    Event::counter(
        At::Both,
        "holdfast_rejected_total",
        "What was refused of peers and strangers, by cause.",
    )
    .begins(&[
        &[("cause", "half-open waiting")],
        &[("cause", "no file descriptors")],
        &[("cause", "too many work conns")],
    ]),
    Event::counter(
        At::Both,
        "holdfast_task_panics_total",
        "Tasks that have panicked: a mistake of this program, each costs a connection.",
    )
    .begins(PLAIN),
    Event::counter(
        At::Both,
        "holdfast_accept_errors_total",
        "Connections that could not be accepted, by listener.",
    ),
    Event::counter(
        At::Both,
        "holdfast_switches_total",
        "Changes of the carrier in use.",
    ),
    Event::counter(
        At::Both,
        "holdfast_stalls_total",
        "How often data began to wait for half a second without an acknowledgement.",
    ),
    Event::histogram(
        At::Both,
        "holdfast_silence_seconds",
        "How long nothing came over carriers, until they came back to life; from a second on.",
        OUTAGES,
    ),
    Event::histogram(
        At::Both,
        "holdfast_heartbeat_rtt_seconds",
        "Smoothed round-trip times of carriers, as heartbeats come back.",
        ROUND_TRIPS,
    ),
    Event::counter(
        At::Both,
        "holdfast_udp_dropped_total",
        "Datagrams of udp proxies that were dropped, by cause.",
    ),
    Event::counter(
        At::Both,
        "holdfast_udp_sent_total",
        "Datagrams of udp proxies that were sent to the peer, by what they went over.",
    ),
    Event::counter(
        At::Both,
        "holdfast_copies_sent_total",
        "Copies of interactive data that were sent, before it was known whether they were needed.",
    )
    .begins(PLAIN),
    Event::counter(
        At::Both,
        "holdfast_copies_used_total",
        "Copies of interactive data that came before what they are copies of.",
    )
    .begins(PLAIN),
    Event::counter(
        At::Both,
        "holdfast_kcp_datagrams_refused_total",
        "Datagrams on a KCP port that were no part of a session.",
    )
    .begins(PLAIN),
    Event::counter(
        At::Frps,
        "holdfast_quic_retries_total",
        "Strangers over QUIC that had to prove their address first.",
    )
    .begins(PLAIN),
    Event::counter(
        At::Frps,
        "holdfast_udp_port_dropped_total",
        "Datagrams that found the queue of the shared UDP port full.",
    )
    .begins(PLAIN),
    Event::counter(
        At::Frps,
        "holdfast_logins_total",
        "Logins by what came of them: ok, or why they were refused.",
    )
    .begins(&[
        &[("result", "ok")],
        &[("result", "login token")],
        &[("result", "login client id")],
        &[("result", "login run id")],
        &[("result", "login duel")],
        &[("result", "login repeated")],
    ]),
    Event::counter(
        At::Frps,
        "holdfast_joins_total",
        "Carriers that wanted to join a session, by what came of it.",
    ),
    Event::counter(
        At::Frps,
        "holdfast_outages_total",
        "How often a client was without any carrier.",
    )
    .begins(PLAIN),
    Event::histogram(
        At::Frps,
        "holdfast_outage_seconds",
        "How long clients were without any carrier and came back.",
        OUTAGES,
    ),
    Event::histogram(
        At::Frps,
        "holdfast_work_stream_wait_seconds",
        "How long users waited for a stream to the client.",
        WAITS,
    ),
    Event::counter(
        At::Frps,
        "holdfast_user_conns_failed_total",
        "Users that could not be connected to the client, by cause.",
    )
    .begins(&[
        &[("cause", "timeout")],
        &[("cause", "session ended")],
        &[("cause", "client away")],
        &[("cause", "too many waiting")],
        &[("cause", "work stream broken")],
    ]),
    Event::counter(
        At::Frpc,
        "holdfast_login_attempts_total",
        "Logins at the server by transport and by what came of them.",
    ),
    Event::histogram(
        At::Frpc,
        "holdfast_login_seconds",
        "How long logins took, from the first message to the answer.",
        WAITS,
    ),
    Event::counter(
        At::Frpc,
        "holdfast_carrier_deaths_total",
        "Carriers that were taken for dead, by transport.",
    ),
    Event::histogram(
        At::Frpc,
        "holdfast_local_dial_seconds",
        "How long local services took to accept.",
        WAITS,
    ),
    Event::counter(
        At::Frpc,
        "holdfast_local_failures_total",
        "Users that the local service did not take, by cause.",
    )
    .begins(&[
        &[("cause", "refused")],
        &[("cause", "timeout")],
        &[("cause", "error")],
        &[("cause", "header")],
    ]),
    Event::counter(
        At::Frpc,
        "holdfast_udp_evicted_total",
        "Users of udp proxies that were forgotten for newer ones.",
    )
    .begins(PLAIN),
    Event::counter(
        At::Frpc,
        "holdfast_config_rollbacks_total",
        "How often a configuration was taken back, by what found that it does not work.",
    )
    .begins(&[
        &[("cause", "reload")],
        &[("cause", "start")],
        &[("cause", "watch")],
        &[("cause", "hand")],
    ]),
    Event::counter(
        At::Frpc,
        "holdfast_config_history_failures_total",
        "Versions of the configuration that could not be written or read.",
    )
    .begins(PLAIN),
    Event::counter(
        At::Frpc,
        "holdfast_recovery_steps_total",
        "What was done about trouble, by step.",
    )
    .begins(&[
        &[("step", "reprobe")],
        &[("step", "switch")],
        &[("step", "login")],
        &[("step", "restart")],
        &[("step", "rollback")],
    ]),
    Event::counter(
        At::Frpc,
        "holdfast_alerts_total",
        "Messages to webhooks and commands, by what became of them.",
    )
    .begins(&[
        &[("type", "webhook"), ("result", "sent")],
        &[("type", "webhook"), ("result", "failed")],
        &[("type", "webhook"), ("result", "dropped")],
        &[("type", "command"), ("result", "sent")],
        &[("type", "command"), ("result", "failed")],
        &[("type", "command"), ("result", "dropped")],
    ]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_differ_and_say_their_unit() {
        let mut names: Vec<_> = EVENTS.iter().map(|event| event.name).collect();
        for event in EVENTS {
            assert!(event.name.starts_with("holdfast_"), "{}", event.name);
            let unit = match event.kind {
                Kind::Counter => "_total",
                Kind::Gauge => "",
                Kind::Histogram(_) => "_seconds",
            };
            assert!(event.name.ends_with(unit), "{}", event.name);
            assert!(event.help.ends_with('.') && !event.help.contains(['\n', '\\']));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), EVENTS.len());
    }

    #[test]
    fn what_was_not_counted_is_named_once() {
        let rendered = "# TYPE holdfast_stalls_total counter\nholdfast_stalls_total 1\n";
        let mut text = String::new();
        describe(Program::Frpc, rendered, &mut text);
        let times = |name: &str| text.matches(&format!("# TYPE {name} ")).count();
        assert_eq!(times("holdfast_stalls_total"), 1);
        assert_eq!(times("holdfast_local_failures_total"), 1);
        assert_eq!(times("holdfast_joins_total"), 0, "the server's");
    }
}
