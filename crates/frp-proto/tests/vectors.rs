//! Bytes recorded from frp v0.70.1, read and written again.
//!
//! The records lie in `tests/vectors/*.json`. What is read from them must come out byte for byte
//! when it is written, so order of fields, omitted zero values and escapes are proven with it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "vectors/sessions.rs"]
mod sessions;

use bytes::{Bytes, BytesMut};
use frp_proto::aead::{NONCE_LEN, Opener, Sealer};
use frp_proto::hello::{self, Algorithm, ControlKeys};
use frp_proto::v2::{self, FrameType};
use frp_proto::{Message, WireVersion, auth, cfb, snappy, v1};
use serde_json::Value;

#[test]
fn a_login_proof_is_the_same_as_in_frp() {
    let vectors = load("auth");
    for case in vectors["privilege_key"].as_array().unwrap() {
        let (token, timestamp) = (text(case, "token"), case["timestamp"].as_i64().unwrap());
        let recorded = text(case, "privilege_key");

        assert_eq!(auth::privilege_key(token.as_bytes(), timestamp), recorded);
        assert!(auth::verify(recorded, token.as_bytes(), timestamp));
        assert!(!auth::verify(recorded, b"another", timestamp));
        assert!(!auth::verify(recorded, token.as_bytes(), timestamp + 1));
        assert!(!auth::verify("", token.as_bytes(), timestamp));
        assert!(!auth::verify(
            &recorded.to_uppercase(),
            token.as_bytes(),
            timestamp
        ));
    }
}

#[test]
fn a_stream_key_is_the_same_as_in_frp() {
    for case in load("cfb")["pbkdf2_aes128_key"].as_array().unwrap() {
        let key = cfb::derive_key(text(case, "token").as_bytes());
        assert_eq!(key[..], hex(case, "aes128_key"));
    }
}

#[test]
fn an_encrypted_stream_is_the_same_as_in_frp_however_it_is_cut() {
    for case in load("cfb")["aes128_cfb_stream"].as_array().unwrap() {
        let key = cfb::derive_key(text(case, "token").as_bytes());
        // The recorder cut some plaintexts into several writes, which leaves no trace.
        let plain = plaintext(case);
        let wire = hex(case, "wire");
        let (iv, ciphertext) = wire.split_first_chunk().unwrap();

        for cut in 1..=plain.len() {
            let mut data = plain.clone();
            let mut encryptor = cfb::Encryptor::new(&key, *iv);
            data.chunks_mut(cut)
                .for_each(|chunk| encryptor.apply(chunk));
            assert_eq!(data, ciphertext, "written in pieces of {cut}");

            let mut decryptor = cfb::Decryptor::new(&key, *iv);
            data.chunks_mut(cut)
                .for_each(|chunk| decryptor.apply(chunk));
            assert_eq!(data, plain, "read in pieces of {cut}");
        }
    }
}

#[test]
fn a_punching_datagram_opens_with_the_secret_key() {
    let case = &load("cfb")["nathole_udp_datagram"];
    let key = cfb::derive_key(text(case, "secret_key").as_bytes());
    let datagram = hex(case, "datagram");
    let (iv, ciphertext) = datagram.split_first_chunk().unwrap();

    let mut plain = BytesMut::from(ciphertext);
    cfb::Decryptor::new(&key, *iv).apply(&mut plain);

    assert_eq!(plain[..], hex(case, "inner_v1"));
    let message = v1::decode(&mut plain).unwrap().unwrap();
    assert_eq!(message.name(), "NatHoleSid");
    assert!(plain.is_empty());
}

#[test]
fn every_message_is_the_same_as_in_frp_in_v1() {
    let vectors = load("messages");
    let cases = vectors["v1_messages"].as_array().unwrap();
    for case in cases {
        let wire = hex(case, "wire");
        let message = decode_one(WireVersion::V1, &wire);

        let mut encoded = BytesMut::new();
        WireVersion::V1.encode(&message, &mut encoded).unwrap();
        assert_eq!(
            encoded[..],
            wire,
            "{}: {}",
            case["name"],
            String::from_utf8_lossy(&encoded)
        );
        assert_eq!(
            case["json_text"].as_str().unwrap().as_bytes(),
            &encoded[v1::Header::LEN..]
        );
        let name = case["name"].as_str().unwrap().split('_').next().unwrap();
        assert!(
            message.name().eq_ignore_ascii_case(name),
            "{} is {name}",
            message.name()
        );
    }
    let seen: Vec<u8> = cases.iter().map(|case| hex(case, "wire")[0]).collect();
    for message_type in frp_proto::MessageType::ALL {
        assert!(
            seen.contains(&message_type.byte()),
            "{} is recorded",
            message_type.name()
        );
    }
}

