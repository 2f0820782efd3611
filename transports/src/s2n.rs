//! QUIC by s2n-quic: the same transport as [`crate::quic`], by people who share no code with it.
//!
//! It exists to be talked to: both back ends run the same promises, alone and against each other,
//! so that neither's reading of the specification is taken for the specification. It is compiled in
//! with the cargo feature `s2n`, and used with `transport.quic.backend = "s2n"`.
//!
//! A dialled connection has an endpoint of its own, as with quinn. Tasks of a carrier take the
//! peer's streams from the connection (`carrier`), so that those beyond the bounds are turned down
//! whether or not anybody accepts. What is known about the path comes from s2n-quic's events
//! (`observer`).
//!
//! What s2n-quic cannot do, and what becomes of it, is in `docs/decisions/s2n-quic.md`: a stream is
//! not known to the peer before its first byte, there are no keys to export and no rebinding,
//! streams have no order of sending, and a refusal by the peer's host goes unnoticed.

mod capped;
mod carrier;
mod dial;
mod endpoint;
mod listen;
mod observer;
mod shared;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::quic::{QuicCongestion, QuicDialConfig, QuicListenConfig, wrong_side};
use crate::{
    BindError, BoxFuture, Carrier, DialError, Endpoint, Listener, Transport, TransportKind,
};

/// How fast to send. It takes the place of `congestion` in the settings that this back end shares
/// with quinn's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct S2nSending {
    /// What decides.
    pub congestion: S2nCongestion,
    /// The most that a connection sends, in bytes a second.
    pub max_rate: Option<u64>,
}

impl S2nSending {
    /// What comes nearest to quinn's `congestion`.
    pub(crate) fn new(congestion: QuicCongestion, max_rate: Option<u64>) -> Self {
        let congestion = match congestion {
            QuicCongestion::Cubic => S2nCongestion::Cubic,
            QuicCongestion::Bbr | QuicCongestion::Lossy => S2nCongestion::Bbr,
        };
        Self {
            congestion,
            max_rate,
        }
    }
}

/// The congestion controls of s2n-quic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum S2nCongestion {
    /// RFC 9438: takes every loss for a full queue.
    Cubic,
    /// BBR in its second version: gives up at a few per cent of loss.
    #[default]
    Bbr,
}

/// QUIC by s2n-quic: of a client, which dials, or of a server, which listens.
#[derive(Clone, Debug)]
pub struct S2nTransport {
    side: Side,
    sending: S2nSending,
}

#[derive(Clone, Debug)]
enum Side {
    Dials(Arc<QuicDialConfig>),
    Listens(Arc<QuicListenConfig>),
}

impl S2nTransport {
    /// Creates a client's transport. `config.congestion` is quinn's, and not looked at.
    pub fn dialer(config: QuicDialConfig, sending: S2nSending) -> Self {
        Self {
            side: Side::Dials(Arc::new(config)),
            sending,
        }
    }

    /// Creates a server's transport. `config.congestion` is quinn's, and not looked at.
    pub fn listener(config: QuicListenConfig, sending: S2nSending) -> Self {
        Self {
            side: Side::Listens(Arc::new(config)),
            sending,
        }
    }
}

impl Transport for S2nTransport {
    fn kind(&self) -> TransportKind {
        TransportKind::Quic
    }

    fn dial<'a>(
        &'a self,
        server: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Carrier>, DialError>> {
        Box::pin(async move {
            match &self.side {
                Side::Dials(config) => dial::dial(config, self.sending, server).await,
                Side::Listens(_) => Err(DialError::ConnectUdp {
                    addr: server.to_string(),
                    source: wrong_side("a server's settings cannot be dialled with"),
                }),
            }
        })
    }

    fn bind(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            match &self.side {
                Side::Listens(config) => {
                    let config = Arc::clone(config);
                    let listener = listen::S2nListener::bind(addr, config, self.sending)?;
                    Ok(Box::new(listener) as Box<dyn Listener>)
                }
                Side::Dials(_) => Err(BindError {
                    transport: TransportKind::Quic,
                    addr,
                    source: wrong_side("QUIC needs a certificate to listen with"),
                }),
            }
        })
    }
}
