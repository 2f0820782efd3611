//! Self-signed certificates, and fingerprints to know one again.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use super::{TlsError, spki};

/// Makes a certificate that vouches for itself, for a server that was given none.
///
/// It is meant to be kept: a new one at each start could not be told from a stranger's.
pub fn self_signed() -> Result<PemPair, TlsError> {
    let failed = |e: rcgen::Error| TlsError::SelfSigned(e.to_string());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "frps");
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_LEEWAY).into();
    params.not_after = (now + VALIDITY).into();
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(PemPair {
        cert_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

/// A certificate and its key as PEM text.
#[derive(Clone, PartialEq, Eq)]
pub struct PemPair {
    /// The certificate, with its chain if there is one.
    pub cert_pem: String,
    /// The private key: PKCS #8, PKCS #1 or SEC 1.
    pub key_pem: String,
}

impl fmt::Debug for PemPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemPair")
            .field("cert_pem", &self.cert_pem)
            .field("key_pem", &"***")
            .finish()
    }
}

/// Returns the fingerprint of the first certificate in `cert_pem`.
pub fn fingerprint(cert_pem: &[u8]) -> Result<Fingerprint, TlsError> {
    let certificate = CertificateDer::from_pem_slice(cert_pem)
        .map_err(|_| TlsError::SelfSigned("there is no PEM certificate in it".into()))?;
    Ok(Fingerprint::of(&certificate)?)
}

/// SHA-256 of a certificate's public key (its SubjectPublicKeyInfo in DER).
///
/// The key and not the certificate is pinned: a certificate that is renewed with the same key keeps
/// its fingerprint, as with `pin-sha256` of HTTP and of curl. As text it is `sha256:` and 64
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Computes the fingerprint of `certificate`.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        Ok(Self(Sha256::digest(spki::of(certificate)?).into()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintParseError;

    /// Reads 64 hexadecimal digits in either case, with or without `sha256:` and colons.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let digits = match text.get(..PREFIX.len()) {
            Some(start) if start.eq_ignore_ascii_case(PREFIX) => &text[PREFIX.len()..],
            _ => text,
        };
        let mut nibbles = digits.chars().filter(|c| *c != ':').map(|c| c.to_digit(16));
        let mut bytes = [0; 32];
        for byte in &mut bytes {
            let (Some(Some(high)), Some(Some(low))) = (nibbles.next(), nibbles.next()) else {
                return Err(FingerprintParseError);
            };
            *byte = u8::try_from(high * 16 + low).map_err(|_| FingerprintParseError)?;
        }
        match nibbles.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(FingerprintParseError),
        }
    }
}

/// A text is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a fingerprint: expected \"sha256:\" and 64 hexadecimal digits")]
pub struct FingerprintParseError;

const PREFIX: &str = "sha256:";

/// For peers whose clock is behind, as in frp.
const CLOCK_LEEWAY: Duration = Duration::from_secs(60 * 60);

/// Ten years, as in frp: nobody renews what was made without being asked for.
const VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_back_in_all_its_spellings() {
        let pair = self_signed().unwrap();
        let fingerprint = fingerprint(pair.cert_pem.as_bytes()).unwrap();
        let text = fingerprint.to_string();
        assert_eq!(text.len(), 7 + 64);
        assert_eq!(text.parse(), Ok(fingerprint));
        assert_eq!(text.to_uppercase().parse(), Ok(fingerprint));
        assert_eq!(text[7..].parse(), Ok(fingerprint));
        let colons: Vec<_> = text.as_bytes()[7..].chunks(2).collect();
        let colons = String::from_utf8(colons.join(&b':')).unwrap();
        assert_eq!(colons.parse(), Ok(fingerprint));
    }

    #[test]
    fn what_is_no_fingerprint_is_refused() {
        for text in [
            "",
            "sha256:",
            "abc",
            &"0".repeat(63),
            &"0".repeat(65),
            &"g".repeat(64),
            "é",
        ] {
            assert_eq!(
                text.parse::<Fingerprint>(),
                Err(FingerprintParseError),
                "{text:?}"
            );
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        let pair = self_signed().unwrap();
        assert!(!format!("{pair:?}").contains("PRIVATE KEY"));
    }
}
