//! The rules of one session, in the order in which it meets them. The peer is a script.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "tests"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use kcp_proto::control::Unlimited;
use kcp_proto::fec::{Encoder, Shards};
use kcp_proto::segment::{Command, Header, Segments};
use kcp_proto::{Config, End, Session};

const CONV: u32 = 77;

/// frp's MSS.
const MSS: usize = 1326;

#[test]
fn the_first_data_leaves_at_once_and_later_data_waits_for_the_flush() {
    let mut run = Run::new(bare());
    run.send(10);
    assert_eq!(run.sent(), ["push 0"]);
    run.at_ms(5);
    run.send(10);
    assert_eq!(run.sent(), [""; 0]);
    assert_eq!(run.next_ms(), Some(20));
    run.at_ms(19);
    run.send(10);
    assert_eq!(run.sent(), [""; 0]);
    run.at_ms(20);
    assert_eq!(run.sent(), ["push 1"], "both writes share a segment");
}

#[test]
fn without_write_delay_data_leaves_when_it_is_written() {
    let mut run = Run::new(Config {
        is_write_delayed: false,
        ..bare()
    });
    for i in 0..5 {
        run.at_ms(i);
        run.send(10);
        assert_eq!(run.sent(), [format!("push {i}")]);
    }
}

#[test]
fn a_full_send_window_does_not_wait() {
    let mut run = Run::new(Config {
        send_window: 4,
        ..bare()
    });
    run.send(1);
    assert_eq!(run.sent(), ["push 0"]);
    run.at_ms(1);
    assert_eq!(
        run.send(10 * MSS),
        3 * MSS,
        "what fits besides the one under way"
    );
    assert_eq!(run.sent(), ["push 1", "push 2", "push 3"]);
    assert!(!run.session.is_writable());
}

#[test]
fn the_peer_is_taken_to_have_room_for_32_segments_until_it_says_so() {
    let mut run = Run::new(bare());
    run.send(100 * MSS);
    assert_eq!(run.sent().len(), 32);
    run.at_ms(20);
    assert_eq!(run.sent().len(), 0);
    run.receive(ack(0, 0).una(1).wnd(40));
    assert_eq!(run.sent().len(), 9);
}

#[test]
fn what_an_acknowledgement_makes_room_for_leaves_at_once() {
    let mut run = Run::new(bare());
    run.send(100 * MSS);
    run.sent();
    run.at_ms(3);
    run.receive(ack(0, 0).una(2).wnd(32));
    assert_eq!(run.sent(), ["push 32", "push 33"]);
    assert_eq!(run.session.srtt(), Some(Duration::from_millis(3)));
    assert_eq!(
        run.session.rto(),
        Duration::from_millis(30),
        "not below the least"
    );
}

#[test]
fn two_later_acknowledgements_have_a_segment_sent_again() {
    let mut run = Run::new(Config {
        interval: Duration::from_millis(5),
        ..bare()
    });
    run.send(200 * MSS);
    run.sent();
    run.at_ms(2);
    run.receive(ack(1, 0).wnd(60));
    run.at_ms(5);
    let sent = run.sent();
    assert!(
        !sent.contains(&"push 0".to_owned()),
        "one is not enough while there is new data"
    );
    run.at_ms(7);
    run.receive(ack(2, 0).wnd(62));
    run.at_ms(10);
    assert_eq!(run.sent(), ["push 0", "push 60", "push 61"]);
    run.at_ms(12);
    run.receive(ack(3, 0).wnd(64));
    run.at_ms(15);
    assert_eq!(
        run.sent(),
        ["push 62", "push 63"],
        "the count has begun anew"
    );
    assert_eq!(run.session.stats().n_resent_overtaken, 1);
}

#[test]
fn with_nothing_new_to_send_one_later_acknowledgement_is_enough() {
    let mut run = Run::new(bare());
    run.send(3 * MSS);
    run.sent();
    run.at_ms(10);
    run.receive(ack(2, 0));
    run.at_ms(20);
    assert_eq!(run.sent(), ["push 0", "push 1"]);
}

#[test]
fn a_silent_peer_is_asked_again_at_growing_distances() {
    let mut run = Run::new(bare());
    run.send(10);
    let mut times = Vec::new();
    while times.len() < 40 {
        if !run.sent().is_empty() {
            times.push(run.now_ms);
        }
        let next = run.next_ms().unwrap();
        assert!(next > run.now_ms);
        run.at_ms(next);
    }
    let distances: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(distances[..4], [200, 300, 400, 500]);
    assert_eq!(distances.iter().max(), Some(&2000));
}

