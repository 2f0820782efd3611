//! What others want to know of a session.

use std::time::Duration;

use frp_proto::hold::key::{SessionId, SessionKey};
use frp_proto::hold::session::{self, CONTROL_STREAM, EndReason};
use frp_proto::path::Queues;
use tokio::sync::watch;
use transports::Class;

use super::{HeldSession, HoldStats, Status};

/// The longest delay that probes can tell of.
const MAX_DELAY: Duration = Duration::from_secs(3600);

impl HeldSession {
    /// Names it on the wire.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Proves it.
    pub fn key(&self) -> &SessionKey {
        &self.key
    }

    /// Waits for the end. Cancel safe.
    pub async fn over(&self) -> EndReason {
        let mut status = self.subscribe();
        loop {
            if let Some(reason) = status.borrow_and_update().over {
                return reason;
            }
            if status.changed().await.is_err() {
                // The sender is a part of the session, which is borrowed here.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Where it stands.
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// The same, to wait for changes.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Numbers for status and metrics.
    pub fn stats(&self) -> HoldStats {
        let streams = self.state.lock().all_streams();
        let mut stats = HoldStats {
            n_streams: streams.len(),
            kept_bytes: 0,
            replayed_bytes: self.counters.replayed(),
            n_moved: self.counters.n_moved(),
            n_refused: self.counters.n_refused(),
            n_copies_sent: self.counters.n_copies_sent(),
            n_copies_used: self.counters.n_copies_used(),
        };
        for shared in streams {
            let (kept, resent) = shared.look(|inner| (inner.held().kept(), inner.held().resent()));
            stats.kept_bytes += kept;
            stats.replayed_bytes += resent;
        }
        stats
    }

    /// What waits in the streams for being sent and acknowledged, by class, for probes. The control
    /// stream's few bytes are none of the users'.
    pub fn queues(&self) -> Queues {
        let streams = self.state.lock().all_streams();
        let mut queues = Queues::default();
        for shared in streams {
            if shared.id() == CONTROL_STREAM {
                continue;
            }
            let (class, waiting, time) = shared.look(|inner| {
                let held = inner.held();
                (
                    inner.current_class(),
                    held.unacknowledged(),
                    held.time_to_send(),
                )
            });
            if class == Class::Bulk {
                queues.bulk += waiting;
                let time = time.unwrap_or_default().min(MAX_DELAY);
                queues.delay = queues.delay.max(time);
            } else {
                queues.interactive += waiting;
            }
        }
        queues
    }

    /// How many of its streams users are on. For the pace of probes.
    pub fn n_busy_streams(&self) -> usize {
        self.usage.n_users()
    }

    /// The same, to wait for changes.
    pub fn subscribe_users(&self) -> watch::Receiver<usize> {
        self.usage.subscribe()
    }

    /// Payload that has passed in both directions in streams that users are on, and as datagrams of
    /// users: what tells a used tunnel from an idle one.
    pub fn user_bytes(&self) -> u64 {
        self.usage.bytes()
    }

    pub(in crate::hold) fn note_user_bytes(&self, n_bytes: usize) {
        self.usage.note(n_bytes);
    }

    /// Whether a stream, the control stream too, has something that is not acknowledged.
    pub(in crate::hold) fn streams_wait(&self) -> bool {
        let streams = self.state.lock().all_streams();
        let mut streams = streams.iter();
        streams.any(|shared| shared.look(|inner| inner.held().unacknowledged()) > 0)
    }

    /// Something of the peer's was refused.
    pub(in crate::hold) fn refuse(&self, cause: &'static str) {
        self.counters.refuse(cause);
    }
}

/// A class's place in the order of moving.
pub(super) fn place(class: Class) -> session::Class {
    match class {
        Class::Control => session::Class::Control,
        Class::Interactive => session::Class::Interactive,
        Class::Bulk => session::Class::Bulk,
    }
}
