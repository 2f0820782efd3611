//! Our KCP with somebody else's: tokio_kcp, in both roles. It has no error correction.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_kcp::{KcpConfig, KcpListener, KcpNoDelayConfig, KcpStream};
use transports::kcp::{KcpDialConfig, KcpListenConfig};

use crate::support::{LONG, Path, Server, dial, numbered, plain_client, seed, server};

const LEN: usize = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_talks_to_their_server() {
    for loss_pct in [0, 10] {
        let mut listener = KcpListener::bind(theirs(), "127.0.0.1:0").await.unwrap();
        let path = Path::to(listener.local_addr().unwrap(), seed()).await;
        path.set_loss_pct(loss_pct);
        let echoing = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            echo(stream).await;
            listener
        });
        let client = KcpDialConfig {
            mux: None,
            has_fec: false,
            ..plain_client()
        };
        let carrier = dial(path.addr, client).await.unwrap();
        there_and_back(carrier.open_stream().await.unwrap()).await;
        assert!(carrier.path_stats().rtt.is_some());
        echoing.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_client_talks_to_our_server() {
    for loss_pct in [0, 10] {
        let server = Server::start(KcpListenConfig {
            mux: None,
            ..server()
        })
        .await;
        let path = Path::to(server.addr(), seed()).await;
        path.set_loss_pct(loss_pct);
        let stream = KcpStream::connect(&theirs(), path.addr).await.unwrap();
        let talking = tokio::spawn(there_and_back(stream));
        let carrier = server.accept().await.carrier;
        carrier.admit();
        echo(carrier.accept_stream().await.unwrap().unwrap()).await;
        talking.await.unwrap();
    }
}

/// Stream mode, and as quick as it gets.
fn theirs() -> KcpConfig {
    KcpConfig {
        mtu: 1350,
        nodelay: KcpNoDelayConfig::fastest(),
        wnd_size: (512, 512),
        session_expire: Duration::from_secs(90),
        stream: true,
        ..KcpConfig::default()
    }
}

/// Sends back all that the other side sends. The end of a stream is our own invention.
async fn echo(stream: impl AsyncRead + AsyncWrite) {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut buf = vec![0; 16 * 1024];
    let mut n_left = LEN;
    while n_left > 0 {
        let n = read.read(&mut buf).await.unwrap();
        assert!(n > 0);
        write.write_all(&buf[..n]).await.unwrap();
        write.flush().await.unwrap();
        n_left -= n;
    }
    // The last word, so that what was sent has arrived.
    assert_eq!(read.read_u8().await.unwrap(), b'.');
}

async fn there_and_back(stream: impl AsyncRead + AsyncWrite + Send + 'static) {
    let sent = numbered(LEN);
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = sent.clone();
    let writing = tokio::spawn(async move {
        // It takes no more than a window at once.
        for piece in sending.chunks(16 * 1024) {
            write.write_all(piece).await.unwrap();
        }
        write.flush().await.unwrap();
        write
    });
    let mut received = vec![0; LEN];
    timeout(2 * LONG, read.read_exact(&mut received))
        .await
        .expect("everything comes back in time")
        .unwrap();
    assert!(received == sent);
    let mut write = writing.await.unwrap();
    write.write_all(b".").await.unwrap();
    write.flush().await.unwrap();
    // Whoever leaves at once may leave with it.
    tokio::time::sleep(Duration::from_secs(1)).await;
}
