//! Error correction against the numbering of kcp-go's encoder, on links that lose, repeat and
//! reorder. What matters most: nothing is ever recovered that was not sent.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

#[path = "sim/link.rs"]
#[allow(dead_code, reason = "only the random numbers are used here")]
mod link;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kcp_proto::fec::{DATA_HEADER_LEN, Decoder, DecoderStats, Encoder, Framing, Shards};
use kcp_proto::reed_solomon::ReedSolomon;
use kcp_proto::segment::{Command, Header};

use crate::link::Random;

const CONV: u32 = 0x0102_0304;

/// Numbers and groups as kcp-go v5.6.13 makes them: no numbers are set aside for skipped parity,
/// and the number wraps at a parity packet or where 32 bits do.
struct GoEncoder {
    code: ReedSolomon,
    next: u32,
    group: Vec<Vec<u8>>,
}

impl GoEncoder {
    const WRAP: u32 = u32::MAX / 13 * 13;

    fn new(first: u32) -> Self {
        Self {
            code: ReedSolomon::new(10, 3).unwrap(),
            next: first,
            group: Vec::new(),
        }
    }

    fn encode(&mut self, payload: &[u8], skips_parity: bool) -> Vec<Bytes> {
        let mut shard = ((payload.len() + 2) as u16).to_le_bytes().to_vec();
        shard.extend_from_slice(payload);
        let mut packets = vec![packet(self.next, 0xf1, &shard)];
        self.next = self.next.wrapping_add(1);
        self.group.push(shard);
        if self.group.len() < 10 {
            return packets;
        }
        if !skips_parity {
            let longest = self.group.iter().map(Vec::len).max().unwrap();
            let mut parity = vec![vec![0; longest]; 3];
            for (i, shard) in self.group.iter().enumerate() {
                self.code.add_data(i, shard, &mut parity);
            }
            for shard in parity {
                packets.push(packet(self.next, 0xf2, &shard));
                self.next = self.next.wrapping_add(1) % Self::WRAP;
            }
        }
        self.group.clear();
        packets
    }
}

fn packet(seqid: u32, kind: u16, shard: &[u8]) -> Bytes {
    [&seqid.to_le_bytes()[..], &kind.to_le_bytes(), shard]
        .concat()
        .into()
}

/// Payloads as alike as those of a bulk transfer: only number, clock and data differ.
struct Payloads {
    random: Random,
    sn: u32,
    is_bulk: bool,
}

impl Payloads {
    fn next(&mut self, now: Duration) -> Vec<u8> {
        let len = if self.is_bulk {
            300
        } else {
            self.random.below(300) as u32
        };
        let cmd = if self.is_bulk || self.random.chance(0.6) {
            Command::Push
        } else {
            Command::Ack
        };
        let len = if cmd == Command::Push { len } else { 0 };
        let ts = now.as_millis() as u32;
        self.sn += 1;
        let header = Header {
            conv: CONV,
            cmd,
            frg: 0,
            wnd: 1024,
            ts,
            sn: self.sn,
            una: 5,
            len,
        };
        let mut payload = header.encode().to_vec();
        payload.extend((0..len).map(|_| self.random.next() as u8));
        payload
    }
}

/// How a run went.
#[derive(Default)]
struct Outcome {
    n_lost: u64,
    n_recoverable: u64,
    n_recovered: u64,
    stats: DecoderStats,
}

/// What the path does.
struct Path {
    loss: f64,
    duplicates: f64,
    /// Packets that a packet may be late by.
    reorder: u64,
    /// Probability that there is a pause before a packet, which has kcp-go skip parity if it is the
    /// tenth of its group.
    pauses: f64,
    is_bulk: bool,
    first: u32,
}

