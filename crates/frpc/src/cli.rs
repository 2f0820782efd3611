//! The command line: frp's commands, flags and short forms.
//!
//! clap parses; what differs from frp's parser is put right here: `_` and `-` are the same in a
//! flag's name, `--flag=false` works for switches, words that nobody asked for are ignored after a
//! command, and errors read as frp's do.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

mod commands;
mod recovery_commands;
mod values;

pub use commands::{
    AdminFlags, Cli, Command, ConnectionFlags, DoctorFlags, DomainFlags, GlobalFlags, HttpProxy,
    HttpsProxy, NatholeCommand, PortProxy, ProxyFlags, SecretProxy, Shell, StatusFlags,
    TcpmuxProxy, VisitorCommand, VisitorFlags,
};
pub use recovery_commands::{ConfigCommand, RecoveryArgs, RecoveryCommand};

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
pub fn parse<I, T>(args: I) -> Result<Cli, EarlyExit>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let args: Vec<OsString> = args.into_iter().map(|arg| normalise(arg.into())).collect();
    Cli::try_parse_from(&args).map_err(|error| explain(&error, &args))
}

/// The completion script for `shell`.
pub fn completion(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Powershell => clap_complete::Shell::PowerShell,
    };
    clap_complete::generate(shell, &mut Cli::command(), "frpc", &mut script);
    script
}

/// Writes the manual pages into the directory `dir`: one for the program, one for each command.
pub fn manual(dir: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), dir)
}

/// `--server_addr=x_y` is `--server-addr=x_y`.
fn normalise(arg: OsString) -> OsString {
    let Some(text) = arg.to_str() else { return arg };
    let Some(flag) = text.strip_prefix("--") else {
        return arg;
    };
    let (name, value) = match flag.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (flag, None),
    };
    // A value that merely starts with two hyphens is left alone unless it looks like a flag.
    if !name.contains('_')
        || !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    {
        return arg;
    }
    let name = name.replace('_', "-");
    match value {
        Some(value) => format!("--{name}={value}").into(),
        None => format!("--{name}").into(),
    }
}

/// Says what clap found in frp's words.
fn explain(error: &clap::Error, args: &[OsString]) -> EarlyExit {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let flag = || context(ContextKind::InvalidArg).unwrap_or_default();
    let text = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return EarlyExit {
                stdout: error.render().to_string(),
                stderr: String::new(),
                code: 0,
            };
        }
        ErrorKind::InvalidSubcommand => {
            return unknown_command(&context(ContextKind::InvalidSubcommand).unwrap_or_default());
        }
        ErrorKind::UnknownArgument => {
            let flag = flag();
            match flag.strip_prefix("--") {
                Some(_) => format!("unknown flag: {flag}"),
                None => match flag.strip_prefix('-') {
                    Some(short) => format!("unknown shorthand flag: '{short}' in -{short}"),
                    None => return unknown_command(&flag),
                },
            }
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let flag = flag();
            let name = bare_name(&flag);
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            if value.is_empty() {
                format!("flag needs an argument: {name}")
            } else {
                let cause = std::error::Error::source(error)
                    .map_or_else(|| "invalid value".to_owned(), ToString::to_string);
                format!("invalid argument \"{value}\" for \"{name}\" flag: {cause}")
            }
        }
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.lines().next().unwrap_or_default();
            first.strip_prefix("error: ").unwrap_or(first).to_owned()
        }
    };
    EarlyExit {
        stdout: String::new(),
        stderr: format!("Error: {text}\n{}\n", usage(args)),
        code: usage_code(args),
    }
}

/// What a line that makes no sense ends with: frp's code, but for the commands whose code 1 says
/// something else.
fn usage_code(args: &[OsString]) -> i32 {
    let command = Cli::command();
    let mut words = args.iter().skip(1);
    let name = words.find_map(|word| command.find_subcommand(word));
    match name.map(clap::Command::get_name) {
        Some("status" | "doctor") => 2,
        _ => 1,
    }
}

/// The usage of the command that `args` ask for.
fn usage(args: &[OsString]) -> clap::builder::StyledStr {
    let mut command = Cli::command();
    // Hands the flags of all commands down to each.
    command.build();
    for word in args.iter().skip(1) {
        if let Some(found) = command.find_subcommand(word).cloned() {
            command = found;
        }
    }
    command.render_help()
}

