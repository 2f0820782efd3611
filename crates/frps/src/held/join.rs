//! Carriers that join a held session, and the streams that come over them.

use std::sync::Arc;
use std::time::Instant;

use frp_core::hold::join::{self, SessionStream};
use frp_core::hold::watch::{self, CarrierWatch, WatchConfig, WatchEvent};
use frp_core::proto::hold::Generation;
use frp_core::proto::hold::frame::{AttachStatus, Attached, Frame};
use frp_core::proto::path::{Pace, ProberConfig, Role};
use frp_core::task;
use frp_core::transports::BoxStream;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout_at;
use tracing::{Instrument, debug, trace};

use super::Held;
use crate::link::Link;
use crate::server::{Server, reject};

/// Answers the join at the front of `stream`. A carrier that has joined is looked after from then
/// on.
pub(crate) async fn answer_join(
    server: &Arc<Server>,
    link: &Arc<Link>,
    stream: BoxStream,
    deadline: Instant,
) {
    let wanted: Arc<Mutex<Option<Arc<Held>>>> = Arc::default();
    let find = {
        let (server, link, wanted) = (Arc::clone(server), Arc::clone(link), Arc::clone(&wanted));
        async move |id| {
            let held = server.held.get(&id)?;
            held.is_begun.cancelled().await;
            // Streams may follow before the answer has gone out. Until the carrier has proven
            // itself, the session itself refuses them.
            if held.carriers.contain(link.id) || !link.belong_to(&held) {
                return None;
            }
            *wanted.lock() = Some(Arc::clone(&held));
            Some(Arc::clone(&held.session))
        }
    };
    let make_room = || {
        if let Some(held) = &*wanted.lock() {
            held.make_room();
        }
    };
    let joining = join::answer_join(stream, &link.carrier, link.id, find, make_room);
    let joined = match timeout_at(deadline.into(), joining).await {
        Ok(Ok((_, stream))) => Ok(stream),
        Ok(Err(refused)) => Err(refused.cause),
        Err(_) => Err("timeout"),
    };
    let held = wanted.lock().take();
    let result = joined.as_ref().map_or_else(|cause| *cause, |_| "ok");
    metrics::counter!("holdfast_joins_total", "result" => result).increment(1);
    match (joined, held) {
        (Ok(stream), Some(held)) => {
            let serving = serve_carrier(Arc::clone(link), held, stream);
            task::spawn("joined carrier", serving);
        }
        (_, held) => {
            // The carrier of a login stays what it is.
            if let Some(held) = held.filter(|held| !held.is_logins(link)) {
                link.part_from(&held);
            }
            // A client of a session that is no more may log in over the same carrier.
            if link.count_refused_join() >= MAX_REFUSED_JOINS && !link.is_admitted() {
                // The answer still goes out, and nothing more is asked here.
                link.carrier.drain();
            }
        }
    }
}

/// Watches a carrier that has joined until it is closed or the session is over.
async fn serve_carrier(link: Arc<Link>, held: Arc<Held>, stream: SessionStream) {
    let Some(owner) = held.owner.upgrade() else {
        return;
    };
    let span = owner.span.clone();
    link.admit();
    link.join();
    owner.touch();
    drop(owner);
    let generation = stream.generation;
    let config = WatchConfig {
        role: Role::Answering,
        prober: ProberConfig::default(),
        pace: Pace::Standby,
    };
    held.carriers.insert(&link, generation);
    // What was decided before it was known here.
    held.recheck.notify_one();
    let Joined { link, held } = &Joined { link, held };
    let (watch, mut events) =
        CarrierWatch::start(&held.session, link.id, &link.carrier, stream, config);
    held.carriers.set_watch(link.id, watch);
    let (kind, peer) = (link.carrier.kind(), link.carrier.peer_addr());
    let watching = async {
        debug!("{kind} from {peer} has joined the session");
        loop {
            // The session's end is the watch's too, once it has said goodbye.
            match events.recv().await {
                Some(WatchEvent::Closed(why)) => {
                    debug!("{kind} from {peer} is gone: {why}");
                    break;
                }
                Some(WatchEvent::Goodbye(reason)) => {
                    debug!("the client says goodbye, reason {}", reason.0);
                }
                Some(event) => trace!("{kind} from {peer}: {event:?}"),
                None => break,
            }
        }
    };
    watching.instrument(span).await;
}

