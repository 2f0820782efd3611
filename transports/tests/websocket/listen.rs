//! What the listener makes of requests and of frames.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use transports::half_open::HalfOpenLimits;
use transports::mux::MuxConfig;
use transports::tcp::{TcpDialConfig, TcpListenConfig};
use transports::{CarrierError, TransportKind};

use crate::support::{
    ANSWER, REQUEST, expect, listen_config, plain_websocket, read_all, say, serves, trusting_tls,
    websocket, websocket_with_tls_inside, wss,
};
use crate::tcp_support::{LONG, Server, endpoint, plain_client, trusting_client};

#[tokio::test]
async fn one_port_tells_every_kind_of_client_apart() {
    let server = Server::start(listen_config()).await;
    let at = server.endpoint();
    serves(&server, &at, plain_websocket()).await;
    serves(&server, &at, websocket_with_tls_inside(None)).await;
    serves(&server, &at, websocket_with_tls_inside(Some(0x17))).await;
    serves(&server, &at, wss()).await;
    for client in [plain_client(), trusting_client()] {
        let (_client, incoming) = server.serves(client).await;
        assert_eq!(incoming.carrier.kind(), TransportKind::Tcp);
    }
}

#[tokio::test]
async fn a_client_comes_through_one_byte_at_a_time() {
    let server = Server::start(listen_config()).await;
    for client in [
        plain_websocket(),
        websocket_with_tls_inside(Some(0x17)),
        wss(),
    ] {
        let port = one_byte_at_a_time(&server).await;
        serves(&server, &endpoint("127.0.0.1", port), client).await;
    }
}

#[tokio::test]
async fn when_tls_is_forced_it_may_be_inside_or_outside_of_the_websocket() {
    let config = TcpListenConfig {
        force_tls: true,
        ..listen_config()
    };
    let server = Server::start(config).await;
    let at = server.endpoint();
    let frame = b"\x82\x81\0\0\0\0o";
    let mut plain = say(&server, [REQUEST.as_bytes(), frame].concat()).await;
    assert_eq!(read_all(&mut plain).await, ANSWER);
    serves(&server, &at, websocket_with_tls_inside(None)).await;
    serves(&server, &at, wss()).await;
}

#[tokio::test]
async fn without_a_path_there_is_no_websocket() {
    let config = TcpListenConfig {
        websocket_path: None,
        ..listen_config()
    };
    let server = Server::start(config).await;
    let _client = say(&server, REQUEST).await;
    let incoming = server.accept().await;
    let mut stream = incoming.carrier.accept_stream().await.unwrap().unwrap();
    expect(&mut stream, REQUEST).await;
}

/// Inside TLS, too, no more is waited for than the first byte, unless it is that of a request.
#[tokio::test]
async fn what_only_begins_like_a_request_is_handed_on_untouched() {
    let server = Server::start(listen_config()).await;
    for text in ["o", "GO", "GET /~!frq", "\0\0"] {
        for has_tls in [false, true] {
            let client = if has_tls {
                trusting_client()
            } else {
                plain_client()
            };
            let client = crate::tcp_support::dial(&server.endpoint(), client)
                .await
                .unwrap();
            let mut writer = client.open_stream().await.unwrap();
            writer.write_all(text.as_bytes()).await.unwrap();
            writer.flush().await.unwrap();
            let incoming = server.accept().await;
            assert_eq!(incoming.carrier.kind(), TransportKind::Tcp);
            let mut reader = incoming.carrier.accept_stream().await.unwrap().unwrap();
            expect(&mut reader, text).await;
        }
    }
}

#[tokio::test]
async fn a_request_is_answered_with_frps_very_bytes() {
    let server = Server::start(listen_config()).await;
    for request in [
        REQUEST.to_owned(),
        REQUEST
            .to_lowercase()
            .replace("get /~!frp http", "GET /~!frp HTTP")
            .replace("dghlihnhbxbszsbub25jzq==", "dGhlIHNhbXBsZSBub25jZQ=="),
    ] {
        let mut client = say(&server, request).await;
        expect(&mut client, ANSWER).await;
    }
}

