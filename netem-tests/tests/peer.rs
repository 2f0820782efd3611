//! Our programs with Go frp on the other side.
//!
//! These tests need frp's `frps` and `frpc` in the directory that `FRP_PEER_DIR` names. Without it
//! each of them says that it is skipped.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{self, Write};
use std::thread;

use netem_tests::{
    Link, Mux, PairBuilder, Programs, Sides, Wire, free_port, on_every_link, plain_scenario,
    scenario,
};
use serde_json::Value;

mod every_proxy_type_works_from_our_client_to_their_server_over {
    use super::*;

    fn carries_everything(link: Link) {
        if let Some(sides) = their_server() {
            scenario::carries_everything(&sides, link);
        }
    }

    on_every_link!(carries_everything);
}

mod every_proxy_type_works_from_their_client_to_our_server_over {
    use super::*;

    fn carries_everything(link: Link) {
        if let Some(sides) = their_client() {
            scenario::carries_everything(&sides, link);
        }
    }

    on_every_link!(carries_everything);

    on_every_link! { carries_everything;
        kcp_without_tls_unmultiplexed:     V2 Off     Off Kcp,
        kcp_with_mutual_tls_unmultiplexed: V1 Mutual  Off Kcp,
    }
}

/// Makes a module with two tests of each scenario: theirs as the server, theirs as the client.
macro_rules! with_either_side {
    ($($name:ident: $scenario:expr;)+) => {
        $(
            mod $name {
                use super::*;

                #[test]
                fn with_their_server() {
                    if let Some(sides) = their_server() {
                        $scenario(&sides);
                    }
                }

                #[test]
                fn with_their_client() {
                    if let Some(sides) = their_client() {
                        $scenario(&sides);
                    }
                }
            }
        )+
    };
}

with_either_side! {
    large_transfers_arrive_intact:
        |sides| scenario::moves_large_transfers_intact(sides, Link::DEFAULT);
    large_transfers_arrive_intact_over_kcp:
        |sides| scenario::moves_large_transfers_intact(sides, Link::KCP);
    large_transfers_arrive_intact_over_quic:
        |sides| scenario::moves_large_transfers_intact(sides, Link::QUIC);
    large_transfers_arrive_intact_over_websocket:
        |sides| scenario::moves_large_transfers_intact(sides, Link::WEBSOCKET);
    large_wrapped_transfers_arrive_intact: scenario::moves_large_transfers_intact_when_wrapped;
    two_hundred_users_are_served_at_once:
        |sides| scenario::serves_200_users_at_once(sides, Link::DEFAULT);
    two_hundred_users_are_served_at_once_without_multiplexing:
        |sides| scenario::serves_200_users_at_once(sides, UNMULTIPLEXED);
    two_hundred_users_are_served_at_once_over_kcp:
        |sides| scenario::serves_200_users_at_once(sides, Link::KCP);
    two_hundred_users_are_served_at_once_over_quic:
        |sides| scenario::serves_200_users_at_once(sides, Link::QUIC);
    two_hundred_users_are_served_at_once_over_websocket:
        |sides| scenario::serves_200_users_at_once(sides, Link::WEBSOCKET);
    the_client_returns_after_the_server_was_killed_over_websocket:
        |sides| scenario::client_returns_after_the_server_was_killed(sides, Link::WEBSOCKET);
    the_client_returns_after_the_server_was_killed:
        |sides| scenario::client_returns_after_the_server_was_killed(sides, Link::DEFAULT);
    the_client_returns_after_the_server_was_killed_without_multiplexing:
        |sides| scenario::client_returns_after_the_server_was_killed(sides, UNMULTIPLEXED);
    the_server_frees_the_ports_of_a_killed_client:
        |sides| scenario::server_frees_the_ports_of_a_killed_client(sides, Link::DEFAULT);
    a_reload_leaves_unchanged_proxies_alone: scenario::reload_leaves_unchanged_proxies_alone;
    a_reload_of_a_broken_file_changes_nothing: scenario::reload_of_a_broken_file_changes_nothing;
    stop_ends_the_client_and_its_ports: scenario::stop_ends_the_client_and_its_ports;
    status_lists_the_proxies: scenario::status_lists_the_proxies;
    a_port_that_the_server_chooses_is_reported: scenario::any_port_is_reported;
    a_wrong_secret_key_is_refused: scenario::wrong_secret_key_is_refused;
    a_visitor_reaches_the_proxy_of_another_client:
        |sides| scenario::visitor_reaches_the_proxy_of_another_client(sides, Link::DEFAULT);
    a_visitor_reaches_the_proxy_of_another_client_in_wire_v2:
        |sides| scenario::visitor_reaches_the_proxy_of_another_client(sides, WIRE_V2);
    a_terminated_client_leaves_nothing: scenario::terminated_client_leaves_nothing;
    a_terminated_client_takes_its_leave_over_quic:
        |sides| scenario::terminated_client_takes_its_leave(sides, Link::QUIC);
    a_visitor_reaches_the_proxy_of_another_client_over_kcp:
        |sides| scenario::visitor_reaches_the_proxy_of_another_client(sides, Link::KCP);
    a_visitor_reaches_the_proxy_of_another_client_over_quic:
        |sides| scenario::visitor_reaches_the_proxy_of_another_client(sides, Link::QUIC);
    a_wrong_token_is_refused_over_kcp:
        |sides| scenario::wrong_token_is_refused(sides, Link::KCP);
    a_wrong_token_is_refused_over_quic:
        |sides| scenario::wrong_token_is_refused(sides, Link::QUIC);
    a_wrong_token_is_refused: |sides| scenario::wrong_token_is_refused(sides, Link::DEFAULT);
    a_wrong_token_is_refused_in_wire_v2: |sides| scenario::wrong_token_is_refused(sides, WIRE_V2);
    a_taken_port_harms_only_its_own_proxy: scenario::taken_port_harms_only_its_own_proxy;
    forced_tls_refuses_plain_clients: scenario::forced_tls_refuses_plain_clients;
    the_custom_first_byte_is_understood: scenario::custom_first_byte_is_understood;
    the_client_dials_through_a_proxy: scenario::client_dials_through_a_proxy;
    a_bandwidth_limit_is_kept: scenario::bandwidth_limit_is_kept;
}

