//! One server and its clients: real processes on loopback.

use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use netem_tests::{Process, Programs, Service, free_port};
use tempfile::TempDir;

use super::users::EchoService;
use crate::stop;

/// Everything that runs. Dropping it ends all.
pub(super) struct Farm {
    // Fields drop in this order: the clients end before the server does, and it before its files go.
    pub(super) clients: Vec<Client>,
    pub(super) server: Process,
    echo: EchoService,
    bulk: Service,
    programs: Programs,
    bind_port: u16,
    server_alone_kib: u64,
    dir: TempDir,
}

/// One frpc, and where users reach its proxies.
pub(super) struct Client {
    process: Process,
    ports: Vec<u16>,
    behind: Behind,
}

/// What is behind a client's proxies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    /// What is said comes back.
    Echo,
    /// As many bytes as somebody wants.
    Bulk,
}

/// What a process holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    pub(super) kib: u64,
    pub(super) n_files: usize,
}

impl Farm {
    pub(super) fn open() -> Result<Self> {
        let programs = Programs::ours()?;
        let dir = tempfile::Builder::new().prefix("holdfast-").tempdir()?;
        let bind_port = free_port()?;
        let text = format!(
            "bindAddr = \"127.0.0.1\"\nbindPort = {bind_port}\ntransport.auto.enable = true\n{COMMON}"
        );
        fs::write(dir.path().join("frps.toml"), text)
            .context("cannot write the server's configuration")?;
        let args = ["-c", "frps.toml"];
        let server = Process::start("frps", programs.frps(), &args, dir.path())?;
        server.wait_for_line("frps started successfully")?;
        thread::sleep(SETTLE);
        let server_alone_kib = server.rss_kib()?;
        Ok(Self {
            clients: Vec::new(),
            server,
            echo: EchoService::start(dir.path())?,
            bulk: Service::start()?,
            programs,
            bind_port,
            server_alone_kib,
            dir,
        })
    }

    pub(super) fn server_alone_mib(&self) -> f64 {
        self.server_alone_kib as f64 / 1024.0
    }

    /// Starts `n` clients with `n_proxies` each, and waits until every proxy runs.
    pub(super) fn add_clients(&mut self, n: usize, n_proxies: usize, behind: Behind) -> Result<()> {
        let mut left = n;
        while left > 0 {
            stop::check()?;
            let group = left.min(GROUP);
            let first = self.clients.len();
            for _ in 0..group {
                let client = self.start_client(n_proxies, behind)?;
                self.clients.push(client);
            }
            for (number, client) in self.clients.iter().enumerate().skip(first) {
                for proxy in 0..n_proxies {
                    let line = format!("[p{number}-{proxy}] start proxy success");
                    client.process.wait_for_line(&line)?;
                }
            }
            left -= group;
        }
        thread::sleep(SETTLE);
        Ok(())
    }

    /// Where users reach what is behind: of all clients.
    pub(super) fn ports(&self, behind: Behind) -> Vec<u16> {
        let clients = self.clients.iter().filter(|client| client.behind == behind);
        let ports = clients.flat_map(|client| client.ports.iter().copied());
        ports.collect()
    }

    /// What the server holds beyond what it held alone.
    pub(super) fn server_weight(&self) -> Result<Weight> {
        Ok(Weight {
            kib: self.server.rss_kib()?.saturating_sub(self.server_alone_kib),
            n_files: self.server.n_descriptors()?,
        })
    }

    /// What all clients hold together. Their programs' pages are shared, and counted once by the
    /// system: only their own count here.
    pub(super) fn clients_weight(&self) -> Result<Weight> {
        let mut all = Weight::default();
        for client in &self.clients {
            all.kib += client.process.own_kib()?;
            all.n_files += client.process.n_descriptors()?;
        }
        Ok(all)
    }

    /// What the client holds for itself that came last.
    pub(super) fn own_kib_of_last(&self) -> Result<u64> {
        let last = self.clients.last().context("there is no client")?;
        last.process.own_kib()
    }

    /// CPU time of the server, and of all clients.
    pub(super) fn cpu(&self) -> Result<(Duration, Duration)> {
        let mut clients = Duration::ZERO;
        for client in &self.clients {
            clients += client.process.cpu_time()?;
        }
        Ok((self.server.cpu_time()?, clients))
    }

    fn start_client(&self, n_proxies: usize, behind: Behind) -> Result<Client> {
        let number = self.clients.len();
        let mut text = format!(
            "serverAddr = \"127.0.0.1\"\nserverPort = {}\nloginFailExit = false\n\
             transport.protocol = \"auto\"\n{COMMON}",
            self.bind_port
        );
        let mut ports = Vec::new();
        for proxy in 0..n_proxies {
            let local_port = match behind {
                Behind::Echo => self.echo.port(number + proxy),
                Behind::Bulk => self.bulk.port(),
            };
            let port = free_port()?;
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n[[proxies]]\nname = \"p{number}-{proxy}\"\ntype = \"tcp\"\n\
                 localPort = {local_port}\nremotePort = {port}\n"
            );
            ports.push(port);
        }
        let file = format!("frpc-{number}.toml");
        fs::write(self.dir.path().join(&file), text)
            .context("cannot write a client's configuration")?;
        let name = format!("frpc-{number}");
        let args = ["-c", file.as_str()];
        let process = Process::start(&name, self.programs.frpc(), &args, self.dir.path())?;
        Ok(Client {
            process,
            ports,
            behind,
        })
    }
}

/// Says whether the machine has memory for some more.
pub(super) fn has_room() -> Result<bool> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.context("no MemAvailable in /proc/meminfo")?;
    let kib: u64 = kib.trim().trim_end_matches(" kB").parse()?;
    Ok(kib > MEMORY_LEFT_KIB)
}

const COMMON: &str =
    "auth.token = \"under load\"\nlog.level = \"info\"\nlog.disablePrintColor = true\n";

/// How many clients start together: a machine's cores, and some that wait for answers.
const GROUP: usize = 10;

/// What is left to the rest of the machine.
const MEMORY_LEFT_KIB: u64 = 2 * 1024 * 1024;

/// How long memory is given to settle.
pub(super) const SETTLE: Duration = Duration::from_millis(700);
