//! How the system is told to send, read back from the sockets themselves.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{Domain, SockRef, Socket, Type};
use transports::mux::MuxConfig;
use transports::tcp::{Sending, TcpCongestion, TcpDialConfig, TcpListenConfig};
use transports::websocket::{WebsocketDialConfig, WebsocketTransport};
use transports::{Carrier, Transport};

use crate::support::{Server, endpoint, plain_client, server_config, trusting_client};

#[tokio::test]
async fn both_ends_of_a_connection_send_as_they_were_told() {
    let sending = Sending {
        // Every Linux has it, and lets everyone use it.
        congestion: TcpCongestion::Named("reno".into()),
        notsent_lowat: Some(70_000),
        max_rate: Some(1_250_000),
    };
    for (dialled, accepted) in ends(&sending).await {
        for told in [dialled, accepted] {
            assert_eq!(told.congestion, "reno");
            assert_eq!(told.notsent_lowat, 70_000);
            assert_eq!(told.max_rate, 1_250_000);
        }
    }
}

#[tokio::test]
async fn it_begins_with_bbr_where_that_is_offered_with_little_unsent_at_any_rate() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Where it is not, the system's default stays.
    socket.set_tcp_congestion(b"bbr").ok();
    let expected = name(socket.tcp_congestion().unwrap());
    for (dialled, accepted) in ends(&Sending::default()).await {
        for told in [dialled, accepted] {
            assert_eq!(told.congestion, expected);
            assert_eq!(told.notsent_lowat, 128 * 1024);
            assert_eq!(told.max_rate, libc::c_ulong::MAX);
        }
    }
}

#[tokio::test]
async fn what_the_system_does_not_have_leaves_its_default_and_the_connection() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let expected = name(socket.tcp_congestion().unwrap());
    for congestion in [
        TcpCongestion::System,
        TcpCongestion::Named("no-such-thing".into()),
    ] {
        let sending = Sending {
            congestion,
            notsent_lowat: None,
            max_rate: None,
        };
        for (dialled, accepted) in ends(&sending).await {
            for told in [dialled, accepted] {
                assert_eq!(told.congestion, expected);
                assert_ne!(told.notsent_lowat, 128 * 1024);
            }
        }
    }
}

/// What the sockets of both ends have been told, over plain TCP, TLS and WebSocket.
async fn ends(sending: &Sending) -> Vec<(Told, Told)> {
    let server = Server::start(TcpListenConfig {
        sending: sending.clone(),
        websocket_path: Some("/test"),
        mux: Some(MuxConfig::default()),
        ..server_config()
    })
    .await;
    let with_sending = |config| TcpDialConfig {
        sending: sending.clone(),
        mux: Some(MuxConfig::default()),
        ..config
    };
    let mut all = Vec::new();
    for config in [plain_client(), trusting_client()] {
        let (client, incoming) = server.serves(with_sending(config)).await;
        all.push(told(&*client, &*incoming.carrier));
    }
    let websocket = WebsocketTransport::dialer(WebsocketDialConfig {
        tcp: with_sending(plain_client()),
        outer_tls: None,
        path: "/test",
    });
    let client = websocket
        .dial(&endpoint("127.0.0.1", server.addr().port()))
        .await
        .unwrap();
    let incoming = server.accept().await;
    all.push(told(&*client, &*incoming.carrier));
    all
}

/// What a socket has been told.
struct Told {
    congestion: String,
    notsent_lowat: u32,
    max_rate: libc::c_ulong,
}

fn told(client: &dyn Carrier, server: &dyn Carrier) -> (Told, Told) {
    (of_carrier(client), of_carrier(server))
}

/// Looks the carrier's socket up among those of this process.
fn of_carrier(carrier: &dyn Carrier) -> Told {
    let ends = (carrier.local_addr().unwrap(), carrier.peer_addr());
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let fd = entry.unwrap().file_name();
        let fd = fd.to_str().unwrap().parse().unwrap();
        #[expect(unsafe_code, reason = "a number is all that /proc tells")]
        // SAFETY: whether it is open, and what it is, the calls below find out. That of the carrier
        // stays open meanwhile, and no other has its two addresses.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let socket = SockRef::from(&fd);
        if addrs(&socket).is_ok_and(|addrs| addrs == ends) {
            return Told {
                congestion: name(socket.tcp_congestion().unwrap()),
                notsent_lowat: socket.tcp_notsent_lowat().unwrap(),
                max_rate: max_pacing_rate(&socket),
            };
        }
    }
    panic!("no socket has the carrier's addresses {ends:?}");
}

fn addrs(socket: &SockRef<'_>) -> io::Result<(SocketAddr, SocketAddr)> {
    let not_ip = io::ErrorKind::InvalidInput;
    let local = socket.local_addr()?.as_socket().ok_or(not_ip)?;
    let peer = socket.peer_addr()?.as_socket().ok_or(not_ip)?;
    Ok((local, peer))
}

fn name(mut bytes: Vec<u8>) -> String {
    bytes.retain(|byte| *byte != 0);
    String::from_utf8(bytes).unwrap()
}

#[expect(unsafe_code, reason = "no crate of ours has this socket option")]
fn max_pacing_rate(socket: &SockRef<'_>) -> libc::c_ulong {
    let mut rate: libc::c_ulong = 0;
    let mut len = libc::socklen_t::try_from(size_of_val(&rate)).unwrap();
    // SAFETY: the value and its length are at pointers that live through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MAX_PACING_RATE,
            std::ptr::from_mut(&mut rate).cast(),
            &raw mut len,
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    rate
}
