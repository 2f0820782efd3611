//! What a session answers to single frames and verbs: one rule at a time.

#![allow(clippy::unwrap_used, reason = "tests")]

pub(super) mod harness;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use crate::mux::frame::{ACK, FIN, Header, Kind, RST, SYN};
use crate::mux::window::INITIAL_WINDOW;
use crate::mux::{MuxConfig, Role};
use crate::{CarrierError, Class};

use super::outbound::BATCH_LEN;
use super::*;
use crate::mux::turn::TURN_LEN_MIN;
use harness::{Count, Test, data_len, fin, frame, syn};

#[test]
fn the_first_frames_are_those_of_yamux() {
    let mut session = Test::client();
    let id = session.open();
    session.write(id, b"hello");
    assert_eq!(
        session.transmit(),
        [
            frame(Kind::Ping, SYN, 0, 0),
            frame(Kind::WindowUpdate, SYN, 1, 0),
            frame(Kind::Data, 0, 1, 5),
        ]
    );
    assert_eq!(session.transmit(), [], "nothing is sent twice");
}

#[test]
fn accepting_is_told_once_and_finishing_is_told_once() {
    let mut session = Test::server();
    session.receive(frame(Kind::WindowUpdate, SYN, 1, 0x005c_0000));
    let id = session.accept();
    assert_eq!(session.transmit(), [frame(Kind::WindowUpdate, ACK, 1, 0)]);
    session.finish(id);
    session.finish(id);
    assert_eq!(session.transmit(), [frame(Kind::WindowUpdate, FIN, 1, 0)]);
    session.finish(id);
    session.drop_stream(id);
    assert_eq!(session.transmit(), []);
}

#[test]
fn pings_are_answered_with_their_number() {
    let mut session = Test::server();
    session.receive(frame(Kind::Ping, SYN, 0, 77));
    assert_eq!(session.transmit(), [frame(Kind::Ping, ACK, 0, 77)]);
}

#[test]
fn the_peers_larger_window_is_used() {
    let mut session = Test::client();
    let id = session.open();
    session.receive(frame(Kind::WindowUpdate, ACK, id, 0x005c_0000));
    let mut sent = 0;
    for _ in 0..400 {
        let mut data = Bytes::from(vec![0; 64 * 1024]);
        let _ = session.session.write(id, &mut data, Waker::noop());
        sent += data_len(&session.transmit());
    }
    assert_eq!(sent, 6 * 1024 * 1024);
}

#[test]
fn what_is_queued_for_a_closed_window_is_bounded() {
    let mut session = Test::client();
    let id = session.open();
    let mut n_taken = 0;
    loop {
        let mut data = Bytes::from(vec![0; 10_000]);
        match session.session.write(id, &mut data, Waker::noop()) {
            Poll::Ready(n) => n_taken += n.unwrap(),
            Poll::Pending => break,
        }
        session.transmit();
    }
    assert_eq!(n_taken, INITIAL_WINDOW as usize + 64 * 1024);
}

#[test]
fn a_window_is_given_back_when_half_of_it_was_read() {
    let mut session = Test::server();
    let id = session.accept_one(1);
    let half = INITIAL_WINDOW / 2;
    session.advance(Duration::from_secs(1));
    session.receive_data(id, half as usize);
    session.read(id, half as usize - 1);
    assert_eq!(session.transmit(), []);
    session.read(id, 1);
    let sent = session.transmit();
    assert!(
        sent.contains(&frame(Kind::WindowUpdate, 0, id, half)),
        "{sent:?}"
    );
}

#[test]
fn a_window_grows_for_an_admitted_peer_only() {
    for is_stranger in [true, false] {
        let mut session = Test::new(Role::Server, is_stranger);
        let id = session.accept_one(1);
        session.receive_data(id, INITIAL_WINDOW as usize);
        session.read(id, INITIAL_WINDOW as usize);
        let update = if is_stranger {
            INITIAL_WINDOW
        } else {
            2 * INITIAL_WINDOW
        };
        let sent = session.transmit();
        assert!(
            sent.contains(&frame(Kind::WindowUpdate, 0, id, update)),
            "{sent:?}"
        );
    }
}

