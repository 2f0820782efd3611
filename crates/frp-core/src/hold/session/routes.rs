//! Routes that the peer brings: what is at the front of a carrier's stream, and the answer.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use frp_proto::hold::frame::{Attach, AttachStatus, Decoder, Frame};
use frp_proto::hold::session::AttachTo;
use frp_proto::hold::{CarrierId, HeldStream};
use tokio::io::AsyncWriteExt;
use transports::BoxStream;

use super::carriers::HeldCarrier;
use super::usage::Used;
use super::{HeldSession, RouteError};
use crate::hold::clock::now;
use crate::hold::stream::{HeldConn, Shared, refusal};

/// Carriers' streams of one session whose ATTACH has not come. A switch brings as many at once as
/// there are streams, and each is decided within a round trip. A further one is reset, and the
/// opener tries it again.
const MAX_UNDECIDED: usize = 4096;

/// How much is read at once for an ATTACH; what lies behind it is the first data.
const READ_LEN: usize = 64 * 1024;

impl HeldSession {
    /// Takes a carrier's stream that begins with ATTACH (nothing of it read yet, except what a
    /// prefixed stream gives back). `Some` when it begins a held stream of the peer's; `None` when
    /// it carries one that there is already. The caller bounds the time.
    pub async fn accept_route(
        self: &Arc<Self>,
        carrier: CarrierId,
        mut stream: BoxStream,
    ) -> Result<Option<BoxStream>, RouteError> {
        let undecided = Undecided::new(&self.n_undecided);
        if undecided.is_too_many {
            stream.reset();
            self.counters.refuse("too many undecided routes");
            return Err(RouteError::Refused("too many undecided routes"));
        }
        let (attach, rest) = match read_attach(&mut stream).await {
            Ok(read) => read,
            Err(error) => {
                stream.reset();
                if matches!(error, NoAttach::NotOne(_)) {
                    self.counters.refuse("no attachment");
                }
                return Err(RouteError::Attach(error.to_string()));
            }
        };
        match self.place(carrier, &attach, stream, rest) {
            Ok(conn) => Ok(conn),
            Err((mut stream, status)) => {
                let answer = refusal(status, attach.generation);
                // Who has gone meanwhile needs no answer.
                let written = stream.write_all(&answer).await;
                if written.is_ok() {
                    let _ = stream.shutdown().await;
                }
                Err(RouteError::Refused(word(status)))
            }
        }
    }

    /// Gives the route to the stream that it is for. If that is refused, it comes back.
    fn place(
        self: &Arc<Self>,
        carrier: CarrierId,
        attach: &Attach,
        stream: BoxStream,
        rest: Bytes,
    ) -> Result<Option<BoxStream>, (BoxStream, AttachStatus)> {
        let found = self.change(|state| {
            let found = state.session.handle_attach(carrier, attach)?;
            let carrier = state.carriers.get(&carrier);
            let carrier = Arc::clone(&carrier.ok_or(AttachStatus::NotJoined)?.held);
            let shared = match found {
                AttachTo::Known => state.streams.get(&attach.stream).cloned(),
                AttachTo::New => {
                    let held = HeldStream::accept(attach.stream, state.session.budget());
                    let shared = Shared::new(held, &self.counters);
                    state.streams.insert(attach.stream, Arc::clone(&shared));
                    Some(shared)
                }
            };
            Ok((found, carrier, shared.ok_or(AttachStatus::UnknownStream)?))
        });
        let (found, carrier, shared) = match found {
            Ok(found) => found,
            Err(status) => {
                if status == AttachStatus::TooManyStreams {
                    self.counters.refuse(word(status));
                }
                return Err((stream, status));
            }
        };
        self.attach_to(&shared, &carrier, attach, stream, rest)
            .inspect_err(|_| {
                if found == AttachTo::New {
                    self.forget_stream(&shared);
                }
            })?;
        if found == AttachTo::Known {
            self.counters.count_move();
            return Ok(None);
        }
        let conn = HeldConn::new(Arc::clone(&shared), Some(Used::new(&self.usage)));
        self.start(shared);
        Ok(Some(Box::new(conn)))
    }

    fn attach_to(
        &self,
        shared: &Shared,
        carrier: &Arc<HeldCarrier>,
        attach: &Attach,
        stream: BoxStream,
        rest: Bytes,
    ) -> Result<(), (BoxStream, AttachStatus)> {
        let attached = shared
            .with(|inner, wakes| inner.handle_attach(carrier, attach, stream, rest, now(), wakes));
        attached.map_err(|(stream, error)| {
            if error.is_peers_fault() {
                self.counters.refuse(error.cause());
            }
            (stream, error.attach_status())
        })?;
        // The session may have lost the carrier, or may have ended, in between.
        let state = self.state.lock();
        let is_over = state.over.is_some();
        let is_gone = !state.carriers.contains_key(&carrier.id);
        drop(state);
        if is_gone {
            shared.with(|inner, wakes| inner.handle_carrier_lost(carrier.id, wakes));
        }
        if is_over {
            shared.with(|inner, wakes| inner.end(now(), wakes));
        }
        Ok(())
    }
}

/// Why a carrier's stream brought no ATTACH.
#[derive(Debug, thiserror::Error)]
enum NoAttach {
    /// The carrier has gone meanwhile, or the peer has reset the stream.
    #[error("{0}")]
    Broken(io::Error),
    /// What came is something else.
    #[error("{0}")]
    NotOne(String),
}

/// Reads ATTACH, and returns it with what has been read behind it.
async fn read_attach(stream: &mut BoxStream) -> Result<(Attach, Bytes), NoAttach> {
    let mut decoder = Decoder::default();
    loop {
        let read = poll_fn(|cx| Pin::new(&mut **stream).poll_read_chunk(cx, READ_LEN));
        let mut input = read.await.map_err(NoAttach::Broken)?;
        if input.is_empty() && decoder.is_between_frames() {
            // An opener may have found another carrier meanwhile.
            return Err(NoAttach::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        if input.is_empty() {
            return Err(NoAttach::NotOne("the stream ended within it".to_owned()));
        }
        // A header ends within its bound, so only a few bytes are kept from one read to the next.
        match decoder.decode(&mut input) {
            Ok(Some(Frame::Attach(attach))) => return Ok((attach, input)),
            Ok(Some(_)) => return Err(NoAttach::NotOne("another frame came first".to_owned())),
            Ok(None) => {}
            Err(error) => return Err(NoAttach::NotOne(error.to_string())),
        }
    }
}

/// Counts a route that has not been decided.
struct Undecided<'a> {
    n_undecided: &'a AtomicUsize,
    is_too_many: bool,
}

impl<'a> Undecided<'a> {
    fn new(n_undecided: &'a AtomicUsize) -> Self {
        let before = n_undecided.fetch_add(1, Ordering::Relaxed);
        Self {
            n_undecided,
            is_too_many: before >= MAX_UNDECIDED,
        }
    }
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        self.n_undecided.fetch_sub(1, Ordering::Relaxed);
    }
}

fn word(status: AttachStatus) -> &'static str {
    match status {
        AttachStatus::Ok => "attached",
        AttachStatus::UnknownStream => "unknown stream",
        AttachStatus::OldGeneration => "old generation",
        AttachStatus::TooManyStreams => "too many streams",
        AttachStatus::NotJoined => "not joined",
    }
}
