//! Whole sessions between a Go client and a Go server, decrypted and read to the last byte.

use std::collections::BTreeMap;

use bytes::{Buf as _, BytesMut};
use frp_proto::aead::{Opener, Sealer};
use frp_proto::hello::{self, ControlKeys};
use frp_proto::v2::{self, FrameType};
use frp_proto::{Message, MessageType, WireVersion, cfb, snappy};
use serde_json::Value;

use super::{as_go_writes, decompress_all, load, open_all, stream_nonce, unhex};

/// Of all recorded sessions.
const TOKEN: &[u8] = b"12345678";

#[test]
fn a_v1_session_is_read_from_login_to_payload() {
    let session = Session::load("v1_tcp_no_tls_no_mux");
    check_v1_control(session.sent(1), session.received(1));
    check_v1_work_stream(session.sent(2), session.received(2));
}

#[test]
fn a_v1_session_over_yamux_is_read_from_login_to_payload() {
    let session = Session::load("v1_tcp_no_tls_mux");
    let sent = yamux_streams(session.sent(1));
    let received = yamux_streams(session.received(1));
    check_v1_control(sent[&1].clone(), received[&1].clone());
    check_v1_work_stream(sent[&3].clone(), received[&3].clone());
}

#[test]
fn a_v2_session_is_read_from_hello_to_payload() {
    let session = Session::load("v2_tcp_no_tls_no_mux");
    let mut sent = session.sent(1);
    let mut received = session.received(1);

    take_magic(&mut sent);
    let client_hello = take_frame(&mut sent, FrameType::ClientHello);
    assert_eq!(take(WireVersion::V2, &mut sent).name(), "Login");
    let server_hello = take_frame(&mut received, FrameType::ServerHello);
    assert_eq!(take(WireVersion::V2, &mut received).name(), "LoginResp");

    let algorithm = hello::check_server_hello(&client_hello, &server_hello).unwrap();
    let keys = ControlKeys::derive(TOKEN, algorithm, &client_hello, &server_hello);
    let mut plain = Vec::new();
    for (wire, key) in [
        (sent, keys.client_to_server),
        (received, keys.server_to_client),
    ] {
        let opened = open_all(&mut Opener::new(algorithm, &key), wire.clone());
        let mut sealer = Sealer::new(algorithm, &key, stream_nonce(&wire));
        let mut sealed = BytesMut::new();
        for write in as_go_writes(&opened) {
            sealer.seal(write, &mut sealed).unwrap();
        }
        assert_eq!(sealed, wire, "and sealed again to the same bytes");
        plain.push(names(&take_all(WireVersion::V2, &opened)));
    }
    assert_eq!(plain[0], ["NewProxy", "Ping"]);
    assert_eq!(
        plain[1],
        ["ReqWorkConn", "NewProxyResp", "Pong", "ReqWorkConn"]
    );

    let (mut sent, mut received) = (session.sent(2), session.received(2));
    take_magic(&mut sent);
    assert_eq!(take(WireVersion::V2, &mut sent).name(), "NewWorkConn");
    assert_eq!(take(WireVersion::V2, &mut received).name(), "StartWorkConn");
    assert_eq!(
        (&sent[..], &received[..]),
        (&b"ping-data"[..], &b"ping-data"[..])
    );
}

#[test]
fn a_control_dialogue_about_holes_is_read_and_written_alike() {
    let vectors = load("sessions");
    let dialogue = vectors["xtcp_control_decrypted_v1"].as_object().unwrap();
    let mut n_messages = 0;
    for line in dialogue.values().filter_map(Value::as_array).flatten() {
        let (type_byte, json) = line.as_str().unwrap().split_once(' ').unwrap();
        let message_type = MessageType::from_byte(type_byte.as_bytes()[0]).unwrap();

        let message = Message::from_json(message_type, json.as_bytes()).unwrap();

        let mut written = BytesMut::new();
        message.append_json(&mut written);
        assert_eq!(written, json);
        n_messages += 1;
    }
    assert_eq!(n_messages, 34, "all of the record");
}

#[test]
fn visitor_streams_are_read_down_to_the_payload() {
    let session = Session::load("visitor_frpc_non_control_conns");

    // stcp, compressed on this leg.
    let (mut sent, mut received) = (session.sent(3), session.received(3));
    assert_eq!(take(WireVersion::V1, &mut sent).name(), "NewVisitorConn");
    assert_eq!(
        take(WireVersion::V1, &mut received).name(),
        "NewVisitorConnResp"
    );
    assert_eq!(
        decompress_all(&mut snappy::Decoder::new(), &mut sent),
        b"hi"
    );
    assert_eq!(
        decompress_all(&mut snappy::Decoder::new(), &mut received),
        b"echo:hi"
    );

    // sudp: datagrams as messages.
    let sent = names(&take_all(WireVersion::V1, &session.sent(4)));
    let received = names(&take_all(WireVersion::V1, &session.received(4)));
    assert_eq!(sent, ["NewVisitorConn", "UdpPacket"]);
    assert_eq!(received, ["NewVisitorConnResp", "UdpPacket"]);
}

#[test]
fn work_streams_are_read_down_to_the_payload() {
    let session = Session::load("proxy_frpc_non_control_conns");

    // stcp, encrypted on this leg.
    let (mut sent, mut received) = (session.sent(2), session.received(2));
    assert_eq!(take(WireVersion::V1, &mut sent).name(), "NewWorkConn");
    assert_eq!(take(WireVersion::V1, &mut received).name(), "StartWorkConn");
    assert_eq!(decrypt(sent), "echo:hi");
    assert_eq!(decrypt(received), "hi");

    let answer = take_all(WireVersion::V1, &session.sent(3));
    let Some(Message::UdpPacket(packet)) = answer.last() else {
        panic!("a datagram goes back: {answer:?}");
    };
    assert_eq!(packet.content, "u:dg");
    let user = packet.remote.as_ref().unwrap().socket_addr().unwrap();
    assert_eq!(user.to_string(), "127.0.0.1:59359");

    // A work stream that only names a hole, behind StartWorkConn in the same segment.
    let received = names(&take_all(WireVersion::V1, &session.received(5)));
    assert_eq!(received, ["StartWorkConn", "NatHoleSid"]);
}

