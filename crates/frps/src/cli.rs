//! The command line: frp's commands, flags and short forms.
//!
//! clap parses, and `words` puts right what differs from frp's parser. The flags that stand for
//! configuration keys are a table, `SERVER_FLAGS`.

mod words;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use frp_core::config::Flag;

use crate::status::StatusArgs;
use words::{any_text, check_int, check_ports, explain, normalise, parse_bool};

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

/// The server's flags by their keys, including the defaults that only flags have.
fn server_flags(matches: &ArgMatches) -> Vec<Flag> {
    SERVER_FLAGS
        .iter()
        .filter_map(|flag| {
            let value = if flag.is_switch {
                matches.get_one::<bool>(flag.name).map(ToString::to_string)
            } else {
                matches.get_one::<String>(flag.name).cloned()
            };
            let value = value.filter(|value| !value.is_empty())?;
            Some(Flag::new(format!("--{}", flag.name), flag.key, value))
        })
        .collect()
}

/// A flag that stands for a configuration key.
struct ServerFlag {
    name: &'static str,
    short: Option<char>,
    key: &'static str,
    /// Empty when the key's own default holds.
    default: &'static str,
    help: &'static str,
    is_switch: bool,
    /// Refuses a value that can only be a mistake, as frp's parser does.
    check: fn(&str) -> Result<String, String>,
}

const fn flag(
    name: &'static str,
    key: &'static str,
    default: &'static str,
    help: &'static str,
) -> ServerFlag {
    ServerFlag {
        name,
        short: None,
        key,
        default,
        help,
        is_switch: false,
        check: any_text,
    }
}

const fn number(
    name: &'static str,
    key: &'static str,
    default: &'static str,
    help: &'static str,
) -> ServerFlag {
    let mut flag = flag(name, key, default, help);
    flag.check = check_int;
    flag
}

const fn switch(name: &'static str, key: &'static str, help: &'static str) -> ServerFlag {
    ServerFlag {
        name,
        short: None,
        key,
        default: "",
        help,
        is_switch: true,
        check: any_text,
    }
}

impl ServerFlag {
    const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    const fn checked(mut self, check: fn(&str) -> Result<String, String>) -> Self {
        self.check = check;
        self
    }
}

/// frp's flags. `dashboard-tls-mode` is not among them: in frp it swallows the next word and does
/// nothing else; see [`command`].
const SERVER_FLAGS: [ServerFlag; 22] = [
    flag("bind-addr", "bindAddr", "0.0.0.0", "bind address"),
    number("bind-port", "bindPort", "7000", "bind port").short('p'),
    number("kcp-bind-port", "kcpBindPort", "", "kcp bind udp port"),
    number("quic-bind-port", "quicBindPort", "", "quic bind udp port"),
    // In a file the default is bindAddr. frp's flags differ, and scripts may rely on it.
    flag(
        "proxy-bind-addr",
        "proxyBindAddr",
        "0.0.0.0",
        "proxy bind address",
    ),
    number("vhost-http-port", "vhostHTTPPort", "", "vhost http port"),
    number("vhost-https-port", "vhostHTTPSPort", "", "vhost https port"),
    number(
        "vhost-http-timeout",
        "vhostHTTPTimeout",
        "",
        "vhost http response header timeout",
    ),
    flag(
        "dashboard-addr",
        "webServer.addr",
        "0.0.0.0",
        "dashboard address",
    ),
    number("dashboard-port", "webServer.port", "", "dashboard port"),
    flag(
        "dashboard-user",
        "webServer.user",
        "admin",
        "dashboard user",
    ),
    flag(
        "dashboard-pwd",
        "webServer.password",
        "admin",
        "dashboard password",
    ),
    switch(
        "enable-prometheus",
        "enablePrometheus",
        "enable prometheus dashboard",
    ),
    flag("log-file", "log.to", "console", "log file"),
    flag("log-level", "log.level", "info", "log level"),
    number("log-max-days", "log.maxDays", "3", "log max days"),
    switch(
        "disable-log-color",
        "log.disablePrintColor",
        "disable log color in console",
    ),
    flag("token", "auth.token", "", "auth token").short('t'),
    flag("subdomain-host", "subDomainHost", "", "subdomain host"),
    flag("allow-ports", "allowPorts", "", "allow ports").checked(check_ports),
    number(
        "max-ports-per-client",
        "maxPortsPerClient",
        "",
        "max ports per client",
    ),
    switch("tls-only", "transport.tls.force", "frps tls only"),
];

