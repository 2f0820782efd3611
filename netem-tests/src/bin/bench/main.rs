//! `make bench`: what the tunnel costs on loopback and what it carries over bad links, beside the
//! bare connection and Go frp; and, when asked for, what its users see of faults and of switching.
//!
//! Settings come from the environment ([`settings::Settings`]). Values are kept in `target/bench/`
//! as they come; the report goes into `docs/benchmarks.md`, or beside the values after a short look.

#![expect(clippy::print_stdout, reason = "this program talks to its user")]

mod document;
mod faults;
mod idle;
mod links;
mod load;
mod loopback;
mod machine;
mod metrics_cost;
mod rounds;
mod settings;
mod stolen;
mod stop;
mod switching;
mod table;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use netem_tests::words;

use settings::{Part, Settings};

fn main() -> ExitCode {
    // It calls itself for this.
    let is_called_by_itself = std::env::args().nth(1).as_deref() == Some(load::WORDS);
    if let Some(answered) = (!is_called_by_itself)
        .then(|| words::answer(HELP))
        .flatten()
    {
        return answered;
    }
    stop::listen();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_cut_short) if stop::is_asked_for() => {
            println!("\nbench: stopped; what has been measured over bad links is kept");
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Err(error) => {
            println!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const HELP: &str = "\
Measures the tunnel on loopback and over bad links, beside the bare connection and Go frp.

frps and frpc are to lie beside it (`make bench` builds all three); bad links need root. Values are
kept in target/bench/ as they come; what has been measured with the same programs is not measured
again. The report goes into docs/.

  QUICK=1            a short look at a few cells, in under three minutes; the documents stay as they are
  PART=loopback      what the tunnel costs when the link costs nothing
  PART=links         what it carries over the links of configs/links
  PART=other         and over those of configs/links/other
  PART=faults        what users see of faults
  PART=switching     and of switches
  PART=idle          what tunnels cost that nobody uses
  PART=load          what one server carries (LOAD=1 is the same)
  PART=metrics       what metrics cost
  ONLY=name,name     only these, such as quic/loss-10/bulk-down, frp-kcp/far/echo, kcp/*/starts
  RUNS=3             how many times each is measured
  LINKS=path,path    further profiles of links
  FRESH=1            measures again what has been measured
  REPORT=1           measures nothing, and writes the report from what there is
  FRP_PEER_DIR=dir   where frp's frps and frpc are
";

fn run() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some(load::WORDS) {
        return load::serve_words();
    }
    let settings = Settings::from_env()?;
    let is_anything_there = match settings.part {
        Part::Loopback => !settings.report_only && loopback::run(&settings)?,
        Part::Links | Part::Other => links::run(&settings)?,
        Part::Faults => faults::run(&settings)?,
        Part::Switching => switching::run(&settings)?,
        Part::Idle => idle::run(&settings)?,
        Part::Load => load::run(&settings)?,
        Part::Metrics => metrics_cost::run(&settings)?,
        Part::All => {
            let is_on_loopback = !settings.report_only && loopback::run(&settings)?;
            links::run(&settings)? | is_on_loopback
        }
    };
    ensure!(
        is_anything_there,
        "nothing has such a name; names are like quic/loss-10/bulk-down, frp-kcp/far/echo, \
         bare/clean/connect, loopback/bulk-1-down/holdfast, faults/auto/dead-30, \
         switching/auto/journey"
    );
    Ok(())
}

/// What shells report for Ctrl-C.
const EXIT_INTERRUPTED: u8 = 130;
