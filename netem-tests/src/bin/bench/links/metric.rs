//! The names of values.

/// One value of a cell's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// What arrived at the application once the transfer was under way.
    GoodputMbit,
    /// What arrived in the first two seconds after the user had connected.
    FirstTwoSecondsMbit,
    /// The longest silence of these two seconds.
    FirstGapMs,
    /// Bytes of IP packets sent into the link / bytes that arrived, in the data's direction.
    WireRatio,
    /// CPU seconds of both programs for each GiB that arrived.
    CpuPerGib,
    /// The most memory that `frps` has held.
    FrpsPeakMib,
    /// The most memory that `frpc` has held.
    FrpcPeakMib,
    /// Packets that found the queue full / packets sent into the link, from the first one on.
    OverflowPct,
    /// The most packets that stood in the queue.
    QueuePacketsMax,
    /// The median of the times of all messages or connections.
    P50Ms,
    /// Their 99th percentile.
    P99Ms,
    /// The longest.
    MaxMs,
    /// How many never came.
    NMissing,
    /// Tunnels that were started.
    NStarts,
    /// Of these, how many stalled for more than a second.
    NStalled,
    /// Of these, in how many it was the login.
    NStalledLogins,
    /// The longest time from the client's start to its first proxy.
    LoginMaxMs,
    /// The tunnel's share of what arrived beside a Cubic flow.
    Share,
    /// Packets that the machine was too slow for, of all packets.
    MissedPct,
}

impl Metric {
    /// Returns its name in the results.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::GoodputMbit => "goodput_mbit",
            Self::FirstTwoSecondsMbit => "first_two_seconds_mbit",
            Self::FirstGapMs => "first_gap_ms",
            Self::WireRatio => "wire_ratio",
            Self::CpuPerGib => "cpu_s_per_gib",
            Self::FrpsPeakMib => "frps_peak_mib",
            Self::FrpcPeakMib => "frpc_peak_mib",
            Self::OverflowPct => "overflow_pct",
            Self::QueuePacketsMax => "queue_packets_max",
            Self::P50Ms => "p50_ms",
            Self::P99Ms => "p99_ms",
            Self::MaxMs => "max_ms",
            Self::NMissing => "n_missing",
            Self::NStarts => "n_starts",
            Self::NStalled => "n_stalled",
            Self::NStalledLogins => "n_stalled_logins",
            Self::LoginMaxMs => "login_max_ms",
            Self::Share => "share",
            Self::MissedPct => "missed_pct",
        }
    }

    pub(crate) fn more_is_better(self) -> bool {
        matches!(
            self,
            Self::GoodputMbit | Self::FirstTwoSecondsMbit | Self::Share
        )
    }

    /// Returns what a run in which nothing moved counts as, where it counts.
    pub(crate) fn of_a_stall(self) -> Option<f64> {
        match self {
            Self::GoodputMbit | Self::FirstTwoSecondsMbit | Self::Share => Some(0.0),
            Self::P50Ms | Self::P99Ms | Self::MaxMs => Some(f64::INFINITY),
            _ => None,
        }
    }
}
