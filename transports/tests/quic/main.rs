//! QUIC on loopback: who gets in, what holds on a bad path, and what a stream does at its end.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(
    unreachable_pub,
    reason = "a program, whose modules see each other's items"
)]

mod given_up;
mod path;
mod strangers;
mod streams;
mod support;
mod tls;

/// Which implementation of QUIC is tested.
mod backend {
    use transports::quic::{QuicDialConfig, QuicListenConfig, QuicTransport};

    /// Whether a refused handshake ends at once and says why.
    pub const SAYS_WHY: bool = true;

    pub fn dialer(config: QuicDialConfig) -> QuicTransport {
        QuicTransport::dialer(config)
    }

    pub fn listener(config: QuicListenConfig) -> QuicTransport {
        QuicTransport::listener(config)
    }
}