#[test]
fn the_acknowledgement_of_an_earlier_transmission_gives_its_own_round_trip_time() {
    let mut run = Run::new(bare());
    run.send(10);
    run.sent();
    run.at_ms(200);
    assert_eq!(run.sent(), ["push 0"]);
    run.at_ms(260);
    run.receive(ack(0, 0).una(1));
    assert_eq!(run.session.srtt(), Some(Duration::from_millis(260)));
    assert_eq!(run.session.stats().n_spurious, 1);
}

#[test]
fn acknowledgements_wait_for_the_flush_and_share_a_datagram() {
    let mut run = Run::new(bare());
    run.receive(push(0, b"a"));
    assert_eq!(run.sent(), ["ack 0"]);
    run.at_ms(5);
    for sn in [1, 2, 4, 6, 3] {
        run.receive(push(sn, b"b"));
    }
    assert_eq!(run.sent(), [""; 0]);
    assert_eq!(run.next_ms(), Some(20));
    run.at_ms(20);
    assert_eq!(
        run.sent(),
        ["ack 6", "ack 3"],
        "those that una covers are left out, but the last"
    );
    assert_eq!(run.n_datagrams, 2);
    assert_eq!(run.next_ms(), None);
}

#[test]
fn many_acknowledgements_do_not_wait() {
    let mut run = Run::new(Config {
        ack_after: 4,
        ..bare()
    });
    run.receive(push(0, b"a"));
    run.sent();
    for sn in 1..4 {
        run.receive(push(sn, b"a"));
        assert_eq!(run.sent(), [""; 0]);
    }
    run.receive(push(4, b"a"));
    assert_eq!(run.sent(), ["ack 4"]);
}

#[test]
fn acknowledgements_and_data_share_a_datagram() {
    let mut run = Run::new(bare());
    run.receive(push(0, b"question"));
    run.send(10);
    assert_eq!(run.sent(), ["ack 0", "push 0"]);
    assert_eq!(run.n_datagrams, 1);
}

#[test]
fn a_shut_window_is_asked_about_at_growing_distances() {
    let mut run = Run::new(bare());
    run.send(10);
    run.sent();
    run.receive(ack(0, 0).una(1).wnd(0));
    run.send(10);
    let mut times = Vec::new();
    for _ in 0..20 {
        let next = run.next_ms().unwrap();
        run.at_ms(next);
        if run.sent() == ["ask"] {
            times.push(run.now_ms);
        }
    }
    let distances: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(times[0], 500);
    assert_eq!(distances[..2], [750, 1125]);
    assert_eq!(distances.last(), Some(&10_000));

    run.receive(tell().wnd(5).una(1));
    run.at_ms(run.now_ms + 20);
    assert_eq!(run.sent(), ["push 1"]);
}

#[test]
fn a_question_about_the_window_is_answered() {
    let mut run = Run::new(bare());
    run.receive(Script {
        cmd: Command::AskWindow,
        ..tell()
    });
    assert_eq!(run.sent(), ["tell"]);
}

#[test]
fn a_reader_who_makes_room_tells_the_peer() {
    let mut run = Run::new(Config {
        receive_window: 4,
        ..bare()
    });
    for sn in 0..4 {
        run.receive(push(sn, b"data"));
    }
    run.sent();
    assert_eq!(run.last_wnd, 0);
    run.session.read(99, run.now()).unwrap();
    assert_eq!(run.sent(), [""; 0], "a quarter is not worth a datagram");
    run.session.read(99, run.now()).unwrap();
    assert_eq!(run.sent(), ["tell"]);
    assert_eq!(run.last_wnd, 2);
    // The datagram may be lost, so there are two more; new data says that it has arrived.
    let next = run.next_ms().unwrap();
    run.at_ms(next);
    assert_eq!(run.sent(), ["tell"]);
    run.receive(push(4, b"data"));
    run.sent();
    run.at_ms(run.now_ms + 20);
    run.sent();
    assert_eq!(run.next_ms(), None);
}

#[test]
fn the_first_segments_go_out_twice_and_once_more_for_each_loss() {
    let mut run = Run::new(Config {
        n_early: 2,
        ..bare()
    });
    run.send(10);
    assert_eq!(run.sent(), ["push 0"]);
    run.at_ms(12);
    assert_eq!(run.sent(), ["push 0"], "its copy");
    let mut n_sent = |until| {
        let mut n = 0;
        while run.now_ms < until {
            run.at_ms(run.now_ms + 1);
            n += run.sent().len();
        }
        n
    };
    assert_eq!(n_sent(260), 3, "after its time-out, with two copies");
    assert_eq!(n_sent(480), 4, "after no longer time than before");
}

