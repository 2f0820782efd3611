//! `make demo LINK=bad`: a download that goes on whatever happens to the link.
//!
//! A server, a client and a link between them, in networks of their own. One thing after the other
//! goes wrong, and every second a line tells how the download is doing and over what. At the end
//! every byte of it has been checked. It takes a minute and needs root.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netem_tests::observe::{NumberedStream, Rate, Rates};
use netem_tests::{Fault, Lab, Manner, Profile, Stage, Tunnel, events};

use super::{Colours, step};

/// Plays the script.
pub(crate) fn run(colours: &Colours) -> Result<()> {
    if let Err(reason) = Lab::available() {
        bail!("LINK=bad needs the link lab, which does not work here: {reason}");
    }
    let tunnel = Tunnel::ours()?;
    let manner = Manner {
        rates: Rates::both(1.0),
        seed: SEED,
        is_quiet: true,
        is_stopped,
    };
    let mut stage = Stage::open("demo", &tunnel, &good_link(), manner)?;
    step(
        colours,
        "frps and frpc run in two networks with a link of 20 Mbit/s and 50 ms between them",
    );
    let port = stage.port()?;
    let rates = Rates {
        down: Rate::Unlimited,
        up: Rate::Mbit(0.05),
    };
    let open = || NumberedStream::open(stage.service(), port, 1, rates);
    let download = stage.pair().as_user(open)?;
    step(
        colours,
        "a user downloads through the tunnel, on one connection",
    );
    println!();

    let mut show = Show {
        colours,
        download: &download,
        start: Instant::now(),
        n_told: 0,
        in_use: String::new(),
        used: Vec::new(),
    };
    let mut summary = Vec::new();
    for scene in &SCRIPT {
        show.title(scene.title);
        let begin = Instant::now();
        show.used = vec![show.in_use.clone()];
        (scene.begin)(&mut stage)?;
        for _ in 0..scene.seconds {
            show.second(&stage)?;
        }
        summary.push(show.sum_up(scene, begin));
    }
    let n_bytes = download.down().n_bytes();
    println!();
    println!("  {}", colours.title(&summary_head()));
    for line in summary {
        println!("  {line}");
    }
    println!();
    download
        .finish(Duration::from_secs(20))
        .context("the download did not end whole")?;
    step(
        colours,
        &format!(
            "the download is intact: {:.0} MiB on that one connection, each word of it checked as it \
             came; none lost, repeated or out of order",
            mib(n_bytes)
        ),
    );
    Ok(())
}

/// Returns the heads of what [`Show::sum_up`] tells.
fn summary_head() -> String {
    format!("{:<34}{:>7}{:>17}  over", "", "MiB", "longest silence")
}

/// Lets the demo end early.
pub(crate) fn stop() {
    STOPPED.store(true, Ordering::Relaxed);
}

fn is_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// What happens to the link.
struct Scene {
    title: &'static str,
    seconds: u32,
    begin: fn(&mut Stage) -> Result<()>,
}

const SCRIPT: [Scene; 7] = [
    Scene {
        title: "The link is clean.",
        seconds: 6,
        begin: |_| Ok(()),
    },
    Scene {
        title: "One packet in ten gets lost.",
        seconds: 7,
        begin: |stage| stage.link_becomes(&good_link().loss_pct(10)),
    },
    Scene {
        title: "Somebody drops all UDP.",
        seconds: 9,
        begin: |stage| {
            stage.link_becomes(&good_link())?;
            stage.breaks(Fault::drop_udp())
        },
    },
    Scene {
        title: "UDP passes again.",
        seconds: 6,
        begin: Stage::mends,
    },
    Scene {
        title: "The client gets another address.",
        seconds: 8,
        begin: |stage| stage.client_moves(Duration::ZERO),
    },
    Scene {
        title: "Nothing gets through.",
        seconds: 10,
        begin: |stage| stage.breaks(Fault::drop_all()),
    },
    Scene {
        title: "All is well again.",
        seconds: 8,
        begin: Stage::mends,
    },
];

/// The timeline as it is told.
struct Show<'a> {
    colours: &'a Colours,
    download: &'a NumberedStream,
    start: Instant,
    /// How many lines of the client's log have been told.
    n_told: usize,
    in_use: String,
    /// The transports that were in use in this scene, one after the other.
    used: Vec<String>,
}

impl Show<'_> {
    fn title(&self, title: &str) {
        println!("  {:>3} s  {}", self.seconds(), self.colours.title(title));
    }

    /// Lets a second pass and tells what came of it.
    fn second(&mut self, stage: &Stage) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(1) {
            if is_stopped() {
                bail!("stopped");
            }
            thread::sleep(Duration::from_millis(50));
        }
        self.tell_events(stage)?;
        if let Some((_, end)) = self.download.broken() {
            bail!("the download is {end}");
        }
        let n_bytes = self.download.down().n_bytes_between(begin, Instant::now());
        let mbit = n_bytes as f64 * 8.0 / 1e6;
        let bar = "█".repeat(blocks(mbit));
        let line = format!("{mbit:5.1} Mbit/s  {bar}");
        let line = if mbit < 0.5 {
            self.colours.bad(&line)
        } else {
            line
        };
        println!("  {:>3} s  {:<9} {line}", self.seconds(), self.in_use);
        Ok(())
    }

    /// Tells what the client has decided since the last time.
    fn tell_events(&mut self, stage: &Stage) -> Result<()> {
        let lines = stage.pair().client()?.lines();
        for (_, line) in lines.iter().skip(self.n_told) {
            let Some(name) = events::in_use(line) else {
                continue;
            };
            self.in_use = name.to_owned();
            self.used.push(name.to_owned());
            let what = line.find("switched").and_then(|at| line.get(at..));
            if let Some(what) = what {
                let what = format!("frpc: {what}");
                println!("  {:>3} s  {}", self.seconds(), self.colours.good(&what));
            }
        }
        self.n_told = lines.len();
        Ok(())
    }

    /// Returns what came of a scene that began at `begin` and ends now.
    fn sum_up(&self, scene: &Scene, begin: Instant) -> String {
        let now = Instant::now();
        let down = self.download.down();
        let mut used = self.used.clone();
        used.retain(|name| !name.is_empty());
        used.dedup();
        format!(
            "{:<34}{:>7.1}{:>15.1} s  {}",
            scene.title,
            mib(down.n_bytes_between(begin, now)),
            down.longest_gap(begin, now).as_secs_f64(),
            used.join(", ")
        )
    }

    fn seconds(&self) -> u64 {
        self.start.elapsed().as_secs()
    }
}

/// Returns how long a bar is: two blocks for a Mbit/s.
fn blocks(mbit: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and the link's is the most"
    )]
    let n = (mbit * 2.0).round() as usize;
    n.min(60)
}

fn mib(n_bytes: u64) -> f64 {
    n_bytes as f64 / (1024.0 * 1024.0)
}

fn good_link() -> Profile {
    Profile::delay_ms(25).rate_mbit(20).queue_packets(100)
}

static STOPPED: AtomicBool = AtomicBool::new(false);

/// The same losses every time.
const SEED: u64 = 1;
