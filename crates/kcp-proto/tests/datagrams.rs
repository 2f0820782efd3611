//! Datagrams beside the stream of a session.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use kcp_proto::control::{LossDetection, SendControl, Unlimited};
use kcp_proto::copies::{Copies, CopyPolicy, Piece};
use kcp_proto::segment::{Command, Header, Segments};
use kcp_proto::{Config, Datagram, Session};

#[test]
fn no_datagrams_are_sent_to_a_peer_that_has_not_said_that_it_takes_them() {
    let mut pair = Pair::new();
    pair.exchange();
    assert!(!pair.a.can_send_datagrams() && !pair.b.can_send_datagrams());
    pair.a.send_datagram(datagram(0, b"x"), false, pair.now);
    assert_eq!(packets(&mut pair.a, pair.now), [""; 0]);

    pair.b.accept_datagrams();
    pair.exchange();
    assert!(pair.a.can_send_datagrams());
    assert!(!pair.b.can_send_datagrams(), "each says so for itself");
}

#[test]
fn towards_others_acknowledgements_are_as_they_always_were() {
    for (is_taking, frg) in [(false, 0), (true, 1)] {
        let mut pair = Pair::new();
        if is_taking {
            pair.b.accept_datagrams();
        }
        let (now, mut hello) = (pair.now, Bytes::from_static(b"hello"));
        pair.a.send(&mut hello, now);
        carry(&mut pair.a, &mut pair.b, now);
        let mut out = Vec::new();
        pair.b.poll_transmit(&mut out, 1, now).unwrap();
        let acks: Vec<_> = Segments::new(&out, 7)
            .map(|segment| segment.unwrap().0)
            .filter(|header| header.cmd == Command::Ack)
            .collect();
        assert!(!acks.is_empty() && acks.iter().all(|ack| ack.frg == frg));
    }
}

#[test]
fn datagrams_are_filled_up_until_the_peer_has_sent_something() {
    let mut pair = Pair::new();
    let config = Config {
        first_datagram_len: 1000,
        fec: None,
        ..Config::frp(7)
    };
    let full = Header::LEN + 100 + (1000 - Header::LEN - 100) / Header::LEN * Header::LEN;
    pair.a = Session::new(config, Box::new(Unlimited::FRP), pair.now);
    let sent = |pair: &mut Pair| {
        pair.a.send(&mut Bytes::from(vec![1; 100]), pair.now);
        let mut out = Vec::new();
        let transmit = pair.a.poll_transmit(&mut out, 1, pair.now).unwrap();
        assert!(transmit.has_data);
        let arriving = Bytes::from(out.clone());
        pair.b.handle_datagram(&arriving, pair.now).unwrap();
        pair.now += Duration::from_millis(50);
        out.len()
    };
    assert_eq!(sent(&mut pair), full);
    assert_eq!(pair.b.read(usize::MAX, pair.now).unwrap(), [1; 100][..]);
    // An acknowledgement may be anybody's; it takes data to show that answers arrive.
    carry(&mut pair.b, &mut pair.a, pair.now);
    assert_eq!(sent(&mut pair), full);
    let now = pair.now;
    pair.b.send(&mut Bytes::from_static(b"answer"), now);
    carry(&mut pair.b, &mut pair.a, now);
    pair.now += Duration::from_millis(50);
    let mut acks = Vec::new();
    let transmit = pair.a.poll_transmit(&mut acks, 1, pair.now).unwrap();
    assert!(!transmit.has_data);
    pair.now += Duration::from_millis(50);
    assert_eq!(sent(&mut pair), Header::LEN + 100);
}

