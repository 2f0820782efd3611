//! The command line: frp's commands, flags and short forms.
//!
//! clap parses, and `words` puts right what differs from frp's parser. The flags that stand for
//! configuration keys are a table in `flags`.

mod flags;
#[cfg(test)]
mod tests;
mod words;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use frp_core::config::Flag;
use frp_core::flag_value::{parse_bool, parse_seconds};

use crate::status::StatusArgs;
use flags::{SERVER_FLAGS, WITHOUT_EFFECT, server_flags};
use words::{explain, normalise};

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Run the server with the configuration file.
    RunFile(FileArgs),
    /// Run the server with flags alone.
    RunFlags {
        /// The flags by their keys, with frp's defaults for those that were not given.
        flags: Vec<Flag>,
        /// `--allow-unsafe`.
        allow_unsafe: Vec<String>,
    },
    /// Check the configuration file; `None` when none was named.
    Verify(Option<FileArgs>),
    /// Print the fingerprint of the certificate that clients can pin.
    Fingerprint(Option<FileArgs>),
    /// Show the running server.
    Status(Option<FileArgs>, StatusArgs),
    /// Print the version that scripts look for.
    Version,
    /// Print a completion script.
    Completion(Shell),
    /// Write manual pages into a directory.
    Manual(PathBuf),
}

/// A configuration file and how to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileArgs {
    /// `--config`.
    pub path: PathBuf,
    /// `--strict-config`.
    pub strict: bool,
    /// `--allow-unsafe`.
    pub allow_unsafe: Vec<String>,
}

/// The program ends before it does anything: help was asked for, or the line makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlyExit {
    /// What to print on standard output.
    pub stdout: String,
    /// What to print on standard error.
    pub stderr: String,
    /// The exit code.
    pub code: i32,
}

/// Reads the command line, the program's name first.
pub fn parse<I, T>(args: I) -> Result<Action, EarlyExit>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let args: Vec<OsString> = args.into_iter().map(|arg| normalise(arg.into())).collect();
    let matches = command()
        .try_get_matches_from(&args)
        .map_err(|error| EarlyExit {
            code: usage_code(&error, &args),
            ..explain(&error)
        })?;
    Ok(action(&matches))
}

/// What a line that makes no sense ends with: frp's code, but for the command whose code 1 says
/// something else.
fn usage_code(error: &clap::Error, args: &[OsString]) -> i32 {
    let command = command();
    let mut words = args.iter().skip(1);
    let name = words.find_map(|word| command.find_subcommand(word));
    let is_status = name.is_some_and(|command| command.get_name() == "status");
    match explain(error).code {
        1 if is_status => 2,
        code => code,
    }
}

/// The completion script for `shell`.
pub fn completion(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "frps", &mut script);
    script
}

/// Writes the manual pages into the directory `dir`: one for the program, one for each command.
pub fn manual(dir: &Path) -> io::Result<()> {
    clap_mangen::generate_to(command(), dir)
}

fn action(matches: &ArgMatches) -> Action {
    let texts = |id: &str| {
        matches
            .get_many::<String>(id)
            .map(|v| v.cloned().collect())
            .unwrap_or_default()
    };
    let allow_unsafe: Vec<String> = texts("allow-unsafe");
    let path = matches
        .get_one::<PathBuf>("config")
        .filter(|path| !path.as_os_str().is_empty());
    let file = path.map(|path| FileArgs {
        path: path.clone(),
        strict: matches.get_one("strict-config").copied().unwrap_or(true),
        allow_unsafe: allow_unsafe.clone(),
    });
    match matches.subcommand() {
        Some(("verify", _)) => Action::Verify(file),
        Some(("fingerprint", _)) => Action::Fingerprint(file),
        Some(("status", sub)) => {
            let args = StatusArgs {
                json: sub.get_flag("json"),
                watch: sub.get_one("watch").copied(),
                timeout: sub.get_one("api-timeout").copied().unwrap_or(API_TIMEOUT),
            };
            Action::Status(file, args)
        }
        Some(("completion", sub)) => {
            Action::Completion(sub.get_one("shell").copied().unwrap_or(Shell::Bash))
        }
        Some(("man", sub)) => {
            Action::Manual(sub.get_one("dir").cloned().unwrap_or_else(|| ".".into()))
        }
        _ if matches.get_one("version").copied().unwrap_or(false) => Action::Version,
        _ => match file {
            Some(file) => Action::RunFile(file),
            None => Action::RunFlags {
                flags: server_flags(matches),
                allow_unsafe,
            },
        },
    }
}

