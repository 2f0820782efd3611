//! Hostile UDP at the ports of KCP and QUIC, while users of a tunnel go on.
//!
//! In a lab an [`Intruder`](netem_tests::Intruder) hears what client and server say to each other,
//! and sends packets in the name of both and of strangers. He knows everything but keys. Over KCP,
//! where nothing but TLS inside of it is authentic, he does not forge what the session could be
//! about to receive: that ends a session, as it does with frp, and no wrong byte comes of it.
//!
//! Without root only the part on loopback runs, with the addresses of 127.0.0.0/8.
//!
//! All random decisions follow `HOSTILE_SEED`, which is printed. `FULL` sends ten times as much.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::env;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use netem_tests::traffic::{self, EchoConn};
use netem_tests::{Intruder, Lab, Link, Pair, PairBuilder, Profile, Proxy, Service, Sides};

use attack::Attack;
use dice::Dice;
use users::Users;

#[path = "hostile_udp/attack.rs"]
mod attack;
#[path = "hostile_udp/dice.rs"]
mod dice;
#[path = "hostile_udp/first_packets.rs"]
mod first_packets;
#[path = "hostile_udp/users.rs"]
mod users;

#[test]
fn sessions_over_kcp_feel_nothing_of_hostile_datagrams() {
    withstands(Link::KCP);
}

#[test]
fn sessions_over_quic_feel_nothing_of_hostile_datagrams() {
    withstands(Link::QUIC);
}

#[test]
fn corrupt_packets_with_right_checksums_never_deliver_a_wrong_byte_over_kcp() {
    let Some((lab, pair, _service)) = start("corrupt kcp", Link::KCP) else {
        return;
    };
    let port = pair.port("victim").unwrap();

    // A thousandth: half of the transfers end early, so that there are some of either kind.
    lab.set_link(&link().corrupt_pct(0.1).with_right_checksums())
        .unwrap();
    for seed in 0..10 {
        if let Err(error) = pair.as_user(|| move_bytes(port, seed)) {
            users::assert_is_no_wrong_byte(&error);
        }
    }
    lab.set_link(&link()).unwrap();

    eventually(|| pair.as_user(|| move_bytes(port, 99)));
}

#[test]
fn corrupt_packets_with_right_checksums_are_as_good_as_lost_over_quic() {
    let Some((lab, pair, _service)) = start("corrupt quic", Link::QUIC) else {
        return;
    };
    let port = pair.port("victim").unwrap();
    let mut idle_user = pair.as_user(|| EchoConn::open(port)).unwrap();

    lab.set_link(&link().corrupt_pct(1).with_right_checksums())
        .unwrap();

    for seed in 0..5 {
        pair.as_user(|| move_bytes(port, seed)).unwrap();
    }
    idle_user.round().unwrap();
    assert!(lab.counters().unwrap().to_far.corrupted > 0);
}

#[test]
fn a_flood_of_first_packets_leaves_room_for_the_next_client_over_kcp() {
    leaves_room(Link::KCP);
}

#[test]
fn a_flood_of_first_packets_leaves_room_for_the_next_client_over_quic() {
    leaves_room(Link::QUIC);
}

/// All kinds of attack, one after the other, beside a transfer, an echo and an idle user.
fn withstands(link: Link) {
    let Some((lab, mut pair, _service)) = start_server("hostile udp", link) else {
        return;
    };
    let port = pair.port("victim").unwrap();
    let mut dice = Dice::from_env();
    route_back_to_strangers(&lab);
    let intruder = Intruder::listen(lab.far()).unwrap();
    pair.start_client().unwrap();
    pair.as_user(|| move_bytes(port, 1)).unwrap();
    let attack = Attack::new(&lab, &intruder, link.transport);

    let mut idle_user = pair.as_user(|| EchoConn::open(port)).unwrap();
    let before = Cost::of(&pair);
    let outcome = pair.as_user(|| {
        Users::watch(port, |users| {
            for (name, n_sent) in attack.waves(&mut dice) {
                let rss_kib = pair.server().unwrap().rss_kib().unwrap();
                let so_far = users.so_far();
                say(&format!(
                    "{name}: {n_sent} datagrams; {so_far}; {rss_kib} KiB"
                ));
            }
        })
    });
    let after = Cost::of(&pair);
    idle_user.round().unwrap();
    say(&format!(
        "users: {outcome}\nbefore: {before:?}\nafter:  {after:?}"
    ));

    outcome.assert_felt_nothing();
    after.assert_is_bounded(&before, attack.n_sent());
    attack.assert_no_amplification();
    let refused = scrape(&pair);
    say(&refused);
    attack.assert_is_counted(&refused);

    // And whoever comes next is let in.
    client_comes_again(&mut pair);
    eventually(|| pair.as_user(|| move_bytes(port, 2)));
}

/// The part that needs no root: a flood from addresses of loopback.
fn leaves_room(link: Link) {
    let service = Service::start().unwrap();
    let mut pair = pair_of(link, service.port()).start().unwrap();
    let port = pair.port("victim").unwrap();
    let mut dice = Dice::from_env();
    let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, pair.bind_port());
    let first_packets = first_packets::of(link.transport, scaled(N_FLOOD_LOOPBACK), &mut dice);
    let mut idle_user = EchoConn::open(port).unwrap();
    let before = Cost::of(&pair);

    let outcome = Users::watch(port, |_| {
        for packet in &first_packets {
            let [_, b, c, d] = dice.number().to_be_bytes()[..4].try_into().unwrap();
            // Another address of this host for each.
            let socket = UdpSocket::bind((Ipv4Addr::new(127, b, c, d.clamp(2, 250)), 0)).unwrap();
            socket.send_to(packet, server).unwrap();
            // Something that could not be a first packet, from the same stranger.
            socket.send_to(&dice.bytes(200), server).unwrap();
        }
    });

    let after = Cost::of(&pair);
    idle_user.round().unwrap();
    say(&format!(
        "users: {outcome}\nbefore: {before:?}\nafter:  {after:?}"
    ));
    outcome.assert_felt_nothing();
    after.assert_is_bounded(&before, 2 * first_packets.len() as u64);
    client_comes_again(&mut pair);
    eventually(|| move_bytes(port, 2));
}

