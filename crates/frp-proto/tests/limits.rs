//! What is refused by its first bytes, before anything is kept for it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::BytesMut;
use frp_proto::aead::{AeadError, Opener};
use frp_proto::hello::{self, Algorithm, HelloError};
use frp_proto::msg::{Login, Ping, Pong};
use frp_proto::snappy::{Decoder, SnappyError};
use frp_proto::{DecodeError, EncodeError, Message, WireVersion, v1, v2};

#[test]
fn a_v1_length_out_of_range_is_refused_by_the_header() {
    let decode = |len: i64| {
        let mut input = BytesMut::from(&[&b"h"[..], &len.to_be_bytes()].concat()[..]);
        WireVersion::V1.decode(&mut input)
    };
    assert_eq!(decode(10240), Ok(None), "the longest is waited for");
    assert_eq!(
        decode(10241),
        Err(DecodeError::TooLong {
            len: 10241,
            max: 10240
        })
    );
    assert_eq!(
        decode(i64::MAX),
        Err(DecodeError::TooLong {
            len: u64::MAX >> 1,
            max: 10240
        })
    );
    assert_eq!(decode(-1), Err(DecodeError::NegativeLength(-1)));
    assert_eq!(decode(i64::MIN), Err(DecodeError::NegativeLength(i64::MIN)));
    assert_eq!(
        decode(0),
        Err(json_error("Ping", decode(0).unwrap_err())),
        "no JSON is none"
    );
}

#[test]
fn an_unknown_v1_type_is_refused_by_the_first_byte() {
    let known = b"o1p2cwrsv3h4uinm56";
    for byte in 0..=u8::MAX {
        let read = WireVersion::V1.decode(&mut BytesMut::from(&[byte][..]));
        if known.contains(&byte) {
            assert_eq!(read, Ok(None));
        } else {
            assert_eq!(read, Err(DecodeError::UnknownType(byte)));
        }
    }
}

#[test]
fn a_v2_header_out_of_range_is_refused() {
    let decode = |header: [u8; 8]| WireVersion::V2.decode(&mut BytesMut::from(&header[..]));
    assert_eq!(
        decode([0, 16, 0, 0, 0, 1, 0, 0]),
        Ok(None),
        "the longest is waited for"
    );
    let too_long = DecodeError::TooLong {
        len: 65537,
        max: 65536,
    };
    assert_eq!(decode([0, 16, 0, 0, 0, 1, 0, 1]), Err(too_long));
    let too_long = DecodeError::TooLong {
        len: u32::MAX.into(),
        max: 65536,
    };
    assert_eq!(decode([0, 16, 0, 0, 255, 255, 255, 255]), Err(too_long));
    assert_eq!(
        decode([0, 16, 0, 1, 0, 0, 0, 0]),
        Err(DecodeError::UnknownFlags(1))
    );
    assert_eq!(
        decode([0, 16, 128, 0, 0, 0, 0, 0]),
        Err(DecodeError::UnknownFlags(0x8000))
    );
    for found in [0, 1, 2, 3, 15, 17, 0x1000] {
        let [hi, lo] = u16::to_be_bytes(found);
        let unexpected = DecodeError::UnexpectedFrame {
            found,
            expected: 16,
        };
        assert_eq!(decode([hi, lo, 0, 0, 0, 0, 1, 0]), Err(unexpected));
    }
}

#[test]
fn a_v2_message_needs_an_id_that_is_known() {
    assert_eq!(
        v2::decode_message_payload(b""),
        Err(DecodeError::NoMessageId(0))
    );
    assert_eq!(
        v2::decode_message_payload(b"\0"),
        Err(DecodeError::NoMessageId(1))
    );
    for id in [0, 19, u16::MAX] {
        let payload = [&id.to_be_bytes()[..], b"{}"].concat();
        assert_eq!(
            v2::decode_message_payload(&payload),
            Err(DecodeError::UnknownMessageId(id))
        );
    }
}