#[test]
fn every_message_is_the_same_as_in_frp_in_v2() {
    let vectors = load("messages");
    let in_v1 = vectors["v1_messages"].as_array().unwrap();
    let in_v2 = vectors["v2_message_frames"].as_array().unwrap();
    assert_eq!(in_v1.len(), in_v2.len());
    for (in_v1, in_v2) in in_v1.iter().zip(in_v2) {
        assert_eq!(in_v1["name"], in_v2["name"]);
        let frame = hex(in_v2, "frame");
        let message = decode_one(WireVersion::V2, &frame);
        assert_eq!(
            message,
            decode_one(WireVersion::V1, &hex(in_v1, "wire")),
            "same in both"
        );

        let mut encoded = BytesMut::new();
        WireVersion::V2.encode(&message, &mut encoded).unwrap();
        assert_eq!(encoded[..], frame, "{}", in_v2["name"]);
    }
}

#[test]
fn both_hellos_and_the_keys_from_them_are_the_same_as_in_frp() {
    for case in load("v2_control")["v2_aead"].as_array().unwrap() {
        let algorithm = Algorithm::from_name(text(case, "algorithm")).unwrap();
        let client_hello = text(case, "client_hello_payload_text").as_bytes();
        let server_hello = text(case, "server_hello_payload_text").as_bytes();

        // The randoms are 00 01 02 ... and 20 21 22 ... in the record.
        let ours = hello::client_hello_with("tcp", true, true, &both(algorithm), counting(0));
        assert_eq!(ours, client_hello);
        let mut opening = BytesMut::from(&v2::MAGIC[..]);
        v2::encode_frame(FrameType::ClientHello, &ours, &mut opening).unwrap();
        assert_eq!(opening[..], hex(case, "client_magic_and_hello"));

        let negotiated = hello::negotiate(client_hello, counting(0x20)).unwrap();
        assert_eq!(negotiated.server_hello, server_hello);
        assert_eq!(negotiated.algorithm, algorithm);
        let mut answer = BytesMut::from(&hex(case, "server_hello_frame")[..]);
        let frame = v2::decode_frame(&mut answer).unwrap().unwrap();
        assert_eq!(frame.expect(FrameType::ServerHello).unwrap(), server_hello);
        assert_eq!(
            hello::check_server_hello(client_hello, server_hello),
            Ok(algorithm)
        );

        assert_eq!(
            hello::transcript(client_hello, server_hello)[..],
            hex(case, "transcript_hash")
        );
        let token = text(case, "token").as_bytes();
        let keys = ControlKeys::derive(token, algorithm, client_hello, server_hello);
        assert_eq!(keys.client_to_server[..], hex(case, "key_client_to_server"));
        assert_eq!(keys.server_to_client[..], hex(case, "key_server_to_client"));
    }
}

#[test]
fn a_refused_hello_is_answered_as_frp_does() {
    let vectors = load("v2_control");
    let recorded = vectors["v2_server_hello_error_payload_text"]
        .as_str()
        .unwrap();
    let unknown = br#"{"bootstrap":{},"capabilities":{"message":{"codecs":["json"]},"crypto":
        {"algorithms":["rot13"],"clientRandom":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}}"#;

    let refusal = hello::negotiate(unknown, [0; 32]).unwrap_err();

    assert_eq!(refusal.error, hello::HelloError::NoAlgorithm);
    let answer = refusal.server_hello.unwrap();
    assert_eq!(answer, recorded);
    let client_hello = hello::client_hello("tcp", true, true, [0; 32]);
    assert_eq!(
        hello::check_server_hello(&client_hello, &answer)
            .unwrap_err()
            .to_string(),
        "no supported crypto algorithm",
    );
}

#[test]
fn sealed_records_are_the_same_as_in_frp() {
    for case in load("v2_control")["v2_aead"].as_array().unwrap() {
        let algorithm = Algorithm::from_name(text(case, "algorithm")).unwrap();
        for (direction, key) in [
            ("c2s", "key_client_to_server"),
            ("s2c", "key_server_to_client"),
        ] {
            let key = hex(case, key).try_into().unwrap();
            let wire = hex(case, &format!("{direction}_wire"));
            let plain = hex(case, &format!("{direction}_plaintext"));

            let mut sealed = BytesMut::new();
            let mut sealer = Sealer::new(algorithm, &key, stream_nonce(&wire));
            for record in as_go_writes(&plain) {
                sealer.seal(record, &mut sealed).unwrap();
            }
            assert_eq!(sealed[..], wire, "{algorithm} {direction}");
            assert_eq!(open_all(&mut Opener::new(algorithm, &key), sealed), plain);
        }
    }
}

