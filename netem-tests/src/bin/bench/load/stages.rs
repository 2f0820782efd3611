//! The stages: what grows, how it is measured, and what ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::farm::{Behind, Farm, SETTLE, has_room};
use super::{Clock, Found, Plan, users};
use crate::loopback::measure::{BulkUser, Direction};
use crate::stop;

/// After one step of clients, with one proxy each.
#[derive(Debug, Serialize)]
pub(super) struct ClientRow {
    pub(super) n: usize,
    pub(super) coming_s: f64,
    pub(super) frps_mib: f64,
    pub(super) frps_kib_each: f64,
    pub(super) frps_files_each: f64,
    pub(super) frpc_mib_each: f64,
    pub(super) frpc_files_each: f64,
}

/// After one step of proxies, all of it at one more client.
#[derive(Debug, Serialize)]
pub(super) struct ProxyRow {
    pub(super) n: usize,
    pub(super) coming_s: f64,
    pub(super) frps_kib_each: f64,
    pub(super) frps_files_each: f64,
    pub(super) frpc_kib_each: f64,
}

/// Users who come, ask and go.
#[derive(Debug, Serialize)]
pub(super) struct NewConns {
    pub(super) per_s: f64,
    pub(super) frps_cpu_s_per_1000: f64,
    pub(super) frpc_cpu_s_per_1000: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// Connections that carry as much as they can.
#[derive(Debug, Serialize)]
pub(super) struct BusyRow {
    pub(super) n: usize,
    pub(super) gib_per_s: f64,
    pub(super) frps_cpu_s_per_gib: f64,
    pub(super) frpc_cpu_s_per_gib: f64,
    pub(super) frps_cpu_pct: f64,
}

/// Users who ask, wait for the answer, and ask again.
#[derive(Debug, Serialize)]
pub(super) struct Words {
    pub(super) n: usize,
    pub(super) per_s: f64,
    pub(super) frps_cpu_s_per_1000: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// After one step of connections that say nothing.
#[derive(Debug, Serialize)]
pub(super) struct IdleRow {
    pub(super) n: usize,
    pub(super) opened_per_s: f64,
    pub(super) frps_mib: f64,
    pub(super) frps_kib_each: f64,
    pub(super) frpc_kib_each: f64,
    pub(super) frps_files_each: f64,
    pub(super) frpc_files_each: f64,
    /// While clients probe as they do for users who are there.
    pub(super) frps_cpu_awake_pct: f64,
    /// Once all users have been silent for a while.
    pub(super) frps_cpu_pct: f64,
}

impl Found {
    pub(super) fn clients(&mut self, farm: &mut Farm, plan: &Plan, clock: &Clock) -> Result<()> {
        let mut why = None;
        let n_files_alone = farm.server_weight()?.n_files;
        for &n in plan.clients {
            why = gives_out(clock)?;
            if why.is_some() {
                break;
            }
            let start = Instant::now();
            let n_new = n - farm.clients.len();
            if let Err(error) = farm.add_clients(n_new, 1, Behind::Echo) {
                stop::check()?;
                why = Some(format!("{error:#}"));
                break;
            }
            let (server, clients) = (farm.server_weight()?, farm.clients_weight()?);
            let row = ClientRow {
                n,
                coming_s: (start.elapsed().saturating_sub(SETTLE)).as_secs_f64(),
                frps_mib: mib(farm.server.rss_kib()?),
                frps_kib_each: server.kib as f64 / n as f64,
                frps_files_each: (server.n_files - n_files_alone) as f64 / n as f64,
                frpc_mib_each: mib(clients.kib) / n as f64,
                frpc_files_each: clients.n_files as f64 / n as f64,
            };
            clock.say(&format!(
                "{n} clients: the last {n_new} came in {:.1} s; frps {:.0} MiB, {:.0} KiB and {:.1} \
                 files for each; a frpc has {:.1} MiB of its own",
                row.coming_s,
                row.frps_mib,
                row.frps_kib_each,
                row.frps_files_each,
                row.frpc_mib_each
            ));
            self.clients.push(row);
        }
        let why = why.unwrap_or_else(|| "that many were meant".to_owned());
        self.ends("clients", clock, why);
        let n = farm.clients.len();
        if n > 0 && !clock.is_over() {
            clock.say("waiting until they are idle and probe seldom");
            wait(plan.asleep_after)?;
            let ((server, clients), took) = cpu_while(farm, || wait(plan.window))?;
            let pct = |cpu: Duration| 100.0 * cpu.div_duration_f64(took);
            let cpu = (pct(server) * 1000.0 / n as f64, pct(clients) / n as f64);
            clock.say(&format!(
                "idle: frps {:.2} % of a core for 1,000 clients, a frpc {:.3} %",
                cpu.0, cpu.1
            ));
            self.idle_client_cpu = Some(cpu);
        }
        Ok(())
    }

