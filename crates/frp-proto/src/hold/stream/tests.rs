//! The rules of one held stream, in the order in which it meets them. Streams of two ends are
//! connected by hand; `tests/hold` lets chance do it.

mod pair;

use self::pair::{Pair, drain, start};
use super::*;
use crate::hold::budget::FLOOR;
use crate::hold::frame::{Ack, Attach, Attached, Decoder, Frame, MAX_DATA_LEN};
use crate::hold::receive::{ACK_DELAY, IDLE_AFTER, MAX_AHEAD};
use crate::hold::{CopyPlan, INITIAL_WINDOW, MAX_WINDOW};

const A: Route = route(1, 1);
const B: Route = route(2, 2);
const C: Route = route(3, 3);

#[test]
fn a_new_stream_costs_no_round_trip() {
    let mut pair = Pair::new();
    pair.opener.attach(A, false, pair.now);
    pair.write_here(b"hello");
    let frames = pair.frames_of_opener(A);
    assert!(matches!(frames[0], Frame::Attach(attach) if attach.is_open));
    assert!(matches!(&frames[1], Frame::Data { payload, .. } if &payload[..] == b"hello"));
}

#[test]
fn bytes_and_the_end_of_both_directions_arrive_and_both_ends_forget() {
    let mut pair = Pair::attached();
    pair.write_here(b"question");
    pair.opener.finish();
    pair.exchange(A);
    assert_eq!(pair.read_there(), b"question");
    assert!(pair.acceptor.is_read_to_end() && !pair.acceptor.is_over());

    // The other direction goes on for as long as it likes.
    pair.write_there(b"answer");
    pair.acceptor.finish();
    pair.exchange(A);
    assert_eq!(pair.read_here(), b"answer");
    assert!(drain(&mut pair.opener).is_over() && drain(&mut pair.acceptor).is_over());
}

#[test]
fn what_a_dead_carrier_lost_goes_again_and_nothing_else_does() {
    let mut pair = Pair::attached();
    pair.write_here(&[1; 40_000]);
    // The first frames arrive, and the carrier dies with the others.
    let frames = pair.frames_of_opener(A);
    for frame in frames.into_iter().take(1) {
        pair.acceptor.handle_frame(A, frame, pair.now).unwrap();
    }
    pair.lose(A);
    assert!(pair.opener.wants_route() && !pair.acceptor.wants_route());

    pair.attach(B, false);
    let again: u64 = data_len(&pair.frames_of_opener(B));
    assert_eq!(again, 40_000 - MAX_DATA_LEN as u64);
}

#[test]
fn what_may_have_arrived_waits_for_the_answer_and_new_bytes_only_behind_it() {
    let mut pair = Pair::attached();
    pair.write_here(b"sent");
    pair.frames_of_opener(A);
    pair.lose(A);
    pair.opener.attach(B, false, pair.now);
    pair.write_here(b"new");
    assert_eq!(
        data_len(&pair.frames_of_opener(B)),
        0,
        "the peer may have it"
    );

    let mut idle = Pair::attached();
    idle.lose(A);
    idle.opener.attach(B, false, idle.now);
    idle.write_here(b"new");
    assert_eq!(
        data_len(&idle.frames_of_opener(B)),
        3,
        "nothing to wait for"
    );
}

#[test]
fn a_planned_switch_sends_nothing_twice() {
    let mut pair = Pair::attached();
    pair.write_here(&[1; 10_000]);
    let old = pair.frames_of_opener(A);
    pair.opener.attach(B, true, pair.now);
    pair.write_here(&[2; 500]);
    let new = pair.frames_of_opener(B);
    assert_eq!(data_len(&new), 500, "the rest is on its way");
    assert_eq!(pair.opener.poll_event(), Some(Event::FinishRoute(A)));

    // The new route is faster.
    pair.deliver_there(B, new);
    assert_eq!(pair.read_there(), b"", "a gap is not read over");
    pair.deliver_there(A, old);
    assert_eq!(pair.read_there().len(), 10_500);
}

