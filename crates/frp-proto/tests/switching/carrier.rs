//! A simulated carrier: two probers and what lies between them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use frp_proto::path::{
    Counters, Pace, Probe, Prober, ProberConfig, Queues, Random, Role, Tally, TcpControl,
};
use frp_proto::policy::{Family, Transport};

use crate::link::{Link, Way};

pub(crate) struct SimCarrier {
    pub(crate) transport: Transport,
    /// The client's address when it was opened.
    pub(crate) address: u32,
    /// Client and server, once logged in.
    pub(crate) ends: Option<[Prober; 2]>,
    /// What each direction of a reliable carrier has under way.
    pub(crate) pipes: [Pipe; 2],
    pub(crate) acked: u64,
    pub(crate) packets: Tally,
}

/// What waits while there is bulk.
const BACKLOG: u64 = 1_000_000;

/// Messages in order over a path that loses: what TCP makes of it.
#[derive(Default)]
pub(crate) struct Pipe {
    next_number: u64,
    next_delivered: u64,
    arrived: BTreeMap<u64, Probe>,
    pub(crate) waiting: BTreeMap<u64, (Probe, u32)>,
    hurried: u64,
}

impl SimCarrier {
    pub(crate) fn new(transport: Transport, address: u32) -> Self {
        Self {
            transport,
            address,
            ends: None,
            pipes: [Pipe::default(), Pipe::default()],
            acked: 0,
            packets: Tally::default(),
        }
    }

    pub(crate) fn family(&self) -> Family {
        self.transport.family()
    }

    /// Whether probes wait for what was lost before them.
    pub(crate) fn is_ordered(&self) -> bool {
        self.transport != Transport::Quic
    }

    pub(crate) fn log_in(&mut self, now: Instant, seed: u64) {
        let config = ProberConfig::default;
        self.ends = Some([
            Prober::new(config(), Role::Asking, Pace::Standby, seed, now),
            Prober::new(config(), Role::Answering, Pace::Standby, seed ^ 1, now),
        ]);
    }

    /// Moves data from the client to the server for `time`. Returns how many bytes arrive.
    pub(crate) fn transfer(&mut self, link: &Link, wanted: f64, time: Duration, unit: f64) -> u64 {
        let family = self.family();
        let ways = [Way::ToServer, Way::ToClient];
        let is_cut = ways
            .iter()
            .any(|way| link.is_cut(family, *way, self.address));
        let is_stuck = self.pipes.iter().any(|pipe| pipe.is_stuck());
        let loss = link.mean_loss(family);
        let mut rate = (link.rate * (1.0 - loss)).min(wanted);
        let mut seen_loss = loss;
        match family {
            Family::Udp => {
                if let Some(max) = link.udp_rate_max {
                    seen_loss = 1.0 - (1.0 - loss) * (max / rate).min(1.0);
                    rate = rate.min(max);
                }
            }
            // As the lab has it; its filter takes what is above for a slower link, again and again.
            Family::Tcp if link.tcp == TcpControl::Bbr => {
                rate *= if loss > 0.2 { 0.02 } else { 1.0 - 3.0 * loss };
            }
            // Mathis, and it varies.
            Family::Tcp if loss > 0.0 => {
                let mathis = 1.22 * 1448.0 / (link.rtt().as_secs_f64() * loss.sqrt());
                rate = rate.min(mathis * (0.5 + unit));
            }
            Family::Tcp => {}
        }
        let arrived = if is_cut || is_stuck {
            0.0
        } else {
            rate * time.as_secs_f64()
        };
        let sent_packets = (arrived / 1448.0 / (1.0 - seen_loss).max(0.05)).round();
        self.packets.total += sent_packets as u64;
        self.packets.lost += (sent_packets * seen_loss).round() as u64;
        self.acked += arrived as u64;
        arrived as u64
    }

