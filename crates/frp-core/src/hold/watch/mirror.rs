//! Asking the server what it sees of a carrier, and answering that. See `frp_proto::path::mirror`.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use frp_proto::path::{MirrorAnswer, MirrorAsk};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transports::{BoxStream, Carrier, Class};

use crate::hold::clock::now;
use crate::terminal::now_ms;

/// What the server sees.
#[derive(Clone, Copy, Debug)]
pub struct Mirrored {
    /// Where the carrier comes from.
    pub peer: SocketAddr,
    /// How far the server's clock is ahead of this host's, in milliseconds, as far as half a round
    /// trip can be told.
    pub clock_ahead_ms: i64,
    /// At which rate the padding came, in bytes a second, if it was enough to tell.
    pub rate: Option<u64>,
}

/// Asks over a carrier that has joined, for so much padding behind the answer.
pub async fn mirror(
    carrier: &Arc<dyn Carrier>,
    bytes: u64,
    patience: Duration,
) -> io::Result<Mirrored> {
    let asking = Box::pin(ask(carrier, bytes));
    match tokio::time::timeout(patience, asking).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn ask(carrier: &Arc<dyn Carrier>, bytes: u64) -> io::Result<Mirrored> {
    let opened = carrier.open_stream().await;
    let mut stream = opened.map_err(io::Error::other)?;
    let mut question = Vec::with_capacity(MirrorAsk::LEN);
    MirrorAsk { bytes }.encode(&mut question);
    let asked_at = now();
    stream.write_all(&question).await?;
    stream.shutdown().await?;
    let mut answer = [0; MirrorAnswer::LEN];
    stream.read_exact(&mut answer).await?;
    let half_trip = asked_at.elapsed() / 2;
    let answer = MirrorAnswer::decode(&answer)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let then = now_ms().saturating_sub(u64::try_from(half_trip.as_millis()).unwrap_or(0));
    let clock_ahead_ms = answer.clock_ms.wrapping_sub(then).cast_signed();

    let mut first_at: Option<Instant> = None;
    let mut last_at = asked_at;
    let mut n_later = 0;
    loop {
        let chunk = poll_fn(|cx| Pin::new(&mut *stream).poll_read_chunk(cx, PIECE_LEN)).await?;
        if chunk.is_empty() {
            break;
        }
        last_at = now();
        // What came first came at no known rate.
        if first_at.is_some() {
            n_later += chunk.len() as u64;
        }
        first_at.get_or_insert(last_at);
    }
    let time = last_at.saturating_duration_since(first_at.unwrap_or(last_at));
    let rate = (u128::from(n_later) * 1_000_000).checked_div(time.as_micros());
    let rate = rate.and_then(|rate| u64::try_from(rate).ok());
    Ok(Mirrored {
        peer: answer.peer,
        clock_ahead_ms,
        rate: rate.filter(|rate| *rate > 0),
    })
}

/// How much padding a client may still ask for.
#[derive(Debug, Default)]
pub struct Allowance(Mutex<Option<(Instant, u64)>>);

impl Allowance {
    /// Takes up to `bytes` of what is left of this minute's.
    fn take(&self, now: Instant, bytes: u64) -> u64 {
        let mut minute = self.0.lock();
        let (began, used) = minute.get_or_insert((now, 0));
        if now.saturating_duration_since(*began) >= MINUTE {
            (*began, *used) = (now, 0);
        }
        let taken = bytes.min(MAX_A_MINUTE.saturating_sub(*used));
        *used += taken;
        taken
    }
}

/// Answers the question at the front of a stream of a carrier that has joined and comes from
/// `peer`. At the end of `allowance` there is an answer without padding.
pub async fn answer_mirror(mut stream: BoxStream, peer: SocketAddr, allowance: &Allowance) {
    let answering = answer(&mut stream, peer, allowance);
    if !matches!(tokio::time::timeout(PATIENCE, answering).await, Ok(Ok(()))) {
        tracing::debug!("an answer about a carrier broke off");
        stream.reset();
    }
}

async fn answer(stream: &mut BoxStream, peer: SocketAddr, allowance: &Allowance) -> io::Result<()> {
    let mut question = [0; MirrorAsk::LEN];
    stream.read_exact(&mut question).await?;
    let question = MirrorAsk::decode(&question)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    stream.set_class(Class::Bulk);
    let mut message = Vec::with_capacity(MirrorAnswer::LEN);
    let answer = MirrorAnswer {
        peer,
        clock_ms: now_ms(),
    };
    answer.encode(&mut message);
    stream.write_all(&message).await?;
    stream.flush().await?;
    let mut n_left = usize::try_from(allowance.take(now(), question.bytes)).unwrap_or(0);
    // Random, so that nothing on the way makes it shorter; the same piece again and again will do.
    let mut piece = vec![0; PIECE_LEN.min(n_left)];
    rand::fill(&mut piece[..]);
    let piece = Bytes::from(piece);
    while n_left > 0 {
        let mut chunk = piece.slice(..n_left.min(PIECE_LEN));
        n_left -= chunk.len();
        while !chunk.is_empty() {
            poll_fn(|cx| Pin::new(&mut **stream).poll_write_chunk(cx, &mut chunk)).await?;
        }
    }
    stream.shutdown().await
}

/// What is written and read at a time.
const PIECE_LEN: usize = 16 * 1024;

/// Padding that one client gets in a minute: enough for a look at each of its carriers, and no load
/// for a server that has thousands of clients. Beyond it there is none.
const MAX_A_MINUTE: u64 = 16 * 1024 * 1024;

const MINUTE: Duration = Duration::from_secs(60);

/// A path on which an answer takes longer is slow beyond comparison. Then it is cut off.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::testing::pipe;

    #[tokio::test]
    async fn the_answer_says_where_the_question_came_from_and_has_its_padding_behind_it() {
        let (mut theirs, ours) = pipe(PIECE_LEN);
        let allowance = Allowance::default();
        let peer = "192.0.2.1:40000".parse().unwrap();
        let answering = answer_mirror(ours, peer, &allowance);
        let asking = async {
            let mut question = Vec::new();
            MirrorAsk { bytes: 40_000 }.encode(&mut question);
            theirs.write_all(&question).await.unwrap();
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            all
        };
        let ((), all) = tokio::join!(answering, asking);
        let (answer, padding) = all.split_at(MirrorAnswer::LEN);
        assert_eq!(MirrorAnswer::decode(answer).unwrap().peer, peer);
        assert_eq!(padding.len(), 40_000);
    }

    #[test]
    fn a_client_gets_so_much_padding_a_minute_and_no_more() {
        let allowance = Allowance::default();
        let now = now();
        assert_eq!(allowance.take(now, MAX_A_MINUTE - 1), MAX_A_MINUTE - 1);
        assert_eq!(allowance.take(now, 10), 1);
        assert_eq!(allowance.take(now, 10), 0);
        assert_eq!(allowance.take(now + MINUTE, 10), 10);
    }
}
