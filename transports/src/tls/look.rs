//! A look at the certificate that a server shows, without trusting it.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::verify::ServerVerifier;
use super::{ClientTlsConfig, Fingerprint, VERSIONS, provider, spki};

/// What a server shows of itself in a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Of its key, for a pin.
    pub fingerprint: Option<Fingerprint>,
    /// When its certificate expires, in seconds since 1970.
    pub not_after: Option<i64>,
    /// Whether the certificate is for the name that was asked for.
    pub is_for_name: bool,
    /// Certificates that it sent.
    pub n_certificates: usize,
}

/// Runs a handshake over `io` with the server at `host`, and says what it showed.
pub async fn look<IO>(host: &str, io: IO) -> io::Result<Shown>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let unchecked = ClientTlsConfig::default().build();
    let name = unchecked.map_err(io::Error::other)?.name_for(host)?;
    let verifier = ServerVerifier::new(None, None).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name.clone(), io).await?;
    let (_, connection) = stream.get_ref();
    let chain = connection.peer_certificates().unwrap_or_default();
    let own = chain.first();
    Ok(Shown {
        fingerprint: own.and_then(|own| Fingerprint::of(own).ok()),
        not_after: own.and_then(|own| spki::not_after(own)),
        is_for_name: own.is_some_and(|own| is_for(own, &name)),
        n_certificates: chain.len(),
    })
}

fn is_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    ParsedCertificate::try_from(certificate)
        .and_then(|parsed| verify_server_name(&parsed, name))
        .is_ok()
}
