//! What can be wrong with TLS settings, said so that the file can be put right.

use std::io;
use std::path::PathBuf;

/// Why TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read the {what} {}: {source}", path.display())]
    Read {
        /// What the file was to hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("the {what} {} {problem}", path.display())]
    Content {
        /// What the file was to hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do about it.
        problem: String,
    },
    /// Certificate and key are readable and do not go together.
    #[error(
        "the certificate {} and the key {} cannot be used together: {reason}",
        certificate.display(), key.display()
    )]
    Pair {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What the TLS library said.
        reason: String,
    },
    /// A certificate that does not come from a file cannot be used, or could not be made.
    #[error("the self-signed certificate cannot be used: {0}")]
    SelfSigned(String),
    /// The TLS library refused the settings as a whole.
    #[error("TLS settings: {0}")]
    Setup(#[from] rustls::Error),
}
