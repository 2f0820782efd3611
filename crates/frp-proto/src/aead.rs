//! The authenticated stream that v2's control messages travel in.
//!
//! Each direction is a random stream nonce, sent with the first byte that is written, and then
//! records: `length u32 BE | ciphertext and tag`. A record's nonce is the stream nonce plus its
//! number, and stream nonce and length are authenticated with it, so records can be neither
//! changed, nor moved, nor left out. The end of a stream is not authenticated.
//!
//! Records know nothing of the frames inside: a frame may be several records, or share one.

use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit as _, Nonce, Tag};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use chacha20poly1305::XChaCha20Poly1305;
use thiserror::Error;

use crate::hello::Algorithm;

/// The longest plaintext of a record, from frp.
pub const MAX_PLAINTEXT: usize = 64 * 1024;
/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Bytes of the longest stream nonce, which is what a [`Sealer`] asks for.
pub const NONCE_LEN: usize = 24;

const TAG_LEN: usize = 16;
const HEADER_LEN: usize = 4;
/// More records are not encrypted with one key and AES-GCM. The same bound as frp's.
const MAX_GCM_RECORDS: u64 = 1 << 32;

/// Encrypts one direction.
#[derive(Debug)]
pub struct Sealer {
    stream: Stream,
    is_nonce_sent: bool,
}

impl Sealer {
    /// Starts a direction. `random` becomes the stream nonce, as much of it as the algorithm needs.
    pub fn new(algorithm: Algorithm, key: &[u8; KEY_LEN], random: [u8; NONCE_LEN]) -> Self {
        let cipher = Cipher::new(algorithm, key);
        let nonce = &random[..cipher.nonce_len()];
        Self {
            stream: Stream::new(cipher, nonce),
            is_nonce_sent: false,
        }
    }

    /// Appends `plaintext` to `out` as one record, or as several when it is longer than a record
    /// can be. Nothing at all when it is empty.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut BytesMut) -> Result<(), AeadError> {
        for chunk in plaintext.chunks(MAX_PLAINTEXT) {
            self.stream.check_count()?;
            if !self.is_nonce_sent {
                out.put_slice(self.stream.stream_nonce());
                self.is_nonce_sent = true;
            }
            let header = be_len(chunk.len() + TAG_LEN);
            out.put_slice(&header);
            let start = out.len();
            out.put_slice(chunk);
            let tag = self.stream.encrypt(header, &mut out[start..])?;
            out.put_slice(&tag);
        }
        Ok(())
    }
}

/// Decrypts one direction.
#[derive(Debug)]
pub struct Opener {
    state: OpenerState,
}

#[derive(Debug)]
enum OpenerState {
    AwaitingNonce(Cipher),
    Open(Stream),
    Failed(AeadError),
}

impl Opener {
    /// Starts a direction. The stream nonce comes with the first record.
    pub fn new(algorithm: Algorithm, key: &[u8; KEY_LEN]) -> Self {
        Self {
            state: OpenerState::AwaitingNonce(Cipher::new(algorithm, key)),
        }
    }

    /// Takes one record from the front of `input` and returns its plaintext, which is not empty.
    /// `None` when it needs more bytes.
    ///
    /// An error is final: the same one comes again.
    pub fn open(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, AeadError> {
        self.try_open(input)
            .inspect_err(|error| self.state = OpenerState::Failed(*error))
    }

    fn try_open(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, AeadError> {
        if let OpenerState::AwaitingNonce(cipher) = &self.state {
            let Some(nonce) = input.get(..cipher.nonce_len()) else {
                return Ok(None);
            };
            let stream = Stream::new(cipher.clone(), nonce);
            input.advance(cipher.nonce_len());
            self.state = OpenerState::Open(stream);
        }
        match &mut self.state {
            OpenerState::Open(stream) => open_record(stream, input),
            OpenerState::Failed(error) => Err(*error),
            OpenerState::AwaitingNonce(_) => Ok(None),
        }
    }
}

/// Why a stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AeadError {
    /// A record announces a length that none can have.
    #[error("encrypted record of {0} bytes, not 16 to 65552")]
    Length(u32),
    /// A record was changed on the way, or the peers have different tokens.
    #[error("encrypted record is not authentic")]
    NotAuthentic,
    /// One key must not encrypt more records.
    #[error("too many encrypted records")]
    Exhausted,
}

fn open_record(stream: &mut Stream, input: &mut BytesMut) -> Result<Option<Bytes>, AeadError> {
    loop {
        let Some(&header) = input.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        stream.check_count()?;
        let announced = u32::from_be_bytes(header);
        let len = usize::try_from(announced).map_err(|_| AeadError::Length(announced))?;
        if !(TAG_LEN..=MAX_PLAINTEXT + TAG_LEN).contains(&len) {
            return Err(AeadError::Length(announced));
        }
        if input.len() < HEADER_LEN + len {
            return Ok(None);
        }
        input.advance(HEADER_LEN);
        let mut record = input.split_to(len);
        let tag = record.split_off(len - TAG_LEN);
        stream.decrypt(header, &mut record, &tag)?;
        if !record.is_empty() {
            return Ok(Some(record.freeze()));
        }
    }
}

/// One direction: cipher and position.
#[derive(Debug)]
struct Stream {
    cipher: Cipher,
    /// Stream nonce, and behind it room for the length: what is authenticated with each record.
    associated: [u8; NONCE_LEN + HEADER_LEN],
    /// The nonce of the next record.
    nonce: [u8; NONCE_LEN],
    n_records: u64,
    is_exhausted: bool,
}

impl Stream {
    fn new(cipher: Cipher, stream_nonce: &[u8]) -> Self {
        let mut nonce = [0; NONCE_LEN];
        nonce[..stream_nonce.len()].copy_from_slice(stream_nonce);
        let mut associated = [0; NONCE_LEN + HEADER_LEN];
        associated[..stream_nonce.len()].copy_from_slice(stream_nonce);
        Self {
            cipher,
            associated,
            nonce,
            n_records: 0,
            is_exhausted: false,
        }
    }

