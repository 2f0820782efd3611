//! Whether each way gets through to the end of its handshakes, or how it does not.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_core::config::ClientConfig;
use frp_core::transports::{Carrier, DialError, Endpoint, Transport};
use tokio::task::JoinSet;

use super::report::Outcome;
use super::target::Target;
use crate::transport::{TransportError, dialer_of};

/// What came of it.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) target: Target,
    pub(super) outcome: Outcome,
    /// In words, where it does not get through.
    pub(super) error: String,
    pub(super) handshake: Option<Duration>,
}

/// Tries all of `targets` at once, and each that stays silent once more.
pub(super) async fn all(config: &Arc<ClientConfig>, targets: &[Target]) -> Vec<Reach> {
    let mut attempts = JoinSet::new();
    for (index, target) in targets.iter().cloned().enumerate() {
        let config = config.clone();
        attempts.spawn(async move { (index, one(&config, target).await) });
    }
    let mut reached = BTreeMap::new();
    while let Some(outcome) = attempts.join_next().await {
        if let Ok((index, reach)) = outcome {
            reached.insert(index, reach);
        }
    }
    reached.into_values().collect()
}

async fn one(config: &ClientConfig, target: Target) -> Reach {
    let mut failure = (Outcome::Silent, String::new());
    for _ in 0..ATTEMPTS {
        let began = Instant::now();
        match dial(config, &target).await {
            Ok((_, carrier)) => {
                let handshake = Some(began.elapsed());
                carrier.close();
                return Reach {
                    target,
                    outcome: Outcome::Works,
                    error: String::new(),
                    handshake,
                };
            }
            Err(error) => {
                let outcome = error.outcome();
                failure = (outcome, error.to_string());
                // Chance loses packets; what is refused stays refused.
                if outcome != Outcome::Silent {
                    break;
                }
            }
        }
    }
    let (outcome, error) = failure;
    Reach {
        target,
        outcome,
        error,
        handshake: None,
    }
}

/// Opens a carrier to `target`.
pub(super) async fn dial(
    config: &ClientConfig,
    target: &Target,
) -> Result<(Arc<dyn Transport>, Arc<dyn Carrier>), ReachError> {
    let transport = dialer_of(config, target.kind)?;
    let server = Endpoint {
        host: target.host.clone(),
        port: target.port,
    };
    let carrier = transport.dial(&server).await?;
    Ok((transport, carrier))
}

/// Why there is no carrier.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReachError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl ReachError {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Transport(_) => Outcome::Tls,
            Self::Dial(error) => dial_outcome(error),
        }
    }
}

/// What a failed dial says of the path.
pub(super) fn dial_outcome(error: &DialError) -> Outcome {
    match error {
        DialError::Timeout { .. } => Outcome::Silent,
        DialError::Tls { source, .. } => match source.kind() {
            // Whoever closes in the middle of a handshake did not like its first bytes.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Outcome::Handshake,
            io::ErrorKind::TimedOut => Outcome::Silent,
            _ => Outcome::Tls,
        },
        DialError::Connect { source, .. } => system_outcome(source, Outcome::Refused),
        DialError::ConnectUdp { source, .. } => system_outcome(source, Outcome::Rejected),
        DialError::Resolve { .. } => Outcome::Unreachable,
        DialError::Proxy { .. } | DialError::Upgrade { .. } => Outcome::Handshake,
    }
}

fn system_outcome(error: &io::Error, refused: Outcome) -> Outcome {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => refused,
        // ICMP of a router, "administratively prohibited" among it.
        io::ErrorKind::HostUnreachable | io::ErrorKind::PermissionDenied => Outcome::Rejected,
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => Outcome::Unreachable,
        io::ErrorKind::TimedOut => Outcome::Silent,
        _ => Outcome::Handshake,
    }
}

/// Attempts at a way that stays silent: where a tenth of the packets is lost, one handshake in a
/// hundred does not get through in its time, and two in a row do not once in ten thousand.
const ATTEMPTS: usize = 2;
