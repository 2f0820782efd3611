//! Proof that a peer knows a secret: the token of a login, or the secret key of a visitor.
//!
//! frp's proof is a plain MD5 over secret and time, without a challenge. It can be repeated by
//! whoever saw it, so it only counts inside TLS; who refuses repetitions is the server.

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;

use crate::ids::hex;

/// The proof for `secret` (token or secret key) at `timestamp`, in Unix seconds: frp's
/// `privilege_key` and `sign_key`.
pub fn privilege_key(secret: &[u8], timestamp: i64) -> String {
    let mut digest = Md5::new();
    digest.update(secret);
    digest.update(timestamp.to_string().as_bytes());
    hex(&digest.finalize())
}

/// Whether `presented` is the proof for `secret` at `timestamp`, in a time that does not depend on
/// where they differ.
pub fn verify(presented: &str, secret: &[u8], timestamp: i64) -> bool {
    secrets_equal(
        presented.as_bytes(),
        privilege_key(secret, timestamp).as_bytes(),
    )
}

/// Whether two secrets are equal, in a time that depends on their lengths only.
pub fn secrets_equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}
