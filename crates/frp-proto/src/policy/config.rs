//! The policy's numbers, each with its reason.

use std::time::Duration;

use super::words::Transport;

/// What the policy goes by. Each field is a key under `transport.auto`, and its default is the one
/// of this type.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Head start of QUIC before KCP at start. A QUIC handshake over a normal path is over by
    /// then, and no KCP session is begun for nothing.
    pub kcp_after: Duration,
    /// Head start of QUIC before TCP and what runs over it. Where UDP is blocked the start costs
    /// this much more, well under a second.
    pub tcp_after: Duration,
    /// Head start of IPv6 before IPv4, as RFC 8305 has it for names that resolve to both.
    pub ipv4_after: Duration,
    /// Head start of a pinned transport before its fallbacks: three of QUIC's first retransmission
    /// times, so that a lost packet or two does not give the pin away.
    pub fallback_after: Duration,
    /// How long the others are measured after the first login: one window.
    pub start_measure: Duration,
    /// An attempt that is still open after so long is dropped, outside of an outage.
    pub dial_timeout: Duration,
    /// While all is lost: between two attempts at the same candidate. Fresh packets find a link
    /// that has come back sooner than an old attempt's timers, which have backed off.
    pub reconnect_every: Duration,
    /// By what share that varies, so that a server's clients do not come in step.
    pub reconnect_spread: f64,
    /// While all is lost and a new carrier is there: the old one gets twice the round-trip time to
    /// show that it lives too, within these bounds. Streams that need not move are not moved.
    pub old_first: [Duration; 2],
    /// The same on a link that has come back from an outage, or lost a carrier, within the last
    /// half minute: it will do so again, and streams that move each time are worse than a second.
    pub old_first_restless: Duration,
    /// While all is lost: an attempt is dropped after this, or after eight round-trip times.
    pub attempt_timeout: Duration,
    /// Attempts at one candidate at the same time. At the bound the oldest is dropped.
    pub attempts_max: usize,
    /// How long streams are kept without a carrier, unless the server says otherwise.
    pub grace: Duration,
    /// How long the first connect of a program is tried as often as in an outage: who starts a
    /// program watches it.
    pub eager_start: Duration,
    /// The interval of attempts grows by this factor after the grace time, ...
    pub backoff: f64,
    /// ... up to this while the host answers at all (it restarts its server), ...
    pub backoff_max: Duration,
    /// ... and up to this while it does not.
    pub backoff_max_silent: Duration,
    /// Probes in a burst. With the three before it, all are lost by chance in one of 10^6 cases at
    /// 30 % loss each way.
    pub burst_len: u32,
    /// Probes of the short burst that confirms a death. By the time a TCP standby has repaired its
    /// own losses and answered, a burst of loss on the link is over: then these get through.
    pub confirm_len: u32,
    /// Answers of a standby to a burst that stayed unanswered on the carrier in use, below which
    /// nothing is declared dead: one may have slipped through an outage of both.
    pub alive_answers: u32,
    /// Share of heartbeats lost above which a carrier may be left. Random loss of 7 % each way
    /// is below it; what is above, users feel.
    pub loss_threshold: f64,
    /// A window lasts so long at least: shorter ones see single bursts of loss, ...
    pub window: Duration,
    /// ... and has so many heartbeats or packets: the standard error at 15 % is below 6 points.
    pub window_samples: u64,
    /// How much better the other must be: below it, measurements of equal carriers differ by
    /// chance.
    pub better_by: f64,
    /// In how many windows in a row.
    pub wins: u32,
    /// A stall of so long makes a carrier one that may be left: a user sees it.
    pub stall_max: Duration,
    /// Packet loss from which TCP is questioned while bulk waits: at 1 % and 50 ms Cubic carries
    /// 3 Mbit/s.
    pub tcp_loss: f64,
    /// After a comparison without result, the next waits for so long, doubling ...
    pub question_pause: Duration,
    /// ... up to this. What grows clearly worse does not wait.
    pub question_pause_max: Duration,
    /// Padding of one measurement of a standby's rate: more than the token buckets of common
    /// policers, a fifth of a second at 10 Mbit/s.
    pub measure_bytes: u64,
    /// A carrier that was switched to for its quality is kept for so long at least: five windows,
    /// of which the first shows the transfer that grows.
    pub min_stay: Duration,
    /// A standby must have been good for so long before it is returned to, ...
    pub return_after: Duration,
    /// ... doubling each time it is left again, up to this, ...
    pub return_after_max: Duration,
    /// ... forgotten after so long without a switch.
    pub calm: Duration,
    /// Switches for quality within `switch_period`. Deaths do not count.
    pub switches_max: usize,
    /// See `switches_max`.
    pub switch_period: Duration,
    /// A candidate that could not be reached is tried again after this, doubling ...
    pub retry_after: Duration,
    /// ... up to this: no transport is ever given up.
    pub retry_max: Duration,
    /// The same while nobody uses the tunnel: an attempt costs some kilobytes.
    pub retry_max_quiet: Duration,
    /// Without users for so long the tunnel is quiet. As `CadenceConfig::quiet_after`.
    pub quiet_after: Duration,
    /// What is remembered of a candidate is forgotten after so long.
    pub health_life: Duration,
    /// The transports in the order of preference.
    pub preference: Vec<Transport>,
    /// Decide and tell, but change nothing as long as the carrier in use is not closed.
    pub is_dry_run: bool,
}

impl Default for Config {
    fn default() -> Self {
        let secs = Duration::from_secs;
        let millis = Duration::from_millis;
        Self {
            kcp_after: millis(150),
            tcp_after: millis(300),
            ipv4_after: millis(100),
            fallback_after: millis(1000),
            start_measure: secs(3),
            dial_timeout: secs(10),
            reconnect_every: millis(500),
            reconnect_spread: 0.2,
            old_first: [millis(50), millis(250)],
            old_first_restless: millis(1000),
            attempt_timeout: secs(2),
            attempts_max: 4,
            grace: secs(60),
            eager_start: secs(10),
            backoff: 1.5,
            backoff_max: secs(5),
            backoff_max_silent: secs(30),
            burst_len: 12,
            confirm_len: 5,
            alive_answers: 3,
            loss_threshold: 0.15,
            window: secs(3),
            window_samples: 40,
            better_by: 0.25,
            wins: 2,
            stall_max: secs(1),
            tcp_loss: 0.01,
            question_pause: secs(5),
            question_pause_max: secs(60),
            measure_bytes: 256 * 1024,
            min_stay: secs(15),
            return_after: secs(30),
            return_after_max: secs(900),
            calm: secs(1800),
            switches_max: 4,
            switch_period: secs(600),
            retry_after: secs(30),
            retry_max: secs(300),
            retry_max_quiet: secs(3600),
            quiet_after: secs(60),
            health_life: secs(600),
            preference: Transport::ALL.to_vec(),
            is_dry_run: false,
        }
    }
}
