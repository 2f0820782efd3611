//! Servers that mean no good, or have lost their mind.

use std::time::Duration;

use frp_core::proto::msg::{
    LoginResp, Message, NatHoleResp, NewProxyResp, Pong, ReqWorkConn, StartWorkConn, UdpPacket,
};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::AsyncWriteExt;

use super::server::{Frps, accept_login, echo_service, echoes, soon, tcp, v2, wait_for_status};

#[tokio::test]
async fn any_bytes_in_the_place_of_a_login_answer_are_a_failed_login() {
    for seed in 0..300 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut bytes = vec![0; random.random_range(0..200)];
        random.fill(&mut bytes[..]);
        // A plausible header, so that more than the first check is reached.
        let header: &[u8] = match seed % 4 {
            0 => b"1\0\0\0\0\0\0\0\x20",
            1 => b"1\xff\xff\xff\xff\xff\xff\xff\xff",
            2 => b"1\x7f\xff\xff\xff\xff\xff\xff\xff",
            _ => b"",
        };
        bytes.splice(0..0, header.iter().copied());
        let frps = Frps::start().await;
        let mut client = frps.client(|config| {
            if seed.is_multiple_of(3) {
                v2(config);
            }
        });
        let carrier = frps.accept().await;
        let mut stream = soon("stream", carrier.accept_stream())
            .await
            .unwrap()
            .unwrap();
        // The client may have closed already.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        carrier.close();
        let result = soon("end", &mut client.task).await.unwrap();
        assert!(result.is_err(), "seed {seed}");
    }
}

#[tokio::test]
async fn garbage_on_the_control_costs_the_session_and_nothing_else() {
    let mut runs = tokio::task::JoinSet::new();
    for seed in 0..50 {
        runs.spawn(send_garbage_on_the_control(seed));
    }
    runs.join_all().await;
}

async fn send_garbage_on_the_control(seed: u64) {
    let frps = Frps::start().await;
    let _client = frps.client(|config| {
        config.proxies = vec![tcp("ssh", 22)];
        if seed.is_multiple_of(2) {
            v2(config);
        }
    });
    let carrier = frps.accept().await;
    let (_, mut stream, _) = accept_login(&carrier).await;
    let answer = LoginResp {
        run_id: "id".to_owned(),
        ..LoginResp::default()
    };
    stream.write(&answer.into()).await.unwrap();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut bytes = vec![0; 4000];
    random.fill(&mut bytes[..]);
    let mut stream = stream.into_stream();
    let _ = stream.write_all(&bytes).await;
    let _ = stream.flush().await;
    // A new login: the client has closed the broken session itself.
    let mut session = frps.log_in("id").await;
    assert_eq!(session.login.run_id, "id", "seed {seed}");
    session.agree().await;
}

#[tokio::test]
async fn messages_that_make_no_sense_are_ignored() {
    let frps = Frps::start().await;
    let client = frps.client(|config| config.proxies = vec![tcp("ssh", 22)]);
    let mut session = frps.log_in("id").await;
    let proxy = session.next_proxy().await;
    let unknown = NewProxyResp {
        proxy_name: "unknown".to_owned(),
        ..NewProxyResp::default()
    };
    let senseless: [Message; 6] = [
        unknown.into(),
        NatHoleResp::default().into(),
        UdpPacket::default().into(),
        StartWorkConn::default().into(),
        LoginResp::default().into(),
        Pong::default().into(),
    ];
    for message in senseless {
        session.send(message).await;
    }
    let mut answer = NewProxyResp {
        proxy_name: proxy.proxy_name,
        ..NewProxyResp::default()
    };
    session.send(answer.clone()).await;
    wait_for_status(&client.client, "proxy", |status| status == "ssh=running").await;
    answer.error = "a second answer".to_owned();
    session.send(answer).await;
    session.take_work_conn().await;
    wait_for_status(&client.client, "proxy", |status| status == "ssh=running").await;
}

#[tokio::test]
async fn a_flood_of_requests_opens_no_more_than_the_bound() {
    /// The client's bound for conns that wait for a user.
    const MAX_WAITING: usize = 4096;
    let frps = Frps::start().await;
    let port = echo_service().await;
    let client = frps.client(|config| config.proxies = vec![tcp("echo", port)]);
    let mut session = frps.log_in("id").await;
    session.agree().await;
    wait_for_status(&client.client, "proxy", |status| status == "echo=running").await;

    for _ in 0..3 * MAX_WAITING {
        session.writer.push(&ReqWorkConn::default().into()).unwrap();
    }
    soon("room", session.writer.flush()).await.unwrap();

    let mut conns = Vec::new();
    while conns.len() < MAX_WAITING {
        conns.push(session.accept_conn().await);
    }
    let more = tokio::time::timeout(Duration::from_millis(300), session.carrier.accept_stream());
    assert!(more.await.is_err(), "one more than the bound");

    // It goes on serving: one of them is used, which makes room for another.
    let mut conn = conns.pop().unwrap();
    conn.read().await.unwrap();
    let start = StartWorkConn {
        proxy_name: "echo".to_owned(),
        ..StartWorkConn::default()
    };
    conn.write(&start.into()).await.unwrap();
    echoes(&mut conn.into_stream(), b"still there").await;
    session.take_work_conn().await;
}

#[tokio::test]
async fn garbage_on_a_work_conn_costs_that_conn_alone() {
    let frps = Frps::start().await;
    let port = echo_service().await;
    let client = frps.client(|config| config.proxies = vec![tcp("echo", port)]);
    let mut session = frps.log_in("id").await;
    session.agree().await;
    wait_for_status(&client.client, "proxy", |status| status == "echo=running").await;
    for bytes in [
        &b"\xff\xff\xff"[..],
        b"s\xff\xff\xff\xff\xff\xff\xff\xff",
        b"h\0\0\0\0\0\0\0\x02{}",
    ] {
        let (_, conn) = session.take_work_conn().await;
        let mut stream = conn.into_stream();
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut user = session.connect_user("echo").await;
    echoes(&mut user, b"still there").await;
}

#[tokio::test]
async fn a_work_conn_with_an_error_is_closed() {
    let frps = Frps::start().await;
    let _client = frps.client(|_| ());
    let mut session = frps.log_in("id").await;
    let (_, mut conn) = session.take_work_conn().await;
    let start = StartWorkConn {
        error: "invalid NewWorkConn".to_owned(),
        ..Default::default()
    };
    conn.write(&start.into()).await.unwrap();
    assert!(soon("end", conn.read()).await.is_err());
}