#[test]
fn a_switch_by_hand_leaves_open_connections_where_they_are() {
    if let Some(sides) = their_server() {
        plain_scenario::switches_by_hand(&sides).unwrap();
    }
}

#[test]
fn a_carrier_that_falls_silent_is_left_before_its_heartbeats_time_out() {
    if let Some(sides) = their_server() {
        plain_scenario::leaves_a_silent_carrier(&sides).unwrap();
    }
}

#[test]
fn a_dry_run_only_tells() {
    if let Some(sides) = their_server() {
        plain_scenario::only_tells_in_a_dry_run(&sides).unwrap();
    }
}

#[test]
fn the_doctor_says_of_their_server_what_can_be_known_of_it() {
    let Some(sides) = their_server() else {
        return;
    };
    for wire in [Wire::V1, Wire::V2] {
        let link = Link { wire, ..Link::KCP };
        let quic_port = free_port().unwrap();
        let pair = PairBuilder::new(&sides)
            .link(link)
            .server_option(&format!("quicBindPort = {quic_port}"))
            .start_server()
            .unwrap();
        // What the first leaves must not keep the second out.
        for _ in 0..2 {
            let (status, text) = pair.frpc_with("doctor", &["--quick", "--json"]).unwrap();
            let line = text.lines().find(|line| line.starts_with('{'));
            let report: Value = serde_json::from_str(line.unwrap()).unwrap();
            assert_eq!(status.code(), Some(0), "{text}");
            assert_eq!(report["peer"]["is_holdfast"], false);
            let paths = report["paths"].as_array().unwrap();
            let outcomes = paths
                .iter()
                .map(|path| (&path["transport"], &path["outcome"]));
            let outcomes: Vec<_> = outcomes
                .map(|(name, outcome)| (name.as_str().unwrap(), outcome.as_str().unwrap()))
                .collect();
            // KCP has the UDP side of the port, and QUIC is not tried there.
            let expected = [
                ("kcp", "works"),
                ("tcp", "works"),
                ("websocket", "works"),
                ("wss", "handshake"),
            ];
            assert_eq!(outcomes, expected, "{text}");
        }
    }
}

fn their_server() -> Option<Sides> {
    Some(Sides {
        server: peer()?,
        client: Programs::ours().unwrap(),
    })
}

fn their_client() -> Option<Sides> {
    Some(Sides {
        client: peer()?,
        server: Programs::ours().unwrap(),
    })
}

fn peer() -> Option<Programs> {
    let peer = Programs::peer().unwrap();
    if peer.is_none() {
        let current = thread::current();
        let test = current.name().unwrap_or("this test");
        let notice = format!("SKIPPED: {test}: FRP_PEER_DIR is not set\n");
        // Straight to the file: the test runner keeps what the print macros say to itself.
        let _ = io::stderr().write_all(notice.as_bytes());
    }
    peer
}

const UNMULTIPLEXED: Link = Link {
    mux: Mux::Off,
    ..Link::DEFAULT
};

const WIRE_V2: Link = Link {
    wire: Wire::V2,
    ..Link::DEFAULT
};
