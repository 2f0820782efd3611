//! What the programs for developers say to whoever calls them with words.

use std::env;
use std::process::ExitCode;

/// Answers for a program whose settings all come from the environment: with `--help` by `help`, with
/// anything else by a refusal. `None` when it was called without a word, and is to run.
#[expect(clippy::print_stdout, reason = "it talks to the user")]
pub fn answer(help: &str) -> Option<ExitCode> {
    let word = env::args().nth(1)?;
    if ["--help", "-h", "help"].contains(&word.as_str()) {
        println!("{}", help.trim_end());
        return Some(ExitCode::SUCCESS);
    }
    println!("`{word}` means nothing here: all settings come from the environment.\n");
    println!("{}", help.trim_end());
    Some(ExitCode::from(EXIT_USAGE))
}

/// What clap, which the other programs use, ends with as well.
const EXIT_USAGE: u8 = 2;
