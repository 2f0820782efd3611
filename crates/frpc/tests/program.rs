//! The program itself: commands, what they print where, and how they end.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

fn frpc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_frpc"))
        .args(args)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("frpc.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_version_is_frps_and_nothing_else() {
    for flag in ["-v", "--version"] {
        let output = frpc(&[flag]);
        assert_eq!(
            (stdout(&output).as_str(), output.status.code()),
            ("0.70.1\n", Some(0))
        );
    }
}

#[test]
fn verify_says_that_the_syntax_is_ok() {
    let (_dir, path) = file("serverPort = 7001\n");
    let output = frpc(&["verify", "-c", text(&path)]);
    let expected = format!(
        "frpc: the configuration file {} syntax is ok\n",
        path.display()
    );
    assert_eq!((stdout(&output), output.status.code()), (expected, Some(0)));
}

#[test]
fn verify_prints_every_error_on_standard_output() {
    let (_dir, path) = file("serverPrt = 1\nuser = 5\n");
    let output = frpc(&["verify", "--config", text(&path)]);
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(1), "")
    );
    assert!(stdout(&output).contains("serverPrt"), "{}", stdout(&output));
    assert!(stdout(&output).contains("user"), "{}", stdout(&output));
    assert!(
        frpc(&["verify", "--strict_config=false", "-c", text(&path)])
            .status
            .code()
            == Some(1)
    );
}

