//! How TCP sends with `transport.tcp.congestion = "auto"`: as the system does by default on a link
//! that is whole, with BBR on one that is not.
//!
//! These tests need root, and a kernel that offers BBR. Without either each says that it is skipped.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use netem_tests::observe::{NumberedStream, Rate, Rates};
use netem_tests::{
    Lab, Link, PATIENCE, Pair, PairBuilder, Profile, Proxy, Service, Sides, Transport,
};

#[test]
fn tcp_goes_over_to_bbr_on_a_link_that_loses_packets_while_no_queue_stands() {
    let profile = Profile::delay_ms(10).rate_mbit(20).loss_pct(5);
    let Some(tunnel) = Tunnel::start("losing", &profile) else {
        return;
    };
    let _stream = tunnel.download();
    tunnel.pair.client().unwrap().wait_for_line(TOLD).unwrap();
}

#[test]
fn tcp_stays_with_cubic_where_only_its_own_queue_drops() {
    let profile = Profile::delay_ms(10).rate_mbit(20).queue_packets(100);
    let Some(tunnel) = Tunnel::start("whole", &profile) else {
        return;
    };
    let stream = tunnel.download();
    let deadline = Instant::now() + PATIENCE;
    while stream.down().n_bytes() < ENOUGH {
        assert!(
            Instant::now() < deadline,
            "{} bytes",
            stream.down().n_bytes()
        );
        thread::sleep(Duration::from_millis(50));
    }
    assert!(tunnel.lab.counters().unwrap().to_near.overflowed > 0);
    let log = tunnel.pair.client().unwrap().log();
    assert!(!log.contains(TOLD), "{log}");
}

/// It is not what they do by default.
const ADAPTING: &str = "transport.tcp.congestion = \"auto\"";

/// Programs over TCP, with the service far and the users near.
struct Tunnel {
    // The programs end before the network that they are in.
    pair: Pair,
    service: Service,
    lab: Lab,
}

impl Tunnel {
    fn start(what: &str, profile: &Profile) -> Option<Self> {
        let missing = match Lab::available() {
            Ok(()) => (!offers_bbr()).then(|| "the kernel offers no BBR".to_owned()),
            Err(reason) => Some(reason.to_string()),
        };
        if let Some(missing) = missing {
            println!("\n***  SKIPPED: {missing}\n");
            return None;
        }
        let lab = Lab::start(&format!("tcp sender, {what}"), profile).unwrap();
        let service = lab.far().enter(Service::start).unwrap();
        let link = Link {
            transport: Transport::Tcp,
            ..Link::DEFAULT
        };
        let pair = PairBuilder::new(&Sides::ours().unwrap())
            .link(link)
            .in_lab(&lab)
            .server_option(ADAPTING)
            .client_option(ADAPTING)
            .proxy(Proxy::tcp("bulk", service.port()))
            .start()
            .unwrap();
        Some(Self { pair, service, lab })
    }

    fn download(&self) -> NumberedStream {
        let rates = Rates {
            down: Rate::Unlimited,
            up: Rate::Mbit(0.05),
        };
        let port = self.pair.port("bulk").unwrap();
        let open = || NumberedStream::open(&self.service, port, 1, rates);
        self.lab.near().enter(open).unwrap()
    }
}

fn offers_bbr() -> bool {
    let path = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    fs::read_to_string(path).is_ok_and(|names| names.split_whitespace().any(|name| name == "bbr"))
}

/// What the sender says when it goes over.
const TOLD: &str = "TCP loses packets where no queue stands";

/// So much that the queue has overflowed, again and again.
const ENOUGH: u64 = 15_000_000;