/// `--config` of clap's `--config <CONFIG>`, `--strict-config` of `--strict-config[=<BOOL>]`.
fn bare_name(flag: &str) -> &str {
    flag.split([' ', '[', '=']).next().unwrap_or_default()
}

fn unknown_command(word: &str) -> EarlyExit {
    EarlyExit {
        stdout: String::new(),
        stderr: format!(
            "Error: unknown command \"{word}\" for \"frpc\"\nRun 'frpc --help' for usage.\n"
        ),
        code: 1,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn parse_line(line: &str) -> Result<Cli, EarlyExit> {
        parse(std::iter::once("frpc").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_flags_frpc_runs_with_the_file_of_frps_default_name() {
        let cli = parse_line("").unwrap();
        assert_eq!(cli.global.config, PathBuf::from("./frpc.ini"));
        assert!(cli.global.strict_config);
        assert!(cli.command.is_none());
    }

    #[test]
    fn underscores_and_hyphens_are_the_same_in_a_flags_name() {
        for line in [
            "--strict_config=false -c a_b",
            "--strict-config=false --config=a_b",
        ] {
            let cli = parse_line(line).unwrap();
            assert!(!cli.global.strict_config);
            assert_eq!(cli.global.config, PathBuf::from("a_b"));
        }
    }

    #[test]
    fn a_single_proxy_is_described_by_short_flags() {
        let cli = parse_line(
            "tcp -s 10.0.0.1 -P 7001 -t secret -u me -n ssh -l 22 -i 10.0.0.2 -r 6000 --ue \
             --uc=true --metadatas a=1,b=2 --tls_enable=false --log_level debug",
        )
        .unwrap();
        let Some(Command::Tcp(tcp)) = cli.command else {
            panic!("not tcp")
        };
        assert_eq!(tcp.connection.server_addr, "10.0.0.1");
        assert_eq!(tcp.connection.server_port, 7001);
        assert_eq!(tcp.connection.token, "secret");
        assert_eq!(tcp.connection.user, "me");
        assert!(!tcp.connection.tls_enable);
        assert_eq!(tcp.connection.log_level, "debug");
        assert_eq!(tcp.proxy.name, "ssh");
        assert_eq!(
            (tcp.proxy.local_ip.as_str(), tcp.proxy.local_port),
            ("10.0.0.2", 22)
        );
        assert_eq!(tcp.remote_port, 6000);
        assert!(tcp.proxy.use_encryption && tcp.proxy.use_compression);
        assert_eq!(tcp.proxy.metadatas, ["a=1", "b=2"]);
    }

    #[test]
    fn a_short_flag_may_be_joined_to_its_value() {
        let cli = parse_line("tcp -l22 -r=6000 -nweb").unwrap();
        let Some(Command::Tcp(tcp)) = cli.command else {
            panic!("not tcp")
        };
        assert_eq!((tcp.proxy.local_port, tcp.remote_port), (22, 6000));
        assert_eq!(tcp.proxy.name, "web");
    }

    #[test]
    fn connection_flags_belong_to_the_visitor_as_well() {
        for line in [
            "stcp visitor -n v --sk k --server_name ssh --bind_port 6001 -s 10.0.0.1",
            "stcp -s 10.0.0.1 visitor --visitor-name v --sk=k --server-name ssh --bind-port=6001",
        ] {
            let cli = parse_line(line).unwrap();
            let Some(Command::Stcp(stcp)) = cli.command else {
                panic!("not stcp")
            };
            assert_eq!(stcp.connection.server_addr, "10.0.0.1", "{line}");
            let Some(VisitorCommand::Visitor(visitor)) = stcp.visitor else {
                panic!("{line}")
            };
            assert_eq!((visitor.name.as_str(), visitor.bind_port), ("v", 6001));
        }
    }

    #[test]
    fn words_after_a_command_are_ignored() {
        assert!(parse_line("verify -c x extra words").is_ok());
        assert!(parse_line("status extra").is_ok());
        assert!(parse_line("tcp extra -n x").is_ok());
    }

    #[test]
    fn an_unknown_command_is_named_as_frp_names_it() {
        let exit = parse_line("badcmd").unwrap_err();
        assert_eq!(
            exit.stderr,
            "Error: unknown command \"badcmd\" for \"frpc\"\nRun 'frpc --help' for usage.\n"
        );
        assert_eq!((exit.code, exit.stdout.as_str()), (1, ""));
    }

    #[test]
    fn an_unknown_flag_is_named_and_the_usage_follows() {
        let exit = parse_line("--bogus").unwrap_err();
        assert!(
            exit.stderr.starts_with("Error: unknown flag: --bogus\n"),
            "{}",
            exit.stderr
        );
        assert!(exit.stderr.contains("--config"));
        assert_eq!(exit.code, 1);

        let exit = parse_line("tcp -l abc").unwrap_err();
        let expected = "Error: invalid argument \"abc\" for \"--local-port\" flag: ";
        assert!(exit.stderr.starts_with(expected), "{}", exit.stderr);

        let exit = parse_line("tcp -l").unwrap_err();
        let expected = "Error: flag needs an argument: --local-port";
        assert!(exit.stderr.starts_with(expected), "{}", exit.stderr);
    }

    #[test]
    fn the_usage_after_an_error_is_that_of_the_command() {
        let exit = parse_line("tcp -n a --bogus").unwrap_err();
        assert!(exit.stderr.contains("Usage: frpc tcp"), "{}", exit.stderr);
        assert!(exit.stderr.contains("--remote-port"), "{}", exit.stderr);

        let exit = parse_line("stcp -s host visitor --bogus").unwrap_err();
        assert!(exit.stderr.contains("--bind-port"), "{}", exit.stderr);
    }

    #[test]
    fn a_bandwidth_that_makes_no_sense_is_named_with_its_flag() {
        let exit = parse_line("tcp --bandwidth-limit 1GB").unwrap_err();
        let expected = "Error: invalid argument \"1GB\" for \"--bandwidth-limit\" flag: ";
        assert!(exit.stderr.starts_with(expected), "{}", exit.stderr);
    }

    #[test]
    fn completion_without_a_shell_says_which_there_are() {
        let exit = parse_line("completion").unwrap_err();
        assert!(exit.stdout.contains("powershell"), "{}", exit.stdout);
        assert_eq!((exit.code, exit.stderr.as_str()), (0, ""));
    }

    #[test]
    fn help_is_printed_on_standard_output_and_is_no_error() {
        for line in ["--help", "-h", "help", "help tcp", "tcp -h"] {
            let exit = parse_line(line).unwrap_err();
            assert_eq!((exit.code, exit.stderr.as_str()), (0, ""), "{line}");
            assert!(exit.stdout.contains("Usage:"), "{line}");
        }
    }

    #[test]
    fn status_takes_an_interval_or_its_own_and_says_two_for_nonsense() {
        let watch = |line: &str| match parse_line(line).map(|cli| cli.command) {
            Ok(Some(Command::Status(flags))) => Ok(flags.watch),
            Ok(_) => panic!("not status"),
            Err(exit) => Err(exit.code),
        };
        let seconds = |n| Ok(Some(std::time::Duration::from_secs(n)));
        assert_eq!(watch("status"), Ok(None));
        assert_eq!(watch("status --watch"), seconds(2));
        assert_eq!(watch("status --watch 5 --json"), seconds(5));
        assert_eq!(watch("status --watch 0.01"), Err(2));
        assert_eq!(watch("status --bogus"), Err(2));
    }

    #[test]
    fn the_api_timeout_is_a_duration_as_go_writes_it() {
        for (text, seconds) in [
            ("1m30s", 90.0),
            ("250ms", 0.25),
            ("1.5h", 5400.0),
            ("0", 0.0),
        ] {
            let cli = parse_line(&format!("status --api-timeout {text}")).unwrap();
            let Some(Command::Status(flags)) = cli.command else {
                panic!("not status")
            };
            assert!(
                (flags.admin.api_timeout.as_secs_f64() - seconds).abs() < 1e-9,
                "{text}"
            );
        }
        for text in ["", "5", "s", "1x", "-1s", "1..2s", "9e99h"] {
            assert!(
                parse(["frpc", "status", "--api-timeout", text]).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn every_shell_has_a_completion_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Powershell] {
            assert!(!completion(shell).is_empty(), "{shell:?}");
        }
    }

    #[test]
    fn commands_of_later_types_parse() {
        for line in [
            "http -n web -l 80 -d a.example,b.example --sd web --locations / --http_user u",
            "https -n web -l 443 --custom_domain a.example",
            "tcpmux -n m --mux httpconnect -d a.example",
            "sudp -n s --sk k --allow_users a,b",
            "xtcp visitor -n x --sk k --server_name p2p --bind_port 1",
            "nathole discover --nat_hole_stun_server s:1 -l :0",
        ] {
            assert!(parse_line(line).is_ok(), "{line}");
        }
    }
}
