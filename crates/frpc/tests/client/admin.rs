//! The admin API, asked over a real socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use frp_core::config::{LoadOptions, WebServerConfig};
use frp_core::web::local::LocalSocket;
use frpc::admin::{Admin, ConfigFile};
use frpc::admin_client::AdminClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::{Frps, Running, echo_service, soon, tcp, wait_for_status};

struct Api {
    config: WebServerConfig,
    _dir: tempfile::TempDir,
    path: PathBuf,
    client: Running,
}

impl Api {
    /// An API for a client of `frps`, with a file that has `text`.
    async fn start(frps: &Frps, text: &str, user: &str, password: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frpc.toml");
        std::fs::write(&path, text).unwrap();
        let port = echo_service().await;
        let client = frps.client(|config| {
            config.proxies = vec![tcp("ssh", port)];
            config.enable_prometheus = true;
        });
        let mut config = WebServerConfig {
            user: user.to_owned(),
            password: password.into(),
            ..WebServerConfig::default()
        };
        let listener = frp_core::web::listen(&config).await.unwrap();
        config.port = listener.local_addr().unwrap().port();
        let options = LoadOptions {
            env: false,
            ..LoadOptions::default()
        };
        let file = ConfigFile {
            path: path.clone(),
            options,
        };
        let admin = Admin::new(Arc::clone(&client.client), Some(file), &config);
        tokio::spawn(admin.serve(listener));
        Self {
            config,
            _dir: dir,
            path,
            client,
        }
    }

    fn client(&self) -> AdminClient {
        AdminClient::new(&self.config, Duration::from_secs(10))
    }

