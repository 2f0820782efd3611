//! Any bytes, as frames, datagrams and joins of held streams, and to streams that live.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{cut_of, read_all};
use crate::hold::datagram::Datagram;
use crate::hold::frame::{Decoder, Frame, FrameError};
use crate::hold::join::{Join, Joined};
use crate::hold::session_frame::SessionFrame;
use crate::hold::{Budget, CarrierId, Generation, HeldStream, INITIAL_WINDOW, Output, Route, Side};

/// Everything that two Holdfasts say to each other below frp's messages.
///
/// # Panics
///
/// When how the input is cut matters, when something is not read as it was written, or when a
/// bound of a stream does not hold.
pub fn hold_frames(data: &[u8]) {
    let whole = read_frames(data, data.len());
    let cut = read_frames(data, cut_of(data));
    assert_eq!(whole, cut, "how the input is cut does not matter");
    for frame in &whole.0 {
        check_frame(frame);
    }
    check_session_frames(data);
    check_datagram(data);

    let whole = read_all(data, data.len(), Join::decode);
    assert_eq!(whole, read_all(data, cut_of(data), Join::decode));
    let whole = read_all(data, data.len(), Joined::decode);
    assert_eq!(whole, read_all(data, cut_of(data), Joined::decode));

    for side in [Side::Opener, Side::Acceptor] {
        play(side, data);
    }
}

/// Frames, with the parts of one DATA frame put together; the error; and whether the input ends
/// between two frames.
fn read_frames(data: &[u8], piece_len: usize) -> (Vec<Frame>, Option<FrameError>, bool) {
    let data = Bytes::copy_from_slice(data);
    let mut decoder = Decoder::default();
    let mut frames: Vec<Frame> = Vec::new();
    for piece in data.chunks(piece_len.max(1)) {
        let mut input = data.slice_ref(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(None) => break,
                Ok(Some(frame)) => append(&mut frames, frame),
                Err(error) => return (frames, Some(error), true),
            }
        }
        assert!(input.is_empty(), "all of it is used up");
    }
    (frames, None, decoder.is_between_frames())
}

/// Appends a frame, or, to a DATA frame, what goes on where it ends.
fn append(frames: &mut Vec<Frame>, frame: Frame) {
    if let (
        Some(Frame::Data { offset, payload }),
        Frame::Data {
            offset: next,
            payload: more,
        },
    ) = (frames.last_mut(), &frame)
        && *offset + payload.len() as u64 == *next
    {
        *payload = [&payload[..], more].concat().into();
        return;
    }
    frames.push(frame);
}

fn check_frame(frame: &Frame) {
    if matches!(frame, Frame::Data { payload, .. } if payload.len() > 16 * 1024) {
        // Several that follow each other.
        return;
    }
    let mut wire = Vec::new();
    frame.put_header(&mut wire);
    if let Frame::Data { payload, .. } = frame {
        wire.extend_from_slice(payload);
    }
    let read = read_frames(&wire, wire.len());
    assert_eq!(
        read,
        (vec![frame.clone()], None, true),
        "what was written is read"
    );
}

fn check_session_frames(data: &[u8]) {
    let whole = read_all(data, data.len(), SessionFrame::decode);
    let cut = read_all(data, cut_of(data), SessionFrame::decode);
    assert_eq!(whole, cut, "how the input is cut does not matter");
    for frame in whole.0 {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        let read = read_all(&wire, wire.len(), SessionFrame::decode);
        assert_eq!(read, (vec![frame], None, 0), "what was written is read");
    }
}

fn check_datagram(data: &[u8]) {
    let Ok(datagram) = Datagram::decode(Bytes::copy_from_slice(data)) else {
        return;
    };
    let mut wire = Vec::new();
    datagram.encode(&mut wire);
    assert_eq!(
        Datagram::decode(wire.into()),
        Ok(datagram),
        "what was written is read"
    );
}

/// Plays the input to a stream that has sent something itself. Whenever it refuses something, it
/// is attached anew, as its owner would do.
fn play(side: Side, data: &[u8]) {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do: only distances count"
    )]
    let mut now = Instant::now();
    let budget = Budget::new(1 << 20);
    let mut generation = 1;
    let mut stream = HeldStream::on_route(2, side, route(generation), &budget);
    let mut decoder = Decoder::default();
    stream.write(&mut Bytes::from_static(&[0x55; 3000]));
    let mut input = Bytes::copy_from_slice(data);
    loop {
        now += Duration::from_millis(7);
        stream.handle_timeout(now);
        transmit(&mut stream, now);
        while stream.poll_event().is_some() {}
        assert!(
            stream.kept() <= INITIAL_WINDOW + 3000,
            "what was granted is a bound"
        );
        let result = match decoder.decode(&mut input) {
            Ok(None) => break,
            Ok(Some(Frame::Attach(attach))) => {
                let route = Route {
                    generation: attach.generation,
                    ..route(0)
                };
                stream.handle_attach(route, &attach, now)
            }
            Ok(Some(frame)) => match stream.route() {
                Some(route) => stream.handle_frame(route, frame, now),
                None => Ok(()),
            },
            // The rest is no frame, whatever follows.
            Err(_) => break,
        };
        if result.is_err()
            && let Some(route) = stream.route()
        {
            stream.handle_route_end(route, false);
        }
        if stream.wants_route() {
            generation += 1;
            stream.attach(route(generation), false, now);
        }
    }
    while stream.read(1000, now).is_some() {}
    drop(stream);
    assert_eq!(budget.used(), 0, "what ends gives back what it had");
}

/// Takes what is to be sent, which must come to an end.
fn transmit(stream: &mut HeldStream, now: Instant) {
    let mut out = Output::default();
    for _ in 0..100 {
        let Some(route) = stream.route() else {
            return;
        };
        let wanted = stream.wants_transmit(now);
        let has_some = stream.poll_transmit(route, 1000, now, &mut out);
        assert_eq!(wanted, has_some, "it knows whether it has something");
        if !has_some {
            return;
        }
        out.take();
    }
    unreachable!("a stream has a bounded number of bytes to send");
}

fn route(generation: u64) -> Route {
    Route {
        carrier: CarrierId(1),
        generation: Generation(generation),
    }
}
