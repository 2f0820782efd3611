//! What every part of a client needs to know, whatever it does with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use frp_core::config::{ClientConfig, Secret, WireProtocol};
use frp_core::proto::{WireVersion, auth};

use crate::recovery::health::Health;

/// What every part of a client needs to know.
#[derive(Debug)]
pub(crate) struct Context {
    /// The configuration, apart from the services.
    pub(crate) config: Arc<ClientConfig>,
    /// The token, from wherever it came.
    pub(crate) token: Secret,
    /// The host's name.
    pub(crate) hostname: String,
    /// Chosen at random when the process starts: tells a restart from a reconnect.
    pub(crate) instance: [u8; 16],
    /// The time of the latest login, in seconds since 1970; of an earlier process at first.
    pub(crate) last_login: AtomicI64,
    /// How well it goes.
    pub(crate) health: Health,
}

impl Context {
    /// The wire format that is configured.
    pub(crate) fn wire(&self) -> WireVersion {
        match self.config.transport.wire_protocol {
            WireProtocol::V1 => WireVersion::V1,
            WireProtocol::V2 => WireVersion::V2,
        }
    }

    /// A proof of the token for a login, and the time it is made for, which is in whole seconds and
    /// no other login's of this process: a server that has let an earlier one in, unheard, would
    /// take the next one of the same second for a recording of it.
    pub(crate) async fn sign_login(&self) -> (String, i64) {
        let mut now = unix_now();
        while self.last_login.swap(now, Ordering::Relaxed) == now {
            tokio::time::sleep(until_next_second()).await;
            now = unix_now();
        }
        (
            auth::privilege_key(self.token.expose().as_bytes(), now),
            now,
        )
    }

    /// A proof of the token, and the time it is made for.
    pub(crate) fn sign_now(&self) -> (String, i64) {
        let now = unix_now();
        (
            auth::privilege_key(self.token.expose().as_bytes(), now),
            now,
        )
    }
}

/// Seconds since 1970, as messages carry them.
pub(crate) fn unix_now() -> i64 {
    // A clock before 1970 is wrong anyway; frps checks the proof, not the time.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// How long it is until [`unix_now`] says something else.
fn until_next_second() -> Duration {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into())
}

/// This host's name.
pub(crate) fn hostname() -> String {
    // frp sends an empty name too when the system has none.
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
