//! Outbound proxies that work, refuse, hang and talk nonsense.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use transports::DialError;
use transports::tcp::TcpDialConfig;

use crate::support::{
    Authority, Server, dial, endpoint, is_alone, plain_client, run_alone, server_config,
    server_tls, trusting_client,
};

#[tokio::test]
async fn an_http_proxy_is_asked_with_the_headers_that_frp_sends() {
    let server = Server::start(server_config()).await;
    let (port, request) = http_proxy(Answer::Tunnel).await;
    server
        .serves(through(
            &format!("http://127.0.0.1:{port}"),
            trusting_client(),
        ))
        .await;
    let target = server.addr();
    assert_eq!(
        request.await.unwrap(),
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: Mozilla/5.0\r\n\r\n")
    );
}

#[tokio::test]
async fn an_http_proxy_gets_the_credentials() {
    let server = Server::start(server_config()).await;
    let (port, request) = http_proxy(Answer::Tunnel).await;
    let url = format!("http://al%40ice:p%3Ass@127.0.0.1:{port}");
    server.serves(through(&url, trusting_client())).await;
    let request = request.await.unwrap();
    // "al@ice:p:ss"
    let expected = "User-Agent: Mozilla/5.0\r\nProxy-Authorization: Basic YWxAaWNlOnA6c3M=\r\n\r\n";
    assert!(request.ends_with(expected), "{request}");
}

#[tokio::test]
async fn the_servers_name_is_left_to_the_proxy() {
    let server = Server::start(server_config()).await;
    let named = endpoint("frps.invalid", server.addr().port());

    let (port, request) = http_proxy(Answer::TunnelTo(server.addr())).await;
    server
        .serves_at(
            &named,
            through(&format!("http://127.0.0.1:{port}"), plain_client()),
        )
        .await;
    assert!(request.await.unwrap().starts_with("CONNECT frps.invalid:"));

    let (port, request) = socks5_proxy(None, Answer::TunnelTo(server.addr())).await;
    let client = through(&format!("socks5://127.0.0.1:{port}"), plain_client());
    server.serves_at(&named, client).await;
    assert_eq!(request.await.unwrap(), named.to_string());
}

#[tokio::test]
async fn the_marker_and_tls_go_through_the_proxy() {
    let server = Server::start(server_config()).await;
    let client = TcpDialConfig {
        marker: Some(0x17),
        ..trusting_client()
    };
    let (http, _request) = http_proxy(Answer::Tunnel).await;
    server
        .serves(through(&format!("http://127.0.0.1:{http}"), client.clone()))
        .await;
    let (socks, _request) = socks5_proxy(None, Answer::Tunnel).await;
    server
        .serves(through(&format!("socks5://127.0.0.1:{socks}"), client))
        .await;
}

#[tokio::test]
async fn what_follows_the_proxys_answer_belongs_to_the_server() {
    let head = "HTTP/1.0 200 OK\r\nX-Proxy: yes\r\n\r\n";
    let (port, _request) = http_proxy(Answer::Say(format!("{head}hello"))).await;
    let client = through(&format!("http://127.0.0.1:{port}"), plain_client());
    let carrier = dial(&endpoint("frps.invalid", 7000), client).await.unwrap();
    let mut stream = carrier.open_stream().await.unwrap();
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"hello");
}

#[tokio::test]
async fn a_socks5_proxy_takes_user_and_password() {
    let server = Server::start(server_config()).await;
    let (port, request) = socks5_proxy(Some(("alice", "p:ss")), Answer::Tunnel).await;
    let url = format!("socks5://alice:p%3Ass@127.0.0.1:{port}");
    server.serves(through(&url, trusting_client())).await;
    assert_eq!(request.await.unwrap(), server.addr().to_string());
}

