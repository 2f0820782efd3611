//! Peers that mean no good: whatever they send or do not send, nobody else notices.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use frp_core::config::ServerConfig;
use frp_core::proto::WireVersion;
use frp_core::proto::msg::{Login, NewProxy, Ping, StartWorkConn};
use frp_core::work::WorkOptions;
use frps::Timing;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{TestServer, closed, expect_echo, login, open_with, user, within};

const SHORT: Timing = Timing {
    login_timeout: Duration::from_millis(500),
};

fn without_mux(config: &mut ServerConfig) {
    config.transport.tcp_mux = false;
}

/// The server still does its work.
async fn is_well(server: &TestServer) {
    static N_PROXIES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("well{}", N_PROXIES.fetch_add(1, Ordering::Relaxed));
    let mut client = server.client().await;
    let port = client.tcp_proxy(&name).await;
    let _echo = client.echo(WorkOptions::default());
    expect_echo(&mut user(port).await, b"well").await;
}

#[tokio::test]
async fn whatever_comes_before_a_login_ends_in_its_time() {
    let server = TestServer::with_timing(SHORT, without_mux).await;
    let v1 = |kind: u8, len: i64, json: &[u8]| [&[kind][..], &len.to_be_bytes(), json].concat();
    let v2 = |kind: u16, flags: u16, len: u32, payload: &[u8]| {
        let magic = b"FRP\0\x02\r\n";
        let (kind, flags) = (kind.to_be_bytes(), flags.to_be_bytes());
        [&magic[..], &kind, &flags, &len.to_be_bytes(), payload].concat()
    };
    let cases = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0; 100],
        vec![0xff; 100],
        // Lengths: negative, beyond the bound, all but endless.
        v1(b'o', -1, b"{}"),
        v1(b'o', 10_241, b"{}"),
        v1(b'o', i64::MAX, b"{}"),
        v1(b'o', i64::MIN, b"{}"),
        // No such message, and a message that may not come first.
        v1(b'!', 2, b"{}"),
        v1(b'h', 2, b"{}"),
        // JSON: none, wrong types, numbers out of range, bad UTF-8, too deep.
        v1(b'o', 1, b"{"),
        v1(b'o', 2, b"[]"),
        v1(b'o', 17, b"{\"pool_count\":\"1\"}"),
        v1(b'o', 41, b"{\"pool_count\":99999999999999999999999999}"),
        v1(b'o', 12, b"{\"user\":\"\xff\xfe"),
        v1(b'o', 10_000, &b"[".repeat(10_000)),
        // The other version: magic cut off, flags, length, frame type, message id, hello.
        b"FRP\0\x02\r!xxxxxxxxxx".to_vec(),
        v2(16, 1, 4, b"\0\x01{}"),
        v2(16, 0, u32::MAX, b"\0\x01{}"),
        v2(99, 0, 4, b"\0\x01{}"),
        v2(16, 0, 4, b"\0\xff{}"),
        v2(16, 0, 1, b"\0"),
        v2(1, 0, 4, b"null"),
        v2(2, 0, 2, b"{}"),
    ];
    for case in &cases {
        let mut conn = TcpStream::connect(server.addr()).await.unwrap();
        let _ = conn.write_all(case).await;
        let began = Instant::now();
        let mut answer = Vec::new();
        let _ = within(conn.read_to_end(&mut answer)).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{case:?}");
    }
    is_well(&server).await;
}

#[tokio::test]
async fn a_hello_that_cannot_be_used_is_answered_with_the_reason() {
    let server = TestServer::with(without_mux).await;
    let payload = br#"{"capabilities":{"message":{"codecs":["xml"]}}}"#;
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let hello = [&b"FRP\0\x02\r\n\0\x01\0\0"[..], &len, payload].concat();
    let mut conn = TcpStream::connect(server.addr()).await.unwrap();
    conn.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    within(conn.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer[..2], [0, 2]);
    assert!(String::from_utf8_lossy(&answer).contains("unsupported message codec"));
}

#[tokio::test]
async fn a_silent_peer_is_closed_after_its_time() {
    for configure in [without_mux, |_: &mut ServerConfig| {}] {
        let server = TestServer::with_timing(SHORT, configure).await;
        let mut silent = TcpStream::connect(server.addr()).await.unwrap();
        let mut slow = TcpStream::connect(server.addr()).await.unwrap();
        slow.write_all(b"o\0\0").await.unwrap();
        let began = Instant::now();
        for conn in [&mut silent, &mut slow] {
            // The multiplexer may ask for a sign of life, or say that it goes.
            let _ = within(conn.read_to_end(&mut Vec::new())).await;
        }
        let took = began.elapsed();
        assert!(
            took > Duration::from_millis(300) && took < Duration::from_secs(3),
            "{took:?}"
        );
    }
}

