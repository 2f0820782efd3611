//! What becomes of a held session, for the log, the metrics and the API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use frp_core::hold::{CarrierId, Status};
use frp_core::transports::TransportKind;
use tracing::{Instrument, debug, info};

use super::Held;

/// A change of the carrier in use.
#[derive(Clone, Debug)]
pub(crate) struct Switch {
    /// When.
    pub(crate) at: DateTime<Utc>,
    /// What was in use before.
    pub(crate) from: TransportKind,
    /// What is in use since then.
    pub(crate) to: TransportKind,
    /// Why, as far as the server can tell: one of a few words.
    pub(crate) cause: &'static str,
}

/// A kind of switch: there are as many as pairs of transports, times three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Way {
    from: TransportKind,
    to: TransportKind,
    cause: &'static str,
}

/// How often it happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SwitchCount {
    /// Since the session began.
    pub(crate) n: u64,
    /// When it happened last.
    pub(crate) last: DateTime<Utc>,
}

impl Way {
    /// For the metrics.
    pub(crate) fn labels<'a>(&self, client: &'a str) -> [(&'static str, &'a str); 4] {
        [
            ("cause", self.cause),
            ("client", client),
            ("from", self.from.name()),
            ("to", self.to.name()),
        ]
    }
}

/// What was seen last.
#[derive(Debug, Default)]
struct Seen {
    in_use: Option<(CarrierId, TransportKind, SocketAddr)>,
    holding_since: Option<Instant>,
}

impl Held {
    /// Follows the session to its end, and ends that of the login with it.
    pub(super) async fn follow(self: Arc<Self>) {
        let Some(span) = self.owner.upgrade().map(|owner| owner.span.clone()) else {
            return;
        };
        let mut status = self.session.subscribe();
        let following = async {
            let mut seen = Seen::default();
            loop {
                let now = *status.borrow_and_update();
                self.note(now, &mut seen);
                if now.over.is_some() {
                    break;
                }
                tokio::select! {
                    // The sender lives as long as the session, which is held here.
                    _ = status.changed() => {}
                    () = self.recheck.notified() => {}
                }
            }
        };
        following.instrument(span).await;
        if let Some(owner) = self.owner.upgrade()
            && let Some(cause) = self.end_cause()
        {
            owner.end(cause);
        }
    }

    fn note(&self, now: Status, seen: &mut Seen) {
        if let Some(until) = now.holding_until
            && seen.holding_since.is_none()
        {
            seen.holding_since = Some(Instant::now());
            metrics::counter!("holdfast_outages_total").increment(1);
            info!(
                "the client is away: its {} connections are kept for {} s",
                self.session.n_busy_streams(),
                until.saturating_duration_since(Instant::now()).as_secs()
            );
        }
        let Some((id, generation)) = now.in_use else {
            return;
        };
        // Without a word of the client's the first carrier to join is in use. The word follows, and
        // may be for another one.
        if self
            .carriers
            .generation(id)
            .is_none_or(|joined| generation <= joined)
        {
            return;
        }
        if seen.in_use.is_some_and(|(before, ..)| before == id) && seen.holding_since.is_none() {
            return;
        }
        // It may have gone since: then the next change tells of that.
        let Some((_, carrier)) = self.session.carrier_in_use().filter(|now| now.0 == id) else {
            return;
        };
        let (kind, peer) = (carrier.kind(), carrier.peer_addr());
        let away = seen.holding_since.take().map(|since| since.elapsed());
        if let Some(away) = away {
            metrics::histogram!("holdfast_outage_seconds").record(away.as_secs_f64());
        }
        let Some((before, from, from_peer)) = seen.in_use.replace((id, kind, peer)) else {
            debug!("the client uses {kind} from {peer}");
            return;
        };
        if before == id {
            return;
        }
        let cause = match away {
            Some(_) => "outage",
            None if self.carriers.contain(before) => "chosen",
            None => "lost",
        };
        let labels = [
            ("from", from.to_string()),
            ("to", kind.to_string()),
            ("cause", cause.to_owned()),
        ];
        metrics::counter!("holdfast_switches_total", &labels).increment(1);
        let away_ms = away.map(|away| away.as_millis());
        info!(
            away_ms,
            "the client went from {from} ({from_peer}) to {kind} ({peer}): {cause}, {} connections",
            self.session.n_busy_streams()
        );
        let at = Utc::now();
        self.switch_counts
            .lock()
            .entry(Way {
                from,
                to: kind,
                cause,
            })
            .and_modify(|count| {
                count.n += 1;
                count.last = at;
            })
            .or_insert(SwitchCount { n: 1, last: at });
        let mut switches = self.switches.lock();
        if switches.len() >= MAX_SWITCHES {
            switches.pop_front();
        }
        switches.push_back(Switch {
            at,
            from,
            to: kind,
            cause,
        });
    }
}

/// Switches that the API shows of a client: the oldest goes. Enough for an hour of a bad link.
const MAX_SWITCHES: usize = 16;