#[tokio::test]
async fn a_proxy_that_refuses_says_why() {
    let refused = |reason: &str| Answer::Say(format!("HTTP/1.1 {reason}\r\n\r\n"));
    for (answer, credentials, expected) in [
        (refused("403 Forbidden"), "", "403 Forbidden"),
        (
            refused("407 Proxy Authentication Required"),
            "",
            "write them into the proxy URL",
        ),
        (
            refused("407 Proxy Authentication Required"),
            "alice:secret@",
            "refuses this user",
        ),
        (refused("201 Created"), "", "201 Created"),
        (
            Answer::Say("SSH-2.0-OpenSSH_9.6\r\n\r\n".into()),
            "",
            "does not answer in HTTP",
        ),
        (Answer::Say("HTTP/1.1 200 OK\r\n".into()), "", "CONNECT"),
        (Answer::Say("x".repeat(20_000)), "", "longer than"),
    ] {
        let (port, _request) = http_proxy(answer).await;
        let error = proxy_error(&format!("http://{credentials}127.0.0.1:{port}")).await;
        assert!(error.contains(expected), "{error}");
    }
    for (credentials, proxy_has) in [
        ("", Some(("alice", "secret"))),
        ("alice:secret@", Some(("alice", "other"))),
    ] {
        let (port, _request) = socks5_proxy(proxy_has, Answer::Tunnel).await;
        proxy_error(&format!("socks5://{credentials}127.0.0.1:{port}")).await;
    }
    let (port, _request) = socks5_proxy(None, Answer::Refuse).await;
    let error = proxy_error(&format!("socks5://127.0.0.1:{port}")).await;
    assert!(error.to_lowercase().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_the_proxys_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = proxy_error(&format!("http://alice:secret@127.0.0.1:{port}")).await;
    assert!(error.contains("efused"), "{error}");
}

#[tokio::test]
async fn a_proxy_that_hangs_is_given_up_in_time() {
    for scheme in ["http", "https", "socks5"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpDialConfig {
            timeout: Duration::from_millis(200),
            ..through(&format!("{scheme}://127.0.0.1:{port}"), plain_client())
        };
        let error = dial(&endpoint("frps.invalid", 7000), client)
            .await
            .unwrap_err();
        assert!(matches!(error, DialError::Timeout { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpDialConfig {
        timeout: Duration::from_millis(200),
        ..trusting_client()
    };
    let silent = endpoint("127.0.0.1", listener.local_addr().unwrap().port());
    let error = dial(&silent, client).await.unwrap_err();
    assert!(matches!(error, DialError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_server_name_cannot_add_headers() {
    let (port, _request) = http_proxy(Answer::Tunnel).await;
    let client = through(&format!("http://127.0.0.1:{port}"), plain_client());
    let evil = endpoint("a\r\nX-Evil: yes\r\n", 7000);
    let error = dial(&evil, client).await.unwrap_err();
    assert!(matches!(error, DialError::Proxy { .. }), "{error}");
}

#[tokio::test]
async fn an_https_proxy_is_checked_against_the_systems_cas() {
    const TEST: &str = "proxies::an_https_proxy_is_checked_against_the_systems_cas";
    if !is_alone(TEST) {
        // The system's CAs are looked for where this variable says.
        let authority = Authority::new();
        let (certificate, key) = authority.write("proxy", &authority.issue(&["127.0.0.1"]));
        let dir = authority.dir.path().to_owned();
        run_alone(TEST, |command| {
            command
                .env("SSL_CERT_FILE", &authority.file)
                .env_remove("SSL_CERT_DIR");
            command.env("PROXY_DIR", &dir);
        });
        drop((certificate, key));
        return;
    }
    let dir = std::env::var("PROXY_DIR").unwrap();
    let read = |name: &str| std::fs::read_to_string(format!("{dir}/{name}")).unwrap();
    let trusted = server_tls(transports::tls::PemPair {
        cert_pem: read("proxy.crt"),
        key_pem: read("proxy.key"),
    });
    let server = Server::start(server_config()).await;
    let port = https_proxy(trusted).await;
    server
        .serves(through(
            &format!("https://127.0.0.1:{port}"),
            trusting_client(),
        ))
        .await;

    let stranger = server_tls(Authority::new().issue(&["127.0.0.1"]));
    let port = https_proxy(stranger).await;
    let error = proxy_error(&format!("https://127.0.0.1:{port}")).await;
    assert!(error.contains("TLS handshake"), "{error}");
}

fn through(proxy: &str, client: TcpDialConfig) -> TcpDialConfig {
    TcpDialConfig {
        proxy: Some(proxy.parse().unwrap()),
        ..client
    }
}

/// What comes of a dial through a proxy that lets nobody through.
async fn proxy_error(proxy: &str) -> String {
    let client = through(proxy, plain_client());
    let error = dial(&endpoint("frps.invalid", 7000), client)
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::Proxy { .. }), "{error}");
    let text = error.to_string();
    assert!(
        !text.contains("alice") && !text.contains("secret"),
        "{text}"
    );
    text
}

/// What a proxy does when it is asked.
enum Answer {
    /// Connects to where it is asked to.
    Tunnel,
    /// Connects elsewhere, as a resolver of its own might tell it.
    TunnelTo(SocketAddr),
    /// Says something, and hangs up.
    Say(String),
    /// Refuses, in the terms of SOCKS5.
    Refuse,
}

/// Serves one client. Returns its port, and the request that it gets.
async fn http_proxy(answer: Answer) -> (u16, oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, request) = oneshot::channel();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        serve_http(client, answer, told).await;
    });
    (port, request)
}

async fn https_proxy(tls: transports::tls::ServerTls) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        if let Ok(client) = tls.accept(client).await {
            serve_http(client, Answer::Tunnel, oneshot::channel().0).await;
        }
    });
    port
}

