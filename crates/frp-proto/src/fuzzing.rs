//! Entry points shared by the fuzz targets and by the test that runs their corpus.
//!
//! Each takes any bytes, feeds them to one parser whole and cut into pieces, and panics when the
//! two disagree or when something that was read does not survive being written and read again.

mod hold;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

pub use self::hold::hold_frames;
use crate::aead::Opener;
use crate::extension::Extension;
use crate::framing::DecodeError;
use crate::hello::{self, Algorithm};
use crate::hold::{UserDatagram, user_datagram};
use crate::msg::Message;
use crate::path::{
    MirrorAnswer, MirrorAsk, Pace, PaddingAnswer, PaddingHead, PathPayload, PathReport, Probe,
    Prober, ProberConfig, Role,
};
use crate::snappy::{Decoder, Encoder};
use crate::v2::{self, FrameType};
use crate::wire::WireVersion;

/// v1 messages.
pub fn v1_messages(data: &[u8]) {
    let whole = read_all(data, data.len(), |input| WireVersion::V1.decode(input));
    let cut = read_all(data, cut_of(data), |input| WireVersion::V1.decode(input));
    assert_eq!(whole, cut, "how the input is cut does not matter");
    for message in &whole.0 {
        check_round_trip(WireVersion::V1, message);
    }
}

/// v2 frames, the hellos in them, and messages.
pub fn v2_frames(data: &[u8]) {
    let whole = read_all(data, data.len(), v2::decode_frame);
    let cut = read_all(data, cut_of(data), v2::decode_frame);
    assert_eq!(whole, cut, "how the input is cut does not matter");
    for frame in whole.0 {
        // Every payload goes to every reader: a peer may send any under any type.
        negotiate(&frame.payload);
        if let Ok(message) = v2::decode_message_payload(&frame.payload) {
            check_round_trip(WireVersion::V2, &message);
        }
    }
    let whole = read_all(data, data.len(), |input| WireVersion::V2.decode(input));
    let cut = read_all(data, cut_of(data), |input| WireVersion::V2.decode(input));
    assert_eq!(whole, cut, "how the input is cut does not matter");
}

/// The AEAD reader, with a fixed key that the corpus is made with.
pub fn aead_opener(data: &[u8]) {
    for algorithm in [Algorithm::Aes256Gcm, Algorithm::XChaCha20Poly1305] {
        let mut opener = Opener::new(algorithm, &FIXED_KEY);
        let whole = read_all(data, data.len(), |input| opener.open(input));
        let mut opener = Opener::new(algorithm, &FIXED_KEY);
        let cut = read_all(data, cut_of(data), |input| opener.open(input));
        assert_eq!(whole, cut, "how the input is cut does not matter");
    }
}

/// The snappy reader.
pub fn snappy_decoder(data: &[u8]) {
    let mut decoder = Decoder::new();
    let whole = read_all(data, data.len(), |input| decoder.decode(input));
    let mut decoder = Decoder::new();
    let cut = read_all(data, cut_of(data), |input| decoder.decode(input));
    assert_eq!(whole, cut, "how the input is cut does not matter");

    let mut compressed = BytesMut::new();
    Encoder::new().encode(data, &mut compressed);
    let mut decoder = Decoder::new();
    let (plain, error, rest) = read_all(&compressed, 1000, |input| decoder.decode(input));
    assert_eq!(
        (plain.concat(), error, rest),
        (data.to_vec(), None, 0),
        "what was written is read"
    );
}

/// Probes, path reports and what is around padding, and a prober that is told whatever they say.
pub fn path_payloads(data: &[u8]) {
    if let Some((kind, payload)) = data.split_first()
        && let Ok(Some(message)) = PathPayload::decode(*kind, payload)
    {
        let mut written = Vec::new();
        message.encode(&mut written);
        assert_eq!(
            PathPayload::decode(message.kind(), &written),
            Ok(Some(message)),
            "what was written is read"
        );
    }
    if let Ok(head) = PaddingHead::decode(data) {
        let mut written = Vec::new();
        head.encode(&mut written);
        assert_eq!(written, data, "there is one way to write it");
        assert!(head.bytes <= PaddingHead::MAX_BYTES, "padding is bounded");
    }
    if let Ok(answer) = PaddingAnswer::decode(data) {
        let mut written = Vec::new();
        answer.encode(&mut written);
        assert_eq!(
            PaddingAnswer::decode(&written),
            Ok(answer),
            "what was written is read"
        );
        let _ = answer.rate();
    }
    if let Ok(ask) = MirrorAsk::decode(data) {
        let mut written = Vec::new();
        ask.encode(&mut written);
        assert_eq!(written, data, "there is one way to write it");
        assert!(ask.bytes <= PaddingHead::MAX_BYTES, "padding is bounded");
    }
    if let Ok(answer) = MirrorAnswer::decode(data) {
        let mut written = Vec::new();
        answer.encode(&mut written);
        assert_eq!(
            MirrorAnswer::decode(&written),
            Ok(answer),
            "what was written is read"
        );
    }
    if let Ok(report) = PathReport::decode(data) {
        let mut written = Vec::new();
        report.encode(&mut written);
        assert!(written.len() <= PathReport::MAX_LEN, "a report is short");
        assert_eq!(
            PathReport::decode(&written),
            Ok(report),
            "what was written is read"
        );
    }
    let Ok(probe) = Probe::decode(data) else {
        return;
    };
    let mut written = Vec::new();
    probe.encode(&mut written);
    assert!(written.len() <= Probe::MAX_LEN, "a probe is short");
    assert_eq!(
        Probe::decode(&written),
        Ok(probe),
        "what was written is read"
    );
    tell_prober(&probe);
}