    pub(super) fn proxies(&mut self, farm: &mut Farm, plan: &Plan, clock: &Clock) -> Result<()> {
        let mut why = None;
        // One alone would have the program's pages for its own.
        farm.add_clients(2, 1, Behind::Echo)?;
        let before = farm.server_weight()?;
        let frpc_kib = farm.own_kib_of_last()?;
        let mut n_new_clients = 0;
        let mut n_there = 0;
        for &n in plan.proxies {
            why = gives_out(clock)?;
            let n_files = farm.server.n_descriptors()? + FILES_OF_A_PROXY * (n - n_there);
            if why.is_none() && n_files as u64 + FILES_LEFT > self.n_files {
                why = Some(format!(
                    "files: {} may be open in a process here, and frps has two for each proxy",
                    self.n_files
                ));
            }
            if why.is_some() {
                break;
            }
            let start = Instant::now();
            if let Err(error) = farm.add_clients(1, n - n_there, Behind::Echo) {
                stop::check()?;
                why = Some(format!("{error:#}"));
                break;
            }
            let n_new = n - n_there;
            n_there = n;
            n_new_clients += 1;
            let server = farm.server_weight()?;
            // What the further clients hold for being there is not their proxies'.
            let own = self.clients.last().map_or(0.0, |row| row.frps_kib_each);
            let others = own * f64::from(n_new_clients);
            let grown = server.kib as f64 - before.kib as f64 - others;
            // The client with one proxy is as old, within seconds.
            let frpc_grown = farm.own_kib_of_last()?.saturating_sub(frpc_kib);
            let row = ProxyRow {
                n,
                coming_s: start.elapsed().saturating_sub(SETTLE).as_secs_f64(),
                frps_kib_each: (grown / n as f64).max(0.0),
                frps_files_each: (server.n_files - before.n_files) as f64 / n as f64,
                frpc_kib_each: frpc_grown as f64 / n_new as f64,
            };
            clock.say(&format!(
                "{n} further proxies: the last came in {:.1} s; frps {:.1} KiB and {:.2} files for \
                 each, frpc {:.1} KiB",
                row.coming_s, row.frps_kib_each, row.frps_files_each, row.frpc_kib_each
            ));
            self.proxies.push(row);
        }
        let why = why.unwrap_or_else(|| "that many were meant".to_owned());
        self.ends("proxies", clock, why);
        Ok(())
    }

    pub(super) fn new_conns(&mut self, farm: &mut Farm, plan: &Plan, clock: &Clock) -> Result<()> {
        farm.add_clients(N_BUSY_CLIENTS, 1, Behind::Echo)?;
        let farm = &*farm;
        let ports = farm.ports(Behind::Echo);
        let mut times = Vec::new();
        let ((server, clients), took) = cpu_while(farm, || {
            times = users::come_and_go(&ports, plan.window)?;
            Ok(())
        })?;
        let n = times.len() as f64;
        let row = NewConns {
            per_s: n / took.as_secs_f64(),
            frps_cpu_s_per_1000: server.as_secs_f64() * 1000.0 / n,
            frpc_cpu_s_per_1000: clients.as_secs_f64() * 1000.0 / n,
            p50_ms: quantile_ms(&times, 0.5),
            p99_ms: quantile_ms(&times, 0.99),
        };
        clock.say(&format!(
            "{:.0} new connections a second, {:.2} s of frps' CPU for 1,000; half are answered in {:.1} \
             ms, 99 % in {:.1} ms",
            row.per_s, row.frps_cpu_s_per_1000, row.p50_ms, row.p99_ms
        ));
        self.new_conns = Some(row);
        Ok(())
    }

