//! How a carrier comes to a session: the first message on its session stream, and the answer.

mod answer;
mod prefixed;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use frp_proto::hold::frame::begins_held_stream;
use frp_proto::hold::join::{Join, JoinStatus, Joined, begins_join};
use frp_proto::hold::key::{EXPORTER_LABEL, Exporter, LEN};
use frp_proto::hold::session::SessionError;
use frp_proto::hold::{CarrierId, Generation};
use frp_proto::path::{begins_mirror, begins_padding};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transports::{BoxStream, Carrier, CarrierError, Class, ExportError};

use super::HeldSession;
use prefixed::Prefixed;

pub use answer::{JoinRefused, answer_join};

/// What the first byte of a carrier's stream says it is for. The byte is given back.
#[derive(Debug)]
pub enum First {
    /// A message of frp's, in v1 or v2.
    Frp(BoxStream),
    /// A held stream: for [`HeldSession::accept_route`].
    Route(BoxStream),
    /// A join: for [`answer_join`].
    Join(BoxStream),
    /// Padding: for [`answer_padding`](super::watch::answer_padding).
    Padding(BoxStream),
    /// A question what the server sees: for [`answer_mirror`](super::watch::answer_mirror).
    Mirror(BoxStream),
}

/// Waits for the first byte. An end before it is `UnexpectedEof`.
pub async fn sort(mut stream: BoxStream) -> io::Result<First> {
    let read = poll_fn(|cx| Pin::new(&mut *stream).poll_read_chunk(cx, FIRST_CHUNK_LEN));
    let chunk = read.await?;
    let Some(&first) = chunk.first() else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let stream = Prefixed::boxed(chunk, stream);
    Ok(if begins_held_stream(first) {
        First::Route(stream)
    } else if begins_join(first) {
        First::Join(stream)
    } else if begins_padding(first) {
        First::Padding(stream)
    } else if begins_mirror(first) {
        First::Mirror(stream)
    } else {
        First::Frp(stream)
    })
}

/// The exporter of a carrier, for keys and proofs.
pub fn exporter(carrier: &Arc<dyn Carrier>) -> Result<Exporter, ExportError> {
    let mut exporter = [0; LEN];
    carrier.export_keying_material(&mut exporter, EXPORTER_LABEL, &[])?;
    Ok(exporter)
}

/// The session stream of a carrier that has joined.
#[derive(Debug)]
pub struct SessionStream {
    /// Frames of the session follow.
    pub stream: BoxStream,
    /// The carrier's number, known to both ends.
    pub generation: Generation,
}

/// Client: joins `session` over `carrier`, which is known to it as `id` from then on.
///
/// A join can be overtaken by a switch to another carrier: then the server says so, and the join
/// goes once more, on the same stream, with a number that is above. All numbers are given by this
/// side, so the next one is.
pub async fn join(
    session: &Arc<HeldSession>,
    id: CarrierId,
    carrier: &Arc<dyn Carrier>,
    patience: Duration,
) -> Result<SessionStream, JoinFailure> {
    // Boxed because callers keep several attempts, and each is rare.
    let exchange = Box::pin(exchange(session, id, carrier));
    match tokio::time::timeout(patience, exchange).await {
        Ok(outcome) => outcome,
        Err(_) => Err(JoinFailure::Timeout(patience)),
    }
}