#[test]
fn all_windows_together_grow_within_a_bound() {
    let mut session = Test::server();
    let n_streams = 2 * GROWTH_MAX / INITIAL_WINDOW;
    for n in 0..n_streams {
        let id = session.accept_one(2 * n + 1);
        session.receive_data(id, INITIAL_WINDOW as usize);
        session.read(id, INITIAL_WINDOW as usize);
        session.transmit();
    }
    assert_eq!(session.session.n_grown, GROWTH_MAX);
    for n in 0..n_streams {
        session.drop_stream(2 * n + 1);
        session.receive(frame(Kind::WindowUpdate, FIN, 2 * n + 1, 0));
        session.transmit();
    }
    assert_eq!(session.session.n_grown, 0, "it comes back with the streams");
    assert!(session.session.streams.is_empty());
}

#[test]
fn a_broken_protocol_ends_the_carrier_and_the_peer_is_told() {
    let cases: &[(&str, &[Header])] = &[
        ("wrong parity", &[frame(Kind::WindowUpdate, SYN, 2, 0)]),
        ("stream 0", &[frame(Kind::WindowUpdate, SYN, 0, 0)]),
        ("an id again", &[syn(1), syn(1)]),
        (
            "an id again after its end",
            &[syn(1), frame(Kind::WindowUpdate, RST, 1, 0), syn(1)],
        ),
        ("two ends", &[syn(1), fin(1), fin(1)]),
        (
            "window overflow",
            &[syn(1), frame(Kind::WindowUpdate, 0, 1, u32::MAX)],
        ),
        (
            "window overrun",
            &[syn(1), frame(Kind::Data, 0, 1, INITIAL_WINDOW + 1)],
        ),
        (
            "overrun in the first frame",
            &[frame(Kind::Data, SYN, 1, u32::MAX)],
        ),
    ];
    for (what, frames) in cases {
        let mut session = Test::server();
        for header in *frames {
            session.receive(*header);
        }
        assert_eq!(
            session.transmit().last(),
            Some(&frame(Kind::GoAway, 0, 0, 1)),
            "{what}"
        );
        assert!(
            matches!(session.session.closed, Some(CarrierError::Protocol(_))),
            "{what}"
        );
        assert!(session.session.is_flushed(), "{what}");
    }
}

#[test]
fn unknown_versions_and_kinds_end_the_carrier() {
    for bytes in [
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let mut session = Test::server();
        session.receive_bytes(&bytes);
        assert!(matches!(
            session.session.closed,
            Some(CarrierError::Protocol(_))
        ));
    }
}

#[test]
fn frames_for_unknown_streams_are_skipped_without_a_trace() {
    let mut session = Test::server();
    session.receive(frame(Kind::Data, 0, 4711, 3_000_000));
    for _ in 0..30 {
        session.receive_bytes(&[7; 100_000]);
    }
    session.receive(frame(Kind::WindowUpdate, FIN, 4713, 0));
    session.receive(frame(Kind::WindowUpdate, ACK, 2, 99));
    assert!(session.session.streams.is_empty());
    session.receive(frame(Kind::Ping, SYN, 0, 5));
    assert_eq!(
        session.transmit(),
        [frame(Kind::Ping, ACK, 0, 5)],
        "the frames stay in step"
    );
}

#[test]
fn an_end_on_a_data_frame_comes_after_its_payload() {
    let mut session = Test::server();
    let id = session.accept_one(1);
    session.receive(frame(Kind::Data, FIN, id, 6));
    session.receive_bytes(b"abc");
    assert_eq!(session.read(id, 10), b"abc");
    assert!(session.poll_read(id).is_pending());
    session.receive_bytes(b"def");
    assert_eq!(session.read(id, 10), b"def");
    assert_eq!(session.read(id, 10), b"");
}

#[test]
fn data_after_the_end_is_discarded_as_go_may_send_some() {
    let mut session = Test::server();
    let id = session.accept_one(1);
    session.receive(fin(id));
    session.receive_data(id, 100);
    assert_eq!(session.read(id, 10), b"");
    assert_eq!(session.session.closed, None);
}

#[test]
fn the_backlog_is_bounded_and_what_is_over_is_refused() {
    let mut session = Test::server();
    let n_extra = 10;
    for n in 0..BACKLOG + n_extra {
        session.receive(syn(u32::try_from(n).unwrap() * 2 + 1));
    }
    let refused: Vec<Header> = session.transmit();
    assert_eq!(refused.len(), n_extra);
    assert!(refused.iter().all(|header| header.flags == RST));
    assert_eq!(session.session.streams.len(), BACKLOG);
}

#[test]
fn a_peer_that_opens_and_never_reads_the_refusals_is_dropped() {
    let mut session = Test::server();
    for n in 0..u32::try_from(BACKLOG + REFUSALS_MAX + 1).unwrap() {
        session.receive(syn(n * 2 + 1));
    }
    assert!(matches!(
        session.session.closed,
        Some(CarrierError::Protocol(_))
    ));
}