    pub(super) fn busy(&mut self, farm: &mut Farm, plan: &Plan, clock: &Clock) -> Result<()> {
        farm.add_clients(N_BUSY_CLIENTS, 1, Behind::Bulk)?;
        let ports = farm.ports(Behind::Bulk);
        for &n in plan.busy {
            let received = Arc::new(AtomicU64::new(0));
            let users = (0..n)
                .map(|number| {
                    BulkUser::start(ports[number % ports.len()], Direction::Down, &received)
                })
                .collect::<Result<Vec<_>>>()?;
            wait(plan.window / 4)?;
            let before = received.load(Ordering::Relaxed);
            let ((server, clients), took) = cpu_while(farm, || wait(plan.window / 2))?;
            let gib = (received.load(Ordering::Relaxed) - before) as f64 / GIB;
            drop(users);
            let row = BusyRow {
                n,
                gib_per_s: gib / took.as_secs_f64(),
                frps_cpu_s_per_gib: server.as_secs_f64() / gib,
                frpc_cpu_s_per_gib: clients.as_secs_f64() / gib,
                frps_cpu_pct: 100.0 * server.div_duration_f64(took),
            };
            clock.say(&format!(
                "{n} busy connections: {:.2} GiB/s; frps {:.2} s of CPU for a GiB, {:.0} % of a core",
                row.gib_per_s, row.frps_cpu_s_per_gib, row.frps_cpu_pct
            ));
            self.busy.push(row);
        }
        self.ends(
            "busy connections",
            clock,
            "the machine's CPU: all programs, users and services share its cores".to_owned(),
        );
        Ok(())
    }

    pub(super) fn words(&mut self, farm: &Farm, plan: &Plan, clock: &Clock) -> Result<()> {
        let ports = farm.ports(Behind::Echo);
        let mut times = Vec::new();
        let ((server, _), took) = cpu_while(farm, || {
            times = users::talk(&ports, N_TALKING, plan.window)?;
            Ok(())
        })?;
        let n = times.len() as f64;
        let row = Words {
            n: N_TALKING,
            per_s: n / took.as_secs_f64(),
            frps_cpu_s_per_1000: server.as_secs_f64() * 1000.0 / n,
            p50_ms: quantile_ms(&times, 0.5),
            p99_ms: quantile_ms(&times, 0.99),
        };
        clock.say(&format!(
            "{N_TALKING} users who ask and wait: {:.0} answers a second, 99 % within {:.1} ms",
            row.per_s, row.p99_ms
        ));
        self.words = Some(row);
        Ok(())
    }