#[test]
fn a_compressed_stream_is_read_as_frp_wrote_it() {
    for case in load("snappy")["snappy_framed"].as_array().unwrap() {
        let wire = hex(case, "wire");
        let writes: Vec<_> = case["writes"]
            .as_array()
            .unwrap()
            .iter()
            .map(write_of)
            .collect();

        let mut decoder = snappy::Decoder::new();
        let mut input = BytesMut::from(&wire[..]);
        assert_eq!(
            decompress_all(&mut decoder, &mut input),
            writes.concat(),
            "{}",
            case["note"]
        );
        assert!(input.is_empty());

        let mut encoder = snappy::Encoder::new();
        let mut encoded = BytesMut::new();
        for plain in &writes {
            encoder.encode(plain, &mut encoded);
        }
        // The compressor is the same algorithm, so that even compressed chunks are equal.
        assert_eq!(encoded[..], wire, "{}", case["note"]);
    }
}

#[test]
fn a_work_stream_is_encrypted_outside_and_compressed_inside() {
    let case = &load("snappy")["work_conn_enc_comp"];
    let key = cfb::derive_key(text(case, "token").as_bytes());
    let (wire, plain) = (hex(case, "wire"), hex(case, "plaintext"));
    let (iv, ciphertext) = wire.split_first_chunk().unwrap();

    let mut data = BytesMut::from(ciphertext);
    cfb::Decryptor::new(&key, *iv).apply(&mut data);
    assert_eq!(
        decompress_all(&mut snappy::Decoder::new(), &mut data),
        plain
    );

    let mut encoded = BytesMut::new();
    snappy::Encoder::new().encode(&plain, &mut encoded);
    cfb::Encryptor::new(&key, *iv).apply(&mut encoded);
    assert_eq!(encoded[..], *ciphertext);
}

/// The only message in `wire`.
fn decode_one(version: WireVersion, wire: &[u8]) -> Message {
    let mut input = BytesMut::from(wire);
    let message = version.decode(&mut input).unwrap().unwrap();
    assert!(input.is_empty(), "nothing is left");
    message
}

/// Everything that the records in `sealed` hold.
fn open_all(opener: &mut Opener, mut sealed: BytesMut) -> Vec<u8> {
    let mut plain = Vec::new();
    while let Some(record) = opener.open(&mut sealed).unwrap() {
        plain.extend_from_slice(&record);
    }
    assert!(sealed.is_empty(), "nothing is left");
    plain
}

/// Everything that the chunks in `input` hold.
fn decompress_all(decoder: &mut snappy::Decoder, input: &mut BytesMut) -> Vec<u8> {
    let mut plain = Vec::new();
    while let Some(chunk) = decoder.decode(input).unwrap() {
        plain.extend_from_slice(&chunk);
    }
    plain
}

/// Cuts frames as Go writes them: header and payload by themselves.
fn as_go_writes(frames: &[u8]) -> Vec<&[u8]> {
    let mut writes = Vec::new();
    let mut rest = frames;
    while !rest.is_empty() {
        let header = v2::FrameHeader::decode(*rest.first_chunk().unwrap()).unwrap();
        let (head, tail) = rest.split_at(v2::FrameHeader::LEN);
        let (payload, tail) = tail.split_at(header.payload_len);
        writes.extend([head, payload]);
        rest = tail;
    }
    writes
}

/// The first bytes of a recorded direction. A short nonce is only the front of them.
fn stream_nonce(wire: &[u8]) -> [u8; NONCE_LEN] {
    *wire.first_chunk().unwrap()
}

fn both(first: Algorithm) -> [Algorithm; 2] {
    match first {
        Algorithm::Aes256Gcm => [first, Algorithm::XChaCha20Poly1305],
        Algorithm::XChaCha20Poly1305 => [first, Algorithm::Aes256Gcm],
    }
}

fn counting(from: u8) -> [u8; 32] {
    std::array::from_fn(|i| from + u8::try_from(i).unwrap())
}

fn plaintext(case: &Value) -> Vec<u8> {
    match case.get("plaintext") {
        Some(_) => hex(case, "plaintext"),
        None => case["writes"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(write_of)
            .collect(),
    }
}

fn write_of(value: &Value) -> Bytes {
    let text = value.as_str().unwrap();
    match text.strip_prefix("zeros:") {
        Some(count) => vec![0; count.parse().unwrap()].into(),
        None => unhex(text).into(),
    }
}

fn load(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn text<'v>(case: &'v Value, key: &str) -> &'v str {
    case[key].as_str().unwrap()
}

fn hex(case: &Value, key: &str) -> Vec<u8> {
    unhex(text(case, key))
}

fn unhex(text: &str) -> Vec<u8> {
    let nibble = |c: &u8| u8::try_from(char::from(*c).to_digit(16).unwrap()).unwrap();
    text.as_bytes()
        .chunks(2)
        .map(|pair| nibble(&pair[0]) << 4 | nibble(&pair[1]))
        .collect()
}
