//! What operators see of held sessions.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::net::TcpListener;

use super::rig::Rig;
use crate::api::{ask, get};
use crate::client::{expect_echo, user, within};

#[tokio::test]
async fn the_api_shows_carriers_streams_and_switches() {
    let mut rig = Rig::start().await;
    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.handle.serve_web(web);
    let addr = rig.handle.web_addr().unwrap();
    let mut client = rig.client().await;
    let port = client.tcp_proxy("web").await;
    client.echo();
    let mut user = user(port).await;
    expect_echo(&mut user, b"before").await;
    client.join(rig.dial().await).await.unwrap();
    client.use_last(true);
    expect_echo(&mut user, b"after").await;

    let link = shows(addr, |link| link["held"]["switches"][0].is_object()).await;
    assert_eq!(link["state"], "connected");
    assert_eq!(link["transport"], "memory");
    let held = &link["held"];
    assert_eq!(held["switches"][0]["cause"], "chosen");
    let carriers = held["carriers"].as_array().unwrap();
    assert_eq!(carriers.len(), 2);
    let in_use: Vec<_> = carriers.iter().filter(|c| c["inUse"] == true).collect();
    assert_eq!(in_use.len(), 1);
    assert_eq!(in_use[0]["address"], link["address"]);
    assert!(held["streams"].as_u64().unwrap() >= 2, "{held}");

    rig.network.lose_all();
    let link = shows(addr, |link| link["state"] == "holding").await;
    assert!(link.get("transport").is_none());
    client.come_back(&rig).await;
    shows(addr, |link| {
        link["held"]["switches"][0]["cause"] == "outage"
    })
    .await;
}

#[tokio::test]
async fn metrics_count_what_is_held() {
    let mut rig = Rig::with(|config| config.enable_prometheus = true).await;
    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.handle.serve_web(web);
    let addr = rig.handle.web_addr().unwrap();
    let _client = rig.client().await;
    let (_, text) = ask(addr, "GET", "/metrics", "").await;
    // Other tests of this process count there as well.
    for name in [
        "holdfast_sessions_held ",
        "holdfast_held_streams ",
        "holdfast_joins_total{result=\"ok\"} ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{text}");
    }
}

/// Waits until the API shows of the one client's link what `is_it` wants.
async fn shows(addr: SocketAddr, is_it: impl Fn(&Value) -> bool) -> Value {
    within(async {
        loop {
            let clients = get(addr, "/api/clients").await;
            let link = &clients[0]["holdfast"];
            if is_it(link) {
                return link.clone();
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}
