//! What follows from what was found. Pure: a report in, findings and notes out.

mod loss;
mod nothing;
mod transports;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use frp_core::config::{ClientConfig, Protocol};
use frp_core::terminal;

use super::report::{Finding, Measured, Outcome, PathReport, Report};

/// Puts findings, notes and the verdict into `report`.
pub(super) fn judge(report: &mut Report, config: &ClientConfig) {
    let case = Case { report, config };
    let mut findings = Vec::new();
    let mut notes = Vec::new();
    let is_through = case.works().next().is_some();
    if is_through {
        case.judge_transports(&mut findings, &mut notes);
        case.judge_addresses(&mut findings, &mut notes);
        case.judge_loss(&mut findings);
        case.judge_rates(&mut findings, &mut notes);
        case.judge_distance(&mut notes);
        case.judge_size(&mut findings);
        case.judge_translation(&mut findings, &mut notes);
        case.judge_clock(&mut findings);
        case.judge_peer(&mut notes);
    } else {
        findings.extend(case.judge_nothing());
    }
    case.judge_names(&mut findings);
    case.judge_trust(&mut findings, &mut notes);
    report.verdict = match (is_through, findings.is_empty()) {
        (false, _) => "nothing",
        (true, true) => "fine",
        (true, false) => "findings",
    };
    (report.findings, report.notes) = (findings, notes);
}

struct Case<'a> {
    report: &'a Report,
    config: &'a ClientConfig,
}

