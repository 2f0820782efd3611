//! Entry points for fuzzers, and for the test that runs their seed corpus.

/// Feeds arbitrary bytes to both ends' yamux sessions, whole and in pieces, as a peer that has
/// been admitted and as a stranger, while an application accepts, reads, answers and drops.
/// Panics when a bound is broken or when the cuts make a difference.
pub fn mux_bytes(data: &[u8]) {
    crate::mux::fuzz(data);
}

/// Feeds arbitrary bytes to both ends of a WebSocket, whole and in pieces, and to the checks of both
/// heads of the upgrade. Panics when a bound is broken or when the cuts make a difference.
pub fn websocket_frames(data: &[u8]) {
    crate::websocket::fuzz(data);
}