/// One that is killed leaves its proxies behind for a while, since UDP says nothing of it.
fn client_comes_again(pair: &mut Pair) {
    pair.client().unwrap().terminate().unwrap();
    pair.client_mut().unwrap().wait_for_exit().unwrap();
    pair.start_client().unwrap();
}

/// What the server costs its host.
#[derive(Debug)]
struct Cost {
    rss_kib: u64,
    n_descriptors: usize,
    n_log_lines: usize,
}

impl Cost {
    fn of(pair: &Pair) -> Self {
        let server = pair.server().unwrap();
        Self {
            rss_kib: server.rss_kib().unwrap(),
            n_descriptors: server.n_descriptors().unwrap(),
            n_log_lines: n_log_lines(&server.log()),
        }
    }

    fn assert_is_bounded(&self, before: &Self, n_sent: u64) {
        let grown = self.rss_kib.saturating_sub(before.rss_kib);
        assert!(grown < MAX_GROWTH_KIB, "{grown} KiB more than before");
        assert!(
            self.n_descriptors <= before.n_descriptors + MAX_MORE_DESCRIPTORS,
            "{} descriptors, and {} before",
            self.n_descriptors,
            before.n_descriptors
        );
        let n_lines = self.n_log_lines - before.n_log_lines;
        assert!(
            n_lines < MAX_LOG_LINES,
            "{n_lines} lines about {n_sent} datagrams"
        );
    }
}

/// Counts the lines that are not about users, who come and go as they like.
fn n_log_lines(log: &str) -> usize {
    let is_about_users = |line: &&str| line.contains("get a user connection");
    log.lines().filter(|line| !is_about_users(line)).count()
}

/// A lab with a pair in it, if there can be one.
fn start(name: &str, link_of_pair: Link) -> Option<(Lab, Pair, Service)> {
    let (lab, mut pair, service) = start_server(name, link_of_pair)?;
    pair.start_client().unwrap();
    Some((lab, pair, service))
}

/// The same before the client is there.
fn start_server(name: &str, link_of_pair: Link) -> Option<(Lab, Pair, Service)> {
    if !Lab::is_available_for(name) {
        return None;
    }
    let lab = Lab::start(name, &link()).unwrap();
    let service = lab.far().enter(Service::start).unwrap();
    let builder = pair_of(link_of_pair, service.port()).in_lab(&lab);
    Some((lab, builder.start_server().unwrap(), service))
}

fn pair_of(link: Link, service_port: u16) -> PairBuilder {
    PairBuilder::new(&Sides::ours().unwrap())
        .link(link)
        .quiet()
        .with_metrics()
        .unwrap()
        .proxy(Proxy::tcp("victim", service_port))
}

/// Only as slow as the machine, so that what the intruder sends takes nobody's rate.
fn link() -> Profile {
    Profile::delay_ms(2).queue_packets(10_000)
}

/// Answers to strangers take the link, too: so they can be counted.
fn route_back_to_strangers(lab: &Lab) {
    let routed = lab
        .near()
        .command("ip")
        .args([
            "route",
            "add",
            attack::STRANGERS,
            "dev",
            netem_tests::lab::DEVICE,
        ])
        .status()
        .unwrap();
    assert!(routed.success());
}

fn move_bytes(port: u16, seed: u64) -> anyhow::Result<()> {
    traffic::download(port, 512 * 1024, seed)?;
    EchoConn::open(port)?.round()?;
    traffic::upload(port, 512 * 1024, seed)
}

fn scrape(pair: &Pair) -> String {
    let text = pair.server_metrics().unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("holdfast_"))
        .filter(|line| {
            ["refused", "rejected", "retries", "panics"]
                .iter()
                .any(|key| line.contains(key))
        })
        .collect();
    lines.join("\n")
}

/// Tries again for a while: what has lost its session may take a moment to get another.
fn eventually(act: impl Fn() -> anyhow::Result<()>) {
    let deadline = Instant::now() + 2 * netem_tests::PATIENCE;
    while let Err(error) = act() {
        users::assert_is_no_wrong_byte(&error);
        assert!(Instant::now() < deadline, "{error:#}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Ten times as much when `FULL` is set.
fn scaled(n: usize) -> usize {
    match env::var("FULL") {
        Ok(value) if !value.is_empty() => 10 * n,
        _ => n,
    }
}

#[expect(clippy::print_stderr, reason = "whoever reads a failure needs it")]
fn say(line: &str) {
    eprintln!("{line}");
}

/// Two thousand half-open sessions, of strangers and of those in a client's name, with what they
/// have sent and a TLS handshake each, and what an allocator keeps. 20 to 40 MiB were measured.
const MAX_GROWTH_KIB: u64 = 96 * 1024;

/// UDP costs no descriptors: these are for users' connections that come and go.
const MAX_MORE_DESCRIPTORS: usize = 16;

/// What is refused is logged at most once a second, and a login or two.
const MAX_LOG_LINES: usize = 100;

/// Addresses on loopback: more than there are places.
const N_FLOOD_LOOPBACK: usize = 1500;
