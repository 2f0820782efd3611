//! Reads certificates and keys from PEM files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::{TlsError, provider, spki};

/// Reads a certificate with its chain, and the key that belongs to it.
pub(super) fn certified_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(CERTIFICATE, certificate)?;
    let private_key = private_key(key)?;
    pair(chain, private_key).map_err(|reason| TlsError::Pair {
        certificate: certificate.into(),
        key: key.into(),
        reason,
    })
}

/// When the first certificate of the chain in this file to expire does, in seconds since 1970.
pub(super) fn expiry(path: &Path) -> Option<i64> {
    let chain = certificates(CERTIFICATE, path).ok()?;
    chain.iter().filter_map(|own| spki::not_after(own)).min()
}

/// Puts a certificate and its key together, and says what is wrong if they do not belong together.
pub(super) fn pair(
    chain: Vec<CertificateDer<'static>>,
    private_key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, String> {
    let signing_key = provider().key_provider.load_private_key(private_key);
    let signing_key = signing_key.map_err(|e| e.to_string())?;
    let own = chain.first().ok_or("there is no certificate")?;
    let certified = spki::of(own).map_err(|e| e.to_string())?;
    match signing_key.public_key() {
        Some(held) if held != certified => Err("the key is not that of the first certificate in \
             the file; the server's or client's own certificate must come first, then its issuers"
            .into()),
        _ => Ok(CertifiedKey::new(chain, signing_key)),
    }
}

/// Reads the certificates that are trusted to sign others.
pub(super) fn trusted(path: &Path) -> Result<Trusted, TlsError> {
    let certificates = certificates(TRUSTED_CA, path)?;
    let mut roots = RootCertStore::empty();
    let mut last_error = None;
    for certificate in &certificates {
        if let Err(e) = roots.add(certificate.clone()) {
            last_error = Some(e);
        }
    }
    match last_error {
        Some(e) if roots.is_empty() => Err(TlsError::Content {
            what: TRUSTED_CA,
            path: path.into(),
            problem: format!("holds no certificate that can be used as a CA: {e}"),
        }),
        _ => Ok(Trusted {
            roots: Arc::new(roots),
            certificates,
        }),
    }
}

/// What a trusted CA file holds.
pub(super) struct Trusted {
    pub(super) roots: Arc<RootCertStore>,
    /// The same certificates as they are, for peers whose own certificate is in the file.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(what, path)?;
    let content = |problem: String| TlsError::Content {
        what,
        path: path.into(),
        problem,
    };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|e| content(format!("is not readable as PEM: {}", pem_problem(&e))))?;
    if certificates.is_empty() {
        return Err(content(
            "holds no certificate: it must be PEM text with a \
             \"-----BEGIN CERTIFICATE-----\" line (DER is converted by \
             `openssl x509 -inform der`)"
                .into(),
        ));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(KEY, path)?;
    let problem = match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) if is_encrypted(&text) => {
            drop(key);
            ENCRYPTED.into()
        }
        Ok(key) => return Ok(key),
        Err(_) if is_encrypted(&text) => ENCRYPTED.into(),
        Err(pem::Error::NoItemsFound) => {
            "holds no private key: it must be PEM text with a \"-----BEGIN PRIVATE KEY-----\", \
             \"RSA PRIVATE KEY\" or \"EC PRIVATE KEY\" block"
                .into()
        }
        Err(e) => format!("is not readable as PEM: {}", pem_problem(&e)),
    };
    Err(TlsError::Content {
        what: KEY,
        path: path.into(),
        problem,
    })
}

/// Reads a key as it is written.
pub(super) fn key_text(path: &Path) -> Result<Vec<u8>, TlsError> {
    read(KEY, path)
}

fn is_encrypted(pem: &[u8]) -> bool {
    let contains = |needle: &[u8]| pem.windows(needle.len()).any(|w| w == needle);
    contains(b"BEGIN ENCRYPTED PRIVATE KEY") || contains(b"Proc-Type: 4,ENCRYPTED")
}

/// The library's messages for a key file could quote lines of it, so they are not passed on.
fn pem_problem(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a block has no \"-----END\" line",
        pem::Error::IllegalSectionStart { .. } => "a \"-----BEGIN\" line is malformed",
        pem::Error::Base64Decode(_) => "a block is not valid base64",
        _ => "the file is malformed",
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        what,
        path: path.into(),
        source,
    })
}

const CERTIFICATE: &str = "TLS certificate file";
const KEY: &str = "TLS key file";
const TRUSTED_CA: &str = "trusted CA file";
const ENCRYPTED: &str =
    "holds an encrypted key: decrypt it with `openssl pkey -in FILE -out FILE` first";