#[test]
fn the_end_of_the_old_route_may_overtake_the_attach_on_the_new_one() {
    let mut pair = Pair::attached();
    pair.write_there(b"on its way");
    let old = pair.frames_of_acceptor(A);
    pair.opener.attach(B, true, pair.now);
    pair.acceptor.handle_route_end(A, true);
    assert_eq!(pair.acceptor.poll_event(), None);

    pair.answer(B);
    assert_eq!(pair.acceptor.poll_event(), Some(Event::FinishRoute(A)));
    for frame in old {
        pair.opener.handle_frame(A, frame, pair.now).unwrap();
    }
    assert_eq!(pair.read_here(), b"on its way", "and it came once");
}

#[test]
fn a_slow_route_is_not_waited_for() {
    let mut pair = Pair::attached();
    pair.opener.set_rtt(Duration::from_millis(10));
    // 16 KB take 200 ms here.
    for _ in 0..4 {
        pair.write_here(&[1; 16_000]);
        pair.pass(Duration::from_millis(200));
        pair.exchange(A);
        pair.read_there();
    }
    pair.pass(ACK_DELAY);
    pair.exchange(A);
    pair.write_here(&[1; 60_000]);
    pair.frames_of_opener(A);
    pair.opener.attach(B, true, pair.now);
    assert_eq!(pair.opener.poll_event(), Some(Event::DropRoute(A)));
    pair.answer(B);
    assert_eq!(
        data_len(&pair.frames_of_opener(B)),
        60_000,
        "all of it again"
    );
}

#[test]
fn what_did_not_drain_in_time_goes_again() {
    let mut pair = Pair::attached();
    pair.write_here(b"lost");
    pair.frames_of_opener(A);
    pair.attach(B, true);
    assert_eq!(data_len(&pair.frames_of_opener(B)), 0);
    let until = pair.opener.poll_timeout().unwrap();
    assert!(until - pair.now <= Duration::from_millis(500));
    pair.opener.handle_timeout(until);
    assert_eq!(data_len(&pair.frames_of_opener(B)), 4);
    assert_eq!(pair.opener.poll_event(), Some(Event::FinishRoute(A)));
    assert_eq!(pair.opener.poll_event(), Some(Event::DropRoute(A)));
}

#[test]
fn acknowledgements_wait_for_20_ms_or_a_quarter_of_the_window() {
    let mut pair = Pair::attached();
    pair.write_here(b"x");
    pair.one_way_there(A);
    assert_eq!(pair.frames_of_acceptor(A), []);
    assert_eq!(pair.acceptor.poll_timeout(), Some(pair.now + ACK_DELAY));
    pair.pass(ACK_DELAY);
    assert_eq!(acks(&pair.frames_of_acceptor(A)), [1]);

    pair.write_here(&[0; 16 * 1024]);
    pair.one_way_there(A);
    assert_eq!(acks(&pair.frames_of_acceptor(A)), [1 + 16 * 1024]);
}

#[test]
fn a_reader_that_does_not_read_stops_its_writer() {
    let mut pair = Pair::attached();
    let mut written = 0;
    for _ in 0..20 {
        written += pair.write_some_here(&[0; 20_000]);
        pair.exchange(A);
    }
    assert_eq!(pair.acceptor.kept(), INITIAL_WINDOW);
    assert!(written as u64 <= 2 * INITIAL_WINDOW, "{written}");
    while pair.opener.poll_event().is_some() {}

    assert_eq!(pair.read_there().len() as u64, INITIAL_WINDOW);
    pair.exchange(A);
    assert_eq!(pair.opener.poll_event(), Some(Event::Writable));
}

#[test]
fn a_peer_that_never_acknowledges_costs_a_bounded_buffer() {
    let mut pair = Pair::attached();
    let mut written = 0;
    loop {
        let n = pair.write_some_here(b"tiny");
        if n == 0 {
            break;
        }
        written += n;
        pair.frames_of_opener(A);
    }
    assert!(written < 64 * 1024, "each slice costs more than its bytes");
}

