//! What a pair of programs must be able to do, whoever wrote the server and whoever the client.
//!
//! Each function is the body of a test: it panics while its [`Pair`](crate::Pair) is still alive, so that the
//! logs of both programs are printed with the failure.

#![expect(clippy::unwrap_used, reason = "these are the bodies of tests")]

use std::env;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::traffic::{self, EchoConn};
use crate::{Detour, Link, Pair, PairBuilder, Proxy, Service, Sides, UdpEcho};

/// Every proxy type, plain and with each wrapping, works on `link`.
pub fn carries_everything(sides: &Sides, link: Link) {
    let service = Service::start().unwrap();
    let udp_echo = UdpEcho::start().unwrap();
    let tcp = service.port();
    let udp = udp_echo.port();
    let pair = PairBuilder::new(sides)
        .link(link)
        .proxies([
            Proxy::tcp("tcp", tcp),
            Proxy::tcp("tcp-encrypted", tcp).encrypted(),
            Proxy::tcp("tcp-compressed", tcp).compressed(),
            Proxy::tcp("tcp-both", tcp).encrypted().compressed(),
            Proxy::stcp("stcp", tcp),
            Proxy::stcp("stcp-encrypted", tcp).encrypted(),
            Proxy::stcp("stcp-compressed", tcp).compressed(),
            Proxy::stcp("stcp-both", tcp).encrypted().compressed(),
            Proxy::udp("udp", udp),
            Proxy::udp("udp-both", udp).encrypted().compressed(),
        ])
        .start()
        .unwrap();

    for wrapping in ["", "-encrypted", "-compressed", "-both"] {
        for kind in ["tcp", "stcp"] {
            let port = pair.port(&format!("{kind}{wrapping}")).unwrap();
            let mut user = EchoConn::open(port).unwrap();
            traffic::download(port, MIB, 1).unwrap();
            traffic::upload(port, MIB, 2).unwrap();
            traffic::both_ways(port, MIB, 3).unwrap();
            user.round().unwrap();
        }
    }
    traffic::datagrams(pair.port("udp").unwrap()).unwrap();
    traffic::datagrams(pair.port("udp-both").unwrap()).unwrap();
}

/// A large transfer arrives to its last byte in each direction, and in both at once.
pub fn moves_large_transfers_intact(sides: &Sides, link: Link) {
    let (_service, pair) = one_proxy(sides, link, "bulk");
    let port = pair.port("bulk").unwrap();
    let len = large_transfer_len();

    traffic::download(port, len, 1).unwrap();
    traffic::upload(port, len, 2).unwrap();
    traffic::both_ways(port, len, 3).unwrap();
}

/// The same through cipher and compression.
pub fn moves_large_transfers_intact_when_wrapped(sides: &Sides) {
    let service = Service::start().unwrap();
    let pair = PairBuilder::new(sides)
        .proxy(Proxy::tcp("bulk", service.port()).encrypted().compressed())
        .start()
        .unwrap();

    traffic::both_ways(pair.port("bulk").unwrap(), large_transfer_len() / 4, 1).unwrap();
}

/// Two hundred users at once each get their own bytes back.
pub fn serves_200_users_at_once(sides: &Sides, link: Link) {
    let (_service, pair) = one_proxy(sides, link, "busy");

    traffic::in_parallel(pair.port("busy").unwrap(), 200, 64 * KIB).unwrap();
}

/// The client comes back by itself after the server has crashed and is started again.
pub fn client_returns_after_the_server_was_killed(sides: &Sides, link: Link) {
    let (_service, mut pair) = one_proxy(sides, link, "phoenix");
    let port = pair.port("phoenix").unwrap();
    let user = EchoConn::open(port).unwrap();
    let mark = pair.client().unwrap().mark();

    pair.kill_server();
    user.wait_for_close().unwrap();
    pair.start_server().unwrap();

    pair.client()
        .unwrap()
        .wait_for_line_after(mark, "[phoenix] start proxy success")
        .unwrap();
    EchoConn::open(port).unwrap();
}

