//! Who gets how much, and what cannot be had at all.

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use transports::quic::{QuicListenConfig, QuicTransport};
use transports::{CarrierError, DatagramError, ExportError, RebindError, Transport};

use crate::support::{LONG, Pair, Path, Server, client, closed, dial, server};

#[tokio::test]
async fn a_stranger_that_sends_over_a_megabyte_is_closed() {
    let server = Server::start(server()).await;
    let client = dial(server.addr(), client()).await.unwrap();
    let carrier = server.accept().await.carrier;
    let mut stream = client.open_stream().await.unwrap();
    let sending = tokio::spawn(async move { stream.write_all(&vec![7; 8 * 1024 * 1024]).await });
    let reason = closed(&carrier).await;
    assert!(matches!(&reason, CarrierError::Protocol(why) if why.contains("too much")));
    timeout(LONG, sending).await.unwrap().unwrap().unwrap_err();
}

#[tokio::test]
async fn an_admitted_peer_may_send_more() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    let mut stream = pair.client.open_stream().await.unwrap();
    stream.write_all(&vec![7; 3 * 1024 * 1024]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut accepted = pair.server.accept_stream().await.unwrap().unwrap();
    let mut sink = tokio::io::sink();
    let n_read = timeout(LONG, tokio::io::copy(&mut accepted, &mut sink)).await;
    assert_eq!(n_read.unwrap().unwrap(), 3 * 1024 * 1024);
}

#[tokio::test]
async fn beyond_fifty_half_open_connections_a_client_has_to_show_its_address() {
    let server = Server::start(server()).await;
    let path = Path::to(server.addr()).await;
    let mut half_open = Vec::new();
    for _ in 0..50 {
        let client = dial(server.addr(), client()).await.unwrap();
        half_open.push((client, server.accept().await));
    }
    let shown = server.pair_over(path.addr, client()).await;
    assert!(works(&shown).await);
    assert_eq!(path.n_retries(), 1);
}

#[tokio::test]
async fn a_client_at_the_peers_bound_waits_for_a_stream_to_end() {
    let server = Server::start(QuicListenConfig {
        max_incoming_streams: 5,
        ..server()
    })
    .await;
    let pair = server.pair(client()).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = pair.client.open_stream().await.unwrap();
        stream.write_u8(1).await.unwrap();
        streams.push((stream, pair.server.accept_stream().await.unwrap().unwrap()));
    }
    let waiting = pair.client.clone();
    let sixth = tokio::spawn(async move { waiting.open_stream().await });
    assert!(!sixth.is_finished());
    streams.pop();
    timeout(LONG, sixth).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn there_are_no_keys_to_export_and_no_other_socket_to_move_to() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    for carrier in [&pair.client, &pair.server] {
        let exported = carrier.export_keying_material(&mut [0; 32], b"label", b"");
        assert_eq!(exported, Err(ExportError));
        let moved = carrier.rebind().await;
        assert!(matches!(moved, Err(RebindError::Unsupported)));
    }
}

#[tokio::test]
async fn a_datagram_has_to_fit_into_a_packet() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    let send = |len| pair.client.send_datagram(Bytes::from(vec![0; len]));
    assert_eq!(send(1_150), Ok(()));
    assert_eq!(send(1_500), Err(DatagramError::TooLong));
}

#[tokio::test]
async fn a_listener_that_is_dropped_leaves_its_carriers_alive() {
    let server = Server::start(server()).await;
    let pair = server.pair(client()).await;
    drop(server);
    assert!(works(&pair).await);
}

#[tokio::test]
async fn an_unspecified_address_listens_on_both_families() {
    let transport = crate::backend::listener(server());
    let listener = transport.bind("0.0.0.0:0".parse().unwrap()).await.unwrap();
    let server = Server { listener };
    let port = server.addr().port();
    let pair = server.pair_over(([127, 0, 0, 1], port).into(), client());
    let pair = pair.await;
    assert!(works(&pair).await);
    assert!(pair.server.peer_addr().is_ipv4());
    assert!(pair.server.local_addr().unwrap().is_ipv4());
    // A host without IPv6 has nothing to show for the other half.
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        let over_v6 = server.pair_over(([0, 0, 0, 0, 0, 0, 0, 1], port).into(), client());
        assert!(works(&over_v6.await).await);
    }
}

#[tokio::test]
async fn a_client_of_the_other_implementation_gets_in() {
    let server = Server::start(server()).await;
    let endpoint = transports::Endpoint {
        host: "127.0.0.1".into(),
        port: server.addr().port(),
    };
    let dialer = QuicTransport::dialer(client());
    let client = dialer.dial(&endpoint).await.unwrap();
    let carrier = server.accept().await.carrier;
    carrier.admit();
    let pair = Pair {
        client,
        server: carrier,
    };
    pair.works().await;
}

/// Whether both ends hear each other.
async fn works(pair: &Pair) -> bool {
    use tokio::io::AsyncReadExt;

    let talk = async {
        let mut ours = pair.client.open_stream().await.unwrap();
        ours.write_all(b"?").await.unwrap();
        let mut theirs = pair.server.accept_stream().await.unwrap().unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), b'?');
        theirs.write_all(b"!").await.unwrap();
        ours.read_u8().await.unwrap() == b'!'
    };
    timeout(LONG, talk).await.unwrap()
}
