//! What kcp-go and frp have put on the wire, read and written by this crate.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "tests"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use kcp_proto::control::Unlimited;
use kcp_proto::fec::{DATA_HEADER_LEN, Decoder, Encoder, FirstLook, Framing, Shards};
use kcp_proto::reed_solomon::ReedSolomon;
use kcp_proto::segment::{Command, Header, Segments};
use kcp_proto::{Config, Session};

const RS_10_3: &str = include_str!("vectors/rs_10_3.txt");
const KCP_FEC_10_3: &str = include_str!("vectors/kcp_fec_10_3.txt");
const KCP_SEGMENT_PUSH: &str = include_str!("vectors/kcp_segment_push.txt");
const FRP_DATAGRAMS: &str = include_str!("vectors/frp_datagrams.txt");

#[test]
fn parity_rows_are_those_of_klauspost() {
    let rows: Vec<Vec<u8>> = lines(RS_10_3)
        .map(|words| words.iter().map(|word| word.parse().unwrap()).collect())
        .collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(ReedSolomon::new(10, 3).unwrap().parity_rows(), rows);
}

#[test]
fn the_encoder_makes_the_packets_of_kcp_go() {
    let mut encoder = Encoder::new(Shards::FRP, 0).unwrap();
    for Group { data, parity, .. } in groups() {
        for packet in data {
            let mut sealed = packet.to_vec();
            sealed[..DATA_HEADER_LEN].fill(0);
            encoder.seal(&mut sealed, start());
            assert_eq!(sealed, packet);
        }
        for packet in parity {
            let mut made = Vec::new();
            assert!(encoder.poll_parity(&mut made));
            assert_eq!(made, packet);
        }
        assert!(!encoder.has_parity());
    }
}

#[test]
fn reed_solomon_recovers_what_kcp_go_dropped() {
    let code = ReedSolomon::new(10, 3).unwrap();
    for Group {
        data,
        parity,
        dropped,
    } in groups()
    {
        let shard_len = parity[0].len() - 6;
        let at_hand: Vec<Option<&[u8]>> = data
            .iter()
            .enumerate()
            .map(|(i, packet)| (!dropped.iter().any(|(at, _)| *at == i)).then_some(&packet[6..]))
            .collect();
        let parity: Vec<Option<&[u8]>> = parity.iter().map(|packet| Some(&packet[6..])).collect();
        let recovered = code.reconstruct(&at_hand, &parity, shard_len).unwrap();
        assert_eq!(recovered.len(), dropped.len());
        for (shard, (_, payload)) in recovered.iter().zip(&dropped) {
            assert_eq!(&shard[2..2 + payload.len()], payload);
        }
    }
}

#[test]
fn a_group_whose_parity_was_skipped_takes_ten_numbers() {
    // kcp-go goes on without a gap after such a group. This crate's encoder leaves one instead.
    let headers: Vec<Bytes> = lines(KCP_FEC_10_3)
        .filter(|words| words[0] == "skipped")
        .map(|words| hex(words[1]))
        .collect();
    let first = 2 * 13;
    for (i, header) in headers.iter().enumerate() {
        let mut datagram = header.to_vec();
        datagram.extend([0, 0]);
        assert_eq!(
            Framing::of(&datagram),
            Some(Framing::Data {
                seqid: first + i as u32
            })
        );
    }
    assert_eq!(headers.len(), 11);

    let mut encoder = Encoder::new(Shards::FRP, first).unwrap();
    let mut packet = [0; 40];
    for i in 0..11 {
        let pause = Duration::from_millis(if i < 9 { 0 } else { 500 });
        encoder.seal(&mut packet, start() + pause);
        let seqid = if i < 10 { first + i } else { first + 13 };
        assert_eq!(Framing::of(&packet), Some(Framing::Data { seqid }));
        assert!(!encoder.has_parity());
    }
}

#[test]
fn a_segment_is_written_as_kcp_writes_it() {
    let value = |name: &str| {
        lines(KCP_SEGMENT_PUSH)
            .find(|words| words[0] == name)
            .unwrap()[1]
            .to_owned()
    };
    let (payload, segment) = (hex(&value("payload")), hex(&value("segment")));
    let header = Header {
        conv: value("conv").parse().unwrap(),
        cmd: Command::Push,
        frg: 0,
        wnd: 512,
        ts: 0,
        sn: 0,
        una: 0,
        len: payload.len() as u32,
    };
    let written: Vec<u8> = header
        .encode()
        .into_iter()
        .chain(payload.iter().copied())
        .collect();
    assert_eq!(written, segment);

    // A whole session writes it too, except for its window, which is larger.
    let config = Config {
        fec: None,
        ..Config::frp(header.conv)
    };
    let mut session = Session::new(config, Box::new(Unlimited::FRP), start());
    let mut data = payload;
    session.send(&mut data, start());
    let mut out = Vec::new();
    session.poll_transmit(&mut out, 1, start()).unwrap();
    out[6..8].copy_from_slice(&512u16.to_le_bytes());
    assert_eq!(out, segment);
}

