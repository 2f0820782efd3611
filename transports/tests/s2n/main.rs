//! QUIC by s2n-quic on loopback: the bounds for strangers, what holds on a bad path, and what it
//! cannot do. Who gets in is tested by the same file as for quinn. The promises of the contract are
//! kept in `tests/contract.rs`, also against quinn.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(
    unreachable_pub,
    reason = "a program, whose modules see each other's items"
)]

mod bounds;
mod path;
#[allow(dead_code, reason = "what only the tests of quinn need")]
#[path = "../quic/support.rs"]
mod support;
#[path = "../quic/tls.rs"]
mod tls;

/// Which implementation of QUIC is tested.
mod backend {
    use transports::quic::{QuicDialConfig, QuicListenConfig};
    use transports::s2n::{S2nSending, S2nTransport};

    /// Whether a refused handshake ends at once and says why.
    pub const SAYS_WHY: bool = false;

    pub fn dialer(config: QuicDialConfig) -> S2nTransport {
        S2nTransport::dialer(config, S2nSending::default())
    }

    pub fn listener(config: QuicListenConfig) -> S2nTransport {
        S2nTransport::listener(config, S2nSending::default())
    }
}
