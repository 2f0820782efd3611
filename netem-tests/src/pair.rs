//! A server and a client with a service behind them.

use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::process::AUTHORITIES;
use crate::{
    Certificates, Lab, Link, Mux, PATIENCE, Place, Process, Proxy, Sides, Tls, TlsTerminator,
    Transport, Wire, free_port, prometheus, traffic,
};

/// What a pair will be: whose programs, connected how, with which proxies.
#[derive(Debug)]
pub struct PairBuilder {
    sides: Sides,
    link: Link,
    proxies: Vec<Proxy>,
    log_level: &'static str,
    server_options: String,
    client_options: String,
    places: Option<(Place, Place)>,
    is_behind_tls: bool,
    authorities: Option<String>,
    metrics_port: Option<u16>,
    admin_port: Option<u16>,
}

impl PairBuilder {
    /// The token that both configurations hold.
    pub const TOKEN: &str = "a token for tests";

    /// A pair on frp's default link.
    pub fn new(sides: &Sides) -> Self {
        Self {
            sides: sides.clone(),
            link: Link::DEFAULT,
            proxies: Vec::new(),
            log_level: "debug",
            server_options: String::new(),
            client_options: String::new(),
            places: None,
            is_behind_tls: false,
            authorities: None,
            metrics_port: None,
            admin_port: None,
        }
    }

    /// Connects the two over `link`.
    pub fn link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }

    /// Puts the server on the near side of `lab` and the client on the far side. Services must be
    /// started there too (`lab.far().enter(|| Service::start())`), and users act on the near side
    /// ([`Pair::as_user`]).
    pub fn in_lab(mut self, lab: &Lab) -> Self {
        self.places = Some((lab.near().clone(), lab.far().clone()));
        self
    }

    /// Puts a [`TlsTerminator`] in front of the server, and has the client connect to that.
    pub fn behind_tls(mut self) -> Self {
        self.is_behind_tls = true;
        self
    }

    /// Has the server tell its metrics ([`Pair::server_metrics`]).
    pub fn with_metrics(mut self) -> Result<Self> {
        let port = free_port()?;
        self.metrics_port = Some(port);
        let lines = format!("webServer.port = {port}\nenablePrometheus = true");
        Ok(self.server_option(&lines))
    }

    /// Has the client tell its metrics ([`Pair::client_metrics`]), and publishes them as
    /// [`CLIENT_METRICS`].
    pub fn with_client_metrics(mut self) -> Result<Self> {
        let port = free_port()?;
        self.admin_port = Some(port);
        let this = self.client_option("enablePrometheus = true");
        Ok(this.proxy(Proxy::tcp(CLIENT_METRICS, port)))
    }

    /// Logs as little as users' programs do, and not every turn: for measuring.
    pub fn quiet(mut self) -> Self {
        self.log_level = "info";
        self
    }

    /// Adds a proxy.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxies.push(proxy);
        self
    }

    /// Adds proxies.
    pub fn proxies(mut self, proxies: impl IntoIterator<Item = Proxy>) -> Self {
        self.proxies.extend(proxies);
        self
    }

    /// Adds a line to the server's configuration.
    pub fn server_option(mut self, line: &str) -> Self {
        push_line(&mut self.server_options, line);
        self
    }

    /// Adds a line to the client's configuration.
    pub fn client_option(mut self, line: &str) -> Self {
        push_line(&mut self.client_options, line);
        self
    }

    /// Has both take these authorities, in PEM, for the system's.
    pub fn system_trusts(mut self, authorities: &str) -> Self {
        self.authorities = Some(authorities.to_owned());
        self
    }

    /// Starts both, and returns once every proxy runs and every visitor listens.
    pub fn start(self) -> Result<Pair> {
        let mut pair = self.start_server()?;
        pair.start_client()?;
        Ok(pair)
    }

    /// Writes both configurations and starts only the server.
    pub fn start_server(self) -> Result<Pair> {
        let mut pair = self.configure()?;
        pair.start_server()?;
        Ok(pair)
    }

    /// Writes both configurations and starts nothing.
    pub fn configure(self) -> Result<Pair> {
        let dir = tempfile::Builder::new().prefix("holdfast-").tempdir()?;
        if let Some(authorities) = &self.authorities {
            write(dir.path(), AUTHORITIES, authorities)?;
        }
        let bind_port = free_port()?;
        let admin_port = match self.admin_port {
            Some(port) => port,
            None => free_port()?,
        };
        let (server_tls, client_tls) = tls_lines(self.link.tls, dir.path())?;
        let mux = match self.link.mux {
            Mux::On => "",
            Mux::Off => "transport.tcpMux = false\n",
        };
        let wire = match self.link.wire {
            Wire::V1 => "",
            Wire::V2 => "transport.wireProtocol = \"v2\"\n",
        };
        // QUIC or KCP and TCP may have the same port.
        let (server_transport, client_transport) = match self.link.transport {
            Transport::Tcp => (String::new(), ""),
            Transport::Websocket => (String::new(), "transport.protocol = \"websocket\"\n"),
            Transport::Wss => (String::new(), "transport.protocol = \"wss\"\n"),
            Transport::Kcp => (
                format!("kcpBindPort = {bind_port}\n"),
                "transport.protocol = \"kcp\"\n",
            ),
            Transport::Quic => (
                format!("quicBindPort = {bind_port}\n"),
                "transport.protocol = \"quic\"\n",
            ),
            Transport::Auto => (
                "transport.auto.enable = true\n".to_owned(),
                "transport.protocol = \"auto\"\n",
            ),
        };
        let common = format!(
            "auth.token = \"{}\"\nlog.level = \"{}\"\nlog.disablePrintColor = true\n",
            Self::TOKEN,
            self.log_level
        );
        let server_address = match &self.places {
            Some((near, _)) => near.address(),
            None => Ipv4Addr::LOCALHOST.into(),
        };
        // Users in a lab connect to loopback as elsewhere, and the client does not.
        let bind_address = match &self.places {
            Some(_) => Ipv4Addr::UNSPECIFIED,
            None => Ipv4Addr::LOCALHOST,
        };
        let terminator = if self.is_behind_tls {
            let near = self.places.as_ref().map(|(near, _)| near);
            Some(inside(near, || TlsTerminator::start(bind_port))?)
        } else {
            None
        };
        let dialled_port = terminator.as_ref().map_or(bind_port, TlsTerminator::port);
        let server_toml = format!(
            "bindAddr = \"{bind_address}\"\nbindPort = {bind_port}\n{server_transport}{common}{mux}\
             {server_tls}{}",
            self.server_options
        );
        let client_toml = format!(
            "serverAddr = \"{server_address}\"\nserverPort = {dialled_port}\nloginFailExit = false\n\
             {WEB_SERVER_KEY}port = {admin_port}\n{client_transport}{common}{mux}{wire}\
             {client_tls}{}",
            self.client_options
        );
        let mut pair = Pair {
            server_path: write(dir.path(), "frps.toml", &server_toml)?,
            client_path: dir.path().join("frpc.toml"),
            server: None,
            client: None,
            _terminator: terminator,
            bind_port,
            metrics_port: self.metrics_port,
            admin_port,
            sides: self.sides,
            proxies: Vec::new(),
            client_toml,
            places: self.places,
            dir,
        };
        pair.configure(self.proxies)?;
        Ok(pair)
    }
}

