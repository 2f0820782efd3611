//! Which implementation of QUIC is used.

use std::sync::Arc;

use super::{QuicCongestion, QuicDialConfig, QuicListenConfig, QuicTransport};
use crate::Transport;

/// Which implementation of QUIC is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuicBackend {
    /// quinn, the one that everything here is measured with.
    #[default]
    Quinn,
    /// s2n-quic.
    #[cfg(feature = "s2n")]
    S2n,
}

impl QuicBackend {
    /// s2n-quic, if it was compiled in (cargo feature `s2n`).
    #[cfg(feature = "s2n")]
    pub const S2N: Option<Self> = Some(Self::S2n);
    /// s2n-quic, if it was compiled in (cargo feature `s2n`).
    #[cfg(not(feature = "s2n"))]
    pub const S2N: Option<Self> = None;

    /// Makes a client's transport, which sends as `congestion` decides and at most `max_rate` bytes
    /// a second.
    pub fn dialer(
        self,
        config: QuicDialConfig,
        congestion: QuicCongestion,
        max_rate: Option<u64>,
    ) -> Arc<dyn Transport> {
        match self {
            Self::Quinn => Arc::new(QuicTransport::dialer(QuicDialConfig {
                congestion: congestion.build(max_rate),
                ..config
            })),
            #[cfg(feature = "s2n")]
            Self::S2n => Arc::new(crate::s2n::S2nTransport::dialer(
                config,
                crate::s2n::S2nSending::new(congestion, max_rate),
            )),
        }
    }

    /// Makes a server's transport, which sends likewise to each client.
    pub fn listener(
        self,
        config: QuicListenConfig,
        congestion: QuicCongestion,
        max_rate: Option<u64>,
    ) -> Arc<dyn Transport> {
        match self {
            Self::Quinn => Arc::new(QuicTransport::listener(QuicListenConfig {
                congestion: congestion.build(max_rate),
                ..config
            })),
            #[cfg(feature = "s2n")]
            Self::S2n => Arc::new(crate::s2n::S2nTransport::listener(
                config,
                crate::s2n::S2nSending::new(congestion, max_rate),
            )),
        }
    }
}