async fn serve_http(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    answer: Answer,
    told: oneshot::Sender<String>,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else {
            return;
        };
        request.push(byte);
    }
    let request = String::from_utf8(request).unwrap();
    let asked_for = request.split(' ').nth(1).unwrap().to_owned();
    let _ = told.send(request);
    let target = match answer {
        Answer::Tunnel => asked_for,
        Answer::TunnelTo(addr) => addr.to_string(),
        Answer::Say(text) => {
            client.write_all(text.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            return;
        }
        Answer::Refuse => return,
    };
    let mut server = TcpStream::connect(target).await.unwrap();
    let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
    client.write_all(answer).await.unwrap();
    client.flush().await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

/// Serves one client, with `user` if it is to prove who it is. Returns its port, and where the
/// client wants to go.
async fn socks5_proxy(
    user: Option<(&'static str, &'static str)>,
    answer: Answer,
) -> (u16, oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, request) = oneshot::channel();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let _ = serve_socks5(client, user, answer, told).await;
    });
    (port, request)
}

async fn serve_socks5(
    mut client: TcpStream,
    user: Option<(&str, &str)>,
    answer: Answer,
    told: oneshot::Sender<String>,
) -> std::io::Result<()> {
    assert_eq!(client.read_u8().await?, 5);
    let methods = read_counted(&mut client).await?;
    let wanted = if user.is_some() { 2 } else { 0 };
    if !methods.contains(&wanted) {
        return client.write_all(&[5, 0xff]).await;
    }
    client.write_all(&[5, wanted]).await?;
    if let Some((name, password)) = user {
        assert_eq!(client.read_u8().await?, 1);
        let is_right = read_counted(&mut client).await? == name.as_bytes();
        let is_right = read_counted(&mut client).await? == password.as_bytes() && is_right;
        client.write_all(&[1, u8::from(!is_right)]).await?;
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    assert_eq!(&request[..3], &[5, 1, 0]);
    let host = match request[3] {
        1 => std::net::Ipv4Addr::from_bits(client.read_u32().await?).to_string(),
        3 => String::from_utf8(read_counted(&mut client).await?).unwrap(),
        kind => panic!("address kind {kind}"),
    };
    let asked_for = format!("{host}:{}", client.read_u16().await?);
    let target = match answer {
        Answer::Tunnel => asked_for.clone(),
        Answer::TunnelTo(addr) => addr.to_string(),
        // "Connection refused."
        _ => return client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await,
    };
    let _ = told.send(asked_for);
    let mut server = TcpStream::connect(target).await?;
    client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 9]).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn read_counted(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}