/// The proxy over which the metrics of a client are to be had at the server.
pub const CLIENT_METRICS: &str = "client-metrics";

/// A running server and client. Dropping it ends both and removes their files.
#[derive(Debug)]
pub struct Pair {
    // The programs end before the directory goes in which they run: fields drop in this order.
    server: Option<Process>,
    client: Option<Process>,
    _terminator: Option<TlsTerminator>,
    bind_port: u16,
    metrics_port: Option<u16>,
    admin_port: u16,
    sides: Sides,
    server_path: PathBuf,
    client_path: PathBuf,
    proxies: Vec<Proxy>,
    client_toml: String,
    places: Option<(Place, Place)>,
    dir: TempDir,
}

impl Pair {
    /// Starts the server and waits until it listens.
    pub fn start_server(&mut self) -> Result<()> {
        let config = path_text(&self.server_path)?;
        let program = self.sides.server.frps();
        let server = Process::start_in(
            self.near(),
            "frps",
            program,
            &["-c", config],
            self.dir.path(),
        )?;
        server.wait_for_line("frps started successfully")?;
        self.server = Some(server);
        Ok(())
    }

    /// Starts the client and waits until every proxy runs and every visitor listens.
    pub fn start_client(&mut self) -> Result<()> {
        self.spawn_client()?;
        let client = self.client()?;
        for proxy in &self.proxies {
            client.wait_for_line(&format!("[{}] start proxy success", proxy.name))?;
            if proxy.is_visited_at_home() {
                inside(self.far(), || traffic::wait_for_port(proxy.user_port, true))?;
            }
        }
        Ok(())
    }