    pub(super) fn idle(&mut self, farm: &Farm, plan: &Plan, clock: &Clock) -> Result<()> {
        let ports = farm.ports(Behind::Echo);
        thread::sleep(SETTLE);
        let (before, clients_before) = (farm.server_weight()?, farm.clients_weight()?);
        let mut conns = Vec::new();
        let mut why = None;
        for &n in plan.idle {
            why = gives_out(clock)?;
            if why.is_some() {
                break;
            }
            // One here and one at the server; the service has its own.
            let n_files = farm.server.n_descriptors()? as u64 - conns.len() as u64;
            let n_files = n_files.max(2 * farm.clients.len() as u64) + FILES_LEFT;
            let allowed = usize::try_from(self.n_files.saturating_sub(n_files))?;
            if n > allowed {
                why = Some(format!(
                    "files: {} may be open in a process here, and frps has one for each connection",
                    self.n_files
                ));
            }
            let n = n.min(allowed);
            if n <= conns.len() {
                break;
            }
            let start = Instant::now();
            let n_new = n - conns.len();
            let (opened, failure) = users::open(&ports, n_new);
            let opening = start.elapsed();
            conns.extend(opened);
            if let Some(failure) = failure {
                stop::check()?;
                why = Some(format!("at {} connections: {failure}", conns.len()));
                break;
            }
            thread::sleep(SETTLE);
            let (server, clients) = (farm.server_weight()?, farm.clients_weight()?);
            let since = Instant::now();
            let ((awake, _), awake_took) = cpu_while(farm, || wait(plan.window / 2))?;
            wait(plan.quiet_after.saturating_sub(since.elapsed()))?;
            let ((quiet, _), quiet_took) = cpu_while(farm, || wait(plan.window / 2))?;
            let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / n as f64;
            let files = |now: usize, before: usize| now.saturating_sub(before) as f64 / n as f64;
            let row = IdleRow {
                n,
                opened_per_s: n_new as f64 / opening.as_secs_f64(),
                frps_mib: mib(farm.server.rss_kib()?),
                frps_kib_each: each(server.kib, before.kib),
                frpc_kib_each: each(clients.kib, clients_before.kib),
                frps_files_each: files(server.n_files, before.n_files),
                frpc_files_each: files(clients.n_files, clients_before.n_files),
                frps_cpu_awake_pct: 100.0 * awake.div_duration_f64(awake_took),
                frps_cpu_pct: 100.0 * quiet.div_duration_f64(quiet_took),
            };
            clock.say(&format!(
                "{n} idle connections, opened at {:.0} a second: frps {:.0} MiB, {:.1} KiB and {:.2} \
                 files for each, {:.1} % of a core at first and {:.1} % later; frpc {:.1} KiB",
                row.opened_per_s,
                row.frps_mib,
                row.frps_kib_each,
                row.frps_files_each,
                row.frps_cpu_awake_pct,
                row.frps_cpu_pct,
                row.frpc_kib_each
            ));
            self.idle.push(row);
            if why.is_some() {
                break;
            }
        }
        let why = why.unwrap_or_else(|| "that many were meant".to_owned());
        self.ends("idle connections", clock, why);
        Ok(())
    }
}

/// Says why no further step is taken, if none is.
fn gives_out(clock: &Clock) -> Result<Option<String>> {
    stop::check()?;
    Ok(if clock.is_over() {
        Some("the time is over".to_owned())
    } else if has_room()? {
        None
    } else {
        Some("memory: 2 GiB are left to the rest of the machine".to_owned())
    })
}

/// Returns the CPU time that the server and the clients take meanwhile, and how long it is.
fn cpu_while(
    farm: &Farm,
    act: impl FnOnce() -> Result<()>,
) -> Result<((Duration, Duration), Duration)> {
    let (server, clients) = farm.cpu()?;
    let start = Instant::now();
    act()?;
    let took = start.elapsed();
    let (server_after, clients_after) = farm.cpu()?;
    let used = (
        server_after.saturating_sub(server),
        clients_after.saturating_sub(clients),
    );
    Ok((used, took))
}

fn wait(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        stop::check()?;
        thread::sleep(Duration::from_millis(100).min(time));
    }
    Ok(())
}

fn quantile_ms(sorted: &[Duration], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length is an index"
    )]
    let position = (sorted.len() as f64 * share) as usize;
    let time = sorted.get(position).or(sorted.last());
    time.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Clients that carry what is busy.
const N_BUSY_CLIENTS: usize = 8;

/// Its port, and one in reserve, with which a server that is out of files turns a user away.
const FILES_OF_A_PROXY: usize = 2;

/// Users who ask and wait.
const N_TALKING: usize = 64;

/// Descriptors that are left to what else opens some.
const FILES_LEFT: u64 = 500;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