#[test]
fn datagrams_are_understood_with_and_without_error_correction() {
    let mut encoder = Encoder::new(Shards::FRP, 0).unwrap();
    for config in [bare(), Config::frp(CONV)] {
        let mut session = Session::new(config, Box::new(Unlimited::FRP), start());
        let mut sealed = [vec![0; 8], push(0, b"sealed ").datagram()].concat();
        encoder.seal(&mut sealed, start());
        session.handle_datagram(&sealed.into(), start()).unwrap();
        session
            .handle_datagram(&push(1, b"plain").datagram().into(), start())
            .unwrap();
        assert_eq!(
            session.read(99, start()).as_deref(),
            Some(b"sealed ".as_slice())
        );
        assert_eq!(
            session.read(99, start()).as_deref(),
            Some(b"plain".as_slice())
        );
    }
}

#[test]
fn a_recovered_packet_delivers_data_but_no_window_and_no_round_trip_time() {
    let mut encoder = Encoder::new(Shards::FRP, 0).unwrap();
    let mut run = Run::new(bare());
    run.send(10);
    run.sent();
    run.at_ms(50);
    let mut parity = Vec::new();
    for sn in 0..10 {
        // The lost one acknowledges, with a window that must not be believed.
        let lost = [
            ack(0, 0).wnd(3).datagram(),
            push(4, b"lost").wnd(3).datagram(),
        ]
        .concat();
        let segments = if sn == 4 {
            lost
        } else {
            push(sn, b"data").wnd(90).datagram()
        };
        let mut packet = [vec![0; 8], segments].concat();
        encoder.seal(&mut packet, run.now());
        if sn != 4 {
            run.session
                .handle_datagram(&packet.into(), run.now())
                .unwrap();
        }
    }
    encoder.poll_parity(&mut parity);
    run.session
        .handle_datagram(&parity.into(), run.now())
        .unwrap();

    let mut stream = Vec::new();
    while let Some(data) = run.session.read(99, run.now()) {
        stream.extend_from_slice(&data);
    }
    assert_eq!(stream, b"datadatadatadatalostdatadatadatadatadata");
    assert_eq!(run.session.stats().fec.n_recovered, 1);
    assert_eq!(run.session.n_in_flight(), 0, "its acknowledgement counts");
    assert_eq!(run.session.peer_window(), 90);
    assert_eq!(run.session.srtt(), None);
}

#[test]
fn three_parity_packets_follow_ten_data_packets() {
    let mut run = Run::new(Config {
        send_window: 64,
        ..Config::frp(CONV)
    });
    run.send(25 * MSS);
    let mut out = Vec::new();
    let transmit = run.session.poll_transmit(&mut out, 99, run.now()).unwrap();
    assert_eq!((transmit.n_datagrams, transmit.datagram_len), (31, 1358));
    let kinds: Vec<u8> = out.chunks(1358).map(|datagram| datagram[4]).collect();
    let group = [[0xf1; 10].as_slice(), &[0xf2; 3]].concat();
    assert_eq!(kinds, [group.clone(), group, vec![0xf1; 5]].concat());
    let seqids: Vec<u32> = out
        .chunks(1358)
        .map(|it| u32::from_le_bytes(*it.first_chunk().unwrap()))
        .collect();
    assert_eq!(seqids, (0..31).collect::<Vec<_>>());
}

/// A session without error correction, so that a script can read along.
fn bare() -> Config {
    Config {
        fec: None,
        ..Config::frp(CONV)
    }
}

#[test]
fn the_end_is_a_last_segment_without_data() {
    let mut run = Run::new(bare());
    run.send(10);
    run.session.finish(End::Finished);
    run.session.finish(End::Finished);
    assert_eq!(run.send(10), 0, "nothing after the end");
    let mut out = Vec::new();
    run.session.poll_transmit(&mut out, 1, run.now()).unwrap();
    let headers = Segments::new(&out, CONV).map(|segment| segment.unwrap().0);
    let headers: Vec<_> = headers.map(|h| (h.sn, h.len, h.frg)).collect();
    assert_eq!(headers, [(0, 10, 0), (1, 0, 0)]);
}