#[tokio::test]
async fn a_carrier_on_which_nobody_logs_in_is_closed_after_its_time() {
    let server = TestServer::with_timing(SHORT, |_| {}).await;
    let session = server.dial().await;
    let mut stream = session.open_conn().await.unwrap();
    closed(&mut stream).await;
    within(session.closed()).await;
}

#[tokio::test]
async fn a_stream_of_a_client_that_says_nothing_is_closed_and_the_session_lives() {
    let server = TestServer::with_timing(SHORT, |_| {}).await;
    let mut client = server.client().await;
    let mut stream = client.session.open_conn().await.unwrap();
    stream.write_all(b"w").await.unwrap();
    stream.flush().await.unwrap();
    closed(&mut stream).await;
    client.tcp_proxy("web").await;
}

#[tokio::test]
async fn a_thousand_half_open_connections_keep_no_client_out_for_long() {
    let server = TestServer::with_timing(SHORT, |_| {}).await;
    let mut half_open = Vec::new();
    for _ in 0..1000 {
        half_open.push(TcpStream::connect(server.addr()).await.unwrap());
    }
    let began = Instant::now();
    is_well(&server).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn nonsense_on_the_control_stream_ends_that_session_only() {
    let server = TestServer::start().await;
    let mut bystander = server.client().await;
    let port = bystander.tcp_proxy("web").await;
    let _echo = bystander.echo(WorkOptions::default());

    // Messages that the server does not expect there are ignored, as frp does.
    let mut odd = server.client().await;
    odd.send(StartWorkConn::default()).await;
    odd.send(login()).await;
    odd.tcp_proxy("odd").await;

    // Bytes that decrypt to nothing end the session.
    let session = server.dial().await;
    let mut conn = open_with(&session, WireVersion::V1, login()).await;
    within(conn.read()).await.unwrap();
    let mut stream = conn.into_stream();
    let _ = stream.write_all(&[0xa5; 4096]).await;
    let _ = stream.flush().await;
    let mut rest = Vec::new();
    let _ = within(stream.read_to_end(&mut rest)).await;

    expect_echo(&mut user(port).await, b"unharmed").await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_delays_nobody_and_is_given_up() {
    let server = TestServer::start().await;
    let mut deaf = server.client().await;
    let port = deaf.tcp_proxy("deaf").await;
    // Every ping wants a pong; none of them is read.
    let flood = tokio::spawn(async move {
        let mut n_sent = 0_u64;
        for _ in 0..2000 {
            for _ in 0..500 {
                if deaf.writer.push(&Ping::default().into()).is_err() {
                    return n_sent;
                }
            }
            match tokio::time::timeout(Duration::from_secs(20), deaf.writer.flush()).await {
                Ok(Ok(())) => n_sent += 500,
                _ => return n_sent,
            }
        }
        n_sent
    });
    for _ in 0..5 {
        is_well(&server).await;
    }
    // Its users are turned away or wait; they hold up nobody either.
    let _user = user(port).await;
    is_well(&server).await;
    flood.abort();
}

#[tokio::test]
async fn a_login_out_of_range_is_no_harm() {
    let server = TestServer::start().await;
    let odd = Login {
        version: "x".repeat(1000),
        hostname: "a\nb\u{1b}[0m".to_owned(),
        os: "\0".to_owned(),
        user: "../..".to_owned(),
        ..login()
    };
    server.log_in(WireVersion::V1, odd).await.unwrap();
    let timestamp = Login {
        timestamp: i64::MIN,
        ..login()
    };
    assert!(server.log_in(WireVersion::V1, timestamp).await.is_err());
    is_well(&server).await;
}

#[tokio::test]
async fn what_a_client_may_say_of_its_proxies_is_bounded() {
    let server = TestServer::start().await;
    let mut client = server.log_in(WireVersion::V2, login()).await.unwrap();
    let mut refused = None;
    for i in 0..200 {
        let long = NewProxy {
            proxy_name: format!("{i:060000}"),
            proxy_type: "stcp".to_owned(),
            ..NewProxy::default()
        };
        let answer = client.new_proxy(long).await;
        if !answer.error.is_empty() {
            refused = Some((i, answer.error));
            break;
        }
    }
    let (n_accepted, error) = refused.unwrap();
    assert!(n_accepted > 10);
    assert!(error.contains("at most 33554432 bytes"), "{error}");
    // The session goes on, and short proxies are still to be had.
    client.tcp_proxy("short").await;
    is_well(&server).await;
}
