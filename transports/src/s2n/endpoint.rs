//! s2n-quic's own settings, and the endpoints that are started with them.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use s2n_quic::client::Client;
use s2n_quic::provider::congestion_controller::{Bbr, Cubic};
use s2n_quic::provider::endpoint_limits::{ConnectionAttempt, Limiter, Outcome};
use s2n_quic::provider::limits::Limits;
use s2n_quic::provider::{datagram, io::tokio as io_provider, tls};
use s2n_quic::server::Server;

use super::capped::Capped;
use super::observer::Observer;
use super::{S2nCongestion, S2nSending};
use crate::half_open::HalfOpen;
use crate::quic::{INITIAL_RTT, QuicDialConfig, QuicListenConfig, Windows};

/// Starts an endpoint with the congestion control that is asked for: each is a type of its own.
macro_rules! start {
    ($builder:expr, $sending:expr) => {{
        let S2nSending {
            congestion,
            max_rate,
        } = $sending;
        let builder = $builder;
        match congestion {
            S2nCongestion::Cubic => builder
                .with_congestion_controller(Capped::new(Cubic::default(), max_rate))
                .map_err(other)?
                .start(),
            S2nCongestion::Bbr => builder
                .with_congestion_controller(Capped::new(Bbr::default(), max_rate))
                .map_err(other)?
                .start(),
        }
        .map_err(other)
    }};
}

/// Starts a client's endpoint on `socket`. Must be called in a tokio runtime.
pub(super) fn client(
    config: &QuicDialConfig,
    sending: S2nSending,
    tls: Arc<rustls::ClientConfig>,
    socket: UdpSocket,
) -> io::Result<Client> {
    let limits = Settings {
        keepalive_interval: config.keepalive_interval,
        idle_timeout: config.idle_timeout,
        max_handshake: config.timeout,
        max_streams: config.max_incoming_streams,
        windows: config.windows,
    };
    let builder = Client::builder()
        .with_io(io(socket)?)
        .map_err(other)?
        .with_tls(tls::rustls::Client::from(tls))
        .map_err(other)?
        .with_limits(limits.build().map_err(io::Error::other)?)
        .map_err(other)?
        .with_event(Observer)
        .map_err(other)?
        .with_datagram(datagrams()?)
        .map_err(other)?;
    start!(builder, sending)
}

/// Starts a server's endpoint on `socket`. Must be called in a tokio runtime.
pub(super) fn server(
    config: &QuicListenConfig,
    sending: S2nSending,
    half_open: Arc<HalfOpen>,
    socket: UdpSocket,
) -> io::Result<Server> {
    let tls = Arc::new(config.tls.for_quic(&config.alpn));
    let limits = Settings {
        keepalive_interval: config.keepalive_interval,
        idle_timeout: config.idle_timeout,
        max_handshake: config.login_timeout,
        max_streams: config.max_incoming_streams,
        windows: config.windows,
    };
    let builder = Server::builder()
        .with_io(io(socket)?)
        .map_err(other)?
        .with_tls(tls::rustls::Server::from(tls))
        .map_err(other)?
        .with_limits(limits.build().map_err(io::Error::other)?)
        .map_err(other)?
        .with_endpoint_limits(Handshakes {
            max: config.limits.total.max(1),
            half_open,
        })
        .map_err(other)?
        .with_event(Observer)
        .map_err(other)?
        .with_datagram(datagrams()?)
        .map_err(other)?;
    start!(builder, sending)
}

fn io(socket: UdpSocket) -> io::Result<io_provider::Provider> {
    io_provider::Provider::builder()
        .with_rx_socket(socket)?
        .build()
}

fn datagrams() -> io::Result<datagram::default::Endpoint> {
    datagram::default::Endpoint::builder()
        .with_send_capacity(MAX_DATAGRAMS)
        .and_then(|builder| builder.with_recv_capacity(MAX_DATAGRAMS))
        .map_err(io::Error::other)?
        .build()
        .map_err(other)
}

fn other(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// What both ends of a connection have to say about it.
struct Settings {
    keepalive_interval: Duration,
    idle_timeout: Duration,
    max_handshake: Duration,
    max_streams: u64,
    windows: Windows,
}

impl Settings {
    fn build(&self) -> Result<Limits, impl std::error::Error + Send + Sync + 'static + use<>> {
        let window = |wanted: u64| wanted.min(MAX_WINDOW);
        let send_buffer = u32::try_from(self.windows.send).unwrap_or(u32::MAX);
        let max_streams = self.max_streams.min(MAX_STREAMS);
        let keepalive = self.keepalive_interval.min(self.idle_timeout / 2);
        Limits::new()
            .with_max_idle_timeout(self.idle_timeout.min(MAX_IDLE_TIMEOUT))?
            .with_max_keep_alive_period(keepalive.max(Duration::from_millis(1)))?
            .with_max_handshake_duration(self.max_handshake)?
            .with_initial_round_trip_time(INITIAL_RTT)?
            .with_max_open_local_bidirectional_streams(MAX_STREAMS)?
            .with_max_open_remote_bidirectional_streams(max_streams)?
            // quinn opens one at the end.
            .with_max_open_remote_unidirectional_streams(1)?
            .with_unidirectional_data_window(MIN_WINDOW)?
            .with_bidirectional_local_data_window(window(self.windows.stream))?
            .with_bidirectional_remote_data_window(window(self.windows.stream))?
            .with_data_window(window(self.windows.connection))?
            .with_max_send_buffer_size(send_buffer.min(MAX_SEND_BUFFER))
    }
}

/// Bounds the handshakes under way.
///
/// While there are few, nobody is asked to show that his address is his own, since it costs a round
/// trip. With many, addresses may be forged, so each is asked (Retry). Who has shown it is let in
/// without another question by s2n-quic, so beyond the places no new question is asked either.
struct Handshakes {
    max: usize,
    /// Connections whose handshakes are done, and whose clients have not logged in.
    half_open: Arc<HalfOpen>,
}

impl Limiter for Handshakes {
    fn on_connection_attempt(&mut self, attempt: &ConnectionAttempt<'_>) -> Outcome {
        if attempt.inflight_handshakes >= self.max {
            metrics::counter!("holdfast_rejected_total", "cause" => "half-open waiting")
                .increment(1);
            return Outcome::close();
        }
        if attempt.inflight_handshakes.max(self.half_open.n_taken()) >= RETRY_FROM {
            metrics::counter!("holdfast_quic_retries_total").increment(1);
            return Outcome::retry();
        }
        Outcome::allow()
    }
}

/// Half-open connections from which on a client has to show that its address is its own.
const RETRY_FROM: usize = 50;

/// s2n-quic's bound for windows.
const MAX_WINDOW: u64 = u32::MAX as u64;

/// For streams on which nothing is expected.
const MIN_WINDOW: u64 = 1024;

/// QUIC's bound for streams of one kind (RFC 9000 section 4.6).
const MAX_STREAMS: u64 = 1 << 60;

/// Ten years, as good as never.
const MAX_IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What is kept of a stream until the peer has it. s2n-quic has no bound for the connection, and
/// this fills 160 Mbit/s over 50 ms.
const MAX_SEND_BUFFER: u32 = 1024 * 1024;

/// Datagrams that wait to be sent, and as many that wait to be read: half a megabyte. Beyond it the
/// oldest are dropped.
const MAX_DATAGRAMS: usize = 400;
