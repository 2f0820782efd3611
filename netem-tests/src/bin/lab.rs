//! Opens the link lab for whoever wants to try something by hand.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that talks to whoever runs it"
)]

use std::path::PathBuf;
use std::process::{Child, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use netem_tests::{Lab, Place, Profile};

/// Two networks with a bad link between them, and commands in either.
///
/// The near side is the public one (frps and its users), the far side is behind the link (frpc and
/// services). In commands, {near} and {far} stand for the two addresses. Commands of the near side
/// start first, those of the far side after a pause; the lab ends when all of the far side have
/// ended (or of the near side, when there are no others), and ends what still runs. Counters of the
/// link are printed last.
///
/// Needs root.
#[derive(Debug, Parser)]
#[command(
    name = "lab",
    after_help = "Examples:
  A download over the bare link, by cubic:
    lab --link configs/links/loss-5.toml --near 'iperf3 -s -1' --far 'iperf3 -c {near} -R'
  The same without a file:
    lab --rate-mbit 20 --delay-ms 40 --loss-pct 5 --near 'iperf3 -s -1' --far 'iperf3 -c {near}'
  A tunnel, with a shell for its user:
    lab --link configs/links/burst.toml --near 'frps -c frps.toml' --far 'frpc -c frpc.toml' \\
        --far 'iperf3 -s' --shell near"
)]
struct Args {
    /// The profile of the link, a file as in configs/links (default: 100 Mbit/s, 25 ms each way,
    /// a queue of 500 packets)
    #[arg(long, value_name = "FILE")]
    link: Option<PathBuf>,
    /// Runs a command on the near side; may be given several times
    #[arg(long, value_name = "COMMAND")]
    near: Vec<String>,
    /// Runs a command on the far side; may be given several times
    #[arg(long, value_name = "COMMAND")]
    far: Vec<String>,
    /// Opens a shell on this side; the lab ends with it
    #[arg(long, value_name = "SIDE")]
    shell: Option<Side>,
    /// Repeats the random decisions of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// How long the far side waits before its commands start
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pause_ms: u64,
    /// Changes the profile's rate
    #[arg(long)]
    rate_mbit: Option<f64>,
    /// Changes the profile's delay, which is that of one way
    #[arg(long)]
    delay_ms: Option<f64>,
    /// Changes the profile's jitter
    #[arg(long)]
    jitter_ms: Option<f64>,
    /// Changes the profile's queue
    #[arg(long)]
    queue_packets: Option<usize>,
    /// Changes the profile's loss, which is random then
    #[arg(long)]
    loss_pct: Option<f64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Side {
    Near,
    Far,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    if args.near.is_empty() && args.far.is_empty() && args.shell.is_none() {
        bail!("nothing to do: give --near, --far or --shell (and see --help)");
    }
    let profile = profile(args)?;
    if let Err(reason) = Lab::available() {
        bail!("it cannot run here: {reason}");
    }
    let lab = match args.seed {
        Some(seed) => Lab::start_seeded("by hand", &profile, seed)?,
        None => Lab::start("by hand", &profile)?,
    };
    let (near, far) = (lab.near(), lab.far());
    println!("near {}, far {}", near.address(), far.address());

    let mut near_children = start_all(&lab, near, &args.near)?;
    let has_more = !args.far.is_empty() || args.shell.is_some();
    if has_more && !near_children.is_empty() {
        // Nothing tells when an arbitrary command is ready.
        thread::sleep(Duration::from_millis(args.pause_ms));
    }
    let mut far_children = start_all(&lab, far, &args.far)?;

    let status = match args.shell {
        Some(side) => shell(
            &lab,
            if matches!(side, Side::Near) {
                near
            } else {
                far
            },
        )?,
        None if far_children.is_empty() => wait_for_all(&mut near_children)?,
        None => wait_for_all(&mut far_children)?,
    };
    thread::sleep(LAST_PACKETS);
    println!("{}", lab.counters()?);
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

fn profile(args: &Args) -> Result<Profile> {
    let mut profile = match &args.link {
        Some(path) => Profile::load(path)?,
        None => Profile::default(),
    };
    if let Some(rate) = args.rate_mbit {
        profile = profile.rate_mbit(rate);
    }
    if let Some(delay) = args.delay_ms {
        profile = profile.one_way_delay_ms(delay);
    }
    if let Some(jitter) = args.jitter_ms {
        profile = profile.jitter_ms(jitter);
    }
    if let Some(queue) = args.queue_packets {
        profile = profile.queue_packets(queue);
    }
    if let Some(loss) = args.loss_pct {
        profile = profile.loss_pct(loss);
    }
    Ok(profile)
}

fn start_all(lab: &Lab, place: &Place, commands: &[String]) -> Result<Vec<Child>> {
    commands
        .iter()
        .map(|text| {
            let text = text
                .replace("{near}", &lab.near().address().to_string())
                .replace("{far}", &lab.far().address().to_string());
            place
                .command("sh")
                .args(["-c", &text])
                .stdin(Stdio::null())
                .spawn()
                .with_context(|| format!("cannot start {text}"))
        })
        .collect()
}

/// Returns the status of the first that failed, or else of the last.
fn wait_for_all(children: &mut [Child]) -> Result<ExitStatus> {
    let mut result = ExitStatus::default();
    for child in children {
        let status = child.wait()?;
        if result.success() {
            result = status;
        }
    }
    Ok(result)
}

fn shell(lab: &Lab, place: &Place) -> Result<ExitStatus> {
    println!(
        "shell on the side of {}; the lab ends with it",
        place.address()
    );
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    place
        .command(&shell)
        .env("NEAR", lab.near().address().to_string())
        .env("FAR", lab.far().address().to_string())
        .status()
        .with_context(|| format!("cannot start {shell}"))
}

/// What still travels when the commands have ended: acknowledgements, mostly.
const LAST_PACKETS: Duration = Duration::from_millis(100);