impl Case<'_> {
    fn works(&self) -> impl Iterator<Item = &PathReport> {
        self.report.paths.iter().filter(|path| path.is_through())
    }

    fn measured(&self) -> impl Iterator<Item = (&PathReport, &Measured)> {
        self.works()
            .filter_map(|path| Some((path, path.measured.as_ref()?)))
    }

    fn is_auto(&self) -> bool {
        self.config.transport.protocol == Protocol::Auto
    }

    fn is_holdfast(&self) -> bool {
        self.report
            .peer
            .as_ref()
            .is_some_and(|peer| peer.is_holdfast)
    }

    /// Whether the server is known to be frp's own.
    fn is_go(&self) -> bool {
        self.report.peer.is_some() && !self.is_holdfast()
    }

    /// `auto`, where that is not what is configured.
    fn auto_line(&self) -> Option<String> {
        (!self.is_auto()).then(|| "transport.protocol = \"auto\"".to_owned())
    }

    /// Addresses at which nothing works while another one does.
    fn judge_addresses(&self, findings: &mut Vec<Finding>, notes: &mut Vec<String>) {
        for address in &self.report.dns.addresses {
            let is_of = |path: &&PathReport| {
                let parsed = path.address.parse::<SocketAddr>();
                parsed.is_ok_and(|parsed| parsed.ip().to_string() == *address)
            };
            let paths: Vec<_> = self.report.paths.iter().filter(is_of).collect();
            if paths.is_empty() || paths.iter().any(|path| path.is_through()) {
                continue;
            }
            if paths
                .iter()
                .all(|path| path.outcome == Outcome::Unreachable)
            {
                notes.push(format!(
                    "The server has the address {address} as well, to which this host has no way."
                ));
                continue;
            }
            findings.push(Finding {
                kind: "address",
                text: format!(
                    "DNS gives the address {address} for the server, and nothing gets through \
                     there ({})",
                    outcome_words(paths[0].outcome)
                ),
                advice: "Repair that address or take its record away: each connection may try it \
                         first and lose a quarter of a second."
                    .to_owned(),
                config: None,
            });
        }
    }

    /// Whether the probes are lost too, which a policer leaves alone: they are few and small. On such
    /// a link short bursts of either tell little.
    fn is_lossy(&self) -> bool {
        self.measured().any(|(_, measured)| {
            let losses = [measured.loss_out_pct, measured.loss_in_pct];
            losses.into_iter().flatten().any(|loss| loss >= LOSS_PCT)
        })
    }

    /// UDP that gets much less than TCP is policed.
    fn judge_rates(&self, findings: &mut Vec<Finding>, notes: &mut Vec<String>) {
        for (direction, rate) in [
            (
                "to the server",
                (|m: &Measured| m.rate_out) as fn(&Measured) -> Option<u64>,
            ),
            ("from the server", |m: &Measured| m.rate_in),
        ] {
            let best = |is_udp: bool| {
                let rates = self.measured().filter(|(path, _)| path.is_udp == is_udp);
                rates.filter_map(|(_, measured)| rate(measured)).max()
            };
            let (Some(udp), Some(tcp)) = (best(true), best(false)) else {
                continue;
            };
            if udp.saturating_mul(POLICED_FACTOR) < tcp && !self.is_lossy() {
                findings.push(Finding {
                    kind: "udp_policed",
                    text: format!(
                        "UDP {direction} gets {}, TCP {}: somebody on the way holds UDP down",
                        terminal::rate(udp),
                        terminal::rate(tcp)
                    ),
                    advice:
                        "auto finds that out when there is traffic, and goes over TCP. Without \
                             it, pin TCP."
                            .to_owned(),
                    config: match self.is_holdfast() {
                        true => self.auto_line(),
                        false => Some("transport.protocol = \"tcp\"".to_owned()),
                    },
                });
            } else if tcp.saturating_mul(POLICED_FACTOR) < udp {
                notes.push(format!(
                    "TCP {direction} gets {} in a short burst, UDP {}.",
                    terminal::rate(tcp),
                    terminal::rate(udp)
                ));
            }
        }
    }

    fn judge_distance(&self, notes: &mut Vec<String>) {
        let rtts = self
            .measured()
            .filter_map(|(_, measured)| measured.rtt_min_ms);
        let Some(rtt) = rtts.reduce(f64::min).filter(|rtt| *rtt >= FAR_MS) else {
            return;
        };
        notes.push(format!(
            "The server is far: {rtt:.0} ms there and back. Every new connection of a user waits \
             for that at least once; transport.poolCount = 5 takes one wait away."
        ));
    }

    fn judge_size(&self, findings: &mut Vec<Finding>) {
        // QUIC begins with what every path takes, and finds more while megabytes pass.
        let sizes = self
            .measured()
            .filter(|(_, measured)| measured.rate_out.is_some())
            .filter_map(|(path, measured)| Some((path, measured.mtu?)));
        let Some((path, mtu)) = sizes
            .filter(|(path, _)| path.is_udp)
            .min_by_key(|(_, mtu)| *mtu)
        else {
            return;
        };
        if mtu < SMALL_MTU {
            findings.push(Finding {
                kind: "mtu",
                text: format!(
                    "no packet of more than {mtu} bytes got through over {}",
                    path.transport
                ),
                advice: "A tunnel or PPPoE on the way may have a smaller MTU and drop what is \
                         longer; QUIC finds its size by itself."
                    .to_owned(),
                config: None,
            });
        }
    }

    fn judge_translation(&self, findings: &mut Vec<Finding>, notes: &mut Vec<String>) {
        let mut seen: BTreeMap<bool, BTreeSet<String>> = BTreeMap::new();
        let mut translated = None;
        for (_, measured) in self.measured() {
            let parse = |text: &Option<String>| text.as_ref()?.parse::<SocketAddr>().ok();
            let Some(there) = parse(&measured.seen_address) else {
                continue;
            };
            let addresses = seen.entry(there.is_ipv6()).or_default();
            addresses.insert(there.ip().to_string());
            if let Some(here) = parse(&measured.local_address)
                && here.ip() != there.ip()
                && !here.ip().is_unspecified()
            {
                translated.get_or_insert((here.ip(), there.ip()));
            }
        }
        if let Some((here, there)) = translated {
            notes.push(format!(
                "A NAT stands in between: this host is {here}, the server sees {there}."
            ));
        }
        for addresses in seen.values().filter(|addresses| addresses.len() > 1) {
            let list: Vec<_> = addresses.iter().map(String::as_str).collect();
            findings.push(Finding {
                kind: "nat",
                text: format!(
                    "the server sees this host under several addresses: {}",
                    list.join(", ")
                ),
                advice: "A NAT with a pool of addresses changes them from connection to \
                         connection. Between Holdfasts that does no harm; do not allow the client \
                         by its address on the server's firewall."
                    .to_owned(),
                config: None,
            });
        }
    }

    fn judge_clock(&self, findings: &mut Vec<Finding>) {
        let mut clocks = self
            .measured()
            .filter_map(|(_, measured)| measured.clock_ahead_ms);
        let Some(ahead) = clocks.next().filter(|ahead| ahead.abs() >= CLOCK_MS) else {
            return;
        };
        let seconds = ahead.abs() / 1000;
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        findings.push(Finding {
            kind: "clock",
            text: format!("the server's clock is {seconds} s {side} this host's"),
            advice: "Login by token does not depend on it, but a login that is older than the one \
                     before is taken for a recording, certificates seem expired or not valid yet, \
                     and logs of both ends do not fit together. Set both clocks by NTP."
                .to_owned(),
            config: None,
        });
    }

    fn judge_peer(&self, notes: &mut Vec<String>) {
        let Some(peer) = &self.report.peer else {
            return;
        };
        if !peer.is_holdfast {
            notes.push(format!(
                "The server is frp {}: connections end with the one to the server, and loss of each \
                 way, rates, clock and address translation can be measured towards a Holdfast only.",
                peer.frp_version
            ));
        } else if !peer.holds {
            notes.push(
                "The server holds no connections: transport.hold is off at one end, or there is no \
                 TLS or no multiplexing (transport.tcpMux)."
                    .to_owned(),
            );
        }
    }

    fn judge_names(&self, findings: &mut Vec<Finding>) {
        let dns = &self.report.dns;
        if dns.is_name && dns.error.is_none() && dns.time_ms >= SLOW_DNS_MS {
            findings.push(Finding {
                kind: "dns_slow",
                text: format!("resolving {} took {:.1} s", dns.name, dns.time_ms / 1000.0),
                advice: "Each reconnect waits for it. Look at this host's resolver: the first \
                         server in /etc/resolv.conf may be dead."
                    .to_owned(),
                config: None,
            });
        }
    }

    fn judge_trust(&self, findings: &mut Vec<Finding>, notes: &mut Vec<String>) {
        let Some(tls) = &self.report.tls else {
            return;
        };
        if let Some(days) = tls.expires_in_days.filter(|days| *days < EXPIRES_SOON_DAYS) {
            findings.push(Finding {
                kind: "certificate",
                text: match days {
                    ..0 => "the server's certificate has expired".to_owned(),
                    days => format!("the server's certificate expires in {days} days"),
                },
                advice: "Renew it on the server. Clients that check it (trustedCaFile) will not \
                         connect any more."
                    .to_owned(),
                config: None,
            });
        }
        if tls.checked_by == "nothing" {
            let print = tls.fingerprint.as_deref().unwrap_or_default();
            let pin = match (print, self.is_go()) {
                ("", _) => String::new(),
                // Pinned without being told of that, it would be refused after the next start.
                (_, true) => format!(
                    " A server of frp makes a new key with each start, unless its \
                     transport.tls.certFile names one. If it does and this is your server \
                     ({print}), this line has it checked: transport.tls.pin = \"{print}\""
                ),
                (_, false) => format!(
                    " If this is your server ({print}), this line has it checked: \
                     transport.tls.pin = \"{print}\""
                ),
            };
            notes.push(format!(
                "TLS encrypts, and nobody checks whose key that is, as in frp by default.{pin}"
            ));
        }
    }
}

