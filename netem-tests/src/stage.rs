//! A tunnel over a link, with users at work, and what happens to them.
//!
//! A [`Stage`] is a lab with a pair in it. A scenario is a function that says, verb by verb, what
//! happens: traffic begins, something breaks, mends, and after a while [`Stage::seen`] tells what
//! the users have noticed. `fault_table` has the scenarios, tests and benchmarks play them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub use seen::{FreshCounts, Seen};

use crate::lab::BackEnd;
use crate::observe::{FreshConns, Ledger, NumberedStream, Rates, Typist};
use crate::process::Mark;
use crate::{Fault, Lab, Link, PATIENCE, Pair, PairBuilder, Profile, Proxy, Service, Sides};
use crate::{Transport, events, traffic};

mod seen;

/// Whose programs carry the users, and over what.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// The programs.
    pub sides: Sides,
    /// The transport, or `auto`.
    pub transport: Transport,
}

impl Tunnel {
    /// Our programs in `auto`.
    pub fn ours() -> Result<Self> {
        Ok(Self {
            sides: Sides::ours()?,
            transport: Transport::Auto,
        })
    }

    /// Says why the programs cannot be started with this transport, or nothing.
    pub fn refusal(&self) -> Result<Option<String>> {
        let link = Link {
            transport: self.transport,
            ..Link::DEFAULT
        };
        PairBuilder::new(&self.sides)
            .link(link)
            .configure()?
            .refusal()
    }
}

/// How a stage is run.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// How fast the numbered stream goes in each direction.
    pub rates: Rates,
    /// The seed of the link.
    pub seed: u64,
    /// Whether the programs log as little as users' do.
    pub is_quiet: bool,
    /// Asked now and then: whether to give up.
    pub is_stopped: fn() -> bool,
}

impl Manner {
    /// For tests, on machines that also compile: a slow stream, and logs that say all.
    pub fn for_tests(seed: u64) -> Self {
        Self {
            rates: Rates::both(4.0),
            seed,
            is_quiet: false,
            is_stopped: || false,
        }
    }
}

/// A tunnel at work. Dropping it ends all.
#[derive(Debug)]
pub struct Stage {
    // Fields drop in this order: the users go first and the network last.
    users: Option<Users>,
    pair: Pair,
    service: Service,
    lab: Lab,
    transport: Transport,
    manner: Manner,
    fault: Option<Span>,
    log_begin: Mark,
    restarts: Restarts,
}

/// The users whose connections are watched.
#[derive(Debug)]
struct Users {
    stream: NumberedStream,
    typist: Typist,
    fresh: FreshConns,
}

/// When something broke, and when it was whole again.
#[derive(Clone, Copy, Debug)]
struct Span {
    begin: Instant,
    end: Option<Instant>,
}

/// What is to be known when a program was started again.
#[derive(Debug, Default)]
struct Restarts {
    /// What the users' open connections had to wait for their end.
    closed_after: Option<Duration>,
    /// From the start of the program until the last proxy served somebody.
    proxies_back: Option<Duration>,
    /// How often a port was still used by the program before.
    n_conflicts: usize,
    /// What is not in the log of the program that runs.
    n_switches_before: usize,
}

impl Stage {
    /// Sets up the link and the tunnel, and waits until users can connect.
    pub fn open(name: &str, tunnel: &Tunnel, profile: &Profile, manner: Manner) -> Result<Self> {
        // In user space, where a seed repeats the losses and each kind of fault is possible.
        let lab = Lab::start_on(BackEnd::UserSpace, name, profile, manner.seed)?;
        let service = lab.far().enter(Service::start)?;
        let link = Link {
            transport: tunnel.transport,
            ..Link::DEFAULT
        };
        let mut builder = PairBuilder::new(&tunnel.sides)
            .in_lab(&lab)
            .link(link)
            .proxies((0..N_PROXIES).map(|number| Proxy::tcp(&proxy_name(number), service.port())));
        if manner.is_quiet {
            builder = builder.quiet();
        }
        let pair = builder.start()?;
        let log_begin = pair.client()?.mark();
        Ok(Self {
            users: None,
            pair,
            service,
            lab,
            transport: tunnel.transport,
            manner,
            fault: None,
            log_begin,
            restarts: Restarts::default(),
        })
    }

