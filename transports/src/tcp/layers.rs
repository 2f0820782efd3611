//! What is around a carrier on an accepted byte stream: TLS, with a marker or without, and
//! WebSocket. Each layer is told by its first bytes, and taken off by its handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::TcpListenConfig;
use super::io::put_back;
use super::preface::{MAX_PREFIX_LEN, Opening, Rules};
use crate::TransportKind;
use crate::info::{CarrierInfo, Io};
use crate::log_limit::LogLimit;
use crate::tls::ServerTls;
use crate::websocket::{self, AcceptError};

/// Takes the layers off the connections of one listener.
pub(crate) struct Layers {
    rules: LayerRules,
    tls: Option<ServerTls>,
    force_tls: bool,
    websocket_path: Option<&'static str>,
    refusals: LogLimit,
}

impl Layers {
    pub(crate) fn new(config: &TcpListenConfig) -> Self {
        Self {
            rules: LayerRules::new(config),
            tls: config.tls.clone(),
            force_tls: config.force_tls,
            websocket_path: config.websocket_path,
            refusals: LogLimit::default(),
        }
    }

    /// Takes layer after layer off a connection, each told by its first bytes, and runs the
    /// handshake of each.
    pub(crate) async fn take_off(
        &self,
        mut io: Box<dyn Io>,
        mut info: CarrierInfo,
    ) -> Result<(Box<dyn Io>, CarrierInfo), Refusal> {
        let outermost = info.kind;
        let mut has_tls = false;
        let mut next_rules = Some(&self.rules.outermost);
        while let Some(rules) = next_rules {
            let (opening, preface) = rules.read(&mut io).await.map_err(Refusal::Io)?;
            io = put_back(preface.bytes(), io);
            next_rules = match (opening, &self.tls, self.websocket_path) {
                (Opening::Tls { .. }, Some(tls), _) => {
                    let stream = tls.accept(io).await.map_err(Refusal::Tls)?;
                    info.exporter = Some(Arc::new(stream.exporter()));
                    io = Box::new(stream);
                    has_tls = true;
                    let is_outermost = info.kind == outermost;
                    self.rules.in_tls.as_ref().filter(|_| is_outermost)
                }
                (Opening::Websocket, _, Some(path)) => {
                    let stream = websocket::accept(io, path).await?;
                    info.kind = if has_tls {
                        TransportKind::Wss
                    } else {
                        TransportKind::Websocket
                    };
                    io = Box::new(stream);
                    self.rules.in_websocket.as_ref().filter(|_| !has_tls)
                }
                _ => None,
            };
        }
        if self.force_tls && !has_tls {
            return Err(Refusal::NotTls);
        }
        Ok((io, info))
    }

    /// Counts and logs what became of a connection.
    pub(crate) fn note_refusal(&self, refusal: &Refusal, peer: SocketAddr) {
        metrics::counter!("holdfast_rejected_total", "cause" => refusal.cause()).increment(1);
        match refusal {
            Refusal::Silent => tracing::debug!(%peer, "connection without a login in time"),
            Refusal::Io(error) => tracing::debug!(%peer, "connection ended at once: {error}"),
            _ if !self.refusals.allows() => {}
            // The words that frp logs, for those who look for them.
            Refusal::NotTls => tracing::warn!(
                "checkAndEnableTLSServerConnWithTimeout error: \
                 non-TLS connection received on a TlsOnly server"
            ),
            Refusal::Tls(error) => tracing::warn!("TLS handshake with {peer}: {error}"),
            Refusal::Upgrade(problem) => {
                tracing::warn!("websocket upgrade of {peer} refused: {problem}");
            }
        }
    }
}

/// Why no carrier came of a connection.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It did not get through the first bytes and the handshake in time.
    Silent,
    /// It ended in the first bytes.
    Io(io::Error),
    /// It does not begin TLS, and must.
    NotTls,
    /// The TLS handshake failed.
    Tls(io::Error),
    /// It asked for a WebSocket in a way that is not granted, and has been told so.
    Upgrade(&'static str),
}

impl Refusal {
    fn cause(&self) -> &'static str {
        match self {
            Self::Silent => "no login in time",
            Self::Io(_) => "ended early",
            Self::NotTls => "not TLS",
            Self::Tls(_) => "TLS handshake",
            Self::Upgrade(_) => "websocket upgrade",
        }
    }
}

impl From<AcceptError> for Refusal {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Io(error) => Self::Io(error),
            AcceptError::Refused(problem) => Self::Upgrade(problem),
        }
    }
}

/// What frp's connections begin with, layer by layer. `None` where nothing is told apart, and so
/// nothing has to be read.
struct LayerRules {
    outermost: Rules,
    /// Inside TLS there is a WebSocket at the most.
    in_tls: Option<Rules>,
    /// Inside a WebSocket there is TLS at the most.
    in_websocket: Option<Rules>,
}

impl LayerRules {
    fn new(config: &TcpListenConfig) -> Self {
        let with_tls = |mut rules: Rules| {
            if let Some(marker) = config.marker {
                rules = rules.with(&[marker], Opening::Tls { is_marked: true });
            }
            rules.with(&[TLS_HANDSHAKE], Opening::Tls { is_marked: false })
        };
        // The first byte tells it from all that frp sends inside TLS, which begins with 0, with a
        // small letter of a message, or with the F of wire v2.
        let with_websocket = |rules: Rules, path| {
            let mut prefix = format!("GET {path}").into_bytes();
            prefix.truncate(MAX_PREFIX_LEN);
            rules.with(&prefix, Opening::Websocket)
        };
        let mut outermost = Rules::default();
        if let Some(path) = config.websocket_path {
            outermost = with_websocket(outermost, path);
        }
        if config.tls.is_some() {
            outermost = with_tls(outermost);
        }
        Self {
            outermost,
            in_tls: (config.websocket_path).map(|path| with_websocket(Rules::default(), path)),
            in_websocket: config.tls.is_some().then(|| with_tls(Rules::default())),
        }
    }
}

/// The first byte of every TLS connection: a record of type handshake.
const TLS_HANDSHAKE: u8 = 0x16;
