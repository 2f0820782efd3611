//! What holds for any bytes and any message.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use frp_proto::aead::{AeadError, Opener, Sealer};
use frp_proto::extension::{EndpointOffer, HoldfastHello, HoldfastWelcome, Resume, SessionLimits};
use frp_proto::hello::Algorithm;
use frp_proto::msg::{
    ClientSpec, Login, LoginResp, NatHoleDetectBehavior, NatHoleResp, NewProxy, PortsRange,
    StartWorkConn, UdpAddr, UdpPacket,
};
use frp_proto::{Message, MessageType, WireVersion, cfb, fuzzing, hello, names, snappy, v1, v2};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

proptest! {
    #[test]
    fn no_bytes_upset_a_reader(data in vec(any::<u8>(), 0..600)) {
        fuzzing::v1_messages(&data);
        fuzzing::v2_frames(&data);
        fuzzing::aead_opener(&data);
        fuzzing::snappy_decoder(&data);
        let _ = hello::negotiate(&data, [0; 32]);
        let _ = hello::check_server_hello(&data, &data);
    }

    #[test]
    fn no_text_upsets_a_message(id in 1..=18_u16, text in json_like()) {
        let message_type = MessageType::from_v2_id(id).unwrap();
        let _ = Message::from_json(message_type, text.as_bytes());
        let in_v1 = frame_v1(message_type, text.as_bytes());
        fuzzing::v1_messages(&in_v1);
        fuzzing::v2_frames(&frame_v2(message_type, text.as_bytes()));
    }

    #[test]
    fn a_message_is_read_as_it_was_written(message in message(), version in version()) {
        let mut wire = BytesMut::new();
        version.encode(&message, &mut wire).unwrap();
        let written = wire.clone();

        prop_assert_eq!(version.decode(&mut wire).unwrap().unwrap(), message.clone());
        prop_assert!(wire.is_empty());

        version.encode(&message, &mut wire).unwrap();
        prop_assert_eq!(wire, written, "the same bytes each time");
    }

    #[test]
    fn messages_are_found_however_the_stream_is_cut(
        messages in vec(message(), 1..5),
        version in version(),
        cuts in vec(1..40_usize, 1..20),
    ) {
        let mut wire = BytesMut::new();
        for message in &messages {
            version.encode(message, &mut wire).unwrap();
        }
        let mut input = BytesMut::new();
        let mut read = Vec::new();
        for &cut in cuts.iter().cycle() {
            if wire.is_empty() {
                break;
            }
            input.extend_from_slice(&wire.split_to(cut.min(wire.len())));
            while let Some(message) = version.decode(&mut input).unwrap() {
                read.push(message);
            }
        }
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn nothing_behind_a_message_is_taken(
        message in message(),
        version in version(),
        behind in vec(any::<u8>(), 0..50),
    ) {
        let mut wire = BytesMut::new();
        version.encode(&message, &mut wire).unwrap();
        wire.extend_from_slice(&behind);
        version.decode(&mut wire).unwrap().unwrap();
        prop_assert_eq!(&wire[..], &behind[..]);
    }

    #[test]
    fn encryption_comes_off_again_however_either_side_cuts(
        secret in vec(any::<u8>(), 0..40),
        iv in any::<[u8; 16]>(),
        plain in vec(any::<u8>(), 0..2000),
        cuts in (1..200_usize, 1..200_usize),
    ) {
        let key = cfb::derive_key(&secret);
        let mut whole = plain.clone();
        cfb::Encryptor::new(&key, iv).apply(&mut whole);

        let mut data = plain.clone();
        let mut encryptor = cfb::Encryptor::new(&key, iv);
        data.chunks_mut(cuts.0).for_each(|chunk| encryptor.apply(chunk));
        prop_assert_eq!(&data, &whole);

        let mut decryptor = cfb::Decryptor::new(&key, iv);
        data.chunks_mut(cuts.1).for_each(|chunk| decryptor.apply(chunk));
        prop_assert_eq!(data, plain);
    }

    #[test]
    fn sealed_records_open_and_changed_ones_do_not(
        algorithm in algorithm(),
        key in any::<[u8; 32]>(),
        nonce in any::<[u8; 24]>(),
        writes in vec(vec(any::<u8>(), 0..300), 1..6),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let mut sealed = BytesMut::new();
        let mut sealer = Sealer::new(algorithm, &key, nonce);
        for plain in &writes {
            sealer.seal(plain, &mut sealed).unwrap();
        }
        let (plain, error) = open(algorithm, &key, sealed.clone());
        prop_assert_eq!(&plain, &writes.concat());
        prop_assert_eq!(error, None);

        if !sealed.is_empty() {
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            let (plain, error) = open(algorithm, &key, sealed);
            prop_assert!(writes.concat().starts_with(&plain));
            // A changed length may also ask for more than there is.
            prop_assert!(plain.len() < writes.concat().len());
            prop_assert!(matches!(
                error,
                None | Some(AeadError::NotAuthentic | AeadError::Length(_))
            ));
        }
    }

    #[test]
    fn compressed_writes_are_read_again(writes in vec(compressible(), 0..4), cut in 1..5000_usize) {
        let mut compressed = BytesMut::new();
        let mut encoder = snappy::Encoder::new();
        for plain in &writes {
            encoder.encode(plain, &mut compressed);
        }
        let mut decoder = snappy::Decoder::new();
        let mut input = BytesMut::new();
        let mut read = Vec::new();
        for piece in compressed.chunks(cut) {
            input.extend_from_slice(piece);
            while let Some(plain) = decoder.decode(&mut input).unwrap() {
                prop_assert!(!plain.is_empty() && plain.len() <= snappy::MAX_CHUNK);
                read.extend_from_slice(&plain);
            }
        }
        prop_assert!(input.is_empty());
        prop_assert_eq!(read, writes.concat());
    }

    #[test]
    fn an_extension_never_fails_a_login(object in json_like()) {
        let text = format!(r#"{{"user":"u","holdfast":{object}}}"#);
        let read = Message::from_json(MessageType::Login, text.as_bytes());
        // Only what is no JSON at all does.
        let is_json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        prop_assert!(read.is_ok() || !is_json, "{}", text);
    }

    #[test]
    fn a_name_loses_the_prefix_that_it_got(user in "[a-z.]{0,5}", name in "[a-z.]{0,9}") {
        let on_the_wire = names::wire_name(&user, &name);
        prop_assert_eq!(names::strip_user(&user, &on_the_wire), name);
    }
}

/// Everything that can be opened, and why no more.
fn open(algorithm: Algorithm, key: &[u8; 32], mut input: BytesMut) -> (Vec<u8>, Option<AeadError>) {
    let mut opener = Opener::new(algorithm, key);
    let mut plain = Vec::new();
    loop {
        match opener.open(&mut input) {
            Ok(Some(record)) => plain.extend_from_slice(&record),
            Ok(None) => return (plain, None),
            Err(error) => {
                assert_eq!(opener.open(&mut input), Err(error), "an error is final");
                return (plain, Some(error));
            }
        }
    }
}

fn frame_v1(message_type: MessageType, json: &[u8]) -> Vec<u8> {
    let mut wire = vec![message_type.byte()];
    wire.extend((json.len() as u64).to_be_bytes());
    wire.extend(json);
    assert!(json.len() <= v1::MAX_PAYLOAD);
    wire
}

fn frame_v2(message_type: MessageType, json: &[u8]) -> BytesMut {
    let payload = [&message_type.v2_id().to_be_bytes()[..], json].concat();
    let mut wire = BytesMut::new();
    v2::encode_frame(v2::FrameType::Message, &payload, &mut wire).unwrap();
    wire
}

/// Text that looks like JSON, and often is.
fn json_like() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>().prop_map(|value| value.to_string()),
        r#""[ -~]{0,12}""#,
        r#""(\\u[0-9a-f]{4}){0,3}""#,
        "[ -~]{0,8}",
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            vec((key(), inner), 0..5).prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(k, v)| format!("\"{k}\":{v}"))
                    .collect();
                format!("{{{}}}", members.join(" , "))
            }),
        ]
    })
}