/// The server frees what a crashed client had, and its next life gets it.
pub fn server_frees_the_ports_of_a_killed_client(sides: &Sides, link: Link) {
    let (_service, mut pair) = one_proxy(sides, link, "phoenix");
    let port = pair.port("phoenix").unwrap();
    let user = EchoConn::open(port).unwrap();

    let is_held = is_held(&pair);
    pair.kill_client();
    if is_held {
        // Kept for a client that may come back, until its next process does.
        pair.start_client().unwrap();
        user.wait_for_close().unwrap();
    } else {
        user.wait_for_close().unwrap();
        traffic::wait_for_port(port, false).unwrap();
        pair.start_client().unwrap();
    }

    EchoConn::open(port).unwrap();
}

/// A pair with one TCP proxy to a service, which ends when it is dropped.
fn one_proxy(sides: &Sides, link: Link, name: &str) -> (Service, Pair) {
    let service = Service::start().unwrap();
    let pair = PairBuilder::new(sides)
        .link(link)
        .proxy(Proxy::tcp(name, service.port()))
        .start()
        .unwrap();
    (service, pair)
}

/// Whether the server keeps the client's connections when it is away: a Holdfast says so.
fn is_held(pair: &Pair) -> bool {
    let log = pair.server().unwrap().log();
    log.contains("connections of this client are kept")
}

/// A reload adds, moves and removes proxies, and users of the others notice nothing.
pub fn reload_leaves_unchanged_proxies_alone(sides: &Sides) {
    let service = Service::start().unwrap();
    let mut pair = PairBuilder::new(sides)
        .proxies([
            Proxy::tcp("stays", service.port()),
            Proxy::tcp("moves", service.port()),
            Proxy::tcp("goes", service.port()),
        ])
        .start()
        .unwrap();
    let [stays, moves, goes] = ["stays", "moves", "goes"].map(|name| pair.port(name).unwrap());
    let mut user = EchoConn::open(stays).unwrap();
    let mark = pair.client().unwrap().mark();

    pair.configure(vec![
        Proxy::tcp("stays", service.port()).at_port(stays),
        Proxy::tcp("moves", service.port()),
        Proxy::tcp("comes", service.port()),
    ])
    .unwrap();
    let (status, output) = pair.frpc("reload").unwrap();

    assert!(status.success(), "{output}");
    assert!(output.contains("reload success"), "{output}");
    let client = pair.client().unwrap();
    for name in ["moves", "comes"] {
        client
            .wait_for_line_after(mark, &format!("[{name}] start proxy success"))
            .unwrap();
        EchoConn::open(pair.port(name).unwrap()).unwrap();
    }
    traffic::wait_for_port(goes, false).unwrap();
    traffic::wait_for_port(moves, false).unwrap();
    user.round().unwrap();
}

/// A file that cannot be read changes nothing.
pub fn reload_of_a_broken_file_changes_nothing(sides: &Sides) {
    let service = Service::start().unwrap();
    let pair = PairBuilder::new(sides)
        .proxy(Proxy::tcp("stays", service.port()))
        .start()
        .unwrap();
    let mut user = EchoConn::open(pair.port("stays").unwrap()).unwrap();

    pair.write_client_file("serverPort = ").unwrap();
    let (status, _) = pair.frpc("reload").unwrap();

    assert!(!status.success());
    user.round().unwrap();
    EchoConn::open(pair.port("stays").unwrap()).unwrap();
}

/// `frpc stop` ends the client, and the server closes its ports.
pub fn stop_ends_the_client_and_its_ports(sides: &Sides) {
    let service = Service::start().unwrap();
    let mut pair = PairBuilder::new(sides)
        .proxy(Proxy::tcp("brief", service.port()))
        .start()
        .unwrap();
    let port = pair.port("brief").unwrap();

    let (status, output) = pair.frpc("stop").unwrap();

    assert!(status.success(), "{output}");
    assert!(output.contains("stop success"), "{output}");
    let client = pair.client_mut().unwrap();
    assert!(client.wait_for_exit().unwrap().success());
    traffic::wait_for_port(port, false).unwrap();
}

/// `frpc status` shows each proxy with its state and address.
pub fn status_lists_the_proxies(sides: &Sides) {
    let service = Service::start().unwrap();
    let pair = PairBuilder::new(sides)
        .proxy(Proxy::tcp("web", service.port()))
        .start()
        .unwrap();

    let (status, output) = pair.frpc("status").unwrap();

    assert!(status.success(), "{output}");
    let row = output
        .lines()
        .find(|line| line.starts_with("web "))
        .unwrap();
    assert!(row.contains("running"), "{row}");
    let port = pair.port("web").unwrap().to_string();
    assert!(row.contains(&port), "{row}");
}

