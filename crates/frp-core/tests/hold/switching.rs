//! Streams that go on over another carrier.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transports::Class;

use super::carriers::{over_quic, over_tcp};
use super::rig::*;
use super::traffic::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_comes_once_while_carriers_are_cut_and_switched() {
    let mut random = Random::seeded(1);
    let (pair, mut path) = Pair::connected().await;
    let mut exchanges = Vec::new();
    for _ in 0..8 {
        exchanges.push(exchange(pair.open().await, 6_000_000, &mut random));
    }
    let mut n_switches = 0;
    let mut before = VecDeque::new();
    while exchanges.iter().any(|exchange| !exchange.is_finished()) && n_switches < 40 {
        n_switches += 1;
        before.push_back(path.clone());
        if before.len() > 3 {
            // It was left in good order some switches ago.
            before.pop_front().unwrap().cut();
        }
        tokio::time::sleep(Duration::from_millis(random.below(30))).await;
        path = match random.below(4) {
            0 => pair.replace(&path, true).await,
            1 => pair.replace(&path, false).await,
            2 => {
                // Cut before there is another one.
                path.cut();
                tokio::time::sleep(Duration::from_millis(random.below(10))).await;
                pair.replace(&path, false).await
            }
            _ => {
                // Twice at once.
                let between = pair.replace(&path, true).await;
                let last = pair.replace(&between, random.below(2) == 0).await;
                between.cut();
                last
            }
        };
        exchanges.push(exchange(pair.open().await, 300_000, &mut random));
    }
    for exchange in exchanges {
        exchange.await.unwrap();
    }
    eprintln!("{n_switches} switches, {:?}", pair.client.stats());
    pair.wait_for_nothing().await;
}

#[tokio::test]
async fn a_stream_that_is_opened_without_a_carrier_waits_for_one() {
    let pair = Pair::new().await;
    let mut ours = pair.client.open_stream().unwrap();
    ours.write_all(b"early").await.unwrap();
    let path = pair.connect().await;
    pair.switch(&path, false);
    let mut theirs = pair.accept().await;
    let mut buf = [0; 5];
    theirs.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"early");
}

#[tokio::test]
async fn a_direction_that_goes_silent_costs_nothing_but_time() {
    let mut random = Random::seeded(2);
    for direction in 0..2 {
        let (pair, path) = Pair::connected().await;
        let exchange = exchange(pair.open().await, 2_000_000, &mut random);
        tokio::time::sleep(Duration::from_millis(random.below(20))).await;
        let hole = &path.faults[direction].is_black_hole;
        hole.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;

        // Neither end sees the carrier close, and the server hears of the new one only.
        let next = pair.connect().await;
        pair.client.lose_carrier(path.id);
        pair.switch(&next, false);
        exchange.await.unwrap();
        pair.wait_for_nothing().await;
    }
}

