//! Checked configuration of the connections between the two programs, which both have: QUIC, TCP,
//! and how fast they may be.

use std::time::Duration;

pub use transports::quic::{QuicBackend, QuicCongestion};
pub use transports::tcp::TcpCongestion;

use transports::tcp::{DEFAULT_NOTSENT_LOWAT, Sending};

use super::Bandwidth;

/// What QUIC connections agree on (`transport.quic`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuicConfig {
    /// How long a connection is silent before it shows that it is there. `None` is off.
    pub keepalive_period: Option<Duration>,
    /// After which silence of the peer's a connection is given up.
    pub max_idle_timeout: Duration,
    /// How many streams the peer may have open. Never 0.
    pub max_incoming_streams: u64,
    /// How fast to send. Ours.
    pub congestion: QuicCongestion,
    /// Which implementation of QUIC does it. Ours.
    pub backend: QuicBackend,
}

impl Default for QuicConfig {
    fn default() -> Self {
        Self {
            keepalive_period: Some(Duration::from_secs(10)),
            max_idle_timeout: Duration::from_secs(30),
            max_incoming_streams: 100_000,
            congestion: QuicCongestion::default(),
            backend: QuicBackend::default(),
        }
    }
}

/// How TCP connections between the two programs send (`transport.tcp`). Ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpConfig {
    /// The system's congestion control to use.
    pub congestion: TcpCongestion,
    /// How many bytes of what was written may wait in the system for their first sending. `None`
    /// is as many as it lets.
    pub notsent_lowat: Option<u32>,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            congestion: TcpCongestion::default(),
            notsent_lowat: Some(DEFAULT_NOTSENT_LOWAT),
        }
    }
}

impl TcpConfig {
    /// The same as socket options, with the rate that no connection may exceed.
    pub fn sending(&self, max_rate: Option<MaxRate>) -> Sending {
        Sending {
            congestion: self.congestion.clone(),
            notsent_lowat: self.notsent_lowat,
            max_rate: max_rate.map(|rate| rate.bytes_per_second),
        }
    }
}

/// The most that is sent on one connection to the peer (`transport.maxRate`). Ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxRate {
    /// Bytes in a second, headers below TCP, UDP and IP left out. Never 0.
    pub bytes_per_second: u64,
}

impl MaxRate {
    /// Reads a rate in frp's spelling of a bandwidth, `20MB` or `500KB` (bytes, 1024-based), or in
    /// bits as providers write them, `100Mbit` (1000-based, with `Kbit`, `Mbit` or `Gbit`).
    /// Nothing at all, or a quantity of nothing, is no limit: `None`.
    pub fn parse(text: &str) -> Result<Option<Self>, MaxRateError> {
        let text = text.trim();
        let bits = [("Kbit", 1e3), ("Mbit", 1e6), ("Gbit", 1e9)];
        let bits = bits
            .iter()
            .find_map(|(unit, n_bits)| Some((text.strip_suffix(unit)?, n_bits)));
        let bytes_per_second = match bits {
            None => Bandwidth::parse(text)
                .map_err(|_| MaxRateError)?
                .map_or(0, |bandwidth| bandwidth.bytes_per_second),
            Some((amount, n_bits)) => {
                let amount: f64 = amount.trim_end().parse().map_err(|_| MaxRateError)?;
                if !amount.is_finite() {
                    return Err(MaxRateError);
                }
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the cast saturates, and a negative amount becomes 0: no limit"
                )]
                let bytes_per_second = (amount * n_bits / 8.0) as u64;
                bytes_per_second
            }
        };
        match bytes_per_second {
            0 => Ok(None),
            1..MIN_RATE => Err(MaxRateError),
            _ => Ok(Some(Self { bytes_per_second })),
        }
    }
}

/// The text is no rate, or one at which no connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a rate is a number with KB or MB (bytes a second, 1024-based) or Kbit, Mbit or Gbit \
     (bits a second, 1000-based), and at least 8KB: \"20MB\", \"100Mbit\""
)]
pub struct MaxRateError;

/// The lowest rate that may be set, in bytes a second: six full packets. With less, a handshake
/// takes longer than the dial may.
const MIN_RATE: u64 = 8 * 1024;
