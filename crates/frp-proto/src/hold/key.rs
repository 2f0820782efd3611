//! The key of a session, and what is proven with it.
//!
//! The key comes of what only the two ends of the login's TLS connection know (its exporter, RFC
//! 8446 section 7.5), of both sides' randoms, and of the token. So nothing secret travels, who
//! sits between two TLS connections has two other keys, and who has no token has none.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::ids::Redacted;

/// Bytes of keys, randoms, proofs, and of what is exported from a carrier.
pub const LEN: usize = 32;

/// The label with which a carrier's TLS exports the [`Exporter`], without a context. The name is
/// of the form that RFC 5705 section 4 asks for.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Holdfast-carrier";

/// What a carrier's TLS exports: known to its two ends, and different for each carrier.
pub type Exporter = [u8; LEN];

/// Names a session. Not a secret.
pub type SessionId = [u8; 16];

/// The key of a session.
#[derive(Clone)]
pub struct SessionKey([u8; LEN]);

/// What a client keeps in its state directory, to prove in its next life that it is the client of
/// the session before. It opens nothing else: neither the session key nor the token follow from it.
#[derive(Clone)]
pub struct ResumeKey([u8; LEN]);

impl SessionKey {
    /// Derives the key of the session that was logged in over the carrier with this exporter.
    pub fn derive(
        client_random: &[u8; LEN],
        server_random: &[u8; LEN],
        login_exporter: &Exporter,
        token: &[u8],
    ) -> Self {
        let salt = [*client_random, *server_random].concat();
        // The exporter has a fixed length, so the two cannot be confused.
        let secret = [login_exporter, token].concat();
        let hkdf = Hkdf::<Sha256>::new(Some(&salt), &secret);
        Self(expand(&hkdf, b"holdfast session key v1"))
    }

    /// The server's proof in `LoginResp` that it knows the token and is the other end of the TLS
    /// connection.
    pub fn login_proof(&self, session: &SessionId) -> [u8; LEN] {
        self.prove(&[LOGIN, session])
    }

    /// Whether `proof` is the server's proof, in a time that does not depend on it.
    pub fn verify_login_proof(&self, session: &SessionId, proof: &[u8; LEN]) -> bool {
        self.verify(&[LOGIN, session], proof)
    }

    /// The key that the client's next instance uses.
    pub fn resume_key(&self) -> ResumeKey {
        let hkdf = Hkdf::<Sha256>::new(None, &self.0);
        ResumeKey(expand(&hkdf, b"holdfast resume key v1"))
    }

    /// The HMAC over parts. All callers' parts are of fixed lengths behind a label, so that no two
    /// meanings share a text.
    pub(super) fn prove(&self, parts: &[&[u8]]) -> [u8; LEN] {
        mac(&self.0, parts).finalize().into_bytes().into()
    }

    pub(super) fn verify(&self, parts: &[&[u8]], proof: &[u8; LEN]) -> bool {
        mac(&self.0, parts).verify_slice(proof).is_ok()
    }
}

impl ResumeKey {
    /// As it was kept.
    pub fn from_bytes(bytes: [u8; LEN]) -> Self {
        Self(bytes)
    }

    /// As it is to be kept, readable for its owner only.
    pub fn to_bytes(&self) -> [u8; LEN] {
        self.0
    }

    /// Proves over a new login's carrier that the client is that of `session`.
    pub fn proof(&self, session: &SessionId, exporter: &Exporter) -> [u8; LEN] {
        let parts: [&[u8]; 3] = [RESUME, session, exporter];
        mac(&self.0, &parts).finalize().into_bytes().into()
    }

    /// Whether `proof` is one, in a time that does not depend on it.
    pub fn verify(&self, session: &SessionId, exporter: &Exporter, proof: &[u8; LEN]) -> bool {
        let parts: [&[u8]; 3] = [RESUME, session, exporter];
        mac(&self.0, &parts).verify_slice(proof).is_ok()
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Redacted::new(false).fmt(f)
    }
}

impl std::fmt::Debug for ResumeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Redacted::new(false).fmt(f)
    }
}

const LOGIN: &[u8] = b"holdfast login v1 server";
const RESUME: &[u8] = b"holdfast resume v1 client";

fn expand(hkdf: &Hkdf<Sha256>, info: &[u8]) -> [u8; LEN] {
    let mut key = [0; LEN];
    hkdf.expand(info, &mut key)
        .expect("32 bytes are far below HKDF's limit of 255 blocks");
    key
}

fn mac(key: &[u8; LEN], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_changes_the_key() {
        let proof = |client, server, exporter, token: &[u8]| {
            SessionKey::derive(&[client; LEN], &[server; LEN], &[exporter; LEN], token)
                .login_proof(&[7; 16])
        };
        let right = proof(1, 2, 3, b"token");
        assert_eq!(right, proof(1, 2, 3, b"token"));
        for wrong in [
            proof(9, 2, 3, b"token"),
            proof(1, 9, 3, b"token"),
            proof(1, 2, 9, b"token"),
            proof(1, 2, 3, b"tokem"),
            proof(1, 2, 3, b""),
        ] {
            assert_ne!(right, wrong);
        }
    }

    #[test]
    fn a_proof_is_of_one_session_and_one_purpose() {
        let key = key();
        let proof = key.login_proof(&[7; 16]);
        assert!(key.verify_login_proof(&[7; 16], &proof));
        assert!(!key.verify_login_proof(&[8; 16], &proof));

        let resume = ResumeKey::from_bytes(key.resume_key().to_bytes());
        let proof = resume.proof(&[7; 16], &[5; LEN]);
        assert!(resume.verify(&[7; 16], &[5; LEN], &proof));
        assert!(
            !resume.verify(&[7; 16], &[6; LEN], &proof),
            "of another carrier"
        );
        assert!(!key.verify_login_proof(&[7; 16], &proof));
    }

    #[test]
    fn keys_are_not_printed() {
        assert_eq!(format!("{:?} {:?}", key(), key().resume_key()), "*** ***");
    }

    fn key() -> SessionKey {
        SessionKey::derive(&[1; LEN], &[2; LEN], &[3; LEN], b"token")
    }
}