#[test]
fn a_datagram_arrives_while_the_stream_waits_for_what_was_lost() {
    let mut pair = Pair::ready();
    let now = pair.now;
    let mut lost = Bytes::from(vec![1; 5000]);
    pair.a.send(&mut lost, now);
    let mut out = Vec::new();
    while pair.a.poll_transmit(&mut out, 1, now).is_some() {
        out.clear();
    }
    let sent = datagram(u64::MAX - 1, b"hello");
    pair.a.send_datagram(sent.clone(), true, now);
    assert!(pair.a.poll_timeout().unwrap() <= now, "it is to leave now");
    carry(&mut pair.a, &mut pair.b, now);
    assert_eq!(pair.b.take_own_datagram(), Some(sent));
    assert_eq!(pair.b.take_own_datagram(), None);
    assert_eq!(pair.b.read(10, now), None);
}

#[test]
fn a_datagram_leaves_ahead_of_the_stream_and_one_that_is_awaited_several_times() {
    let mut pair = Pair::ready();
    pair.a.set_copies(Box::new(Two));
    let mut now = pair.now;
    let mut data = Bytes::from(vec![1; 10 * 1326]);
    pair.a.send(&mut data, now);
    pair.a.send_datagram(datagram(3, b"once"), false, now);
    pair.a.send_datagram(datagram(4, b"awaited"), true, now);
    let sent = packets(&mut pair.a, now);
    assert_eq!(sent[0], "datagram 3, datagram 4");
    let mut n_sent = 1;
    for _ in 0..10 {
        now += Duration::from_millis(1);
        let sent = packets(&mut pair.a, now);
        n_sent += sent.iter().filter(|sent| sent.contains('4')).count();
    }
    assert_eq!(
        n_sent, 4,
        "two copies, and one for those that come behind it"
    );
}

#[test]
fn what_is_too_long_or_waits_in_vain_is_dropped() {
    let mut pair = Pair::ready();
    let max = pair.a.max_own_datagram_len();
    for data in [vec![0; max + 1], vec![]] {
        let number = 0;
        let data = data.into();
        pair.a
            .send_datagram(Datagram { number, data }, false, pair.now);
    }
    assert_eq!(packets(&mut pair.a, pair.now), [""; 0]);
    for number in 0..1000 {
        pair.a
            .send_datagram(datagram(number, b"x"), false, pair.now);
    }
    let sent = packets(&mut pair.a, pair.now).join(", ");
    assert!(sent.starts_with("datagram 936, "), "the newest 64: {sent}");
    assert!(sent.ends_with("datagram 999"));
}

#[test]
fn a_flood_of_datagrams_that_nobody_takes_is_bounded() {
    let mut pair = Pair::ready();
    for ts in 0..100_000 {
        let header = Header {
            conv: 7,
            cmd: Command::TellWindow,
            frg: 0,
            wnd: 100,
            ts,
            sn: 0,
            una: 0,
            len: 1,
        };
        let packet = Bytes::from([&header.encode()[..], b"x"].concat());
        pair.a.handle_datagram(&packet, pair.now).unwrap();
    }
    let n_kept = std::iter::from_fn(|| pair.a.take_own_datagram()).count();
    assert_eq!(n_kept, 256);
}

#[test]
fn the_stream_makes_room_for_datagrams_and_keeps_half_of_the_rate_beside_a_flood_of_them() {
    // Datagrams of 1,024 bytes with their headers, every millisecond, at a rate of 1 MB/s.
    for (n_datagrams, least, most) in [(0, 900_000, 990_000), (2, 400_000, 600_000)] {
        let n_read = stream_beside(|_| n_datagrams);
        assert!((least..most).contains(&n_read), "{n_datagrams}: {n_read}");
    }
    let n_read = stream_beside(|ms| usize::from(ms % 10 == 0));
    assert!((800_000..900_000).contains(&n_read), "a few: {n_read}");
}

