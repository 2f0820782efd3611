//! Our yamux with somebody else's: tokio-yamux, in both roles.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_yamux::{Config, Control, Session};
use transports::info::CarrierInfo;
use transports::mux::{MuxCarrier, MuxConfig, Role};
use transports::{Carrier, CarrierError, TransportKind};

const N_STREAMS: usize = 8;
const LEN: usize = 3 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_talks_to_their_server() {
    let (ours, theirs) = duplex(64 * 1024);
    let carrier = start(ours, Role::Client);
    let mut session = Session::new_server(theirs, Config::default());
    tokio::spawn(async move {
        while let Some(Ok(stream)) = session.next().await {
            tokio::spawn(echo_while_reading(stream));
        }
    });
    let mut tasks = Vec::new();
    for n in 0..N_STREAMS {
        let stream = carrier.open_stream().await.unwrap();
        tasks.push(tokio::spawn(there_and_back(stream, n)));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(
        carrier.path_stats().rtt.is_some(),
        "their answers to our pings are understood"
    );
}

#[tokio::test]
async fn a_carrier_that_is_gone_has_sent_what_was_written_before_it_was_closed() {
    // Too narrow for all of it at once.
    let (ours, mut theirs) = duplex(1024);
    let carrier = start(ours, Role::Client);
    let mut stream = carrier.open_stream().await.unwrap();
    stream.write_all(&[7; 10_000]).await.unwrap();
    carrier.close();
    assert_eq!(carrier.closed().await, CarrierError::ClosedHere);
    assert!(carrier.gone().now_or_never().is_none());

    let mut received = Vec::new();
    theirs.read_to_end(&mut received).await.unwrap();
    assert!(received.len() > 10_000, "{}", received.len());
    drop(theirs);
    let gone = tokio::time::timeout(Duration::from_secs(60), carrier.gone());
    gone.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_client_talks_to_our_server() {
    let (ours, theirs) = duplex(64 * 1024);
    let carrier = start(ours, Role::Server);
    let (mut control, session) = their_client(theirs);
    let server = Arc::clone(&carrier);
    tokio::spawn(async move {
        while let Ok(Some(stream)) = server.accept_stream().await {
            tokio::spawn(echo(stream));
        }
    });
    let mut tasks = Vec::new();
    for n in 0..N_STREAMS {
        let stream = control.open_stream().await.unwrap();
        tasks.push(tokio::spawn(there_and_back(stream, n)));
    }
    for task in tasks {
        task.await.unwrap();
    }
    session.abort();
    let reason = tokio::time::timeout(Duration::from_secs(10), carrier.closed())
        .await
        .unwrap();
    assert_eq!(reason, CarrierError::ClosedByPeer);
}

fn start(io: DuplexStream, role: Role) -> Arc<dyn Carrier> {
    let peer = SocketAddr::from(([127, 0, 0, 1], 7000));
    MuxCarrier::start(
        io,
        role,
        &MuxConfig::default(),
        CarrierInfo::new(TransportKind::Tcp, peer),
    )
}

/// Their session has to be polled for its streams to go on.
fn their_client(io: DuplexStream) -> (Control, JoinHandle<()>) {
    let mut session = Session::new_client(io, Config::default());
    let control = session.control();
    let polling = tokio::spawn(async move { while let Some(Ok(_)) = session.next().await {} });
    (control, polling)
}

async fn echo(stream: impl AsyncRead + AsyncWrite) {
    let (mut read, mut write) = split(stream);
    tokio::io::copy(&mut read, &mut write).await.unwrap();
    write.shutdown().await.unwrap();
}

/// Like [`echo`], for a stream of theirs: one that waits for window to write learns of it only while
/// it is read (tokio-yamux 0.3.20), and what is read meanwhile has to be put somewhere.
async fn echo_while_reading(stream: impl AsyncRead + AsyncWrite + Send + 'static) {
    let (mut read, mut write) = split(stream);
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let reading = tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match read.read(&mut buffer).await.unwrap() {
                0 => return,
                n => sender.send(buffer[..n].to_vec()).unwrap(),
            }
        }
    });
    while let Some(bytes) = receiver.recv().await {
        write.write_all(&bytes).await.unwrap();
    }
    write.shutdown().await.unwrap();
    reading.await.unwrap();
}

async fn there_and_back(stream: impl AsyncRead + AsyncWrite + Send + 'static, n: usize) {
    let sent: Vec<u8> = (0..LEN)
        .map(|i| ((i * 7 + n) % 251).to_le_bytes()[0])
        .collect();
    let (mut read, mut write) = split(stream);
    let sending = sent.clone();
    let writing = tokio::spawn(async move {
        write.write_all(&sending).await.unwrap();
        write
    });
    let mut received = vec![0; LEN];
    read.read_exact(&mut received).await.unwrap();
    assert!(received == sent, "stream {n}");
    // Not before: tokio-yamux 0.3.20 takes no more window for a stream whose peer has said its end.
    writing.await.unwrap().shutdown().await.unwrap();
    assert_eq!(read.read(&mut [0; 10]).await.unwrap(), 0);
}