/// Flags that frp has without any effect: they take a value and change nothing.
const WITHOUT_EFFECT: [(&str, &str); 3] = [
    (
        "dashboard-tls-mode",
        "without effect, as in frp: set webServer.tls in a file",
    ),
    (
        "dashboard-tls-cert-file",
        "without effect, as in frp: set webServer.tls in a file",
    ),
    (
        "dashboard-tls-key-file",
        "without effect, as in frp: set webServer.tls in a file",
    ),
];

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

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if time < MIN_SECONDS {
        return Err(format!("at least {} s", MIN_SECONDS.as_secs_f64()));
    }
    Ok(time)
}

/// Looking more often would be work for the program that is looked at.
const MIN_SECONDS: Duration = Duration::from_millis(200);

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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Action, EarlyExit> {
        parse(std::iter::once("frps").chain(line.split_whitespace()))
    }

    fn flags_of(line: &str) -> Vec<(String, String)> {
        let Action::RunFlags { flags, .. } = parse_line(line).unwrap() else {
            panic!("{line}")
        };
        flags
            .into_iter()
            .map(|flag| (flag.key, flag.value))
            .collect()
    }

    fn value_of(line: &str, key: &str) -> Option<String> {
        flags_of(line)
            .into_iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value)
    }

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn status_is_asked_of_the_server_of_a_file_or_of_flags() {
        let status = |line: &str| match parse_line(line) {
            Ok(Action::Status(file, args)) => Ok((file.map(|file| file.path), args)),
            Ok(_) => panic!("{line}"),
            Err(exit) => Err(exit.code),
        };
        let (file, args) = status("status -c x --json --watch").unwrap();
        assert_eq!(file, Some(PathBuf::from("x")));
        assert_eq!(
            (args.json, args.watch),
            (true, Some(Duration::from_secs(2)))
        );
        assert_eq!(status("status").unwrap().0, None);
        assert_eq!(status("status --bogus").unwrap_err(), 2);
        assert_eq!(parse_line("verify --bogus").unwrap_err().code, 1);
    }

    #[test]
    fn flags_alone_have_frps_defaults() {
        assert_eq!(value_of("", "proxyBindAddr").unwrap(), "0.0.0.0");
        assert_eq!(
            value_of("--bind-addr 127.0.0.1", "proxyBindAddr").unwrap(),
            "0.0.0.0"
        );
        assert_eq!(value_of("", "webServer.addr").unwrap(), "0.0.0.0");
        assert_eq!(value_of("", "webServer.password").unwrap(), "admin");
        assert_eq!(value_of("", "auth.token"), None);
    }

    #[test]
    fn underscores_and_hyphens_are_the_same_in_a_flags_name() {
        for line in [
            "--bind_port 7001 -t a_b",
            "--bind-port=7001 --token=a_b",
            "-p7001 -t=a_b",
        ] {
            assert_eq!(value_of(line, "bindPort").unwrap(), "7001", "{line}");
            assert_eq!(value_of(line, "auth.token").unwrap(), "a_b", "{line}");
        }
    }

    #[test]
    fn a_value_that_makes_no_sense_is_named_with_its_flag_and_the_usage_follows() {
        for (line, first) in [
            (
                "-p abc",
                "Error: invalid argument \"abc\" for \"--bind-port\" flag: \
                 strconv.ParseInt: parsing \"abc\": invalid syntax\n",
            ),
            (
                "--allow-ports 1-x",
                "Error: invalid argument \"1-x\" for \"--allow-ports\" flag: \
                 range number is invalid, strconv.ParseInt: parsing \"x\": invalid syntax\n",
            ),
            (
                "--strict-config=maybe",
                "Error: invalid argument \"maybe\" for \"--strict-config\" flag: \
                 strconv.ParseBool: parsing \"maybe\": invalid syntax\n",
            ),
        ] {
            let exit = parse_line(line).unwrap_err();
            assert!(exit.stderr.starts_with(first), "{}", exit.stderr);
            assert!(exit.stderr.contains("Usage: frps"), "{}", exit.stderr);
            assert_eq!((exit.code, exit.stdout.as_str()), (1, ""), "{line}");
        }
    }

    #[test]
    fn completion_without_a_shell_says_which_there_are() {
        let exit = parse_line("completion").unwrap_err();
        assert!(exit.stdout.contains("bash"), "{}", exit.stdout);
        assert_eq!((exit.code, exit.stderr.as_str()), (0, ""));
    }

    #[test]
    fn a_switch_may_be_given_a_value() {
        assert_eq!(
            value_of("--tls-only", "transport.tls.force").unwrap(),
            "true"
        );
        assert_eq!(
            value_of("--tls_only=false", "transport.tls.force").unwrap(),
            "false"
        );
        assert_eq!(value_of("", "transport.tls.force"), None);
        let exit = parse_line("--tls-only=maybe").unwrap_err();
        assert!(
            exit.stderr.starts_with("Error: invalid argument \"maybe\""),
            "{}",
            exit.stderr
        );
    }

    #[test]
    fn a_configuration_file_replaces_the_flags() {
        let Action::RunFile(file) =
            parse_line("-c frps.toml --bind-port 1 --strict_config=false").unwrap()
        else {
            panic!("not a file");
        };
        assert_eq!(
            (file.path, file.strict),
            (PathBuf::from("frps.toml"), false)
        );
    }

    #[test]
    fn verify_takes_its_file_before_and_after_the_word() {
        for line in ["verify -c x", "-c x verify", "-c x verify extra words"] {
            let Action::Verify(Some(file)) = parse_line(line).unwrap() else {
                panic!("{line}")
            };
            assert_eq!(file.path, PathBuf::from("x"));
        }
        assert!(matches!(
            parse_line("verify").unwrap(),
            Action::Verify(None)
        ));
    }

    #[test]
    fn the_fingerprint_is_that_of_a_file_or_of_the_defaults() {
        assert!(matches!(
            parse_line("fingerprint").unwrap(),
            Action::Fingerprint(None)
        ));
        let with_file = parse_line("fingerprint -c x").unwrap();
        assert!(matches!(with_file, Action::Fingerprint(Some(_))));
    }

    #[test]
    fn unsafe_features_are_a_list() {
        let Action::Verify(Some(file)) =
            parse_line("verify -c x --allow-unsafe=A,B --allow-unsafe C").unwrap()
        else {
            panic!("not verify");
        };
        assert_eq!(file.allow_unsafe, ["A", "B", "C"]);
    }

    #[test]
    fn the_version_is_asked_for_by_either_form() {
        for line in ["-v", "--version", "--version=true"] {
            assert!(
                matches!(parse_line(line).unwrap(), Action::Version),
                "{line}"
            );
        }
        assert!(matches!(
            parse_line("--version=false").unwrap(),
            Action::RunFlags { .. }
        ));
    }

    #[test]
    fn the_dashboards_tls_mode_takes_the_next_word_and_does_nothing() {
        assert_eq!(
            value_of("--dashboard-tls-mode true -p 1", "bindPort").unwrap(),
            "1"
        );
    }

    #[test]
    fn what_is_not_known_is_named_as_frp_names_it() {
        let exit = parse_line("badcmd").unwrap_err();
        assert_eq!(
            exit.stderr,
            "Error: unknown command \"badcmd\" for \"frps\"\nRun 'frps --help' for usage.\n"
        );
        let exit = parse_line("--bogus").unwrap_err();
        assert!(
            exit.stderr.starts_with("Error: unknown flag: --bogus\n"),
            "{}",
            exit.stderr
        );
        assert_eq!((exit.code, exit.stdout.as_str()), (1, ""));
    }

    #[test]
    fn help_names_both_versions_and_is_no_error() {
        for line in ["--help", "-h", "help"] {
            let exit = parse_line(line).unwrap_err();
            assert_eq!((exit.code, exit.stderr.as_str()), (0, ""), "{line}");
            assert!(exit.stdout.contains("Holdfast") && exit.stdout.contains(FRP_VERSION));
        }
    }
}
