//! What both ends do at run time: configuration, sessions, work streams, the relay between a user
//! and a service, logs. The server and the client call the same code here, so that the two cannot
//! drift apart.
//!
//! `conn` speaks frp's messages over a stream of a carrier, `work` puts the optional layers (limit,
//! cipher, compression) around a work stream, `relay` copies between it and a socket.

pub use frp_proto as proto;
pub use transports;

pub mod config;
pub mod conn;
pub mod fd_limit;
pub mod flag_value;
pub mod fuzzing;
pub mod hold;
pub mod limit;
pub mod log;
pub mod metrics;
pub mod relay;
pub mod service_manager;
pub mod session;
pub mod state;
pub mod task;
pub mod terminal;
#[cfg(test)]
mod testing;
pub mod transform;
pub mod udp;
pub mod web;
pub mod work;
