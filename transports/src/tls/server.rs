//! The server's side of the handshake.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::verify::ClientVerifier;
use super::{Fingerprint, PemPair, TlsError, TlsStream, VERSIONS, files, provider};

/// A server's TLS settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsConfig {
    /// What the server presents.
    pub certificate: ServerCertificate,
    /// Who may vouch for clients. With it every client must present a certificate.
    pub trusted_ca: Option<PathBuf>,
}

/// Where a server's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCertificate {
    /// Files: the certificate with its chain, and the key.
    Files {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// A pair that the caller keeps, as made by [`super::self_signed`].
    Pair(PemPair),
}

impl ServerTlsConfig {
    /// Reads the files.
    pub fn build(&self) -> Result<ServerTls, TlsError> {
        let own = match &self.certificate {
            ServerCertificate::Files { certificate, key } => {
                files::certified_key(certificate, key)?
            }
            ServerCertificate::Pair(pair) => from_pair(pair)?,
        };
        let fingerprint = own.end_entity_cert().and_then(Fingerprint::of)?;
        let builder =
            ServerConfig::builder_with_provider(provider()).with_protocol_versions(VERSIONS)?;
        let builder = match self.trusted_ca.as_deref() {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let verifier = ClientVerifier::new(files::trusted(path)?)?;
                builder.with_client_cert_verifier(Arc::new(verifier))
            }
        };
        // The one certificate is presented whatever name is asked for, and without any.
        let config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
        Ok(ServerTls {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            fingerprint,
            reset_secret: self.certificate.derive_secret(b"holdfast quic reset")?,
        })
    }
}

impl ServerCertificate {
    /// A secret that is the same as long as the key is, and says nothing about the key.
    fn derive_secret(&self, purpose: &[u8]) -> Result<[u8; 32], TlsError> {
        let key = match self {
            Self::Files { key, .. } => files::key_text(key)?,
            Self::Pair(pair) => pair.key_pem.clone().into_bytes(),
        };
        let secret = Sha256::new().chain_update(purpose).chain_update(key);
        Ok(secret.finalize().into())
    }
}

/// Runs handshakes as a server.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
    fingerprint: Fingerprint,
    reset_secret: [u8; 32],
}

impl ServerTls {
    /// Runs the handshake over `io`.
    pub async fn accept<IO>(&self, io: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.acceptor.accept(io).await?;
        let (io, connection) = stream.into_inner();
        Ok(TlsStream::new(io, connection.into()))
    }

    /// The same settings for QUIC, which runs its own handshake.
    pub(crate) fn for_quic(&self, alpn: &[u8]) -> ServerConfig {
        let mut config = ServerConfig::clone(self.acceptor.config());
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }

    /// What connections of an earlier run of this server are ended with, see
    /// [`crate::quic`]'s listening.
    pub(crate) fn reset_secret(&self) -> [u8; 32] {
        self.reset_secret
    }

    /// What clients can pin.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

fn from_pair(pair: &PemPair) -> Result<CertifiedKey, TlsError> {
    let unusable = |what: &str| TlsError::SelfSigned(format!("no readable {what} in it"));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.cert_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| unusable("certificate"))?;
    if chain.is_empty() {
        return Err(unusable("certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes())
        .map_err(|_| unusable("private key"))?;
    files::pair(chain, key).map_err(TlsError::SelfSigned)
}