    /// The answer to `request` as it comes, head and body.
    async fn raw(&self, request: &str) -> String {
        let mut conn = TcpStream::connect(("127.0.0.1", self.config.port))
            .await
            .unwrap();
        let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
        let length = body.len();
        let text = format!(
            "{}\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}",
            head.replace('\n', "\r\n")
        );
        conn.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        soon("answer", conn.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[tokio::test]
async fn status_shows_where_each_proxy_stands() {
    let frps = Frps::start().await;
    let api = Api::start(&frps, "", "", "").await;
    assert!(
        api.client().status().await.unwrap().is_empty(),
        "no session yet"
    );
    let mut session = frps.log_in("id").await;
    session.agree().await;
    wait_for_status(&api.client.client, "proxy", |status| {
        status == "ssh=running"
    })
    .await;

    let status = api.client().status().await.unwrap();
    let entry = &status["tcp"][0];
    assert_eq!(
        (entry.name.as_str(), entry.status.as_str()),
        ("ssh", "running")
    );
    assert_eq!(entry.remote_addr, "127.0.0.1:6000");
    let raw = api.raw("GET /api/status HTTP/1.1").await;
    assert!(raw.contains("content-type: application/json"), "{raw}");
    assert!(raw.ends_with("}]}\n"), "{raw}");
}

#[tokio::test]
async fn a_reload_applies_the_file_and_a_broken_one_changes_nothing() {
    let frps = Frps::start().await;
    let api = Api::start(&frps, "not = [ toml", "", "").await;
    let mut session = frps.log_in("id").await;
    session.agree().await;
    wait_for_status(&api.client.client, "proxy", |status| {
        status == "ssh=running"
    })
    .await;

    let error = api.client().reload(true).await.unwrap_err();
    assert_eq!(error.to_string(), "api status code [400]");
    let raw = api.raw("GET /api/reload HTTP/1.1").await;
    assert!(
        raw.contains(r#"{"Code":400,"Msg":"invalid argument: "#),
        "{raw}"
    );
    assert_eq!(api.client.client.status().len(), 1);

    let text = "[[proxies]]\nname = \"web\"\ntype = \"tcp\"\nlocalPort = 80\nremotePort = 6001\n";
    std::fs::write(&api.path, text).unwrap();
    api.client().reload(true).await.unwrap();
    wait_for_status(&api.client.client, "new set", |status| {
        status.starts_with("web=")
    })
    .await;
}

#[tokio::test]
async fn only_a_strict_reload_refuses_unknown_keys() {
    let frps = Frps::start().await;
    let api = Api::start(&frps, "unknownKey = 1", "", "").await;
    frps.log_in("id").await;
    assert!(api.client().reload(true).await.is_err());
    api.client().reload(false).await.unwrap();
}

#[tokio::test]
async fn a_browser_cannot_be_made_to_reload_or_stop() {
    let frps = Frps::start().await;
    let api = Api::start(&frps, "", "", "").await;
    let _session = frps.log_in("id").await;
    for request in [
        "GET /api/reload HTTP/1.1\nSec-Fetch-Site: cross-site",
        "GET /api/reload HTTP/1.1\nReferer: http://evil.example/",
        "POST /api/reload HTTP/1.1\nOrigin: http://evil.example",
        "POST /api/stop HTTP/1.1\nOrigin: http://evil.example",
        "PUT /api/config HTTP/1.1\nOrigin: null\n\nserverPort = 1",
    ] {
        let answer = api.raw(request).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{request}: {answer}");
        assert!(answer.contains(r#"{"Code":403,"Msg":"#), "{answer}");
    }
    let own = "POST /api/reload HTTP/1.1\nOrigin: http://127.0.0.1";
    assert!(api.raw(own).await.starts_with("HTTP/1.1 200"));
    assert_eq!(std::fs::read_to_string(&api.path).unwrap(), "");
    assert!(!api.client.task.is_finished());
}

#[tokio::test]
async fn stop_answers_and_then_ends_the_program_in_good_order() {
    let frps = Frps::start().await;
    let mut api = Api::start(&frps, "", "", "").await;
    let mut session = frps.log_in("id").await;
    session.agree().await;
    let wrong_method = api.raw("GET /api/stop HTTP/1.1").await;
    assert!(wrong_method.starts_with("HTTP/1.1 405"), "{wrong_method}");

    api.client().stop().await.unwrap();
    session.closed().await;
    soon("end", &mut api.client.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_configuration_file_is_read_and_written_whole() {
    let frps = Frps::start().await;
    let api = Api::start(&frps, "serverPort = 7001\n", "", "").await;
    let answer = api.raw("GET /api/config HTTP/1.1").await;
    assert!(answer.ends_with("\r\n\r\nserverPort = 7001\n"), "{answer}");

    let answer = api
        .raw("PUT /api/config HTTP/1.1\n\nserverPort = 7002\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(
        std::fs::read_to_string(&api.path).unwrap(),
        "serverPort = 7002\n"
    );

    let answer = api.raw("PUT /api/config HTTP/1.1").await;
    assert!(
        answer.contains(r#"{"Code":400,"Msg":"body can't be empty"}"#),
        "{answer}"
    );
    assert_eq!(
        std::fs::read_to_string(&api.path).unwrap(),
        "serverPort = 7002\n"
    );
}

#[tokio::test]
async fn everything_but_liveness_needs_the_password() {
    let frps = Frps::start().await;
    let mut api = Api::start(&frps, "", "admin", "secret").await;
    let _session = frps.log_in("id").await;
    for path in ["/", "/api/status", "/api/config", "/static/", "/metrics"] {
        let answer = api.raw(&format!("GET {path} HTTP/1.1")).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
        assert!(
            answer.contains("www-authenticate: Basic realm=\"Restricted\""),
            "{answer}"
        );
    }
    let alive = api.raw("GET /healthz HTTP/1.1").await;
    assert!(
        alive.starts_with("HTTP/1.1 200") && alive.ends_with("\r\n\r\n"),
        "{alive}"
    );

    assert!(api.client().status().await.is_ok());
    let start = std::time::Instant::now();
    api.config.password = "wrong".into();
    let error = api.client().status().await.unwrap_err();
    assert_eq!(error.to_string(), "api status code [401]");
    assert!(
        start.elapsed() >= Duration::from_millis(200),
        "a guess takes its time"
    );
}

#[tokio::test]
async fn the_metrics_show_the_session_its_carrier_and_its_proxies() {
    let frps = Frps::start().await;
    let api = Api::start(&frps, "", "", "").await;
    let page = api.raw("GET /metrics HTTP/1.1").await;
    let state = "holdfast_session_state{state=\"reconnecting\"} 1";
    assert!(page.lines().any(|line| line == state), "{page}");
    let mut session = frps.log_in("id").await;
    session.agree().await;
    wait_for_status(&api.client.client, "proxy", |status| {
        status == "ssh=running"
    })
    .await;

    let page = api.raw("GET /metrics HTTP/1.1").await;
    for line in [
        "holdfast_session_state{state=\"plain\"} 1",
        "holdfast_session_state{state=\"reconnecting\"} 0",
        "holdfast_carrier_in_use{transport=\"memory\"} 1",
        // The first choice is TCP.
        "holdfast_fallback_in_use 1",
        "holdfast_proxy_up{proxy=\"ssh\",type=\"tcp\"} 1",
        "holdfast_proxy_bytes_total{direction=\"in\",proxy=\"ssh\",type=\"tcp\"} 0",
    ] {
        assert!(
            page.lines().any(|present| present == line),
            "{line} in {page}"
        );
    }
    assert!(page.contains("process_resident_memory_bytes "), "{page}");
}

#[tokio::test]
async fn the_overview_over_the_socket_says_what_is_wrong_and_then_that_nothing_is() {
    let frps = Frps::start().await;
    let port = echo_service().await;
    let client = frps.client(|config| config.proxies = vec![tcp("ssh", port)]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let socket = LocalSocket::bind(&path).unwrap();
    let admin = Admin::new(
        Arc::clone(&client.client),
        None,
        &WebServerConfig::default(),
    );
    tokio::spawn(admin.serve_locally(socket));
    let local = AdminClient::local(&path, Duration::from_secs(60));

    let overview = local.overview().await.unwrap();
    assert_eq!(overview.session.state, "reconnecting");
    assert!(!overview.ok && overview.proxies.is_empty());
    let mut session = frps.log_in("id").await;
    session.agree().await;
    wait_for_status(&client.client, "proxy", |status| status == "ssh=running").await;

    let overview = local.overview().await.unwrap();
    assert!(overview.ok, "{:?}", overview.problems);
    assert_eq!(overview.session.state, "connected");
    assert_eq!(overview.carriers[0].transport, "memory");
    let proxy = &overview.proxies[0];
    assert_eq!(
        (proxy.frp.name.as_str(), proxy.frp.status.as_str()),
        ("ssh", "running")
    );
    assert!(overview.started_ms <= proxy.since_ms && proxy.since_ms <= overview.now_ms);
    let error = local.switch("nonsense").await.unwrap_err().to_string();
    assert!(error.contains("no such transport"), "{error}");
}

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let frps = Frps::start().await;
    let api = Api::start(&frps, "", "", "").await;
    let answer = api.raw("GET /nothing HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.ends_with("404 page not found\n"), "{answer}");
}

#[tokio::test]
async fn an_api_that_is_not_there_is_reported_in_frps_words() {
    let config = WebServerConfig {
        port: 1,
        ..WebServerConfig::default()
    };
    let client = AdminClient::new(&config, Duration::from_secs(5));
    assert_eq!(
        client.status().await.unwrap_err().to_string(),
        "Get \"http://127.0.0.1:1/api/status\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
    assert!(
        client
            .stop()
            .await
            .unwrap_err()
            .to_string()
            .starts_with("Post \"http://")
    );
}
