//! What strangers and broken peers may send: nothing of it panics, grows without bound, or harms
//! the session.
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

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kcp_proto::control::Unlimited;
use kcp_proto::fec::{Encoder, FirstLook, Framing, Shards};
use kcp_proto::fuzzing;
use kcp_proto::segment::{Command, Header, SegmentError};
use kcp_proto::{Config, DatagramError, Session};
use proptest::prelude::*;

use crate::link::Random;

const CONV: u32 = fuzzing::CONV;

/// Mutated inputs for each target.
const N_MUTATIONS: u64 = 4_000;

#[test]
fn foreign_and_malformed_datagrams_have_no_effect() {
    let mut session = session_with_data();
    let before = format!("{session:?}");
    let good = push(0, b"data");
    let cases = [
        (
            good[..23].to_vec(),
            DatagramError::Segment(SegmentError::TooShort(23)),
        ),
        (
            Header {
                conv: 9,
                ..header(Command::Push)
            }
            .encode()
            .to_vec(),
            DatagramError::Segment(SegmentError::ForeignConv(9)),
        ),
        (
            [
                &good[..],
                &Header {
                    len: 1,
                    ..header(Command::Push)
                }
                .encode(),
            ]
            .concat(),
            DatagramError::Segment(SegmentError::Truncated {
                announced: 1,
                left: 0,
            }),
        ),
        (
            [
                &good[..],
                &Header {
                    una: 2,
                    ..header(Command::Ack)
                }
                .encode(),
            ]
            .concat(),
            DatagramError::UnaBeyond { una: 2, next: 1 },
        ),
    ];
    for (i, (datagram, error)) in cases.into_iter().enumerate() {
        assert_eq!(
            session.handle_datagram(&datagram.into(), start()),
            Err(error)
        );
        assert_eq!(session.stats().n_datagrams_refused, i as u64 + 1);
    }
    assert!(!session.is_readable());
    let after = format!("{session:?}").replace("n_datagrams_refused: 4", "n_datagrams_refused: 0");
    assert_eq!(after, before);

    session.handle_datagram(&good.into(), start()).unwrap();
    assert_eq!(
        session.read(9, start()).as_deref(),
        Some(b"data".as_slice())
    );
}

#[test]
fn acknowledgements_of_what_was_never_sent_are_ignored() {
    let mut session = session_with_data();
    for sn in [1, 2, 1000, u32::MAX, u32::MAX / 2] {
        let ack = Header {
            sn,
            ..header(Command::Ack)
        }
        .encode();
        session
            .handle_datagram(&Bytes::copy_from_slice(&ack), start())
            .unwrap();
    }
    assert_eq!(session.n_in_flight(), 1);
    assert_eq!(session.srtt(), None);
    let ack = Header {
        sn: 0,
        ..header(Command::Ack)
    }
    .encode();
    session
        .handle_datagram(&Bytes::copy_from_slice(&ack), start())
        .unwrap();
    assert_eq!(session.n_in_flight(), 0);
}

#[test]
fn an_acknowledgement_with_a_clock_of_its_own_gives_no_round_trip_time() {
    let mut session = session_with_data();
    let now = start() + Duration::from_millis(40);
    let ack = Header {
        ts: 0x7fff_0000,
        ..header(Command::Ack)
    }
    .encode();
    session
        .handle_datagram(&Bytes::copy_from_slice(&ack), now)
        .unwrap();
    assert_eq!(
        session.n_in_flight(),
        0,
        "the segment has arrived, whatever the clock says"
    );
    assert_eq!(session.srtt(), None);
}

#[test]
fn segments_beyond_the_window_are_not_kept() {
    let mut session = session_with_data();
    for sn in (0..100_000).rev() {
        session
            .handle_datagram(&push(sn, &[1; 100]).into(), start())
            .unwrap();
    }
    let mut n_read = 0;
    while let Some(data) = session.read(usize::MAX, start()) {
        n_read += data.len();
    }
    assert_eq!(n_read, 100 * 1024);
    assert_eq!(session.stats().n_beyond_window, 100_000 - 1024);
}

#[test]
fn a_window_reported_by_an_old_datagram_is_not_believed() {
    let mut session = session_with_data();
    let with = |una, wnd| {
        Bytes::copy_from_slice(
            &Header {
                una,
                wnd,
                ..header(Command::Ack)
            }
            .encode(),
        )
    };
    session.handle_datagram(&with(1, 500), start()).unwrap();
    session.handle_datagram(&with(0, 0), start()).unwrap();
    assert_eq!(session.peer_window(), 500);
}

/// One datagram may hold many segments without data, each of which asks for an acknowledgement.
#[test]
fn answers_are_hardly_larger_than_questions() {
    let mut session = session_with_data();
    let empty = Header {
        sn: 5,
        len: 0,
        ..header(Command::Push)
    }
    .encode();
    let datagram: Bytes = empty.repeat(60).into();
    let (mut n_in, mut n_out) = (0, 0);
    for i in 0..1000 {
        let now = start() + Duration::from_micros(i);
        session.handle_datagram(&datagram, now).unwrap();
        n_in += datagram.len();
        let mut out = Vec::new();
        while session.poll_transmit(&mut out, 8, now).is_some() {}
        n_out += out.len();
    }
    eprintln!("{n_in} bytes in, {n_out} out");
    assert!(n_out < 2 * n_in, "parity included");
}