    /// A burst of padding. Returns the rate at which it arrives.
    pub(crate) fn burst(&mut self, bytes: u64, link: &Link, random: &mut Random) -> f64 {
        let family = self.family();
        let loss = link.mean_loss(family);
        let rate = link.rate * (1.0 - loss);
        let rtt = link.rtt().as_secs_f64();
        let unit = random.unit();
        let n_packets = bytes / 1448;
        // What has rested begins slowly: four round trips for 256 KiB over TCP, two over UDP.
        let n_initial = if family == Family::Udp { 32.0 } else { 10.0 };
        let mut n_rounds = (n_packets as f64 / n_initial + 1.0).log2().ceil() - 1.0;
        if family == Family::Udp {
            // And ends with its repairs.
            if loss > 0.0 {
                n_rounds += (n_packets as f64).ln() / -loss.ln();
            }
            let by_rounds = bytes as f64 / (n_rounds.max(1.0) * rtt) * (0.9 + 0.2 * unit);
            return rate.min(link.udp_rate_max.unwrap_or(rate)).min(by_rounds);
        }
        let n_lost = (0..n_packets).filter(|_| random.unit() < loss);
        let n_lost = n_lost.count() as u64;
        self.packets.total += n_packets;
        self.packets.lost += n_lost;
        let slow_start = bytes as f64 / (n_rounds.max(1.0) * rtt);
        let mathis = 1.22 * 1448.0 / (rtt * loss.sqrt());
        rate.min(slow_start * (0.55 + 0.45 * unit))
            .min(mathis * (0.5 + unit))
    }

    /// Tells the client's prober what the transport has counted.
    pub(crate) fn count(&mut self, now: Instant, has_bulk: bool, control: TcpControl) {
        let counters = Counters {
            acked_bytes: self.acked,
            packets: Some(self.packets),
            queues: Queues {
                bulk: if has_bulk { BACKLOG } else { 0 },
                ..Queues::default()
            },
            in_flight: if has_bulk { 64_000 } else { 0 },
            user_bytes: self.acked,
            control,
        };
        let of_server = Counters {
            control,
            ..Counters::default()
        };
        if let Some([client, server]) = &mut self.ends {
            client.handle_counters(now, counters);
            server.handle_counters(now, of_server);
        }
    }
}

impl Pipe {
    /// Takes a message in. Returns its number, to be tried at once.
    pub(crate) fn push(&mut self, probe: Probe) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.insert(number, (probe, 0));
        number
    }

    /// A transmission was lost. Returns how long the sender waits before the next.
    pub(crate) fn lost(
        &mut self,
        number: u64,
        rtt: Duration,
        transport: Transport,
    ) -> Option<Duration> {
        let (_, attempts) = self.waiting.get_mut(&number)?;
        *attempts += 1;
        if transport == Transport::Kcp {
            // Its timer grows by a half of itself, up to two seconds.
            let rto = rtt.mul_f64(1.4);
            return Some((rto + rto / 2 * (*attempts - 1)).min(Duration::from_secs(2)));
        }
        // A tail loss probe first, then the retransmission timer with its back-off.
        let rto = (rtt * 2).max(Duration::from_millis(200));
        Some(match *attempts {
            1 => rtt * 2,
            n => rto * (1 << (n - 2).min(8)),
        })
    }

    /// A transmission has arrived. Returns what can be delivered in order, and the messages that
    /// the receiver's acknowledgements give away as lost.
    pub(crate) fn arrive(&mut self, number: u64) -> (Vec<Probe>, Vec<u64>) {
        let was_stuck = self.is_stuck();
        if let Some((probe, _)) = self.waiting.remove(&number) {
            self.arrived.insert(number, probe);
        }
        let mut delivered = Vec::new();
        while let Some(probe) = self.arrived.remove(&self.next_delivered) {
            delivered.push(probe);
            self.next_delivered += 1;
        }
        let head = self.next_delivered;
        if was_stuck && !delivered.is_empty() {
            // The timer has found the path alive: all that was lost meanwhile follows.
            let mut again = Vec::new();
            for (number, (_, attempts)) in &mut self.waiting {
                *attempts = 0;
                again.push(*number);
            }
            return (delivered, again);
        }
        let is_given_away = number >= head + 3 && self.hurried < head + 1;
        if is_given_away {
            self.hurried = head + 1;
        }
        (
            delivered,
            is_given_away.then_some(head).into_iter().collect(),
        )
    }

    /// Whether the head was lost more than once: nothing moves until it is through.
    pub(crate) fn is_stuck(&self) -> bool {
        self.waiting
            .values()
            .next()
            .is_some_and(|(_, attempts)| *attempts > 1)
    }
}
