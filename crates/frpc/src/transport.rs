//! The transport that the configuration asks for.

use std::sync::Arc;

use frp_core::config::ClientConfig;
use frp_core::transports::mux::MuxConfig;
use frp_core::transports::tcp::{ProxyUrl, ProxyUrlError, TcpDialConfig, TcpTransport};
use frp_core::transports::tls::{ClientTlsConfig, FingerprintParseError, TlsError};
use frp_core::transports::{Transport, TransportKind};

/// Why a transport cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A file of the TLS settings cannot be used; the text names it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The outbound proxy is not one that can be used.
    #[error(transparent)]
    Proxy(#[from] ProxyUrlError),
    /// The pin is none.
    #[error("transport.tls.pin: {0}")]
    Pin(#[from] FingerprintParseError),
    /// The program knows no way to dial this one.
    #[error("not supported yet: transport.protocol {0}")]
    Unsupported(TransportKind),
}

/// Prepares to dial the server of `config`. Reads the files of its TLS settings.
pub fn dialer(config: &ClientConfig) -> Result<Arc<dyn Transport>, TransportError> {
    let transport = &config.transport;
    if transport.protocol != TransportKind::Tcp {
        return Err(TransportError::Unsupported(transport.protocol));
    }
    let tls = &transport.tls;
    let tls_config = ClientTlsConfig {
        cert_and_key: tls.cert_file.clone().zip(tls.key_file.clone()),
        trusted_ca: tls.trusted_ca_file.clone(),
        server_name: tls.server_name.clone(),
        pin: tls.pin.map(|pin| pin.to_string().parse()).transpose()?,
    };
    let proxy = transport.proxy_url.as_ref();
    let mux = MuxConfig {
        keepalive_interval: transport.tcp_mux_keepalive_interval,
        ..MuxConfig::default()
    };
    Ok(Arc::new(TcpTransport::dialer(TcpDialConfig {
        timeout: transport.dial_server_timeout,
        keepalive: transport.dial_server_keepalive,
        local_ip: transport.connect_server_local_ip,
        proxy: proxy
            .map(|proxy| proxy.url().as_str().parse::<ProxyUrl>())
            .transpose()?,
        tls: if tls.enable {
            Some(tls_config.build()?)
        } else {
            None
        },
        marker: (!tls.disable_custom_first_byte).then_some(TLS_MARKER),
        mux: transport.tcp_mux.then_some(mux),
    })))
}

/// frp's byte before TLS, for servers that share the port with others who speak TLS.
const TLS_MARKER: u8 = 0x17;
