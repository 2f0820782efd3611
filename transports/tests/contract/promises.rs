//! What every transport promises. Each function takes the two ends of a fresh carrier.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transports::{BoxStream, CarrierError, Class, DatagramError, ExportError, RebindError};

use super::rigs::Ends;

/// More than any window, queue and pipe on the way.
const LOTS: usize = 9 * 1024 * 1024;

pub async fn bytes_arrive_in_order_both_ways_at_once(ends: Ends) {
    let (ours, theirs) = stream(&ends).await;
    let (mut our_read, mut our_write) = tokio::io::split(ours);
    let (mut their_read, mut their_write) = tokio::io::split(theirs);

    let up = numbered(LOTS, 1);
    let down = numbered(LOTS, 2);
    let (up_sent, down_sent) = (up.clone(), down.clone());
    let sending_up = tokio::spawn(async move {
        our_write.write_all(&up_sent).await.unwrap();
        our_write.shutdown().await.unwrap();
    });
    let sending_down = tokio::spawn(async move {
        their_write.write_all(&down_sent).await.unwrap();
        their_write.shutdown().await.unwrap();
    });
    let receiving_down = tokio::spawn(async move {
        let mut received = Vec::new();
        our_read.read_to_end(&mut received).await.unwrap();
        received
    });

    let mut received = Vec::new();
    their_read.read_to_end(&mut received).await.unwrap();
    assert!(received == up, "what was sent up is what arrived");
    assert!(
        receiving_down.await.unwrap() == down,
        "what was sent down is what arrived"
    );
    sending_up.await.unwrap();
    sending_down.await.unwrap();
}

pub async fn chunks_carry_the_same_bytes_as_reads_and_writes(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    let sent = numbered(LOTS, 3);
    let mut rest = Bytes::from(sent.clone());
    let sending = tokio::spawn(async move {
        for len in [1, 100, 5_000, 70_000, 300_000].into_iter().cycle() {
            let mut chunk = rest.split_to(rest.len().min(len));
            if chunk.is_empty() {
                break;
            }
            while !chunk.is_empty() {
                let before = chunk.len();
                write_chunk(&mut ours, &mut chunk).await.unwrap();
                assert!(chunk.len() < before, "at least one byte is taken");
            }
        }
        ours.shutdown().await.unwrap();
        ours
    });

    let mut received = Vec::new();
    for max in [usize::MAX, 1, 10_000].into_iter().cycle() {
        let chunk = read_chunk(&mut theirs, max).await.unwrap();
        assert!(chunk.len() <= max);
        if chunk.is_empty() {
            break;
        }
        received.extend_from_slice(&chunk);
    }
    assert!(received == sent);
    assert!(
        read_chunk(&mut theirs, 10).await.unwrap().is_empty(),
        "the end stays the end"
    );
    drop(sending.await.unwrap());
}

pub async fn ending_one_half_leaves_the_other_open(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    ours.write_all(b"question").await.unwrap();
    ours.shutdown().await.unwrap();

    let mut question = Vec::new();
    theirs.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question");

    let answer = numbered(LOTS, 4);
    let sent = answer.clone();
    let answering = tokio::spawn(async move {
        theirs.write_all(&sent).await.unwrap();
        theirs.shutdown().await.unwrap();
        theirs
    });
    let mut received = Vec::new();
    ours.read_to_end(&mut received).await.unwrap();
    assert!(received == answer);
    drop(answering.await.unwrap());
}

pub async fn nothing_can_be_written_after_the_end(ends: Ends) {
    let (mut ours, _theirs) = stream(&ends).await;
    ours.shutdown().await.unwrap();
    assert!(ours.write_all(b"late").await.is_err());
    ours.shutdown().await.expect("ending twice is ending");
}