    /// Starts the client and waits for nothing.
    pub fn spawn_client(&mut self) -> Result<()> {
        let config = path_text(&self.client_path)?;
        let program = self.sides.client.frpc();
        let client = Process::start_in(
            self.far(),
            "frpc",
            program,
            &["-c", config],
            self.dir.path(),
        )?;
        self.client = Some(client);
        Ok(())
    }

    /// Starts a further client that visits the proxy `name`, and waits until it listens. Its
    /// program is that of the server's side, so that three different pairs of programs can meet.
    pub fn start_visitor(&self, name: &str) -> Result<Process> {
        let mut toml = self.client_toml.replace(WEB_SERVER_KEY, "# no ");
        let proxy = self.proxy(name)?;
        proxy.write_visitor(&mut toml)?;
        let path = write(self.dir.path(), "visitor.toml", &toml)?;
        let program = self.sides.server.frpc();
        let config = path_text(&path)?;
        let visitor = Process::start_in(
            self.far(),
            "visitor",
            program,
            &["-c", config],
            self.dir.path(),
        )?;
        inside(self.far(), || traffic::wait_for_port(proxy.user_port, true))?;
        Ok(visitor)
    }

    /// Acts as a user: on the near side in a lab, else right here. The visitors of `stcp` proxies
    /// run in the client, on the far side.
    pub fn as_user<R: Send>(&self, act: impl FnOnce() -> R + Send) -> R {
        inside(self.near(), act)
    }

    /// Ends the server as a crash would.
    pub fn kill_server(&mut self) {
        self.server = None;
    }

    /// Ends the client as a crash would.
    pub fn kill_client(&mut self) {
        self.client = None;
    }

    /// Writes the client's configuration anew, with `proxies` in the place of those it had.
    pub fn configure(&mut self, proxies: Vec<Proxy>) -> Result<()> {
        self.proxies = proxies;
        for proxy in &mut self.proxies {
            if proxy.user_port == 0 {
                proxy.user_port = free_port()?;
            }
        }
        let mut toml = self.client_toml.clone();
        for proxy in &self.proxies {
            proxy.write_toml(&mut toml)?;
        }
        self.write_client_file(&toml)
    }

    /// Puts `text` in the place of the client's configuration.
    pub fn write_client_file(&self, text: &str) -> Result<()> {
        fs::write(&self.client_path, text).context("cannot write the client's configuration")
    }

    /// Changes the client's configuration as an editor would.
    pub fn replace_in_client_file(&self, old: &str, new: &str) -> Result<()> {
        let text = fs::read_to_string(&self.client_path)?;
        ensure!(text.contains(old), "the configuration holds no {old}");
        self.write_client_file(&text.replace(old, new))
    }

    /// Says whether both programs would take their configuration (`verify`), and if one would not,
    /// what it said.
    pub fn refusal(&self) -> Result<Option<String>> {
        for (place, program, path) in [
            (self.near(), self.sides.server.frps(), &self.server_path),
            (self.far(), self.sides.client.frpc(), &self.client_path),
        ] {
            let args = ["verify", "-c", path_text(path)?];
            let (status, output) = Process::run(place, program, &args, self.dir.path(), PATIENCE)?;
            if !status.success() {
                // Where the file was says nothing: it is gone by then.
                let dir = format!("{}/", self.dir.path().display());
                return Ok(Some(output.replace(&dir, "")));
            }
        }
        Ok(None)
    }

    /// Writes the logs of both programs into `dir`.
    pub fn save_logs(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        for (name, program) in [("frps.log", &self.server), ("frpc.log", &self.client)] {
            if let Some(program) = program {
                fs::write(dir.join(name), program.log())?;
            }
        }
        Ok(())
    }

    /// Runs `frpc` with `command` (`reload`, `status`, ...) and the client's configuration.
    pub fn frpc(&self, command: &str) -> Result<(ExitStatus, String)> {
        self.frpc_with(command, &[])
    }

    /// The same with `words` behind the command.
    pub fn frpc_with(&self, command: &str, words: &[&str]) -> Result<(ExitStatus, String)> {
        let config = path_text(&self.client_path)?;
        let mut args = vec![command];
        args.extend(words);
        args.extend(["-c", config]);
        let frpc = self.sides.client.frpc();
        Process::run(self.far(), frpc, &args, self.dir.path(), COMMAND_PATIENCE)
    }