#[test]
fn every_datagram_of_frp_is_understood() {
    let datagrams = captured();
    assert_eq!(datagrams.len(), 22);
    for (_, datagram) in datagrams {
        match FirstLook::at(&datagram).unwrap() {
            FirstLook::Parity => {}
            FirstLook::Segment(header) => {
                assert_eq!(header.conv, 0x81ba_5ea9);
                let mut segments = Segments::new(&datagram[DATA_HEADER_LEN..], header.conv);
                assert!(segments.all(|segment| segment.is_ok_and(|(header, _)| header.frg == 0)));
                assert!(segments.rest().is_empty());
            }
        }
    }
}

#[test]
fn a_lost_datagram_of_frps_is_recovered_from_its_parity() {
    let from_frps: Vec<Bytes> = captured()
        .into_iter()
        .filter(|(from_frpc, _)| !from_frpc)
        .map(|(_, it)| it)
        .collect();
    let is_of = |datagram: &Bytes, wanted: u32| matches!(Framing::of(datagram), Some(Framing::Data { seqid }) if seqid == wanted);
    for lost in 0..10 {
        let mut decoder = Decoder::new(Shards::FRP, 0x81ba_5ea9).unwrap();
        let mut recovered = Vec::new();
        for datagram in from_frps.iter().filter(|datagram| !is_of(datagram, lost)) {
            recovered.extend(match Framing::of(datagram).unwrap() {
                Framing::Data { seqid } => decoder.handle_data(seqid, datagram, start()),
                Framing::Parity { seqid } => decoder.handle_parity(seqid, datagram, start()),
                Framing::Plain => unreachable!("frp adds error correction to everything"),
            });
        }
        let original = from_frps
            .iter()
            .find(|datagram| is_of(datagram, lost))
            .unwrap();
        assert_eq!(
            recovered,
            [original.slice(DATA_HEADER_LEN..)],
            "without packet {lost}"
        );
    }
}

/// Plays the captured conversation into both sides' sessions and reads the streams.
#[test]
fn the_streams_of_a_captured_conversation_come_out_whole() {
    for (from_frpc, begins_with) in [(true, b"\0\x01\0\x01".as_slice()), (false, b"\0\x01\0\x02")] {
        let config = Config::frp(0x81ba_5ea9);
        let mut session = Session::new(config, Box::new(Unlimited::FRP), start());
        // Acknowledgements in the capture are for what the session would have sent itself.
        let mut answer = Bytes::from(vec![0; 20_000]);
        session.send(&mut answer, start());
        while session
            .poll_transmit(&mut Vec::new(), 99, start())
            .is_some()
        {}
        let mut stream = Vec::new();
        for (_, datagram) in captured()
            .iter()
            .filter(|(direction, _)| *direction == from_frpc)
        {
            session.handle_datagram(datagram, start()).unwrap();
            while let Some(data) = session.read(usize::MAX, start()) {
                stream.extend_from_slice(&data);
            }
        }
        assert!(stream.starts_with(begins_with), "{:02x?}", &stream[..12]);
        assert!(stream.windows(9).any(|window| window == b"ping-data"));
    }
}

/// One line of words for each line that is no comment.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(' ').collect())
}

struct Group {
    data: Vec<Bytes>,
    parity: Vec<Bytes>,
    dropped: Vec<(usize, Bytes)>,
}

fn groups() -> Vec<Group> {
    let mut groups = Vec::new();
    for words in lines(KCP_FEC_10_3) {
        if words[0] == "group" {
            groups.push(Group {
                data: Vec::new(),
                parity: Vec::new(),
                dropped: Vec::new(),
            });
            continue;
        }
        let Some(group) = groups.last_mut() else {
            continue;
        };
        match words[0] {
            "data" => group.data.push(hex(words[1])),
            "parity" => group.parity.push(hex(words[1])),
            "dropped" => group
                .dropped
                .push((words[1].parse().unwrap(), hex(words[2]))),
            _ => {}
        }
    }
    assert_eq!(groups.len(), 2);
    groups
}

/// The captured datagrams, and whether each came from frpc.
fn captured() -> Vec<(bool, Bytes)> {
    lines(FRP_DATAGRAMS)
        .map(|words| {
            let datagram = hex(words[3]);
            assert_eq!(datagram.len(), words[2].parse::<usize>().unwrap());
            (words[1] == ">", datagram)
        })
        .collect()
}

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .bytes()
        .map(|digit| (digit as char).to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn start() -> Instant {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    *START.get_or_init(Instant::now)
}
