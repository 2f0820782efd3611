//! What was refused or given up, by cause, for `frps status`: the same events as
//! `holdfast_rejected_total` and `holdfast_user_conns_failed_total`, also where there are no metrics.

use std::collections::BTreeMap;

use frp_core::terminal::now_ms;
use parking_lot::Mutex;

/// How often, and when last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Since the process began.
    pub(crate) n: u64,
    /// In milliseconds since 1970.
    pub(crate) last_ms: u64,
}

/// By cause, of which there are as many as the program has words for.
static REFUSED: Mutex<BTreeMap<&'static str, Refused>> = Mutex::new(BTreeMap::new());

/// Counts one.
pub(crate) fn note(cause: &'static str) {
    let mut table = REFUSED.lock();
    let refused = table.entry(cause).or_default();
    refused.n += 1;
    refused.last_ms = now_ms();
}

/// All of them, by cause.
pub(crate) fn list() -> Vec<(&'static str, Refused)> {
    let table = REFUSED.lock();
    table
        .iter()
        .map(|(cause, refused)| (*cause, *refused))
        .collect()
}
