//! The carriers of one held session, as far as the API and the last word to the client go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frp_core::hold::watch::CarrierWatch;
use frp_core::hold::{CarrierId, Generation};
use frp_core::proto::hold::session::MAX_CARRIERS;
use frp_core::proto::hold::session_frame::GoodbyeReason;
use frp_core::proto::path::PathReport;
use frp_core::transports::TransportKind;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::link::Link;

/// The carriers that have joined.
#[derive(Debug, Default)]
pub(crate) struct Carriers {
    by_id: Mutex<BTreeMap<CarrierId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    link: Arc<Link>,
    generation: Generation,
    /// Not there for the moment in which it starts.
    watch: Option<Arc<CarrierWatch>>,
}

/// One carrier at one moment.
#[derive(Debug)]
pub(crate) struct CarrierState {
    /// By which both ends know it.
    pub(crate) generation: Generation,
    /// Names it in this process.
    pub(crate) id: CarrierId,
    /// Which transport it is.
    pub(crate) kind: TransportKind,
    /// Where it comes from.
    pub(crate) peer: SocketAddr,
    /// What it has been like lately.
    pub(crate) path: Option<PathReport>,
}

impl Carriers {
    /// A carrier has joined, with this number.
    pub(super) fn insert(&self, link: &Arc<Link>, generation: Generation) {
        let entry = Entry {
            link: Arc::clone(link),
            generation,
            watch: None,
        };
        self.by_id.lock().insert(link.id, entry);
    }

    /// A carrier that has joined is watched.
    pub(super) fn set_watch(&self, id: CarrierId, watch: CarrierWatch) {
        if let Some(entry) = self.by_id.lock().get_mut(&id) {
            entry.watch = Some(Arc::new(watch));
        }
    }

    /// With which number the carrier has joined.
    pub(super) fn generation(&self, id: CarrierId) -> Option<Generation> {
        self.by_id.lock().get(&id).map(|entry| entry.generation)
    }

    /// Which carrier has to go so that another one finds a place, if they are as many as may be:
    /// the one that is silent for longest. On a link that comes and goes a client leaves carriers
    /// behind whose last word is lost, and they would be in the way of those it comes back with.
    pub(super) fn to_make_room(&self, in_use: Option<CarrierId>) -> Option<Arc<Link>> {
        let by_id = self.by_id.lock();
        if by_id.len() < MAX_CARRIERS {
            return None;
        }
        let others = by_id.iter().filter(|(id, _)| Some(**id) != in_use);
        let silences = others.filter_map(|(_, entry)| {
            let silence = entry.watch.as_ref()?.report().inbound_silence;
            (silence >= MIN_SILENCE).then_some((silence, &entry.link))
        });
        let longest = silences.max_by_key(|(silence, _)| *silence);
        longest.map(|(_, link)| Arc::clone(link))
    }

    /// A carrier is gone.
    pub(super) fn remove(&self, id: CarrierId) {
        self.by_id.lock().remove(&id);
    }

    /// Whether the carrier has joined already.
    pub(super) fn contain(&self, id: CarrierId) -> bool {
        self.by_id.lock().contains_key(&id)
    }

    /// All of them, in the order in which they came.
    pub(crate) fn list(&self) -> Vec<CarrierState> {
        let by_id = self.by_id.lock();
        let states = by_id.iter().map(|(id, entry)| CarrierState {
            generation: entry.generation,
            id: *id,
            kind: entry.link.carrier.kind(),
            peer: entry.link.carrier.peer_addr(),
            path: entry.watch.as_ref().map(|watch| watch.report()),
        });
        states.collect()
    }

    /// Waits until the goodbye is written on all of them. It is said there because the session is
    /// over.
    pub(super) async fn goodbye(&self, reason: GoodbyeReason) {
        let watches: Vec<_> = {
            let by_id = self.by_id.lock();
            by_id.values().filter_map(|e| e.watch.clone()).collect()
        };
        let mut goodbyes = JoinSet::new();
        for watch in watches {
            goodbyes.spawn(async move { watch.goodbye(reason, GOODBYE_PATIENCE).await });
        }
        while goodbyes.join_next().await.is_some() {}
    }
}

/// A carrier that has been silent for less may come back to life.
const MIN_SILENCE: Duration = Duration::from_secs(2);

/// How long a goodbye may wait to be written. A carrier that takes none is full or dead, and the
/// users behind it should not wait either.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(250);