#[test]
fn windows_and_buffers_grow_with_the_rate_and_to_a_bound() {
    let mut pair = Pair::attached();
    let rtt = Duration::from_millis(100);
    let mut largest = 0;
    for _ in 0..40 {
        while pair.write_some_here(&[0; 64 * 1024]) > 0 {}
        let frames = pair.frames_of_opener(A);
        largest = largest.max(data_len(&frames));
        pair.pass(rtt);
        pair.deliver_there(A, frames);
        pair.read_there();
        pair.one_way_here(A);
    }
    assert!(largest > MAX_WINDOW / 2, "{largest}");
    assert!(largest <= MAX_WINDOW);
}

#[test]
fn on_a_slow_path_no_more_is_kept_than_passes_in_two_seconds() {
    let mut pair = Pair::attached();
    let mut kept = 0;
    for _ in 0..60 {
        while pair.write_some_here(&[0; 16 * 1024]) > 0 {}
        kept = kept.max(pair.opener.kept());
        let frames = pair.frames_of_opener(A);
        // 100 kB a second: a window's worth takes as long as it takes.
        pair.pass(Duration::from_micros(data_len(&frames) * 10));
        pair.deliver_there(A, frames);
        pair.read_there();
        pair.pass(ACK_DELAY);
        pair.one_way_here(A);
    }
    assert!((150_000..=1_000_000).contains(&kept), "{kept}");
}

#[test]
fn a_large_window_is_let_go_of_when_nothing_comes_for_long_and_what_was_granted_stays() {
    let mut pair = Pair::attached();
    for _ in 0..20 {
        while pair.write_some_here(&[0; 16 * 1024]) > 0 {}
        pair.pass(Duration::from_millis(10));
        pair.one_way_there(A);
        pair.read_there();
        pair.one_way_here(A);
    }
    pair.exchange(A);
    pair.read_there();
    let at = pair.acceptor.poll_timeout().unwrap();
    assert!(at <= pair.now + IDLE_AFTER);
    pair.pass(IDLE_AFTER);
    pair.acceptor.handle_timeout(pair.now);
    pair.exchange(A);
    assert_eq!(pair.acceptor.poll_timeout(), None, "and wakes nobody");

    while pair.write_some_here(&[0; 16 * 1024]) > 0 {}
    pair.one_way_there(A);
    assert!(pair.read_there().len() as u64 > INITIAL_WINDOW);
}

