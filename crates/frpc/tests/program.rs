//! The program itself: commands, what they print where, and how they end.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

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
    let (_dir, path) = file("");
    for command in ["status", "reload", "stop"] {
        let output = frpc(&[command, "-c", text(&path)]);
        let expected = "web server port should be set if you want to use this feature\n";
        assert_eq!(
            (stdout(&output).as_str(), output.status.code()),
            (expected, Some(1))
        );
    }
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