    /// Returns the link.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Returns the programs.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Returns the service behind the tunnel.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Returns the port of the proxy that nobody uses unless the scenario does.
    pub fn port(&self) -> Result<u16> {
        self.pair.port(&proxy_name(N_PROXIES - 1))
    }

    /// Says whether the tunnel chooses its transport.
    pub fn is_auto(&self) -> bool {
        self.transport == Transport::Auto
    }

    /// Lets the users begin: one numbered stream, one who types, and fresh connections.
    pub fn traffic_begins(&mut self) -> Result<()> {
        static N_STREAMS: AtomicU64 = AtomicU64::new(1);
        let id = N_STREAMS.fetch_add(1, Ordering::Relaxed);
        let port = self.pair.port(&proxy_name(0))?;
        let (service, rates) = (&self.service, self.manner.rates);
        let users = self.pair.as_user(|| -> Result<Users> {
            Ok(Users {
                stream: NumberedStream::open(service, port, id, rates)?,
                typist: Typist::open(port)?,
                fresh: FreshConns::start(port),
            })
        })?;
        for ledger in users.stream.ledgers() {
            let opened = users.stream.opened();
            ensure!(
                ledger.wait_for_bytes(opened, PATIENCE),
                "the stream does not begin"
            );
        }
        self.users = Some(users);
        Ok(())
    }