#[test]
fn a_message_that_the_peer_would_refuse_is_not_written() {
    // `{"error":"..."}` has eleven bytes around the text.
    let pong = |len| {
        Message::from(Pong {
            error: "x".repeat(len),
        })
    };
    let longest = [
        (WireVersion::V1, v1::MAX_PAYLOAD),
        (WireVersion::V2, v2::MAX_PAYLOAD - 2),
    ];
    for (version, max) in longest {
        let mut out = BytesMut::from(&b"before"[..]);
        version.encode(&pong(max - 12), &mut out).unwrap();
        let len = out.len();
        assert_eq!(len, "before".len() + version.max_message_len());

        let refused = version.encode(&pong(max - 11), &mut out);
        assert!(
            matches!(refused, Err(EncodeError::TooLong { what: "Pong", .. })),
            "{refused:?}"
        );
        assert_eq!(out.len(), len, "and leaves no trace");

        let mut input = out.split_off("before".len());
        assert_eq!(version.decode(&mut input), Ok(Some(pong(max - 12))));
    }
    let hello = vec![b' '; v2::MAX_PAYLOAD + 1];
    let mut out = BytesMut::new();
    assert!(v2::encode_frame(v2::FrameType::ClientHello, &hello, &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn an_error_tells_no_secret() {
    let text = br#"{"privilege_key":"hunter2","timestamp":"hunter2"}"#;
    let error = v1::decode_payload(frp_proto::MessageType::Ping, text).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read Ping: wrong JSON type: expected an integer at byte 39",
    );
    assert_eq!(error.cause(), "json");
}

#[test]
fn an_encrypted_record_out_of_range_is_refused_by_its_length() {
    for algorithm in [Algorithm::Aes256Gcm, Algorithm::XChaCha20Poly1305] {
        let nonce_len = if algorithm == Algorithm::Aes256Gcm {
            12
        } else {
            24
        };
        let open = |len: u32| {
            let mut input = BytesMut::zeroed(nonce_len);
            input.extend_from_slice(&len.to_be_bytes());
            Opener::new(algorithm, &[0; 32]).open(&mut input)
        };
        for len in [0, 15, 65553, u32::MAX] {
            assert_eq!(open(len), Err(AeadError::Length(len)));
        }
        for len in [16, 65552] {
            assert_eq!(open(len), Ok(None), "is waited for");
        }
    }
}

#[test]
fn a_snappy_stream_is_refused_where_frp_refuses_it() {
    const START: &[u8] = b"\xff\x06\0\0sNaPpY";
    let decode = |bytes: &[u8]| {
        let mut decoder = Decoder::new();
        let read = decoder.decode(&mut BytesMut::from(bytes));
        if read.is_err() {
            assert_eq!(
                decoder.decode(&mut BytesMut::from(START)),
                read,
                "an error is final"
            );
        }
        read
    };
    let behind = |chunk: &[u8]| decode(&[START, chunk].concat());

    assert_eq!(decode(b""), Ok(None));
    assert_eq!(
        decode(b"\x01\x09\0\0"),
        Err(SnappyError::NoIdentifier),
        "it comes first"
    );
    assert_eq!(decode(b"\xff\x05\0\0"), Err(SnappyError::NoIdentifier));
    assert_eq!(
        decode(b"\xff\x06\0\0sNaPpX"),
        Err(SnappyError::NoIdentifier)
    );
    assert_eq!(behind(START), Ok(None), "and may come again");

    assert_eq!(behind(b"\x02\0\0\0"), Err(SnappyError::Unsupported));
    assert_eq!(behind(b"\x7f\0\0\0"), Err(SnappyError::Unsupported));
    assert_eq!(
        behind(b"\x80\x01\0\0x\xfd\0\0\0\xfe\x02\0\0xx"),
        Ok(None),
        "passed over"
    );

    assert_eq!(
        behind(b"\0\x03\0\0"),
        Err(SnappyError::Corrupt),
        "no room for a checksum"
    );
    assert_eq!(behind(b"\x01\x03\0\0"), Err(SnappyError::Corrupt));
    assert_eq!(behind(b"\x01\x04\0\x01"), Ok(None), "64 KiB are waited for");
    assert_eq!(behind(b"\x01\x05\0\x01"), Err(SnappyError::Corrupt));
    assert_eq!(behind(b"\0\xff\xff\xff"), Err(SnappyError::Unsupported));
    assert_eq!(behind(b"\xfe\xff\xff\xff"), Err(SnappyError::Unsupported));
    // 4 GiB announced inside a short chunk.
    let bomb = b"\0\x0b\0\0\0\0\0\0\xff\xff\xff\xff\x0f\0\0";
    assert_eq!(behind(bomb), Err(SnappyError::Corrupt));
    assert_eq!(
        behind(b"\x01\x05\0\0\0\0\0\0x"),
        Err(SnappyError::Corrupt),
        "wrong checksum"
    );
}

#[test]
fn a_hello_without_what_is_needed_is_refused_with_frps_words() {
    let hello = |codecs: &str, algorithms: &str, random: &str| {
        let text = format!(
            r#"{{"capabilities":{{"message":{{"codecs":{codecs}}},"crypto":{{"algorithms":{algorithms},"clientRandom":"{random}"}}}}}}"#
        );
        hello::negotiate(text.as_bytes(), [1; 32])
            .map(|n| n.algorithm)
            .map_err(|r| r.error)
    };
    const RANDOM: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const BOTH: &str = r#"["future","xchacha20-poly1305","aes-256-gcm"]"#;

    assert_eq!(
        hello(r#"["json"]"#, BOTH, RANDOM),
        Ok(Algorithm::XChaCha20Poly1305)
    );
    for (codecs, algorithms, random, words) in [
        ("[]", BOTH, RANDOM, "unsupported message codec"),
        (r#"["JSON"]"#, BOTH, RANDOM, "unsupported message codec"),
        (
            r#"["json"]"#,
            BOTH,
            "",
            "invalid crypto client random length 0, want 32",
        ),
        (
            r#"["json"]"#,
            BOTH,
            "AAEC",
            "invalid crypto client random length 3, want 32",
        ),
        (r#"["json"]"#, "[]", RANDOM, "no supported crypto algorithm"),
        (
            r#"["json"]"#,
            r#"["AES-256-GCM"]"#,
            RANDOM,
            "no supported crypto algorithm",
        ),
    ] {
        assert_eq!(
            hello(codecs, algorithms, random).unwrap_err().to_string(),
            words
        );
    }
    let refusal = hello::negotiate(b"not JSON", [1; 32]).unwrap_err();
    assert!(matches!(refusal.error, HelloError::Json(_)) && refusal.server_hello.is_none());
}

#[test]
fn a_server_hello_that_does_not_fit_is_refused() {
    let client = hello::client_hello_with("tcp", true, true, &[Algorithm::Aes256Gcm], [0; 32]);
    let check = |codec: &str, algorithm: &str, random: &str| {
        let text = format!(
            r#"{{"selected":{{"message":{{"codec":"{codec}"}},"crypto":{{"algorithm":"{algorithm}","serverRandom":"{random}"}}}}}}"#
        );
        hello::check_server_hello(&client, text.as_bytes()).map_err(|error| error.to_string())
    };
    const RANDOM: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    assert_eq!(
        check("json", "aes-256-gcm", RANDOM),
        Ok(Algorithm::Aes256Gcm)
    );
    for (codec, algorithm, random, words) in [
        (
            "",
            "aes-256-gcm",
            RANDOM,
            "unsupported selected message codec: ",
        ),
        (
            "json",
            "rot13",
            RANDOM,
            "unknown selected crypto algorithm: rot13",
        ),
        (
            "json",
            "xchacha20-poly1305",
            RANDOM,
            "selected crypto algorithm was not advertised by client: xchacha20-poly1305",
        ),
        (
            "json",
            "aes-256-gcm",
            "AA==",
            "invalid crypto server random length 1, want 32",
        ),
    ] {
        assert_eq!(check(codec, algorithm, random).unwrap_err(), words);
    }
}

#[test]
fn wire_versions_are_called_as_in_frp() {
    for version in [WireVersion::V1, WireVersion::V2] {
        assert_eq!(version.to_string().parse(), Ok(version));
    }
    assert!("V1".parse::<WireVersion>().is_err() && "".parse::<WireVersion>().is_err());
    assert_eq!(WireVersion::default(), WireVersion::V1);
    let both: [Message; 2] = [Ping::default().into(), Login::default().into()];
    assert_eq!(
        both.map(|message| (message.type_byte(), message.v2_id())),
        [(b'h', 11), (b'o', 1)]
    );
}

/// The error for JSON that a message cannot be read from, wherever it is wrong.
fn json_error(message: &'static str, error: DecodeError) -> DecodeError {
    match error {
        DecodeError::Json { source, .. } => DecodeError::Json { message, source },
        other => panic!("not an error in JSON: {other}"),
    }
}
