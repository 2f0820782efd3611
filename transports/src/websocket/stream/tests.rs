#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::time::timeout;

use super::super::accept::accept;
use super::*;

#[tokio::test]
async fn each_write_of_a_server_is_one_binary_frame() {
    let (mut server, mut peer) = server(1024);
    server.write_all(b"abc").await.unwrap();
    let parts = [IoSlice::new(b"de"), IoSlice::new(b""), IoSlice::new(b"f")];
    assert_eq!(server.write_vectored(&parts).await.unwrap(), 3);
    let mut frames = [0; 10];
    peer.read_exact(&mut frames).await.unwrap();
    assert_eq!(&frames, b"\x82\x03abc\x82\x03def");
}

#[tokio::test]
async fn each_write_of_a_client_is_one_binary_frame_with_a_mask_of_its_own() {
    let (mut client, mut peer) = client(1024);
    let mut keys = Vec::new();
    for _ in 0..2 {
        let parts = [IoSlice::new(b"ab"), IoSlice::new(b"cde")];
        assert_eq!(client.write_vectored(&parts).await.unwrap(), 5);
        let mut frame = [0; 11];
        peer.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[..2], [0x82, 0x85]);
        let key = &frame[2..6];
        let payload = frame[6..].iter().zip(key.iter().cycle());
        assert!(payload.map(|(byte, key)| byte ^ key).eq(*b"abcde"));
        keys.push(key.to_vec());
    }
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn bytes_arrive_over_a_connection_that_takes_next_to_nothing_at_a_time() {
    for room in [1, 7, 100_000] {
        let (one, other) = duplex(room);
        let mut client = WebsocketStream::new(one, Side::Client, b"");
        let mut server = WebsocketStream::new(other, Side::Server, b"");
        let data: Vec<u8> = (0..=255).cycle().take(30_000).collect();
        let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
        let up = async {
            client.write_all(&data).await.unwrap();
            client.shutdown().await.unwrap();
            client.read_to_end(&mut at_client).await.unwrap();
        };
        let down = async {
            server.read_to_end(&mut at_server).await.unwrap();
            server.write_all(&data).await.unwrap();
            server.shutdown().await.unwrap();
        };
        tokio::join!(up, down);
        assert!(at_server == data && at_client == data, "room for {room}");
    }
}

#[tokio::test]
async fn a_long_write_becomes_frames_of_64_kib() {
    for mut stream in [server(300_000), client(300_000)] {
        let data = vec![1; 100_000];
        assert_eq!(stream.0.write(&data).await.unwrap(), MAX_DATA_LEN);
        let rest = &data[MAX_DATA_LEN..];
        assert_eq!(stream.0.write(rest).await.unwrap(), rest.len());
    }
}

#[tokio::test]
async fn a_ping_is_answered_though_nobody_writes() {
    let (mut client, mut peer) = client(1024);
    peer.write_all(b"\x89\x02hi\x82\x01x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    let mut pong = [0; 8];
    peer.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong[..2], [0x8a, 0x82]);
    assert_eq!([pong[6] ^ pong[2], pong[7] ^ pong[3]], *b"hi");
}

#[tokio::test]
async fn pings_that_come_at_once_have_one_answer() {
    let (mut client, mut peer) = client(1024 * 1024);
    for n in 0..50_000_u32 {
        let mut ping = *b"\x89\x04....";
        ping[2..].copy_from_slice(&n.to_be_bytes());
        peer.write_all(&ping).await.unwrap();
    }
    peer.write_all(b"\x82\x01x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    drop(client);
    let mut pongs = Vec::new();
    peer.read_to_end(&mut pongs).await.unwrap();
    let pongs = pongs.chunks(10);
    assert!((1..1000).contains(&pongs.len()), "{} pongs", pongs.len());
    let last = pongs.last().unwrap();
    let number = last[6..]
        .iter()
        .zip(&last[2..])
        .map(|(byte, key)| byte ^ key);
    assert!(number.eq(49_999_u32.to_be_bytes()));
}

/// The reader takes the place of the writer below when it sends a pong, and must not forget it.
#[tokio::test]
async fn a_writer_that_waits_is_woken_after_a_reader_has_sent_a_pong() {
    for side in [Side::Client, Side::Server] {
        let (one, mut peer) = duplex(64);
        let (mut reader, mut writer) = split(WebsocketStream::new(one, side, b""));
        let writing = tokio::spawn(async move {
            writer.write_all(&[1; 10_000]).await.unwrap();
            writer.flush().await.unwrap();
        });
        let reading = tokio::spawn(async move { reader.read_u8().await });
        tokio::task::yield_now().await;
        let ping: &[u8] = match side {
            Side::Client => b"\x89\x01a",
            Side::Server => b"\x89\x81\0\0\0\0a",
        };
        peer.write_all(ping).await.unwrap();
        // Both have had their turns with a full connection before there is room again.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let mut decoder = Decoder::new(side);
        let mut input = BytesMut::new();
        let mut n_received = 0;
        while n_received < 10_000 {
            let read = timeout(Duration::from_secs(20), peer.read_buf(&mut input));
            assert_ne!(read.await.expect("the writer goes on").unwrap(), 0);
            let mut out = [0; 1024];
            while decoder.poll(&mut input).unwrap() == Event::Data {
                let mut out = ReadBuf::new(&mut out);
                decoder.take(&mut input, &mut out);
                n_received += out.filled().len();
            }
        }
        timeout(Duration::from_secs(20), writing)
            .await
            .unwrap()
            .unwrap();
        reading.abort();
    }
}

#[tokio::test]
async fn an_ended_write_half_is_a_close_frame_and_leaves_the_read_half_open() {
    let (mut server, mut peer) = server(1024);
    server.shutdown().await.unwrap();
    server.write_all(b"x").await.unwrap_err();
    let mut close = [0; 4];
    peer.read_exact(&mut close).await.unwrap();
    assert_eq!(close, [0x88, 2, 0x03, 0xe8]);

    peer.write_all(b"\x82\x84\0\0\0\0more\x88\x80\0\0\0\0\x82")
        .await
        .unwrap();
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"more");
    // Both halves are closed, so nothing is between the peer and the end of the connection.
    server.shutdown().await.unwrap();
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_close_is_answered_at_the_latest_when_the_connection_is_left() {
    let (mut server, mut peer) = server(1024);
    peer.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8])
        .await
        .unwrap();
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    drop(server);
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [0x88, 2, 0x03, 0xe8]);
}

