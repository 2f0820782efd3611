//! The server's side of a join.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use frp_proto::hold::join::{Join, JoinStatus, Joined};
use frp_proto::hold::key::{Exporter, LEN, SessionId, SessionKey};
use frp_proto::hold::session::SessionError;
use frp_proto::hold::{CarrierId, Generation};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transports::{BoxStream, Carrier, Class};

use super::{MAX_JOINS, SessionStream, exporter};
use crate::hold::HeldSession;

/// Server: answers the join at the front of `stream`. `find` knows the live sessions; a join may come
/// right behind its login, so it may wait for a moment. `make_room` is called once a proof is right,
/// and may close carriers that the session can do without. Whatever is refused has been answered,
/// counted, and logged.
///
/// Nothing that comes here touches a session before its proof has been found right.
pub async fn answer_join<F>(
    mut stream: BoxStream,
    carrier: &Arc<dyn Carrier>,
    id: CarrierId,
    find: impl FnOnce(SessionId) -> F + Send,
    make_room: impl Fn() + Send,
) -> Result<(Arc<HeldSession>, SessionStream), JoinRefused>
where
    F: Future<Output = Option<Arc<HeldSession>>> + Send,
{
    stream.set_class(Class::Control);
    let exchange = Box::pin(exchange(&mut stream, carrier, id, find, make_room));
    let outcome = match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(outcome) => outcome,
        Err(_) => Err("join not in time"),
    };
    match outcome {
        Ok((session, generation)) => {
            carrier.admit();
            carrier.handle_holdfast_peer();
            Ok((session, SessionStream { stream, generation }))
        }
        Err(cause) => {
            metrics::counter!("holdfast_rejected_total", "cause" => cause).increment(1);
            let peer = carrier.peer_addr();
            tracing::debug!(%peer, "join of a carrier refused: {cause}");
            Err(JoinRefused { cause })
        }
    }
}

/// Why a join was refused.
#[derive(Debug, thiserror::Error)]
#[error("join refused: {cause}")]
pub struct JoinRefused {
    /// One of a few words, to count by.
    pub cause: &'static str,
}

async fn exchange<F>(
    stream: &mut BoxStream,
    carrier: &Arc<dyn Carrier>,
    id: CarrierId,
    find: impl FnOnce(SessionId) -> F + Send,
    make_room: impl Fn() + Send,
) -> Result<(Arc<HeldSession>, Generation), &'static str>
where
    F: Future<Output = Option<Arc<HeldSession>>> + Send,
{
    let Ok(exporter) = exporter(carrier) else {
        send(stream, &Joined::unknown()).await;
        return Err("join without TLS");
    };
    let mut join = read(stream).await?;
    let session = find(join.session).await;
    for n_joins in 1.. {
        let key = session.as_ref().map_or(decoy(), |session| session.key());
        let is_proven = join.verify(key, &exporter);
        let Some(session) = session.as_ref().filter(|_| is_proven) else {
            send(stream, &Joined::unknown()).await;
            return Err("join proof");
        };
        make_room();
        let generation = join.generation;
        let added = session.add_carrier(id, generation, Arc::clone(carrier));
        let (status, number, cause) = match added {
            Ok(()) => {
                let answer = Joined::new(key, &join, JoinStatus::Ok, generation, &exporter);
                if !send(stream, &answer).await {
                    session.lose_carrier(id);
                    return Err("join broke off");
                }
                return Ok((Arc::clone(session), generation));
            }
            Err(SessionError::Over) => {
                send(stream, &Joined::unknown()).await;
                return Err("join of a session that is over");
            }
            Err(SessionError::OldGeneration { highest, .. }) => {
                (JoinStatus::OldGeneration, highest, "join generation")
            }
            Err(_) => (JoinStatus::TooManyCarriers, generation, "too many carriers"),
        };
        answer_no(stream, key, &join, (status, number), &exporter).await;
        if status != JoinStatus::OldGeneration || n_joins == MAX_JOINS {
            return Err(cause);
        }
        // It may try again, above that number.
        let again = read(stream).await.map_err(|_| cause)?;
        if again.session != join.session {
            send(stream, &Joined::unknown()).await;
            return Err("join proof");
        }
        join = again;
    }
    Err("join generation")
}

async fn answer_no(
    stream: &mut BoxStream,
    key: &SessionKey,
    join: &Join,
    (status, number): (JoinStatus, Generation),
    exporter: &Exporter,
) {
    send(stream, &Joined::new(key, join, status, number, exporter)).await;
}

/// Reads a join and not a byte further: frames of the session follow.
async fn read(stream: &mut BoxStream) -> Result<Join, &'static str> {
    let mut message = [0; Join::LEN];
    let read = stream.read_exact(&mut message).await;
    read.map_err(|_: io::Error| "join cut short")?;
    match Join::decode(&mut BytesMut::from(&message[..])) {
        Ok(Some(join)) => Ok(join),
        Ok(None) | Err(_) => Err("no join"),
    }
}

/// Says whether the answer could be written.
async fn send(stream: &mut BoxStream, answer: &Joined) -> bool {
    let mut message = Vec::with_capacity(Joined::LEN);
    answer.encode(&mut message);
    stream.write_all(&message).await.is_ok() && stream.flush().await.is_ok()
}

/// A join of no session is checked as well, with a key that nobody has: how long an answer takes
/// does not tell which sessions there are.
fn decoy() -> &'static SessionKey {
    static DECOY: OnceLock<SessionKey> = OnceLock::new();
    DECOY.get_or_init(|| {
        let random = || rand::random::<[u8; LEN]>();
        SessionKey::derive(&random(), &random(), &random(), &[])
    })
}

/// For a message of 64 bytes, and once more where a switch has overtaken it. Then the stream is
/// dropped; a carrier that is still a stranger's has its own deadline.
const PATIENCE: Duration = Duration::from_secs(10);
