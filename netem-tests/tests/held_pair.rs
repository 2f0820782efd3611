//! Our server with our client, and what users notice when the carrier between the two is cut.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::thread;

use netem_tests::traffic::{self, EchoConn};
use netem_tests::{Forwarder, Pair, PairBuilder, Proxy, Service, Sides};

/// Some seconds of a build without optimisation, so that there is time to cut something.
const DOWNLOAD: u64 = 64 * 1024 * 1024;

struct Rig {
    pair: Pair,
    forwarder: Forwarder,
    _service: Service,
    _state: tempfile::TempDir,
}

impl Rig {
    /// A client that reaches its server through a forwarder only.
    fn start(client_options: &str) -> Self {
        let service = Service::start().unwrap();
        let state = tempfile::Builder::new().prefix("holdfast-state-").tempdir();
        let state = state.unwrap();
        let mut pair = PairBuilder::new(&Sides::ours().unwrap())
            .proxy(Proxy::tcp("echo", service.port()))
            .server_option("transport.auto.enable = true")
            .client_option(&format!("stateDir = \"{}\"", state.path().display()))
            .client_option(client_options)
            .start_server()
            .unwrap();
        let forwarder = Forwarder::start(pair.bind_port()).unwrap();
        let (direct, forwarded) = (pair.bind_port(), forwarder.port());
        pair.replace_in_client_file(
            &format!("serverPort = {direct}"),
            &format!("serverPort = {forwarded}"),
        )
        .unwrap();
        pair.replace_in_client_file("PORT", &forwarded.to_string())
            .unwrap();
        pair.start_client().unwrap();
        Self {
            pair,
            forwarder,
            _service: service,
            _state: state,
        }
    }

    fn port(&self) -> u16 {
        self.pair.port("echo").unwrap()
    }
}

/// The endpoints are named, since what the server tells leads past the forwarder.
const PINNED: &str = "# PORT";
const AUTO: &str = "transport.protocol = \"auto\"\n\
     transport.auto.endpoints = [{ transport = \"quic\", port = PORT }, { transport = \"tcp\", port = PORT }]";

#[test]
fn a_download_goes_on_intact_while_its_tcp_connection_is_cut_again_and_again() {
    let rig = Rig::start(PINNED);
    let port = rig.port();
    let download = thread::spawn(move || traffic::download(port, DOWNLOAD, 7));
    let mut idle = EchoConn::open(port).unwrap();
    let mut n_cut = 0;
    while !download.is_finished() {
        n_cut += rig.forwarder.cut_tcp();
        idle.round().unwrap();
        thread::sleep(std::time::Duration::from_millis(300));
    }
    download.join().unwrap().unwrap();
    assert!(n_cut > 0);
    traffic::upload(port, 1024 * 1024, 8).unwrap();
}

#[test]
fn auto_takes_quic_and_goes_over_to_tcp_when_udp_stops() {
    let rig = Rig::start(AUTO);
    let client = rig.pair.client().unwrap();
    let mut idle = EchoConn::open(rig.port()).unwrap();
    client.wait_for_line("quic").unwrap();
    let port = rig.port();
    let download = thread::spawn(move || traffic::download(port, DOWNLOAD, 9));

    rig.forwarder.set_udp(false);

    client.wait_for_line("switched from quic to tcp").unwrap();
    idle.round().unwrap();
    download.join().unwrap().unwrap();
}

#[test]
fn auto_is_up_over_tcp_where_udp_never_passes() {
    let service = Service::start().unwrap();
    // The server has no QUIC and no KCP, and so the host answers that nobody listens.
    let pair = PairBuilder::new(&Sides::ours().unwrap())
        .proxy(Proxy::tcp("echo", service.port()))
        .client_option("transport.protocol = \"auto\"")
        .start()
        .unwrap();
    EchoConn::open(pair.port("echo").unwrap()).unwrap();
    let log = pair.client().unwrap().log();
    assert!(log.contains("use tcp: connected"), "{log}");
}

#[test]
fn a_server_that_was_killed_has_its_proxies_back() {
    let mut rig = Rig::start(AUTO);
    let conn = EchoConn::open(rig.port()).unwrap();
    let mark = rig.pair.client().unwrap().mark();

    rig.pair.kill_server();
    rig.pair.start_server().unwrap();

    let client = rig.pair.client().unwrap();
    client
        .wait_for_line_after(mark, "[echo] start proxy success")
        .unwrap();
    conn.wait_for_close().unwrap();
    EchoConn::open(rig.port()).unwrap();
}

#[test]
fn a_client_that_was_killed_takes_its_port_and_its_users_connections_end() {
    let mut rig = Rig::start(AUTO);
    let conn = EchoConn::open(rig.port()).unwrap();

    rig.pair.kill_client();
    rig.pair.start_client().unwrap();

    conn.wait_for_close().unwrap();
    EchoConn::open(rig.port()).unwrap();
    let log = rig.pair.client().unwrap().log();
    assert!(!log.contains("port already used"), "{log}");
}

#[test]
fn a_client_that_is_stopped_leaves_no_user_waiting() {
    let rig = Rig::start(PINNED);
    let conn = EchoConn::open(rig.port()).unwrap();
    rig.pair.client().unwrap().terminate().unwrap();
    // Well within the grace time.
    conn.wait_for_close().unwrap();
}

#[test]
fn a_switch_by_hand_is_made_and_taken_back() {
    let rig = Rig::start(AUTO);
    let mut conn = EchoConn::open(rig.port()).unwrap();
    let client = rig.pair.client().unwrap();
    // The first of them may be in use already; the second is not then.
    for transport in ["tcp", "quic"] {
        let (status, text) = rig.pair.frpc_with("switch", &[transport]).unwrap();
        assert!(status.success(), "{text}");
        conn.round().unwrap();
    }
    client.wait_for_line("to quic: manual").unwrap();
    conn.round().unwrap();
    let (status, text) = rig.pair.frpc_with("switch", &["kcp"]).unwrap();
    assert!(!status.success());
    assert!(text.contains("not among the ways"), "{text}");
    let (status, text) = rig.pair.frpc_with("switch", &["auto"]).unwrap();
    assert!(status.success(), "{text}");
    conn.round().unwrap();
}