/// The key of the server's configuration that says at which port it has a transport.
fn port_key(transport: &str) -> &'static str {
    match transport {
        "quic" => "quicBindPort",
        "kcp" => "kcpBindPort",
        _ => "bindPort",
    }
}

/// How it ended, in words.
pub(super) fn outcome_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Works => "works",
        Outcome::Refused => "refused",
        Outcome::Rejected => "rejected by ICMP",
        Outcome::Silent => "no answer",
        Outcome::Unreachable => "no way there",
        Outcome::Tls => "TLS fails",
        Outcome::Handshake => "handshake fails",
        Outcome::LoginRefused => "login refused",
    }
}

/// Loss from which a link is called lossy: what a good link has is far below it, and of 80 probes
/// chance takes two now and then.
const LOSS_PCT: f64 = 3.0;

/// From here on Cubic TCP has a small part of the link only.
const HEAVY_LOSS_PCT: f64 = 5.0;

/// A difference of rates that short bursts do not explain.
const POLICED_FACTOR: u64 = 3;

/// A round trip from which people feel the distance.
const FAR_MS: f64 = 150.0;

/// Below what IPv6 asks of every link, with what IPv4 tunnels take off it.
const SMALL_MTU: u16 = 1280;

/// A difference of clocks that is one.
const CLOCK_MS: i64 = 30_000;

/// A resolver that is slower has something wrong with it.
const SLOW_DNS_MS: f64 = 1000.0;

/// Time enough to renew a certificate.
const EXPIRES_SOON_DAYS: i64 = 14;

#[cfg(test)]
mod tests;
