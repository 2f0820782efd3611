//! The program itself, as a service manager runs it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn a_service_manager_is_told_of_the_start_of_life_and_of_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = dir.path().join("frps.toml");
    std::fs::write(&config, "bindAddr = \"127.0.0.1\"\nbindPort = 0\n").unwrap();
    let mut frps = Command::new(env!("CARGO_BIN_EXE_frps"))
        .arg("-c")
        .arg(&config)
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "200000")
        .env("STATE_DIRECTORY", dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();

    assert_eq!(next(&manager), "READY=1\n");
    let wanted = [
        "WATCHDOG=1\n",
        "STATUS=0 clients, 0 proxies, 0 users' connections\n",
    ];
    wait_for_all(&manager, &wanted);
    // A sign of life is not a single one.
    wait_for_all(&manager, &["WATCHDOG=1\n"]);
    let killed = Command::new("kill").arg(frps.id().to_string()).status();
    assert!(killed.unwrap().success());
    wait_for_all(&manager, &["STOPPING=1\nSTATUS=stopping\n"]);
    assert_eq!(frps.wait().unwrap().signal(), Some(15));
}

#[test]
fn the_manual_has_a_page_for_the_program_and_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_frps"))
        .arg("man")
        .arg(dir.path())
        .status();
    assert!(made.unwrap().success());

    let page = std::fs::read_to_string(dir.path().join("frps.1")).unwrap();
    assert!(page.contains("bind\\-port"), "{page}");
    assert!(dir.path().join("frps-verify.1").is_file());
    assert!(
        !dir.path().join("frps-man.1").exists(),
        "it is not for users"
    );
}

fn wait_for_all(manager: &UnixDatagram, wanted: &[&str]) {
    let mut left = wanted.to_vec();
    while !left.is_empty() {
        let message = next(manager);
        left.retain(|text| *text != message);
    }
}

fn next(manager: &UnixDatagram) -> String {
    let mut message = [0; 512];
    loop {
        match manager.recv(&mut message) {
            // With a timeout the system does not go on by itself after a signal.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return String::from_utf8_lossy(&message[..outcome.unwrap()]).into_owned(),
        }
    }
}

/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);
