//! Which way packets go.

use std::fmt;

/// One direction of a lab's link. Never "up" or "down": a user's download travels from the service
/// on the far side to the user on the near one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the near side to the far side.
    ToFar,
    /// From the far side to the near side.
    ToNear,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::ToFar, Self::ToNear];
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ToFar => "to far",
            Self::ToNear => "to near",
        })
    }
}