/// How much a stream that is paced at 1 MB/s carries in a second beside so many datagrams in each
/// millisecond.
fn stream_beside(n_datagrams: impl Fn(u32) -> usize) -> usize {
    let mut pair = Pair::ready();
    pair.a.set_control(Box::new(Paced));
    pair.a.grow_windows(512, 512);
    pair.b.grow_windows(512, 512);
    let (mut number, mut n_read) = (0, 0);
    for ms in 0..1000 {
        pair.a.send(&mut Bytes::from(vec![1; 100_000]), pair.now);
        for _ in 0..n_datagrams(ms) {
            number += 1;
            let data = Bytes::from(vec![2; 1000]);
            pair.a
                .send_datagram(Datagram { number, data }, false, pair.now);
        }
        carry(&mut pair.a, &mut pair.b, pair.now);
        carry(&mut pair.b, &mut pair.a, pair.now);
        while let Some(data) = pair.b.read(usize::MAX, pair.now) {
            n_read += data.len();
        }
        while pair.b.take_own_datagram().is_some() {}
        pair.now += Duration::from_millis(1);
    }
    n_read
}

/// A megabyte a second.
#[derive(Debug)]
struct Paced;

impl SendControl for Paced {
    fn window(&self) -> u32 {
        512
    }

    fn pacing_rate(&self) -> Option<u64> {
        Some(1_000_000)
    }

    fn loss_detection(&self) -> LossDetection {
        LossDetection::Rack {
            n_reordered: 3,
            reorder_time: Duration::from_millis(15),
        }
    }
}

/// Two copies, a millisecond apart.
#[derive(Debug)]
struct Two;

impl CopyPolicy for Two {
    fn copies(&mut self, _: Instant, piece: Piece) -> Copies {
        Copies {
            n_extra: if piece.is_alone { 2 } else { 0 },
            spacing: Duration::from_millis(1),
        }
    }
}

struct Pair {
    a: Session,
    b: Session,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let session = || {
            let config = Config {
                fec: None,
                is_write_delayed: false,
                ..Config::frp(7)
            };
            Session::new(config, Box::new(Unlimited::FRP), now)
        };
        Self {
            a: session(),
            b: session(),
            now,
        }
    }

    /// Both take datagrams and know that the other does.
    fn ready() -> Self {
        let mut pair = Self::new();
        pair.a.accept_datagrams();
        pair.b.accept_datagrams();
        pair.exchange();
        assert!(pair.a.can_send_datagrams() && pair.b.can_send_datagrams());
        pair
    }

    /// Sends a little each way and acknowledges it.
    fn exchange(&mut self) {
        for _ in 0..2 {
            self.a.send(&mut Bytes::from_static(b"?"), self.now);
            self.b.send(&mut Bytes::from_static(b"!"), self.now);
            for _ in 0..4 {
                carry(&mut self.a, &mut self.b, self.now);
                carry(&mut self.b, &mut self.a, self.now);
                self.now += Duration::from_millis(20);
            }
        }
        while self.a.read(10, self.now).is_some() || self.b.read(10, self.now).is_some() {}
    }
}

fn carry(from: &mut Session, to: &mut Session, now: Instant) {
    from.handle_timeout(now);
    let mut out = Vec::new();
    while from.poll_transmit(&mut out, 1, now).is_some() {
        to.handle_datagram(&Bytes::copy_from_slice(&out), now)
            .unwrap();
        out.clear();
    }
}

/// What leaves now, a text for each packet.
fn packets(session: &mut Session, now: Instant) -> Vec<String> {
    session.handle_timeout(now);
    let (mut packets, mut out) = (Vec::new(), Vec::new());
    while session.poll_transmit(&mut out, 1, now).is_some() {
        let segments = Segments::new(&out, 7).map(|segment| {
            let (header, data) = segment.unwrap();
            match (header.cmd, data) {
                (Command::TellWindow, [_, ..]) => format!("datagram {}", header.sn),
                (cmd, _) => format!("{cmd:?}"),
            }
        });
        packets.push(segments.collect::<Vec<_>>().join(", "));
        out.clear();
    }
    packets
}

fn datagram(number: u64, data: &'static [u8]) -> Datagram {
    Datagram {
        number,
        data: Bytes::from_static(data),
    }
}
