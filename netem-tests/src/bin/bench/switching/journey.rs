//! One download while the link under it changes, and what fixed transports need for its parts.

use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netem_tests::observe::Rates;
use netem_tests::{Fault, Manner, Op, Pattern, Profile, Stage, Transport, Tunnel, events, traffic};

use crate::rounds::Findings;
use crate::stop;

/// A part of the journey.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) mib: u64,
    /// How long nothing can move.
    pub(super) dead: Duration,
    /// The link of the references that it is compared with.
    pub(super) link: &'static str,
    /// Whether transports over UDP could be the best.
    pub(super) has_udp: bool,
    begin: fn(&mut Stage) -> Result<()>,
}

/// A fixed transport on one of the journey's links.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference {
    pub(super) transport: Transport,
    pub(super) link: &'static str,
    loss_pct: f64,
}

impl Reference {
    pub(super) const ALL: [Self; 5] = [
        Self::new(Transport::Quic, CLEAN, 0.0),
        Self::new(Transport::Kcp, CLEAN, 0.0),
        Self::new(Transport::Tcp, CLEAN, 0.0),
        Self::new(Transport::Quic, LOSSY, 10.0),
        Self::new(Transport::Kcp, LOSSY, 10.0),
    ];

    const fn new(transport: Transport, link: &'static str, loss_pct: f64) -> Self {
        Self {
            transport,
            link,
            loss_pct,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("switching/{}/{}", self.transport.name(), self.link)
    }

    /// Times a download on a tunnel of this transport, of as much as a leg moves.
    pub(super) fn measure(&self, tunnel: &Tunnel, seed: u64) -> Findings {
        let profile = Profile::default().loss_pct(self.loss_pct);
        let stage = Stage::open(self.link, tunnel, &profile, manner(seed))?;
        let len = REFERENCE_MIB * MIB;
        let conn = connect(&stage)?;
        let start = Instant::now();
        fetch(&conn, len, seed, &AtomicU64::new(0))?;
        let rate = REFERENCE_MIB as f64 / start.elapsed().as_secs_f64();
        Ok((BTreeMap::from([(RATE.to_owned(), rate)]), Vec::new()))
    }
}

/// Downloads all of it, and returns how long each part took.
pub(super) fn travel(tunnel: &Tunnel, seed: u64) -> Findings {
    let mut stage = Stage::open("journey", tunnel, &Profile::default(), manner(seed))?;
    stage.goes_on_for(SETTLING)?;
    let conn = connect(&stage)?;
    let n_all = LEGS.iter().map(|leg| leg.mib).sum::<u64>() * MIB;
    let n_received = AtomicU64::new(0);
    let start = Instant::now();
    let mut values = BTreeMap::new();
    thread::scope(|scope| {
        let download = scope.spawn(|| fetch(&conn, n_all, seed, &n_received));
        let mut goal = 0;
        for leg in &LEGS {
            let begin = Instant::now();
            let outcome = (leg.begin)(&mut stage).and_then(|()| {
                goal += leg.mib * MIB;
                wait_for(&n_received, goal, || download.is_finished())
            });
            if let Err(error) = outcome {
                // The download ends with its connection.
                let _ = conn.shutdown(std::net::Shutdown::Both);
                return Err(error.context(leg.name));
            }
            values.insert(key_of(leg), begin.elapsed().as_secs_f64());
        }
        download.join().ok().context("the download panicked")?
    })?;
    values.insert(TOTAL.to_owned(), start.elapsed().as_secs_f64());
    let switches = events::switches(&stage.pair().client()?.lines());
    values.insert("n_switches".to_owned(), switches.len() as f64);
    let notes = switches.into_iter().map(|switch| switch.line).collect();
    Ok((values, notes))
}

/// Waits until so much has come.
fn wait_for(n_received: &AtomicU64, goal: u64, is_over: impl Fn() -> bool) -> Result<()> {
    let mut last = (n_received.load(Ordering::Relaxed), Instant::now());
    while n_received.load(Ordering::Relaxed) < goal {
        stop::check()?;
        thread::sleep(Duration::from_millis(10));
        let now = n_received.load(Ordering::Relaxed);
        if now > last.0 {
            last = (now, Instant::now());
        }
        ensure!(
            last.1.elapsed() < SILENCE_MAX,
            "nothing came for {SILENCE_MAX:?}"
        );
        if is_over() && n_received.load(Ordering::Relaxed) < goal {
            bail!("the download ended after {now} bytes");
        }
    }
    Ok(())
}

fn connect(stage: &Stage) -> Result<TcpStream> {
    let port = stage.port()?;
    let conn = stage.pair().as_user(|| traffic::connect(port))?;
    // Silence is what this is about: the one who waits for progress gives up.
    conn.set_read_timeout(None)?;
    Ok(conn)
}

/// Fetches and checks each byte.
fn fetch(mut conn: &TcpStream, len: u64, seed: u64, n_received: &AtomicU64) -> Result<()> {
    conn.write_all(&Op::Download.request(len, seed))?;
    let mut source = Counting { conn, n_received };
    Pattern::new(seed).receive(len, &mut source)
}

/// Counts what is read.
struct Counting<'a> {
    conn: &'a TcpStream,
    n_received: &'a AtomicU64,
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.conn.read(buffer)?;
        self.n_received.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

fn manner(seed: u64) -> Manner {
    Manner {
        // No stream of the stage's own is opened.
        rates: Rates::both(1.0),
        seed,
        is_quiet: true,
        is_stopped: stop::is_asked_for,
    }
}

/// Returns the name under which a leg's time is kept.
pub(super) fn key_of(leg: &Leg) -> String {
    format!("{}_s", leg.name)
}

/// The journey: 256 MiB.
pub(super) const LEGS: [Leg; 6] = [
    Leg {
        name: "clean",
        what: "clean",
        mib: 48,
        dead: Duration::ZERO,
        link: CLEAN,
        has_udp: true,
        begin: |_| Ok(()),
    },
    Leg {
        name: "loss",
        what: "10 % loss",
        mib: 48,
        dead: Duration::ZERO,
        link: LOSSY,
        has_udp: true,
        begin: |stage| stage.link_becomes(&Profile::default().loss_pct(10)),
    },
    Leg {
        name: "blocked",
        what: "UDP blocked, no loss",
        mib: 48,
        dead: Duration::ZERO,
        link: CLEAN,
        has_udp: false,
        begin: |stage| {
            stage.breaks(Fault::drop_udp())?;
            stage.link_becomes(&Profile::default())
        },
    },
    Leg {
        name: "address",
        what: "UDP free again, the client's address changes",
        mib: 48,
        dead: Duration::ZERO,
        link: CLEAN,
        has_udp: true,
        begin: |stage| {
            stage.mends()?;
            stage.client_moves(Duration::ZERO)
        },
    },
    Leg {
        name: "blackout",
        what: "everything dropped for 20 s, then clean",
        mib: 16,
        dead: Duration::from_secs(20),
        link: CLEAN,
        has_udp: true,
        begin: |stage| {
            stage.breaks(Fault::drop_all())?;
            stage.goes_on_for(Duration::from_secs(20))?;
            stage.mends()
        },
    },
    Leg {
        name: "end",
        what: "clean",
        mib: 48,
        dead: Duration::ZERO,
        link: CLEAN,
        has_udp: true,
        begin: |_| Ok(()),
    },
];

pub(super) const NAME: &str = "switching/auto/journey";
pub(super) const TOTAL: &str = "total_s";
/// What a reference carries, in MiB/s.
pub(super) const RATE: &str = "rate_mib_s";

const CLEAN: &str = "clean";
const LOSSY: &str = "loss-10";

/// As much as a leg.
const REFERENCE_MIB: u64 = 48;
const MIB: u64 = 1024 * 1024;

/// The comparison of transports at the start takes 3 s.
const SETTLING: Duration = Duration::from_secs(4);

/// Beyond the grace time: nothing will come any more.
const SILENCE_MAX: Duration = Duration::from_secs(90);
