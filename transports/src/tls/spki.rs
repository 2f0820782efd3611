//! Finds the public key in a certificate, of whichever version of X.509.
//!
//! webpki reads version 3 only. Where nobody is asked to vouch for a certificate its key is all
//! that counts, and `openssl x509 -req` makes certificates of version 1 unless it is told otherwise.

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::{CertificateError, Error};

/// Returns the SubjectPublicKeyInfo of `certificate` as it stands there (RFC 5280 section 4.1).
pub(super) fn of(
    certificate: &CertificateDer<'_>,
) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let spki = find(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
    Ok(SubjectPublicKeyInfoDer::from(spki.to_vec()))
}

fn find(certificate: &[u8]) -> Option<&[u8]> {
    let certificate = element(certificate)?.content_of(SEQUENCE)?;
    let mut rest = element(certificate)?.content_of(SEQUENCE)?;
    // The version is left out in version 1.
    if element(rest)?.tag == EXPLICIT_0 {
        rest = element(rest)?.rest;
    }
    for _before_the_key in [
        "serial number",
        "signature",
        "issuer",
        "validity",
        "subject",
    ] {
        rest = element(rest)?.rest;
    }
    let spki = element(rest)?;
    (spki.tag == SEQUENCE).then_some(spki.whole)
}

/// One element of DER, and what comes after it.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn content_of(&self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.content)
    }
}

/// Splits the first element off. A length of more than three bytes is not that of a certificate.
fn element(der: &[u8]) -> Option<Element<'_>> {
    let (&[tag, short], after) = der.split_first_chunk()?;
    let (n_len_bytes, len) = match short {
        0..=0x7f => (0, usize::from(short)),
        0x81..=0x83 => {
            let n = usize::from(short & 0x7f);
            let bytes = after.get(..n)?;
            (
                n,
                bytes
                    .iter()
                    .fold(0, |len, byte| len << 8 | usize::from(*byte)),
            )
        }
        _ => return None,
    };
    let header_len = 2 + n_len_bytes;
    let end = header_len + len;
    Some(Element {
        tag,
        content: der.get(header_len..end)?,
        whole: der.get(..end)?,
        rest: der.get(end..)?,
    })
}

const SEQUENCE: u8 = 0x30;
const EXPLICIT_0: u8 = 0xa0;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use rustls::server::ParsedCertificate;

    const GO_SELF_SIGNED: &[u8] = include_bytes!("verify/go_self_signed.der");

    #[test]
    fn it_finds_the_key_that_webpki_finds() {
        let ours = super::super::self_signed().unwrap();
        let ours = CertificateDer::from_pem_slice(ours.cert_pem.as_bytes()).unwrap();
        for certificate in [CertificateDer::from(GO_SELF_SIGNED), ours] {
            let parsed = ParsedCertificate::try_from(&certificate).unwrap();
            assert_eq!(of(&certificate).unwrap(), parsed.subject_public_key_info());
        }
    }

    #[test]
    fn whatever_is_cut_off_or_changed_there_is_no_panic() {
        for len in 0..GO_SELF_SIGNED.len() {
            assert!(find(&GO_SELF_SIGNED[..len]).is_none());
        }
        for idx in 0..GO_SELF_SIGNED.len() {
            for byte in [0, 0x7f, 0x80, 0x82, 0x83, 0x84, 0xff] {
                let mut changed = GO_SELF_SIGNED.to_vec();
                changed[idx] = byte;
                let _ = find(&changed);
            }
        }
    }
}
