//! What a listener does with clients, strangers and the silent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use transports::half_open::HalfOpenLimits;
use transports::mux::MuxConfig;
use transports::tcp::{TcpDialConfig, TcpListenConfig};

use crate::support::{
    LONG, Server, dial, endpoint, is_alone, plain_client, run_alone, server_config, trusting_client,
};

#[tokio::test]
async fn clients_with_tls_without_and_with_the_marker_are_told_apart() {
    let server = Server::start(server_config()).await;
    server.serves(plain_client()).await;
    server.serves(trusting_client()).await;
    server.serves(marked_client()).await;
}

#[tokio::test]
async fn an_address_for_both_families_serves_both_and_names_ipv4_peers_as_such() {
    let server = Server::start_on("0.0.0.0:0", server_config()).await;
    let (_client, incoming) = server.serves(trusting_client()).await;
    assert_eq!(incoming.carrier.peer_addr().ip().to_string(), "127.0.0.1");
    assert_eq!(
        incoming.carrier.local_addr().unwrap().ip().to_string(),
        "127.0.0.1"
    );
    if server.addr().is_ipv6() {
        let v6 = endpoint("::1", server.addr().port());
        let (_client, incoming) = server.serves_at(&v6, trusting_client()).await;
        assert_eq!(incoming.carrier.peer_addr().ip().to_string(), "::1");
    }
}

#[tokio::test]
async fn when_tls_is_forced_a_plain_client_is_closed_without_an_answer() {
    let config = TcpListenConfig {
        force_tls: true,
        ..server_config()
    };
    let server = Server::start(config).await;
    let mut plain = TcpStream::connect(server.addr()).await.unwrap();
    plain.write_all(b"o").await.unwrap();
    assert_eq!(read_all(&mut plain).await, b"");
    server.serves(trusting_client()).await;
    server.serves(marked_client()).await;
}

#[tokio::test]
async fn a_silent_client_is_closed_in_its_time_while_others_get_through() {
    let config = TcpListenConfig {
        login_timeout: Duration::from_millis(300),
        ..server_config()
    };
    let server = Server::start(config).await;
    let start = Instant::now();
    let mut silent = TcpStream::connect(server.addr()).await.unwrap();
    let mut stuck_in_tls = TcpStream::connect(server.addr()).await.unwrap();
    stuck_in_tls.write_all(&[0x16, 3, 1]).await.unwrap();
    let mut stuck_after_marker = TcpStream::connect(server.addr()).await.unwrap();
    stuck_after_marker.write_all(&[0x17]).await.unwrap();

    server.serves(trusting_client()).await;
    for stuck in [&mut silent, &mut stuck_in_tls, &mut stuck_after_marker] {
        assert_eq!(read_all(stuck).await, b"");
    }
    assert!(start.elapsed() >= Duration::from_millis(300));
    server.serves(trusting_client()).await;
}

#[tokio::test]
async fn the_handshake_is_part_of_the_time_for_the_login() {
    let server = Server::start(server_config()).await;
    let before = Instant::now();
    let (_client, incoming) = server.serves(trusting_client()).await;
    assert!(incoming.login_deadline >= before + LONG);
    assert!(incoming.login_deadline <= Instant::now() + LONG);
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let server = Server::start(server_config()).await;
    for garbage in [&[0x16; 64][..], &[0x17; 64], b"\x16\x03\x01\xff\xff"] {
        let mut socket = TcpStream::connect(server.addr()).await.unwrap();
        socket.write_all(garbage).await.unwrap();
        socket.shutdown().await.unwrap();
        let answer = read_all(&mut socket).await;
        // At most an alert: content type 21.
        assert!(answer.first().is_none_or(|byte| *byte == 21), "{answer:?}");
    }
    server.serves(trusting_client()).await;
}

#[tokio::test]
async fn a_connection_that_comes_one_byte_at_a_time_is_served() {
    let server = Server::start(server_config()).await;
    for client in [plain_client(), trusting_client(), marked_client()] {
        let port = one_byte_at_a_time(server.addr()).await;
        server.serves_at(&endpoint("127.0.0.1", port), client).await;
    }
}

#[tokio::test]
async fn many_silent_clients_of_one_address_do_not_delay_another_address() {
    let server = Server::start(limited(4, 100)).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(server.addr()).await.unwrap());
    }
    let neighbour = TcpDialConfig {
        local_ip: Some("127.0.0.2".parse().unwrap()),
        ..trusting_client()
    };
    let (client, incoming) = server.serves(neighbour).await;
    assert_eq!(incoming.carrier.peer_addr().ip().to_string(), "127.0.0.2");
    drop((client, silent));
}