pub async fn a_reader_that_stops_holds_the_writer_back(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    let sent = numbered(LOTS, 5);
    let sending = tokio::spawn({
        let sent = sent.clone();
        async move {
            ours.write_all(&sent).await.unwrap();
            ours.shutdown().await.unwrap();
            ours
        }
    });
    // Nothing shows that a writer will wait for ever; that it has not finished after a time in
    // which it could have sent this much many times over comes near.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        !sending.is_finished(),
        "not all of it is taken while nobody reads"
    );

    let mut received = Vec::new();
    theirs.read_to_end(&mut received).await.unwrap();
    assert!(received == sent);
    drop(sending.await.unwrap());
}

pub async fn dropping_a_stream_sends_what_was_written(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    let sent = numbered(40_000, 6);
    ours.write_all(&sent).await.unwrap();
    drop(ours);
    let mut received = Vec::new();
    theirs.read_to_end(&mut received).await.unwrap();
    assert!(received == sent);
}

pub async fn closing_a_carrier_sends_what_was_written(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    let sent = numbered(40_000, 7);
    ours.write_all(&sent).await.unwrap();
    ours.flush().await.unwrap();
    ends.client.close();
    let mut received = vec![0; sent.len()];
    theirs.read_exact(&mut received).await.unwrap();
    assert!(received == sent);
}

pub async fn closing_a_carrier_ends_its_streams(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    let reading = tokio::spawn(async move { ours.read_u8().await });
    ends.client.close();
    assert!(reading.await.unwrap().is_err());
    // Without multiplexing the end of the carrier looks like the end of the stream.
    if ends.server.is_multiplexed() {
        assert!(
            theirs.read(&mut [0; 10]).await.is_err(),
            "it did not end in good order"
        );
    } else {
        assert!(matches!(theirs.read(&mut [0; 10]).await, Ok(0) | Err(_)));
    }
}

pub async fn the_end_of_a_carrier_names_its_side(ends: Ends) {
    ends.client.close();
    assert_eq!(ends.client.closed().await, CarrierError::ClosedHere);
    if ends.client.is_multiplexed() {
        assert_eq!(ends.server.closed().await, CarrierError::ClosedByPeer);
        assert!(ends.server.accept_stream().await.unwrap().is_none());
    }
}

pub async fn the_first_reason_for_the_end_stays(ends: Ends) {
    ends.client.close();
    assert_eq!(ends.client.closed().await, CarrierError::ClosedHere);
    (ends.cut)();
    ends.client.close();
    assert_eq!(ends.client.closed().await, CarrierError::ClosedHere);
}

pub async fn dropping_the_last_reference_closes_the_carrier(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    ours.write_all(b"x").await.unwrap();
    let second = Arc::clone(&ends.client);
    drop(ends.client);
    assert_eq!(
        theirs.read_u8().await.unwrap(),
        b'x',
        "one reference is left"
    );
    drop(second);
    assert!(ours.read_u8().await.is_err());
    assert!(theirs.read_u8().await.is_err());
}

pub async fn streams_do_not_keep_a_carrier_open(ends: Ends) {
    let (ours, mut theirs) = stream(&ends).await;
    drop(ends.client);
    assert!(theirs.read_u8().await.is_err());
    drop(ours);
}

pub async fn a_cut_path_is_an_error_at_both_ends(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    let ours = tokio::spawn(async move { ours.read_u8().await });
    let theirs = tokio::spawn(async move { theirs.read_u8().await });
    (ends.cut)();
    assert!(ours.await.unwrap().is_err());
    assert!(theirs.await.unwrap().is_err());
    for carrier in [ends.client, ends.server] {
        let reason = carrier.closed().await;
        // Over UDP a path that is cut looks like one on which nobody speaks.
        assert!(
            matches!(reason, CarrierError::Lost(_) | CarrierError::Silent(_)),
            "{reason:?}"
        );
        assert!(reason.is_carrier_lost());
    }
}

