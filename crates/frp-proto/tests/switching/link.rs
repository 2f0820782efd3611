//! A simulated link: what becomes of one packet.

use std::time::Duration;

use frp_proto::path::{Random, TcpControl};
use frp_proto::policy::Family;

/// A direction of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

/// How packets are lost, the same in both directions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// Each by itself, with this probability.
    Random(f64),
    /// Gilbert-Elliott: a burst begins with the first probability, ends with the second, and loses
    /// everything. The state changes with each packet, whoever's it is.
    Bursts(f64, f64),
}

/// What is dropped, besides what is lost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drops {
    /// UDP to the server, UDP to the client, TCP to the server, TCP to the client.
    pub(crate) ways: [bool; 4],
}

/// Marks the address of a carrier over IPv6.
pub(crate) const IPV6: u32 = 1 << 31;

#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) one_way: Duration,
    pub(crate) jitter: Duration,
    /// Bytes a second.
    pub(crate) rate: f64,
    pub(crate) loss: Loss,
    pub(crate) drops: Drops,
    /// Share of UDP packets that are dropped on top.
    pub(crate) udp_policed: f64,
    /// Bytes a second beyond which UDP packets are dropped.
    pub(crate) udp_rate_max: Option<f64>,
    /// UDP is answered by ICMP.
    pub(crate) udp_rejected: bool,
    /// Changes when the client's address does. Carriers of another address are cut off.
    pub(crate) address: u32,
    /// IPv6 is dropped.
    pub(crate) ipv6_dropped: bool,
    /// What sends over TCP, at both ends.
    pub(crate) tcp: TcpControl,
    random: Random,
    in_burst: [bool; 2],
}

impl Link {
    /// 20 Mbit/s, 50 ms there and back, nothing wrong with it.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            one_way: Duration::from_millis(25),
            jitter: Duration::ZERO,
            rate: 2_500_000.0,
            loss: Loss::Random(0.0),
            drops: Drops::default(),
            udp_policed: 0.0,
            udp_rate_max: None,
            udp_rejected: false,
            address: 0,
            ipv6_dropped: false,
            tcp: TcpControl::LossBased,
            random: Random::new(seed ^ 0x11ee_77aa),
            in_burst: [false; 2],
        }
    }

    pub(crate) fn rtt(&self) -> Duration {
        self.one_way * 2
    }

    pub(crate) fn drop_udp(&mut self) {
        self.drops.ways[..2].fill(true);
    }

    pub(crate) fn drop_tcp(&mut self) {
        self.drops.ways[2..].fill(true);
    }

    pub(crate) fn drop_all(&mut self) {
        self.drops.ways.fill(true);
    }

    /// Drops both families in one direction.
    pub(crate) fn drop_way(&mut self, way: Way) {
        let way = usize::from(way == Way::ToClient);
        self.drops.ways[way] = true;
        self.drops.ways[2 + way] = true;
    }

    pub(crate) fn restore(&mut self) {
        self.drops = Drops::default();
    }

    /// Whether the way is cut for certain.
    pub(crate) fn is_cut(&self, family: Family, way: Way, address: u32) -> bool {
        let base = if family == Family::Udp { 0 } else { 2 };
        let is_dropped = self.drops.ways[base + usize::from(way == Way::ToClient)];
        let is_rejected = self.udp_rejected && family == Family::Udp;
        let is_off = self.ipv6_dropped && address & IPV6 != 0;
        is_dropped || is_rejected || is_off || address & !IPV6 != self.address
    }

    /// Sends one packet. `None` when it is lost, else how long it takes.
    pub(crate) fn send(&mut self, family: Family, way: Way, address: u32) -> Option<Duration> {
        let is_lost = match self.loss {
            Loss::Random(share) => self.random.unit() < share,
            Loss::Bursts(begin, end) => {
                let in_burst = &mut self.in_burst[usize::from(way == Way::ToClient)];
                let change = if *in_burst { end } else { begin };
                *in_burst ^= self.random.unit() < change;
                *in_burst
            }
        };
        let is_policed = family == Family::Udp && self.random.unit() < self.udp_policed;
        if is_lost || is_policed || self.is_cut(family, way, address) {
            return None;
        }
        Some(self.one_way + self.jitter.mul_f64(self.random.unit()))
    }

    /// The mean loss of a family's packets.
    pub(crate) fn mean_loss(&self, family: Family) -> f64 {
        let random = match self.loss {
            Loss::Random(share) => share,
            Loss::Bursts(begin, end) => begin / (begin + end),
        };
        let policed = if family == Family::Udp {
            self.udp_policed
        } else {
            0.0
        };
        1.0 - (1.0 - random) * (1.0 - policed)
    }
}
