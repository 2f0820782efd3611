//! How much a stream keeps, and promises to keep.

use std::time::Duration;

use bytes::Bytes;

use super::pair::Pair;
use super::{A, data_len};
use crate::hold::budget::FLOOR;
use crate::hold::demand::FIRST_BOUND_MAX;
use crate::hold::receive::{ACK_DELAY, IDLE_AFTER};
use crate::hold::stream::Event;
use crate::hold::{Budget, HeldStream, INITIAL_WINDOW, MAX_WINDOW};

#[test]
fn a_reader_that_does_not_read_stops_its_writer() {
    let mut pair = Pair::attached_among_others();
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
fn a_new_stream_has_room_at_once_while_nearly_all_of_the_budget_is_left() {
    let unread = |mut pair: Pair| {
        let mut written = 0;
        for _ in 0..400 {
            written += pair.write_some_here(&[0; 20_000]);
            pair.exchange(A);
        }
        // Nobody reads: what is kept is what was promised.
        (written as u64, pair.acceptor.kept())
    };
    let (written, kept) = unread(Pair::attached());
    assert_eq!(kept, FIRST_BOUND_MAX);
    assert!(written > kept, "{written}");
    let (_, kept) = unread(Pair::attached_among_others());
    assert_eq!(kept, INITIAL_WINDOW);

    let mut pair = Pair::attached();
    assert!(
        pair.write_some_here(&[0; 300_000]) > 200_000,
        "unacknowledged"
    );
    let mut pair = Pair::attached_among_others();
    assert!(pair.write_some_here(&[0; 300_000]) < 65_537);
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
