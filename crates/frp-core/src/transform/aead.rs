//! The cipher of the v2 control conn: AEAD records with keys for each direction.

use std::io;

use bytes::{Bytes, BytesMut};
use frp_proto::aead::{NONCE_LEN, Opener, Sealer};
use frp_proto::hello::ControlKeys;

use super::Transform;

/// Which end of the conn this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// frpc.
    Client,
    /// frps.
    Server,
}

/// Both directions of one control conn.
pub struct Aead {
    keys: ControlKeys,
    side: Side,
    /// Its nonce goes out with the first record, not before: as Go does.
    sealer: Option<Sealer>,
    opener: Opener,
}

impl Aead {
    /// Starts both directions with the keys that the hellos led to.
    pub fn new(keys: ControlKeys, side: Side) -> Self {
        let receiving = match side {
            Side::Client => &keys.server_to_client,
            Side::Server => &keys.client_to_server,
        };
        let opener = Opener::new(keys.algorithm, receiving);
        Self {
            keys,
            side,
            sealer: None,
            opener,
        }
    }
}

impl Transform for Aead {
    fn encode(&mut self, plain: &[u8], out: &mut BytesMut) -> io::Result<()> {
        let sealer = match &mut self.sealer {
            Some(sealer) => sealer,
            none => {
                let sending = match self.side {
                    Side::Client => &self.keys.client_to_server,
                    Side::Server => &self.keys.server_to_client,
                };
                let mut nonce = [0; NONCE_LEN];
                getrandom::fill(&mut nonce)?;
                none.insert(Sealer::new(self.keys.algorithm, sending, nonce))
            }
        };
        sealer.seal(plain, out).map_err(invalid)
    }

    fn decode(&mut self, input: &mut BytesMut) -> io::Result<Option<Bytes>> {
        self.opener.open(input).map_err(invalid)
    }
}

fn invalid(e: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}