    /// Returns the directory that everything of the pair is in.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the client's configuration file.
    pub fn client_file(&self) -> &Path {
        &self.client_path
    }

    /// Takes a client that was started otherwise, with the client's configuration file.
    pub fn adopt_client(&mut self, client: Process) {
        self.client = Some(client);
    }

    /// Returns the port at which users reach the proxy `name`.
    pub fn port(&self, name: &str) -> Result<u16> {
        Ok(self.proxy(name)?.user_port)
    }

    /// Returns the port at which clients reach the server: of TCP, and of UDP if it is used.
    pub fn bind_port(&self) -> u16 {
        self.bind_port
    }

    /// Returns the server's metrics, as text.
    pub fn server_metrics(&self) -> Result<String> {
        self.ask_server("/metrics")
    }

    /// Returns the port of the server's metrics.
    pub fn metrics_port(&self) -> Result<u16> {
        self.metrics_port.context("the server has no metrics")
    }

    /// Returns the client's metrics, as text.
    pub fn client_metrics(&self) -> Result<String> {
        self.client_page("/metrics")
    }

    /// Returns a page of the client's admin interface.
    pub fn client_page(&self, path: &str) -> Result<String> {
        self.client_page_within(path, PATIENCE)
    }

    /// The same of a client that may not run.
    pub fn client_page_within(&self, path: &str, patience: Duration) -> Result<String> {
        inside(self.far(), || {
            prometheus::get_within(self.admin_port, path, patience)
        })
    }

    /// Returns how many tasks the server has, which must have `webServer.pprofEnable`.
    pub fn n_server_tasks(&self) -> Result<usize> {
        let answer = self.ask_server("/debug/pprof/goroutine")?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
        let number = body.split_whitespace().next().context("no number")?;
        number
            .parse()
            .with_context(|| format!("{number} is no number of tasks"))
    }

    fn ask_server(&self, path: &str) -> Result<String> {
        let port = self.metrics_port.context("the server has no metrics")?;
        inside(self.near(), || {
            let mut conn = traffic::connect(port)?;
            let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
            conn.write_all(request.as_bytes())?;
            let mut text = String::new();
            conn.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// Returns the running server.
    pub fn server(&self) -> Result<&Process> {
        self.server.as_ref().context("the server is not running")
    }

    /// Returns the running client.
    pub fn client(&self) -> Result<&Process> {
        self.client.as_ref().context("the client is not running")
    }

    /// Returns the CPU time that server and client have used.
    pub fn cpu_time(&self) -> Result<Duration> {
        Ok(self.server()?.cpu_time()? + self.client()?.cpu_time()?)
    }

    /// Returns the running client, to wait for its end.
    pub fn client_mut(&mut self) -> Result<&mut Process> {
        self.client.as_mut().context("the client is not running")
    }

    fn near(&self) -> Option<&Place> {
        self.places.as_ref().map(|(near, _)| near)
    }

    fn far(&self) -> Option<&Place> {
        self.places.as_ref().map(|(_, far)| far)
    }

    fn proxy(&self, name: &str) -> Result<&Proxy> {
        let proxy = self.proxies.iter().find(|proxy| proxy.name == name);
        proxy.with_context(|| format!("no proxy {name}"))
    }
}

fn inside<R: Send>(place: Option<&Place>, act: impl FnOnce() -> R + Send) -> R {
    match place {
        Some(place) => place.enter(act),
        None => act(),
    }
}

/// Returns what the configurations of server and client say about TLS.
fn tls_lines(tls: Tls, dir: &Path) -> Result<(String, String)> {
    Ok(match tls {
        Tls::Default => (String::new(), String::new()),
        Tls::Off => (String::new(), "transport.tls.enable = false\n".to_owned()),
        Tls::Mutual => {
            let certificates = Certificates::write(dir)?;
            let client = format!(
                "{}transport.tls.serverName = \"{}\"\n",
                certificates.toml("client"),
                Certificates::SERVER_NAME
            );
            (certificates.toml("server"), client)
        }
    })
}

fn write(dir: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .context("the temporary directory is not UTF-8")
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// For a command of frpc's: the longest, `doctor`, tries dead ways twice and measures the others.
const COMMAND_PATIENCE: Duration = Duration::from_secs(180);

/// Only one of several clients has an admin API.
const WEB_SERVER_KEY: &str = "webServer.";
