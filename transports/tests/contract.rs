//! The promises of the contract, and every transport that keeps them.
//!
//! `promises` is the list; each promise takes the two ends of a carrier. `rigs` is the table of
//! what is tested: a way to make two such ends. A new transport is one function there and one row
//! here.
//!
//! The rigs with `s2n` in their names run with the cargo feature of that name (`make test-s2n`).

#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

#[path = "kcp/fixed.rs"]
mod fixed;
#[path = "contract/promises.rs"]
mod promises;
#[path = "contract/rigs.rs"]
mod rigs;

use std::time::Duration;

/// A promise that is not kept within this is broken.
const WITHIN: Duration = Duration::from_secs(30);

/// Makes a test of each promise for each rig.
macro_rules! keep {
    ($kind:ident: $($(#[$when:meta])? $rig:ident),* ; $promises:tt) => {
        mod $kind {
            $( $(#[$when])? keep!(@rig $rig $promises); )*
        }
    };
    (@rig $rig:ident [$($promise:ident),* $(,)?]) => {
        mod $rig {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    let ends = crate::rigs::$rig().await;
                    let kept = tokio::time::timeout(crate::WITHIN, crate::promises::$promise(ends));
                    kept.await.expect("the promise is kept in time");
                }
            )*
        }
    };
}

keep! {
    every_carrier: memory, memory_single, mux_over_a_pipe, single_over_a_pipe, tcp_plain,
    single_over_sockets, tcp_tls, tcp_tls_single, quic, websocket, websocket_single,
    websocket_tls, websocket_tls_single, wss, wss_single, kcp_plain, kcp_tls, kcp_tls_single,
    kcp_holdfast, kcp_beside_quic, quic_beside_kcp,
    #[cfg(feature = "s2n")] s2n, #[cfg(feature = "s2n")] s2n_to_quinn,
    #[cfg(feature = "s2n")] quinn_to_s2n;
    [
        bytes_arrive_in_order_both_ways_at_once,
        chunks_carry_the_same_bytes_as_reads_and_writes,
        ending_one_half_leaves_the_other_open,
        nothing_can_be_written_after_the_end,
        a_reader_that_stops_holds_the_writer_back,
        dropping_a_stream_sends_what_was_written,
        closing_a_carrier_sends_what_was_written,
        closing_a_carrier_ends_its_streams,
        the_end_of_a_carrier_names_its_side,
        the_first_reason_for_the_end_stays,
        dropping_the_last_reference_closes_the_carrier,
        streams_do_not_keep_a_carrier_open,
        a_cut_path_is_an_error_at_both_ends,
        a_cancelled_accept_loses_no_stream,
        nobody_can_open_a_stream_on_a_closed_carrier,
        path_statistics_count_bytes,
    ]
}

keep! {
    with_many_streams: memory, mux_over_a_pipe, tcp_plain, tcp_tls, quic, websocket, websocket_tls, wss,
    kcp_plain, kcp_tls, kcp_holdfast, kcp_beside_quic, quic_beside_kcp,
    #[cfg(feature = "s2n")] s2n, #[cfg(feature = "s2n")] s2n_to_quinn,
    #[cfg(feature = "s2n")] quinn_to_s2n;
    [
        streams_are_independent,
        both_ends_can_open_streams,
        many_streams_at_once_keep_their_bytes_apart,
        a_stream_that_is_not_read_holds_up_no_other,
        a_reset_is_an_error_for_the_peer_and_for_nobody_else,
        a_draining_carrier_refuses_new_streams_and_ends_after_the_last,
        a_draining_carrier_without_streams_ends_at_once,
    ]
}

keep! {
    with_one_stream: memory_single, single_over_a_pipe, single_over_sockets, tcp_tls_single,
    websocket_single, websocket_tls_single, wss_single, kcp_tls_single;
    [
        there_is_one_stream_and_no_second,
        accepting_after_the_only_stream_says_that_there_are_no_more,
        a_reset_ends_the_carrier,
    ]
}

keep! {
    of_a_stranger: memory_stranger, mux_stranger, tcp_tls_stranger, quic_stranger,
    websocket_stranger, kcp_tls_stranger,
    #[cfg(feature = "s2n")] s2n_stranger, #[cfg(feature = "s2n")] s2n_to_quinn_stranger,
    #[cfg(feature = "s2n")] quinn_to_s2n_stranger;
    [
        a_stranger_gets_four_streams_and_an_admitted_peer_more,
        admitting_twice_does_nothing,
    ]
}

keep! {
    with_tls: memory_with_extras, tcp_tls, tcp_tls_single, quic, websocket_tls, websocket_tls_single, wss, wss_single,
    kcp_tls, kcp_tls_single;
    [with_tls_both_ends_have_the_same_keys]
}

keep! {
    without_tls: memory, memory_single, mux_over_a_pipe, single_over_a_pipe, tcp_plain,
    single_over_sockets, websocket, websocket_single, kcp_plain;
    [without_tls_there_are_no_keys]
}

keep! {
    with_datagrams: quic, memory_with_extras, kcp_holdfast,
    #[cfg(feature = "s2n")] s2n, #[cfg(feature = "s2n")] s2n_to_quinn,
    #[cfg(feature = "s2n")] quinn_to_s2n;
    [datagrams_arrive_whole_both_ways]
}

keep! {
    that_can_move: quic, #[cfg(feature = "s2n")] quinn_to_s2n;
    [a_carrier_that_moves_keeps_its_streams]
}

keep! {
    without_datagrams: memory, memory_single, mux_over_a_pipe, single_over_a_pipe, tcp_plain,
    single_over_sockets, tcp_tls, tcp_tls_single, websocket, websocket_single, websocket_tls,
    websocket_tls_single, wss, wss_single, kcp_plain, kcp_tls, kcp_tls_single;
    [datagrams_and_rebinding_say_that_they_are_not_supported]
}
