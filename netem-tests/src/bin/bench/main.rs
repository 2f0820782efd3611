//! `make bench`: what the tunnel costs on loopback and what it carries over bad links, beside the
//! bare connection and Go frp.
//!
//! Settings come from the environment ([`settings::Settings`]). Values are kept in `target/bench/`
//! as they come; the report goes into `docs/benchmarks.md`, or beside the values after a short look.

#![expect(clippy::print_stdout, reason = "this program talks to its user")]

mod document;
mod links;
mod loopback;
mod machine;
mod settings;
mod stop;
mod table;

use std::process::ExitCode;

use anyhow::{Result, ensure};

use settings::{Part, Settings};

fn main() -> ExitCode {
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

fn run() -> Result<()> {
    let settings = Settings::from_env()?;
    let mut is_anything_there = false;
    if settings.part != Part::Links && !settings.report_only {
        is_anything_there |= loopback::run(&settings)?;
    }
    if settings.part != Part::Loopback {
        is_anything_there |= links::run(&settings)?;
    }
    ensure!(
        is_anything_there,
        "nothing has such a name; names are like quic/loss-10/bulk-down, frp-kcp/far/echo, \
         bare/clean/connect, loopback/bulk-1-down/holdfast"
    );
    Ok(())
}

/// What shells report for Ctrl-C.
const EXIT_INTERRUPTED: u8 = 130;