pub async fn a_cancelled_accept_loses_no_stream(ends: Ends) {
    if ends.server.is_multiplexed() {
        for _ in 0..20 {
            let accept = ends.server.accept_stream();
            tokio::time::timeout(Duration::from_micros(50), accept)
                .await
                .ok();
        }
    }
    let (mut ours, mut theirs) = stream(&ends).await;
    ours.write_all(b"!").await.unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'!');
}

pub async fn nobody_can_open_a_stream_on_a_closed_carrier(ends: Ends) {
    ends.client.close();
    ends.server.close();
    for carrier in [ends.client, ends.server] {
        let refused = carrier.open_stream().await.unwrap_err();
        assert!(refused.is_carrier_lost());
    }
}

pub async fn datagrams_and_rebinding_say_that_they_are_not_supported(ends: Ends) {
    let sent = ends.client.send_datagram(Bytes::from_static(b"hello"));
    assert_eq!(sent, Err(DatagramError::Unsupported));
    assert_eq!(
        ends.server.recv_datagram().await,
        Err(DatagramError::Unsupported)
    );
    assert!(matches!(
        ends.client.rebind().await,
        Err(RebindError::Unsupported)
    ));
}

pub async fn without_tls_there_are_no_keys(ends: Ends) {
    let exported = ends
        .client
        .export_keying_material(&mut [0; 32], b"label", b"");
    assert_eq!(exported, Err(ExportError));
}

pub async fn with_tls_both_ends_have_the_same_keys(ends: Ends) {
    let (mut ours, mut theirs) = ([0; 32], [1; 32]);
    ends.client
        .export_keying_material(&mut ours, b"label", b"context")
        .unwrap();
    ends.server
        .export_keying_material(&mut theirs, b"label", b"context")
        .unwrap();
    assert_eq!(ours, theirs);
    ends.server
        .export_keying_material(&mut theirs, b"label", b"other")
        .unwrap();
    assert_ne!(ours, theirs);
}

pub async fn path_statistics_count_bytes(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    ours.write_all(&[0; 10_000]).await.unwrap();
    theirs.read_exact(&mut [0; 10_000]).await.unwrap();
    assert!(ends.client.path_stats().bytes_sent >= 10_000);
    assert!(ends.server.path_stats().bytes_received >= 10_000);
    // A stream that was there before is gone when its end has been acknowledged.
    for end in [&ends.client, &ends.server] {
        let alone = async {
            while end.path_stats().n_streams != 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let is_alone = tokio::time::timeout(Duration::from_secs(60), alone)
            .await
            .is_ok();
        assert!(is_alone, "{:?}", end.path_stats());
    }
}

pub async fn streams_are_independent(ends: Ends) {
    let (mut first, mut their_first) = stream(&ends).await;
    let (mut second, mut their_second) = stream(&ends).await;
    first.set_class(Class::Interactive);
    second.write_all(b"2").await.unwrap();
    first.write_all(b"1").await.unwrap();
    assert_eq!(their_first.read_u8().await.unwrap(), b'1');
    assert_eq!(their_second.read_u8().await.unwrap(), b'2');
    drop(second);
    assert!(their_second.read_u8().await.is_err());
    first.write_all(b"3").await.unwrap();
    assert_eq!(their_first.read_u8().await.unwrap(), b'3');
}

pub async fn both_ends_can_open_streams(ends: Ends) {
    let mut theirs = ends.server.open_stream().await.unwrap();
    theirs.write_all(b"s").await.unwrap();
    let mut ours = ends.client.accept_stream().await.unwrap().unwrap();
    assert_eq!(ours.read_u8().await.unwrap(), b's');
    ours.write_all(b"c").await.unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'c');
}

