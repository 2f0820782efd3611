//! The dashboard's API, as operators and frp's own tests read it.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use frp_core::config::ServerConfig;
use frp_core::proto::msg::{Login, NewProxy};
use frp_core::web::client::{Place, request};
use frp_core::web::local::LocalSocket;
use frp_core::work::WorkOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{TestServer, expect_echo, login, port_of, tcp, user, within};

/// A server with an API, and where that is.
async fn start(configure: impl FnOnce(&mut ServerConfig)) -> (TestServer, SocketAddr) {
    let mut server = TestServer::with(configure).await;
    server
        .handle
        .serve_web(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = server.handle.web_addr().unwrap();
    (server, addr)
}

/// Asks and returns status and body.
pub(crate) async fn ask(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
) -> (u16, String) {
    let mut conn = TcpStream::connect(addr).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{headers}\r\n");
    conn.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(conn.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

pub(crate) async fn get(addr: SocketAddr, path: &str) -> serde_json::Value {
    let (status, body) = ask(addr, "GET", path, "").await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Waits until `path` shows what `is_it` wants.
async fn eventually(addr: SocketAddr, path: &str, is_it: impl Fn(&serde_json::Value) -> bool) {
    within(async {
        while !is_it(&get(addr, path).await) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn proxies_are_shown_with_what_the_server_knows_of_them() {
    let (server, addr) = start(|_| {}).await;
    let named = Login {
        user: "me".to_owned(),
        client_id: "cid".to_owned(),
        ..login()
    };
    let mut client = server
        .log_in(frp_core::proto::WireVersion::V2, named)
        .await
        .unwrap();
    let proxy = NewProxy {
        annotations: [("frp.e2e.test/foo".to_owned(), "value1".to_owned())].into(),
        metas: [("a".to_owned(), "b".to_owned())].into(),
        sk: "hidden".to_owned(),
        ..tcp("me.web")
    };
    let port = port_of(&client.new_proxy(proxy).await);
    let stcp = NewProxy {
        proxy_type: "stcp".to_owned(),
        sk: "hidden".to_owned(),
        ..tcp("me.s")
    };
    client.new_proxy(stcp).await;
    let echo = client.echo(WorkOptions::default());
    expect_echo(&mut user(port).await, b"12345").await;

    let counted = |shown: &serde_json::Value| shown["todayTrafficOut"] == 5;
    eventually(addr, "/api/proxy/tcp/me.web", counted).await;
    let web = get(addr, "/api/proxies/me.web").await;
    assert_eq!(
        (&web["user"], &web["clientID"]),
        (&"me".into(), &"cid".into())
    );
    assert_eq!(
        (&web["status"], &web["curConns"]),
        (&"online".into(), &0.into())
    );
    assert_eq!(
        web["conf"]["remotePort"], port,
        "the real port, not the 0 that was asked for"
    );
    assert_eq!(web["conf"]["annotations"]["frp.e2e.test/foo"], "value1");
    assert_eq!(web["conf"]["metadatas"]["a"], "b");
    assert_eq!(web["conf"]["transport"]["bandwidthLimitMode"], "client");

    let traffic = get(addr, "/api/traffic/me.web").await;
    assert_eq!(
        traffic["trafficIn"],
        serde_json::json!([5, 0, 0, 0, 0, 0, 0])
    );
    let traffic = get(addr, "/api/v2/proxies/me%2Eweb/traffic").await;
    assert_eq!(
        traffic["data"]["history"][6]["trafficIn"], 5,
        "oldest first"
    );
    let v2 = get(addr, "/api/v2/proxies?type=tcp&status=online&q=WEB").await;
    assert_eq!(v2["data"]["total"], 1);
    assert_eq!(v2["data"]["items"][0]["spec"]["tcp"]["remotePort"], port);

    let info = get(addr, "/api/serverinfo").await;
    assert_eq!(
        info["proxyTypeCount"],
        serde_json::json!({ "stcp": 1, "tcp": 1 })
    );
    assert_eq!(
        (&info["clientCounts"], &info["totalTrafficIn"]),
        (&1.into(), &5.into())
    );
    assert_eq!(
        (&info["version"], &info["bindPort"]),
        (&"0.70.1".into(), &server.addr().port().into())
    );

    for path in ["/api/proxy/stcp", "/api/v2/proxies", "/api/proxy/tcp"] {
        let (_, body) = ask(addr, "GET", path, "").await;
        assert!(!body.contains("hidden"), "{path}: {body}");
    }

    echo.abort();
    let gone = |shown: &serde_json::Value| shown["status"] == "offline";
    eventually(addr, "/api/proxies/me.web", gone).await;
    let web = get(addr, "/api/proxies/me.web").await;
    assert!(web["conf"].is_null() && web["todayTrafficIn"] == 5);
    eventually(addr, "/api/serverinfo", |info| {
        info["proxyTypeCount"]["tcp"] == 0
    })
    .await;

    let (status, body) = ask(addr, "DELETE", "/api/proxies?status=all", "").await;
    assert_eq!(
        (status, body.trim()),
        (400, r#"{"Code":400,"Msg":"status only support offline"}"#)
    );
    let (status, body) = ask(addr, "DELETE", "/api/proxies?status=offline", "").await;
    assert_eq!(
        (status, body.trim()),
        (200, r#"{"Code":200,"Msg":"success"}"#)
    );
    let (status, body) = ask(addr, "GET", "/api/proxies/me.web", "").await;
    assert_eq!(
        (status, body.trim()),
        (404, r#"{"Code":404,"Msg":"no proxy info found"}"#)
    );
}

#[tokio::test]
async fn clients_are_shown_and_their_run_ids_are_not() {
    let (server, addr) = start(|_| {}).await;
    let anonymous = server.client().await;
    let named = Login {
        client_id: "cid".to_owned(),
        hostname: "h".to_owned(),
        ..login()
    };
    let named = server
        .log_in(frp_core::proto::WireVersion::V2, named)
        .await
        .unwrap();

    let clients = get(addr, "/api/clients?status=online").await;
    assert_eq!(clients.as_array().unwrap().len(), 2);
    let cid = get(addr, "/api/clients/cid").await;
    assert_eq!(
        (&cid["wireProtocol"], &cid["hostname"]),
        (&"v2".into(), &"h".into())
    );
    assert_eq!(
        (&cid["clientIP"], &cid["online"]),
        (&"127.0.0.1".into(), &true.into())
    );
    for path in [
        "/api/clients",
        "/api/v2/clients",
        "/api/v2/clients/cid",
        "/api/v2/users",
    ] {
        let (_, body) = ask(addr, "GET", path, "").await;
        assert!(
            !body.contains(anonymous.run_id()) && !body.contains(named.run_id()),
            "{body}"
        );
    }

    drop((anonymous, named));
    eventually(addr, "/api/clients", |clients| {
        let clients = clients.as_array().unwrap();
        clients.len() == 1 && clients[0]["key"] == "cid" && clients[0]["online"] == false
    })
    .await;
    let (status, body) = ask(addr, "GET", "/api/clients/nobody", "").await;
    assert_eq!(
        (status, body.trim()),
        (404, r#"{"Code":404,"Msg":"client nobody not found"}"#)
    );
}

#[tokio::test]
async fn everything_but_liveness_wants_the_password() {
    let (_server, addr) = start(|config| {
        config.web_server.user = "admin".to_owned();
        config.web_server.password = "secret".into();
        config.web_server.pprof_enable = true;
        config.enable_prometheus = true;
    })
    .await;
    assert_eq!(ask(addr, "GET", "/healthz", "").await, (200, String::new()));
    let closed = [
        "/",
        "/api/serverinfo",
        "/metrics",
        "/nothing",
        "/debug/pprof/goroutine?debug=2",
    ];
    let password = "Authorization: Basic YWRtaW46c2VjcmV0\r\n";
    for (path, open) in closed.into_iter().zip([301, 200, 200, 404, 200]) {
        let (status, body) = ask(addr, "GET", path, "").await;
        assert_eq!((status, body.trim()), (401, "Unauthorized"), "{path}");
        assert_eq!(ask(addr, "GET", path, password).await.0, open, "{path}");
    }
}

#[tokio::test]
async fn the_metrics_have_frps_names() {
    let (server, addr) = start(|config| config.enable_prometheus = true).await;
    let mut client = server.client().await;
    let port = client.tcp_proxy("web").await;
    let _echo = client.echo(WorkOptions::default());
    expect_echo(&mut user(port).await, b"12345").await;
    eventually(addr, "/api/proxies/web", |shown| {
        shown["todayTrafficIn"] == 5
    })
    .await;

    let (_, metrics) = ask(addr, "GET", "/metrics", "").await;
    for line in [
        "frp_server_client_counts 1",
        "frp_server_proxy_counts{type=\"tcp\"} 1",
        "frp_server_proxy_counts_detailed{name=\"web\",type=\"tcp\"} 1",
        "frp_server_connection_counts{name=\"web\",type=\"tcp\"} 0",
        "frp_server_traffic_in{name=\"web\",type=\"tcp\"} 5",
        "frp_server_traffic_out{name=\"web\",type=\"tcp\"} 5",
    ] {
        assert!(
            metrics.lines().any(|present| present == line),
            "{line} in {metrics}"
        );
    }
    assert!(metrics.contains("process_resident_memory_bytes "));

    // Ours are beside them: somebody is refused, and it is counted.
    let wrong = Login {
        privilege_key: String::new(),
        ..login()
    };
    assert!(
        server
            .log_in(frp_core::proto::WireVersion::V1, wrong)
            .await
            .is_err()
    );
    let (_, metrics) = ask(addr, "GET", "/metrics", "").await;
    let line = "holdfast_rejected_total{cause=\"login token\"}";
    assert!(
        metrics.lines().any(|present| present.starts_with(line)),
        "{metrics}"
    );
}

#[tokio::test]
async fn names_that_clients_choose_cannot_break_the_metrics() {
    let (server, addr) = start(|config| config.enable_prometheus = true).await;
    let mut client = server.client().await;
    let long = "x".repeat(5000);
    let forged = "a\",type=\"tcp\"} 1\nfrp_server_client_counts 99";
    for name in [forged, "back\\slash", "other", &long] {
        client.tcp_proxy(name).await;
    }
    let (_, metrics) = ask(addr, "GET", "/metrics", "").await;
    let is_sample = |line: &&str| !line.is_empty() && !line.starts_with('#');
    for line in metrics.lines().filter(is_sample) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(series.len() < 400, "{line}");
        assert_ne!(line, "frp_server_client_counts 99");
    }
    let n_up = metrics
        .lines()
        .filter(|line| line.starts_with("holdfast_proxy_up{"));
    assert_eq!(n_up.count(), 4, "{metrics}");
    let series: Vec<_> = metrics.lines().filter(is_sample).collect();
    let different: std::collections::HashSet<_> = series
        .iter()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, _)| series)
        .collect();
    assert_eq!(different.len(), series.len(), "each series is there once");
}

#[tokio::test]
async fn wrong_methods_and_paths_are_answered_as_frp_answers_them() {
    let (_server, addr) = start(|_| {}).await;
    assert_eq!(
        ask(addr, "POST", "/api/serverinfo", "").await,
        (405, String::new())
    );
    let not_found = (404, "404 page not found\n".to_owned());
    assert_eq!(ask(addr, "GET", "/nothing", "").await, not_found);
    assert_eq!(
        ask(addr, "GET", "/metrics", "").await,
        not_found,
        "not enabled"
    );
    assert_eq!(
        ask(addr, "GET", "/debug/pprof/", "").await,
        not_found,
        "not enabled"
    );
    let (status, body) = ask(addr, "GET", "/api/v2/clients?pageSize=0", "").await;
    let text = r#"{"code":400,"msg":"pageSize must be a positive integer","data":null}"#;
    assert_eq!((status, body.trim()), (400, text));
    let (status, _) = ask(
        addr,
        "DELETE",
        "/api/proxies?status=offline",
        "Origin: http://x\r\n",
    )
    .await;
    assert_eq!(status, 403, "a page of another site changes nothing");
}

#[tokio::test]
async fn both_generations_show_the_port_for_quic() {
    let (_server, addr) = start(|config| config.quic_bind_port = NonZeroU16::new(7001)).await;
    assert_eq!(get(addr, "/api/serverinfo").await["quicBindPort"], 7001);
    let v2 = get(addr, "/api/v2/system/info").await;
    assert_eq!(v2["data"]["config"]["quicBindPort"], 7001);
}

#[tokio::test]
async fn the_overview_over_the_socket_has_clients_proxies_and_what_was_refused() {
    let (server, addr) = start(|config| config.web_server.password = "p".into()).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    server
        .handle
        .serve_locally(LocalSocket::bind(&path).unwrap());
    let mut client = server.client().await;
    client.tcp_proxy("web").await;
    let wrong = Login {
        privilege_key: "wrong".to_owned(),
        ..login()
    };
    let refused = server.log_in(frp_core::proto::WireVersion::V1, wrong).await;
    assert!(refused.is_err());

    let (status, _) = ask(addr, "GET", "/api/overview", "").await;
    assert_eq!(status, 401, "over TCP the password is wanted");
    let place = Place::Socket(path);
    let limit = std::time::Duration::from_secs(60);
    let answer = request(&place, axum::http::Method::GET, "/api/overview", limit).await;
    let (status, body) = answer.unwrap();
    assert_eq!(status, 200);
    let overview: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(overview["ok"], true);
    assert_eq!(overview["totals"]["clients"], 1);
    assert_eq!(overview["clients"][0]["state"], "plain");
    assert_eq!(overview["clients"][0]["proxies"], 1);
    assert_eq!(overview["proxies"][0]["name"], "web");
    assert_eq!(overview["proxies"][0]["status"], "online");
    let refused = overview["refused"].as_array().unwrap();
    assert!(
        refused.iter().any(|r| r["cause"] == "login token"),
        "{refused:?}"
    );
}
