//! Logins that succeed, and logins that are refused with a word.

use frp_core::proto::extension::{Extension, HoldfastHello};
use frp_core::proto::msg::{Login, Ping};
use frp_core::proto::{Message, WireVersion};

use crate::client::{TestServer, login, login_at, within};

#[tokio::test]
async fn a_client_logs_in_in_either_version() {
    let server = TestServer::start().await;
    for wire in [WireVersion::V1, WireVersion::V2] {
        let mut client = server.log_in(wire, login()).await.unwrap();
        assert_eq!(client.response.version, "0.70.1");
        assert_eq!(client.run_id().len(), 16);
        assert!(
            client
                .run_id()
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        );

        client.asked_for_work_stream().await;
        client.send(Ping::default()).await;
        assert!(matches!(client.next().await, Message::Pong(pong) if pong.error.is_empty()));
    }
}

#[tokio::test]
async fn a_client_without_multiplexing_logs_in() {
    let server = TestServer::with(|config| config.transport.tcp_mux = false).await;
    for wire in [WireVersion::V1, WireVersion::V2] {
        let mut client = server.log_in(wire, login()).await.unwrap();
        client.send(Ping::default()).await;
        assert!(matches!(client.next().await, Message::Pong(_)));
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused_in_frps_words() {
    let server = TestServer::start().await;
    let wrong = Login {
        privilege_key: "0".repeat(32),
        ..login()
    };
    for wire in [WireVersion::V1, WireVersion::V2] {
        let refused = server.log_in(wire, wrong.clone()).await.err().unwrap();
        assert_eq!(
            refused.error,
            "token in login doesn't match token from configuration"
        );
        assert_eq!(
            (refused.version.as_str(), refused.run_id.as_str()),
            ("0.70.1", "")
        );
    }
}

#[tokio::test]
async fn causes_are_kept_from_clients_on_demand() {
    let server = TestServer::with(|config| config.detailed_errors_to_client = false).await;
    let wrong = Login {
        privilege_key: String::new(),
        ..login()
    };
    let refused = server.log_in(WireVersion::V1, wrong).await.err().unwrap();
    assert_eq!(refused.error, "register control error");
}

#[tokio::test]
async fn a_v2_login_needs_a_hello() {
    let server = TestServer::start().await;
    let session = server.dial().await;
    let mut conn = crate::client::open_with(&session, WireVersion::V2, login()).await;
    match within(conn.read()).await.unwrap() {
        Message::LoginResp(refused) => {
            assert_eq!(refused.error, "missing v2 crypto negotiation");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_keeps_the_run_id_that_it_brings() {
    let server = TestServer::start().await;
    let brought = Login {
        run_id: "0123456789abcdef".to_owned(),
        ..login()
    };
    let client = server.log_in(WireVersion::V1, brought).await.unwrap();
    assert_eq!(client.run_id(), "0123456789abcdef");

    for run_id in [
        "line\nbreak".to_owned(),
        "x".repeat(65),
        "\u{e9}".to_owned(),
    ] {
        let odd = Login { run_id, ..login() };
        let refused = server.log_in(WireVersion::V1, odd).await.err().unwrap();
        assert_eq!(refused.error, "invalid run id");
    }
}

#[tokio::test]
async fn any_pool_count_is_taken_within_the_servers_bounds() {
    let server = TestServer::start().await;
    for (pool_count, n_asked) in [(-1, 0), (i64::MIN, 0), (0, 0), (3, 3), (i64::MAX, 5)] {
        let mut client = server
            .log_in(
                WireVersion::V1,
                Login {
                    pool_count,
                    ..login()
                },
            )
            .await
            .unwrap();
        for _ in 0..n_asked {
            client.asked_for_work_stream().await;
        }
        client.send(Ping::default()).await;
        let next = within(client.reader.read()).await.unwrap();
        assert!(matches!(next, Message::Pong(_)), "{pool_count}: {next:?}");
    }
}

#[tokio::test]
async fn a_client_id_is_online_once() {
    let server = TestServer::start().await;
    let named = Login {
        user: "u".to_owned(),
        client_id: "dup".to_owned(),
        ..login()
    };
    let first = server.log_in(WireVersion::V1, named.clone()).await.unwrap();
    let refused = server
        .log_in(WireVersion::V1, named.clone())
        .await
        .err()
        .unwrap();
    assert_eq!(
        refused.error,
        "client_id [dup] for user [u] is already online"
    );

    // The same session may come back, and others may have the id with another user.
    let again = Login {
        run_id: first.run_id().to_owned(),
        ..named.clone()
    };
    let again = Login {
        timestamp: login_at(1_700_000_001).timestamp,
        ..again
    };
    let again = Login {
        privilege_key: login_at(1_700_000_001).privilege_key,
        ..again
    };
    server.log_in(WireVersion::V1, again).await.unwrap();
    let other = Login {
        user: "v".to_owned(),
        ..named
    };
    server.log_in(WireVersion::V1, other).await.unwrap();
}

#[tokio::test]
async fn heartbeats_prove_the_token_when_asked_to() {
    let server = TestServer::with(|config| config.auth.additional_scopes.heart_beats = true).await;
    let mut client = server.client().await;
    client.send(Ping::default()).await;
    match client.next().await {
        Message::Pong(pong) => assert_eq!(
            pong.error,
            "token in heartbeat doesn't match token from configuration"
        ),
        other => panic!("{other:?}"),
    }
    let Login {
        privilege_key,
        timestamp,
        ..
    } = login();
    client
        .send(Ping {
            privilege_key,
            timestamp,
        })
        .await;
    assert!(matches!(client.next().await, Message::Pong(pong) if pong.error.is_empty()));
}

#[tokio::test]
async fn a_client_that_sends_no_heartbeat_is_given_up() {
    let server = TestServer::with(|config| {
        config.transport.heartbeat_timeout = Some(std::time::Duration::from_secs(1));
    })
    .await;
    let mut client = server.client().await;
    client.ended().await;
}

#[tokio::test]
async fn a_holdfast_is_answered_as_one_and_plain_frp_is_not() {
    let server = TestServer::start().await;
    let plain = server.client().await;
    assert_eq!(plain.response.holdfast, Extension::Absent);

    let hello = HoldfastHello {
        version: 7,
        ..HoldfastHello::default()
    };
    let ours = Login {
        holdfast: hello.into(),
        ..login()
    };
    let client = server.log_in(WireVersion::V2, ours).await.unwrap();
    let welcome = client.response.holdfast.get().unwrap();
    assert_eq!(welcome.version, 1, "the newest that both speak");
    assert_ne!(welcome.session_id, [0; 16]);
    assert_eq!(welcome.endpoints.len(), 1);
    assert_eq!(welcome.endpoints[0].port, server.addr().port());
    assert_eq!(welcome.endpoints[0].transport, "tcp");
}

#[tokio::test]
async fn a_stop_tells_every_client() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let port = client.tcp_proxy("web").await;
    server.handle.shut_down().await;
    client.ended().await;
    assert!(
        tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_err()
    );
}
