//! KCP on paper: what frp speaks over UDP, without a socket or a clock.
//!
//! A [`Session`] is told which datagrams have arrived, what is to be sent, and what time it is; it
//! answers with datagrams to send and the time at which it wants to be asked again. On the way out
//! data is cut into [`segment`]s, which share datagrams; [`fec`] numbers these and adds parity over
//! groups of them. On the way in it recovers what it can of those that are missing, and the session
//! puts the segments in order.
//!
//! Between it and the network there is nothing: no encryption and no checksum beyond UDP's. What
//! comes out is as trustworthy as the path, and TLS belongs inside.
//!
//! The wire is that of kcp-go v5.6.13 as frp v0.70.1 sets it up. How much is sent, how fast, and what
//! counts as lost is decided by a [`control::SendControl`].

pub mod config;
pub mod control;
pub mod copies;
pub mod fec;
pub mod fuzzing;
mod gf;
pub mod reed_solomon;
pub mod segment;
mod session;

pub use config::Config;
pub use session::{Datagram, DatagramError, End, Session, Stats, Transmit};
