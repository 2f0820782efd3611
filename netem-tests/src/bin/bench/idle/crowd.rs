//! Clients on one side of a link, and their server on the other.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netem_tests::lab::BackEnd;
use netem_tests::traffic::EchoConn;
use netem_tests::{Lab, Process, Profile, Programs, Service, events};
use tempfile::TempDir;

use super::{COMING, FRPC_MIB, FRPC_OWN_MIB, FRPS_KIB_EACH, FRPS_MIB, N_CLIENTS, N_SWITCHES, keys};
use crate::stop;

/// A server and as many clients as have come.
pub(super) struct Crowd {
    // Fields drop in this order: the programs end before the network does that they use.
    clients: Vec<Process>,
    server: Process,
    service: Service,
    lab: Lab,
    programs: Programs,
    /// What the server held before anybody came, in KiB.
    server_alone_kib: u64,
    coming: Duration,
    dir: TempDir,
}

/// What has been used up to some moment.
struct Meter {
    at: Instant,
    n_bytes: u64,
    server_cpu: Duration,
    client_cpu: Duration,
}

impl Crowd {
    /// Makes the link and starts the server.
    pub(super) fn open(name: &str, seed: u64) -> Result<Self> {
        let programs = Programs::ours()?;
        let lab = Lab::start_on(BackEnd::UserSpace, name, &Profile::default(), seed)?;
        let service = lab.far().enter(Service::start)?;
        let dir = tempfile::Builder::new().prefix("holdfast-").tempdir()?;
        let text = format!(
            "bindAddr = \"{}\"\nbindPort = {BIND_PORT}\ntransport.auto.enable = true\n{COMMON}",
            Ipv4Addr::UNSPECIFIED
        );
        let path = dir.path().join("frps.toml");
        fs::write(&path, text).context("cannot write the server's configuration")?;
        let server = Process::start_in(
            Some(lab.near()),
            "frps",
            programs.frps(),
            &["-c", "frps.toml"],
            dir.path(),
        )?;
        server.wait_for_line("frps started successfully")?;
        thread::sleep(SETTLE);
        let server_alone_kib = server.rss_kib()?;
        Ok(Self {
            clients: Vec::new(),
            server,
            service,
            lab,
            programs,
            server_alone_kib,
            coming: Duration::ZERO,
            dir,
        })
    }

    /// Starts `n` clients, and waits until the proxy of each runs. Fewer come where the machine's
    /// memory has no room for all.
    pub(super) fn come(&mut self, n: u16) -> Result<()> {
        let start = Instant::now();
        while self.clients.len() < usize::from(n) && has_room()? {
            stop::check()?;
            let first = self.clients.len();
            let group = (usize::from(n) - first).min(GROUP);
            for number in first..first + group {
                let client = self.start_client(number)?;
                self.clients.push(client);
            }
            for client in &self.clients[first..] {
                client.wait_for_line("start proxy success")?;
            }
        }
        self.coming = start.elapsed();
        ensure!(!self.clients.is_empty(), "no memory for a single client");
        Ok(())
    }

