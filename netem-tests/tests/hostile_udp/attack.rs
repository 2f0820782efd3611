//! What the intruder does, wave by wave.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use netem_tests::intruder::forge::{ACK, ASK_WINDOW, PUSH, Segment, TELL_WINDOW, parity, seqid};
use netem_tests::intruder::{Packet, Tally};
use netem_tests::{Intruder, Lab, Transport};

use crate::dice::Dice;
use crate::first_packets;

/// An intruder between a client and a server.
pub(crate) struct Attack<'a> {
    intruder: &'a Intruder,
    transport: Transport,
    server: SocketAddrV4,
    client: SocketAddrV4,
    /// All that client and server have said to each other from the beginning.
    recorded: Vec<Packet>,
    n_sent: AtomicU64,
}

/// Something that an intruder does, and its name.
type Wave<'a> = (&'static str, fn(&Attack<'a>, &mut Dice));

impl<'a> Attack<'a> {
    /// Learns from what has been heard who is client and who is server.
    pub(crate) fn new(lab: &Lab, intruder: &'a Intruder, transport: Transport) -> Self {
        let recorded = intruder.packets();
        let IpAddr::V4(near) = lab.near().address() else {
            panic!("labs have IPv4 addresses");
        };
        // The last of them: a client may have dialled more than once.
        let newest = recorded.iter().rfind(|packet| *packet.to.ip() == near);
        let newest = newest.expect("client and server have spoken");
        let (client, server) = (newest.from, newest.to);
        Self {
            intruder,
            transport,
            server,
            client,
            recorded: recorded
                .into_iter()
                .filter(|packet| [packet.from, packet.to].contains(&client))
                .collect(),
            n_sent: AtomicU64::default(),
        }
    }

    /// Sends one wave after the other. Yields the name of each and how much was in it.
    pub(crate) fn waves(&self, dice: &mut Dice) -> impl Iterator<Item = (&'static str, u64)> {
        let mut waves: Vec<Wave<'a>> = vec![
            ("noise", Self::noise),
            ("mangled", Self::mangled),
            ("replayed by strangers", Self::replayed_by_strangers),
            ("replayed by the peers", Self::replayed_by_the_peers),
            ("first packets of strangers", Self::first_packets),
            (
                "first packets of the client's host",
                Self::first_packets_of_the_host,
            ),
        ];
        if self.transport == Transport::Kcp {
            waves.push(("absurd numbers", Self::absurd_segments));
            waves.push(("wrong parity", Self::wrong_parity));
        }
        waves.into_iter().map(|(name, wave)| {
            let before = self.n_sent();
            wave(self, dice);
            (name, self.n_sent() - before)
        })
    }

    /// Returns how many datagrams have been sent.
    pub(crate) fn n_sent(&self) -> u64 {
        self.n_sent.load(Ordering::Relaxed)
    }

    /// Whoever has not shown that its address is its own has got three times what it has sent, at
    /// most, and over QUIC what was missing to the end of the last datagram: quinn sends that whole
    /// (as of 0.11) as long as a single byte of it is allowed.
    pub(crate) fn assert_no_amplification(&self) {
        let tallies = self.intruder.tallies();
        let mut total = (0, 0);
        for ((from, to), answered) in &tallies {
            let is_answer = *from == self.server && *to != self.client;
            if !is_answer {
                continue;
            }
            let asked = tallies.get(&(*to, *from)).copied().unwrap_or_default();
            let excess = match self.transport {
                Transport::Quic => QUIC_DATAGRAM_LEN,
                _ => 0,
            };
            assert!(
                answered.n_bytes <= 3 * asked.n_bytes + excess,
                "{to} has sent {asked:?} and got {answered:?}"
            );
            total.0 += asked.n_bytes;
            total.1 += answered.n_bytes;
        }
        let (asked, answered) = total;
        crate::say(&format!(
            "strangers that were answered had sent {asked} bytes and got {answered}; {} strangers \
             in all",
            n_strangers(&tallies, self.server)
        ));
    }

    /// What was refused is in the metrics.
    pub(crate) fn assert_is_counted(&self, metrics: &str) {
        let name = match self.transport {
            Transport::Kcp => "holdfast_kcp_datagrams_refused_total",
            _ => "holdfast_quic_retries_total",
        };
        let count = |name: &str| -> f64 {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            let values = lines.filter_map(|line| line.rsplit_once(' '));
            values
                .filter_map(|(_, value)| value.parse::<f64>().ok())
                .sum()
        };
        assert!(count(name) > 0.0, "no {name} in:\n{metrics}");
        assert_eq!(count("holdfast_task_panics_total"), 0.0, "{metrics}");
    }

    /// Random bytes.
    fn noise(&self, dice: &mut Dice) {
        for _ in 0..self.wave_len() {
            let len = dice.below(1400);
            let from = self.anybody(dice);
            self.send(from, self.server, &dice.bytes(len));
            self.send(self.server, self.client, &dice.bytes(len));
        }
    }

    /// What was recorded, cut off or with flipped bits. What keeps the number of a KCP
    /// conversation could be what the session waits for, so it loses that.
    fn mangled(&self, dice: &mut Dice) {
        for _ in 0..self.wave_len() {
            let packet = dice.pick(&self.recorded).clone();
            let mut payload = packet.payload;
            if dice.one_in(2) {
                payload.truncate(dice.below(payload.len()));
            } else {
                for _ in 0..=dice.below(8) {
                    let at = dice.below(payload.len());
                    payload[at] ^= 1 << dice.below(8);
                }
                if self.transport == Transport::Kcp && payload.len() > CONV_AT {
                    payload[CONV_AT] ^= 1 << dice.below(8);
                }
            }
            if packet.to == self.server {
                self.send(self.anybody(dice), self.server, &payload);
            } else {
                self.send(self.server, self.client, &payload);
            }
        }
    }

    /// All that the client has ever said, from its first word on, by strangers.
    fn replayed_by_strangers(&self, dice: &mut Dice) {
        for _ in 0..3 {
            let from = stranger(dice);
            for packet in self.recorded.iter().take(self.wave_len()) {
                if packet.to == self.server {
                    self.send(from, self.server, &packet.payload);
                }
            }
        }
    }

    /// All that both have ever said, once more.
    fn replayed_by_the_peers(&self, _dice: &mut Dice) {
        for packet in self.recorded.iter().take(2 * self.wave_len()) {
            self.send(packet.from, packet.to, &packet.payload);
        }
    }

    /// New clients by the thousand, each from another address.
    fn first_packets(&self, dice: &mut Dice) {
        for packet in first_packets::of(self.transport, self.wave_len(), dice) {
            self.send(stranger(dice), self.server, &packet);
        }
    }

    /// The same from the address of a host that has logged in.
    fn first_packets_of_the_host(&self, dice: &mut Dice) {
        for packet in first_packets::of(self.transport, self.wave_len(), dice) {
            let port = u16::try_from(20_000 + dice.below(40_000)).unwrap();
            let from = SocketAddrV4::new(*self.client.ip(), port);
            self.send(from, self.server, &packet);
        }
    }

    /// Segments of the conversation whose numbers cannot be.
    fn absurd_segments(&self, dice: &mut Dice) {
        for _ in 0..self.wave_len() {
            let (seqid, real) = self.newest_segment();
            let far = 100_000 + dice.word() % (1 << 30);
            let mut data = dice.bytes(50);
            let mut segment = Segment {
                cmd: PUSH,
                len: 50,
                ..real
            };
            match dice.below(9) {
                0 => segment.sn = real.sn.wrapping_add(far),
                1 => segment.sn = real.sn.wrapping_sub(far),
                2 => segment.sn = real.sn.wrapping_add(1 << 31),
                3 => segment.una = real.una.wrapping_add(far),
                4 => (segment.cmd, segment.sn) = (ACK, real.sn.wrapping_add(far)),
                5 => segment.len = u32::MAX - dice.word() % 100,
                6 => data.truncate(49),
                7 => segment.cmd = *dice.pick(&[0, 80, 85, 255]),
                _ => {
                    segment.wnd = u16::MAX;
                    segment.una = real.una.wrapping_sub(far);
                    segment.cmd = *dice.pick(&[ASK_WINDOW, TELL_WINDOW]);
                    segment.frg = 255;
                }
            }
            if segment.cmd != PUSH && dice.one_in(2) {
                segment.len = 0;
                data.clear();
            }
            let seqid = if dice.one_in(2) { seqid } else { dice.word() };
            self.send(self.client, self.server, &segment.datagram(seqid, &data));
        }
    }

    /// Parity that recovers nonsense, in the middle of the groups that are under way.
    fn wrong_parity(&self, dice: &mut Dice) {
        for _ in 0..self.wave_len() {
            let (newest, _) = self.newest_segment();
            let at = newest.wrapping_add(u32::try_from(dice.below(40)).unwrap());
            let at = if dice.one_in(4) { dice.word() } else { at };
            let len = 30 + dice.below(1320);
            self.send(self.client, self.server, &parity(at, &dice.bytes(len)));
        }
    }

    /// What the client has said last, or long ago when that was parity.
    fn newest_segment(&self) -> (u32, Segment) {
        let newest = self.intruder.newest_of(self.client);
        let mut packets = newest.iter().chain(self.recorded.iter().rev());
        let found = packets.find_map(|packet| {
            let is_of_client = packet.from == self.client;
            let segment = Segment::first_of(&packet.payload).filter(|_| is_of_client)?;
            Some((seqid(&packet.payload)?, segment))
        });
        found.expect("the client has sent data")
    }

    /// The client, its host, or a stranger.
    fn anybody(&self, dice: &mut Dice) -> SocketAddrV4 {
        match dice.below(3) {
            0 => self.client,
            1 => SocketAddrV4::new(*self.client.ip(), 30_000),
            _ => stranger(dice),
        }
    }

    fn send(&self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        self.intruder.send(from, to, payload).unwrap();
        let n_sent = self.n_sent.fetch_add(1, Ordering::Relaxed) + 1;
        // What overflows the receiver's buffer attacks nothing.
        if n_sent.is_multiple_of(SENT_AT_ONCE) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn wave_len(&self) -> usize {
        crate::scaled(2000)
    }
}

fn stranger(dice: &mut Dice) -> SocketAddrV4 {
    let [_, b, c, d] = dice.word().to_be_bytes();
    let port = u16::try_from(1024 + dice.below(60_000)).unwrap();
    SocketAddrV4::new(Ipv4Addr::new(10, b, c, d), port)
}

fn n_strangers(
    tallies: &HashMap<(SocketAddrV4, SocketAddrV4), Tally>,
    server: SocketAddrV4,
) -> usize {
    let strangers = tallies
        .keys()
        .filter(|(from, to)| *to == server && from.ip().octets()[0] == 10);
    strangers.count()
}

/// What a QUIC connection sends at once before it has measured its path.
const QUIC_DATAGRAM_LEN: u64 = 1200;

/// The network of those who are neither client nor server.
pub(crate) const STRANGERS: &str = "10.0.0.0/8";

/// Where the number of a KCP conversation stands in a data datagram.
const CONV_AT: usize = 8;

/// Some thousands in a second.
const SENT_AT_ONCE: u64 = 10;