#[test]
fn fuzzing_seeds_and_their_mutations_hold_the_bounds() {
    for (name, target) in [
        ("kcp_segments", fuzzing::segments as fn(&[u8])),
        ("kcp_fec", fuzzing::fec),
    ] {
        let seeds = corpus(name);
        for seed in &seeds {
            target(seed);
        }
        for i in 0..N_MUTATIONS {
            let mut random = Random::new(i);
            let mut input = seeds[random.below(seeds.len() as u64) as usize].clone();
            for _ in 0..1 + random.below(8) {
                mutate(&mut input, &seeds, &mut random);
            }
            let guard = SayOnPanic(name, i);
            target(&input);
            std::mem::forget(guard);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..1600)) {
        let _ = FirstLook::at(&bytes);
        let mut session = session_with_data();
        let _ = session.handle_datagram(&bytes.into(), start());
    }

    #[test]
    fn any_bytes_behind_a_fec_header_are_taken_or_refused(
        packets in prop::collection::vec(
            (0u32..40, any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..60,
        ),
    ) {
        let mut session = session_with_data();
        for (seqid, is_data, shard) in packets {
            let kind = if is_data { 0xf1u16 } else { 0xf2 };
            let datagram = [&seqid.to_le_bytes()[..], &kind.to_le_bytes(), &shard].concat();
            let _ = session.handle_datagram(&datagram.into(), start());
        }
        prop_assert!(!session.is_readable());
    }
}

struct SayOnPanic(&'static str, u64);

impl Drop for SayOnPanic {
    fn drop(&mut self) {
        eprintln!("target {}, mutation {}", self.0, self.1);
    }
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = |random: &mut Random, len: usize| random.below(len as u64 + 1) as usize;
    let position = at(random, input.len());
    match random.below(6) {
        0 => {
            if let Some(byte) = input.get_mut(position) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(position) {
                *byte = *[0, 1, 0x7f, 0x80, 0xff, 0xf1, 0xf2]
                    .get(at(random, 6))
                    .unwrap();
            }
        }
        2 => input.truncate(position),
        3 => {
            let end = (position + at(random, 100)).min(input.len());
            input.drain(position..end);
        }
        4 => {
            let end = (position + at(random, 100)).min(input.len());
            let copy = input[position..end].to_vec();
            input.splice(position..position, copy);
        }
        _ => {
            let other = &seeds[at(random, seeds.len() - 1)];
            let start = at(random, other.len());
            input.splice(position.., other[start..].iter().copied());
        }
    }
    input.truncate(64 * 1024);
}

/// The seeds in `fuzz/corpus/<name>`. With `WRITE_SEEDS=1` they are made anew.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(name);
    if std::env::var_os("WRITE_SEEDS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for (file, input) in seeds(name == "kcp_fec") {
            std::fs::write(folder.join(file), input).unwrap();
        }
    }
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder:?} has seeds");
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

fn seeds(has_fec: bool) -> Vec<(&'static str, Vec<u8>)> {
    let mut encoder = Encoder::new(Shards::FRP, 0).unwrap();
    let frame = |encoder: &mut Encoder, payload: Vec<u8>, lost: bool, out: &mut Vec<Vec<u8>>| {
        if !has_fec {
            return out.push(payload);
        }
        let mut packet = [vec![0; 8], payload].concat();
        encoder.seal(&mut packet, start());
        if !lost {
            out.push(packet);
        }
        let mut parity = Vec::new();
        while encoder.poll_parity(&mut parity) {
            out.push(std::mem::take(&mut parity));
        }
    };
    let mut data = Vec::new();
    for sn in 0..30 {
        let payload = push(sn, &vec![sn as u8; 20 + 7 * sn as usize]);
        frame(&mut encoder, payload, sn % 10 == 4, &mut data);
    }
    let mut acks = Vec::new();
    for sn in [0, 2, 3, 1, 9, 12] {
        let ack = Header {
            sn,
            una: sn.min(1),
            ..header(Command::Ack)
        }
        .encode()
        .to_vec();
        frame(
            &mut encoder,
            [ack, push(sn, b"both")].concat(),
            false,
            &mut acks,
        );
    }
    let mut windows = Vec::new();
    for (cmd, wnd) in [
        (Command::Ack, 0),
        (Command::AskWindow, 0),
        (Command::TellWindow, 300),
    ] {
        let segment = Header { wnd, ..header(cmd) }.encode().to_vec();
        frame(&mut encoder, segment, false, &mut windows);
    }
    [("data", data), ("acks", acks), ("windows", windows)]
        .map(|(file, run)| {
            let run = run
                .iter()
                .enumerate()
                .map(|(i, it)| (it.as_slice(), i % 7 == 6));
            (file, fuzzing::datagrams(run))
        })
        .into()
}

/// A session that has sent one segment.
fn session_with_data() -> Session {
    let mut session = Session::new(Config::frp(CONV), Box::new(Unlimited::FRP), start());
    session.send(&mut Bytes::from_static(b"hello"), start());
    while session.poll_transmit(&mut Vec::new(), 8, start()).is_some() {}
    assert_eq!(session.n_in_flight(), 1);
    session
}

fn header(cmd: Command) -> Header {
    Header {
        conv: CONV,
        cmd,
        frg: 0,
        wnd: 100,
        ts: 0,
        sn: 0,
        una: 0,
        len: 0,
    }
}

fn push(sn: u32, data: &[u8]) -> Vec<u8> {
    let header = Header {
        sn,
        len: data.len() as u32,
        ..header(Command::Push)
    };
    let datagram = [&header.encode()[..], data].concat();
    assert_eq!(Framing::of(&datagram), Some(Framing::Plain));
    datagram
}

fn start() -> Instant {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    *START.get_or_init(Instant::now)
}
