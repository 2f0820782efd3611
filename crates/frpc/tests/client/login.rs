//! Logging in, and logging in again.

use std::time::Duration;

use frp_core::proto::extension::{Extension, HoldfastWelcome};
use frp_core::proto::hello::RANDOM_LEN;
use frp_core::proto::msg::{LoginResp, Message, Ping, Pong};
use frp_core::proto::v2::FrameType;
use frp_core::proto::{WireVersion, auth};
use frp_core::transports::memory::MemoryTransport;

use super::server::{Frps, TOKEN, accept_login, soon, tcp, v2, wait_for_status};

fn refused(text: &str) -> LoginResp {
    LoginResp {
        error: text.to_owned(),
        ..LoginResp::default()
    }
}

#[tokio::test]
async fn a_login_says_what_frp_says_and_what_a_holdfast_adds() {
    let frps = Frps::start().await;
    let _client = frps.client(|config| {
        config.user = "me".to_owned();
        config.client_id = "laptop".to_owned();
        config.transport.pool_count = 3;
        config
            .metadatas
            .insert("key".to_owned(), "value".to_owned());
    });

    let login = frps.log_in("id").await.login;

    assert_eq!(
        (login.version.as_str(), login.run_id.as_str()),
        ("0.70.1", "")
    );
    assert_eq!(
        (login.user.as_str(), login.client_id.as_str()),
        ("me", "laptop")
    );
    assert_eq!(login.pool_count, 3);
    assert_eq!(login.metas["key"], "value");
    assert!(auth::verify(
        &login.privilege_key,
        TOKEN.as_bytes(),
        login.timestamp
    ));
    let hello = login.holdfast.get().expect("always sent");
    assert_eq!((hello.version, hello.instance), (1, [7; 16]));
    assert!(hello.capabilities.is_empty());
    assert_ne!(hello.client_random, [0; 32]);
}

#[tokio::test]
async fn every_login_has_a_random_of_its_own() {
    let frps = Frps::start().await;
    let _client = frps.client(|config| config.login_fail_exit = false);
    let first = frps.log_in_with(refused("not yet")).await.login;
    let second = frps.log_in("id").await.login;
    let random = |login: &frp_core::proto::msg::Login| login.holdfast.get().unwrap().client_random;
    assert_ne!(random(&first), random(&second));
}

#[tokio::test]
async fn a_wrong_token_ends_the_program_with_frps_words() {
    let frps = Frps::start().await;
    let mut client = frps.client(|_| ());

    let text = "token in login doesn't match token from configuration";
    frps.log_in_with(refused(text)).await;

    let error = soon("end", &mut client.task).await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "login to the server failed: {text}. With loginFailExit enabled, no additional \
             retries will be attempted"
        )
    );
}

#[tokio::test]
async fn without_login_fail_exit_it_tries_until_it_gets_in() {
    let frps = Frps::start().await;
    let client = frps.client(|config| {
        config.login_fail_exit = false;
        config.proxies = vec![tcp("ssh", 22)];
    });
    frps.log_in_with(refused("too early")).await;
    frps.log_in_with(refused("still too early")).await;
    let mut session = frps.log_in("id").await;
    session.agree().await;
    wait_for_status(&client.client, "proxy", |status| status == "ssh=running").await;
}