/// A port that the server chooses is told to the client, and works.
pub fn any_port_is_reported(sides: &Sides) {
    let service = Service::start().unwrap();
    let pair = PairBuilder::new(sides)
        .proxy(Proxy::tcp("any", service.port()).at_any_port())
        .start()
        .unwrap();

    let (_, output) = pair.frpc("status").unwrap();

    let row = output
        .lines()
        .find(|line| line.starts_with("any "))
        .unwrap();
    let address = row.split_whitespace().last().unwrap();
    let (host, port) = address.rsplit_once(':').unwrap();
    assert_eq!(host, "127.0.0.1", "{row}");
    EchoConn::open(port.parse().unwrap()).unwrap();
}

/// A visitor with the wrong key is refused, and nobody else.
pub fn wrong_secret_key_is_refused(sides: &Sides) {
    let service = Service::start().unwrap();
    let pair = PairBuilder::new(sides)
        .proxies([
            Proxy::stcp("guessed", service.port()).with_wrong_visitor_key(),
            Proxy::stcp("known", service.port()),
        ])
        .start()
        .unwrap();

    EchoConn::open(pair.port("guessed").unwrap()).unwrap_err();

    let client = pair.client().unwrap();
    client
        .wait_for_line("visitor connection of [guessed] auth failed")
        .unwrap();
    EchoConn::open(pair.port("known").unwrap()).unwrap();
}

/// The visitor of a proxy is a client of its own.
pub fn visitor_reaches_the_proxy_of_another_client(sides: &Sides, link: Link) {
    let service = Service::start().unwrap();
    let pair = PairBuilder::new(sides)
        .link(link)
        .proxy(
            Proxy::stcp("shared", service.port())
                .without_visitor()
                .encrypted()
                .compressed(),
        )
        .start()
        .unwrap();
    let visitor = pair.start_visitor("shared").unwrap();
    visitor.wait_for_line("login to server success").unwrap();

    let port = pair.port("shared").unwrap();
    EchoConn::open(port).unwrap();
    traffic::both_ways(port, MIB, 1).unwrap();
}

/// A client that is asked to end does so, and its users and ports are gone at once.
pub fn terminated_client_leaves_nothing(sides: &Sides) {
    let service = Service::start().unwrap();
    let mut pair = PairBuilder::new(sides)
        .proxy(Proxy::tcp("brief", service.port()))
        .start()
        .unwrap();
    let port = pair.port("brief").unwrap();
    let user = EchoConn::open(port).unwrap();

    pair.client().unwrap().terminate().unwrap();

    pair.client_mut().unwrap().wait_for_exit().unwrap();
    user.wait_for_close().unwrap();
    traffic::wait_for_port(port, false).unwrap();
}

/// A client whose connections the system does not close for it tells the server that it leaves, and
/// ends well.
pub fn terminated_client_takes_its_leave(sides: &Sides, link: Link) {
    let (_service, mut pair) = one_proxy(sides, link, "brief");
    let port = pair.port("brief").unwrap();

    pair.client().unwrap().terminate().unwrap();

    let status = pair.client_mut().unwrap().wait_for_exit().unwrap();
    assert!(status.success(), "{status}");
    traffic::wait_for_port(port, false).unwrap();
    let server = pair.server().unwrap();
    if !is_held(&pair) {
        server.wait_for_line("close proxy [brief] success").unwrap();
    }
    // Where connections are held, goodbye says it all at once.
    server.wait_for_line("client exit success").unwrap();
}

/// A wrong token is refused, and both ends say so in frp's words.
pub fn wrong_token_is_refused(sides: &Sides, link: Link) {
    let service = Service::start().unwrap();
    let mut pair = PairBuilder::new(sides)
        .link(link)
        .proxy(Proxy::tcp("closed", service.port()))
        .start_server()
        .unwrap();
    pair.replace_in_client_file(PairBuilder::TOKEN, "another token")
        .unwrap();

    pair.spawn_client().unwrap();

    let text = "token in login doesn't match token from configuration";
    pair.client().unwrap().wait_for_line(text).unwrap();
    pair.server().unwrap().wait_for_line(text).unwrap();
    traffic::wait_for_port(pair.port("closed").unwrap(), false).unwrap();
}