fn run(path: &Path, n_packets: usize, seed: u64) -> Outcome {
    let mut random = Random::new(seed);
    let mut encoder = GoEncoder::new(path.first);
    let mut payloads = Payloads {
        random: Random::new(random.next()),
        sn: 100,
        is_bulk: path.is_bulk,
    };
    let mut now = Duration::ZERO;
    let mut sent = BTreeSet::new();
    // Arrivals by the time at which they arrive, and what was lost of each group.
    let mut arrivals: Vec<(Duration, Bytes)> = Vec::new();
    let mut outcome = Outcome::default();
    let mut group = (0, 0);
    for _ in 0..n_packets {
        let is_pause = random.chance(path.pauses);
        now += Duration::from_millis(if is_pause {
            500 + random.below(3000)
        } else {
            2
        });
        let payload = payloads.next(now);
        let packets = encoder.encode(&payload, is_pause);
        sent.insert(payload);
        let ends_group = encoder.group.is_empty();
        let has_parity = packets.len() > 1;
        for (i, packet) in packets.into_iter().enumerate() {
            if random.chance(path.loss) {
                outcome.n_lost += u64::from(i == 0);
                if i == 0 {
                    group.0 += 1;
                } else {
                    group.1 += 1;
                }
                continue;
            }
            for _ in 0..1 + u64::from(random.chance(path.duplicates)) {
                let late = Duration::from_millis(2 * random.below(path.reorder + 1));
                arrivals.push((now + late, packet.clone()));
            }
        }
        if ends_group {
            let (n_data, n_parity) = group;
            if has_parity && n_data + n_parity <= 3 {
                outcome.n_recoverable += n_data;
            }
            group = (0, 0);
        }
    }
    arrivals.sort_by_key(|(at, _)| *at);

    let began_at = start();
    let mut decoder = Decoder::new(Shards::FRP, CONV).unwrap();
    for (at, datagram) in arrivals {
        let recovered = feed(&mut decoder, &datagram, began_at + at);
        for payload in recovered {
            assert!(
                sent.contains(&*payload),
                "recovered what was never sent: {payload:02x?}"
            );
            outcome.n_recovered += 1;
        }
    }
    outcome.stats = decoder.stats();
    outcome
}

fn feed(decoder: &mut Decoder, datagram: &Bytes, now: Instant) -> Vec<Bytes> {
    match Framing::of(datagram) {
        Some(Framing::Data { seqid }) => decoder.handle_data(seqid, datagram, now),
        Some(Framing::Parity { seqid }) => decoder.handle_parity(seqid, datagram, now),
        _ => Vec::new(),
    }
}

fn path() -> Path {
    Path {
        loss: 0.1,
        duplicates: 0.0,
        reorder: 0,
        pauses: 0.0,
        is_bulk: true,
        first: 0,
    }
}

#[test]
fn nothing_is_recovered_that_was_not_sent() {
    let (mut n_recovered, mut n_rejected) = (0, 0);
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let path = Path {
            loss: random.unit() * 0.5,
            duplicates: random.unit() * 0.2,
            reorder: random.below(60),
            pauses: if random.chance(0.7) {
                random.unit() * 0.5
            } else {
                0.0
            },
            is_bulk: random.chance(0.7),
            first: match random.below(3) {
                0 => 0,
                1 => random.next() as u32,
                _ => u32::MAX - random.below(300) as u32,
            },
        };
        let outcome = run(&path, 300, random.next());
        n_recovered += outcome.n_recovered;
        n_rejected += outcome.stats.n_rejected;
    }
    eprintln!("{n_recovered} recovered, {n_rejected} groups rejected");
    assert!(n_recovered > 5_000);
}

#[test]
fn every_loss_that_parity_covers_is_recovered() {
    for (loss, share) in [(0.01, 1.0), (0.05, 0.999), (0.1, 0.99), (0.3, 0.9)] {
        let outcome = run(&Path { loss, ..path() }, 20_000, 1);
        let reached = outcome.n_recovered as f64 / outcome.n_recoverable as f64;
        eprintln!(
            "loss {loss}: {} lost, {} recoverable, {} recovered",
            outcome.n_lost, outcome.n_recoverable, outcome.n_recovered
        );
        assert!(reached >= share, "{reached} at loss {loss}");
        assert_eq!(outcome.stats.n_rejected, 0);
    }
}