/// A carrier's part in a session. Dropping it, also in a panic, gives it back.
struct Joined {
    link: Arc<Link>,
    held: Arc<Held>,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.held.carriers.remove(self.link.id);
        self.link.part_from(&self.held);
        self.link.leave();
    }
}

/// Takes a carrier's stream that begins with ATTACH. `Some` when it begins a held stream: its
/// first message follows.
pub(crate) async fn serve_route(
    link: &Arc<Link>,
    stream: BoxStream,
    deadline: Instant,
) -> Option<(BoxStream, Arc<Held>)> {
    let Some(held) = link.held() else {
        refuse_route(stream, deadline).await;
        return None;
    };
    let accepting = held.session.accept_route(link.id, stream);
    match timeout_at(deadline.into(), accepting).await {
        Ok(Ok(Some(stream))) => Some((stream, held)),
        Ok(Ok(None)) => None,
        Ok(Err(error)) => {
            debug!("closed a stream of {}: {error}", link.carrier.peer_addr());
            None
        }
        Err(_) => {
            reject("attachment timeout");
            None
        }
    }
}

/// Takes a carrier's stream that carries nothing but a measurement of its rate.
pub(crate) fn answer_padding(link: &Arc<Link>, stream: BoxStream) {
    let has_joined = |held: &Arc<Held>| held.carriers.contain(link.id);
    if link.held().is_some_and(|held| has_joined(&held)) {
        task::spawn("padding", watch::answer_padding(stream));
    } else {
        reject("padding before joining");
    }
}

/// Tells a client that has joined what is seen of its carrier, with padding behind it.
pub(crate) fn answer_mirror(link: &Arc<Link>, stream: BoxStream) {
    let held = link.held().filter(|held| held.carriers.contain(link.id));
    let Some(held) = held else {
        reject("mirror before joining");
        return;
    };
    let peer = link.carrier.peer_addr();
    task::spawn("mirror", async move {
        watch::answer_mirror(stream, peer, &held.allowance).await;
    });
}

/// Tells the peer that this carrier has joined no session.
async fn refuse_route(mut stream: BoxStream, deadline: Instant) {
    reject("attachment before joining");
    let refusal = Attached::refusal(AttachStatus::NotJoined, Generation::default());
    let mut answer = Vec::new();
    Frame::Attached(refusal).put_header(&mut answer);
    let answering = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    // Who does not take it learns it by the end of the stream.
    let _ = timeout_at(deadline.into(), answering).await;
}

/// Joins of a stranger that are refused before its carrier takes no further streams. A client of
/// ours needs one to learn that it has to log in.
const MAX_REFUSED_JOINS: usize = 2;

impl Held {
    /// Gives up a carrier that is silent when there is no place for another one. The one that is
    /// to have it is still to prove itself; what it costs the client is a carrier that is dead.
    fn make_room(&self) {
        let in_use = self.carrier_in_use().map(|(id, _)| id);
        if let Some(link) = self.carriers.to_make_room(in_use) {
            let (kind, peer) = (link.carrier.kind(), link.carrier.peer_addr());
            debug!("{kind} from {peer} is silent and makes room");
            self.session.lose_carrier(link.id);
            link.carrier.close();
        }
    }

    /// Whether this is the carrier that the login came over.
    fn is_logins(&self, link: &Arc<Link>) -> bool {
        let owner = self.owner.upgrade();
        owner.is_some_and(|owner| Arc::ptr_eq(&owner.link, link))
    }
}
