//! How carriers are named here, and which of them is in use.

use std::fmt;

/// A carrier, by a number that its owner has given it. Nothing is read into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CarrierId(pub u64);

/// Number of a switch. Of all that a session, or a held stream, has seen, the highest counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One stream of a carrier that carries, or has carried, a held stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The carrier that the stream belongs to.
    pub carrier: CarrierId,
    /// With which number the held stream was attached. No two routes of a held stream share one.
    pub generation: Generation,
}
