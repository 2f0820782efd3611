//! How a further carrier joins a session: the first message on its first stream, and the answer.
//!
//! Both sides prove the session key over this carrier's exporter, so that a proof that was seen on
//! one carrier is worth nothing on another. The stream is the carrier's session stream from there
//! on ([`session_frame`](super::session_frame)).

use bytes::{Buf as _, BytesMut};
use thiserror::Error;

use super::Generation;
use super::key::{Exporter, LEN, SessionId, SessionKey};

/// The front of a join. Its first byte begins no message of frp's, no v2 magic, no TLS record, no
/// yamux frame and no request of HTTP; and the whole message is longer than the ten bytes at which
/// frp looks on its port before it decides.
pub const MAGIC: [u8; 8] = *b"\x8aHOLD\x01\r\n";

/// The client's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// Which session.
    pub session: SessionId,
    /// The carrier's number, above that of the carrier in use.
    pub generation: Generation,
    proof: [u8; LEN],
}

/// The server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Whether the carrier has joined.
    pub status: JoinStatus,
    /// The carrier's number; with [`JoinStatus::OldGeneration`] the one to be above.
    pub generation: Generation,
    proof: [u8; LEN],
}

/// Whether a carrier has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinStatus {
    /// It has.
    Ok,
    /// There is no such session (any more), or the proof is wrong. Not proven: the server has no
    /// key, or will not use it. The client logs in anew.
    Unknown,
    /// The number is not above that of the carrier in use.
    OldGeneration,
    /// The session has as many carriers as it may.
    TooManyCarriers,
}

/// Why bytes are no join, or not the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    /// They do not begin like one.
    #[error("not a join message")]
    Magic,
    /// A number that is not defined.
    #[error("undefined status {0:#04x}")]
    Status(u8),
    /// Whoever answers does not have the session's key, or is not the other end of the carrier.
    #[error("the proof is wrong")]
    Proof,
}

/// Whether the first byte of a stream begins a join.
pub fn begins_join(first: u8) -> bool {
    first == MAGIC[0]
}

impl Join {
    /// Bytes of the message.
    pub const LEN: usize = MAGIC.len() + 16 + 8 + LEN;

    /// Proves the key over the carrier with this exporter.
    pub fn new(
        key: &SessionKey,
        session: SessionId,
        generation: Generation,
        exporter: &Exporter,
    ) -> Self {
        let number = generation.0.to_be_bytes();
        let proof = key.prove(&[CLIENT, &session, &number, exporter]);
        Self {
            session,
            generation,
            proof,
        }
    }

    /// Whether it comes of the key's owner, over this carrier. In a time that does not depend on
    /// the proof.
    pub fn verify(&self, key: &SessionKey, exporter: &Exporter) -> bool {
        let number = self.generation.0.to_be_bytes();
        key.verify(&[CLIENT, &self.session, &number, exporter], &self.proof)
    }

    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.session);
        out.extend_from_slice(&self.generation.0.to_be_bytes());
        out.extend_from_slice(&self.proof);
    }

    /// Takes the message from the front of `input`. `None` when it needs more bytes; wrong ones
    /// do not wait for them.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Self>, JoinError> {
        let n_known = input.len().min(MAGIC.len());
        if input[..n_known] != MAGIC[..n_known] {
            return Err(JoinError::Magic);
        }
        if input.len() < Self::LEN {
            return Ok(None);
        }
        input.advance(MAGIC.len());
        Ok(Some(Self {
            session: take(input),
            generation: Generation(input.get_u64()),
            proof: take(input),
        }))
    }
}

impl Joined {
    /// Bytes of the message.
    pub const LEN: usize = 2 + 8 + LEN;

    /// Answers `join`, whose proof was right.
    pub fn new(
        key: &SessionKey,
        join: &Join,
        status: JoinStatus,
        generation: Generation,
        exporter: &Exporter,
    ) -> Self {
        let mut answer = Self {
            status,
            generation,
            proof: [0; LEN],
        };
        answer.proof = key.prove(&answer.parts(join, &generation.0.to_be_bytes(), exporter));
        answer
    }

    /// Answers a join of no session, or without proof. Both get the same: nobody learns which
    /// sessions there are.
    pub fn unknown() -> Self {
        Self {
            status: JoinStatus::Unknown,
            generation: Generation::default(),
            proof: [0; LEN],
        }
    }

    /// What the server says, if it is the server. That it knows of no session need not be proven:
    /// who can say so falsely can cut the carrier as well.
    pub fn verify(
        &self,
        key: &SessionKey,
        join: &Join,
        exporter: &Exporter,
    ) -> Result<JoinStatus, JoinError> {
        let number = self.generation.0.to_be_bytes();
        let is_proven = key.verify(&self.parts(join, &number, exporter), &self.proof);
        if self.status == JoinStatus::Unknown || is_proven {
            return Ok(self.status);
        }
        Err(JoinError::Proof)
    }

    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend([JOINED, self.status as u8]);
        out.extend_from_slice(&self.generation.0.to_be_bytes());
        out.extend_from_slice(&self.proof);
    }

    /// Takes the message from the front of `input`. `None` when it needs more bytes.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Self>, JoinError> {
        if input.first().is_some_and(|first| *first != JOINED) {
            return Err(JoinError::Magic);
        }
        if input.len() < Self::LEN {
            return Ok(None);
        }
        let number = input[1];
        let status = match number {
            0 => JoinStatus::Ok,
            1 => JoinStatus::Unknown,
            2 => JoinStatus::OldGeneration,
            3 => JoinStatus::TooManyCarriers,
            _ => return Err(JoinError::Status(number)),
        };
        input.advance(2);
        Ok(Some(Self {
            status,
            generation: Generation(input.get_u64()),
            proof: take(input),
        }))
    }

    /// What the server proves: that it read this join, over this carrier, and what it says to it.
    fn parts<'a>(
        &'a self,
        join: &'a Join,
        number: &'a [u8; 8],
        exporter: &'a Exporter,
    ) -> [&'a [u8]; 6] {
        let status: &[u8] = match self.status {
            JoinStatus::Ok => &[0],
            JoinStatus::Unknown => &[1],
            JoinStatus::OldGeneration => &[2],
            JoinStatus::TooManyCarriers => &[3],
        };
        [SERVER, &join.session, &join.proof, status, number, exporter]
    }
}

