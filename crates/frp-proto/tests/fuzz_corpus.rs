//! The seed corpus of the fuzz targets, and thousands of mutations of it, without a fuzzer.
//!
//! A run prints its seed when it fails; `FUZZ_SEED` sets it again. After a change of the protocol,
//! `cargo test -p frp-proto --test fuzz_corpus -- --ignored` writes the corpus anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use frp_proto::aead::Sealer;
use frp_proto::hello::{self, Algorithm};
use frp_proto::hold::datagram::Datagram;
use frp_proto::hold::frame::{Ack, Attach, AttachStatus, Attached, Frame, ResetCode};
use frp_proto::hold::join::{Join, JoinStatus, Joined};
use frp_proto::hold::key::SessionKey;
use frp_proto::hold::session_frame::{GoodbyeReason, SessionFrame};
use frp_proto::hold::{Generation, UserDatagram};
use frp_proto::path::{
    Ask, Heard, PaddingAnswer, PaddingHead, PathPayload, PathReport, Probe, Queues, Tally,
};
use frp_proto::v2::{self, FrameType};
use frp_proto::{fuzzing, snappy};
use serde_json::Value;

#[test]
fn v1_messages_survive_the_corpus() {
    run("v1_messages", fuzzing::v1_messages);
}

#[test]
fn v2_frames_survive_the_corpus() {
    run("v2_frames", fuzzing::v2_frames);
}

#[test]
fn the_aead_opener_survives_the_corpus() {
    run("aead_opener", fuzzing::aead_opener);
}

#[test]
fn the_snappy_decoder_survives_the_corpus() {
    run("snappy_decoder", fuzzing::snappy_decoder);
}

#[test]
fn hold_frames_survive_the_corpus() {
    run("hold_frames", fuzzing::hold_frames);
}

#[test]
fn path_payloads_survive_the_corpus() {
    run("path_payloads", fuzzing::path_payloads);
}

#[test]
fn user_datagrams_survive_the_corpus() {
    run("user_datagrams", fuzzing::user_datagrams);
}

/// Runs every file of a target's corpus, and mutations of each.
fn run(target: &str, check: fn(&[u8])) {
    let seed = std::env::var("FUZZ_SEED").map_or(DEFAULT_SEED, |text| text.parse().unwrap());
    let mut files: Vec<PathBuf> = fs::read_dir(corpus(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there is a corpus");
    let inputs: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    for (file, input) in files.iter().zip(&inputs) {
        let mut random = Random(seed);
        check(input);
        for round in 0..MUTATIONS {
            let mutated = random.mutate(input, &inputs);
            panic::catch_unwind(|| check(&mutated)).unwrap_or_else(|_| {
                panic!(
                    "FUZZ_SEED={seed}, round {round} of {}: {mutated:02x?}",
                    file.display()
                )
            });
        }
    }
}

/// For each file. A run of all takes a few seconds unoptimised.
const MUTATIONS: usize = 3000;
const DEFAULT_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// xorshift64: the same mutations everywhere, from one number.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound.max(1) as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.below(256).try_into().unwrap()
    }

    /// `input` with one to four changes.
    fn mutate(&mut self, input: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
        // Long inputs are cut, so that a run stays short: what is checked lies in their front.
        let mut data = input[..input.len().min(2048)].to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(data.len());
            match self.below(7) {
                _ if data.is_empty() => data.push(self.byte()),
                0 => data[at] ^= 1 << self.below(8),
                1 => data[at] = self.byte(),
                2 => data[at] = *[0, 0x7f, 0x80, 0xff, b'"', b'{', b'['].get(at % 7).unwrap(),
                3 => data.insert(at, self.byte()),
                4 => drop(data.remove(at)),
                5 => data.truncate(at),
                _ => {
                    let other = &others[self.below(others.len())];
                    let len = self.below(other.len().min(64) + 1);
                    let from = self.below(other.len() - len + 1);
                    data.splice(at..at, other[from..from + len].iter().copied());
                }
            }
        }
        data
    }
}