pub async fn many_streams_at_once_keep_their_bytes_apart(ends: Ends) {
    const N_STREAMS: u8 = 100;
    let server = Arc::clone(&ends.server);
    let echoing = tokio::spawn(async move {
        for _ in 0..N_STREAMS {
            let stream = server.accept_stream().await.unwrap().unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(stream);
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            });
        }
    });
    let mut tasks = Vec::new();
    for n in 0..N_STREAMS {
        let stream = ends.client.open_stream().await.unwrap();
        tasks.push(tokio::spawn(async move {
            let sent = numbered(usize::from(n) * 3_000 + 1, n);
            let (mut read, mut write) = tokio::io::split(stream);
            let sending = sent.clone();
            let writing = tokio::spawn(async move {
                write.write_all(&sending).await.unwrap();
                write.shutdown().await.unwrap();
            });
            let mut received = Vec::new();
            read.read_to_end(&mut received).await.unwrap();
            writing.await.unwrap();
            assert!(received == sent, "stream {n} has its own bytes");
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    echoing.await.unwrap();
}

pub async fn a_stream_that_is_not_read_holds_up_no_other(ends: Ends) {
    let (mut stuck, _unread) = stream(&ends).await;
    let sending = tokio::spawn(async move { stuck.write_all(&numbered(LOTS, 8)).await });
    for n in 0..50 {
        let (mut ours, mut theirs) = stream(&ends).await;
        let sent = numbered(30_000, n);
        ours.write_all(&sent).await.unwrap();
        drop(ours);
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).await.unwrap();
        assert!(received == sent);
    }
    assert!(!sending.is_finished());
    sending.abort();
}

pub async fn a_reset_is_an_error_for_the_peer_and_for_nobody_else(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    let (mut other, mut their_other) = stream(&ends).await;
    let reading = tokio::spawn(async move {
        let error = theirs.read_u8().await.unwrap_err();
        (error, theirs.write_all(b"x").await)
    });
    ours.reset();
    assert!(ours.write_all(b"x").await.is_err());
    assert!(ours.read_u8().await.is_err());
    let (error, write) = reading.await.unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(write.is_err());
    other.write_all(b"y").await.unwrap();
    assert_eq!(their_other.read_u8().await.unwrap(), b'y');
}

pub async fn a_draining_carrier_refuses_new_streams_and_ends_after_the_last(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    ends.server.drain();
    let refused = ends.server.open_stream().await.unwrap_err();
    assert!(!refused.is_carrier_lost(), "{refused:?}");
    // The peer learns of it on the way; until then its streams are reset.
    loop {
        match ends.client.open_stream().await {
            Err(CarrierError::NoStream(_)) => break,
            Err(other) => panic!("the carrier lives on: {other:?}"),
            Ok(mut stream) => {
                // The refusal may be there before the first write.
                let refused = greet(&ends, &mut stream).await.is_err();
                assert!(refused || stream.read_u8().await.is_err());
            }
        }
    }

    ours.write_all(b"still here").await.unwrap();
    ours.shutdown().await.unwrap();
    let mut received = Vec::new();
    theirs.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"still here");
    drop(theirs);
    drop(ours);
    assert_eq!(ends.server.closed().await, CarrierError::ClosedHere);
    assert_eq!(ends.client.closed().await, CarrierError::ClosedByPeer);
}

pub async fn a_draining_carrier_without_streams_ends_at_once(ends: Ends) {
    ends.client.drain();
    assert_eq!(ends.client.closed().await, CarrierError::ClosedHere);
    assert_eq!(ends.server.closed().await, CarrierError::ClosedByPeer);
}

pub async fn there_is_one_stream_and_no_second(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    let refused = ends.client.open_stream().await.unwrap_err();
    assert!(!refused.is_carrier_lost(), "{refused:?}");
    ours.write_all(b"1").await.unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'1');
}

pub async fn accepting_after_the_only_stream_says_that_there_are_no_more(ends: Ends) {
    let (_ours, _theirs) = stream(&ends).await;
    assert!(ends.server.accept_stream().await.unwrap().is_none());
}

pub async fn a_reset_ends_the_carrier(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    ours.reset();
    assert_eq!(ends.client.closed().await, CarrierError::ClosedHere);
    assert!(theirs.read_u8().await.is_err());
}