    fn stream_nonce(&self) -> &[u8] {
        &self.associated[..self.cipher.nonce_len()]
    }

    fn check_count(&self) -> Result<(), AeadError> {
        let is_over =
            matches!(self.cipher, Cipher::Aes256Gcm(_)) && self.n_records >= MAX_GCM_RECORDS;
        if self.is_exhausted || is_over {
            Err(AeadError::Exhausted)
        } else {
            Ok(())
        }
    }

    fn encrypt(
        &mut self,
        header: [u8; HEADER_LEN],
        data: &mut [u8],
    ) -> Result<[u8; TAG_LEN], AeadError> {
        let nonce_len = self.cipher.nonce_len();
        self.associated[nonce_len..nonce_len + HEADER_LEN].copy_from_slice(&header);
        let associated = &self.associated[..nonce_len + HEADER_LEN];
        let tag = match &self.cipher {
            Cipher::Aes256Gcm(cipher) => seal(&**cipher, &self.nonce, associated, data),
            Cipher::XChaCha20Poly1305(cipher) => seal(&**cipher, &self.nonce, associated, data),
        };
        self.advance();
        tag
    }

    fn decrypt(
        &mut self,
        header: [u8; HEADER_LEN],
        data: &mut [u8],
        tag: &[u8],
    ) -> Result<(), AeadError> {
        let nonce_len = self.cipher.nonce_len();
        self.associated[nonce_len..nonce_len + HEADER_LEN].copy_from_slice(&header);
        let associated = &self.associated[..nonce_len + HEADER_LEN];
        match &self.cipher {
            Cipher::Aes256Gcm(cipher) => open(&**cipher, &self.nonce, associated, data, tag),
            Cipher::XChaCha20Poly1305(cipher) => {
                open(&**cipher, &self.nonce, associated, data, tag)
            }
        }?;
        self.advance();
        Ok(())
    }

    /// Adds one to the nonce, as a big-endian number over its whole length.
    fn advance(&mut self) {
        self.n_records += 1;
        let nonce = &mut self.nonce[..self.cipher.nonce_len()];
        for byte in nonce.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return;
            }
        }
        // It has wrapped: the next record would repeat a nonce.
        self.is_exhausted = true;
    }
}

/// The ciphers are boxed: their key schedules are large, and there are two for each client.
#[derive(Clone)]
enum Cipher {
    Aes256Gcm(Box<Aes256Gcm>),
    XChaCha20Poly1305(Box<XChaCha20Poly1305>),
}

impl Cipher {
    fn new(algorithm: Algorithm, key: &[u8; KEY_LEN]) -> Self {
        let key = (*key).into();
        match algorithm {
            Algorithm::Aes256Gcm => Self::Aes256Gcm(Box::new(Aes256Gcm::new(&key))),
            Algorithm::XChaCha20Poly1305 => {
                Self::XChaCha20Poly1305(Box::new(XChaCha20Poly1305::new(&key)))
            }
        }
    }

    fn nonce_len(&self) -> usize {
        match self {
            Self::Aes256Gcm(_) => 12,
            Self::XChaCha20Poly1305(_) => 24,
        }
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes256Gcm(_) => "Aes256Gcm",
            Self::XChaCha20Poly1305(_) => "XChaCha20Poly1305",
        })
    }
}

fn seal<A: AeadInOut>(
    cipher: &A,
    nonce: &[u8; NONCE_LEN],
    associated: &[u8],
    data: &mut [u8],
) -> Result<[u8; TAG_LEN], AeadError> {
    let tag = cipher
        .encrypt_inout_detached(nonce_of::<A>(nonce), associated, data.into())
        .map_err(|_| AeadError::Exhausted)?;
    tag.as_slice().try_into().map_err(|_| AeadError::Exhausted)
}

