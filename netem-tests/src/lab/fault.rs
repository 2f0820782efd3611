//! What goes wrong on a link beyond its profile: traffic that somebody drops, rejects or polices.
//!
//! Faults are rules of the receiving side's firewall (`nft`), so a packet has passed the link, and
//! the link's counters, before a fault meets it. Only policing is the link's own work where the link
//! can do it ([`Policer`]): the bucket of `nft limit` always holds a second.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{DEVICE, Direction, Place, packet};

/// One thing that goes wrong, in both directions unless it is told otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    traffic: Traffic,
    only: Option<Direction>,
    action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    All,
    Udp,
    Tcp,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Drop { pct: f64 },
    Reject,
    Police { rate_mbit: f64, burst_packets: u32 },
}

impl Fault {
    /// Everything is dropped: the link is dead and says nothing.
    pub fn drop_all() -> Self {
        Self::new(Traffic::All, Action::Drop { pct: 100.0 })
    }

    /// UDP is dropped.
    pub fn drop_udp() -> Self {
        Self::new(Traffic::Udp, Action::Drop { pct: 100.0 })
    }

    /// TCP is dropped.
    pub fn drop_tcp() -> Self {
        Self::new(Traffic::Tcp, Action::Drop { pct: 100.0 })
    }

    /// UDP is answered with "port unreachable".
    pub fn reject_udp() -> Self {
        Self::new(Traffic::Udp, Action::Reject)
    }

    /// UDP above a rate is dropped, and nothing is queued. Up to [`POLICE_BURST_PACKETS`] full
    /// packets pass at once; with real netem, a second's worth more.
    pub fn police_udp(rate_mbit: impl Into<f64>) -> Self {
        Self::new(Traffic::Udp, Action::police(rate_mbit.into()))
    }

    /// As [`Fault::police_udp`], for all packets.
    pub fn police_all(rate_mbit: impl Into<f64>) -> Self {
        Self::new(Traffic::All, Action::police(rate_mbit.into()))
    }

    /// Happens in one direction and not in the other.
    pub fn only(mut self, direction: Direction) -> Self {
        self.only = Some(direction);
        self
    }

    /// Drops so many percent and not all. What is rejected or policed stays as it is.
    pub fn pct(mut self, new_pct: impl Into<f64>) -> Self {
        if let Action::Drop { pct } = &mut self.action {
            *pct = new_pct.into();
        }
        self
    }

    fn new(traffic: Traffic, action: Action) -> Self {
        Self {
            traffic,
            only: None,
            action,
        }
    }

    fn is_on(&self, direction: Direction) -> bool {
        self.only.is_none_or(|only| only == direction)
    }

    /// Returns the rule that a firewall needs for it.
    fn rule(&self) -> String {
        let mut rule = format!("iifname \"{DEVICE}\" ");
        rule.push_str(match self.traffic {
            Traffic::All => "",
            Traffic::Udp => "meta l4proto udp ",
            Traffic::Tcp => "meta l4proto tcp ",
        });
        // Writing into a String cannot fail.
        let _ = match self.action {
            Action::Drop { pct } if pct < 100.0 => {
                write!(rule, "numgen random mod 1000000 < {:.0} drop", pct * 1e4)
            }
            Action::Drop { .. } => write!(rule, "drop"),
            Action::Reject => write!(rule, "reject with icmp type port-unreachable"),
            Action::Police {
                rate_mbit,
                burst_packets,
            } => write!(
                rule,
                "limit rate over {:.0} bytes/second burst {} bytes drop",
                rate_mbit * 1e6 / 8.0,
                burst_packets * 1500
            ),
        };
        rule
    }
}

/// Drops what comes faster than a rate: a bucket of tokens, without a queue.
#[derive(Clone, Debug)]
pub(crate) struct Policer {
    traffic: Traffic,
    bytes_per_second: f64,
    bucket_len: f64,
    tokens: f64,
    filled: Option<Instant>,
}

impl Policer {
    /// Returns the policers of one direction.
    pub(crate) fn of(faults: &[Fault], direction: Direction) -> Vec<Self> {
        faults
            .iter()
            .filter(|fault| fault.is_on(direction))
            .filter_map(|fault| match fault.action {
                Action::Police {
                    rate_mbit,
                    burst_packets,
                } => {
                    let bucket_len = f64::from(burst_packets) * super::MTU as f64;
                    Some(Self {
                        traffic: fault.traffic,
                        bytes_per_second: rate_mbit * 1e6 / 8.0,
                        bucket_len,
                        tokens: bucket_len,
                        filled: None,
                    })
                }
                Action::Drop { .. } | Action::Reject => None,
            })
            .collect()
    }

    /// Says whether a packet may pass at `now`.
    pub(crate) fn passes(&mut self, now: Instant, packet: &[u8]) -> bool {
        let is_meant = match self.traffic {
            Traffic::All => true,
            Traffic::Udp => packet::is_udp(packet),
            Traffic::Tcp => packet::is_tcp(packet),
        };
        if !is_meant {
            return true;
        }
        let since = self
            .filled
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.filled = Some(now);
        let filled = self.tokens + since.as_secs_f64() * self.bytes_per_second;
        self.tokens = filled.min(self.bucket_len);
        let len = packet.len() as f64;
        if self.tokens < len {
            return false;
        }
        self.tokens -= len;
        true
    }
}

impl Action {
    fn police(rate_mbit: f64) -> Self {
        Self::Police {
            rate_mbit,
            burst_packets: POLICE_BURST_PACKETS,
        }
    }
}

/// Makes the firewall of `receiver`, to which packets go in `direction`, do these faults and no
/// others. There is no moment without the faults that stay. Policing is left to the link if that
/// can do it.
pub(crate) fn apply(
    faults: &[Fault],
    direction: Direction,
    receiver: &Place,
    link_polices: bool,
) -> Result<()> {
    let rules_of = |is_reject: bool| -> String {
        faults
            .iter()
            .filter(|fault| fault.is_on(direction))
            .filter(|fault| (fault.action == Action::Reject) == is_reject)
            .filter(|fault| !link_polices || !matches!(fault.action, Action::Police { .. }))
            .fold(String::new(), |rules, fault| rules + &fault.rule() + "\n")
    };
    let script = format!(
        "table inet faults\ndelete table inet faults\ntable inet faults {{\n\
         chain drops {{ type filter hook prerouting priority -300\n{}}}\n\
         chain rejects {{ type filter hook input priority 0\n{}}}\n}}\n",
        rules_of(false),
        rules_of(true)
    );
    receiver.run_with_input("nft", &["-f", "-"], &script)
}

/// How many full packets a policer lets pass at once: what a bucket of an eighth of a second holds
/// at 5 Mbit/s.
pub const POLICE_BURST_PACKETS: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_says_what_the_fault_says() {
        let rules = [
            (Fault::drop_all(), "drop"),
            (Fault::drop_tcp(), "meta l4proto tcp drop"),
            (
                Fault::drop_udp().pct(2.5),
                "meta l4proto udp numgen random mod 1000000 < 25000 drop",
            ),
            (
                Fault::police_all(8),
                "limit rate over 1000000 bytes/second burst 75000 bytes drop",
            ),
        ];

        for (fault, rule) in rules {
            assert_eq!(fault.rule(), format!("iifname \"link\" {rule}"));
        }
    }
}
