#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

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
