//! What the dialler sends, and what it makes of answers.

use std::time::Duration;

use base64::Engine as _;
use sha1::Digest as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use transports::tcp::{TcpDialConfig, TcpListenConfig};
use transports::tls::ClientTlsConfig;
use transports::websocket::{WebsocketDialConfig, WebsocketTransport};
use transports::{DialError, Transport, TransportKind};

use crate::support::{
    dial, expect, listen_config, plain_websocket, serves, trusting_tls, websocket,
    websocket_with_tls_inside, wss,
};
use crate::tcp_support::{Server, endpoint, plain_client, trusting_client};

#[tokio::test]
async fn the_request_is_frps_and_what_follows_the_answer_is_not_lost() {
    let (port, request) = scripted(|key| {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            accept_value(key)
        );
        [head.as_bytes(), b"\x82\x05hello"].concat()
    })
    .await;
    let carrier = dial(&endpoint("127.0.0.1", port), plain_websocket())
        .await
        .unwrap();
    assert_eq!(carrier.kind(), TransportKind::Websocket);
    let mut stream = carrier.open_stream().await.unwrap();
    expect(&mut stream, "hello").await;
    let request = request.await.unwrap();
    let key = key_of(&request);
    assert_eq!(
        request,
        format!(
            "GET /~!frp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
             Origin: http://127.0.0.1:{port}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
    );
}

#[tokio::test]
async fn wss_names_the_host_that_tls_was_asked_for_and_no_port() {
    let server = Server::start(TcpListenConfig {
        websocket_path: None,
        ..listen_config()
    })
    .await;
    for (server_name, expected) in [(None, "127.0.0.1"), (Some("Frps.Example"), "Frps.Example")] {
        let tls = ClientTlsConfig {
            server_name: server_name.map(Into::into),
            ..ClientTlsConfig::default()
        };
        let client = WebsocketTransport::dialer(WebsocketDialConfig {
            outer_tls: Some(tls.build().unwrap()),
            ..plain_websocket()
        });
        let at = server.endpoint();
        let dialling = tokio::spawn(async move { client.dial(&at).await.map(drop) });
        let incoming = server.accept().await;
        let mut stream = incoming.carrier.accept_stream().await.unwrap().unwrap();
        let head = format!("GET /~!frp HTTP/1.1\r\nHost: {expected}\r\nUpgrade: websocket\r\n");
        expect(&mut stream, head).await;
        drop((stream, incoming));
        dialling.await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn an_answer_that_is_no_upgrade_says_what_it_is() {
    for (answer, expected) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", "\"404 Not Found\""),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "\"403 Forbidden\""),
        ("HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "\"301 Moved\""),
        ("SSH-2.0-OpenSSH_10.0\r\n\r\n", "not HTTP"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            "another request",
        ),
        ("HTTP/1.1 101 Switching", "unexpected end of file"),
    ] {
        let (port, _request) = scripted(move |_| answer.as_bytes().to_vec()).await;
        let server = endpoint("127.0.0.1", port);
        let error = dial(&server, plain_websocket()).await.unwrap_err();
        assert!(matches!(error, DialError::Upgrade { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("websocket upgrade at {server}: ")),
            "{text}"
        );
        assert!(text.contains(expected), "{text}");
    }
    let (port, _request) =
        scripted(|_| [b"HTTP/1.1 101 ".as_slice(), &[b'x'; 9000]].concat()).await;
    let error = dial(&endpoint("127.0.0.1", port), plain_websocket())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("longer than 8 KiB"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = endpoint("127.0.0.1", listener.local_addr().unwrap().port());
    let client = websocket(TcpDialConfig {
        timeout: Duration::from_millis(200),
        ..plain_client()
    });
    let error = dial(&server, client).await.unwrap_err();
    assert!(matches!(error, DialError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_websocket_goes_through_an_outbound_proxy() {
    let server = Server::start(listen_config()).await;
    let proxy = http_proxy().await;
    for mut client in [
        plain_websocket(),
        websocket_with_tls_inside(Some(0x17)),
        wss(),
    ] {
        client.tcp.proxy = Some(format!("http://127.0.0.1:{proxy}").parse().unwrap());
        serves(&server, &server.endpoint(), client).await;
    }
}

/// frp's servers need something in front of them that takes the outer TLS off.
#[tokio::test]
async fn wss_goes_through_a_terminator_with_and_without_tls_inside() {
    let server = Server::start(listen_config()).await;
    let terminator = terminator(&server).await;
    for inside in [plain_client(), trusting_client()] {
        let client = WebsocketDialConfig {
            outer_tls: Some(trusting_tls()),
            ..websocket(inside.clone())
        };
        let at = endpoint("127.0.0.1", terminator);
        let client = dial(&at, client).await.unwrap();
        assert_eq!(client.kind(), TransportKind::Wss);
        let mut stream = client.open_stream().await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        stream.flush().await.unwrap();
        let incoming = server.accept().await;
        assert_eq!(incoming.carrier.kind(), TransportKind::Websocket);
        let mut accepted = incoming.carrier.accept_stream().await.unwrap().unwrap();
        expect(&mut accepted, "ping").await;

        // The keys of the inner TLS are those that both ends know.
        let [mut here, mut there] = [[0; 32]; 2];
        let here_has = client
            .export_keying_material(&mut here, b"label", b"")
            .is_ok();
        let there_has = incoming
            .carrier
            .export_keying_material(&mut there, b"label", b"")
            .is_ok();
        assert!(here_has, "of the inner TLS, or of the outer");
        assert_eq!(there_has, inside.tls.is_some());
        assert_eq!(here == there, inside.tls.is_some());
    }
}

#[tokio::test]
async fn a_name_that_cannot_stand_in_a_request_is_refused() {
    let server = Server::start(listen_config()).await;
    let tls = ClientTlsConfig {
        server_name: Some("a\r\nX: b".into()),
        ..ClientTlsConfig::default()
    };
    let client = WebsocketDialConfig {
        outer_tls: Some(tls.build().unwrap()),
        ..plain_websocket()
    };
    let error = dial(&server.endpoint(), client).await.unwrap_err();
    assert!(error.to_string().contains("no host name has"), "{error}");
}

#[tokio::test]
async fn a_websocket_has_no_listener_of_its_own() {
    let transport = WebsocketTransport::dialer(plain_websocket());
    let error = transport
        .bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("through the TCP listener"),
        "{error}"
    );
}

/// A port where the first connection's request is answered. Returns the request, too.
async fn scripted(
    answer: impl FnOnce(&str) -> Vec<u8> + Send + 'static,
) -> (u16, oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, request) = oneshot::channel();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let request = read_head(&mut socket).await;
        let answer = answer(&key_of(&request));
        let _ = sender.send(request);
        let _ = socket.write_all(&answer).await;
        let _ = socket.shutdown().await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    (port, request)
}

async fn http_proxy() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let request = read_head(&mut client).await;
            let target = request.split(' ').nth(1).unwrap().to_owned();
            let mut server = TcpStream::connect(target).await.unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    port
}

/// A port that takes TLS off and leads to `server`.
async fn terminator(server: &Server) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = server.addr();
    let tls = crate::tcp_support::server_tls(transports::tls::self_signed().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let mut client = tls.accept(client).await.unwrap();
            let mut server = TcpStream::connect(server).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    port
}

async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn key_of(request: &str) -> String {
    let line = request
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    line.unwrap().to_owned()
}

/// RFC 6455 section 4.2.2.
fn accept_value(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(sha1::Sha1::digest(text))
}
