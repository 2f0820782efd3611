//! What a session's carriers are like and were like, by transport: for the metrics.
//!
//! A number that only grows goes on growing when a carrier is followed by another one of its
//! transport, so what is gone is added up.

use std::collections::BTreeMap;
use std::sync::Arc;

use frp_proto::hold::CarrierId;
use frp_proto::path::{PathReport, Tally};
use transports::{Carrier, PathStats, TransportKind};

use super::{HeldSession, State};
use crate::hold::watch;

/// The carriers of one transport in one session.
#[derive(Clone, Debug, Default)]
pub struct TransportNumbers {
    /// Those that are there: the one in use first, then the youngest.
    pub live: Vec<CarrierNumbers>,
    /// Counted over these and those that are gone.
    pub totals: Totals,
}

/// One carrier at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct CarrierNumbers {
    /// Whether the session goes over it.
    pub is_in_use: bool,
    /// What probes say; `None` where there are none.
    pub path: Option<PathReport>,
    /// What the transport says.
    pub stats: PathStats,
}

/// What only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Probes that asked for an answer.
    pub heartbeats: Tally,
    /// Probes to the peer.
    pub outbound: Tally,
    /// Probes from the peer.
    pub inbound: Tally,
    /// Data packets to the peer, where the transport counts them.
    pub packets: Option<Tally>,
    /// Bytes of streams that were sent.
    pub bytes_sent: u64,
    /// Bytes of streams that were received.
    pub bytes_received: u64,
    /// See [`PathStats::redundant_sent`].
    pub redundant_sent: Option<u64>,
    /// See [`PathStats::redundant_used`].
    pub redundant_used: Option<u64>,
}

impl CarrierNumbers {
    /// Of a carrier without probes.
    pub fn of_plain(carrier: &Arc<dyn Carrier>) -> Self {
        Self {
            is_in_use: true,
            path: None,
            stats: carrier.path_stats(),
        }
    }

    /// What has been counted on it.
    pub fn totals(&self) -> Totals {
        let path = self.path.unwrap_or_default();
        let packets = self.stats.packets_sent.zip(self.stats.packets_lost);
        Totals {
            heartbeats: path.heartbeats,
            outbound: path.outbound,
            inbound: path.inbound,
            packets: packets.map(|(total, lost)| Tally { total, lost }),
            bytes_sent: self.stats.bytes_sent,
            bytes_received: self.stats.bytes_received,
            redundant_sent: self.stats.redundant_sent,
            redundant_used: self.stats.redundant_used,
        }
    }
}

impl Totals {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, more: &Self) {
        add(&mut self.heartbeats, more.heartbeats);
        add(&mut self.outbound, more.outbound);
        add(&mut self.inbound, more.inbound);
        if let Some(packets) = more.packets {
            add(self.packets.get_or_insert_default(), packets);
        }
        self.bytes_sent += more.bytes_sent;
        self.bytes_received += more.bytes_received;
        for (sum, more) in [
            (&mut self.redundant_sent, more.redundant_sent),
            (&mut self.redundant_used, more.redundant_used),
        ] {
            if let Some(more) = more {
                *sum.get_or_insert_default() += more;
            }
        }
    }
}

fn add(sum: &mut Tally, more: Tally) {
    sum.total += more.total;
    sum.lost += more.lost;
}

impl HeldSession {
    /// Its carriers by transport, those included that are gone.
    pub fn paths(&self) -> BTreeMap<TransportKind, TransportNumbers> {
        let (known, gone, in_use) = {
            let state = self.state.lock();
            let ids = state.carriers.keys().rev();
            let known: Vec<_> = ids
                .filter_map(|id| Some((*id, state.known(*id)?)))
                .collect();
            (known, state.gone.clone(), state.session.in_use())
        };
        let mut paths = BTreeMap::<_, TransportNumbers>::new();
        for (kind, totals) in gone {
            paths.entry(kind).or_default().totals = totals;
        }
        for (id, known) in known {
            let numbers = CarrierNumbers {
                is_in_use: in_use == Some(id),
                ..known.numbers()
            };
            let of_kind = paths.entry(known.carrier.kind()).or_default();
            of_kind.totals.add(&numbers.totals());
            match numbers.is_in_use {
                true => of_kind.live.insert(0, numbers),
                false => of_kind.live.push(numbers),
            }
        }
        paths
    }

    /// A carrier is watched.
    pub(in crate::hold) fn set_watched(&self, id: CarrierId, watch: &Arc<watch::Shared>) {
        let mut state = self.state.lock();
        if state.carriers.contains_key(&id) {
            state.watches.insert(id, Arc::clone(watch));
        }
    }

    /// What was counted on a carrier so far.
    pub(super) fn counted_on(&self, id: CarrierId) -> Option<(TransportKind, Totals)> {
        let known = self.state.lock().known(id)?;
        Some((known.carrier.kind(), known.numbers().totals()))
    }
}

impl State {
    fn known(&self, id: CarrierId) -> Option<Known> {
        Some(Known {
            carrier: Arc::clone(&self.carriers.get(&id)?.held.carrier),
            watch: self.watches.get(&id).cloned(),
        })
    }
}

/// Those to ask about a carrier. They have locks of their own, so they are asked under no other.
struct Known {
    carrier: Arc<dyn Carrier>,
    watch: Option<Arc<watch::Shared>>,
}

impl Known {
    /// What they say. What the carrier has said before counts where it says less: a closed one may
    /// have forgotten.
    fn numbers(&self) -> CarrierNumbers {
        let stats = self.carrier.path_stats();
        let Some((path, before)) = self.watch.as_ref().map(|watch| watch.numbers()) else {
            return CarrierNumbers {
                stats,
                ..CarrierNumbers::default()
            };
        };
        CarrierNumbers {
            is_in_use: false,
            path: Some(path),
            stats: PathStats {
                packets_sent: stats.packets_sent.max(before.packets_sent),
                packets_lost: stats.packets_lost.max(before.packets_lost),
                bytes_sent: stats.bytes_sent.max(before.bytes_sent),
                bytes_received: stats.bytes_received.max(before.bytes_received),
                redundant_sent: stats.redundant_sent.max(before.redundant_sent),
                redundant_used: stats.redundant_used.max(before.redundant_used),
                ..stats
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_and_what_nobody_counts_stays_unknown() {
        let quic = Totals {
            heartbeats: Tally { total: 10, lost: 1 },
            packets: Some(Tally { total: 7, lost: 2 }),
            bytes_sent: 5,
            ..Totals::default()
        };
        let mut sum = Totals::default();
        sum.add(&quic);
        sum.add(&quic);
        sum.add(&Totals::default());
        assert_eq!(sum.heartbeats, Tally { total: 20, lost: 2 });
        assert_eq!(sum.packets, Some(Tally { total: 14, lost: 4 }));
        assert_eq!((sum.bytes_sent, sum.redundant_sent), (10, None));
    }
}
