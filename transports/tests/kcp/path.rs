//! What holds on a path that loses packets.

use std::time::{Duration, Instant};

use transports::kcp::{KcpDialConfig, KcpListenConfig};
use transports::{Carrier, PathStats};

use crate::fixed::at_rate;
use crate::support::{Path, Server, client, plain_client, seed, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_however_much_is_lost() {
    let server = Server::start(server()).await;
    for loss_pct in [0, 10, 30] {
        // A path of its own for each: it answers whom it has heard last, and one client says goodbye
        // while the next one begins.
        let path = Path::to(server.addr(), seed()).await;
        path.set_loss_pct(loss_pct);
        let pair = server.pair_over(path.addr, client()).await;
        pair.carries(400_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_says_its_first_words_again_though_the_clients_have_arrived() {
    let server = Server::start(server()).await;
    // The client has nothing left to say: what the server may send has to be enough already.
    let path = Path::to(server.addr(), seed()).await;
    path.lose_long(4);
    let pair = server.pair_over(path.addr, client()).await;
    pair.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_holdfasts_everything_arrives_as_well() {
    let fast = Some(at_rate(20_000_000));
    let server = Server::start(KcpListenConfig {
        fast: fast.clone(),
        ..server()
    })
    .await;
    let path = Path::to(server.addr(), seed()).await;
    let client = KcpDialConfig { fast, ..client() };
    let pair = server.pair_over(path.addr, client).await;
    pair.carries(1_000_000).await;
    // The two ends do not change at the same moment.
    pair.client.handle_holdfast_peer();
    pair.carries(1_000_000).await;
    pair.server.handle_holdfast_peer();
    pair.server.handle_holdfast_peer();
    for loss_pct in [0, 10, 30] {
        path.set_loss_pct(loss_pct);
        pair.carries(400_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_path_is_described() {
    let server = Server::start(server()).await;
    let path = Path::to(server.addr(), seed()).await;
    path.set_loss_pct(10);
    let pair = server.pair_over(path.addr, client()).await;
    pair.carries(300_000).await;
    for carrier in [&pair.client, &pair.server] {
        // A session tells its figures at its next turn, which comes when something is acknowledged.
        let stats = told(&**carrier, |stats: &PathStats| {
            stats.packets_sent.unwrap() >= 300_000 / 1326 && stats.packets_lost.unwrap() > 0
        });
        let stats = stats.await;
        assert!(stats.rtt.is_some());
        assert!(stats.bytes_sent >= 300_000);
    }
}

/// Waits until `carrier` tells of its path what `holds`.
async fn told(carrier: &dyn Carrier, holds: impl Fn(&PathStats) -> bool) -> PathStats {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let stats = carrier.path_stats();
        if holds(&stats) {
            return stats;
        }
        assert!(Instant::now() < deadline, "{stats:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_read_holds_up_nobody_else() {
    let server = Server::start(server()).await;
    let stuck = server.pair(client()).await;
    let (mut ours, _unread) = stuck.stream().await;
    let sending = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        ours.write_all(&vec![7; 30_000_000]).await
    });
    // The server's reader of this one stands still from here on.
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.pair(client()).await.carries(2_000_000).await;
    assert!(!sending.is_finished());
    sending.abort();
}

#[tokio::test]
async fn an_unspecified_address_listens_on_both_families() {
    let transport = transports::kcp::KcpTransport::listener(server());
    let addr = "0.0.0.0:0".parse().unwrap();
    let listener = transports::Transport::bind(&transport, addr).await.unwrap();
    let server = Server { listener };
    let port = server.addr().port();
    let pair = server
        .pair_over(([127, 0, 0, 1], port).into(), client())
        .await;
    pair.works().await;
    assert!(pair.server.peer_addr().is_ipv4());
    assert!(pair.server.local_addr().unwrap().is_ipv4());
    // A host without IPv6 has nothing to show for the other half.
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        let over_v6 = server.pair_over(([0, 0, 0, 0, 0, 0, 0, 1], port).into(), client());
        over_v6.await.works().await;
    }
}

#[tokio::test]
async fn a_client_without_tls_speaks_with_its_first_stream() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start(server()).await;
    let client = crate::support::dial(server.addr(), plain_client())
        .await
        .unwrap();
    let mut ours = client.open_stream().await.unwrap();
    ours.write_all(b"o").await.unwrap();
    let carrier = server.accept().await.carrier;
    let mut theirs = carrier.accept_stream().await.unwrap().unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'o');
    theirs.write_all(b"1").await.unwrap();
    assert_eq!(ours.read_u8().await.unwrap(), b'1');
}
