//! What the policy keeps of one carrier, or of the attempt to open it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::words::Purpose;
use crate::path::{PathReport, Tally, TcpControl};

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct Carrier {
    /// Index into the candidates.
    pub(crate) place: usize,
    pub(crate) purpose: Purpose,
    /// When the attempt began.
    pub(crate) dialed_at: Instant,
    /// Whether the server has answered the attempt, so that a login or a join is under way.
    pub(crate) is_answered: bool,
    /// When it had logged in. `None` while it is an attempt.
    pub(crate) live_since: Option<Instant>,
    /// When it came into use.
    used_since: Option<Instant>,
    pub(crate) report: PathReport,
    /// The other end's report.
    pub(crate) peer: Option<PathReport>,
    /// The share that the other end lost of its latest packets, while it had bulk to send.
    peer_loss: f64,
    /// Reports of the last seconds, the newest last.
    pub(crate) recent: VecDeque<(Instant, PathReport)>,
    pub(crate) is_silent: bool,
    /// Stalls say nothing of the carrier before this.
    excused_until: Option<Instant>,
    /// When it was last seen to live.
    pub(crate) last_life: Instant,
    pub(crate) burst: Burst,
    /// Since when nothing was wrong with it.
    pub(crate) good_since: Instant,
    /// How often in a row it was compared with the one in use, and not returned to.
    pub(crate) n_vain_returns: u32,
    /// Heartbeats up to the latest check of `good_since`.
    checked: Tally,
    /// How much padding its latest burst had, and at what rate it arrived.
    pub(crate) burst_bytes: u64,
    pub(crate) measured_rate: Option<f64>,
    /// ICMP refusals since the last authenticated packet.
    pub(crate) n_refusals: u32,
    /// The loss that its congestion control and redundancy were last chosen for.
    pub(crate) adapted_to: Option<f64>,
}

/// What became of the burst that is to show whether a carrier lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Burst {
    /// There was none since the doubt began.
    Unasked,
    UnderWay,
    /// So many probes of it were answered.
    Over(u32),
}

/// What `recent` covers, and its bound: at the bound the oldest is dropped.
const RECENT: Duration = Duration::from_secs(3);
const MAX_RECENT: usize = 64;
/// For how long a report can tell of a stall that is over.
const STALL_MEMORY: Duration = Duration::from_secs(6);
/// Heartbeats after which a standby is found good or not: with fewer, one loss decides.
const CHECK_HEARTBEATS: u64 = 6;

impl Carrier {
    pub(crate) fn new(place: usize, purpose: Purpose, now: Instant) -> Self {
        Self {
            place,
            purpose,
            dialed_at: now,
            is_answered: false,
            live_since: None,
            used_since: None,
            report: PathReport::default(),
            peer: None,
            peer_loss: 0.0,
            recent: VecDeque::new(),
            is_silent: false,
            excused_until: None,
            last_life: now,
            burst: Burst::Unasked,
            good_since: now,
            n_vain_returns: 0,
            checked: Tally::default(),
            burst_bytes: 0,
            measured_rate: None,
            n_refusals: 0,
            adapted_to: None,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live_since.is_some()
    }

    pub(crate) fn handle_report(&mut self, now: Instant, report: &PathReport, loss_threshold: f64) {
        let has_come = report.inbound.total > self.report.inbound.total;
        if has_come {
            self.n_refusals = 0;
            self.last_life = now;
        }
        self.report = *report;
        let is_old = |at: Instant| now.saturating_duration_since(at) > RECENT;
        while self.recent.len() >= MAX_RECENT || self.recent.front().is_some_and(|r| is_old(r.0)) {
            self.recent.pop_front();
        }
        self.recent.push_back((now, *report));

        let heartbeats = report.heartbeats.since(&self.checked);
        if heartbeats.total >= CHECK_HEARTBEATS {
            self.checked = report.heartbeats;
            if heartbeats.share() > loss_threshold {
                self.good_since = now;
            }
        }
    }

    pub(crate) fn handle_peer_report(&mut self, report: &PathReport, samples: u64) {
        let before = self.peer.replace(*report).unwrap_or_default();
        let packets = report.packets.unwrap_or_default();
        let packets = packets.since(&before.packets.unwrap_or_default());
        self.peer_loss = if report.queues.bulk > 0 && packets.total >= samples {
            packets.share()
        } else {
            0.0
        };
    }

    /// The share of data packets that are lost while bulk waits, in the direction that loses more;
    /// 0 where there are fewer than `samples` of them since the earlier report.
    pub(crate) fn bulk_loss(&self, before: &PathReport, samples: u64) -> f64 {
        let packets = self.report.packets.unwrap_or_default();
        let packets = packets.since(&before.packets.unwrap_or_default());
        let has_own = self.report.queues.bulk > 0 && packets.total >= samples;
        let own = if has_own { packets.share() } else { 0.0 };
        own.max(self.peer_loss)
    }

    pub(crate) fn handle_silence(&mut self, now: Instant) {
        self.is_silent = true;
        self.good_since = now;
        // When it lives again the path may be another.
        self.n_vain_returns = 0;
    }

    /// After an outage of everything its stall is not the carrier's fault.
    pub(crate) fn handle_life(&mut self, now: Instant, was_outage: bool) {
        if self.is_silent {
            self.good_since = now;
        }
        if was_outage {
            self.excused_until = Some(now + STALL_MEMORY);
        }
        self.is_silent = false;
        self.last_life = now;
        self.n_refusals = 0;
    }

    /// It comes into use: what was measured of it before says little of what is to come.
    pub(crate) fn begin_use(&mut self, now: Instant) {
        self.used_since = Some(now);
        self.recent.clear();
    }

    pub(crate) fn has_been_used_for(&self, now: Instant, time: Duration) -> bool {
        self.used_since
            .is_some_and(|since| now.saturating_duration_since(since) >= time)
    }

    /// The report that the recent past is compared with: more than a second old.
    pub(crate) fn a_moment_ago(&self, now: Instant) -> Option<&PathReport> {
        let (at, report) = self.recent.front()?;
        (now.saturating_duration_since(*at) >= Duration::from_secs(1)).then_some(report)
    }

    /// What a TCP carrier makes of loss: the worse of both senders. A server that has said nothing
    /// yet counts as this end.
    pub(crate) fn control(&self) -> TcpControl {
        let peer = self.peer.map_or(self.report.control, |peer| peer.control);
        match (self.report.control, peer) {
            (TcpControl::Bbr, TcpControl::Bbr) => TcpControl::Bbr,
            _ => TcpControl::LossBased,
        }
    }

    /// Whether bulk waits at either end.
    pub(crate) fn has_bulk(&self) -> bool {
        self.report.queues.bulk > 0 || self.peer.is_some_and(|peer| peer.queues.bulk > 0)
    }

    /// What is delivered, in the direction in which more is.
    pub(crate) fn delivered(&self) -> u64 {
        let peer = self.peer.map_or(0, |peer| peer.delivered_rate);
        self.report.delivered_rate.max(peer)
    }

    /// The longest stall of either end, but for one that was the whole link's.
    pub(crate) fn stall(&self, now: Instant) -> Duration {
        if self.excused_until.is_some_and(|until| now < until) {
            return Duration::ZERO;
        }
        let peer = self.peer.map_or(Duration::ZERO, |peer| peer.stall);
        self.report.stall.max(peer)
    }
}
