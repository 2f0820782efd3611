//! How TCP sends with `transport.tcp.congestion = "auto"`: with BBR, except where others fill the
//! queue.
//!
//! These tests need root, and a kernel that offers BBR. Without either each says that it is skipped.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use netem_tests::observe::{NumberedStream, Rate, Rates};
use netem_tests::{
    Lab, Link, PATIENCE, Pair, PairBuilder, Profile, Proxy, Service, Sides, Transport,
};

#[test]
fn tcp_gives_way_to_a_cubic_flow_that_fills_the_queue() {
    let profile = Profile::delay_ms(10).rate_mbit(20).queue_packets(150);
    let Some(tunnel) = Tunnel::start("shared", &profile) else {
        return;
    };
    let _stream = tunnel.download();
    let rival = Rival::start(&tunnel.lab);
    let told = tunnel.pair.client().unwrap().wait_for_line(GIVES_WAY);
    rival.stop();
    told.unwrap();
}

#[test]
fn tcp_stays_with_bbr_where_nobody_else_is() {
    let profile = Profile::delay_ms(10).rate_mbit(20).queue_packets(100);
    stays("alone", &profile);
}

#[test]
fn tcp_stays_with_bbr_on_a_link_that_loses_packets() {
    let profile = Profile::delay_ms(10).rate_mbit(20).loss_pct(5);
    stays("losing", &profile);
}

/// Downloads a lot, and checks that nothing was given away.
fn stays(what: &str, profile: &Profile) {
    let Some(tunnel) = Tunnel::start(what, profile) else {
        return;
    };
    let stream = tunnel.download();
    let deadline = Instant::now() + PATIENCE;
    while stream.down().n_bytes() < ENOUGH {
        let n_bytes = stream.down().n_bytes();
        assert!(Instant::now() < deadline, "{n_bytes} bytes");
        thread::sleep(Duration::from_millis(50));
    }
    let log = tunnel.pair.client().unwrap().log();
    assert!(!log.contains(GIVES_WAY), "{log}");
}

/// Somebody else's download over the same link, by Cubic.
struct Rival {
    sender: TcpStream,
    threads: [thread::JoinHandle<()>; 2],
}

impl Rival {
    fn start(lab: &Lab) -> Self {
        let near = lab.near().address();
        let listener = lab.near().enter(|| TcpListener::bind((near, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        // New connections in a lab use Cubic.
        let sender = lab.far().enter(|| TcpStream::connect(address)).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        let mut writer = sender.try_clone().unwrap();
        let sending = thread::spawn(move || while writer.write_all(&[0; 65_536]).is_ok() {});
        let receiving = thread::spawn(move || {
            let mut block = vec![0; 65_536];
            while receiver.read(&mut block).is_ok_and(|n| n > 0) {}
        });
        Self {
            sender,
            threads: [sending, receiving],
        }
    }

    fn stop(self) {
        // Ends both threads.
        let _ = self.sender.shutdown(Shutdown::Both);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// What they do by default.
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

/// What the sender says when it gives way.
const GIVES_WAY: &str = "others fill the queue that TCP sends through";

/// So much that BBR has left its start behind.
const ENOUGH: u64 = 15_000_000;