    /// Lets `time` pass.
    pub fn goes_on_for(&self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            self.check_stop()?;
            thread::sleep(left.min(STEP));
        }
        Ok(())
    }

    /// Lets as much time pass with nothing wrong as it takes until things have settled: the start's
    /// comparison of transports, the growth of windows.
    pub fn all_is_well(&self) -> Result<()> {
        self.goes_on_for(CALM)
    }

    /// Has the tunnel use TCP while UDP would do as well, and then leaves it to itself.
    pub fn goes_over_tcp(&self) -> Result<()> {
        if self.is_auto() {
            self.switches_by_hand(Transport::Tcp)?;
            self.asks_for_switch(Transport::Auto)?;
        }
        Ok(())
    }

    /// Has the client switch by hand to a transport that it does not use, and waits until it has.
    pub fn switches_by_hand(&self, transport: Transport) -> Result<()> {
        let mark = self.pair.client()?.mark();
        self.asks_for_switch(transport)?;
        let deadline = Instant::now() + PATIENCE;
        while events::switches(&self.pair.client()?.lines_after(mark)).is_empty() {
            if Instant::now() >= deadline {
                let lines = self.pair.client()?.lines();
                bail!(
                    "the client was told to use {} and does not; it said:\n{}",
                    transport.name(),
                    events::decisions(lines.iter().map(|(_, line)| line.as_str())),
                );
            }
            self.goes_on_for(STEP)?;
        }
        Ok(())
    }

    /// Asks the client for a switch and waits for nothing. Asked for [`Transport::Auto`], it
    /// decides by itself again.
    pub fn asks_for_switch(&self, transport: Transport) -> Result<()> {
        let name = transport.name();
        let (status, output) = self.pair.frpc_with("switch", &[name])?;
        ensure!(status.success(), "frpc switch {name}: {output}");
        Ok(())
    }

    /// Breaks something.
    pub fn breaks(&mut self, fault: Fault) -> Result<()> {
        self.begins_to_be_bad();
        self.lab.fault(fault)
    }

    /// Mends all that is broken.
    pub fn mends(&mut self) -> Result<()> {
        let now = Instant::now();
        self.lab.clear_faults()?;
        self.is_well_again(now);
        Ok(())
    }

    /// Changes the link for good.
    pub fn link_becomes(&mut self, profile: &Profile) -> Result<()> {
        self.begins_to_be_bad();
        self.lab.set_link(profile)
    }

    /// Gives the client another address, after `gap` without one.
    pub fn client_moves(&mut self, gap: Duration) -> Result<()> {
        self.begins_to_be_bad();
        self.lab.change_far_address(gap)?;
        self.is_well_again(Instant::now());
        Ok(())
    }

    /// Breaks and mends several times, as one fault.
    pub fn flaps(&mut self, fault: &Fault, each: Duration, n: u32) -> Result<()> {
        self.begins_to_be_bad();
        for number in 0..n {
            self.lab.fault(fault.clone())?;
            self.goes_on_for(each)?;
            let now = Instant::now();
            self.lab.clear_faults()?;
            if number + 1 == n {
                self.is_well_again(now);
            } else {
                self.goes_on_for(each)?;
            }
        }
        Ok(())
    }

    /// Kills the server and starts it again, and waits until all proxies serve.
    pub fn server_is_killed_and_starts_again(&mut self) -> Result<()> {
        self.begins_to_be_bad();
        self.pair.kill_server();
        self.restarts.closed_after = self.stream_closes(PATIENCE)?;
        self.pair.start_server()?;
        self.is_well_again(Instant::now());
        self.proxies_come_back()?;
        self.goes_on_for(AFTERWARDS)
    }

    /// Stops the client as a service manager does, and starts it again.
    pub fn client_is_stopped_and_starts_again(&mut self) -> Result<()> {
        self.begins_to_be_bad();
        self.count_switches_of_this_process()?;
        self.pair.client()?.terminate()?;
        self.restarts.closed_after = self.stream_closes(RESTART_PATIENCE)?;
        self.pair.client_mut()?.wait_for_exit()?;
        self.client_starts()?;
        self.goes_on_for(AFTERWARDS)
    }

    /// Kills the client and starts it again at once. Its users' connections end when the server
    /// knows.
    pub fn client_is_killed_and_starts_again(&mut self) -> Result<()> {
        self.begins_to_be_bad();
        let killed = Instant::now();
        self.count_switches_of_this_process()?;
        self.pair.kill_client();
        self.client_starts()?;
        let left = RESTART_PATIENCE.saturating_sub(killed.elapsed());
        self.restarts.closed_after = self.stream_closes(left)?;
        self.goes_on_for(AFTERWARDS)
    }

    /// Starts the client anew and breaks something as soon as it has logged in, while it still
    /// registers its proxies. Waits until all of them serve.
    pub fn client_logs_in_while_it_breaks(&mut self, fault: Fault) -> Result<()> {
        self.pair.kill_client();
        self.pair.spawn_client()?;
        self.log_begin = self.pair.client()?.mark();
        self.pair
            .client()?
            .wait_for_line("login to server success")?;
        self.breaks(fault)?;
        self.proxies_come_back()?;
        ensure!(
            self.restarts.proxies_back.is_some(),
            "the proxies do not come up"
        );
        Ok(())
    }

    /// Waits until the stream moves both ways again, or, when it is broken, until somebody is
    /// served; at most for `patience`. Then lets a little more time pass.
    pub fn until_it_is_back(&self, patience: Duration) -> Result<()> {
        let users = self.users()?;
        let since = self.well_since()?;
        let deadline = Instant::now() + patience;
        loop {
            let moves = |ledger: &Ledger| ledger.first_after(since).is_some();
            let is_back = if users.stream.broken().is_some() {
                users.fresh.first_served_after(since).is_some()
            } else {
                users.stream.ledgers().into_iter().all(moves)
            };
            if is_back || Instant::now() >= deadline {
                return self.goes_on_for(AFTERWARDS);
            }
            self.goes_on_for(STEP)?;
        }
    }

    /// Waits until the stream has gone on in both directions since now.
    pub fn stream_goes_on(&self) -> Result<()> {
        let now = Instant::now();
        for ledger in self.users()?.stream.ledgers() {
            ensure!(
                ledger.wait_for_bytes(now, PATIENCE),
                "the stream does not go on"
            );
        }
        Ok(())
    }

    /// Has the stream end and everything arrive that was sent.
    pub fn stream_ends_whole(&mut self) -> Result<()> {
        let users = self.users.take().context("there is no traffic")?;
        users.stream.finish(PATIENCE)
    }

    /// Ends the users' connections and tells what they have seen since something broke.
    pub fn seen(mut self) -> Result<Seen> {
        let users = self.users.take().context("there was no traffic")?;
        let fault = self.fault.context("nothing was broken")?;
        let switches = self.switches()?;
        seen::sum_up(&self, users, fault, switches)
    }

    fn users(&self) -> Result<&Users> {
        self.users.as_ref().context("there is no traffic")
    }

    fn begins_to_be_bad(&mut self) {
        // The first counts when several things go wrong.
        self.fault.get_or_insert_with(|| Span {
            begin: Instant::now(),
            end: None,
        });
    }

    fn is_well_again(&mut self, at: Instant) {
        if let Some(span) = &mut self.fault {
            span.end = Some(at);
        }
    }

    fn well_since(&self) -> Result<Instant> {
        let span = self.fault.context("nothing was broken")?;
        Ok(span.end.unwrap_or(span.begin))
    }

    /// Waits until the user's stream has been closed, and returns how long that took from the
    /// fault's beginning.
    fn stream_closes(&self, patience: Duration) -> Result<Option<Duration>> {
        let begin = self.fault.context("nothing was broken")?.begin;
        let Some(users) = &self.users else {
            return Ok(None);
        };
        users.stream.down().wait_for_end(patience);
        let broken = users.stream.down().end();
        Ok(broken.map(|(at, _)| at.saturating_duration_since(begin)))
    }

    fn client_starts(&mut self) -> Result<()> {
        self.pair.spawn_client()?;
        self.log_begin = self.pair.client()?.mark();
        self.is_well_again(Instant::now());
        self.proxies_come_back()?;
        let log = self.pair.client()?.log();
        self.restarts.n_conflicts += log.lines().filter(|line| is_conflict(line)).count();
        Ok(())
    }

    /// Waits until every proxy has served somebody.
    fn proxies_come_back(&mut self) -> Result<()> {
        let since = self.well_since()?;
        let mut last = since;
        let ports: Vec<u16> = (0..N_PROXIES)
            .map(|number| self.pair.port(&proxy_name(number)))
            .collect::<Result<_>>()?;
        let deadline = since + PROXIES_PATIENCE;
        let served: Vec<Option<Instant>> = self.pair.as_user(|| {
            thread::scope(|scope| {
                let waiting: Vec<_> = ports
                    .iter()
                    .map(|port| scope.spawn(|| traffic::wait_until_served(*port, deadline)))
                    .collect();
                let joined = waiting.into_iter().map(thread::ScopedJoinHandle::join);
                joined.map(|served| served.ok().flatten()).collect()
            })
        });
        self.check_stop()?;
        for at in served {
            let Some(at) = at else {
                // What is not back after so long counts as never back.
                return Ok(());
            };
            last = last.max(at);
        }
        self.restarts.proxies_back = Some(last.saturating_duration_since(since));
        Ok(())
    }

    fn count_switches_of_this_process(&mut self) -> Result<()> {
        let switches = self.switches()?;
        self.restarts.n_switches_before += switches.len();
        Ok(())
    }

    /// Returns the switches that the running client has told of since the stage was open.
    pub fn switches(&self) -> Result<Vec<events::Switch>> {
        let lines = self.pair.client()?.lines_after(self.log_begin);
        Ok(events::switches(&lines))
    }

    fn check_stop(&self) -> Result<()> {
        if (self.manner.is_stopped)() {
            bail!("somebody asked for the end");
        }
        Ok(())
    }
}

fn proxy_name(number: usize) -> String {
    format!("scene-{number}")
}

/// Says whether a line tells that somebody else has the port: as ours and as frp say it.
fn is_conflict(line: &str) -> bool {
    line.contains("already used") || line.contains("in use") || line.contains("already in use")
}

/// Enough that "all proxies are back" means more than one.
const N_PROXIES: usize = 5;

/// How long things are left to settle: the start's comparison takes 3 s.
const CALM: Duration = Duration::from_secs(5);

/// How long is looked on after everything is back: a second stall would show.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// How long a restarted client's old connections may stay open before they count as never closed:
/// beyond both the grace time and frp's heartbeat timeout.
const RESTART_PATIENCE: Duration = Duration::from_secs(100);

/// How long proxies may take before they count as never back.
const PROXIES_PATIENCE: Duration = Duration::from_secs(100);

/// How often it is asked whether somebody wants the end.
const STEP: Duration = Duration::from_millis(50);
