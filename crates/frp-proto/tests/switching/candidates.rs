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

/// Two of each, one over IPv6.
pub(crate) fn of_both_ips(transports: &[Transport]) -> Vec<Candidate> {
    let both = |candidate: Candidate| {
        [true, false].map(|is_ipv6| Candidate {
            is_ipv6,
            ..candidate
        })
    };
    of(transports).into_iter().flat_map(both).collect()
}

fn of(transports: &[Transport]) -> Vec<Candidate> {
    let candidate = |transport: &Transport| Candidate {
        transport: *transport,
        is_ipv6: false,
        is_fallback: false,
    };
    transports.iter().map(candidate).collect()
}