#[test]
fn a_stranger_gets_its_few_streams() {
    let mut session = Test::new(Role::Server, true);
    for n in 0..10 {
        session.receive(syn(n * 2 + 1));
    }
    assert_eq!(session.session.streams.len(), STRANGER_STREAMS);
    assert_eq!(session.transmit().len(), 10 - STRANGER_STREAMS);
}

#[test]
fn our_own_streams_wait_when_too_many_are_not_accepted() {
    let mut session = Test::client();
    for _ in 0..BACKLOG {
        session.open();
    }
    assert_eq!(session.session.open(session.now), Ok(None));
    session.session.take_effects();
    session.receive(frame(Kind::WindowUpdate, ACK, 1, 0));
    assert!(session.session.take_effects().look_again);
    session.receive(frame(Kind::WindowUpdate, ACK, 1, 0));
    assert_eq!(
        session.session.n_unacked,
        BACKLOG - 1,
        "a second ACK counts for nothing"
    );
    session.open();
}

#[test]
fn a_dropped_stream_is_told_by_a_reset_only_if_the_peer_goes_on() {
    let mut session = Test::server();
    let id = session.accept_one(1);
    session.drop_stream(id);
    assert_eq!(session.transmit().last(), Some(&fin(id)));

    session.receive_data(id, DISCARD_MAX);
    assert_eq!(
        session.after(DISCARD_GRACE),
        [],
        "a little more is nothing unusual"
    );
    session.receive_data(id, 1);
    assert_eq!(
        session.after(DISCARD_GRACE / 2),
        [],
        "time to read what we sent"
    );
    let sent = session.after(DISCARD_GRACE / 2);
    assert_eq!(sent, [frame(Kind::WindowUpdate, RST, id, 0)]);
    assert!(session.session.streams.is_empty());
}

#[test]
fn a_half_closed_stream_ends_after_a_while_only_if_it_was_dropped() {
    let mut session = Test::server();
    session.keep_quiet();
    let kept = session.accept_one(1);
    let dropped = session.accept_one(3);
    session.finish(kept);
    session.drop_stream(dropped);
    session.transmit();
    assert_eq!(
        session.after(LINGER_TIMEOUT),
        [frame(Kind::WindowUpdate, RST, dropped, 0)]
    );
    assert_eq!(session.after(LINGER_TIMEOUT * 10), []);
    assert!(session.session.streams.contains_key(&kept));
}

#[test]
fn a_stream_that_ended_both_ways_can_still_be_read() {
    let mut session = Test::server();
    let id = session.accept_one(1);
    session.receive_data(id, 5);
    session.receive(fin(id));
    session.finish(id);
    session.transmit();
    session.receive(fin(id));
    assert_eq!(
        session.session.closed, None,
        "it is over, so this is an unknown stream's frame"
    );
    assert_eq!(session.read(id, 100).len(), 5);
    assert_eq!(session.read(id, 100), b"");
    session.drop_stream(id);
    assert!(session.session.streams.is_empty());
}

#[test]
fn a_reset_before_the_first_frame_is_not_sent() {
    let mut session = Test::client();
    session.transmit();
    let id = session.open();
    session.session.reset(id);
    session.drop_stream(id);
    assert_eq!(session.transmit(), []);
    assert_eq!(session.session.n_unacked, 0);
}

#[test]
fn bulk_streams_take_turns_and_a_lone_one_sends_large_frames() {
    let mut session = Test::client();
    let ids = [session.open(), session.open()];
    session.transmit();
    for id in ids {
        session.write(id, &[0; 64 * 1024]);
    }
    let sent = session.transmit();
    assert_eq!(
        sent[0],
        frame(Kind::Data, 0, ids[0], u32::try_from(TURN_LEN_MIN).unwrap())
    );
    assert_eq!(
        sent[1],
        frame(Kind::Data, 0, ids[1], u32::try_from(TURN_LEN_MIN).unwrap())
    );
    while !session.transmit().is_empty() {}

    session.write(ids[0], &[0; 64 * 1024]);
    let sent = session.transmit();
    assert_eq!(sent, [frame(Kind::Data, 0, ids[0], 64 * 1024)]);
}

