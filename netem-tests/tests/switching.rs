//! Users' connections while carriers come and go under them: our programs in `auto`, over a link
//! with the faults of the table and with switches at awkward moments.
//!
//! What is asked here is that nothing is lost, repeated or mixed up, and that the tunnel comes
//! back; how long it took is measured by `make bench PART=faults`. These tests need root. Without
//! it each of them says that it is skipped. `FULL=1` adds those that take a minute and more.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::env;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use netem_tests::fault_table::Case;
use netem_tests::traffic::{self, EchoConn};
use netem_tests::{Fault, Lab, Manner, Op, Profile, Seen, Stage, Transport, Tunnel};

mod the_stream_survives {
    use super::*;

    #[test]
    fn udp_being_dropped() {
        stays_whole_in("udp-dropped");
    }

    #[test]
    fn udp_being_rejected() {
        stays_whole_in("udp-rejected");
    }

    #[test]
    fn tcp_being_dropped_while_it_is_used() {
        stays_whole_in("tcp-dropped");
    }

    #[test]
    fn five_seconds_of_nothing() {
        stays_whole_in("dead-5");
    }

    #[test]
    fn thirty_and_fifty_seconds_of_nothing() {
        if is_full() {
            stays_whole_in("dead-30");
            stays_whole_in("dead-50");
        }
    }

    #[test]
    fn another_address_of_the_client() {
        stays_whole_in("address");
    }

    #[test]
    fn another_address_after_three_seconds_without_one() {
        stays_whole_in("address-gap");
    }

    #[test]
    fn silence_towards_the_user() {
        stays_whole_in("one-way-to-user");
    }

    #[test]
    fn silence_towards_the_service() {
        if is_full() {
            stays_whole_in("one-way-to-service");
        }
    }

    #[test]
    fn udp_being_policed() {
        if is_full() {
            stays_whole_in("udp-policed");
            stays_whole_in("udp-loses-60");
        }
    }

    #[test]
    fn a_link_that_comes_and_goes() {
        if is_full() {
            stays_whole_in("flaps");
        }
    }

    fn stays_whole_in(name: &str) {
        let Some(seen) = play(name) else { return };
        seen.check_intact().unwrap();
    }
}

#[test]
fn all_proxies_are_back_after_the_server_was_killed() {
    let Some(seen) = play("server-restart") else {
        return;
    };
    assert!(seen.proxies_back.is_some());
    assert!(!seen.is_wrong);
}

#[test]
fn a_stopped_client_leaves_neither_users_nor_ports() {
    let Some(seen) = play("client-stopped") else {
        return;
    };
    leaves_neither_users_nor_ports(&seen);
}

#[test]
fn a_killed_client_leaves_neither_users_nor_ports() {
    let Some(seen) = play("client-killed") else {
        return;
    };
    leaves_neither_users_nor_ports(&seen);
}

#[test]
fn attempts_during_an_outage_of_everything_cost_the_client_little_memory() {
    let Some(mut stage) = stage("memory in an outage", &twenty_mbit()) else {
        return;
    };
    stage.traffic_begins().unwrap();
    stage.all_is_well().unwrap();
    let peak_kib = |stage: &Stage| stage.pair().client().unwrap().peak_rss_kib().unwrap();
    let before = peak_kib(&stage);

    stage.breaks(Fault::drop_all()).unwrap();
    stage.goes_on_for(OUTAGE).unwrap();
    stage.mends().unwrap();
    stage.stream_goes_on().unwrap();

    let growth = peak_kib(&stage).saturating_sub(before);
    assert!(
        growth <= OUTAGE_GROWTH_MAX_KIB,
        "from {before} KiB by {growth} KiB"
    );
    stage.stream_ends_whole().unwrap();
}

#[test]
fn a_login_goes_on_when_its_carrier_dies() {
    let Some(mut stage) = stage("a carrier dies during the login", &twenty_mbit()) else {
        return;
    };

    stage
        .client_logs_in_while_it_breaks(Fault::drop_udp())
        .unwrap();

    stage.traffic_begins().unwrap();
    stage.stream_goes_on().unwrap();
    stage.stream_ends_whole().unwrap();
}

#[test]
fn a_large_upload_survives_two_switches() {
    let Some(stage) = stage("switches during an upload", &twenty_mbit()) else {
        return;
    };
    let port = stage.port().unwrap();
    thread::scope(|scope| {
        let upload = scope.spawn(|| {
            let upload = || traffic::upload(port, UPLOAD_LEN, stage.lab().seed());
            stage.pair().as_user(upload)
        });
        stage.goes_on_for(Duration::from_secs(1)).unwrap();
        stage.switches_by_hand(Transport::Tcp).unwrap();
        stage.goes_on_for(Duration::from_secs(1)).unwrap();
        stage.switches_by_hand(Transport::Kcp).unwrap();

        assert!(!upload.is_finished(), "it has to be under way for this");
        upload.join().unwrap().unwrap();
    });
}