/// A port that another program has is that proxy's error; the others live.
pub fn taken_port_harms_only_its_own_proxy(sides: &Sides) {
    let service = Service::start().unwrap();
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = occupied.local_addr().unwrap().port();
    let mut pair = PairBuilder::new(sides)
        .proxies([
            Proxy::tcp("unlucky", service.port()).at_port(port),
            Proxy::tcp("well", service.port()),
        ])
        .start_server()
        .unwrap();

    pair.spawn_client().unwrap();

    let client = pair.client().unwrap();
    client.wait_for_line("[unlucky] start error").unwrap();
    client.wait_for_line("[well] start proxy success").unwrap();
    EchoConn::open(pair.port("well").unwrap()).unwrap();
}

/// With `transport.tls.force` the server refuses a client without TLS, and takes one with it.
pub fn forced_tls_refuses_plain_clients(sides: &Sides) {
    let service = Service::start().unwrap();
    let mut pair = PairBuilder::new(sides)
        .server_option("transport.tls.force = true")
        .client_option("transport.tls.enable = false")
        .proxy(Proxy::tcp("secure", service.port()))
        .start_server()
        .unwrap();

    pair.spawn_client().unwrap();
    pair.server()
        .unwrap()
        .wait_for_line("non-TLS connection received on a TlsOnly server")
        .unwrap();
    pair.kill_client();
    pair.replace_in_client_file("tls.enable = false", "tls.enable = true")
        .unwrap();
    pair.start_client().unwrap();

    EchoConn::open(pair.port("secure").unwrap()).unwrap();
}

/// The 0x17 byte before the TLS hello is understood.
pub fn custom_first_byte_is_understood(sides: &Sides) {
    let service = Service::start().unwrap();
    let pair = PairBuilder::new(sides)
        .client_option("transport.tls.disableCustomTLSFirstByte = false")
        .proxy(Proxy::tcp("marked", service.port()))
        .start()
        .unwrap();

    EchoConn::open(pair.port("marked").unwrap()).unwrap();
}

/// The client reaches its server through a proxy, of either kind and with a password.
pub fn client_dials_through_a_proxy(sides: &Sides) {
    let service = Service::start().unwrap();
    for scheme in ["http", "socks5"] {
        let detour = Detour::start("someone", "p@ss word").unwrap();
        let url = format!(
            "{scheme}://someone:p%40ss%20word@127.0.0.1:{}",
            detour.port()
        );
        let pair = PairBuilder::new(sides)
            .client_option(&format!("transport.proxyURL = \"{url}\""))
            .proxy(Proxy::tcp("detour", service.port()))
            .start()
            .unwrap();

        EchoConn::open(pair.port("detour").unwrap()).unwrap();

        assert!(
            detour.n_passed() > 0,
            "the client did not use the {scheme} proxy"
        );
    }
}

/// `bandwidthLimit` slows a transfer down, wherever it is applied.
pub fn bandwidth_limit_is_kept(sides: &Sides) {
    let service = Service::start().unwrap();
    let limited = |name: &str, mode: &str| {
        Proxy::tcp(name, service.port())
            .option("transport.bandwidthLimit = \"512KB\"")
            .option(&format!("transport.bandwidthLimitMode = \"{mode}\""))
    };
    let pair = PairBuilder::new(sides)
        .proxies([
            limited("by-client", "client"),
            limited("by-server", "server"),
        ])
        .start()
        .unwrap();

    for name in ["by-client", "by-server"] {
        let start = Instant::now();
        traffic::download(pair.port(name).unwrap(), MIB, 1).unwrap();
        let took = start.elapsed();
        // The first second's worth passes at once, and the last chunk is paid for afterwards.
        assert!(
            took > Duration::from_millis(600),
            "{name}: 1 MiB in {took:?}"
        );
        assert!(took < Duration::from_secs(6), "{name}: 1 MiB in {took:?}");
    }
}

/// 64 MiB, or 1 GiB when `FULL` is set.
fn large_transfer_len() -> u64 {
    match env::var("FULL") {
        Ok(value) if !value.is_empty() => 1024 * MIB,
        _ => 64 * MIB,
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