#[test]
fn a_missing_file_is_named() {
    let output = frpc(&["-c", "/does/not/exist"]);
    assert_eq!(
        stdout(&output),
        "open /does/not/exist: no such file or directory\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn types_that_come_later_say_so() {
    for line in [
        "http -n x -l 80 -d example.com",
        "https -n x -l 80 --sd web",
        "tcpmux -n x -l 80 --mux httpconnect -d example.com",
        "sudp -n x -l 80 --sk k",
        "xtcp -n x -l 80 --sk k",
    ] {
        let output = frpc(&line.split(' ').collect::<Vec<_>>());
        let kind = line.split(' ').next().unwrap();
        assert_eq!(
            stdout(&output),
            format!("not supported yet: proxy type {kind}\n")
        );
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_single_proxy_without_a_name_is_refused() {
    let output = frpc(&["tcp", "-l", "22"]);
    assert_eq!(stdout(&output), "name should not be empty\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_the_command_line_does_not_know_is_an_error_on_standard_error() {
    let output = frpc(&["badcmd"]);
    assert_eq!(
        stderr(&output),
        "Error: unknown command \"badcmd\" for \"frpc\"\nRun 'frpc --help' for usage.\n"
    );
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(1), "")
    );
    let output = frpc(&["--bogus"]);
    assert!(stderr(&output).starts_with("Error: unknown flag: --bogus\n"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_command_for_a_running_frpc_needs_its_web_server() {
    let state = tempfile::tempdir().unwrap();
    let (_dir, path) = file(&format!("stateDir = \"{}\"\n", text(state.path())));
    for command in ["status", "reload", "stop"] {
        let output = frpc(&[command, "-c", text(&path)]);
        let printed = stdout(&output);
        let expected = "web server port should be set if you want to use this feature; without it";
        assert!(printed.starts_with(expected), "{printed}");
        assert!(printed.contains("nobody answers there"), "{printed}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_running_frpc_is_asked_over_its_socket_where_it_has_no_web_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let state = tempfile::tempdir().unwrap();
    let (_dir, path) = file(&format!(
        "serverAddr = \"127.0.0.1\"\nserverPort = {port}\nloginFailExit = false\n\
         stateDir = \"{}\"\n",
        text(state.path())
    ));
    let mut running = Command::new(env!("CARGO_BIN_EXE_frpc"))
        .args(["-c", text(&path)])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The socket is there before the first attempt to connect.
    listener.accept().unwrap();

    let output = frpc(&["status", "-c", text(&path)]);
    let printed = stdout(&output);
    assert!(
        printed.contains("Session:      reconnecting since"),
        "{printed}"
    );
    assert!(printed.contains("Wrong: there is no session"), "{printed}");
    assert!(printed.ends_with("Proxy Status...\n\n"), "{printed}");
    assert_eq!(output.status.code(), Some(3));
    let output = frpc(&["status", "--json", "-c", text(&path)]);
    let printed = stdout(&output);
    assert!(printed.starts_with("{\"format\":1,"), "{printed}");
    assert!(printed.contains("\"ok\":false"), "{printed}");
    assert_eq!(output.status.code(), Some(3));
    let broken = frpc(&["status", "-c", text(&path.with_extension("none"))]);
    assert_eq!(broken.status.code(), Some(2));

    let output = frpc(&["stop", "-c", text(&path)]);
    assert_eq!(stdout(&output), "stop success\n");
    assert!(running.wait().unwrap().success());
}

#[test]
fn a_failed_first_login_is_the_last_line() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let (_dir, path) = file(&format!(
        "serverAddr = \"127.0.0.1\"\nserverPort = {port}\n"
    ));
    let output = frpc(&["-c", text(&path)]);
    let printed = stdout(&output);
    assert_eq!(
        printed
            .lines()
            .last()
            .unwrap()
            .trim_start_matches("\u{1b}[0m"),
        format!(
            "login to the server failed: dial tcp 127.0.0.1:{port}: connect: connection refused. \
             With loginFailExit enabled, no additional retries will be attempted"
        )
    );
    assert!(printed.contains("try to connect to server..."), "{printed}");
    assert!(printed.contains("connect to server error: "), "{printed}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_admin_port_that_is_taken_ends_the_program() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (_dir, path) = file(&format!("webServer.port = {port}\n"));
    let output = frpc(&["-c", text(&path)]);
    let expected = format!("listen tcp 127.0.0.1:{port}: bind: address already in use");
    assert!(stdout(&output).contains(&expected), "{}", stdout(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_directory_runs_a_client_for_each_file_and_names_the_broken_ones() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("more")).unwrap();
    for name in ["a", "more/b"] {
        std::fs::write(dir.path().join(name), "unknown = 1").unwrap();
    }
    let output = frpc(&["--config-dir", text(dir.path())]);
    for name in ["a", "more/b"] {
        let path = dir.path().join(name);
        let expected = format!("frpc service error for config file [{}]", path.display());
        assert!(stdout(&output).contains(&expected), "{}", stdout(&output));
    }
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_completion_script_is_printed() {
    let output = frpc(&["completion", "bash"]);
    assert!(stdout(&output).contains("_frpc"));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_manual_has_a_page_for_the_program_and_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    let output = frpc(&["man", text(dir.path())]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    for page in ["frpc.1", "frpc-tcp.1", "frpc-verify.1"] {
        assert!(dir.path().join(page).is_file(), "{page}");
    }
    assert!(
        !dir.path().join("frpc-man.1").exists(),
        "it is not for users"
    );
}

#[test]
fn signals_end_it_as_signals() {
    // A server that accepts and says nothing.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let (_dir, path) = file(&format!(
        "serverAddr = \"127.0.0.1\"\nserverPort = {port}\n"
    ));
    for (name, number) in [("-TERM", 15), ("-INT", 2)] {
        let mut child = start(&path);
        let (mut conn, _) = server.accept().unwrap();
        let killed = Command::new("kill")
            .args([name, &child.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
        assert_eq!(child.wait().unwrap().signal(), Some(number));
        // The server is told: the connection ends.
        let mut rest = Vec::new();
        let _ = conn.read_to_end(&mut rest);
    }
}

#[test]
fn a_client_that_may_try_for_ever_has_started_at_once() {
    let told = told_to_the_manager("loginFailExit = false\n", &["READY=1\n"]);
    assert!(told.contains(&"READY=1\n".to_owned()), "{told:?}");
    assert!(told.contains(&"WATCHDOG=1\n".to_owned()), "{told:?}");
}

#[test]
fn a_client_that_may_fail_at_its_first_login_has_not_started_before() {
    let told = told_to_the_manager("", &[]);
    assert!(!told.contains(&"READY=1\n".to_owned()), "{told:?}");
    assert!(told.contains(&"WATCHDOG=1\n".to_owned()), "{told:?}");
}

/// Everything that a service manager hears of a client whose server accepts and says nothing, from
/// its start, when `first` comes, to its end.
fn told_to_the_manager(options: &str, first: &[&str]) -> Vec<String> {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let (dir, path) = file(&format!(
        "serverAddr = \"127.0.0.1\"\nserverPort = {port}\n{options}"
    ));
    let socket = dir.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut frpc = Command::new(env!("CARGO_BIN_EXE_frpc"))
        .args(["-c", text(&path)])
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "200000")
        .env("STATE_DIRECTORY", dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _conn = server.accept().unwrap();

    let mut told: Vec<String> = Vec::new();
    let mut hear_all = |wanted: &[&str]| {
        let mut message = [0; 512];
        while !wanted.iter().all(|text| told.iter().any(|t| t == text)) {
            let n = match manager.recv(&mut message) {
                // With a timeout the system does not go on by itself after a signal.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome.unwrap(),
            };
            told.push(String::from_utf8_lossy(&message[..n]).into_owned());
        }
    };
    hear_all(first);
    hear_all(&[
        &format!("STATUS=trying to reach 127.0.0.1:{port}\n"),
        "WATCHDOG=1\n",
    ]);
    let killed = Command::new("kill").arg(frpc.id().to_string()).status();
    assert!(killed.unwrap().success());
    hear_all(&["STOPPING=1\nSTATUS=stopping\n"]);
    frpc.wait().unwrap();
    told
}

/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts frpc and waits until it works.
fn start(path: &Path) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_frpc"))
        .args(["-c", text(path)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("try to connect to server...")));
    // Nobody reads on; a log line into a closed pipe must not end it either.
    drop(lines);
    child
}