#[tokio::test]
async fn a_request_that_is_refused_is_answered_and_ends_only_itself() {
    let server = Server::start(listen_config()).await;
    let origin = "Origin: http://127.0.0.1:17703\r\n";
    for (from, to, answer) in [
        (origin, "", "HTTP/1.1 403 Forbidden\r\n\r\n"),
        (origin, "Origin: null\r\n", "HTTP/1.1 403 Forbidden\r\n\r\n"),
        (
            "Version: 13",
            "Version: 8",
            "HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13\r\n",
        ),
        (
            "Upgrade: websocket\r\n",
            "",
            "HTTP/1.1 400 Bad Request\r\n\r\n",
        ),
        ("Host: ", "Host ", "HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("/~!frp", "/~!frps", "HTTP/1.1 404 Not Found\r\n\r\n"),
    ] {
        // More than the request: the answer must get through nevertheless.
        let request = REQUEST.replacen(from, to, 1) + &"x".repeat(20_000);
        let mut client = say(&server, request).await;
        client.shutdown().await.unwrap();
        let received = read_all(&mut client).await;
        assert!(received.starts_with(answer), "{received}");
        assert!(!answer.contains("403") || received == answer, "{received}");
    }
    serves(&server, &server.endpoint(), plain_websocket()).await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_without_being_read_to_its_end() {
    let server = Server::start(listen_config()).await;
    let mut client = say(&server, "GET /~!frp HTTP/1.1\r\nX: ").await;
    let (mut reader, mut writer) = client.split();
    let writing = async {
        while writer.write_all(&[b'x'; 1024]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = read_all(&mut reader) => assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}"),
        () = writing => {}
    }
}

#[tokio::test]
async fn a_head_or_a_first_byte_that_never_comes_is_given_up_in_its_time() {
    let config = TcpListenConfig {
        login_timeout: Duration::from_millis(400),
        ..listen_config()
    };
    let server = Server::start(config).await;
    let start = Instant::now();
    let mut in_prefix = say(&server, "GET /~").await;
    let mut in_head = say(&server, &REQUEST[..REQUEST.len() - 1]).await;
    let mut inside = say(&server, REQUEST).await;
    let mut in_frame = say(&server, [REQUEST.as_bytes(), b"\x82\x81\0"].concat()).await;
    let mut with_pings = say(&server, REQUEST).await;
    let (mut pongs, mut pings) = with_pings.split();
    let pinging = async {
        while pings.write_all(b"\x89\x80\0\0\0\0").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let (received, ()) = tokio::join!(read_all(&mut pongs), pinging);
    assert!(received.starts_with(ANSWER));
    assert!(start.elapsed() >= Duration::from_millis(400));
    assert_eq!(read_all(&mut in_prefix).await, "");
    assert_eq!(read_all(&mut in_head).await, "");
    assert_eq!(read_all(&mut inside).await, ANSWER);
    assert_eq!(read_all(&mut in_frame).await, ANSWER);
    serves(&server, &server.endpoint(), plain_websocket()).await;
}

#[tokio::test]
async fn slow_requests_are_half_open_connections_like_others() {
    let config = TcpListenConfig {
        limits: HalfOpenLimits {
            total: 100,
            per_address: 4,
            ..HalfOpenLimits::default()
        },
        ..listen_config()
    };
    let server = Server::start(config).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(say(&server, "GET /~!frp HTTP/1.1\r\n").await);
    }
    let neighbour = websocket(TcpDialConfig {
        local_ip: Some("127.0.0.2".parse().unwrap()),
        ..plain_client()
    });
    serves(&server, &server.endpoint(), neighbour).await;
    drop(slow);
}

#[tokio::test]
async fn what_comes_with_the_request_is_not_lost() {
    let server = Server::start(TcpListenConfig {
        tls: None,
        ..listen_config()
    })
    .await;
    let mut client = say(
        &server,
        [REQUEST.as_bytes(), b"\x82\x82\0\0\0\0hi"].concat(),
    )
    .await;
    let incoming = server.accept().await;
    let mut stream = incoming.carrier.accept_stream().await.unwrap().unwrap();
    expect(&mut stream, "hi").await;
    stream.write_all(b"you").await.unwrap();
    stream.flush().await.unwrap();
    expect(&mut client, ANSWER.to_owned()).await;
    expect(&mut client, b"\x82\x03you").await;
}

#[tokio::test]
async fn one_frame_may_carry_more_than_anyone_holds() {
    let server = Server::start(TcpListenConfig {
        tls: None,
        ..listen_config()
    })
    .await;
    const LEN: usize = 3 * 1024 * 1024;
    let client = say(&server, REQUEST).await;
    let writing = tokio::spawn(async move {
        let mut client = client;
        client.write_all(b"\x82\xff").await.unwrap();
        client.write_all(&(LEN as u64).to_be_bytes()).await.unwrap();
        client.write_all(&[1, 2, 3, 4]).await.unwrap();
        client
            .write_all(&[1 ^ b'a', 2 ^ b'a', 3 ^ b'a', 4 ^ b'a'].repeat(LEN / 4))
            .await
            .unwrap();
        client
    });
    let incoming = server.accept().await;
    let mut stream = incoming.carrier.accept_stream().await.unwrap().unwrap();
    let mut received = vec![0; LEN];
    timeout(LONG, stream.read_exact(&mut received))
        .await
        .unwrap()
        .unwrap();
    assert!(received.iter().all(|byte| *byte == b'a'));
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn a_flood_of_pings_and_empty_frames_costs_its_sender_only() {
    let server = Server::start(TcpListenConfig {
        tls: None,
        ..listen_config()
    })
    .await;
    let mut flooding = say(&server, REQUEST).await;
    let incoming = server.accept().await;
    let mut stream = incoming.carrier.accept_stream().await.unwrap().unwrap();
    let reading = tokio::spawn(async move { stream.read_u8().await });
    // The pongs are not read. Those that do not fit are not kept.
    let flood = b"\x89\x84\0\0\0\0ping\x82\x80\0\0\0\0".repeat(1000);
    for _ in 0..500 {
        timeout(LONG, flooding.write_all(&flood))
            .await
            .unwrap()
            .unwrap();
    }
    serves(&server, &server.endpoint(), plain_websocket()).await;
    flooding.write_all(b"\x82\x81\0\0\0\0x").await.unwrap();
    assert_eq!(
        timeout(LONG, reading).await.unwrap().unwrap().unwrap(),
        b'x'
    );
}

#[tokio::test]
async fn a_client_that_breaks_the_framing_loses_its_carrier() {
    let server = Server::start(TcpListenConfig {
        tls: None,
        mux: Some(MuxConfig::default()),
        ..listen_config()
    })
    .await;
    let _client = say(&server, [REQUEST.as_bytes(), b"\x82\x01o"].concat()).await;
    let incoming = server.accept().await;
    let ended = timeout(LONG, incoming.carrier.closed()).await.unwrap();
    let CarrierError::Lost(reason) = ended else {
        panic!("{ended}");
    };
    assert_eq!(reason, "a client's frame without a mask");
}

#[tokio::test]
async fn a_client_that_closes_has_its_close_answered() {
    for mux in [None, Some(MuxConfig::default())] {
        let server = Server::start(TcpListenConfig {
            tls: None,
            mux,
            ..listen_config()
        })
        .await;
        let mut client = say(&server, REQUEST).await;
        expect(&mut client, ANSWER).await;
        let incoming = server.accept().await;
        client
            .write_all(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8])
            .await
            .unwrap();
        if !incoming.carrier.is_multiplexed() {
            let mut stream = incoming.carrier.accept_stream().await.unwrap().unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
            stream.shutdown().await.unwrap();
        }
        let ended = timeout(LONG, incoming.carrier.closed()).await.unwrap();
        assert_eq!(ended, CarrierError::ClosedByPeer);
        let mut received = Vec::new();
        let _ = timeout(LONG, client.read_to_end(&mut received))
            .await
            .unwrap();
        assert!(received.ends_with(&[0x88, 2, 3, 0xe8]), "{received:02x?}");
    }
}

#[tokio::test]
async fn a_request_inside_tls_is_checked_as_well() {
    let server = Server::start(listen_config()).await;
    let socket = TcpStream::connect(server.addr()).await.unwrap();
    let mut client = trusting_tls().connect("127.0.0.1", socket).await.unwrap();
    let request = REQUEST.replace("Origin", "X-Origin");
    client.write_all(request.as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(
        read_all(&mut client).await,
        "HTTP/1.1 403 Forbidden\r\n\r\n"
    );
}

/// A port that leads to `server` and takes its time over the first 900 bytes.
async fn one_byte_at_a_time(server: &Server) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = server.addr();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(server).await.unwrap();
        server.set_nodelay(true).unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        for _ in 0..900 {
            let Ok(byte) = from_client.read_u8().await else {
                return;
            };
            to_server.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    });
    port
}
