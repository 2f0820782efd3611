//! `lossy` as what decides about sending in a KCP session.

use std::fmt;
use std::time::{Duration, Instant};

use kcp_proto::control::{
    AckedSegment, LossCause, LossDetection, LostSegment, SendControl, SentSegment,
};
use kcp_proto::copies::{Copies, CopyPolicy, Piece};
use lossy::redundancy::Redundancy;
use lossy::{Acked, Controller, Lost};

/// Tells a [`Controller`] what a KCP session tells, and counts in segments what it counts in bytes.
///
/// It knows nothing of segments that were under way when it was set: hearing of their end does no
/// harm.
pub struct LossyControl {
    controller: Controller,
    /// Bytes of a full segment on the wire.
    segment_len: u64,
    in_flight: u64,
    reorder_time: Duration,
    /// Losses that may be the beginning of more in a row, and have not been told yet.
    run: Option<Run>,
}

/// Transmissions in a row that are lost. Told one by one, they would pass for as many chances, and
/// what a burst takes for more than chance can explain.
#[derive(Clone, Copy, Debug)]
struct Run {
    lost: Lost,
    last: u64,
    noticed_at: Instant,
}

impl LossyControl {
    /// Starts with nothing known about the path. `segment_len` is what a full segment takes on the
    /// wire, its header included; `max_rate`, in bytes per second, is never exceeded.
    pub fn new(segment_len: u32, max_rate: Option<u64>, now: Instant) -> Self {
        let segment_len = u64::from(segment_len.max(1));
        let config = lossy::Config {
            mtu: segment_len,
            max_rate,
        };
        Self {
            controller: Controller::new(config, now),
            segment_len,
            in_flight: 0,
            reorder_time: MIN_REORDER_TIME,
            run: None,
        }
    }

    /// Returns numbers for metrics and logs.
    pub fn snapshot(&self) -> lossy::Snapshot {
        self.controller.snapshot()
    }

    /// Tells of a run of losses that has ended, or that nothing has been added to for a while.
    fn end_run(&mut self, now: Instant) {
        let is_over =
            |run: &mut Run| now.saturating_duration_since(run.noticed_at) >= MAX_RUN_PAUSE;
        if let Some(run) = self.run.take_if(is_over) {
            self.controller.on_lost(now, run.lost);
        }
    }
}

impl SendControl for LossyControl {
    fn on_sent(&mut self, now: Instant, segment: SentSegment) {
        self.end_run(now);
        self.in_flight += u64::from(segment.n_bytes);
        self.controller.on_sent(now, segment.n_bytes.into());
    }

    fn on_acked(&mut self, now: Instant, segment: AckedSegment) {
        self.in_flight = self.in_flight.saturating_sub(segment.n_bytes.into());
        let acked = Acked {
            sent_at: segment.sent_at,
            bytes: segment.n_bytes.into(),
            is_app_limited: segment.is_app_limited,
            is_exact: segment.is_exact,
        };
        self.controller.on_acked(now, acked);
    }

    fn on_lost(&mut self, now: Instant, segment: LostSegment) {
        self.in_flight = self.in_flight.saturating_sub(segment.n_bytes.into());
        let mut lost = Lost {
            sent_at: segment.sent_at,
            bytes: segment.n_bytes.into(),
            cause: match segment.cause {
                LossCause::Overtaken => lossy::LossCause::Overtaken,
                LossCause::TimedOut => lossy::LossCause::TimedOut,
            },
        };
        if let Some(run) = self.run.take() {
            let is_next = run.last.checked_add(1) == Some(segment.transmission);
            if is_next && run.lost.cause == lost.cause {
                lost.bytes += run.lost.bytes;
            } else {
                self.controller.on_lost(now, run.lost);
            }
        }
        self.run = Some(Run {
            lost,
            last: segment.transmission,
            noticed_at: now,
        });
    }