async fn exchange(
    session: &Arc<HeldSession>,
    id: CarrierId,
    carrier: &Arc<dyn Carrier>,
) -> Result<SessionStream, JoinFailure> {
    let exporter = exporter(carrier)?;
    let mut stream = carrier.open_stream().await?;
    stream.set_class(Class::Control);
    for _ in 0..MAX_JOINS {
        let generation = session.next_generation();
        let join = Join::new(session.key(), *session.id(), generation, &exporter);
        let answer = ask(&mut stream, &join).await?;
        let verified = answer.verify(session.key(), &join, &exporter);
        match verified.map_err(|_| JoinFailure::Proof)? {
            JoinStatus::Ok => {
                carrier.handle_holdfast_peer();
                session
                    .add_carrier(id, generation, Arc::clone(carrier))
                    .map_err(|error| match error {
                        SessionError::Over => JoinFailure::Over,
                        SessionError::TooManyCarriers => JoinFailure::Refused("too many carriers"),
                        _ => JoinFailure::Refused("the session does not take the carrier"),
                    })?;
                return Ok(SessionStream { stream, generation });
            }
            JoinStatus::Unknown => return Err(JoinFailure::UnknownSession),
            JoinStatus::TooManyCarriers => return Err(JoinFailure::Refused("too many carriers")),
            JoinStatus::OldGeneration => {
                tracing::debug!(
                    given = generation.0,
                    above = answer.generation.0,
                    "a switch has overtaken the join of a carrier"
                );
            }
        }
    }
    Err(JoinFailure::Refused("old generation"))
}

/// Sends a join and reads the answer, and not a byte further: frames may follow at once.
async fn ask(stream: &mut BoxStream, join: &Join) -> Result<Joined, JoinFailure> {
    let mut message = Vec::with_capacity(Join::LEN);
    join.encode(&mut message);
    stream.write_all(&message).await?;
    stream.flush().await?;
    let mut answer = [0; Joined::LEN];
    stream.read_exact(&mut answer).await?;
    match Joined::decode(&mut BytesMut::from(&answer[..])) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) | Err(_) => {
            let problem = "the answer to the join makes no sense";
            Err(io::Error::new(io::ErrorKind::InvalidData, problem).into())
        }
    }
}

/// Why a carrier has not joined. It should be closed.
#[derive(Debug, thiserror::Error)]
pub enum JoinFailure {
    /// The server knows no such session (any more): a new login is needed.
    #[error("the server does not know the session any more")]
    UnknownSession,
    /// The session is over on this side.
    #[error("the session is over")]
    Over,
    /// Refused for another reason, in this word.
    #[error("join refused: {0}")]
    Refused(&'static str),
    /// Whoever answered does not have the session's key.
    #[error("the peer's proof is wrong")]
    Proof,
    /// There is no TLS.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The carrier is gone.
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    /// The exchange broke off.
    #[error("the join broke off: {0}")]
    Io(#[from] io::Error),
    /// No answer in time.
    #[error("no answer to the join within {} ms", .0.as_millis())]
    Timeout(Duration),
}

/// Joins on one stream: the first, and one that a switch has made necessary. A further switch in the
/// same moment fails the join, and the policy tries again when it likes.
const MAX_JOINS: usize = 2;

/// What may come with the first byte: a carrier that has a frame of data gives it as it lies.
const FIRST_CHUNK_LEN: usize = 16 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::testing::pipe;

    #[tokio::test]
    async fn the_first_byte_sorts_a_stream_and_is_given_back() {
        for (message, expected) in [
            (&b"o rest"[..], "frp"),
            (b"FRP2", "frp"),
            (b"\x84\0\0", "route"),
            (b"\x8aHOLD", "join"),
            (b"\xa2\0\0\0\x01x", "padding"),
            (b"\xa4\0\0\0\0", "mirror"),
        ] {
            let (mut theirs, ours) = pipe(64);
            theirs.write_all(message).await.unwrap();
            theirs.shutdown().await.unwrap();
            let (kind, mut stream) = match sort(ours).await.unwrap() {
                First::Frp(stream) => ("frp", stream),
                First::Route(stream) => ("route", stream),
                First::Join(stream) => ("join", stream),
                First::Padding(stream) => ("padding", stream),
                First::Mirror(stream) => ("mirror", stream),
            };
            assert_eq!(kind, expected);
            let mut first = [0; 2];
            stream.read_exact(&mut first).await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!([&first[..], &rest].concat(), message);
        }
    }

    #[tokio::test]
    async fn an_end_before_the_first_byte_is_unexpected() {
        let (theirs, ours) = pipe(64);
        drop(theirs);
        let error = sort(ours).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