const JOINED: u8 = 0x8b;
const CLIENT: &[u8] = b"holdfast join v1 client";
const SERVER: &[u8] = b"holdfast join v1 server";

/// Takes as many bytes as are asked for. The caller has checked that they are there.
fn take<const N: usize>(input: &mut BytesMut) -> [u8; N] {
    let mut bytes = [0; N];
    input.copy_to_slice(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::MessageType;
    use crate::v2;

    const EXPORTER: Exporter = [5; LEN];
    const SESSION: SessionId = [7; 16];

    #[test]
    fn both_sides_prove_the_key_over_the_carrier() {
        let (client, server) = (key(b"token"), key(b"token"));
        let join = Join::new(&client, SESSION, Generation(3), &EXPORTER);
        let mut wire = Vec::new();
        join.encode(&mut wire);
        assert_eq!(wire.len(), Join::LEN);
        let heard = Join::decode(&mut BytesMut::from(&wire[..]))
            .unwrap()
            .unwrap();
        assert!(heard.verify(&server, &EXPORTER));

        let answer = Joined::new(&server, &heard, JoinStatus::Ok, Generation(3), &EXPORTER);
        let mut wire = Vec::new();
        answer.encode(&mut wire);
        assert_eq!(wire.len(), Joined::LEN);
        let heard = Joined::decode(&mut BytesMut::from(&wire[..]))
            .unwrap()
            .unwrap();
        let status = heard.verify(&client, &join, &EXPORTER);
        assert_eq!(status, Ok(JoinStatus::Ok));
    }

    #[test]
    fn a_proof_is_worth_nothing_elsewhere() {
        let key_here = key(b"token");
        let join = Join::new(&key_here, SESSION, Generation(3), &EXPORTER);
        assert!(!join.verify(&key_here, &[6; LEN]), "over another carrier");
        assert!(
            !join.verify(&key(b"other"), &EXPORTER),
            "of another session"
        );
        let generation = Generation(4);
        assert!(!Join { generation, ..join }.verify(&key_here, &EXPORTER));
        let session = [8; 16];
        assert!(!Join { session, ..join }.verify(&key_here, &EXPORTER));
    }

    #[test]
    fn an_answer_is_to_one_join_and_says_one_thing() {
        let key_here = key(b"token");
        let join = Join::new(&key_here, SESSION, Generation(3), &EXPORTER);
        let status = JoinStatus::OldGeneration;
        let answer = Joined::new(&key_here, &join, status, Generation(9), &EXPORTER);
        assert_eq!(answer.verify(&key_here, &join, &EXPORTER), Ok(status));

        let changed = Joined {
            status: JoinStatus::Ok,
            ..answer
        };
        let wrong = Err(JoinError::Proof);
        assert_eq!(changed.verify(&key_here, &join, &EXPORTER), wrong);
        let other = Join::new(&key_here, SESSION, Generation(4), &EXPORTER);
        assert_eq!(answer.verify(&key_here, &other, &EXPORTER), wrong);
        let mirrored = Joined {
            proof: join.proof,
            ..answer
        };
        assert_eq!(mirrored.verify(&key_here, &join, &EXPORTER), wrong);
        let unknown = Joined::unknown().verify(&key_here, &join, &EXPORTER);
        assert_eq!(unknown, Ok(JoinStatus::Unknown));
    }

    #[test]
    fn the_first_byte_tells_a_join_from_everything_else_on_a_stream() {
        use crate::hold::frame::begins_held_stream;
        let first = MAGIC[0];
        assert!(begins_join(first) && !begins_held_stream(first));
        assert_eq!(MessageType::from_byte(first), None, "wire v1");
        for other in [v2::MAGIC[0], 0x16, 0x17, 0x00, b'G', b'C', b'P'] {
            assert!(!begins_join(other) && !begins_held_stream(other));
        }
        assert!((0..=255).all(|byte| {
            MessageType::from_byte(byte).is_none()
                || !(begins_join(byte) || begins_held_stream(byte))
        }));
        const { assert!(Join::LEN >= 10, "frp looks at ten bytes") };
    }

    #[test]
    fn wrong_bytes_are_refused_at_once_and_cut_ones_wait() {
        let decode = |bytes: &[u8]| Join::decode(&mut BytesMut::from(bytes));
        assert_eq!(decode(b"\x8aHOLD"), Ok(None));
        assert_eq!(decode(b"\x8aHOLE"), Err(JoinError::Magic));
        assert_eq!(decode(b"o"), Err(JoinError::Magic));
        let mut answer = [0; Joined::LEN];
        assert_eq!(
            Joined::decode(&mut BytesMut::from(&answer[..])),
            Err(JoinError::Magic)
        );
        (answer[0], answer[1]) = (JOINED, 4);
        assert_eq!(Joined::decode(&mut BytesMut::from(&answer[..9])), Ok(None));
        assert_eq!(
            Joined::decode(&mut BytesMut::from(&answer[..])),
            Err(JoinError::Status(4))
        );
    }

    fn key(token: &[u8]) -> SessionKey {
        SessionKey::derive(&[1; LEN], &[2; LEN], &[3; LEN], token)
    }
}