    fn start_client(&self, number: usize) -> Result<Process> {
        let mut text = format!(
            "serverAddr = \"{}\"\nserverPort = {BIND_PORT}\nloginFailExit = false\n\
             transport.protocol = \"auto\"\n{COMMON}",
            self.lab.near().address()
        );
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "[[proxies]]\nname = \"idle-{number}\"\ntype = \"tcp\"\nlocalPort = {}\n\
             remotePort = {}\n",
            self.service.port(),
            user_port(number)?
        );
        let name = format!("frpc-{number}");
        let path: PathBuf = self.dir.path().join(format!("{name}.toml"));
        fs::write(&path, text).context("cannot write a client's configuration")?;
        Process::start_in(
            Some(self.lab.far()),
            &name,
            self.programs.frpc(),
            &["-c", &format!("{name}.toml")],
            self.dir.path(),
        )
    }

    /// Connects one user to each client, who gets an answer and then says nothing.
    pub(super) fn users(&self) -> Result<Vec<EchoConn>> {
        let ports = (0..self.clients.len()).map(user_port);
        let ports = ports.collect::<Result<Vec<_>>>()?;
        self.lab
            .near()
            .enter(|| ports.into_iter().map(EchoConn::open).collect())
    }

    /// Lets time pass.
    pub(super) fn wait(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            stop::check()?;
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Counts for `time`, and keeps it for a day like that.
    pub(super) fn watch(
        &self,
        state: &str,
        time: Duration,
        values: &mut BTreeMap<String, f64>,
    ) -> Result<()> {
        let before = self.meter()?;
        self.wait(time)?;
        let after = self.meter()?;
        let took = after.at - before.at;
        let n = self.clients.len() as f64;
        let days = took.div_duration_f64(DAY);
        let client_cpu = after.client_cpu.saturating_sub(before.client_cpu);
        let server_cpu = after.server_cpu.saturating_sub(before.server_cpu);
        let of_a_day = [
            (after.n_bytes - before.n_bytes) as f64 / days / n,
            client_cpu.as_secs_f64() / days / n,
            100.0 * server_cpu.div_duration_f64(took),
        ];
        values.extend(keys(state).into_iter().zip(of_a_day));
        Ok(())
    }

    /// Keeps what the programs hold.
    pub(super) fn weigh(&self, values: &mut BTreeMap<String, f64>) -> Result<()> {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let n = self.clients.len();
        let server = self.server.rss_kib()?;
        let grown = server.saturating_sub(self.server_alone_kib);
        // All are alike: some of them are enough.
        let looked_at = &self.clients[..n.min(LOOKED_AT)];
        let (mut rss, mut own) = (0, 0);
        for client in looked_at {
            rss += client.rss_kib()?;
            own += client.own_kib()?;
        }
        let mean = |kib: u64| mib(kib) / looked_at.len() as f64;
        for (key, value) in [
            (N_CLIENTS, n as f64),
            (FRPS_MIB, mib(server)),
            (FRPS_KIB_EACH, grown as f64 / n as f64),
            (FRPC_MIB, mean(rss)),
            (FRPC_OWN_MIB, mean(own)),
            (COMING, self.coming.as_secs_f64()),
            (N_SWITCHES, self.switches().len() as f64),
        ] {
            values.insert(key.to_owned(), value);
        }
        Ok(())
    }

    /// Returns what the clients have told of switches.
    pub(super) fn switches(&self) -> Vec<String> {
        let all = self.clients.iter();
        let switches = all.flat_map(|client| events::switches(&client.lines()));
        switches.map(|switch| switch.line).collect()
    }

    fn meter(&self) -> Result<Meter> {
        let counters = self.lab.counters()?;
        let mut client_cpu = Duration::ZERO;
        for client in &self.clients {
            client_cpu += client.cpu_time()?;
        }
        Ok(Meter {
            at: Instant::now(),
            n_bytes: counters.to_near.bytes_in + counters.to_far.bytes_in,
            server_cpu: self.server.cpu_time()?,
            client_cpu,
        })
    }
}

fn user_port(number: usize) -> Result<u16> {
    u16::try_from(usize::from(FIRST_USER_PORT) + number).context("more clients than ports")
}

/// Says whether the machine has memory for some more clients.
fn has_room() -> Result<bool> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.context("no MemAvailable in /proc/meminfo")?;
    let kib: u64 = kib.trim().trim_end_matches(" kB").parse()?;
    Ok(kib > MEMORY_LEFT_KIB)
}

const BIND_PORT: u16 = 7000;
/// The lab's networks are new: nobody else has ports there.
const FIRST_USER_PORT: u16 = 20_000;

const COMMON: &str = "auth.token = \"idle\"\nlog.level = \"info\"\nlog.disablePrintColor = true\n";

/// How many clients start together: a machine's cores, and some that wait for answers.
const GROUP: usize = 10;

/// How many of the clients are asked for their memory.
const LOOKED_AT: usize = 20;

/// What is left to the rest of the machine.
const MEMORY_LEFT_KIB: u64 = 2 * 1024 * 1024;

/// How long memory is given to settle.
const SETTLE: Duration = Duration::from_millis(700);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