#[test]
fn urgent_classes_come_first_and_leave_something_for_bulk() {
    let mut session = Test::client();
    let [bulk, interactive, control] = [session.open(), session.open(), session.open()];
    session.session.set_class(interactive, Class::Interactive);
    session.session.set_class(control, Class::Control);
    session.transmit();
    session.write(bulk, &[0; 100_000]);
    session.write(interactive, &[0; 120_000]);
    session.write(control, &[0; 100]);
    let sent = session.transmit();
    let order: Vec<u32> = sent.iter().map(|header| header.stream_id).collect();
    assert_eq!(order[0], control);
    assert_eq!(order[1], interactive);
    assert_eq!(order.last(), Some(&bulk));
    assert!(data_len(&sent) <= BATCH_LEN);
}

#[test]
fn a_silent_peer_ends_the_carrier() {
    let mut session = Test::client();
    session.transmit();
    let timeout = MuxConfig::default().keepalive_timeout;
    session.after(timeout);
    assert_eq!(session.session.closed, Some(CarrierError::Silent(timeout)));
    assert_eq!(session.session.phase(), Phase::Over);
}

#[test]
fn more_unread_bytes_than_allowed_cost_only_the_stream_that_brings_them() {
    let config = MuxConfig {
        max_unread: 300_000,
        ..MuxConfig::default()
    };
    let mut session = Test::with_config(Role::Server, &config, false);
    let first = session.accept_one(1);
    let second = session.accept_one(3);
    session.receive_data(first, 200_000);
    session.receive_data(second, 150_000);
    assert_eq!(
        session.transmit().last(),
        Some(&frame(Kind::WindowUpdate, RST, second, 0))
    );
    assert!(session.poll_read(second).is_ready());
    assert_eq!(session.read(first, usize::MAX).len(), 200_000);
    assert_eq!(session.session.n_unread, 0);
}

#[test]
fn closing_sends_what_was_written_and_then_the_end() {
    let mut session = Test::client();
    let id = session.open();
    session.write(id, b"last words");
    session.session.close();
    let sent = session.transmit();
    assert_eq!(sent.last(), Some(&frame(Kind::GoAway, 0, 0, 0)));
    assert!(sent.contains(&frame(Kind::Data, 0, id, 10)));
    assert!(session.session.is_flushed());
}

#[test]
fn a_go_away_with_an_error_ends_the_carrier_and_one_without_does_not() {
    let mut session = Test::client();
    session.receive(frame(Kind::GoAway, 0, 0, 0));
    assert_eq!(session.session.closed, None);
    assert!(matches!(
        session.session.open(session.now),
        Err(CarrierError::NoStream(_))
    ));
    session.receive(frame(Kind::GoAway, 0, 0, 2));
    assert!(matches!(
        session.session.closed,
        Some(CarrierError::Protocol(_))
    ));
    assert_eq!(session.session.phase(), Phase::Over);
}

#[test]
fn a_reader_and_a_writer_are_woken_when_they_can_go_on() {
    let mut session = Test::client();
    let id = session.open();
    let woken = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(session.session.read(id, 10, &waker).is_pending());
    session.receive_data(id, 3);
    session.wake_all();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);

    while session
        .session
        .write_copy(id, &[0; 50_000], &waker)
        .is_ready()
    {}
    session.transmit();
    session.wake_all();
    assert_eq!(woken.0.load(Ordering::SeqCst), 2);
}

#[test]
fn an_idle_stream_is_small() {
    assert!(
        size_of::<StreamState>() <= 384,
        "{}",
        size_of::<StreamState>()
    );
}

#[test]
fn the_recorded_session_of_frp_is_understood() {
    let mut session = Test::server();
    let recorded = include_str!("recorded_mux_session.txt");
    let mut received = std::collections::BTreeMap::<u32, usize>::new();
    for line in recorded.lines().filter(|line| !line.starts_with('#')) {
        let bytes: Vec<u8> = (0..line.len() / 2)
            .map(|i| u8::from_str_radix(&line[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        session.receive_bytes(&bytes);
        while let Ok(Some(id)) = session.session.accept() {
            received.insert(id, 0);
        }
        for (id, len) in &mut received {
            while let Poll::Ready(Ok(chunk)) = session.session.read(*id, 4096, Waker::noop())
                && !chunk.is_empty()
            {
                *len += chunk.len();
            }
        }
    }
    assert_eq!(session.session.closed, None);
    assert_eq!(
        received.into_iter().collect::<Vec<_>>(),
        [(1, 0xb3 + 0x10 + 0x44), (3, 0x26 + 9), (5, 0x26)]
    );
    assert_eq!(session.read(3, 10), b"", "stream 3 was finished");
    assert!(session.poll_read(5).is_pending(), "stream 5 was not");
}
