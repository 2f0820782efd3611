//! The way to a local service.

use std::fmt;
use std::io;
use std::time::Duration;

use frp_core::transports::{BoxStream, socket};
use tokio::net::TcpStream;

use crate::go_text;

/// How long a local service has to accept. frp's value.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a user could not be connected to the local service.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nobody answers there. The text is frp's.
    #[error("connect to local service [{addr}] error: {cause}")]
    Dial {
        /// Where the service should be.
        addr: String,
        /// What happened instead.
        cause: DialCause,
    },
    /// The service did not take the PROXY protocol header, or there is none for this user.
    #[error("write proxy protocol header to local conn error: {0}")]
    Header(io::Error),
}

/// What happened instead of an accepted connection.
#[derive(Debug)]
pub enum DialCause {
    /// What the system said.
    Io(io::Error),
    /// Nothing within [`DIAL_TIMEOUT`].
    Timeout,
}

impl fmt::Display for DialCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => f.write_str(&go_text::connect(error)),
            Self::Timeout => write!(f, "no answer within {} s", DIAL_TIMEOUT.as_secs()),
        }
    }
}

/// Counts, by one of a few causes, why a user was not connected.
pub(crate) fn count_failure(error: &LocalError) {
    let cause = match error {
        LocalError::Header(_) => "header",
        LocalError::Dial { cause, .. } => match cause {
            DialCause::Timeout => "timeout",
            DialCause::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => "refused",
            DialCause::Io(_) => "error",
        },
    };
    metrics::counter!("holdfast_local_failures_total", "cause" => cause).increment(1);
}

/// Connects to `host:port`.
pub async fn dial(host: &str, port: u16) -> Result<BoxStream, LocalError> {
    let cause = match tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(Ok(conn)) => return Ok(socket::boxed(conn)),
        Ok(Err(error)) => DialCause::Io(error),
        Err(_) => DialCause::Timeout,
    };
    Err(LocalError::Dial {
        addr: format!("{host}:{port}"),
        cause,
    })
}