pub async fn a_stranger_gets_four_streams_and_an_admitted_peer_more(ends: Ends) {
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(stream(&ends).await);
    }
    // Where the server can say how many streams there may be, the fifth has to wait for more.
    let fifth = tokio::time::timeout(Duration::from_millis(200), ends.client.open_stream());
    if let Ok(fifth) = fifth.await {
        let mut fifth = fifth.unwrap();
        greet(&ends, &mut fifth).await.unwrap();
        assert!(fifth.read_u8().await.is_err(), "refused");
    }

    ends.server.admit();
    for _ in 0..20 {
        streams.push(stream(&ends).await);
    }
    for (ours, theirs) in &mut streams {
        ours.write_all(b"z").await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), b'z');
    }
}

pub async fn admitting_twice_does_nothing(ends: Ends) {
    ends.server.admit();
    ends.server.admit();
    ends.client.admit();
    let (mut ours, mut theirs) = stream(&ends).await;
    ours.write_all(b"a").await.unwrap();
    assert_eq!(theirs.read_u8().await.unwrap(), b'a');
}

pub async fn datagrams_arrive_whole_both_ways(ends: Ends) {
    for (from, to) in [(&ends.client, &ends.server), (&ends.server, &ends.client)] {
        for len in [0, 1, 1_000] {
            let sent = Bytes::from(numbered(len, 10));
            from.send_datagram(sent.clone()).unwrap();
            assert_eq!(to.recv_datagram().await, Ok(sent));
        }
        let too_long = Bytes::from(vec![0; 70_000]);
        assert_eq!(from.send_datagram(too_long), Err(DatagramError::TooLong));
    }
    ends.client.close();
    let closed = DatagramError::Carrier(CarrierError::ClosedHere);
    let late = ends.client.send_datagram(Bytes::from_static(b"late"));
    assert_eq!(late, Err(closed.clone()));
    assert_eq!(ends.client.recv_datagram().await, Err(closed));
}

pub async fn a_carrier_that_moves_keeps_its_streams(ends: Ends) {
    let (mut ours, mut theirs) = stream(&ends).await;
    for n in 0..3 {
        ours.write_all(&numbered(100_000, n)).await.unwrap();
        let before = ends.client.local_addr().unwrap();
        ends.client.rebind().await.unwrap();
        assert_ne!(ends.client.local_addr().unwrap(), before);
        let mut received = vec![0; 100_000];
        theirs.read_exact(&mut received).await.unwrap();
        assert!(received == numbered(100_000, n));
        theirs.write_all(&[n]).await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), n);
    }
    assert!(matches!(
        ends.server.rebind().await,
        Err(RebindError::Unsupported)
    ));
}

/// Opens a stream at the client and accepts it at the server.
async fn stream(ends: &Ends) -> (BoxStream, BoxStream) {
    let mut ours = ends.client.open_stream().await.unwrap();
    greet(ends, &mut ours).await.unwrap();
    ours.flush().await.unwrap();
    let mut theirs = ends.server.accept_stream().await.unwrap().unwrap();
    if !ends.announces_streams {
        theirs.read_u8().await.unwrap();
    }
    (ours, theirs)
}

/// Sends a byte on a new stream if there is no other way to let the server know of it.
async fn greet(ends: &Ends, stream: &mut BoxStream) -> io::Result<()> {
    match ends.announces_streams {
        true => Ok(()),
        false => stream.write_u8(0).await,
    }
}

async fn read_chunk(stream: &mut BoxStream, max: usize) -> io::Result<Bytes> {
    poll_fn(|cx| Pin::new(&mut **stream).poll_read_chunk(cx, max)).await
}

async fn write_chunk(stream: &mut BoxStream, chunk: &mut Bytes) -> io::Result<()> {
    poll_fn(|cx| Pin::new(&mut **stream).poll_write_chunk(cx, chunk)).await
}

/// Bytes that are not the same anywhere near.
fn numbered(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
