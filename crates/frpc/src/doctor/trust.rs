//! The certificate that the server shows over TCP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use frp_core::config::ClientConfig;
use frp_core::transports::tcp;
use frp_core::transports::tls;
use tokio::io::AsyncWriteExt as _;

use super::report::{Report, Tls};
use crate::transport::TLS_MARKER;

/// Looks at the certificate, over TCP where that gets through. `None` where it does not, where TLS is
/// off, and behind a proxy.
pub(super) async fn look(config: &ClientConfig, report: &Report) -> Option<Tls> {
    let settings = &config.transport.tls;
    if !settings.enable || config.transport.proxy_url.is_some() {
        return None;
    }
    let path = report
        .paths
        .iter()
        .find(|path| path.transport == "tcp" && path.is_through())?;
    let target = path.target.as_ref()?;
    let host = settings.server_name.as_ref().unwrap_or(&config.server_addr);
    let looking = async {
        let local_ip = config.transport.connect_server_local_ip;
        let mut conn = tcp::connect(&target.host, target.port, local_ip)
            .await
            .ok()?;
        if !settings.disable_custom_first_byte {
            conn.write_all(&[TLS_MARKER]).await.ok()?;
        }
        tls::look(host, conn).await.ok()
    };
    let shown = tokio::time::timeout(PATIENCE, Box::pin(looking))
        .await
        .ok()??;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    Some(Tls {
        checked_by: match (&settings.trusted_ca_file, &settings.pin) {
            (Some(_), Some(_)) => "ca and pin",
            (Some(_), None) => "ca",
            (None, Some(_)) => "pin",
            (None, None) => "nothing",
        },
        fingerprint: shown.fingerprint.map(|print| print.to_string()),
        expires_at: shown.not_after,
        expires_in_days: shown.not_after.map(|at| (at - now).div_euclid(DAY)),
        is_for_name: shown.is_for_name,
    })
}

const DAY: i64 = 86_400;

/// For a connection and a handshake on a path that has just been seen to work.
const PATIENCE: Duration = Duration::from_secs(10);