#[test]
#[ignore = "writes the corpus: cargo test -p frp-proto --test fuzz_corpus -- --ignored"]
fn write_the_seed_corpus() {
    let messages = load("messages");
    for case in messages["v1_messages"].as_array().unwrap() {
        write(
            "v1_messages",
            text(case, "name"),
            &unhex(text(case, "wire")),
        );
    }
    let several: Vec<u8> = messages["v1_messages"].as_array().unwrap()[..6]
        .iter()
        .flat_map(|case| unhex(text(case, "wire")))
        .collect();
    write("v1_messages", "several", &several);
    for (name, json) in [
        (
            "escapes",
            r#"{"error":"\ud83d\ude00\ud83d\u2028<\"\\\b\u0000"}"#.to_owned(),
        ),
        (
            "nested",
            format!(r#"{{"x":{}{}}}"#, "[".repeat(60), "]".repeat(60)),
        ),
        (
            "numbers",
            r#"{"x":[-0,1.5e-7,9223372036854775808],"Error":null}"#.to_owned(),
        ),
    ] {
        let header = [&b"4"[..], &(json.len() as u64).to_be_bytes()].concat();
        write("v1_messages", name, &[&header, json.as_bytes()].concat());
    }

    for case in messages["v2_message_frames"].as_array().unwrap() {
        write("v2_frames", text(case, "name"), &unhex(text(case, "frame")));
    }
    for algorithm in [Algorithm::Aes256Gcm, Algorithm::XChaCha20Poly1305] {
        let client_hello = hello::client_hello_with("tcp", true, true, &[algorithm], [9; 32]);
        let negotiated = hello::negotiate(&client_hello, [7; 32]).unwrap();
        let mut frames = BytesMut::new();
        v2::encode_frame(FrameType::ClientHello, &client_hello, &mut frames).unwrap();
        v2::encode_frame(
            FrameType::ServerHello,
            &negotiated.server_hello,
            &mut frames,
        )
        .unwrap();
        write("v2_frames", &format!("hellos_{algorithm}"), &frames);

        let mut sealed = BytesMut::new();
        let mut sealer = Sealer::new(algorithm, &fuzzing::FIXED_KEY, [3; 24]);
        for plain in [&frames[..], b"x", &[0; 300]] {
            sealer.seal(plain, &mut sealed).unwrap();
        }
        write(
            "aead_opener",
            &format!("three_records_{algorithm}"),
            &sealed,
        );
        let mut sealed = BytesMut::new();
        let mut sealer = Sealer::new(algorithm, &fuzzing::FIXED_KEY, [0xff; 24]);
        sealer.seal(b"the last nonce", &mut sealed).unwrap();
        write("aead_opener", &format!("last_nonce_{algorithm}"), &sealed);
    }

    let vectors = load("snappy");
    for (i, case) in vectors["snappy_framed"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        write(
            "snappy_decoder",
            &format!("recorded_{i}"),
            &unhex(text(case, "wire")),
        );
    }
    let mut compressed = BytesMut::new();
    let mut encoder = snappy::Encoder::new();
    encoder.encode(b"abcdefgh".repeat(100).as_slice(), &mut compressed);
    compressed.extend_from_slice(b"\xfe\x03\0\0pad\x80\0\0\0");
    encoder.encode(b"stored", &mut compressed);
    write("snappy_decoder", "padding", &compressed);
    write_hold_corpus();
    write_path_payloads();
    write_user_datagrams();
}

fn write_hold_corpus() {
    let ack = Ack {
        received: 1000,
        window: 65_536,
    };
    let attach = |generation, is_drain| {
        Frame::Attach(Attach {
            stream: 2,
            generation: Generation(generation),
            is_open: false,
            is_drain,
            ack: Ack { received: 0, ..ack },
        })
    };
    let attached = Frame::Attached(Attached {
        status: AttachStatus::Ok,
        generation: Generation(2),
        ack,
    });
    let data = |offset, len| Frame::Data {
        offset,
        payload: vec![b'd'; len].into(),
    };
    let fin = |offset| Frame::Fin { offset };
    let code = ResetCode::BROKEN;
    let ack = Frame::Ack(ack);
    for (name, frames) in [
        (
            "a_life",
            vec![data(0, 300), ack.clone(), data(300, 5), fin(305)],
        ),
        (
            "two_routes",
            vec![data(100, 9), attach(2, true), data(0, 100), fin(109)],
        ),
        (
            "attached_anew",
            vec![Frame::Gone, attached, data(0, 50), ack.clone(), fin(50)],
        ),
        (
            "a_reset",
            vec![data(0, 1), Frame::Reset { code }, Frame::Gone],
        ),
        (
            "far_ahead",
            vec![data(60_000, 900), data(1 << 40, 9), fin(1 << 50)],
        ),
        (
            "generations",
            vec![attach(5, false), attach(5, true), attach(4, true), ack],
        ),
    ] {
        let mut wire = Vec::new();
        for frame in frames {
            frame.put_header(&mut wire);
            if let Frame::Data { payload, .. } = frame {
                wire.extend_from_slice(&payload);
            }
        }
        write("hold_frames", name, &wire);
    }

    let mut wire = Vec::new();
    let generation = Generation(300);
    let body = b"numbers"[..].into();
    for frame in [
        SessionFrame::Use { generation },
        SessionFrame::Probe { kind: 0xa0, body },
        SessionFrame::Goodbye {
            reason: GoodbyeReason::STOPPED,
        },
    ] {
        frame.encode(&mut wire);
    }
    write("hold_frames", "of_the_session", &wire);

    let mut wire = Vec::new();
    Datagram::Data {
        stream: 2,
        offset: 70_000,
        payload: b"keystroke"[..].into(),
    }
    .encode(&mut wire);
    write("hold_frames", "a_datagram", &wire);

    let key = SessionKey::derive(&[1; 32], &[2; 32], &[3; 32], b"token");
    let join = Join::new(&key, [4; 16], Generation(5), &[6; 32]);
    let mut wire = Vec::new();
    join.encode(&mut wire);
    write("hold_frames", "a_join", &wire);
    let mut wire = Vec::new();
    Joined::new(&key, &join, JoinStatus::Ok, Generation(5), &[6; 32]).encode(&mut wire);
    write("hold_frames", "joined", &wire);
}

fn write_path_payloads() {
    let first = Probe {
        number: 1,
        sent_at: 7,
        ask: Ask::Once,
        next_in: Duration::from_millis(250),
        heard: None,
        queues: Queues::default(),
    };
    let later = Probe {
        number: 90,
        ask: Ask::Twice,
        heard: Some(Heard {
            last: 5,
            held: Duration::from_micros(300),
            missing: 0b101,
        }),
        queues: Queues {
            interactive: 100,
            bulk: 1_000_000,
            delay: Duration::from_millis(40),
        },
        ..first
    };
    for (name, probe) in [("first_probe", first), ("probe_of_a_burst", later)] {
        let mut bytes = Vec::new();
        probe.encode(&mut bytes);
        write("path_payloads", name, &bytes);
    }
    let report = PathReport {
        carrier: 3,
        srtt: Duration::from_millis(50),
        heartbeats: Tally { total: 40, lost: 4 },
        packets: Some(Tally {
            total: 100_000,
            lost: 700,
        }),
        delivered_rate: 12_500_000,
        ..PathReport::default()
    };
    for (name, packets) in [("report", report.packets), ("report_without_packets", None)] {
        let mut bytes = Vec::new();
        PathReport { packets, ..report }.encode(&mut bytes);
        write("path_payloads", name, &bytes);
    }
    for (name, message) in [
        ("kind_and_probe", PathPayload::Probe(later)),
        ("kind_and_report", PathPayload::Report(report)),
    ] {
        let mut bytes = vec![message.kind()];
        message.encode(&mut bytes);
        write("path_payloads", name, &bytes);
    }
    let mut head = Vec::new();
    PaddingHead { bytes: 256 * 1024 }.encode(&mut head);
    write("path_payloads", "padding_head", &head);
    let answer = PaddingAnswer {
        bytes: 260_000,
        time: Duration::from_millis(104),
    };
    let mut bytes = Vec::new();
    answer.encode(&mut bytes);
    write("path_payloads", "padding_answer", &bytes);
}

fn write_user_datagrams() {
    for (name, flow, user, content) in [
        ("ipv4", 1, "192.0.2.1:53", &b"a question"[..]),
        ("ipv6", 70, "[2001:db8::1]:51820", b"a handshake"),
        ("empty", 20_000, "198.51.100.7:9", b""),
        ("high_flow", 1 << 40, "[::1]:65535", &[0xb0; 40]),
    ] {
        let mut wire = Vec::new();
        UserDatagram::encode(flow, user.parse().unwrap(), content, &mut wire);
        write("user_datagrams", name, &wire);
    }
}

fn write(target: &str, name: &str, data: &[u8]) {
    fs::create_dir_all(corpus(target)).unwrap();
    fs::write(corpus(target).join(name), data).unwrap();
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target)
}

fn load(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn text<'v>(case: &'v Value, key: &str) -> &'v str {
    case[key].as_str().unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let nibble = |c: &u8| u8::try_from(char::from(*c).to_digit(16).unwrap()).unwrap();
    text.as_bytes()
        .chunks(2)
        .map(|pair| nibble(&pair[0]) << 4 | nibble(&pair[1]))
        .collect()
}