fn command() -> Command {
    let extra = || Arg::new("extra").num_args(0..).hide(true);
    let mut command = Command::new("frps")
        .about(format!(
            "frps is the public side of a tunnel. Holdfast {}, a drop-in for frp {FRP_VERSION}.",
            env!("CARGO_PKG_VERSION")
        ))
        .disable_version_flag(true)
        .args_override_self(true)
        .arg(
            Arg::new("config")
                .short('c')
                .long("config")
                .global(true)
                .allow_hyphen_values(true)
                .value_parser(value_parser!(PathBuf))
                .help("config file of frps; the server's flags below are ignored with it"),
        )
        .arg(switch_arg("version", "version of frps").short('v'))
        .arg(
            switch_arg(
                "strict-config",
                "strict config parsing mode, unknown fields are errors",
            )
            .default_value("true"),
        )
        .arg(
            Arg::new("allow-unsafe")
                .long("allow-unsafe")
                .global(true)
                .value_delimiter(',')
                .action(ArgAction::Append)
                .help("allowed unsafe features, one or more of: TokenSourceExec"),
        )
        .subcommand(
            Command::new("verify")
                .about("Verify that the configures is valid")
                .arg(extra()),
        )
        .subcommand(
            Command::new("fingerprint")
                .about("Print the fingerprint of the TLS certificate, for transport.tls.pin")
                .arg(extra()),
        )
        .subcommand(status_command().arg(extra()))
        .subcommand(
            Command::new("completion")
                .about("Generate the autocompletion script for the specified shell")
                .arg_required_else_help(true)
                .arg(
                    Arg::new("shell")
                        .required(true)
                        .value_parser(value_parser!(Shell)),
                ),
        )
        .subcommand(
            // For packages. frp has no such command, and users do not need it.
            Command::new("man")
                .about("Write the manual pages into a directory")
                .hide(true)
                .arg(
                    Arg::new("dir")
                        .required(true)
                        .value_parser(value_parser!(PathBuf)),
                ),
        );
    for flag in &SERVER_FLAGS {
        let mut arg = if flag.is_switch {
            switch_arg(flag.name, flag.help)
        } else {
            Arg::new(flag.name)
                .long(flag.name)
                .global(true)
                .allow_hyphen_values(true)
                .value_parser(flag.check)
                .help(flag.help)
        };
        if let Some(short) = flag.short {
            arg = arg.short(short);
        }
        if !flag.default.is_empty() {
            arg = arg.default_value(flag.default);
        }
        command = command.arg(arg);
    }
    for (name, help) in WITHOUT_EFFECT {
        command = command.arg(
            Arg::new(name)
                .long(name)
                .global(true)
                .allow_hyphen_values(true)
                .help(help),
        );
    }
    command
}

/// `frps status`, which frp does not have.
fn status_command() -> Command {
    Command::new("status")
        .about("Overview of the running frps: listeners, clients, proxies, what is wrong")
        .long_about(
            "Shows how clients can come, who is there and since when, over which connections with \
             which round trip and loss, whose connections are kept while they are away, the \
             proxies with their users, and what was refused. The running frps is asked over its \
             webServer, or over a socket in its state directory where there is none.\n\n\
             Exit codes: 0 all is well, 1 the running frps cannot be reached, 2 the command line \
             or the configuration makes no sense, 3 it was reached and something is wrong.",
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("print all of it as one JSON object"),
        )
        .arg(
            Arg::new("watch")
                .long("watch")
                .value_name("SECONDS")
                .num_args(0..=1)
                .default_missing_value("2")
                .value_parser(parse_seconds)
                .help("look again every so many seconds (2 if none are given), until Ctrl-C"),
        )
        .arg(
            Arg::new("api-timeout")
                .long("api-timeout")
                .value_name("SECONDS")
                .value_parser(parse_seconds)
                .help("how long an answer may take (10)"),
        )
}

/// For a server that has thousands of clients to show.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// A switch as frp's parser has it: `--x`, or `--x=false` in any of Go's spellings.
fn switch_arg(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .global(true)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(parse_bool)
        .hide_possible_values(true)
        .help(help)
}

/// The version of frp that this program stands in for: scripts and peers ask for it.
pub const FRP_VERSION: &str = "0.70.1";