fn check_v1_control(mut sent: BytesMut, mut received: BytesMut) {
    let Message::Login(login) = take(WireVersion::V1, &mut sent) else {
        panic!("a client logs in first");
    };
    assert!(frp_proto::auth::verify(
        &login.privilege_key,
        TOKEN,
        login.timestamp
    ));
    let Message::LoginResp(answer) = take(WireVersion::V1, &mut received) else {
        panic!("and is answered");
    };
    assert!(frp_proto::ids::is_acceptable(&answer.run_id));

    let sent = take_all(WireVersion::V1, &decrypt(sent));
    let received = take_all(WireVersion::V1, &decrypt(received));
    assert_eq!(names(&sent)[0], "NewProxy");
    assert!(names(&sent)[1..].iter().all(|name| *name == "Ping"));
    let pongs = |name: &&&str| **name == "Pong";
    assert_eq!(
        names(&received).iter().filter(pongs).count(),
        sent.len() - 1
    );
    let others: Vec<_> = names(&received)
        .into_iter()
        .filter(|name| *name != "Pong")
        .collect();
    assert_eq!(others, ["ReqWorkConn", "NewProxyResp", "ReqWorkConn"]);
}

fn check_v1_work_stream(mut sent: BytesMut, mut received: BytesMut) {
    assert_eq!(take(WireVersion::V1, &mut sent).name(), "NewWorkConn");
    assert_eq!(take(WireVersion::V1, &mut received).name(), "StartWorkConn");
    assert_eq!(
        (&sent[..], &received[..]),
        (&b"ping-data"[..], &b"ping-data"[..])
    );
}

/// Takes one message, and checks that it is written as it was read.
fn take(version: WireVersion, input: &mut BytesMut) -> Message {
    let before = input.clone();
    let message = version.decode(input).unwrap().unwrap();
    let mut written = BytesMut::new();
    version.encode(&message, &mut written).unwrap();
    assert_eq!(
        written,
        before[..before.len() - input.len()],
        "written as it was read"
    );
    message
}

fn take_all(version: WireVersion, wire: &[u8]) -> Vec<Message> {
    let mut input = BytesMut::from(wire);
    let mut messages = Vec::new();
    while !input.is_empty() {
        messages.push(take(version, &mut input));
    }
    messages
}

fn take_magic(input: &mut BytesMut) {
    assert_eq!(input.split_to(v2::MAGIC.len())[..], v2::MAGIC);
}

fn take_frame(input: &mut BytesMut, frame_type: FrameType) -> bytes::Bytes {
    v2::decode_frame(input)
        .unwrap()
        .unwrap()
        .expect(frame_type)
        .unwrap()
}

fn names(messages: &[Message]) -> Vec<&'static str> {
    messages.iter().map(Message::name).collect()
}

/// Decrypts a whole direction, and checks that it is encrypted to the same bytes.
fn decrypt(mut wire: BytesMut) -> BytesMut {
    let key = cfb::derive_key(TOKEN);
    let recorded = wire.clone();
    let iv = *wire.first_chunk().unwrap();
    wire.advance(iv.len());
    cfb::Decryptor::new(&key, iv).apply(&mut wire);
    let mut again = wire.clone();
    cfb::Encryptor::new(&key, iv).apply(&mut again);
    assert_eq!(
        again,
        recorded[iv.len()..],
        "and encrypted again to the same bytes"
    );
    wire
}

/// The data of each stream in one direction of a yamux conn.
fn yamux_streams(mut wire: BytesMut) -> BTreeMap<u32, BytesMut> {
    let mut streams = BTreeMap::<u32, BytesMut>::new();
    while !wire.is_empty() {
        let header = wire.split_to(12);
        let (kind, mut rest) = (header[1], &header[4..]);
        let (stream_id, len) = (rest.get_u32(), rest.get_u32());
        if kind == 0 {
            let data = wire.split_to(usize::try_from(len).unwrap());
            streams
                .entry(stream_id)
                .or_default()
                .extend_from_slice(&data);
        }
    }
    streams
}

/// A record: lines of time, conn with direction, and bytes.
struct Session {
    lines: Vec<(String, Vec<u8>)>,
}

impl Session {
    fn load(name: &str) -> Self {
        let vectors = load("sessions");
        let lines = vectors[name].as_array().unwrap().iter().filter_map(|line| {
            let mut words = line.as_str().unwrap().split(' ').skip(1);
            let (conn, data) = (words.next().unwrap(), words.next().unwrap());
            (data != "EOF").then(|| (conn.to_owned(), unhex(data)))
        });
        Self {
            lines: lines.collect(),
        }
    }

    /// What the client sent on a conn.
    fn sent(&self, conn: u32) -> BytesMut {
        self.direction(&format!("{conn}>"))
    }

    /// What the server sent on a conn.
    fn received(&self, conn: u32) -> BytesMut {
        self.direction(&format!("{conn}<"))
    }

    fn direction(&self, conn: &str) -> BytesMut {
        let lines = self.lines.iter().filter(|(name, _)| name == conn);
        lines.flat_map(|(_, data)| data.iter().copied()).collect()
    }
}
