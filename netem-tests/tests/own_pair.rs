//! Our server with our client.

#![allow(clippy::unwrap_used, reason = "tests")]

use netem_tests::{Link, Mux, Sides, Wire, on_every_link, scenario};

mod every_proxy_type_works_over {
    use super::*;

    fn carries_everything(link: Link) {
        scenario::carries_everything(&ours(), link);
    }

    on_every_link!(carries_everything);

    on_every_link! { carries_everything;
        kcp_without_tls_unmultiplexed:     V2 Off     Off Kcp,
        kcp_with_mutual_tls_unmultiplexed: V1 Mutual  Off Kcp,
    }
}

/// frp's server takes no `wss` itself; ours does.
mod every_proxy_type_works_over_wss {
    use super::*;

    fn carries_everything(link: Link) {
        scenario::carries_everything(&ours(), link);
    }

    on_every_link! { carries_everything;
        with_wire_v1:        V1 Default On  Wss,
        with_wire_v2:        V2 Default On  Wss,
        with_tls_turned_off: V1 Off     On  Wss,
        unmultiplexed:       V2 Default Off Wss,
        with_mutual_tls:     V1 Mutual  On  Wss,
    }
}

#[test]
fn large_transfers_arrive_intact() {
    scenario::moves_large_transfers_intact(&ours(), Link::DEFAULT);
}

#[test]
fn large_transfers_arrive_intact_over_kcp() {
    scenario::moves_large_transfers_intact(&ours(), Link::KCP);
}

#[test]
fn large_transfers_arrive_intact_over_quic() {
    scenario::moves_large_transfers_intact(&ours(), Link::QUIC);
}

#[test]
fn large_transfers_arrive_intact_over_websocket() {
    scenario::moves_large_transfers_intact(&ours(), Link::WEBSOCKET);
}

#[test]
fn large_transfers_arrive_intact_through_cipher_and_compression() {
    scenario::moves_large_transfers_intact_when_wrapped(&ours());
}

#[test]
fn two_hundred_users_are_served_at_once() {
    scenario::serves_200_users_at_once(&ours(), Link::DEFAULT);
}

#[test]
fn two_hundred_users_are_served_at_once_without_multiplexing() {
    scenario::serves_200_users_at_once(&ours(), UNMULTIPLEXED);
}

#[test]
fn two_hundred_users_are_served_at_once_over_kcp() {
    scenario::serves_200_users_at_once(&ours(), Link::KCP);
}

#[test]
fn two_hundred_users_are_served_at_once_over_quic() {
    scenario::serves_200_users_at_once(&ours(), Link::QUIC);
}

#[test]
fn the_client_returns_after_the_server_was_killed_over_kcp() {
    scenario::client_returns_after_the_server_was_killed(&ours(), Link::KCP);
}

#[test]
fn the_client_returns_after_the_server_was_killed_over_quic() {
    scenario::client_returns_after_the_server_was_killed(&ours(), Link::QUIC);
}

#[test]
fn the_client_returns_after_the_server_was_killed_over_websocket() {
    scenario::client_returns_after_the_server_was_killed(&ours(), Link::WEBSOCKET);
}

#[test]
fn the_client_returns_after_the_server_was_killed() {
    scenario::client_returns_after_the_server_was_killed(&ours(), Link::DEFAULT);
}

#[test]
fn the_client_returns_after_the_server_was_killed_without_multiplexing() {
    scenario::client_returns_after_the_server_was_killed(&ours(), UNMULTIPLEXED);
}

#[test]
fn the_server_frees_the_ports_of_a_killed_client() {
    scenario::server_frees_the_ports_of_a_killed_client(&ours(), Link::DEFAULT);
}

#[test]
fn a_reload_leaves_unchanged_proxies_alone() {
    scenario::reload_leaves_unchanged_proxies_alone(&ours());
}

#[test]
fn a_reload_of_a_broken_file_changes_nothing() {
    scenario::reload_of_a_broken_file_changes_nothing(&ours());
}

#[test]
fn stop_ends_the_client_and_its_ports() {
    scenario::stop_ends_the_client_and_its_ports(&ours());
}

#[test]
fn status_lists_the_proxies() {
    scenario::status_lists_the_proxies(&ours());
}

#[test]
fn a_port_that_the_server_chooses_is_reported() {
    scenario::any_port_is_reported(&ours());
}

#[test]
fn a_wrong_secret_key_is_refused() {
    scenario::wrong_secret_key_is_refused(&ours());
}

#[test]
fn a_visitor_reaches_the_proxy_of_another_client() {
    scenario::visitor_reaches_the_proxy_of_another_client(&ours(), Link::DEFAULT);
}

#[test]
fn a_visitor_reaches_the_proxy_of_another_client_in_wire_v2() {
    scenario::visitor_reaches_the_proxy_of_another_client(&ours(), WIRE_V2);
}

#[test]
fn a_terminated_client_leaves_nothing() {
    scenario::terminated_client_leaves_nothing(&ours());
}

#[test]
fn a_terminated_client_takes_its_leave_over_kcp() {
    scenario::terminated_client_takes_its_leave(&ours(), Link::KCP);
}

#[test]
fn a_terminated_client_takes_its_leave_over_quic() {
    scenario::terminated_client_takes_its_leave(&ours(), Link::QUIC);
}

#[test]
fn a_visitor_reaches_the_proxy_of_another_client_over_kcp() {
    scenario::visitor_reaches_the_proxy_of_another_client(&ours(), Link::KCP);
}

#[test]
fn a_visitor_reaches_the_proxy_of_another_client_over_quic() {
    scenario::visitor_reaches_the_proxy_of_another_client(&ours(), Link::QUIC);
}

#[test]
fn a_wrong_token_is_refused_over_kcp() {
    scenario::wrong_token_is_refused(&ours(), Link::KCP);
}

#[test]
fn a_wrong_token_is_refused_over_quic() {
    scenario::wrong_token_is_refused(&ours(), Link::QUIC);
}

#[test]
fn a_wrong_token_is_refused() {
    scenario::wrong_token_is_refused(&ours(), Link::DEFAULT);
}

#[test]
fn a_wrong_token_is_refused_in_wire_v2() {
    scenario::wrong_token_is_refused(&ours(), WIRE_V2);
}

#[test]
fn a_taken_port_harms_only_its_own_proxy() {
    scenario::taken_port_harms_only_its_own_proxy(&ours());
}

#[test]
fn forced_tls_refuses_plain_clients() {
    scenario::forced_tls_refuses_plain_clients(&ours());
}

#[test]
fn the_custom_first_byte_is_understood() {
    scenario::custom_first_byte_is_understood(&ours());
}

#[test]
fn the_client_dials_through_a_proxy() {
    scenario::client_dials_through_a_proxy(&ours());
}

#[test]
fn a_bandwidth_limit_is_kept() {
    scenario::bandwidth_limit_is_kept(&ours());
}

fn ours() -> Sides {
    Sides::ours().unwrap()
}

const UNMULTIPLEXED: Link = Link {
    mux: Mux::Off,
    ..Link::DEFAULT
};

const WIRE_V2: Link = Link {
    wire: Wire::V2,
    ..Link::DEFAULT
};
