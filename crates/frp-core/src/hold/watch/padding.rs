//! Measuring a rate: a bounded burst of padding on a stream of its own, behind everything else.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use frp_proto::path::{PaddingAnswer, PaddingHead};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transports::{BoxStream, Carrier, Class};

use crate::hold::clock::now;

/// Sends so much padding, or as much as is allowed, over a carrier that has joined, and returns the
/// rate at which it arrived, in bytes a second.
pub async fn measure(carrier: &Arc<dyn Carrier>, bytes: u64) -> Option<u64> {
    let asked = tokio::time::timeout(PATIENCE, ask(carrier, bytes)).await;
    match asked {
        Ok(Ok(answer)) => answer.rate(),
        Ok(Err(error)) => {
            tracing::debug!("the rate of a carrier was not measured: {error}");
            None
        }
        Err(_) => {
            tracing::debug!("the rate of a carrier was not measured in time");
            None
        }
    }
}

async fn ask(carrier: &Arc<dyn Carrier>, bytes: u64) -> io::Result<PaddingAnswer> {
    let opened = carrier.open_stream().await;
    let mut stream = opened.map_err(io::Error::other)?;
    stream.set_class(Class::Bulk);
    let bytes = bytes.clamp(1, PaddingHead::MAX_BYTES);
    let mut head = Vec::with_capacity(PaddingHead::LEN);
    PaddingHead { bytes }.encode(&mut head);
    stream.write_all(&head).await?;

    // Random, so that nothing on the way makes it shorter; the same piece again and again will do.
    let mut piece = vec![0; PIECE_LEN];
    rand::fill(&mut piece[..]);
    let piece = Bytes::from(piece);
    let mut n_left = usize::try_from(bytes).unwrap_or(usize::MAX);
    while n_left > 0 {
        let mut chunk = piece.slice(..n_left.min(PIECE_LEN));
        n_left -= chunk.len();
        while !chunk.is_empty() {
            poll_fn(|cx| Pin::new(&mut *stream).poll_write_chunk(cx, &mut chunk)).await?;
        }
    }
    stream.flush().await?;

    let mut answer = Vec::with_capacity(PaddingAnswer::MAX_LEN);
    let limit = PaddingAnswer::MAX_LEN as u64;
    (&mut stream).take(limit).read_to_end(&mut answer).await?;
    PaddingAnswer::decode(&answer)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads the padding at the front of a stream of a carrier that has joined, and says how fast it
/// came. Keeps nothing of it.
pub async fn answer_padding(mut stream: BoxStream) {
    let answered = tokio::time::timeout(PATIENCE, answer(&mut stream)).await;
    if !matches!(answered, Ok(Ok(()))) {
        metrics::counter!("holdfast_rejected_total", "cause" => "padding").increment(1);
        tracing::debug!("a measurement of a carrier's rate broke off");
        stream.reset();
    }
}

async fn answer(stream: &mut BoxStream) -> io::Result<()> {
    let mut head = [0; PaddingHead::LEN];
    stream.read_exact(&mut head).await?;
    let head = PaddingHead::decode(&head)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let mut n_left = head.bytes;
    let mut n_later = 0;
    let mut first_at = None;
    let mut last_at = now();
    while n_left > 0 {
        let max = usize::try_from(n_left).unwrap_or(usize::MAX).min(PIECE_LEN);
        let chunk = poll_fn(|cx| Pin::new(&mut **stream).poll_read_chunk(cx, max)).await?;
        if chunk.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        n_left = n_left.saturating_sub(chunk.len() as u64);
        last_at = now();
        // What came first came at no known rate.
        if first_at.is_some() {
            n_later += chunk.len() as u64;
        }
        first_at.get_or_insert(last_at);
    }
    let answer = PaddingAnswer {
        bytes: n_later,
        time: last_at.saturating_duration_since(first_at.unwrap_or(last_at)),
    };
    let mut message = Vec::with_capacity(PaddingAnswer::MAX_LEN);
    answer.encode(&mut message);
    stream.write_all(&message).await?;
    stream.shutdown().await
}

/// What is written and read at a time.
const PIECE_LEN: usize = 16 * 1024;

/// A path on which a burst takes longer is slow beyond comparison. Then there is no answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::testing::pipe;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_from_the_first_arrival_to_the_last() {
        let (mut theirs, ours) = pipe(PIECE_LEN);
        let answering = tokio::spawn(answer_padding(ours));
        let mut head = Vec::new();
        PaddingHead { bytes: 11_000 }.encode(&mut head);
        theirs.write_all(&head).await.unwrap();
        for _ in 0..11 {
            theirs.write_all(&[7; 1000]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).await.unwrap();
        let answer = PaddingAnswer::decode(&answer).unwrap();
        assert_eq!(answer.bytes, 10_000);
        assert_eq!(answer.rate(), Some(10_000));
        answering.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn padding_that_is_cut_too_long_or_too_slow_gets_no_answer() {
        for head in [&[0xa2, 0, 0, 0, 9, 1][..], &[0xa2, 0xff, 0, 0, 0]] {
            let (mut theirs, ours) = pipe(PIECE_LEN);
            theirs.write_all(head).await.unwrap();
            answer_padding(ours).await;
            assert!(matches!(theirs.read(&mut [0]).await, Ok(0) | Err(_)));
        }
    }
}
