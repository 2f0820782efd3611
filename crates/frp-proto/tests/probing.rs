//! Two probers at the ends of a path that the test speaks for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use frp_proto::path::{
    Ask, Counters, Direction, Pace, Probe, Prober, ProberConfig, ProberEvent, Role,
};

#[test]
fn an_ask_is_answered_at_once_and_tells_both_ends_their_round_trip() {
    let mut pair = Pair::new();
    pair.run(millis(1000), |_, _| true);
    let report = pair.client.report(pair.now, 7);
    assert_eq!(report.carrier, 7);
    assert_eq!(report.srtt, millis(50));
    assert_eq!((report.heartbeats.total, report.heartbeats.lost), (4, 0));
    let report = pair.server.report(pair.now, 7);
    assert_eq!(report.srtt, millis(50), "the next ask has told the server");
}

#[test]
fn an_echo_that_comes_late_counts_as_lost() {
    let mut pair = Pair::new();
    pair.run(millis(2000), |_, _| true);
    let before = pair.client.report(pair.now, 0).heartbeats;
    pair.delay = millis(400);
    pair.run(millis(2000), |_, _| true);
    let late = pair.client.report(pair.now, 0).heartbeats.since(&before);
    assert!(late.total >= 4 && late.lost >= late.total - 2, "{late:?}");
}

#[test]
fn a_single_late_echo_is_late_even_when_nobody_looked_in_between() {
    let mut pair = Pair::new();
    pair.run(millis(1000), |_, _| true);
    let before = pair.client.report(pair.now, 0).heartbeats;
    let ask = pair.next_ask();
    pair.now += millis(800);
    pair.server.handle_probe(pair.now, &ask);
    let answer = pair.server.poll_transmit(pair.now).unwrap();
    pair.client.handle_probe(pair.now, &answer);
    let judged = pair.client.report(pair.now, 0).heartbeats.since(&before);
    assert_eq!((judged.total, judged.lost), (1, 1));
}

#[test]
fn silence_is_told_once_and_so_is_life() {
    let mut pair = Pair::new();
    pair.run(millis(1000), |_, _| true);
    let cut = pair.now;
    pair.run(millis(3000), |_, _| false);
    assert_eq!(pair.events.len(), 1);
    let (at, event) = pair.events[0];
    assert!(matches!(event, ProberEvent::Silent(_)));
    assert!(at - cut <= millis(1000), "after {:?}", at - cut);
    pair.run(millis(500), |_, _| true);
    assert_eq!(pair.events[1..].len(), 1);
    assert_eq!(pair.events[1].1, ProberEvent::Alive);
}

#[test]
fn acknowledged_data_is_outbound_life_although_every_answer_is_lost() {
    let mut pair = Pair::new();
    pair.run(millis(1000), |_, _| true);
    for acked_bytes in 1..40 {
        let counters = Counters {
            acked_bytes,
            in_flight: 1,
            ..Counters::default()
        };
        pair.client.handle_counters(pair.now, counters);
        pair.client.handle_inbound(pair.now);
        pair.run(millis(100), |_, to_server| to_server);
    }
    assert!(pair.events.is_empty(), "{:?}", pair.events);
}

#[test]
fn a_fault_of_one_direction_is_noticed_although_data_keeps_coming() {
    let mut pair = Pair::new();
    pair.run(millis(1000), |_, _| true);
    for _ in 0..20 {
        pair.client.handle_inbound(pair.now);
        pair.run(millis(100), |_, to_server| !to_server);
    }
    let (_, event) = pair.events[0];
    assert_eq!(event, ProberEvent::Silent(Direction::Outbound));
}

#[test]
fn a_burst_is_twelve_probes_in_half_a_second_and_counts_its_answers() {
    let mut pair = Pair::new();
    pair.run(millis(1000), |_, _| true);
    let start = pair.now;
    pair.client.start_burst(start, 12);
    let mut n_burst = 0;
    pair.run(millis(1000), |probe, to_server| {
        n_burst += u32::from(to_server && probe.ask == Ask::Twice);
        true
    });
    assert_eq!(n_burst, 12);
    let over = pair.events.last().unwrap();
    assert_eq!(over.1, ProberEvent::BurstOver { n_answered: 12 });
    assert!(over.0 - start <= millis(800));
}

#[test]
fn a_user_has_an_idle_carrier_probed_at_once() {
    let mut pair = Pair::new();
    pair.run(Duration::from_secs(700), |_, _| true);
    let now = pair.now;
    assert!(pair.client.poll_timeout(now).unwrap() > now + millis(250));
    pair.client.handle_users(now, 1);
    assert_eq!(pair.client.poll_timeout(now), Some(now));
    assert_eq!(pair.client.poll_transmit(now).unwrap().ask, Ask::Once);
}

#[test]
fn echoes_of_probes_that_were_never_sent_are_counted_and_believed_in_nothing() {
    let mut pair = Pair::new();
    pair.run(millis(1000), |_, _| true);
    let mut lie = pair.next_ask();
    lie.heard = Some(frp_proto::path::Heard {
        last: u32::MAX,
        held: Duration::ZERO,
        missing: 0,
    });
    lie.number = 1000;
    let before = pair.client.report(pair.now, 0);
    pair.client.handle_probe(pair.now, &lie);
    assert_eq!(pair.client.n_invalid(), 1);
    assert_eq!(pair.client.report(pair.now, 0).srtt, before.srtt);
}

struct Pair {
    now: Instant,
    client: Prober,
    server: Prober,
    /// One way.
    delay: Duration,
    /// When, whether to the server, what.
    wire: Vec<(Instant, bool, Probe)>,
    /// Of the client.
    events: Vec<(Instant, ProberEvent)>,
}

impl Pair {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "an origin for simulated time")]
        let now = Instant::now();
        let prober = |role| Prober::new(ProberConfig::default(), role, Pace::InUse, 1, now);
        Self {
            now,
            client: prober(Role::Asking),
            server: prober(Role::Answering),
            delay: millis(25),
            wire: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Lets time pass. `passes` says whether a probe, to the server or not, gets through.
    fn run(&mut self, time: Duration, mut passes: impl FnMut(&Probe, bool) -> bool) {
        let end = self.now + time;
        while self.now < end {
            let now = self.now;
            for (to_server, prober) in [(true, &mut self.client), (false, &mut self.server)] {
                prober.handle_timeout(now);
                while let Some(probe) = prober.poll_transmit(now) {
                    if passes(&probe, to_server) {
                        self.wire.push((now + self.delay, to_server, probe));
                    }
                }
            }
            let (due, rest) = self.wire.drain(..).partition(|(at, ..)| *at <= now);
            self.wire = rest;
            let due: Vec<(Instant, bool, Probe)> = due;
            for (_, to_server, probe) in due {
                let prober = if to_server {
                    &mut self.server
                } else {
                    &mut self.client
                };
                prober.handle_probe(now, &probe);
            }
            while let Some(event) = self.client.poll_event() {
                self.events.push((now, event));
            }
            // Far below every interval, and it divides the delays.
            self.now += millis(5);
        }
    }

    /// The client's next ask, taken off the path.
    fn next_ask(&mut self) -> Probe {
        loop {
            if let Some(probe) = self.client.poll_transmit(self.now) {
                return probe;
            }
            self.now += millis(5);
        }
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
