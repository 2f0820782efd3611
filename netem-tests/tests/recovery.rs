//! How a client gets itself out of trouble, with the built programs: configurations that do not
//! work, a server that moves, webhooks that are dead, a disk that is full.
//!
//! Those that need mounts of their own need root, and say that they are skipped without it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use netem_tests::name_server::NameServer;
use netem_tests::traffic::{self, EchoConn};
use netem_tests::webhook::Webhook;
use netem_tests::{
    PATIENCE, Pair, PairBuilder, Process, Programs, Proxy, Service, Sides, TlsTerminator, free_port,
};
use serde_json::Value;

/// A pair that judges configurations within seconds.
fn pair(service: &Service, options: &str) -> PairBuilder {
    PairBuilder::new(&Sides::ours().unwrap())
        .server_option("allowPorts = [{ start = 10000, end = 32000 }]")
        .client_option("recovery.confirmSeconds = 2")
        .client_option(options)
        .proxy(Proxy::tcp("web", service.port()))
        .proxy(Proxy::tcp("other", service.port()))
}

fn webhooks(urls: &[String]) -> String {
    let entries = urls.iter().map(|url| {
        format!("{{ type = \"webhook\", level = \"info\", timeoutSeconds = 1, url = \"{url}\" }}")
    });
    format!("alerts = [{}]", entries.collect::<Vec<_>>().join(", "))
}

