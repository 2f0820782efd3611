//! Datagrams of `udp` proxies, over whichever carrier is in use.

use std::net::SocketAddr;

use bytes::Bytes;
use frp_core::hold::CarrierId;
use frp_core::hold::flow::{Flow, FlowError};
use transports::memory::MemoryTransport;

use crate::rig::{PATIENCE, Pair};

fn user(n: u8) -> SocketAddr {
    ([192, 0, 2, n], 4000).into()
}

/// The flow that the server opens, at both ends.
fn flow(pair: &Pair) -> (Flow, Flow) {
    let server = pair.server.open_flow().unwrap();
    let client = pair.client.take_flow(server.number()).unwrap();
    (client, server)
}

async fn next(flow: &Flow) -> (SocketAddr, Bytes) {
    let next = tokio::time::timeout(PATIENCE, flow.recv()).await;
    next.expect("a datagram comes")
}

async fn pass(from: &Flow, to: &Flow) {
    from.send(user(1), b"content").unwrap();
    assert_eq!(next(to).await, (user(1), Bytes::from_static(b"content")));
}

#[tokio::test(start_paused = true)]
async fn datagrams_go_both_ways_to_the_flow_that_they_name() {
    let pair = Pair::new().await;
    let _ends = pair.watched(1).await;
    let (client, server) = flow(&pair);
    let (other_client, other_server) = flow(&pair);
    for n in 0..3 {
        server.send(user(n), &[n]).unwrap();
        other_client.send(user(n), &[n + 10]).unwrap();
    }
    for n in 0..3 {
        assert_eq!(next(&client).await, (user(n), Bytes::copy_from_slice(&[n])));
        let expected = (user(n), Bytes::copy_from_slice(&[n + 10]));
        assert_eq!(next(&other_server).await, expected);
    }
    let bytes = pair.client.user_bytes();
    assert!(bytes >= 6, "they keep probes quick: {bytes}");
}

#[tokio::test(start_paused = true)]
async fn datagrams_follow_the_carrier_in_use() {
    let network = MemoryTransport::new().with_keys();
    let mut pair = Pair::over(network.clone().with_datagrams()).await;
    let _first = pair.watched(1).await;
    let (client, server) = flow(&pair);
    pass(&client, &server).await;
    pass(&server, &client).await;

    // Over one that has none they cannot go; the work stream has to take them.
    pair.network = network;
    let (_second, _) = pair.watched(2).await;
    assert_eq!(pair.client.carrier_in_use().unwrap().0, CarrierId(2));
    let refused = client.send(user(1), b"x");
    assert_eq!(refused, Err(FlowError::NotAsDatagram));

    pair.client.use_carrier(CarrierId(1), true).unwrap();
    pass(&client, &server).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_long_or_has_no_carrier_is_for_the_work_stream() {
    let pair = Pair::new().await;
    let (client, _server) = flow(&pair);
    let refused = Err(FlowError::NotAsDatagram);
    assert_eq!(client.send(user(1), b"x"), refused, "there is no carrier");
    let _ends = pair.watched(1).await;
    assert_eq!(client.send(user(1), &[0; 1300]), refused);
    let scoped = "[fe80::1%2]:53".parse().unwrap();
    assert_eq!(client.send(scoped, b"x"), refused);
    assert_eq!(client.send(user(1), b"x"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_names_no_flow_or_makes_no_sense_is_dropped() {
    let pair = Pair::new().await;
    let (end, _server_end) = pair.watched(1).await;
    let (client, server) = flow(&pair);
    let over = flow(&pair);
    let number = over.1.number();
    assert!(pair.client.take_flow(number).is_none(), "it is taken");
    assert!(pair.client.take_flow(0).is_none() && pair.client.take_flow(u64::MAX).is_none());
    drop(over.1);
    over.0.send(user(1), b"for nobody").unwrap();
    for garbage in [
        &b"\xb0"[..],
        b"\xb0\x01\x01",
        b"\xb5\x01\x7f\0\0\x01\0\x35",
        b"\xb1\0",
    ] {
        end.carrier
            .send_datagram(Bytes::from_static(garbage))
            .unwrap();
    }
    pass(&client, &server).await;
    assert_eq!(pair.server.stats().n_refused, 4);
    drop(over.0);
    assert!(
        pair.client.take_flow(number).is_some(),
        "its number is free"
    );
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_nobody_reads_keeps_the_newest() {
    let pair = Pair::new().await;
    let _ends = pair.watched(1).await;
    let (client, server) = flow(&pair);
    for n in 0..5000_u32 {
        server.send(user(1), &n.to_be_bytes()).unwrap();
        // Let the watch at the other end take it.
        tokio::task::yield_now().await;
    }
    server.send(user(2), b"the last").unwrap();
    let mut n_kept = 0;
    while next(&client).await.0 != user(2) {
        n_kept += 1;
    }
    assert!(n_kept <= 1024 + 512, "{n_kept}");
}