    fn on_acks_end(&mut self, now: Instant, n_in_flight: u32) {
        self.end_run(now);
        // Segments that were under way before are counted there and not here.
        let at_most = u64::from(n_in_flight) * self.segment_len;
        self.in_flight = self.in_flight.min(at_most);
        self.controller.on_acks_end(now, self.in_flight);
        // A path with jitter gets time for reordering in proportion. A queue of our own that comes and
        // goes is no reason for it: losses noticed late make the rate look higher than it is.
        let path = self.controller.snapshot();
        self.reorder_time = (path.base_rtt / REORDER_SHARE)
            .max(path.roughness * REORDER_ROUGHNESSES)
            .clamp(MIN_REORDER_TIME, MAX_REORDER_TIME);
    }

    fn window(&self) -> u32 {
        let n_segments = self.controller.window() / self.segment_len;
        u32::try_from(n_segments).unwrap_or(u32::MAX)
    }

    fn pacing_rate(&self) -> Option<u64> {
        Some(self.controller.pacing_rate())
    }

    fn loss_detection(&self) -> LossDetection {
        LossDetection::Rack {
            n_reordered: N_REORDERED,
            reorder_time: self.reorder_time,
        }
    }
}

impl fmt::Debug for LossyControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LossyControl")
            .field(&self.snapshot())
            .finish()
    }
}

/// [`Redundancy`] as what decides about copies in a KCP session.
#[derive(Debug)]
pub struct LossyCopies {
    redundancy: Redundancy,
}

impl LossyCopies {
    /// Starts with what a while without interactive data has saved up.
    pub fn new(now: Instant) -> Self {
        Self {
            redundancy: Redundancy::new(now),
        }
    }
}

impl CopyPolicy for LossyCopies {
    fn copies(&mut self, now: Instant, piece: Piece) -> Copies {
        let (bytes, rate) = (piece.n_bytes.into(), piece.rate.unwrap_or(0));
        let (loss, rtt) = (piece.loss, piece.srtt);
        let copies = match piece.is_alone {
            true => self.redundancy.copies(now, bytes, loss, rate, rtt),
            false => {
                let lost = (loss, piece.n_losses);
                self.redundancy.copies_of_lost(now, bytes, lost, rate, rtt)
            }
        };
        Copies {
            n_extra: copies.n_extra,
            spacing: copies.spacing,
        }
    }
}

/// Segments that may overtake before the time counts (RFC 8985 takes DupThresh, 3).
const N_REORDERED: u32 = 3;

/// How long a run of losses may go on unseen: the next segment is noticed within a timer's tick or
/// with the next acknowledgements.
const MAX_RUN_PAUSE: Duration = Duration::from_millis(5);

/// Part of the round trip that is given for reordering: RFC 9002's time threshold.
const REORDER_SHARE: u32 = 8;

/// Mean differences between the round trips of one packet and the next that are given. Evenly
/// distributed delays have three of them between their ends.
const REORDER_ROUGHNESSES: u32 = 4;

/// No timer is finer than that.
const MIN_REORDER_TIME: Duration = Duration::from_millis(1);

/// Beyond it a loss would be noticed by its timeout.
const MAX_REORDER_TIME: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_in_bytes_becomes_one_in_segments() {
        let now = Instant::now();
        let mut control = LossyControl::new(1342, None, now);
        let before = control.window();
        assert_eq!(before, 32);

        for transmission in 0..u64::from(before) {
            let sent = SentSegment {
                transmission,
                n_bytes: 1342,
                is_repeat: false,
                n_in_flight: 1,
            };
            control.on_sent(now, sent);
        }
        let later = now + Duration::from_millis(50);
        for transmission in 0..u64::from(before) {
            let acked = AckedSegment {
                transmission,
                n_bytes: 1342,
                sent_at: now,
                is_exact: true,
                is_app_limited: false,
            };
            control.on_acked(later, acked);
        }
        control.on_acks_end(later, 0);

        assert!(control.window() > before, "it grows by what has arrived");
        assert!(control.pacing_rate().is_some());
    }
}