#[tokio::test]
async fn a_server_that_is_not_there_ends_the_program_only_with_login_fail_exit() {
    let transport = MemoryTransport::new();
    let frps = Frps::on(transport.clone()).await;
    transport.set_reachable(false);
    let mut exits = frps.client(|_| ());
    let stays = frps.client(|config| config.login_fail_exit = false);

    assert!(soon("end", &mut exits.task).await.unwrap().is_err());
    transport.set_reachable(true);
    frps.log_in("id").await;
    assert!(!stays.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up() {
    let frps = Frps::start().await;
    let mut client = frps.client(|_| ());
    let carrier = frps.accept().await;
    let (_login, _stream, _) = accept_login(&carrier).await;

    let error = soon("end", &mut client.task).await.unwrap().unwrap_err();

    assert!(
        error.to_string().contains("no message within 10 s"),
        "{error}"
    );
}

#[tokio::test]
async fn after_a_lost_session_it_logs_in_with_the_same_run_id() {
    for change in [|_: &mut _| (), v2] {
        let frps = Frps::start().await;
        let client = frps.client(|config| {
            change(config);
            config.proxies = vec![tcp("ssh", 22)];
        });
        let mut session = frps.log_in("first-id").await;
        session.agree().await;

        frps.transport.lose_all();
        let mut session = frps.log_in("second-id").await;
        assert_eq!(session.login.run_id, "first-id");
        let proxy = session.agree().await;
        assert_eq!(proxy.proxy_name, "ssh", "the proxy is opened again");
        wait_for_status(&client.client, "proxy", |status| status == "ssh=running").await;
        let (work_conn, _) = session.take_work_conn().await;
        assert_eq!(work_conn.run_id, "second-id", "the server's choice counts");

        session.carrier.close();
        assert_eq!(frps.log_in("x").await.login.run_id, "second-id");
    }
}

#[tokio::test]
async fn without_a_session_there_is_no_status() {
    let frps = Frps::start().await;
    let client = frps.client(|config| config.proxies = vec![tcp("ssh", 22)]);
    let mut session = frps.log_in("id").await;
    session.agree().await;
    wait_for_status(&client.client, "proxy", |status| status == "ssh=running").await;
    frps.transport.set_reachable(false);
    frps.transport.lose_all();
    wait_for_status(&client.client, "no proxy", str::is_empty).await;
}

#[tokio::test]
async fn v2_encrypts_the_control_with_keys_from_both_hellos() {
    let frps = Frps::start().await;
    let client = frps.client(|config| {
        v2(config);
        config.proxies = vec![tcp("ssh", 22)];
    });
    let mut session = frps.log_in("id").await;
    assert!(session.login.holdfast.get().is_some());
    session.agree().await;
    wait_for_status(&client.client, "proxy", |status| status == "ssh=running").await;
}

#[tokio::test]
async fn v2_reports_why_the_server_refuses_the_hello() {
    let frps = Frps::start().await;
    let mut client = frps.client(v2);
    let carrier = frps.accept().await;
    let stream = carrier.accept_stream().await.unwrap().unwrap();
    let mut stream = frp_core::conn::MessageStream::accept(stream).await.unwrap();
    assert_eq!(stream.wire(), WireVersion::V2);
    stream.read_frame().await.unwrap();
    let refusal = br#"{"selected":{"message":{"codec":"json"},"crypto":{}},"error":"no thanks"}"#;
    stream
        .write_hello(FrameType::ServerHello, refusal)
        .await
        .unwrap();
    stream.write(&Ping::default().into()).await.unwrap();

    let error = soon("end", &mut client.task).await.unwrap().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("login to the server failed: no thanks."),
        "{error}"
    );
    assert_eq!(RANDOM_LEN, 32);
}

#[tokio::test]
async fn a_run_id_that_cannot_be_used_is_a_failed_login() {
    for run_id in ["", "a b", "line\nbreak", &"x".repeat(1000)] {
        let frps = Frps::start().await;
        let mut client = frps.client(|_| ());
        frps.log_in(run_id).await;
        let error = soon("end", &mut client.task).await.unwrap().unwrap_err();
        assert!(error.to_string().contains("unusable run id"), "{error}");
    }
}

#[tokio::test]
async fn a_holdfast_is_welcome_and_a_senseless_one_is_plain_frp() {
    let welcome = HoldfastWelcome {
        version: 1,
        ..HoldfastWelcome::default()
    };
    for holdfast in [Extension::from(welcome), Extension::Absent] {
        let frps = Frps::start().await;
        let _client = frps.client(|config| config.proxies = vec![tcp("ssh", 22)]);
        let answer = LoginResp {
            run_id: "id".to_owned(),
            holdfast,
            ..LoginResp::default()
        };
        frps.log_in_with(answer).await.agree().await;
    }
}

#[tokio::test]
async fn a_refused_heartbeat_or_a_missing_one_costs_the_session() {
    let frps = Frps::start().await;
    let _client = frps.client(|config| {
        config.transport.heartbeat_interval = Some(Duration::from_millis(100));
        config.transport.heartbeat_timeout = Some(Duration::from_millis(500));
        config.auth.additional_scopes.heart_beats = true;
    });
    let mut session = frps.log_in("id").await;
    let Message::Ping(ping) = session.next().await else {
        panic!("no ping")
    };
    assert!(auth::verify(
        &ping.privilege_key,
        TOKEN.as_bytes(),
        ping.timestamp
    ));
    session.send(Pong::default()).await;
    session
        .send(Pong {
            error: "invalid ping".to_owned(),
        })
        .await;
    session.closed().await;

    let mut session = frps.log_in("id").await;
    session.closed().await;
    frps.log_in("id").await;
}

#[tokio::test]
async fn without_the_scope_a_heartbeat_carries_no_key() {
    let frps = Frps::start().await;
    let _client = frps.client(|config| {
        config.transport.heartbeat_interval = Some(Duration::from_secs(30));
    });
    let mut session = frps.log_in("id").await;
    let Message::Ping(ping) = session.next().await else {
        panic!("the first ping comes at once")
    };
    assert_eq!(ping, Ping::default());
}
