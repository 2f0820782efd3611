//! What users notice when a client changes its carrier towards a server that holds no connections:
//! frp's, or ours with `transport.hold.enable = false`.

use std::thread;

use anyhow::{Context, Result, ensure};

use crate::process::Mark;
use crate::traffic::{self, EchoConn};
use crate::{Forwarder, Link, Pair, PairBuilder, Proxy, Service, Sides};

/// Long enough in a build without optimisation to last beyond a switch.
const DOWNLOAD: u64 = 32 * 1024 * 1024;

/// A client that reaches its server through a forwarder only, over QUIC or TCP.
struct Rig {
    pair: Pair,
    forwarder: Forwarder,
    _service: Service,
}

impl Rig {
    fn start(sides: &Sides, transport_line: &str) -> Result<Self> {
        let service = Service::start()?;
        let mut builder = PairBuilder::new(sides)
            .link(Link::QUIC)
            .proxy(Proxy::tcp("echo", service.port()))
            .client_option(
                "transport.auto.endpoints = [{ transport = \"quic\", port = PORT }, \
                 { transport = \"tcp\", port = PORT }]",
            )
            // QUIC is to be first, also on a machine that is busy.
            .client_option("transport.auto.tcpAfterMs = 2000");
        if sides.server.name() == "holdfast" {
            builder = builder.server_option("transport.hold.enable = false");
        }
        let mut pair = builder.start_server()?;
        let forwarder = Forwarder::start(pair.bind_port())?;
        let (direct, forwarded) = (pair.bind_port(), forwarder.port());
        for (old, new) in [
            (
                format!("serverPort = {direct}"),
                format!("serverPort = {forwarded}"),
            ),
            ("PORT".to_owned(), forwarded.to_string()),
            (
                "transport.protocol = \"quic\"".to_owned(),
                transport_line.to_owned(),
            ),
        ] {
            pair.replace_in_client_file(&old, &new)?;
        }
        pair.start_client()?;
        Ok(Self {
            pair,
            forwarder,
            _service: service,
        })
    }

    /// The client goes over: it has logged in again, and its proxy runs again.
    fn wait_for_switch(&self, mark: Mark, line: &str) -> Result<()> {
        let client = self.pair.client()?;
        client.wait_for_line_after(mark, line)?;
        client.wait_for_line_after(mark, "login to server success")?;
        client.wait_for_line_after(mark, "[echo] start proxy success")?;
        Ok(())
    }
}

const AUTO: &str = "transport.protocol = \"auto\"";
const FALLBACK: &str = "transport.protocol = \"quic\"\ntransport.auto.fallback = [\"tcp\"]";

/// Somebody switches by hand, there and back: what runs goes on, what comes is served.
pub fn switches_by_hand(sides: &Sides) -> Result<()> {
    let rig = Rig::start(sides, AUTO)?;
    let port = rig.pair.port("echo")?;
    let mut conns = vec![EchoConn::open(port)?];
    let download = thread::spawn(move || traffic::download(port, DOWNLOAD, 11));
    for transport in ["tcp", "quic", "tcp"] {
        let mark = rig.pair.client()?.mark();
        let (status, text) = rig.pair.frpc_with("switch", &[transport])?;
        ensure!(status.success(), "{text}");
        rig.wait_for_switch(mark, &format!("to {transport}: manual"))?;
        conns.push(EchoConn::open(port)?);
        for conn in &mut conns {
            conn.round()?;
        }
        let (_, status) = rig.pair.frpc("status")?;
        ensure!(
            status.contains(&format!("to {transport}: manual")),
            "{status}"
        );
    }
    // It is checked to the last byte.
    #[expect(clippy::expect_used, reason = "a panic in the thread is this test's")]
    download.join().expect("the download")?;
    for conn in &mut conns {
        conn.round()?;
    }
    Ok(())
}

/// UDP falls silent: what comes is served over TCP before anybody has waited for a heartbeat, and
/// what was open goes on when UDP is back.
pub fn leaves_a_silent_carrier(sides: &Sides) -> Result<()> {
    for transport_line in [AUTO, FALLBACK] {
        let rig = Rig::start(sides, transport_line)?;
        let port = rig.pair.port("echo")?;
        let client = rig.pair.client()?;
        client.wait_for_line("use quic: connected")?;
        let mut old = EchoConn::open(port)?;
        let mark = client.mark();

        rig.forwarder.set_udp(false);

        rig.wait_for_switch(mark, "switched from quic to tcp: silent")?;
        EchoConn::open(port)?;
        rig.forwarder.set_udp(true);
        let server_log = rig.pair.server()?.log();
        old.round()
            .with_context(|| format!("{server_log}\n{}", client.log()))?;
        let log = client.log();
        ensure!(!log.contains("heartbeat timeout"), "{log}");
    }
    Ok(())
}

/// The same in a dry run: it is told what would be done, and there is no second login.
pub fn only_tells_in_a_dry_run(sides: &Sides) -> Result<()> {
    let rig = Rig::start(sides, &format!("{AUTO}\ntransport.auto.dryRun = true"))?;
    let client = rig.pair.client()?;
    client.wait_for_line("use quic: connected")?;
    let mut old = EchoConn::open(rig.pair.port("echo")?)?;
    let mark = client.mark();

    rig.forwarder.set_udp(false);

    client.wait_for_line_after(mark, "would have switched from quic to tcp: silent")?;
    rig.forwarder.set_udp(true);
    old.round()?;
    let n_logins = client.log().matches("login to server success").count();
    ensure!(n_logins == 1, "{n_logins} logins");
    Ok(())
}
