//! What a watch does: probes, events, goodbye, bounds.

use std::time::Duration;

use bytes::Bytes;
use frp_core::hold::CarrierId;
use frp_core::hold::watch::WatchEvent;
use frp_proto::hold::session::EndReason;
use frp_proto::hold::session_frame::GoodbyeReason;
use frp_proto::path::{Direction, Pace, ProberEvent};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transports::memory::MemoryTransport;

use crate::rig::{End, PATIENCE, Pair};

fn heartbeats(at_least: u64) -> impl Fn(&WatchEvent) -> Option<()> {
    move |event| match event {
        WatchEvent::Path(report) if report.heartbeats.total >= at_least => {
            assert_eq!(report.heartbeats.lost, 0, "{report:?}");
            Some(())
        }
        _ => None,
    }
}

fn prober_event(wanted: ProberEvent) -> impl Fn(&WatchEvent) -> Option<()> {
    move |event| matches!(event, WatchEvent::Prober(event) if *event == wanted).then_some(())
}

#[tokio::test(start_paused = true)]
async fn both_ends_know_their_path_with_datagrams_and_without() {
    for network in [
        MemoryTransport::new().with_keys(),
        MemoryTransport::new().with_keys().with_datagrams(),
    ] {
        let pair = Pair::over(network).await;
        let (mut client, mut server) = pair.watched(1).await;
        client.event(heartbeats(5)).await;
        let generation = client.event(|event| match event {
            WatchEvent::PeerPath(generation, report) if report.inbound.total >= 5 => {
                Some(*generation)
            }
            _ => None,
        });
        assert_eq!(generation.await.0, client.watch.report().carrier);
        server
            .event(|event| match event {
                WatchEvent::Path(report) => (report.inbound.total >= 5).then_some(()),
                _ => None,
            })
            .await;
        assert_eq!(server.watch.report().inbound.lost, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_reaches_the_server() {
    let pair = Pair::new().await;
    let (_first, _server) = pair.watched(1).await;
    let (mut second, _server) = pair.watched(2).await;
    second.event(heartbeats(2)).await;
    let in_use = pair.server.status().in_use;
    assert_eq!(in_use, pair.client.status().in_use);
    assert_eq!(in_use.unwrap().0, CarrierId(2));
}

#[tokio::test(start_paused = true)]
async fn silence_is_told_and_so_are_what_a_burst_brings_and_life() {
    let pair = Pair::new().await;
    let (mut client, _server) = pair.watched(1).await;
    client.event(heartbeats(3)).await;
    pair.network.lose_datagrams(true);
    let silent = |event: &WatchEvent| match event {
        WatchEvent::Prober(ProberEvent::Silent(direction)) => Some(*direction),
        _ => None,
    };
    assert_eq!(client.event(silent).await, Direction::Outbound);
    client.watch.burst(12);
    client
        .event(prober_event(ProberEvent::BurstOver { n_answered: 0 }))
        .await;
    pair.network.lose_datagrams(false);
    client.event(prober_event(ProberEvent::Alive)).await;
    client.watch.burst(5);
    client
        .event(prober_event(ProberEvent::BurstOver { n_answered: 5 }))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_loses_its_carrier_and_then_its_session() {
    let pair = Pair::new().await;
    let (mut client, mut server) = pair.watched(1).await;
    client.event(heartbeats(3)).await;
    let start = tokio::time::Instant::now();
    pair.network.lose_datagrams(true);
    tokio::time::timeout(PATIENCE * 2, async {
        while server.events.recv().await.is_some() {}
    })
    .await
    .unwrap();
    assert!(start.elapsed() >= Duration::from_secs(60));
    assert_eq!(pair.server.over().await, EndReason::GraceExpired);
}

#[tokio::test(start_paused = true)]
async fn goodbye_ends_the_peers_session_at_once() {
    let pair = Pair::new().await;
    let (mut client, mut server) = pair.watched(1).await;
    client.watch.goodbye(GoodbyeReason::STOPPED, PATIENCE).await;
    let reason = server
        .event(|event| match event {
            WatchEvent::Goodbye(reason) => Some(*reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, GoodbyeReason::STOPPED);
    assert_eq!(server.closed().await, "the session is over");
    let over = EndReason::GoodbyeByPeer(GoodbyeReason::STOPPED);
    assert_eq!(pair.server.over().await, over);

    // Nobody is left to hear another one.
    client.carrier.close();
    client.closed().await;
    client.watch.goodbye(GoodbyeReason::STOPPED, PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_right_before_the_close_is_heard() {
    // Which of the two the watch looks at first is a matter of chance.
    for _ in 0..32 {
        let pair = Pair::new().await;
        let (client, _server) = pair.watched(1).await;
        client.watch.goodbye(GoodbyeReason::STOPPED, PATIENCE).await;
        client.carrier.close();
        let over = EndReason::GoodbyeByPeer(GoodbyeReason::STOPPED);
        assert_eq!(pair.server.over().await, over);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_here_says_goodbye_on_its_carriers() {
    let pair = Pair::new().await;
    let (mut client, mut server) = pair.watched(1).await;
    client.event(heartbeats(1)).await;
    assert!(pair.server.handle_login([2; 16]), "another process");
    assert_eq!(server.closed().await, "the session is over");
    let over = EndReason::GoodbyeByPeer(GoodbyeReason::TAKEN_OVER);
    assert_eq!(pair.client.over().await, over);
    client.closed().await;
}

#[tokio::test(start_paused = true)]
async fn events_that_nobody_takes_are_dropped_but_not_the_last() {
    let pair = Pair::new().await;
    let (mut client, mut server) = pair.watched(1).await;
    client.watch.set_pace(Pace::Questioned);
    tokio::time::sleep(Duration::from_secs(120)).await;
    pair.network.lose_all();
    let mut n_events = 0;
    let mut last = None;
    while let Some(event) = client.events.recv().await {
        n_events += 1;
        last = Some(event);
    }
    assert!(n_events <= 80, "{n_events}");
    let lost = "connection lost: the path was cut";
    assert!(matches!(last, Some(WatchEvent::Closed(words)) if words == lost));
    assert_eq!(server.closed().await, lost);
}

#[tokio::test(start_paused = true)]
async fn an_idle_carrier_is_woken_by_its_probes_and_by_nothing_else() {
    for network in [
        MemoryTransport::new().with_keys(),
        MemoryTransport::new().with_keys().with_datagrams(),
    ] {
        let pair = Pair::over(network).await;
        let (mut client, mut server) = pair.watched(1).await;
        let n_probes = |end: &End| end.watch.report().inbound.total;
        let drain = |end: &mut End| {
            let mut n = 0;
            while end.events.try_recv().is_ok() {
                n += 1;
            }
            n
        };
        tokio::time::sleep(Duration::from_secs(660)).await;
        let before = [n_probes(&client), n_probes(&server)];
        drain(&mut client);
        drain(&mut server);
        let mut n_events = 0;
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            n_events += drain(&mut client);
        }
        // An hour at 15 s.
        assert_eq!(n_probes(&client) - before[0], 240);
        assert_eq!(n_probes(&server) - before[1], 240);
        assert!(n_events <= 2 * 240, "{n_events}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_wakes_a_carrier_that_sleeps_and_a_pooled_stream_does_not() {
    let pair = Pair::new().await;
    let (client, _server) = pair.watched(1).await;
    tokio::time::sleep(Duration::from_secs(660)).await;
    let n_asked = || client.watch.report().heartbeats.total;
    let before = n_asked();
    let _pooled = pair.client.open_stream().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(n_asked(), before);
    assert_eq!(pair.client.n_busy_streams(), 0);

    let mut stream = pair.client.open_stream().unwrap();
    stream.write_all(b"typed").await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(pair.client.n_busy_streams(), 1);
    // At once, and then every 250 ms; the last one's answer is still to be counted.
    let n = n_asked() - before;
    assert!((4..=6).contains(&n), "{n}");
    drop(stream);
    assert_eq!(pair.client.n_busy_streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_measured_once_at_a_time_and_within_bounds() {
    let pair = Pair::new().await;
    let (mut client, _server) = pair.watched(1).await;
    client.watch.measure_rate(u64::MAX);
    client.watch.measure_rate(u64::MAX);
    client.event(heartbeats(8)).await;
    // On this clock it came at once, at no rate that could be told; but no more than is allowed.
    let sent = client.carrier.path_stats().bytes_sent;
    assert!((1_048_576..1_100_000).contains(&sent), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn nonsense_on_the_session_stream_costs_the_carrier_and_not_the_session() {
    let pair = Pair::new().await;
    let (_first, _server) = pair.watched(1).await;
    let (client, server) = pair.dial().await;
    let (ours, theirs) = pair.join(2, &client, &server).await;
    let mut server = pair.watch_server(2, &server, theirs.unwrap());
    ours.unwrap().stream.write_all(b"GET / HTTP").await.unwrap();
    assert_eq!(server.closed().await, "closed on this side");
    assert_eq!(pair.server.status().over, None);
    assert_eq!(pair.server.carrier_in_use().unwrap().0, CarrierId(1));
}

#[tokio::test(start_paused = true)]
async fn payloads_that_make_no_sense_are_passed_over() {
    let pair = Pair::new().await;
    let (mut client, _server) = pair.watched(1).await;
    for datagram in [
        &b""[..],
        b"\x40",
        b"\xa0",
        b"\xa0\xff\xff",
        b"\xa1\x00",
        b"\xaf",
    ] {
        let datagram = Bytes::from_static(datagram);
        client.carrier.send_datagram(datagram).unwrap();
    }
    client.event(heartbeats(8)).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_dropped_leaves_the_carrier_as_it_is() {
    let pair = Pair::new().await;
    let (client, mut server) = pair.watched(1).await;
    let carrier = client.carrier.clone();
    let End {
        watch, mut events, ..
    } = client;
    drop(watch);
    while events.recv().await.is_some() {}
    carrier.open_stream().await.unwrap();
    carrier.close();
    assert_eq!(server.closed().await, "closed by the peer");
}
