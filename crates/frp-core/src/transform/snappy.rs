//! frp's compression: the snappy framing format, each write its own chunk, at once.

use std::io;

use bytes::{Bytes, BytesMut};
use frp_proto::snappy::{Decoder, Encoder};

use super::Transform;

/// Both directions of one conn.
#[derive(Default)]
pub struct Snappy {
    encoder: Encoder,
    decoder: Decoder,
}

impl Transform for Snappy {
    fn encode(&mut self, plain: &[u8], out: &mut BytesMut) -> io::Result<()> {
        self.encoder.encode(plain, out);
        Ok(())
    }

    fn decode(&mut self, input: &mut BytesMut) -> io::Result<Option<Bytes>> {
        self.decoder
            .decode(input)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }
}