/// Datagrams of users of `udp` proxies.
pub fn user_datagrams(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    let Ok(datagram) = UserDatagram::decode(&data) else {
        return;
    };
    let UserDatagram {
        flow,
        user,
        content,
    } = &datagram;
    assert!(UserDatagram::can_name(*user), "it was named");
    let mut written = Vec::new();
    UserDatagram::encode(*flow, *user, content, &mut written);
    assert!(
        written.len() <= content.len() + user_datagram::MAX_HEADER_LEN,
        "a header is short"
    );
    assert_eq!(
        UserDatagram::decode(&written.into()),
        Ok(datagram),
        "what was written is read"
    );
}

/// Tells a prober that has sent some probes.
fn tell_prober(probe: &Probe) {
    #[expect(clippy::disallowed_methods, reason = "an origin for simulated time")]
    let start = Instant::now();
    let config = ProberConfig::default();
    let mut prober = Prober::new(config, Role::Asking, Pace::InUse, 1, start);
    for step in 0..8 {
        let now = start + Duration::from_millis(250 * step);
        prober.handle_timeout(now);
        prober.poll_transmit(now);
        prober.handle_probe(now, probe);
        let report = prober.report(now, 1);
        assert!(report.inbound.total <= 1025, "a jump of numbers is bounded");
    }
}

/// The key of [`aead_opener`].
pub const FIXED_KEY: [u8; 32] = *b"a fixed key for fuzzing, 32 long";

/// What a reader made of some bytes: its results, its error, and how many bytes it left.
type Outcome<T, E> = (Vec<T>, Option<E>, usize);

/// Feeds `data` to a reader in pieces, until it is used up or the reader fails.
fn read_all<T, E>(
    data: &[u8],
    piece_len: usize,
    mut read: impl FnMut(&mut BytesMut) -> Result<Option<T>, E>,
) -> Outcome<T, E> {
    let mut input = BytesMut::new();
    let mut results = Vec::new();
    for piece in data.chunks(piece_len.max(1)) {
        input.extend_from_slice(piece);
        loop {
            match read(&mut input) {
                Ok(Some(result)) => results.push(result),
                Ok(None) => break,
                // What is left then depends on how much had come, and no one reads it.
                Err(error) => return (results, Some(error), 0),
            }
        }
    }
    (results, None, input.len())
}

/// A length to cut into that depends on the data alone, so that a run can be repeated.
fn cut_of(data: &[u8]) -> usize {
    1 + data.iter().fold(0_usize, |sum, &byte| {
        sum.wrapping_mul(31) + usize::from(byte)
    }) % 23
}

/// An extension that made no sense when it was read is not written.
fn as_written(message: &Message) -> Message {
    let mut message = message.clone();
    match &mut message {
        Message::Login(login) if login.holdfast.is_malformed() => {
            login.holdfast = Extension::Absent;
        }
        Message::LoginResp(resp) if resp.holdfast.is_malformed() => {
            resp.holdfast = Extension::Absent;
        }
        _ => {}
    }
    message
}

fn check_round_trip(wire: WireVersion, message: &Message) {
    let mut encoded = BytesMut::new();
    if wire.encode(message, &mut encoded).is_err() {
        // Escapes can make it longer than it came.
        return;
    }
    let again = encoded.clone();
    let decoded: Result<_, DecodeError> = wire.decode(&mut encoded);
    assert_eq!(
        decoded.as_ref(),
        Ok(&Some(as_written(message))),
        "what was written is read"
    );
    assert!(encoded.is_empty(), "and all of it");
    let mut written = BytesMut::new();
    assert!(
        wire.encode(message, &mut written).is_ok() && written == again,
        "always the same"
    );
}

fn negotiate(payload: &Bytes) {
    let Ok(negotiated) = hello::negotiate(payload, [7; 32]) else {
        return;
    };
    let checked = hello::check_server_hello(payload, &negotiated.server_hello);
    assert_eq!(
        checked,
        Ok(negotiated.algorithm),
        "a client agrees with the server that it chose"
    );
    let mut frame = BytesMut::new();
    let encoded = v2::encode_frame(FrameType::ServerHello, &negotiated.server_hello, &mut frame);
    assert!(encoded.is_ok(), "a hello is short");
}