#[test]
fn a_reader_learns_of_the_end_when_it_has_read_everything() {
    for (frg, end) in [(0, End::Finished), (1, End::Reset)] {
        let mut run = Run::new(bare());
        let last = Header {
            conv: CONV,
            cmd: Command::Push,
            frg,
            wnd: 32,
            ts: 0,
            sn: 1,
            una: 0,
            len: 0,
        };
        let first = Header {
            frg: 0,
            sn: 0,
            len: 3,
            ..last
        };
        let now = run.now();
        let datagram = Bytes::copy_from_slice(&last.encode());
        run.session.handle_datagram(&datagram, now).unwrap();
        assert_eq!(run.session.end(), None, "something is missing before it");
        let datagram = Bytes::from([&first.encode()[..], b"abc"].concat());
        run.session.handle_datagram(&datagram, now).unwrap();
        assert_eq!(run.session.end(), None, "it has not been read");
        assert_eq!(run.session.read(10, now).as_deref(), Some(&b"abc"[..]));
        assert_eq!(run.session.end(), Some(end));
    }
}

#[test]
fn a_reset_forgets_what_has_not_been_sent() {
    let mut run = Run::new(bare());
    run.send(100 * MSS);
    assert_eq!(run.sent().len(), 32);
    run.session.finish(End::Reset);
    assert_eq!(run.session.n_queued(), 1, "the last segment");
    assert!(!run.session.is_settled());
}

struct Run {
    session: Session,
    now_ms: u64,
    n_datagrams: usize,
    last_wnd: u16,
}

impl Run {
    fn new(config: Config) -> Self {
        let session = Session::new(config, Box::new(Unlimited::FRP), start());
        Self {
            session,
            now_ms: 0,
            n_datagrams: 0,
            last_wnd: u16::MAX,
        }
    }

    fn at_ms(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.session.handle_timeout(self.now());
    }

    fn send(&mut self, n_bytes: usize) -> usize {
        self.session
            .send(&mut Bytes::from(vec![0x55; n_bytes]), self.now())
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "scripts are written in place"
    )]
    fn receive(&mut self, segment: Script) {
        self.session
            .handle_datagram(&segment.datagram().into(), self.now())
            .unwrap();
    }

    /// The segments that leave now.
    fn sent(&mut self) -> Vec<String> {
        let mut segments = Vec::new();
        let mut out = Vec::new();
        while self
            .session
            .poll_transmit(&mut out, 1, self.now())
            .is_some()
        {
            self.n_datagrams += 1;
            for segment in Segments::new(&out, CONV) {
                let (header, _) = segment.unwrap();
                self.last_wnd = header.wnd;
                segments.push(match header.cmd {
                    Command::Push => format!("push {}", header.sn),
                    Command::Ack => format!("ack {}", header.sn),
                    Command::AskWindow => "ask".to_owned(),
                    Command::TellWindow => "tell".to_owned(),
                });
            }
            out.clear();
        }
        segments
    }

    /// When the session wants to be called again, rounded up.
    fn next_ms(&self) -> Option<u64> {
        let at = self
            .session
            .poll_timeout()?
            .saturating_duration_since(start());
        Some(at.as_micros().div_ceil(1000) as u64)
    }

    fn now(&self) -> Instant {
        start() + Duration::from_millis(self.now_ms)
    }
}

/// A segment from the peer.
#[derive(Clone)]
struct Script {
    cmd: Command,
    sn: u32,
    ts: u32,
    una: u32,
    wnd: u16,
    data: Vec<u8>,
}

fn ack(sn: u32, ts: u32) -> Script {
    Script {
        cmd: Command::Ack,
        sn,
        ts,
        una: 0,
        wnd: 1024,
        data: Vec::new(),
    }
}

fn push(sn: u32, data: &[u8]) -> Script {
    Script {
        cmd: Command::Push,
        data: data.to_vec(),
        ..ack(sn, 0)
    }
}

fn tell() -> Script {
    Script {
        cmd: Command::TellWindow,
        ..ack(0, 0)
    }
}

impl Script {
    fn una(self, una: u32) -> Self {
        Self { una, ..self }
    }

    fn wnd(self, wnd: u16) -> Self {
        Self { wnd, ..self }
    }

    fn datagram(&self) -> Vec<u8> {
        let Self {
            cmd,
            sn,
            ts,
            una,
            wnd,
            ref data,
        } = *self;
        let header = Header {
            conv: CONV,
            cmd,
            frg: 0,
            wnd,
            ts,
            sn,
            una,
            len: data.len() as u32,
        };
        [&header.encode()[..], data].concat()
    }
}

fn start() -> Instant {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    *START.get_or_init(Instant::now)
}