/// Keys that mean something somewhere, and others.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "version",
            "holdfast",
            "metas",
            "client_spec",
            "type",
            "c",
            "r",
            "IP",
            "Port",
            "capabilities",
            "client_random",
            "instance",
            "detect_behavior",
            "candidate_ports",
            "from",
            "remote_port",
            "src_port",
            "use_encryption",
            "custom_domains",
            "timestamp",
        ])
        .prop_map(str::to_owned),
        "[a-zA-Z_]{0,6}",
    ]
}

fn version() -> impl Strategy<Value = WireVersion> {
    prop_oneof![Just(WireVersion::V1), Just(WireVersion::V2)]
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop_oneof![
        Just(Algorithm::Aes256Gcm),
        Just(Algorithm::XChaCha20Poly1305)
    ]
}

/// Writes that compress well, badly, and beyond one chunk.
fn compressible() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..3000),
        (vec(any::<u8>(), 1..50), 1..3000_usize).prop_map(|(unit, times)| unit.repeat(times)),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        login().prop_map(Message::from),
        login_resp().prop_map(Message::from),
        new_proxy().prop_map(Message::from),
        start_work_conn().prop_map(Message::from),
        udp_packet().prop_map(Message::from),
        nat_hole_resp().prop_map(Message::from),
    ]
}

fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn map() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..4)
}

prop_compose! {
    fn login()(
        texts in prop::array::uniform8(text()),
        (timestamp, pool_count) in any::<(i64, i64)>(),
        metas in map(),
        always_auth_pass in any::<bool>(),
        holdfast in option::of(holdfast_hello()),
    ) -> Login {
        let [version, hostname, os, user, privilege_key, run_id, client_id, client_type] = texts;
        Login {
            version, hostname, os, user, privilege_key, run_id, client_id, timestamp, pool_count,
            metas,
            arch: String::new(),
            client_spec: ClientSpec { client_type, always_auth_pass },
            holdfast: holdfast.into(),
        }
    }
}

prop_compose! {
    fn login_resp()(
        [version, run_id, error] in prop::array::uniform3(text()),
        holdfast in option::of(holdfast_welcome()),
    ) -> LoginResp {
        LoginResp { version, run_id, error, holdfast: holdfast.into() }
    }
}

prop_compose! {
    fn new_proxy()(
        [proxy_name, proxy_type, bandwidth_limit, subdomain, sk] in prop::array::uniform5(text()),
        (use_encryption, use_compression, remote_port) in any::<(bool, bool, i64)>(),
        [metas, headers] in prop::array::uniform2(map()),
        [custom_domains, locations] in prop::array::uniform2(vec(text(), 0..4)),
    ) -> NewProxy {
        NewProxy {
            proxy_name, proxy_type, bandwidth_limit, subdomain, sk, use_encryption,
            use_compression, remote_port, metas, headers, custom_domains, locations,
            ..NewProxy::default()
        }
    }
}

prop_compose! {
    fn start_work_conn()(
        [proxy_name, src_addr, dst_addr, error] in prop::array::uniform4(text()),
        (src_port, dst_port, holdfast_flow) in any::<(u16, u16, i64)>(),
    ) -> StartWorkConn {
        StartWorkConn {
            proxy_name, src_addr, dst_addr, error, src_port, dst_port, holdfast_flow,
        }
    }
}

prop_compose! {
    fn udp_packet()(
        content in vec(any::<u8>(), 0..2000),
        local in option::of(any::<SocketAddr>()),
        remote in option::of(any::<SocketAddr>()),
    ) -> UdpPacket {
        UdpPacket {
            content: Bytes::from(content),
            local: local.map(UdpAddr::from),
            remote: remote.map(UdpAddr::from),
        }
    }
}

prop_compose! {
    fn nat_hole_resp()(
        [transaction_id, sid, role] in prop::array::uniform3(text()),
        (mode, ttl, from, to) in any::<(i64, i64, i64, i64)>(),
        candidate_addrs in vec(text(), 0..3),
        n_ranges in 0..3_usize,
    ) -> NatHoleResp {
        NatHoleResp {
            transaction_id, sid, candidate_addrs,
            detect_behavior: NatHoleDetectBehavior {
                role, mode, ttl,
                candidate_ports: vec![PortsRange { from, to }; n_ranges],
                ..NatHoleDetectBehavior::default()
            },
            ..NatHoleResp::default()
        }
    }
}

prop_compose! {
    fn holdfast_hello()(
        version in 1..=u32::MAX,
        capabilities in vec("[!-~]{1,32}", 0..5),
        client_random in any::<[u8; 32]>(),
        instance in any::<[u8; 16]>(),
        resume in option::of(any::<([u8; 16], [u8; 32])>()),
    ) -> HoldfastHello {
        let resume = resume.map(|(session_id, proof)| Resume { session_id, proof });
        HoldfastHello { version, capabilities, client_random, instance, resume }
    }
}

prop_compose! {
    fn holdfast_welcome()(
        version in 1..=u32::MAX,
        session_id in any::<[u8; 16]>(),
        server_random in any::<[u8; 32]>(),
        grace_ms in 0..=86_400_000_u64,
        endpoints in vec(("[a-z]{1,9}", 1..=u16::MAX), 0..5),
        (held_streams, replay_bytes) in (0..1_u64 << 40, 0..1_u64 << 40),
        proof in any::<Option<[u8; 32]>>(),
    ) -> HoldfastWelcome {
        let endpoints =
            endpoints.into_iter().map(|(transport, port)| EndpointOffer { transport, port });
        HoldfastWelcome {
            version, session_id, server_random, proof,
            grace: Duration::from_millis(grace_ms),
            endpoints: endpoints.collect(),
            limits: SessionLimits { held_streams, replay_bytes },
        }
    }
}