fn recovery(pair: &Pair) -> Value {
    let (_, text) = pair.frpc_with("recovery", &["--json"]).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Waits until what `frpc recovery --json` prints is so.
fn wait_for_recovery(pair: &Pair, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = recovery(pair);
        if is_so(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "no {what}: {status}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn wait_for_confirmation(pair: &Pair) {
    let client = pair.client().unwrap();
    client.wait_for_line("works, and is confirmed").unwrap();
}

/// For whoever reads the report.
fn tell(text: &str) {
    // Straight to the file: the print macros are what the test runner catches.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

#[test]
fn a_reload_that_loses_a_proxy_is_taken_back_and_the_others_notice_nothing() {
    let (service, webhook) = (Service::start().unwrap(), Webhook::start().unwrap());
    let options = webhooks(&[webhook.url()]);
    let pair = pair(&service, &options).start().unwrap();
    wait_for_confirmation(&pair);
    let mut other = EchoConn::open(pair.port("other").unwrap()).unwrap();
    let web = pair.port("web").unwrap();
    let good = format!("remotePort = {web}\n");

    pair.replace_in_client_file(&good, "remotePort = 99\n")
        .unwrap();
    let began = Instant::now();
    let mark = pair.client().unwrap().mark();
    assert!(pair.frpc("reload").unwrap().0.success());
    let line = pair
        .client()
        .unwrap()
        .wait_for_line_after(mark, "is taken back")
        .unwrap();
    let served = traffic::wait_until_served(web, Instant::now() + PATIENCE).unwrap();
    tell(&format!(
        "a broken configuration was taken back, and its users are served again, {:.2} s after the \
         reload",
        (served - began).as_secs_f64()
    ));

    assert!(line.contains("port not allowed"), "{line}");
    other.round().unwrap();
    let told = webhook.wait_for("config", "firing").unwrap();
    assert_eq!(told["level"], "warning", "{told}");
    let (_, history) = pair.frpc_with("config", &["history"]).unwrap();
    assert!(
        history.contains("*    1") && history.contains("taken back"),
        "{history}"
    );
    let (_, diff) = pair.frpc_with("config", &["diff"]).unwrap();
    assert!(diff.contains("+remotePort = 99"), "{diff}");

    // The file is put right, with something that is new and works.
    pair.replace_in_client_file("remotePort = 99\n", &format!("{good}# right\n"))
        .unwrap();
    assert!(pair.frpc("reload").unwrap().0.success());
    let over = webhook.wait_for("config", "resolved").unwrap();
    assert_eq!(over["since"], told["since"]);
    other.round().unwrap();
}

#[test]
fn a_start_that_cannot_log_in_or_be_read_goes_back_to_what_worked() {
    let service = Service::start().unwrap();
    let mut pair = pair(&service, "").start().unwrap();
    wait_for_confirmation(&pair);
    let web = pair.port("web").unwrap();
    for (old, new) in [
        (PairBuilder::TOKEN, "not the token"),
        ("not the token\"", "an open string"),
    ] {
        pair.kill_client();
        pair.replace_in_client_file(
            &format!("auth.token = \"{old}"),
            &format!("auth.token = \"{new}"),
        )
        .unwrap();
        let began = Instant::now();
        pair.spawn_client().unwrap();
        let client = pair.client().unwrap();
        client
            .wait_for_line("runs in the place of the file")
            .unwrap();
        let served = traffic::wait_until_served(web, Instant::now() + PATIENCE).unwrap();
        tell(&format!(
            "started with {new:?}, users are served after {:.2} s",
            (served - began).as_secs_f64()
        ));
        EchoConn::open(web).unwrap().round().unwrap();
    }
}

#[test]
fn a_version_is_gone_back_to_by_hand_and_written_to_the_file() {
    let service = Service::start().unwrap();
    let pair = pair(&service, "").start().unwrap();
    wait_for_confirmation(&pair);
    let (old, new) = (pair.port("web").unwrap(), free_port().unwrap());
    pair.replace_in_client_file(
        &format!("remotePort = {old}\n"),
        &format!("remotePort = {new}\n"),
    )
    .unwrap();
    assert!(pair.frpc("reload").unwrap().0.success());
    assert!(traffic::wait_until_served(new, Instant::now() + PATIENCE).is_some());
    wait_for_recovery(&pair, "confirmation", |status| {
        status["version"] == 2 && status["version_state"] == "confirmed"
    });

    let (status, text) = pair.frpc_with("config", &["rollback", "--write"]).unwrap();
    assert!(
        status.success() && text.contains("gone back to version 1"),
        "{text}"
    );
    assert!(traffic::wait_until_served(old, Instant::now() + PATIENCE).is_some());
    // Nothing differs between the file and what it was.
    let (_, diff) = pair.frpc_with("config", &["diff", "1", "file"]).unwrap();
    assert_eq!(diff.trim(), "");
}

#[test]
fn dead_and_slow_webhooks_delay_nobody_and_the_end_of_trouble_is_told() {
    let service = Service::start().unwrap();
    // Takes connections and says nothing.
    let slow = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let slow_url = format!("http://127.0.0.1:{}/", slow.local_addr().unwrap().port());
    let dead_url = format!("http://127.0.0.1:{}/", free_port().unwrap());
    let webhook = Webhook::start().unwrap();
    let options = webhooks(&[dead_url, slow_url, webhook.url()]);
    let local = free_port().unwrap();
    let pair = pair(&service, &options)
        .client_option("recovery.watchSeconds = 1")
        .proxy(Proxy::tcp("gone", local))
        .start()
        .unwrap();

    // A user finds that the local service is gone.
    let gone = pair.port("gone").unwrap();
    traffic::connect(gone).map(drop).unwrap();
    let told = webhook.wait_for("local:gone", "firing").unwrap();
    assert!(
        told["summary"]
            .as_str()
            .unwrap()
            .contains("connection refused"),
        "{told}"
    );
    let mut echo = EchoConn::open(pair.port("web").unwrap()).unwrap();
    echo.round().unwrap();
    let status = wait_for_recovery(&pair, "message that failed", |status| {
        let sinks = status["alerts"].as_array().unwrap();
        sinks[..2]
            .iter()
            .all(|sink| sink["failed"].as_u64() >= Some(1))
    });
    assert_ne!(status["alerts"][0]["error"], "", "{status}");
    assert!(status["alerts"][2]["sent"].as_u64() >= Some(1), "{status}");
    echo.round().unwrap();

    // It is there again, and nobody but frpc asks.
    let _service = TcpListener::bind((Ipv4Addr::LOCALHOST, local)).unwrap();
    let over = webhook.wait_for("local:gone", "resolved").unwrap();
    assert_eq!(over["since"], told["since"]);
}

#[test]
fn a_webhook_is_told_over_https_if_the_system_vouches_for_it() {
    let service = Service::start().unwrap();
    let webhook = Webhook::start().unwrap();
    let trusted = TlsTerminator::start(webhook.port()).unwrap();
    let stranger = TlsTerminator::start(webhook.port()).unwrap();
    let urls = [&stranger, &trusted].map(|tls| format!("https://localhost:{}/", tls.port()));
    let pair = pair(&service, &webhooks(&urls))
        .system_trusts(trusted.certificate())
        .client_option("recovery.watchSeconds = 1")
        .proxy(Proxy::tcp("gone", free_port().unwrap()))
        .start()
        .unwrap();

    traffic::connect(pair.port("gone").unwrap())
        .map(drop)
        .unwrap();
    webhook.wait_for("local:gone", "firing").unwrap();
    let status = wait_for_recovery(&pair, "message that failed", |status| {
        let count = |n: usize, what: &str| status["alerts"][n][what].as_u64();
        count(0, "failed") >= Some(1) && count(1, "sent") >= Some(1)
    });
    let error = status["alerts"][0]["error"].as_str().unwrap();
    assert!(error.contains("TLS with localhost: "), "{error}");
    assert_eq!(status["alerts"][0]["sent"], 0, "{status}");
}

#[test]
fn parts_are_turned_off_and_on_while_it_runs() {
    let service = Service::start().unwrap();
    let pair = pair(&service, "recovery.off = [\"switch\"]")
        .client_option("recovery.watchSeconds = 1")
        .start()
        .unwrap();
    assert_eq!(recovery(&pair)["parts"]["switch"], false);
    wait_for_confirmation(&pair);
    for (word, is_on) in [("off", false), ("on", true)] {
        let (status, _) = pair.frpc_with("recovery", &[word, "confirm"]).unwrap();
        assert!(status.success());
        assert_eq!(recovery(&pair)["parts"]["confirm"], is_on);
    }
    let (status, text) = pair.frpc_with("recovery", &["off", "nothing"]).unwrap();
    assert!(!status.success() && text.contains("reprobe"), "{text}");

    // What nobody judges is not taken back: neither the trial nor, later, the watch.
    for part in ["confirm", "rollback"] {
        pair.frpc_with("recovery", &["off", part]).unwrap();
    }
    let web = pair.port("web").unwrap();
    pair.replace_in_client_file(&format!("remotePort = {web}\n"), "remotePort = 99\n")
        .unwrap();
    assert!(pair.frpc("reload").unwrap().0.success());
    wait_for_recovery(&pair, "trouble", |status| {
        let troubles = status["troubles"].as_array().unwrap();
        troubles.iter().any(|seen| seen["trouble"] == "proxy")
    });
    assert_eq!(recovery(&pair)["version_state"], "unconfirmed");
}

/// Starts `program` where `script` has mounted what it wants: `$0` and so on are `words`.
fn start_with_mounts(name: &str, script: &str, words: &[&str], dir: &Path) -> Process {
    let mut args = vec!["--mount", "/bin/sh", "-c", script];
    args.extend(words);
    Process::start(name, Path::new("/usr/bin/unshare"), &args, dir).unwrap()
}

fn can_mount(what: &str) -> bool {
    let tried = Command::new("/usr/bin/unshare")
        .args(["--mount", "/bin/true"])
        .output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        tell(&format!(
            "***  SKIPPED: {what} needs root, for mounts of its own"
        ));
    }
    can
}

#[test]
fn a_server_that_moved_to_another_address_is_found_by_its_name() {
    if !can_mount("a server that moves by DNS") {
        return;
    }
    let (first, second) = (Ipv4Addr::new(127, 0, 77, 2), Ipv4Addr::new(127, 0, 77, 3));
    let Ok(names) = NameServer::start(Ipv4Addr::new(127, 0, 77, 53), first) else {
        tell("***  SKIPPED: a server that moves by DNS needs port 53 of a loopback address");
        return;
    };
    let programs = Programs::ours().unwrap();
    let service = Service::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (bind_port, user_port) = (free_port().unwrap(), free_port().unwrap());
    let frps = |ip: Ipv4Addr| {
        let text =
            format!("bindAddr = \"{ip}\"\nbindPort = {bind_port}\nproxyBindAddr = \"127.0.0.1\"\n");
        let path = dir.path().join(format!("frps-{ip}.toml"));
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let server = Process::start("frps", programs.frps(), &["-c", &path], dir.path()).unwrap();
        server.wait_for_line("frps started successfully").unwrap();
        server
    };
    let resolv = dir.path().join("resolv.conf");
    fs::write(&resolv, names.resolv_conf()).unwrap();
    let config = dir.path().join("frpc.toml");
    let text = format!(
        "serverAddr = \"frps.holdfast.test\"\nserverPort = {bind_port}\nloginFailExit = false\n\
         log.disablePrintColor = true\nlog.level = \"debug\"\n\
         [[proxies]]\nname = \"web\"\ntype = \"tcp\"\nlocalPort = {}\nremotePort = {user_port}\n",
        service.port()
    );
    fs::write(&config, text).unwrap();
    let mut server = frps(first);
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$1\" -c \"$2\"";
    let words = [
        resolv.to_str().unwrap(),
        programs.frpc().to_str().unwrap(),
        config.to_str().unwrap(),
    ];
    let client = start_with_mounts("frpc", script, &words, dir.path());
    client.wait_for_line("start proxy success").unwrap();
    EchoConn::open(user_port).unwrap().round().unwrap();

    server.kill();
    let moved = Instant::now();
    let _second = frps(second);
    names.set(second);
    let served = traffic::wait_until_served(user_port, Instant::now() + PATIENCE).unwrap();
    tell(&format!(
        "frps moved to another address by DNS: users are served {:.2} s after the old one was \
         killed",
        (served - moved).as_secs_f64()
    ));
    EchoConn::open(user_port).unwrap().round().unwrap();
}

#[test]
fn a_full_disk_under_the_history_harms_nobody_and_what_was_kept_is_written_later() {
    if !can_mount("a full disk under the history") {
        return;
    }
    let service = Service::start().unwrap();
    let mut pair = pair(&service, "").start_server().unwrap();
    let dir = pair.directory().to_owned();
    let state = dir.join("state");
    let freed = dir.join("freed");
    fs::create_dir(&state).unwrap();
    // The disk is full until a file says that it is not to be. Nobody waits for ever.
    let script = "mount -t tmpfs -o size=64k tmpfs \"$0\" || exit 1
        dd if=/dev/zero of=\"$0/filler\" bs=4k 2>/dev/null
        { n=0; while [ $n -lt 300 ] && [ ! -e \"$1\" ]; do sleep 0.3; n=$((n + 1)); done
          rm -f \"$0/filler\"; } &
        STATE_DIRECTORY=\"$0\" exec \"$2\" -c \"$3\"";
    let programs = Programs::ours().unwrap();
    let config = pair.client_file().to_owned();
    let words = [
        state.to_str().unwrap(),
        freed.to_str().unwrap(),
        programs.frpc().to_str().unwrap(),
        config.to_str().unwrap(),
    ];
    pair.adopt_client(start_with_mounts("frpc", script, &words, &dir));
    let web = pair.port("web").unwrap();
    assert!(traffic::wait_until_served(web, Instant::now() + PATIENCE).is_some());
    wait_for_confirmation(&pair);
    let status = wait_for_recovery(&pair, "failure of the history", |status| {
        status["history"]["failures"].as_u64() >= Some(1)
    });
    let error = status["history"]["error"].as_str().unwrap();
    assert!(error.contains("No space left on device"), "{status}");
    let log = pair.client().unwrap().log();
    assert_eq!(
        log.matches("kept in memory until that works").count(),
        1,
        "{log}"
    );

    // What is in memory is good for a rollback.
    pair.replace_in_client_file(&format!("remotePort = {web}\n"), "remotePort = 99\n")
        .unwrap();
    let mark = pair.client().unwrap().mark();
    assert!(pair.frpc("reload").unwrap().0.success());
    pair.client()
        .unwrap()
        .wait_for_line_after(mark, "is taken back")
        .unwrap();
    assert!(traffic::wait_until_served(web, Instant::now() + PATIENCE).is_some());

    fs::write(&freed, "").unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Each change tries again.
        let text = fs::read_to_string(pair.client_file()).unwrap();
        let text = text.replace("remotePort = 99\n", &format!("remotePort = {web}\n"));
        pair.write_client_file(&format!("{text}# again {:?}\n", Instant::now()))
            .unwrap();
        pair.frpc("reload").unwrap();
        let status = recovery(&pair);
        if status["history"]["error"] == "" {
            break;
        }
        assert!(Instant::now() < deadline, "{status}");
        std::thread::sleep(Duration::from_millis(300));
    }
    EchoConn::open(web).unwrap().round().unwrap();
}