#[test]
fn at_the_bound_of_the_budget_every_stream_still_goes_on() {
    let budget = Budget::new(100_000);
    let mut streams: Vec<_> = (0..20).map(|id| HeldStream::open(id, &budget)).collect();
    for stream in &mut streams {
        let mut bytes = Bytes::from(vec![0; 60_000]);
        stream.write(&mut bytes);
        assert!(stream.kept() >= FLOOR / 2, "{}", stream.kept());
    }
    assert!(budget.used() <= budget.limit() && budget.used() > 60_000);
    drop(streams);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_reset_ends_both_directions_and_is_repeated_until_it_is_heard() {
    let mut pair = Pair::attached();
    pair.write_here(b"never read");
    pair.opener.reset(ResetCode::BROKEN);
    assert_eq!(pair.frames_of_opener(A).len(), 1, "lost with the carrier");
    pair.lose(A);
    assert!(pair.opener.wants_route() && !pair.opener.is_over());

    pair.attach(B, false);
    pair.one_way_there(B);
    pair.acceptor.poll_event();
    let event = std::iter::from_fn(|| pair.acceptor.poll_event()).last();
    assert_eq!(event, Some(Event::Reset(ResetCode::BROKEN)));
    pair.exchange(B);
    assert!(drain(&mut pair.opener).is_over() && drain(&mut pair.acceptor).is_over());
}

#[test]
fn a_peer_that_has_forgotten_the_stream_ends_it() {
    let unknown = |pair: &mut Pair| {
        pair.lose(A);
        pair.opener.attach(B, false, pair.now);
        pair.frames_of_opener(B);
        let refusal = Attached::refusal(AttachStatus::UnknownStream, Generation(2));
        let frame = Frame::Attached(refusal);
        pair.opener.handle_frame(B, frame, pair.now).unwrap();
    };
    let mut pair = Pair::attached();
    unknown(&mut pair);
    let events: Vec<_> = std::iter::from_fn(|| pair.opener.poll_event()).collect();
    assert!(events.contains(&Event::Reset(ResetCode::FORGOTTEN)));

    // Unless all was said: then the acceptor has what it needs, and its word was lost.
    let mut pair = Pair::attached();
    pair.acceptor.finish();
    pair.exchange(A);
    pair.opener.finish();
    pair.frames_of_opener(A);
    unknown(&mut pair);
    assert_eq!(pair.opener.read(1, pair.now), None);
    let events: Vec<_> = std::iter::from_fn(|| pair.opener.poll_event()).collect();
    assert!(!events.iter().any(|event| matches!(event, Event::Reset(_))));
    assert!(pair.opener.is_over());
}

#[test]
fn nonsense_is_refused_and_the_stream_goes_on() {
    let mut pair = Pair::attached();
    pair.write_there(b"sent");
    pair.one_way_here(A);
    let acknowledged = Ack {
        received: 5,
        window: 0,
    };
    let (received, sent) = (5, 4);
    let beyond_sent = StreamError::AckBeyondSent { received, sent };
    let data = |offset, len: usize| Frame::Data {
        offset,
        payload: vec![0; len].into(),
    };
    for (frame, error) in [
        (Frame::Ack(acknowledged), beyond_sent),
        (
            data(INITIAL_WINDOW - 1, 2),
            StreamError::Receive(ReceiveError::BeyondWindow {
                end: INITIAL_WINDOW + 1,
                limit: INITIAL_WINDOW,
            }),
        ),
        (
            Frame::Fin { offset: 1 << 40 },
            StreamError::Receive(ReceiveError::BeyondWindow {
                end: 1 << 40,
                limit: INITIAL_WINDOW,
            }),
        ),
        (Frame::Gone, StreamError::Unexpected("gone")),
        (
            Frame::Attach(attach(C, acknowledged)),
            StreamError::Unexpected("attach"),
        ),
    ] {
        assert_eq!(pair.acceptor.handle_frame(A, frame, pair.now), Err(error));
        assert!(error.is_peers_fault());
    }
    let left = pair.acceptor.handle_frame(C, data(0, 1), pair.now);
    assert_eq!(left, Err(StreamError::LeftRoute));

    pair.write_here(b"still here");
    pair.exchange(A);
    assert_eq!(pair.read_there(), b"still here");
}

#[test]
fn an_end_that_was_said_is_not_moved() {
    let mut pair = Pair::attached();
    let now = pair.now;
    let acceptor = &mut pair.acceptor;
    acceptor
        .handle_frame(A, Frame::Fin { offset: 10 }, now)
        .unwrap();
    let moved = acceptor.handle_frame(A, Frame::Fin { offset: 11 }, now);
    let (found, end) = (11, 10);
    let error = ReceiveError::EndMoved { found, end };
    assert_eq!(moved, Err(StreamError::Receive(error)));
    let payload = Bytes::from_static(b"eleven bytes");
    let beyond = acceptor.handle_frame(A, Frame::Data { offset: 0, payload }, now);
    let (found, end) = (12, 10);
    let error = ReceiveError::BeyondEnd { found, end };
    assert_eq!(beyond, Err(StreamError::Receive(error)));
}

#[test]
fn attachments_that_were_overtaken_or_repeated_are_refused() {
    let mut pair = Pair::attached();
    let (found, highest) = (Generation(1), Generation(1));
    let error = pair
        .acceptor
        .handle_attach(A, &attach(A, Ack::default()), pair.now)
        .unwrap_err();
    assert_eq!(error, StreamError::OldGeneration { found, highest });
    assert_eq!(error.attach_status(), AttachStatus::OldGeneration);

    let received = 9;
    let claim = Ack {
        received,
        window: 0,
    };
    let error = pair.acceptor.handle_attach(B, &attach(B, claim), pair.now);
    let sent = 0;
    assert_eq!(error, Err(StreamError::AckBeyondSent { received, sent }));

    assert_eq!(pair.acceptor.route(), Some(A), "as it was");
    pair.write_here(b"alive");
    pair.exchange(A);
    assert_eq!(pair.read_there(), b"alive");
}

#[test]
fn an_answer_that_acknowledges_the_future_costs_its_route_only() {
    let mut pair = Pair::attached();
    pair.lose(A);
    pair.opener.attach(B, false, pair.now);
    pair.frames_of_opener(B);
    let answer = Frame::Attached(Attached {
        status: AttachStatus::Ok,
        generation: Generation(2),
        ack: Ack {
            received: 7,
            window: 7,
        },
    });
    assert!(pair.opener.handle_frame(B, answer, pair.now).is_err());
    assert!(pair.opener.wants_route());
    pair.opener.attach(C, false, pair.now);
    pair.answer(C);
    pair.write_here(b"alive");
    pair.exchange(C);
    assert_eq!(pair.read_there(), b"alive");
}

#[test]
fn gaps_are_bounded_and_small_pieces_do_not_keep_large_buffers() {
    let mut pair = Pair::attached();
    let block = Bytes::from(vec![0; 60_000]);
    let mut results = (0..=MAX_AHEAD as u64).map(|i| {
        let payload = block.slice(0..1);
        let offset = 2 * i + 1;
        pair.acceptor
            .handle_frame(A, Frame::Data { offset, payload }, pair.now)
    });
    let last = results.by_ref().nth(MAX_AHEAD);
    let error = StreamError::Receive(ReceiveError::TooManyGaps);
    assert_eq!(last, Some(Err(error)));
    assert!(!error.is_peers_fault());
    drop(results);
    assert!(block.is_unique(), "they were copied");
}

#[test]
fn copies_go_as_datagrams_while_little_is_under_way() {
    let mut pair = Pair::attached();
    let plan = CopyPlan {
        n_copies: 1,
        spacing: Duration::from_millis(3),
    };
    pair.write_here(b"keystroke");
    assert_eq!(pair.opener.uncopied(), 0, "nothing is sent yet");
    let frames = pair.frames_of_opener(A);
    assert_eq!(pair.opener.uncopied(), 9);
    pair.opener.plan_copies(1200, plan, pair.now);
    assert_eq!(pair.opener.uncopied(), 0);
    assert_eq!(pair.opener.poll_datagram(1200, pair.now), None, "in time");
    let due = pair.opener.poll_timeout().unwrap();
    let datagram = pair.opener.poll_datagram(1200, due).unwrap();
    assert_eq!(pair.opener.poll_datagram(1200, due), None, "once");
    let decoded = crate::hold::datagram::Datagram::decode(datagram);
    let Ok(crate::hold::datagram::Datagram::Data {
        offset, payload, ..
    }) = decoded
    else {
        panic!("{decoded:?}");
    };
    let handle = |pair: &mut Pair, payload| {
        let taken = pair.acceptor.handle_datagram(offset, payload, pair.now);
        taken.unwrap()
    };
    assert!(handle(&mut pair, payload.clone()), "it is news");
    assert_eq!(pair.read_there(), b"keystroke", "ahead of its frame");
    assert!(!handle(&mut pair, payload));
    pair.deliver_there(A, frames);
    assert_eq!(pair.read_there(), b"", "and once");

    pair.write_here(&[0; 5_000]);
    pair.frames_of_opener(A);
    assert_eq!(pair.opener.uncopied(), 0, "bulk is not copied");
}

#[test]
fn an_acknowledgement_that_waits_for_room_does_not_hide_a_copy_that_is_due_later() {
    let mut pair = Pair::attached();
    let plan = CopyPlan {
        n_copies: 1,
        spacing: ACK_DELAY * 2,
    };
    pair.write_here(b"keystroke");
    pair.frames_of_opener(A);
    pair.opener.plan_copies(1200, plan, pair.now);
    pair.opener
        .handle_datagram(0, Bytes::from_static(b"echo"), pair.now)
        .unwrap();
    let ack_at = pair.now + ACK_DELAY;
    assert_eq!(pair.opener.next_timeout(pair.now), Some(ack_at));
    let copy_at = pair.now + ACK_DELAY * 2;
    assert_eq!(pair.opener.next_timeout(ack_at), Some(copy_at));
    assert_eq!(pair.opener.poll_timeout(), Some(ack_at));
}

#[test]
fn bulk_is_handed_out_without_copying_and_with_little_around_it() {
    let mut pair = Pair::attached();
    let bytes = Bytes::from(vec![0; 60 * 1024]);
    let range = bytes.as_ptr_range();
    pair.opener.write(&mut bytes.clone());
    let mut out = Output::default();
    assert!(pair.opener.poll_transmit(A, usize::MAX, pair.now, &mut out));
    let n_around = out.len() - bytes.len();
    assert!(n_around * 1000 < out.len(), "{n_around}");
    let chunks: Vec<Bytes> = out.take().collect();
    let from_the_writer = chunks
        .iter()
        .filter(|chunk| range.contains(&chunk.as_ptr()));
    assert_eq!(from_the_writer.map(Bytes::len).sum::<usize>(), bytes.len());
}

#[test]
fn an_idle_stream_takes_less_than_a_kibibyte() {
    let mut pair = Pair::attached();
    for _ in 0..10 {
        pair.write_here(&[0; 5_000]);
        pair.write_here(b"x");
        pair.write_there(b"y");
        pair.exchange(A);
        pair.read_here();
        pair.read_there();
        pair.pass(ACK_DELAY);
        pair.exchange(A);
    }
    pair.pass(IDLE_AFTER);
    for stream in [&mut pair.opener, &mut pair.acceptor] {
        stream.handle_timeout(pair.now);
        let size = size_of::<HeldStream>() + stream.send.heap() + stream.receive.heap();
        let size = size + stream.events.routes.capacity() * size_of::<(Route, bool)>();
        assert!(size < 1024, "{size}");
        assert_eq!(stream.poll_timeout(), None, "and wakes nobody");
    }
    // With the decoder of its route.
    const { assert!(size_of::<HeldStream>() + size_of::<Decoder>() < 800) };
}

#[test]
fn the_control_stream_needs_no_attach() {
    let budget = Budget::new(1 << 20);
    let mut pair = Pair {
        opener: HeldStream::on_route(0, Side::Opener, A, &budget),
        acceptor: HeldStream::on_route(0, Side::Acceptor, A, &budget),
        now: start(),
    };
    pair.write_there(b"ReqWorkConn");
    pair.exchange(A);
    assert_eq!(pair.read_here(), b"ReqWorkConn");
    pair.write_here(b"Ping");
    pair.frames_of_opener(A);
    pair.lose(A);
    pair.attach(B, false);
    pair.exchange(B);
    assert_eq!(pair.read_there(), b"Ping");
}

fn data_len(frames: &[Frame]) -> u64 {
    let len = |frame: &Frame| match frame {
        Frame::Data { payload, .. } => payload.len() as u64,
        _ => 0,
    };
    frames.iter().map(len).sum()
}

fn acks(frames: &[Frame]) -> Vec<u64> {
    let received = |frame: &Frame| match frame {
        Frame::Ack(ack) => Some(ack.received),
        _ => None,
    };
    frames.iter().filter_map(received).collect()
}

fn attach(route: Route, ack: Ack) -> Attach {
    Attach {
        stream: 2,
        generation: route.generation,
        is_open: false,
        is_drain: false,
        ack,
    }
}

const fn route(carrier: u64, generation: u64) -> Route {
    Route {
        carrier: CarrierId(carrier),
        generation: Generation(generation),
    }
}
