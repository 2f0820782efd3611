//! Where the datagrams of `udp` proxies went, for the metrics.

/// Counts a datagram of a `udp` proxy that goes nowhere, for one of a few causes.
pub fn count_dropped(cause: &'static str) {
    metrics::counter!("holdfast_udp_dropped_total", "cause" => cause).increment(1);
}

/// Counts datagrams that have gone over a work stream.
pub fn count_sent_by_stream(n: u64) {
    metrics::counter!("holdfast_udp_sent_total", "over" => "stream").increment(n);
}
