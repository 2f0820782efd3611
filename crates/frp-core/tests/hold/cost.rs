//! What holding costs. By hand, optimised:
//! `cargo test --release -p frp-core --test hold -- --ignored --nocapture cost`

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transports::{BoxStream, Carrier, Listener};

use super::carriers::*;
use super::rig::*;

/// Reads as much as the relay does, from sockets that are always full.
const PIECE_LEN: usize = 64 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures: cargo test --release -p frp-core --test hold -- --ignored --nocapture cost"]
async fn cost_of_holding_bulk() {
    for kind in ["memory", "tcp", "quic"] {
        let mut ratios = Vec::new();
        for round in 0..6 {
            let plain = bulk(kind, false).await;
            let held = bulk(kind, true).await;
            eprintln!("{kind} {round}: plain {plain:.0} MB/s, held {held:.0} MB/s");
            ratios.push(held / plain);
        }
        ratios.sort_by(f64::total_cmp);
        eprintln!("{kind}: median ratio {:.3}", ratios[ratios.len() / 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures: cargo test --release -p frp-core --test hold -- --ignored --nocapture cost"]
async fn cost_of_holding_an_echo() {
    for kind in ["memory", "tcp", "quic"] {
        for is_held in [false, true, false, true] {
            let (_pair, mut ours, theirs, _keep) = ends(kind, is_held).await;
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(theirs);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
            let began = Instant::now();
            const N: u32 = 20_000;
            for _ in 0..N {
                ours.write_all(b"x").await.unwrap();
                ours.read_u8().await.unwrap();
            }
            eprintln!("{kind} held {is_held}: {:?} per echo", began.elapsed() / N);
        }
    }
}

async fn bulk(kind: &str, is_held: bool) -> f64 {
    let (_pair, mut ours, mut theirs, _keep) = ends(kind, is_held).await;
    let piece = Bytes::from(vec![7; PIECE_LEN]);
    let total: u64 = 1 << 30;
    let began = Instant::now();
    let writing = tokio::spawn(async move {
        let mut n = 0;
        while n < total {
            let mut chunk = piece.clone();
            while !chunk.is_empty() {
                std::future::poll_fn(|cx| Pin::new(&mut *ours).poll_write_chunk(cx, &mut chunk))
                    .await
                    .unwrap();
            }
            n += PIECE_LEN as u64;
        }
        ours
    });
    let mut n = 0;
    let mut held = VecDeque::new();
    while n < total {
        let chunk: Bytes =
            std::future::poll_fn(|cx| Pin::new(&mut *theirs).poll_read_chunk(cx, PIECE_LEN))
                .await
                .unwrap();
        n += chunk.len() as u64;
        held.push_back(chunk);
        if held.len() > 8 {
            held.pop_front();
        }
    }
    let rate = total as f64 / began.elapsed().as_secs_f64() / 1e6;
    drop(writing.await.unwrap());
    rate
}

type Keep = (
    Option<Box<dyn Listener>>,
    Arc<dyn Carrier>,
    Arc<dyn Carrier>,
);

/// The two ends of a stream, held or not.
async fn ends(kind: &str, is_held: bool) -> (Pair, BoxStream, BoxStream, Keep) {
    let pair = Pair::new().await;
    let (client, server, listener) = match kind {
        "tcp" => over_tcp().await,
        "quic" => over_quic().await,
        _ => over_memory().await,
    };
    let keep = (listener, Arc::clone(&client), Arc::clone(&server));
    if is_held {
        let path = pair.path(client, server);
        pair.join(&path);
        pair.switch(&path, false);
        pair.client.set_rtt(path.id, Duration::from_micros(200));
        pair.server.set_rtt(path.id, Duration::from_micros(200));
        // The acceptor hears of it with the first bytes.
        let mut ours = pair.client.open_stream().unwrap();
        ours.write_all(b"x").await.unwrap();
        let mut theirs = pair.accept().await;
        theirs.read_u8().await.unwrap();
        (pair, ours, theirs, keep)
    } else {
        let mut ours = client.open_stream().await.unwrap();
        ours.write_all(b"x").await.unwrap();
        let mut theirs = server.accept_stream().await.unwrap().unwrap();
        theirs.read_u8().await.unwrap();
        (pair, ours, theirs, keep)
    }
}

#[tokio::test]
#[ignore = "measures: cargo test --release -p frp-core --test hold -- --ignored --nocapture cost"]
async fn cost_of_holding_idle_streams() {
    const N: usize = 4_000;
    for is_held in [false, true, false, true] {
        let pair = Pair::new().await;
        let path = pair.dial().await;
        if is_held {
            pair.join(&path);
            pair.switch(&path, false);
        }
        let mut streams = Vec::new();
        let began = resident();
        for _ in 0..N {
            streams.push(if is_held {
                pair.open().await
            } else {
                let ours = path.client.open_stream().await.unwrap();
                (ours, path.server.accept_stream().await.unwrap().unwrap())
            });
        }
        // Until what only busy streams need is given back.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let bytes = (resident() - began) / N as u64;
        eprintln!("held {is_held}: {bytes} bytes for both ends of an idle stream");
    }
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
