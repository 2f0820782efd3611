//! Compressed payload: snappy's framing format, as frp uses it.
//!
//! A stream identifier once, then chunks of `type u8 | length u24 LE | ...`. A data chunk holds at
//! most 64 KiB, behind a masked CRC-32C of what is in it. Every write becomes chunks of its own at
//! once, so nothing is ever held back.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use thiserror::Error;

/// The most plain bytes in a chunk, from the format.
pub const MAX_CHUNK: usize = 64 * 1024;

/// The longest body of a chunk that is read: what 64 KiB can grow to when compressed, and its
/// checksum. The same bound as frp's, also for chunks that are passed over.
const MAX_BODY: usize = 76490 + CHECKSUM_LEN;

const HEADER_LEN: usize = 4;
const CHECKSUM_LEN: usize = 4;

const COMPRESSED: u8 = 0x00;
const UNCOMPRESSED: u8 = 0x01;
const STREAM_IDENTIFIER: u8 = 0xff;
const STREAM_BODY: &[u8] = b"sNaPpY";

/// Compresses one direction.
#[derive(Debug)]
pub struct Encoder {
    raw: snap::raw::Encoder,
    is_identified: bool,
}

impl Encoder {
    /// Starts a direction.
    pub fn new() -> Self {
        Self {
            raw: snap::raw::Encoder::new(),
            is_identified: false,
        }
    }

    /// Appends `plain` to `out` as chunks. Nothing at all when it is empty.
    pub fn encode(&mut self, plain: &[u8], out: &mut BytesMut) {
        for plain in plain.chunks(MAX_CHUNK) {
            if !self.is_identified {
                put_header(STREAM_IDENTIFIER, STREAM_BODY.len(), out);
                out.put_slice(STREAM_BODY);
                self.is_identified = true;
            }
            self.encode_chunk(plain, out);
        }
    }

    fn encode_chunk(&mut self, plain: &[u8], out: &mut BytesMut) {
        let start = out.len();
        let body = start + HEADER_LEN + CHECKSUM_LEN;
        out.resize(body + snap::raw::max_compress_len(plain.len()), 0);
        // It can only fail for want of room, which there is. A stored chunk is right in any case.
        let len = self
            .raw
            .compress(plain, &mut out[body..])
            .unwrap_or(plain.len());
        // Stored when compression saves less than an eighth, as in Go.
        let is_stored = len >= plain.len() - plain.len() / 8;
        if is_stored {
            out.truncate(body);
            out.put_slice(plain);
        } else {
            out.truncate(body + len);
        }
        let kind = if is_stored { UNCOMPRESSED } else { COMPRESSED };
        let body_len = out.len() - start - HEADER_LEN;
        let (mut header, mut checksum) = out[start..body].split_at_mut(HEADER_LEN);
        put_header(kind, body_len, &mut header);
        checksum.put_u32_le(masked_crc(plain));
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Decompresses one direction.
#[derive(Debug)]
pub struct Decoder {
    raw: snap::raw::Decoder,
    plain: BytesMut,
    is_identified: bool,
    error: Option<SnappyError>,
}

impl Decoder {
    /// Starts a direction.
    pub fn new() -> Self {
        Self {
            raw: snap::raw::Decoder::new(),
            plain: BytesMut::new(),
            is_identified: false,
            error: None,
        }
    }

    /// Takes chunks from the front of `input` up to and with one that holds data, and returns the
    /// data, which is not empty. `None` when it needs more bytes.
    ///
    /// An error is final: the same one comes again.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, SnappyError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        loop {
            match self.decode_chunk(input) {
                Ok(Some(plain)) if plain.is_empty() => (),
                Ok(plain) => return Ok(plain),
                Err(error) => {
                    self.error = Some(error);
                    return Err(error);
                }
            }
        }
    }

    /// Takes one chunk; its data is empty when it holds none.
    fn decode_chunk(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, SnappyError> {
        let Some(&[kind, len_lo, len_mid, len_hi]) = input.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        if !self.is_identified && kind != STREAM_IDENTIFIER {
            return Err(SnappyError::NoIdentifier);
        }
        let len = usize::from(len_lo) | usize::from(len_mid) << 8 | usize::from(len_hi) << 16;
        check_len(kind, len)?;
        if input.len() < HEADER_LEN + len {
            return Ok(None);
        }
        input.advance(HEADER_LEN);
        let body = input.split_to(len);
        match kind {
            COMPRESSED => self.decompress(&body).map(Some),
            UNCOMPRESSED => take_stored(body).map(Some),
            STREAM_IDENTIFIER if body != STREAM_BODY => Err(SnappyError::NoIdentifier),
            _ => {
                self.is_identified = true;
                Ok(Some(Bytes::new()))
            }
        }
    }

    fn decompress(&mut self, mut body: &[u8]) -> Result<Bytes, SnappyError> {
        let checksum = body.try_get_u32_le().map_err(|_| SnappyError::Corrupt)?;
        let len = snap::raw::decompress_len(body).map_err(|_| SnappyError::Corrupt)?;
        if len > MAX_CHUNK {
            return Err(SnappyError::Corrupt);
        }
        self.plain.resize(len, 0);
        let len = self
            .raw
            .decompress(body, &mut self.plain)
            .map_err(|_| SnappyError::Corrupt)?;
        let plain = self.plain.split_to(len).freeze();
        check_crc(&plain, checksum)?;
        Ok(plain)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a compressed stream cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SnappyError {
    /// It does not start with the stream identifier, or has a wrong one further on.
    #[error("not a snappy stream")]
    NoIdentifier,
    /// A chunk of a type that must be understood, or one that is too long.
    #[error("unsupported snappy chunk")]
    Unsupported,
    /// A chunk that is not what it says.
    #[error("corrupt snappy chunk")]
    Corrupt,
}

/// Refuses a chunk by its header, before its body is waited for.
fn check_len(kind: u8, len: usize) -> Result<(), SnappyError> {
    if len > MAX_BODY {
        return Err(SnappyError::Unsupported);
    }
    match kind {
        COMPRESSED | UNCOMPRESSED if len < CHECKSUM_LEN => Err(SnappyError::Corrupt),
        UNCOMPRESSED if len > CHECKSUM_LEN + MAX_CHUNK => Err(SnappyError::Corrupt),
        STREAM_IDENTIFIER if len != STREAM_BODY.len() => Err(SnappyError::NoIdentifier),
        // Types that must be understood. Those from 0x80 on may be passed over.
        0x02..=0x7f => Err(SnappyError::Unsupported),
        _ => Ok(()),
    }
}

fn take_stored(mut body: BytesMut) -> Result<Bytes, SnappyError> {
    let checksum = body.try_get_u32_le().map_err(|_| SnappyError::Corrupt)?;
    check_crc(&body, checksum)?;
    Ok(body.freeze())
}

fn check_crc(plain: &[u8], checksum: u32) -> Result<(), SnappyError> {
    if masked_crc(plain) == checksum {
        Ok(())
    } else {
        Err(SnappyError::Corrupt)
    }
}

/// The format masks checksums, so that a checksum over data with checksums in it is still good.
fn masked_crc(plain: &[u8]) -> u32 {
    crc32c::crc32c(plain)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

fn put_header(kind: u8, len: usize, out: &mut impl bytes::BufMut) {
    assert!(len <= MAX_BODY, "chunks are cut to size before");
    out.put_u8(kind);
    out.put_uint_le(len as u64, 3);
}
