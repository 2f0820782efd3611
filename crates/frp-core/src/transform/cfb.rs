//! frp's v1 stream cipher: AES-128-CFB, each direction behind its own initialisation vector.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use frp_proto::cfb::{Decryptor, Encryptor, IV_LEN, KEY_LEN};

use super::Transform;

/// Both directions of one conn.
pub struct Cfb {
    key: [u8; KEY_LEN],
    /// The initialisation vector goes out with the first byte, not before: as Go does.
    encryptor: Option<Encryptor>,
    /// Made from the peer's first bytes.
    decryptor: Option<Decryptor>,
}

impl Cfb {
    /// Starts both directions with `key`.
    pub fn new(key: [u8; KEY_LEN]) -> Self {
        Self {
            key,
            encryptor: None,
            decryptor: None,
        }
    }
}

impl Transform for Cfb {
    fn encode(&mut self, plain: &[u8], out: &mut BytesMut) -> io::Result<()> {
        let encryptor = match &mut self.encryptor {
            Some(encryptor) => encryptor,
            none => {
                let mut iv = [0; IV_LEN];
                getrandom::fill(&mut iv)?;
                out.extend_from_slice(&iv);
                none.insert(Encryptor::new(&self.key, iv))
            }
        };
        let start = out.len();
        out.extend_from_slice(plain);
        encryptor.apply(&mut out[start..]);
        Ok(())
    }

    fn decode(&mut self, input: &mut BytesMut) -> io::Result<Option<Bytes>> {
        let decryptor = match &mut self.decryptor {
            Some(decryptor) => decryptor,
            none => {
                let Some((iv, _)) = input.split_first_chunk::<IV_LEN>() else {
                    return Ok(None);
                };
                let iv = *iv;
                input.advance(IV_LEN);
                none.insert(Decryptor::new(&self.key, iv))
            }
        };
        if input.is_empty() {
            return Ok(None);
        }
        let mut plain = input.split();
        decryptor.apply(&mut plain);
        Ok(Some(plain.freeze()))
    }
}
