//! TLS over any byte stream, the way frp uses it.
//!
//! A client without a trusted CA encrypts without knowing to whom: any certificate is good, but the
//! peer must hold its key. A CA makes it check chain and name; a [pin](Fingerprint) makes it check
//! the key itself. A server presents its certificate from files, or a self-signed one that its
//! owner keeps; with a trusted CA it asks every client for a certificate.
//!
//! [`ClientTls`] and [`ServerTls`] are built once, which reads the files, and then run handshakes.
//! What comes out is a [`TlsStream`], whose [`TlsExporter`] stays with the carrier.

mod client;
mod error;
mod files;
mod identity;
mod look;
mod server;
mod spki;
mod stream;
mod verify;

pub use client::{ClientTls, ClientTlsConfig};
pub use error::TlsError;
pub use identity::{Fingerprint, FingerprintParseError, PemPair, fingerprint, self_signed};
pub use look::{Shown, look};
pub use server::{ServerCertificate, ServerTls, ServerTlsConfig};
pub use stream::{TlsExporter, TlsStream};

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// When the certificate in the PEM file at `path` expires, or one of its chain if that is sooner, in
/// seconds since 1970. `None` when the file cannot be read.
pub fn expiry(path: &Path) -> Option<i64> {
    files::expiry(path)
}

/// TLS 1.2 for old Go peers, 1.3 for all others.
static VERSIONS: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// One crypto provider everywhere, named here so that nothing depends on a process default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