#[test]
fn recovery_goes_on_after_groups_whose_parity_was_skipped() {
    // kcp-go itself recovers nothing after the first of these.
    for pauses in [0.002, 0.02, 0.2] {
        let outcome = run(
            &Path {
                loss: 0.03,
                pauses,
                ..path()
            },
            20_000,
            2,
        );
        let reached = outcome.n_recovered as f64 / outcome.n_recoverable as f64;
        eprintln!(
            "pauses {pauses}: {} lost, {} recoverable, {} recovered",
            outcome.n_lost, outcome.n_recoverable, outcome.n_recovered
        );
        assert!(reached > 0.97, "{reached} with pauses {pauses}");
    }
}

#[test]
fn reordering_and_duplicates_do_not_hinder_recovery() {
    let outcome = run(
        &Path {
            loss: 0.05,
            reorder: 40,
            duplicates: 0.2,
            ..path()
        },
        20_000,
        3,
    );
    let reached = outcome.n_recovered as f64 / outcome.n_recoverable as f64;
    assert!(reached > 0.99, "{reached}");
}

#[test]
fn recovery_goes_on_across_the_wrap() {
    let first = GoEncoder::WRAP - 13 * 50;
    let outcome = run(
        &Path {
            loss: 0.05,
            first,
            ..path()
        },
        1000,
        4,
    );
    let reached = outcome.n_recovered as f64 / outcome.n_recoverable as f64;
    assert!(reached > 0.98, "{reached}");
}

#[test]
fn forged_packets_neither_move_the_window_nor_recover_anything() {
    let mut random = Random::new(5);
    let mut encoder = Encoder::new(Shards::FRP, 0).unwrap();
    let mut decoder = Decoder::new(Shards::FRP, CONV).unwrap();
    let mut payloads = Payloads {
        random: Random::new(6),
        sn: 0,
        is_bulk: true,
    };
    let mut sent = BTreeSet::new();
    let (mut n_lost, mut n_recovered) = (0, 0);
    for i in 0..2000u64 {
        let now = start() + Duration::from_millis(i);
        let payload = payloads.next(Duration::from_millis(i));
        sent.insert(payload.clone());
        let mut datagram = vec![0; DATA_HEADER_LEN];
        datagram.extend(payload);
        encoder.seal(&mut datagram, now);
        let mut datagrams = vec![];
        if i % 13 == 5 {
            n_lost += 1;
        } else {
            datagrams.push(Bytes::from(datagram));
        }
        let mut parity = Vec::new();
        while encoder.poll_parity(&mut parity) {
            datagrams.push(std::mem::take(&mut parity).into());
        }
        for datagram in datagrams {
            // A forged one with a number far away, and garbage with a number anywhere.
            let far = packet(random.next() as u32, 0xf2, &[7; 300]);
            for datagram in [far, datagram] {
                let recovered = feed(&mut decoder, &datagram, now);
                n_recovered += recovered.len();
                assert!(recovered.iter().all(|payload| sent.contains(&**payload)));
            }
        }
    }
    assert!(n_recovered * 100 > n_lost * 95, "{n_recovered} of {n_lost}");
}

#[test]
fn a_decoder_forgets_when_nothing_arrives() {
    let mut decoder = Decoder::new(Shards::FRP, CONV).unwrap();
    assert_eq!(decoder.poll_timeout(), None);
    feed(&mut decoder, &packet(0, 0xf1, &[26; 26]), start());
    let at = decoder.poll_timeout();
    assert_eq!(at, None, "a packet whose size lies is not kept");
    let mut shard = vec![26, 0];
    shard.extend([0; 24]);
    feed(&mut decoder, &packet(0, 0xf1, &shard), start());
    let at = decoder.poll_timeout().unwrap();
    decoder.handle_timeout(at);
    assert_eq!(decoder.poll_timeout(), None);
}

fn start() -> Instant {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    *START.get_or_init(Instant::now)
}
