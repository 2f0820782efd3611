//! Where fuzzing gets in: any bytes are played into the parsers and a session.
//!
//! An input is a run of datagrams, each behind its length in two bytes, little-endian, of which the
//! highest bit asks for a pause before it. [`datagrams`] writes one, for seeds.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::control::Unlimited;
use crate::fec::{FirstLook, Framing, Shards};
use crate::{Config, Session};

/// The conversation of the session that is fed. Seeds are of it.
pub const CONV: u32 = 0x0403_0201;

/// Set in the length of a datagram that comes after a pause.
const PAUSE: u16 = 0x8000;

/// Plays datagrams of bare segments to a session that has sent some data itself.
///
/// # Panics
///
/// When a bound of the session does not hold.
pub fn segments(input: &[u8]) {
    play(
        input,
        Config {
            fec: None,
            ..Config::frp(CONV)
        },
    );
}

/// Plays datagrams to a session and adds the FEC header of a data packet to those that have none,
/// so that mutations reach the decoder.
///
/// # Panics
///
/// When a bound of the session does not hold.
pub fn fec(input: &[u8]) {
    play(
        input,
        Config {
            fec: Some(Shards::FRP),
            ..Config::frp(CONV)
        },
    );
}

/// Writes an input: datagrams, and whether there is a pause before each.
pub fn datagrams<'a>(datagrams: impl IntoIterator<Item = (&'a [u8], bool)>) -> Vec<u8> {
    let mut input = Vec::new();
    for (datagram, has_pause) in datagrams {
        let len = u16::try_from(datagram.len()).unwrap_or(0) & !PAUSE;
        let flags = if has_pause { PAUSE } else { 0 };
        input.extend((len | flags).to_le_bytes());
        input.extend(&datagram[..usize::from(len)]);
    }
    input
}

fn play(input: &[u8], config: Config) {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do: only distances count"
    )]
    let mut now = Instant::now();
    let limit = (
        config.send_window as usize,
        2 * config.receive_window as usize,
    );
    let adds_header = config.fec.is_some();
    let mut session = Session::new(config, Box::new(Unlimited::FRP), now);
    let mut data = Bytes::from(vec![0x55; 30_000]);
    session.send(&mut data, now);
    let mut seqid = 0;
    let mut rest = input;
    while let Some((head, tail)) = rest.split_first_chunk::<2>() {
        let head = u16::from_le_bytes(*head);
        now += Duration::from_millis(if head & PAUSE != 0 { 700 } else { 3 });
        let (datagram, tail) = tail.split_at(usize::from(head & !PAUSE).min(tail.len()));
        rest = tail;

        // A refused datagram is none of the session's business; what counts is what it does next.
        let _ = FirstLook::at(datagram);
        let mut datagram = datagram.to_vec();
        if adds_header && Framing::of(&datagram) == Some(Framing::Plain) {
            let size = u16::try_from(datagram.len() + 2).unwrap_or(u16::MAX);
            let header = [
                &u32::to_le_bytes(seqid)[..],
                &[0xf1, 0],
                &size.to_le_bytes(),
            ]
            .concat();
            datagram.splice(0..0, header);
            seqid += 1;
        }
        let _ = session.handle_datagram(&datagram.into(), now);
        session.handle_timeout(now);
        drain(&mut session, now);
        assert!(session.n_waiting() <= limit.0, "the send window is a bound");
    }
    let mut n_read = 0;
    while let Some(data) = session.read(usize::MAX, now) {
        assert!(!data.is_empty(), "what is read is something");
        n_read += 1;
    }
    assert!(n_read <= limit.1, "the receive window is a bound");
}

/// Takes what is to be sent, which must come to an end, and leave nothing due.
fn drain(session: &mut Session, now: Instant) {
    let mut out = Vec::new();
    for _ in 0..10_000 {
        out.clear();
        let Some(transmit) = session.poll_transmit(&mut out, 8, now) else {
            assert!(
                session.poll_timeout().is_none_or(|at| at > now),
                "there is always a next time"
            );
            return;
        };
        assert!(
            transmit.datagram_len <= session.config().max_datagram_len(),
            "the MTU is kept"
        );
    }
    unreachable!("one datagram leads to a bounded number of others");
}