fn open<A: AeadInOut>(
    cipher: &A,
    nonce: &[u8; NONCE_LEN],
    associated: &[u8],
    data: &mut [u8],
    tag: &[u8],
) -> Result<(), AeadError> {
    let tag = Tag::<A>::try_from(tag).map_err(|_| AeadError::NotAuthentic)?;
    cipher
        .decrypt_inout_detached(nonce_of::<A>(nonce), associated, data.into(), &tag)
        .map_err(|_| AeadError::NotAuthentic)
}

/// As much of `nonce` as the cipher takes.
fn nonce_of<A: AeadInOut>(nonce: &[u8; NONCE_LEN]) -> &Nonce<A> {
    let (nonces, _) = Nonce::<A>::slice_as_chunks(nonce);
    &nonces[0]
}

/// A record's length, which is at most [`MAX_PLAINTEXT`] and a tag, as on the wire.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a record's length fits in 17 bits"
)]
fn be_len(len: usize) -> [u8; HEADER_LEN] {
    assert!(
        len <= MAX_PLAINTEXT + TAG_LEN,
        "plaintext is cut into records before"
    );
    (len as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; KEY_LEN] = [1; KEY_LEN];
    const BOTH: [Algorithm; 2] = [Algorithm::Aes256Gcm, Algorithm::XChaCha20Poly1305];

    #[test]
    fn a_nonce_is_never_used_twice() {
        for algorithm in BOTH {
            let (sealed, error) = seal_until_error(algorithm, [0xff; NONCE_LEN]);
            assert_eq!(
                error,
                Some(AeadError::Exhausted),
                "the highest nonce has no successor"
            );

            let mut input = sealed.clone();
            let mut opener = Opener::new(algorithm, &KEY);
            assert_eq!(opener.open(&mut input), Ok(Some(Bytes::from_static(b"x"))));
            input.extend_from_slice(&sealed[sealed.len() - HEADER_LEN - TAG_LEN - 1..]);
            assert_eq!(opener.open(&mut input), Err(AeadError::Exhausted));
        }
    }

    #[test]
    fn a_nonce_counts_over_its_whole_length() {
        for algorithm in BOTH {
            let mut random = [0xff; NONCE_LEN];
            random[0] = 7;
            let (_, error) = seal_until_error(algorithm, random);
            assert_eq!(error, None, "there is room in the first byte");
        }
    }

    #[test]
    fn one_key_seals_and_opens_a_bounded_number_of_records_with_gcm() {
        for (algorithm, result) in BOTH.into_iter().zip([Err(AeadError::Exhausted), Ok(())]) {
            let mut out = BytesMut::new();
            let mut sealer = Sealer::new(algorithm, &KEY, [0; NONCE_LEN]);
            sealer.stream.n_records = MAX_GCM_RECORDS;
            assert_eq!(sealer.seal(b"x", &mut out), result);
            assert_eq!(
                out.is_empty(),
                result.is_err(),
                "not even the nonce goes out"
            );
        }
    }

    #[test]
    fn empty_records_are_passed_over_and_never_written() {
        let mut out = BytesMut::new();
        let mut sealer = Sealer::new(Algorithm::Aes256Gcm, &KEY, [0; NONCE_LEN]);
        sealer.seal(b"", &mut out).unwrap();
        assert!(out.is_empty());

        // A record without plaintext, as another sender might write it.
        out.put_slice(&[0; 12]);
        let header = be_len(TAG_LEN);
        out.put_slice(&header);
        let tag = sealer.stream.encrypt(header, &mut []).unwrap();
        out.put_slice(&tag);
        let mut opener = Opener::new(Algorithm::Aes256Gcm, &KEY);
        assert_eq!(opener.open(&mut out), Ok(None));
        assert!(out.is_empty());
    }

    #[test]
    fn what_is_longer_than_a_record_becomes_several() {
        let plain = vec![7; 2 * MAX_PLAINTEXT + 1];
        let mut sealed = BytesMut::new();
        let mut sealer = Sealer::new(Algorithm::Aes256Gcm, &KEY, [0; NONCE_LEN]);
        sealer.seal(&plain, &mut sealed).unwrap();

        let mut opener = Opener::new(Algorithm::Aes256Gcm, &KEY);
        let mut lens = Vec::new();
        while let Some(record) = opener.open(&mut sealed).unwrap() {
            lens.push(record.len());
        }
        assert_eq!(lens, [MAX_PLAINTEXT, MAX_PLAINTEXT, 1]);
    }

    /// Two records of one byte.
    fn seal_until_error(
        algorithm: Algorithm,
        random: [u8; NONCE_LEN],
    ) -> (BytesMut, Option<AeadError>) {
        let mut sealed = BytesMut::new();
        let mut sealer = Sealer::new(algorithm, &KEY, random);
        let result = sealer
            .seal(b"x", &mut sealed)
            .and_then(|()| sealer.seal(b"x", &mut sealed));
        (sealed, result.err())
    }
}
