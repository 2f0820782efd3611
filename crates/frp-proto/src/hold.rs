//! Held streams: ordered byte streams that outlive the carrier under them.
//!
//! Between two Holdfasts a stream of a carrier begins with [`Attach`](frame::Attach), which says
//! which held stream it carries from here on. What follows are [`frame`]s: data with its offset,
//! acknowledgements, the end. When the carrier dies, the side that opened the held stream attaches
//! it to a stream of another one, each side says how far it has received, and both go on there.
//!
//! 1. [`varint`] and [`frame`] are what is on the wire, [`datagram`] what goes as datagrams of a
//!    carrier (those of `udp` proxies are a [`user_datagram`] each), [`session_frame`] what the
//!    session says about itself.
//! 2. [`HeldStream`] is the state machine of one held stream. Its owner moves bytes: it takes what
//!    [`HeldStream::poll_transmit`] gives to the carrier's stream, and hands in what comes out.
//! 3. [`Session`] knows which held streams and carriers a session has, which carrier is in use,
//!    and when the session is over. [`Budget`] bounds what its streams keep.
//! 4. [`key`] derives the session key, and [`join`] proves it on a further carrier.

pub mod budget;
mod copies;
pub mod datagram;
mod demand;
pub mod frame;
pub mod join;
pub mod key;
mod pieces;
mod receive;
mod route;
mod send;
pub mod session;
pub mod session_frame;
pub mod stream;
pub mod user_datagram;
pub mod varint;

pub use budget::Budget;
pub use copies::CopyPlan;
pub use receive::ReceiveError;
pub use route::{CarrierId, Generation, Route};
pub use session::Session;
pub use stream::{HeldStream, Output, StreamError};
pub use user_datagram::UserDatagram;

/// What each receiver grants a new held stream before it has said anything: as much as fits into
/// most requests and answers, so that opening a stream costs no round trip.
pub const INITIAL_WINDOW: u64 = 64 * 1024;

/// The most that one held stream keeps for repetition, and the most that a receiver grants: six
/// times the 2.5 MiB that 100 Mbit/s have on the way at 200 ms.
pub const MAX_WINDOW: u64 = 16 * 1024 * 1024;

/// Which side has opened a held stream. It is the one that attaches it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This side opened the stream, and finds a carrier for it.
    Opener,
    /// The peer opened the stream, and comes back with it.
    Acceptor,
}