#[tokio::test]
async fn a_connection_that_is_dropped_says_nothing() {
    let (server, mut peer) = server(1024);
    drop(server);
    assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn an_end_without_a_close_is_an_end_between_frames_and_an_error_within_one() {
    let (mut client, mut peer) = client(1024);
    peer.write_all(b"\x82\x01a\x82\x02b").await.unwrap();
    drop(peer);
    let mut received = Vec::new();
    let error = client.read_to_end(&mut received).await.unwrap_err();
    assert_eq!(received, b"ab");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);

    let (mut client, mut peer) = self::client(1024);
    peer.write_all(b"\x82\x01a").await.unwrap();
    drop(peer);
    assert_eq!(client.read_to_end(&mut received).await.unwrap(), 1);
}

#[tokio::test]
async fn a_peer_that_breaks_the_framing_is_told_so() {
    let (mut server, mut peer) = server(1024);
    peer.write_all(b"\x82\x01a").await.unwrap();
    let error = server.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(error.to_string(), "a client's frame without a mask");
    let mut close = [0; 4];
    peer.read_exact(&mut close).await.unwrap();
    assert_eq!(close, [0x88, 2, 0x03, 0xea]);
}

#[tokio::test]
async fn empty_frames_do_no_harm() {
    let (mut client, mut peer) = client(1024 * 1024);
    peer.write_all(&b"\x82\0".repeat(200_000)).await.unwrap();
    peer.write_all(b"\x82\x01x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
}

/// What frpc and frps v0.70.1 said to each other: our server answers the request with frps' very
/// bytes, and out of the frames come the frames of one yamux session.
#[tokio::test]
async fn a_recorded_session_is_understood_in_both_directions() {
    let recorded = include_str!("../recorded_session.txt");
    let of = |prefix: &str| -> Vec<u8> {
        let lines = recorded
            .lines()
            .filter_map(|line| line.strip_prefix(prefix));
        lines.flat_map(from_hex).collect()
    };
    let (from_client, from_server) = (of("> "), of("< "));
    let (_, frames_of_client) = cut_head(&from_client);
    let (answer, frames_of_server) = cut_head(&from_server);

    let (io, mut peer) = duplex(64 * 1024);
    peer.write_all(&from_client).await.unwrap();
    let mut server = accept(io, "/~!frp").await.unwrap();
    let mut our_answer = vec![0; answer.len()];
    peer.read_exact(&mut our_answer).await.unwrap();
    assert_eq!(our_answer, answer);
    drop(peer);
    let mut up = Vec::new();
    server.read_to_end(&mut up).await.unwrap();
    assert_eq!(up.len(), count_payload(frames_of_client, 6));

    let (io, _peer) = duplex(64);
    let mut client = WebsocketStream::new(io, Side::Client, frames_of_server);
    let mut down = Vec::new();
    client.read_to_end(&mut down).await.unwrap();
    assert_eq!(down.len(), count_payload(frames_of_server, 2));

    for (bytes, first, text) in [
        (
            up,
            "000100010000000100",
            r#"{"version":"0.70.1","hostname""#,
        ),
        (
            down,
            "000100020000000100",
            r#"{"version":"0.70.1","run_id""#,
        ),
    ] {
        assert!(bytes.starts_with(&from_hex(first)));
        assert!(
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        );
        assert_is_yamux(&bytes);
    }
}

/// The payload of all data frames, by their lengths alone. The session has none of 64 KiB.
fn count_payload(mut frames: &[u8], short_header_len: usize) -> usize {
    let mut sum = 0;
    while let [first, second, rest @ ..] = frames {
        let (len, header_len) = match second & 0x7f {
            126 => (
                usize::from(rest[0]) << 8 | usize::from(rest[1]),
                short_header_len + 2,
            ),
            len => (usize::from(len), short_header_len),
        };
        if first & 0x0f == 2 {
            sum += len;
        }
        frames = &frames[header_len + len..];
    }
    sum
}

fn assert_is_yamux(mut bytes: &[u8]) {
    while let Some((header, rest)) = bytes.split_first_chunk::<12>() {
        assert!(header[0] == 0 && header[1] <= 3, "{header:02x?}");
        let is_data = header[1] == 0;
        let len = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
        bytes = if is_data { &rest[len..] } else { rest };
    }
    assert!(bytes.is_empty());
}

fn cut_head(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .unwrap()
        + 4;
    bytes.split_at(end)
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn server(room: usize) -> (WebsocketStream<DuplexStream>, DuplexStream) {
    let (io, peer) = duplex(room);
    (WebsocketStream::new(io, Side::Server, b""), peer)
}

fn client(room: usize) -> (WebsocketStream<DuplexStream>, DuplexStream) {
    let (io, peer) = duplex(room);
    (WebsocketStream::new(io, Side::Client, b""), peer)
}
