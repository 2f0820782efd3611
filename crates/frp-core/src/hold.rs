//! Streams that outlive their carrier, at run time: what `frp_proto::hold` decides is done here,
//! with carriers of `transports` and the clock.
//!
//! 1. [`session`]: a [`HeldSession`] has carriers, and streams that move between them.
//! 2. [`stream`]: one held stream, a [`Stream`](transports::Stream) like those of carriers.
//! 3. [`join`]: how a carrier comes to a session, at both ends.
//! 4. [`watch`]: what goes on beside the streams of a carrier that has joined: probes, path
//!    reports, the client's decisions, goodbye.
//! 5. [`flow`]: what goes as datagrams of whichever carrier is in use, for `udp` proxies.

mod clock;
pub mod flow;
pub mod join;
pub mod session;
pub mod stream;
pub mod watch;

pub use frp_proto::hold::{CarrierId, Generation};
pub use session::{
    CarrierNumbers, HeldSession, HoldStats, RouteError, Status, Totals, TransportNumbers,
};
