//! Whose certificate is good.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme, crypto,
};

use super::files::Trusted;
use super::{Fingerprint, TlsError, provider, spki};

/// Checks a server's certificate as far as the settings ask for it. In every case the server must
/// prove that it holds the certificate's key.
pub(super) struct ServerVerifier {
    provider: Arc<CryptoProvider>,
    chain: Option<ServerChain>,
    pin: Option<Fingerprint>,
}

struct ServerChain {
    webpki: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ServerVerifier {
    pub(super) fn new(
        trusted: Option<Trusted>,
        pin: Option<Fingerprint>,
    ) -> Result<Self, TlsError> {
        let chain = match trusted {
            None => None,
            Some(trusted) => Some(ServerChain {
                webpki: WebPkiServerVerifier::builder_with_provider(trusted.roots, provider())
                    .build()
                    .map_err(|e| Error::General(e.to_string()))?,
                trusted: trusted.certificates,
            }),
        };
        Ok(Self {
            provider: provider(),
            chain,
            pin,
        })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(pin) = self.pin
            && Fingerprint::of(end_entity)? != pin
        {
            return Err(Error::General(format!(
                "the server's key {} is not the pinned one",
                Fingerprint::of(end_entity)?
            )));
        }
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        let verdict = chain.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verdict {
            Err(e) if is_trusted_itself(&e, end_entity, &chain.trusted) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let key = spki::of(cert)?;
        crypto::verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerVerifier")
            .field("checks_chain", &self.chain.is_some())
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

/// Asks every client for a certificate and checks its chain.
pub(super) struct ClientVerifier {
    webpki: Arc<dyn ClientCertVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ClientVerifier {
    pub(super) fn new(trusted: Trusted) -> Result<Self, TlsError> {
        let webpki = WebPkiClientVerifier::builder_with_provider(trusted.roots, provider())
            .build()
            .map_err(|e| Error::General(e.to_string()))?;
        Ok(Self {
            webpki,
            trusted: trusted.certificates,
        })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self
            .webpki
            .verify_client_cert(end_entity, intermediates, now)
        {
            Err(e) if is_trusted_itself(&e, end_entity, &self.trusted) => {
                Ok(ClientCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientVerifier").finish_non_exhaustive()
    }
}

/// Whether the peer's own certificate is in the trusted file, and nothing but its missing issuer
/// speaks against it.
///
/// Go accepts such a certificate and many set-ups consist of just one self-signed certificate on
/// both ends. webpki never takes a trust anchor for the peer's own certificate. It checks dates
/// before it looks for an issuer, so an expired one does not get here.
fn is_trusted_itself(
    error: &Error,
    end_entity: &CertificateDer<'_>,
    trusted: &[CertificateDer<'_>],
) -> bool {
    let no_issuer = matches!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_))
    );
    no_issuer && trusted.contains(end_entity)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// What a Go frps made for itself: RSA-2048, version 3, empty names, no extension at all.
    const GO_SELF_SIGNED: &[u8] = include_bytes!("verify/go_self_signed.der");

    #[test]
    fn the_certificate_that_a_go_frps_makes_for_itself_is_accepted() {
        let certificate = CertificateDer::from(GO_SELF_SIGNED);
        let verifier = ServerVerifier::new(None, None).unwrap();
        accept(&verifier, &certificate).unwrap();

        let pin = Fingerprint::of(&certificate).unwrap();
        accept(&ServerVerifier::new(None, Some(pin)).unwrap(), &certificate).unwrap();
        let other = [0x42; 32].map(|byte| format!("{byte:02x}")).concat();
        let pinning_other = ServerVerifier::new(None, Some(other.parse().unwrap())).unwrap();
        accept(&pinning_other, &certificate).unwrap_err();
    }

    fn accept(
        verifier: &ServerVerifier,
        certificate: &CertificateDer<'_>,
    ) -> Result<ServerCertVerified, Error> {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now())
    }
}
