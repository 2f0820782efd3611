//! What a fuzzer throws at a session, and what must hold whatever it throws.

use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::mux::batch::Batch;
use crate::mux::{MuxConfig, Role};

use super::{BACKLOG, Phase, REFUSALS_MAX, STRANGER_STREAMS, Session};

/// See [`crate::fuzzing::mux_bytes`].
pub(crate) fn fuzz(data: &[u8]) {
    let now = Instant::now();
    for role in [Role::Client, Role::Server] {
        let whole = run(role, false, data, data.len(), now);
        assert_eq!(
            whole,
            run(role, false, data, 1, now),
            "cuts make no difference"
        );
        assert_eq!(
            whole,
            run(role, false, data, 13, now),
            "cuts make no difference"
        );
        run(role, true, data, 5, now);
        run_with_application(role, data, now);
    }
}

/// Feeds `data` in pieces, and says what has become of the session.
fn run(role: Role, is_stranger: bool, data: &[u8], cut: usize, now: Instant) -> String {
    let mut session = Session::new(role, &MuxConfig::default(), is_stranger, now);
    let mut unparsed = BytesMut::new();
    for piece in data.chunks(cut.max(1)) {
        unparsed.extend_from_slice(piece);
        session.handle_bytes(&mut unparsed, now);
        assert!(unparsed.len() < 12, "only the start of a header is kept");
    }
    assert!(session.accept_queue.len() <= BACKLOG);
    assert!(session.resets.len() <= REFUSALS_MAX);
    assert!(!is_stranger || session.streams.len() <= STRANGER_STREAMS);
    assert!(session.n_unread <= data.len());
    assert_eq!(unread(&session), session.n_unread);
    let closed = &session.closed;
    format!("{closed:?} {} {:?}", session.n_unread, session.accept_queue)
}

/// Feeds `data` while an application uses what comes of it, and time passes.
fn run_with_application(role: Role, data: &[u8], mut now: Instant) {
    let mut session = Session::new(role, &MuxConfig::default(), false, now);
    let mut unparsed = BytesMut::new();
    let mut handles = Vec::new();
    let mut n_read = 0;
    if let Ok(Some(id)) = session.open(now) {
        handles.push(id);
    }
    for (n, piece) in data.chunks(17).enumerate() {
        now += Duration::from_millis(20);
        unparsed.extend_from_slice(piece);
        session.handle_bytes(&mut unparsed, now);
        session.handle_timeout(now);
        while let Ok(Some(id)) = session.accept() {
            handles.push(id);
        }
        for id in &handles {
            if let Poll::Ready(Ok(chunk)) = session.read(*id, 100, Waker::noop()) {
                n_read += chunk.len();
            }
            let _ = session.write_copy(*id, b"answer", Waker::noop());
        }
        match n % 7 {
            3 => handles
                .iter()
                .take(1)
                .for_each(|id| drop(session.finish(*id))),
            5 => handles
                .drain(..handles.len().min(1))
                .for_each(|id| session.drop_stream(id, now)),
            6 => handles.iter().take(1).for_each(|id| session.reset(*id)),
            _ => {}
        }
        let mut batch = Batch::default();
        session.poll_transmit(&mut batch, now);
        session.take_effects();
        assert_eq!(unread(&session), session.n_unread);
    }
    assert!(n_read <= data.len());
    session.close();
    session.handle_eof(!unparsed.is_empty());
    assert_eq!(session.phase(), Phase::Over);
    for id in handles {
        session.drop_stream(id, now);
    }
    assert_eq!(session.n_unsent, 0);
}

fn unread(session: &Session) -> usize {
    session
        .streams
        .values()
        .map(|stream| stream.recv.len())
        .sum()
}
