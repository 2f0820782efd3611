//! The ways to the simulated server.

use frp_proto::policy::{Candidate, Transport};

/// QUIC and TCP: one of each family.
pub(crate) fn two() -> Vec<Candidate> {
    of(&[Transport::Quic, Transport::Tcp])
}

/// What is tried at a server of which nothing is known.
pub(crate) fn three() -> Vec<Candidate> {
    of(&[Transport::Quic, Transport::Kcp, Transport::Tcp])
}

fn of(transports: &[Transport]) -> Vec<Candidate> {
    let candidate = |transport: &Transport| Candidate {
        transport: *transport,
        is_ipv6: false,
        is_fallback: false,
    };
    transports.iter().map(candidate).collect()
}