#[tokio::test]
async fn a_planned_switch_off_a_silent_carrier_repeats_what_did_not_drain() {
    let (pair, path) = Pair::connected().await;
    let (mut ours, mut theirs) = pair.open().await;
    path.faults[0].is_black_hole.store(true, Ordering::Relaxed);
    ours.write_all(b"vanishes").await.unwrap();
    pair.replace(&path, true).await;
    let mut buf = [0; 8];
    theirs.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"vanishes");
    assert_eq!(pair.client.stats().replayed_bytes, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_streams_move_and_none_is_lost() {
    let (pair, path) = Pair::connected().await;
    let mut streams = Vec::new();
    for _ in 0..1000 {
        streams.push(pair.open().await);
    }
    let mut before = path;
    for is_planned in [true, false, true] {
        before = pair.replace(&before, is_planned).await;
    }
    // Each says something, so that it must have arrived.
    for (i, (ours, _)) in streams.iter_mut().enumerate() {
        ours.write_all(&bytes(1, i as u64, 10)).await.unwrap();
    }
    let mut buf = [0; 10];
    let mut seen = Vec::new();
    for (ours, theirs) in &mut streams {
        theirs.read_exact(&mut buf).await.unwrap();
        seen.push(buf.to_vec());
        theirs.write_all(&buf).await.unwrap();
        let mut back = [0; 10];
        ours.read_exact(&mut back).await.unwrap();
        assert_eq!(back, buf);
    }
    // They were accepted in some order, each once.
    let mut expected: Vec<_> = (0..1000).map(|i| bytes(1, i, 10)).collect();
    seen.sort();
    expected.sort();
    assert!(seen == expected);
    assert_eq!(pair.server.stats().n_refused, 0);
    drop(streams);
    pair.wait_for_nothing().await;
}

#[tokio::test]
async fn control_moves_first_and_bulk_last() {
    let (pair, path) = Pair::connected().await;
    let (mut bulk, _bulk_theirs) = pair.open().await;
    let (mut control, _control_theirs) = pair.open().await;
    control.set_class(Class::Control);
    let (_interactive, _theirs) = pair.open().await;
    bulk.write_all(&vec![0; 60_000]).await.unwrap();
    wait_until(|| pair.client.queues().bulk > 0).await;

    let next = pair.dial().await;
    let generation = pair.client.next_generation();
    for (session, carrier) in [(&pair.client, &next.client), (&pair.server, &next.server)] {
        session
            .add_carrier(next.id, generation, Arc::clone(carrier))
            .unwrap();
    }
    pair.switch(&next, true);
    // Numbers of streams are at the same place in each ATTACH.
    let mut order = Vec::new();
    for _ in 0..3 {
        let mut stream = next.server.accept_stream().await.unwrap().unwrap();
        let mut attach = [0; 3];
        stream.read_exact(&mut attach).await.unwrap();
        order.push(attach[2]);
    }
    assert_eq!(order, [4, 6, 2]);
    drop(path);
}

#[tokio::test]
async fn a_carrier_that_refuses_streams_for_a_while_is_asked_again() {
    let (pair, path) = Pair::connected().await;
    path.faults[0].n_refusals.store(3, Ordering::Relaxed);
    let (mut ours, mut theirs) = pair.open().await;
    ours.write_all(b"x").await.unwrap();
    theirs.read_u8().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_carrier_that_refuses_every_stream_costs_it_its_user() {
    let (pair, path) = Pair::connected().await;
    path.faults[0].n_refusals.store(1000, Ordering::Relaxed);
    let mut ours = pair.client.open_stream().unwrap();
    assert!(ours.read_u8().await.is_err());
    drop(ours);
    pair.wait_for_nothing().await;
}

#[tokio::test]
async fn a_stream_that_lost_only_its_route_goes_on_over_the_same_carrier() {
    let (pair, path) = Pair::connected().await;
    let (mut ours, mut theirs) = pair.open().await;
    // The server takes the carrier for dead, and gets it back under another number.
    pair.server.lose_carrier(path.id);
    let generation = pair.client.next_generation();
    pair.server
        .add_carrier(path.id, generation, Arc::clone(&path.server))
        .unwrap();
    ours.write_all(b"x").await.unwrap();
    theirs.read_u8().await.unwrap();
    assert!(pair.client.stats().n_moved > 0);

    // Another one can still join, although its number is older than that of the attachment.
    let next = pair.replace(&path, true).await;
    theirs.write_all(b"y").await.unwrap();
    ours.read_u8().await.unwrap();
    drop(next);
}

#[tokio::test]
async fn copies_go_as_datagrams_only_where_something_is_lost() {
    let (pair, path) = Pair::connected().await;
    pair.client.set_loss(path.id, 0.0, None);
    let (mut ours, mut theirs) = pair.open().await;
    let n_datagrams = || path.faults[0].n_datagrams.load(Ordering::Relaxed);
    ours.write_all(b"once").await.unwrap();
    assert_eq!(n_datagrams(), 0);
    let mut buf = [0; 4];
    theirs.read_exact(&mut buf).await.unwrap();

    pair.client.set_loss(path.id, 0.01, None);
    path.faults[0].is_black_hole.store(true, Ordering::Relaxed);
    ours.write_all(b"copy").await.unwrap();
    assert_eq!(
        n_datagrams(),
        0,
        "not in the packet of what it is a copy of"
    );
    let copy = path.client.recv_datagram().await.unwrap();
    pair.server.handle_datagram(copy.clone());
    theirs.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"copy", "the frame has vanished");

    // What makes no sense is dropped.
    pair.server.handle_datagram(copy);
    pair.server
        .handle_datagram(bytes::Bytes::from_static(b"\x88\x01"));
    assert_eq!(pair.server.stats().n_refused, 1);
    pair.replace(&path, false).await;
    ours.write_all(b"more").await.unwrap();
    theirs.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"more", "and the copy came once");
}

#[tokio::test]
async fn both_ends_send_copies_and_count_those_that_were_needed() {
    let (pair, path) = Pair::connected().await;
    let (mut ours, mut theirs) = pair.open().await;
    theirs.write_all(b"first").await.unwrap();
    let mut buf = [0; 5];
    ours.read_exact(&mut buf).await.unwrap();
    pair.server.set_loss(path.id, 0.3, Some(1 << 20));
    path.faults[1].is_black_hole.store(true, Ordering::Relaxed);
    theirs.write_all(b"again").await.unwrap();
    let mut reading = Box::pin(ours.read_exact(&mut buf));
    loop {
        tokio::select! {
            biased;
            read = &mut reading => {
                read.unwrap();
                break;
            }
            // A carrier of the rig gives back what it was given.
            copy = path.server.recv_datagram() => pair.client.handle_datagram(copy.unwrap()),
        }
    }
    drop(reading);
    assert_eq!(&buf, b"again");
    assert!(pair.server.stats().n_copies_sent > 0);
    assert_eq!(pair.client.stats().n_copies_used, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_carriers_do_the_same() {
    let mut random = Random::seeded(3);
    let pair = Pair::new().await;
    let mut keep = Vec::new();
    let mut exchanges = Vec::new();
    let mut path: Option<Path> = None;
    for round in 0..6 {
        let (client, server, listener) = match round % 3 {
            1 => over_quic().await,
            _ => over_tcp().await,
        };
        let next = pair.path(client, server);
        pair.join(&next);
        pair.switch(&next, round % 2 == 0);
        keep.push((listener, path.take()));
        if let (Some(before), true) = (&keep[round].1, round % 2 == 1) {
            before.cut();
        }
        path = Some(next);
        for _ in 0..2 {
            exchanges.push(exchange(pair.open().await, 3_000_000, &mut random));
        }
        tokio::time::sleep(Duration::from_millis(random.below(100))).await;
    }
    for exchange in exchanges {
        exchange.await.unwrap();
    }
    pair.wait_for_nothing().await;
}
