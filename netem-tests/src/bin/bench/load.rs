//! `LOAD=1`: what one server carries, and where that ends.
//!
//! The programs are the real ones: one `frps`, and as many `frpc` processes as there are clients.
//! Nothing is in their place; only the users and the services behind the tunnels are this
//! program's own. All run on one machine, over loopback, so what the server has for itself on a
//! machine of its own is more than what is measured here: memory and descriptors are counted
//! for each program, and so is CPU.
//!
//! Stages follow each other, each two on a server of their own, since what is freed is not given
//! back at once and would hide what comes after: clients, and on all of them connections that are
//! idle; proxies; users who come and go, who talk, and who take all they can, on a few clients, so
//! that it is connections that are counted and not clients. Each stage grows in steps until it reaches
//! what it is meant to reach or something gives out, and says which.

mod farm;
mod report;
mod stages;
mod users;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use crate::document::{Document, RESULTS_DIR};
use crate::settings::Settings;
use farm::Farm;
use stages::{BusyRow, ClientRow, IdleRow, NewConns, ProxyRow, Words};

/// Puts one server under load, and writes what it carried into `docs/operations.md`.
pub(crate) fn run(settings: &Settings) -> Result<bool> {
    let plan = if settings.quick {
        Plan::QUICK
    } else {
        Plan::FULL
    };
    let files = raise_file_limit();
    println!(
        "bench: one frps under load, {} at most; {files} files may be open",
        crate::links::progress::in_words(plan.limit)
    );
    let clock = Clock::start(plan.limit);
    let mut farm = Farm::open()?;
    let mut found = Found {
        n_files: files,
        idle_after_s: plan.asleep_after.as_secs(),
        server_alone_mib: farm.server_alone_mib(),
        ..Found::default()
    };
    found.clients(&mut farm, &plan, &clock)?;
    found.idle(&farm, &plan, &clock)?;
    drop(farm);
    found.proxies(&mut Farm::open()?, &plan, &clock)?;
    let mut farm = Farm::open()?;
    found.new_conns(&mut farm, &plan, &clock)?;
    found.words(&farm, &plan, &clock)?;
    found.busy(&mut farm, &plan, &clock)?;
    drop(farm);
    found.took_s = clock.gone().as_secs();

    let path = results_path()?;
    fs::write(&path, serde_json::to_string_pretty(&found)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let text = report::text(&found, settings.quick);
    println!("\n{text}\nbench: every value is in {}", path.display());
    let document = Document::open_named("operations.md", settings.quick)?;
    document.replace_part("load", &text)?;
    println!("bench: wrote {}", document.path().display());
    Ok(true)
}

/// Serves the users' words, in a process of its own: a process may open so many files.
pub(crate) fn serve_words() -> Result<()> {
    users::serve()
}

/// How far each stage goes, and how long a look takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    limit: Duration,
    /// How many clients are there after each step.
    clients: &'static [usize],
    /// How many further proxies are there after each step; each step is one more client.
    proxies: &'static [usize],
    /// How many connections carry as much as they can.
    busy: &'static [usize],
    /// How many idle connections are there after each step.
    idle: &'static [usize],
    /// Until an idle client probes its path seldom.
    asleep_after: Duration,
    /// Until a client whose users are silent probes once a second.
    quiet_after: Duration,
    window: Duration,
}

impl Plan {
    const FULL: Self = Self {
        limit: Duration::from_secs(14 * 60),
        clients: &[50, 100, 200, 300, 400, 500],
        proxies: &[100, 500, 1000, 2000, 4000, 8000],
        busy: &[1, 8, 64, 256],
        idle: &[2_000, 5_000, 10_000, 20_000, 40_000, 60_000],
        asleep_after: Duration::from_secs(75),
        quiet_after: Duration::from_secs(12),
        window: Duration::from_secs(10),
    };
    const QUICK: Self = Self {
        limit: Duration::from_secs(150),
        clients: &[10, 20, 40],
        proxies: &[100, 500],
        busy: &[1, 8, 32],
        idle: &[500, 1_000, 2_000],
        asleep_after: Duration::from_secs(12),
        quiet_after: Duration::from_secs(12),
        window: Duration::from_secs(3),
    };
}

/// How much time is left.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    limit: Duration,
}

impl Clock {
    fn start(limit: Duration) -> Self {
        Self {
            start: Instant::now(),
            limit,
        }
    }

    fn gone(&self) -> Duration {
        self.start.elapsed()
    }

    fn is_over(&self) -> bool {
        self.gone() >= self.limit
    }

    /// Prints how far it is.
    fn say(&self, text: &str) {
        println!("bench: {:4} s: {text}", self.gone().as_secs());
    }
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Found {
    n_files: u64,
    server_alone_mib: f64,
    clients: Vec<ClientRow>,
    idle_after_s: u64,
    /// CPU of the server in percent of a core for 1,000 idle clients, and of one client.
    idle_client_cpu: Option<(f64, f64)>,
    proxies: Vec<ProxyRow>,
    new_conns: Option<NewConns>,
    busy: Vec<BusyRow>,
    words: Option<Words>,
    idle: Vec<IdleRow>,
    /// What ended each stage, in its order.
    ends: Vec<(String, String)>,
    took_s: u64,
}

impl Found {
    fn ends(&mut self, stage: &str, clock: &Clock, why: String) {
        clock.say(&format!("{stage} end here: {why}"));
        self.ends.push((stage.to_owned(), why));
    }
}

/// Lets this process and those that it starts open as many files as the system allows, and returns
/// how many that are.
fn raise_file_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(WANTED_FILES, |maximum| maximum.max(WANTED_FILES));
    for limit in [Some(wanted), maximum] {
        let raised = Rlimit {
            current: limit,
            maximum: limit,
        };
        // Only root may have more than the hard limit.
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return limit.unwrap_or(u64::MAX);
        }
    }
    current.unwrap_or(u64::MAX)
}

fn results_path() -> Result<std::path::PathBuf> {
    let dir = Path::new(RESULTS_DIR);
    fs::create_dir_all(dir).context("run this at the root of the repository: make bench")?;
    let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    Ok(dir.join(format!("load-{now}.json")))
}

/// The command that makes this program the service behind the tunnels.
pub(crate) const WORDS: &str = "serve-words";

/// More than anything here needs.
const WANTED_FILES: u64 = 1024 * 1024;
