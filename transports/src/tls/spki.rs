//! Finds the public key in a certificate, and when it expires, of whichever version of X.509.
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
    let rest = behind(
        certificate,
        &[
            "serial number",
            "signature",
            "issuer",
            "validity",
            "subject",
        ],
    )?;
    let spki = element(rest)?;
    (spki.tag == SEQUENCE).then_some(spki.whole)
}

/// When `certificate` expires, in seconds since 1970.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let rest = behind(certificate, &["serial number", "signature", "issuer"])?;
    let validity = element(rest)?.content_of(SEQUENCE)?;
    let not_after = element(element(validity)?.rest)?;
    let text = std::str::from_utf8(not_after.content).ok()?;
    // RFC 5280 section 4.1.2.5: YYMMDDHHMMSSZ for the years up to 2049, with a century otherwise.
    let (year, rest) = match not_after.tag {
        UTC_TIME => match digits(text.get(..2)?)? {
            year @ 50.. => (1900 + year, text.get(2..)?),
            year => (2000 + year, text.get(2..)?),
        },
        GENERALIZED_TIME => (digits(text.get(..4)?)?, text.get(4..)?),
        _ => return None,
    };
    if rest.len() != 11 || !rest.ends_with('Z') {
        return None;
    }
    let two = |at: usize| digits(rest.get(at..at + 2)?);
    let (month, day) = (two(0)?, two(2)?);
    let (hour, minute, second) = (two(4)?, two(6)?, two(8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn digits(text: &str) -> Option<i64> {
    let all = text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

/// Days of the Gregorian calendar: years are counted from March, so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// What follows these fields of the part that is signed.
fn behind<'a>(certificate: &'a [u8], fields: &[&str]) -> Option<&'a [u8]> {
    let certificate = element(certificate)?.content_of(SEQUENCE)?;
    let mut rest = element(certificate)?.content_of(SEQUENCE)?;
    // The version is left out in version 1.
    if element(rest)?.tag == EXPLICIT_0 {
        rest = element(rest)?.rest;
    }
    for _field in fields {
        rest = element(rest)?.rest;
    }
    Some(rest)
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
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

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
                let _ = not_after(&changed);
            }
        }
    }

    #[test]
    fn it_is_known_when_a_certificate_expires() {
        for (year, midnight) in [(2031, 1_925_078_400), (2050, 2_524_694_400)] {
            let mut params = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 2);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()), Some(midnight), "{year}");
        }
    }
}
