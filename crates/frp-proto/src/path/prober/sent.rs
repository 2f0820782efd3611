//! The probes that were sent and whose fate is open.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::path::probe::Heard;
use crate::path::report::Tally;

/// Probes in flight, with what is known of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct SentProbes {
    probes: VecDeque<SentProbe>,
    /// Asks by whether their echo came in time.
    pub(crate) heartbeats: Tally,
    /// All probes by whether the peer has them.
    pub(crate) outbound: Tally,
}

/// At 40 ms between probes this is ten seconds. At the bound the oldest is given up: a heartbeat
/// whose fate was open counts as lost.
const MAX_SENT: usize = 256;

#[derive(Clone, Copy, Debug)]
struct SentProbe {
    number: u32,
    at: Instant,
    is_ask: bool,
    is_heartbeat_judged: bool,
    is_echoed: bool,
    is_taken_for_lost: bool,
}

/// What one echo has told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Echoed {
    /// When the newest probe that is echoed for the first time was sent.
    pub(crate) newest_sent: Option<Instant>,
    /// A round-trip time, when the echo is of a probe that was not echoed before.
    pub(crate) rtt: Option<Duration>,
    /// How many asks of the burst are echoed for the first time.
    pub(crate) n_burst: u32,
}

impl SentProbes {
    pub(crate) fn push(&mut self, number: u32, at: Instant, is_ask: bool) {
        if self.probes.len() == MAX_SENT {
            self.give_up_oldest();
        }
        self.probes.push_back(SentProbe {
            number,
            at,
            is_ask,
            is_heartbeat_judged: !is_ask,
            is_echoed: false,
            is_taken_for_lost: false,
        });
    }

    /// Takes in what the peer says it has. An echo that comes after `lost_after` is late: the
    /// heartbeat was lost when the time was up, and stays so.
    ///
    /// `burst` is the first number of the burst under way.
    pub(crate) fn handle_heard(
        &mut self,
        now: Instant,
        heard: Heard,
        lost_after: Duration,
        burst: Option<u32>,
    ) -> Echoed {
        let mut echoed = Echoed::default();
        for probe in &mut self.probes {
            if probe.number > heard.last {
                break;
            }
            if probe.is_echoed {
                continue;
            }
            if heard.has(probe.number) != Some(true) {
                if !probe.is_taken_for_lost {
                    probe.is_taken_for_lost = true;
                    self.outbound.add(true);
                }
                continue;
            }
            probe.is_echoed = true;
            if probe.is_taken_for_lost {
                // It was only overtaken.
                self.outbound.lost = self.outbound.lost.saturating_sub(1);
            } else {
                self.outbound.add(false);
            }
            let age = now.saturating_duration_since(probe.at);
            if !probe.is_heartbeat_judged {
                probe.is_heartbeat_judged = true;
                self.heartbeats.add(age >= lost_after);
            }
            echoed.newest_sent = Some(probe.at);
            let is_of_burst = probe.is_ask && burst.is_some_and(|first| probe.number >= first);
            echoed.n_burst += u32::from(is_of_burst);
            if probe.number == heard.last {
                echoed.rtt = age.checked_sub(heard.held);
            }
        }
        self.drop_settled(heard.last);
        echoed
    }

    /// Counts heartbeats whose time is up.
    pub(crate) fn judge(&mut self, now: Instant, lost_after: Duration) {
        for probe in &mut self.probes {
            if now.saturating_duration_since(probe.at) < lost_after {
                break;
            }
            if !probe.is_heartbeat_judged {
                probe.is_heartbeat_judged = true;
                self.heartbeats.add(true);
            }
        }
    }

    /// When the next heartbeat's time will be up.
    pub(crate) fn next_judgement(&self, lost_after: Duration) -> Option<Instant> {
        let open = self
            .probes
            .iter()
            .find(|probe| !probe.is_heartbeat_judged)?;
        Some(open.at + lost_after)
    }

    /// When the first ask was sent after `since`, of those that were not echoed.
    pub(crate) fn first_unanswered(&self, since: Instant) -> Option<Instant> {
        let mut asks = self.probes.iter().filter(|probe| probe.is_ask);
        asks.find(|probe| probe.at > since && !probe.is_echoed)
            .map(|probe| probe.at)
    }

    /// Forgets, from the oldest on, those that no echo can say anything new about.
    fn drop_settled(&mut self, last: u32) {
        while let Some(oldest) = self.probes.front() {
            let is_beyond_bitmap = last.saturating_sub(oldest.number) > 64;
            if !oldest.is_echoed && !is_beyond_bitmap {
                break;
            }
            self.give_up_oldest();
        }
    }

    fn give_up_oldest(&mut self) {
        let Some(oldest) = self.probes.pop_front() else {
            return;
        };
        if !oldest.is_heartbeat_judged {
            self.heartbeats.add(true);
        }
        if !oldest.is_echoed && !oldest.is_taken_for_lost {
            self.outbound.add(true);
        }
    }
}
