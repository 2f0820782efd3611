//! When certificates expire.

use std::path::Path;

use super::exposition::Exposition;
use super::kind::Kind;

/// Writes when the certificates in these files expire. The files are read anew, so that one that
/// was renewed on disk shows; what a program serves it has read when it started.
pub fn write(out: &mut Exposition, files: &[(&str, Option<&Path>)]) {
    let mut family = out.family(
        "holdfast_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "When the certificate in a configured file expires, the first of several.",
    );
    for (what, path) in files {
        if let Some(expiry) = path.and_then(transports::tls::expiry) {
            #[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
            family.add(&[("file", what)], expiry as f64);
        }
    }
}