#[test]
fn a_thousand_idle_connections_survive_a_switch() {
    // They are asked one after the other: a short link keeps that short.
    let Some(stage) = stage("a switch with 1,000 idle streams", &Profile::delay_ms(1)) else {
        return;
    };
    let port = stage.port().unwrap();
    let mut conns = stage.pair().as_user(|| open_in_parallel(port, N_IDLE));

    stage.switches_by_hand(Transport::Tcp).unwrap();

    for conn in &mut conns {
        conn.round().unwrap();
    }
    stage.switches_by_hand(Transport::Quic).unwrap();
    for conn in &mut conns {
        conn.round().unwrap();
    }
}

#[test]
fn a_half_closed_connection_survives_a_switch() {
    let Some(stage) = stage("a switch with half-closed streams", &twenty_mbit()) else {
        return;
    };
    let port = stage.port().unwrap();
    let (len, seed) = (UPLOAD_LEN, stage.lab().seed());
    let mut conn = stage.pair().as_user(|| traffic::connect(port)).unwrap();
    conn.write_all(&Op::Download.request(len, seed)).unwrap();
    conn.shutdown(Shutdown::Write).unwrap();
    thread::scope(|scope| {
        let download = scope.spawn(|| {
            netem_tests::Pattern::new(seed).receive(len, &mut &conn)?;
            // And then the end, which nobody may have lost either.
            anyhow::ensure!((&conn).read(&mut [0])? == 0, "there is more");
            anyhow::Ok(())
        });
        stage.goes_on_for(Duration::from_secs(1)).unwrap();
        stage.switches_by_hand(Transport::Tcp).unwrap();

        download.join().unwrap().unwrap();
    });
}

#[test]
fn two_switches_at_once_leave_the_stream_whole() {
    let Some(mut stage) = stage("two switches at once", &twenty_mbit()) else {
        return;
    };
    stage.traffic_begins().unwrap();
    stage.all_is_well().unwrap();

    for transport in [
        Transport::Tcp,
        Transport::Kcp,
        Transport::Tcp,
        Transport::Quic,
    ] {
        stage.asks_for_switch(transport).unwrap();
    }

    stage.goes_on_for(Duration::from_secs(3)).unwrap();
    stage.stream_goes_on().unwrap();
    stage.stream_ends_whole().unwrap();
}

fn play(name: &str) -> Option<Seen> {
    let tunnel = tunnel(name)?;
    let case = Case::named(name).unwrap();
    let seen = case.play(&tunnel, Manner::for_tests(seed())).unwrap();
    assert!(!seen.is_wrong, "{seen:?}");
    Some(seen)
}

fn stage(name: &str, profile: &Profile) -> Option<Stage> {
    let tunnel = tunnel(name)?;
    Some(Stage::open(name, &tunnel, profile, Manner::for_tests(seed())).unwrap())
}

/// Our programs in `auto`, where there can be a lab.
fn tunnel(what: &str) -> Option<Tunnel> {
    if !Lab::is_available_for(what) {
        return None;
    }
    Some(Tunnel::ours().unwrap())
}

fn leaves_neither_users_nor_ports(seen: &Seen) {
    assert!(seen.closed_after.is_some(), "old connections stay open");
    assert!(seen.proxies_back.is_some(), "proxies do not come back");
    assert_eq!(seen.n_conflicts, 0, "a port was still used");
}

/// Opens them a few at a time: a thousand at once are more than a listener's queue takes.
fn open_in_parallel(port: u16, n: usize) -> Vec<EchoConn> {
    let mut conns = Vec::with_capacity(n);
    while conns.len() < n {
        let batch: Vec<_> = (conns.len()..n)
            .take(50)
            .map(|_| thread::spawn(move || EchoConn::open(port)))
            .collect();
        conns.extend(batch.into_iter().map(|one| one.join().unwrap().unwrap()));
    }
    conns
}

fn twenty_mbit() -> Profile {
    Profile::delay_ms(25).rate_mbit(20)
}

/// The seed of the link: `LAB_SEED`, or the same in every run.
fn seed() -> u64 {
    env::var("LAB_SEED").map_or(1, |text| text.parse().unwrap())
}

fn is_full() -> bool {
    env::var_os("FULL").is_some_and(|value| !value.is_empty())
}

/// Several seconds at 20 Mbit/s.
const UPLOAD_LEN: u64 = 24 * 1024 * 1024;

const N_IDLE: usize = 1000;

/// Some forty rounds of attempts over three transports.
const OUTAGE: Duration = Duration::from_secs(20);

/// What `frpc` may grow by in it: the streams' replay buffers, and four attempts of each transport
/// at a time. It once was 350 MiB, because quinn made places for 100,000 streams in each.
const OUTAGE_GROWTH_MAX_KIB: u64 = 64 * 1024;
