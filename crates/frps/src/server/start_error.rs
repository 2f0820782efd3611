//! Why a server does not start.

use std::io;

use frp_core::config::TokenError;
use frp_core::transports::tls::TlsError;
use frp_core::web::ListenError;

use crate::net::bind_error_text;

/// Why a server does not start. The texts are frp's where frp has one.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken, or not allowed.
    #[error(
        "create server listener error, listen tcp {address}: {}",
        bind_error_text(source)
    )]
    Listen {
        /// As the configuration has it.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// `bindPort` is taken on its UDP side, or not allowed.
    #[error(
        "listen on udp {address} for quic and kcp (transport.auto.enable): {}",
        bind_error_text(source)
    )]
    ListenUdp {
        /// As the configuration has it.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The port for KCP is taken, or not allowed.
    #[error(
        "listen on kcp udp address {address} error: listen udp {address}: {}",
        bind_error_text(source)
    )]
    ListenKcp {
        /// As the configuration has it.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The port for QUIC is taken, or not allowed.
    #[error(
        "listen on quic udp address {address} error: listen udp {address}: {}",
        bind_error_text(source)
    )]
    ListenQuic {
        /// As the configuration has it.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// An address in the configuration is none.
    #[error("cannot resolve {0}: {1}")]
    Address(String, io::Error),
    /// The API's port is taken, or not allowed.
    #[error(transparent)]
    Web(#[from] ListenError),
    /// A certificate file cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token's source gives none.
    #[error(transparent)]
    Token(#[from] TokenError),
}