#[tokio::test]
async fn a_client_beyond_the_bound_is_delayed_and_not_refused() {
    let server = Server::start(limited(2, 100)).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(server.addr()).await.unwrap());
    }
    let waiting = tokio::spawn({
        let endpoint = server.endpoint();
        async move { dial(&endpoint, trusting_client()).await.unwrap() }
    });
    let early = timeout(Duration::from_millis(200), server.listener.accept()).await;
    assert!(early.is_err(), "both places are taken");
    drop(silent.pop());
    server.accept().await;
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_waiting_client_has_its_whole_time_once_it_gets_a_place() {
    let config = TcpListenConfig {
        login_timeout: Duration::from_millis(500),
        ..limited(1, 100)
    };
    let server = Server::start(config).await;
    let _silent = TcpStream::connect(server.addr()).await.unwrap();
    let start = Instant::now();
    let waiting = tokio::spawn({
        let endpoint = server.endpoint();
        async move { dial(&endpoint, trusting_client()).await.unwrap() }
    });
    let incoming = server.accept().await;
    let lifetime = incoming.login_deadline - start;
    assert!(lifetime >= Duration::from_millis(900), "{lifetime:?}");
    waiting.await.unwrap();
}

#[tokio::test]
async fn an_accepted_carrier_keeps_its_place_until_it_is_admitted_or_closed() {
    let server = Server::start(multiplexed(limited(1, 100))).await;
    for is_admitted in [false, true] {
        let (_client, incoming) = server.serves(multiplexing_client()).await;
        let second = tokio::spawn({
            let endpoint = server.endpoint();
            async move { dial(&endpoint, multiplexing_client()).await.unwrap() }
        });
        let early = timeout(Duration::from_millis(100), server.listener.accept()).await;
        assert!(early.is_err(), "the place is taken");
        if is_admitted {
            incoming.carrier.admit();
        } else {
            incoming.carrier.close();
        }
        server.accept().await.carrier.close();
        second.await.unwrap();
    }
}

#[tokio::test]
async fn the_address_of_an_admitted_client_is_not_counted() {
    let server = Server::start(multiplexed(limited(1, 1))).await;
    let (_client, incoming) = server.serves(multiplexing_client()).await;
    incoming.carrier.admit();
    let _silent = [
        TcpStream::connect(server.addr()).await.unwrap(),
        TcpStream::connect(server.addr()).await.unwrap(),
        TcpStream::connect(server.addr()).await.unwrap(),
    ];
    server.serves(multiplexing_client()).await;
}

#[tokio::test]
async fn dropping_the_listener_closes_what_is_half_open() {
    let server = Server::start(server_config()).await;
    let addr = server.addr();
    let mut silent = TcpStream::connect(addr).await.unwrap();
    server.serves(trusting_client()).await;
    drop(server);
    assert_eq!(read_all(&mut silent).await, b"");
    TcpStream::connect(addr).await.unwrap_err();
}

#[tokio::test]
async fn a_carrier_that_was_reset_is_an_error_for_its_peer() {
    let server = Server::start(server_config()).await;
    let mut client = TcpStream::connect(server.addr()).await.unwrap();
    client.write_all(b"o").await.unwrap();
    let incoming = server.accept().await;
    let mut stream = incoming.carrier.accept_stream().await.unwrap().unwrap();
    stream.reset();
    let error = timeout(LONG, client.read(&mut [0]))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_listener_without_file_descriptors_goes_on_once_there_are_some() {
    const TEST: &str = "listen::a_listener_without_file_descriptors_goes_on_once_there_are_some";
    if !is_alone(TEST) {
        run_alone(TEST, |command| {
            command.env("BEFORE", "ulimit -n 64");
        });
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server = Server::start(limited(1000, 1000)).await;
        let mut hoard = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        // One for the client's own socket; none is left for the server's end of it. The reserve
        // takes the connection and closes it.
        drop(hoard.pop());
        let mut shed = TcpStream::connect(server.addr()).await.unwrap();
        let n = timeout(LONG, shed.read(&mut [0]))
            .await
            .unwrap()
            .unwrap_or(0);
        assert_eq!(n, 0);
        drop((shed, hoard));
        server.serves(trusting_client()).await;
    });
}

fn marked_client() -> TcpDialConfig {
    TcpDialConfig {
        marker: Some(0x17),
        ..trusting_client()
    }
}

/// A client whose carrier lives on when its stream has ended.
fn multiplexing_client() -> TcpDialConfig {
    TcpDialConfig {
        mux: Some(MuxConfig::default()),
        ..trusting_client()
    }
}

fn multiplexed(config: TcpListenConfig) -> TcpListenConfig {
    TcpListenConfig {
        mux: Some(MuxConfig::default()),
        ..config
    }
}

fn limited(per_address: usize, total: usize) -> TcpListenConfig {
    TcpListenConfig {
        limits: HalfOpenLimits {
            total,
            per_address,
            ..HalfOpenLimits::default()
        },
        ..server_config()
    }
}

async fn read_all(socket: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    // A reset is an end as well.
    let _ = timeout(LONG, socket.read_to_end(&mut received))
        .await
        .unwrap();
    received
}

/// A port that leads to `server` and takes its time over the first 600 bytes.
async fn one_byte_at_a_time(server: SocketAddr) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(server).await.unwrap();
        server.set_nodelay(true).unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
        for _ in 0..600 {
            let Ok(byte) = from_client.read_u8().await else {
                return;
            };
            to_server.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let _ = copy(&mut from_client, &mut to_server).await;
    });
    port
}
