//! What follows from what was found. Pure: a report in, findings and notes out.

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

    /// `auto`, where that is not what is configured.
    fn auto_line(&self) -> Option<String> {
        (!self.is_auto()).then(|| "transport.protocol = \"auto\"".to_owned())
    }

    /// Nothing gets through: the one reason that explains most.
    fn judge_nothing(&self) -> Option<Finding> {
        let paths = &self.report.paths;
        if let Some(error) = &self.report.dns.error {
            return Some(Finding {
                kind: "dns",
                text: format!("the name {} is not resolved: {error}", self.report.dns.name),
                advice: "Check serverAddr and this host's resolver (/etc/resolv.conf).".to_owned(),
                config: None,
            });
        }
        let first = |outcome| paths.iter().find(|path| path.outcome == outcome);
        if let Some(path) = first(Outcome::LoginRefused) {
            return Some(Finding {
                kind: "login",
                text: format!("the server refuses the login: {}", path.error),
                advice: "The way there is open. Compare auth.token and user with the server's; \
                         its log says more."
                    .to_owned(),
                config: None,
            });
        }
        if let Some(path) = first(Outcome::Tls) {
            return Some(Finding {
                kind: "tls",
                text: format!("TLS with the server fails: {}", path.error),
                advice: "Compare transport.tls (trustedCaFile, serverName, pin) with the \
                         certificate that the server has; `frps fingerprint` prints its pin."
                    .to_owned(),
                config: None,
            });
        }
        if let Some(path) = first(Outcome::Handshake) {
            return Some(Finding {
                kind: "handshake",
                text: format!(
                    "somebody answers at {}, and not as frps would: {}",
                    path.address, path.error
                ),
                advice:
                    "Check serverPort; a proxy or another program may be there, or one end has \
                         TLS (transport.tls) and the other has not."
                        .to_owned(),
                config: None,
            });
        }
        let server = &self.report.server;
        let all = |outcome| paths.iter().all(|path| path.outcome == outcome);
        Some(if all(Outcome::Silent) {
            Finding {
                kind: "silent",
                text: format!("nothing comes back from {server}, over TCP or UDP"),
                advice:
                    "The host is down, its address is wrong, or a firewall drops everything to \
                         this port."
                        .to_owned(),
                config: None,
            }
        } else if all(Outcome::Unreachable) {
            Finding {
                kind: "unreachable",
                text: format!("this host has no way to {server}"),
                advice: "Check this host's network: address, default route.".to_owned(),
                config: None,
            }
        } else {
            Finding {
                kind: "refused",
                text: format!("nobody listens at {server}: {}", self.failures()),
                advice:
                    "Check that frps runs and that serverPort is its bindPort; a firewall that \
                         rejects looks the same."
                        .to_owned(),
                config: None,
            }
        })
    }

    fn failures(&self) -> String {
        let texts = self
            .report
            .paths
            .iter()
            .map(|path| format!("{} {}", path.transport, outcome_words(path.outcome)));
        let texts: BTreeSet<_> = texts.collect();
        texts.into_iter().collect::<Vec<_>>().join(", ")
    }

    /// Transports that get through nowhere, though the server has them or the configuration asks.
    fn judge_transports(&self, findings: &mut Vec<Finding>, notes: &mut Vec<String>) {
        let mut by_transport: BTreeMap<&str, Vec<&PathReport>> = BTreeMap::new();
        for path in &self.report.paths {
            by_transport.entry(&path.transport).or_default().push(path);
        }
        let told: Vec<_> = self
            .report
            .peer
            .iter()
            .flat_map(|peer| &peer.endpoints)
            .collect();
        let mut blocked: Vec<&PathReport> = Vec::new();
        for (transport, paths) in by_transport {
            if paths.iter().any(|path| path.is_through()) {
                continue;
            }
            let is_told = told.iter().any(|endpoint| endpoint.transport == transport);
            let is_asked_for = self.report.configured == transport
                || self
                    .config
                    .transport
                    .auto
                    .endpoints
                    .iter()
                    .any(|e| e.transport.name() == transport);
            // The last one is at the port that the server has told, if it has.
            let Some(path) = paths.last() else {
                continue;
            };
            if is_told || is_asked_for {
                blocked.push(path);
            } else {
                let why = match told.is_empty() {
                    true => "the server may not have it",
                    false => "the server does not have it open",
                };
                notes.push(format!(
                    "{transport} does not get through ({}); {why}.",
                    outcome_words(path.outcome)
                ));
            }
        }
        let (udp, tcp): (Vec<_>, Vec<_>) = blocked.into_iter().partition(|path| path.is_udp);
        let has_udp = self.works().any(|path| path.is_udp);
        if !udp.is_empty() && !has_udp {
            findings.push(self.udp_blocked(&udp));
        } else {
            findings.extend(udp.iter().map(|path| self.one_blocked(path)));
        }
        findings.extend(tcp.iter().map(|path| self.one_blocked(path)));
    }

    fn udp_blocked(&self, paths: &[&PathReport]) -> Finding {
        let names: Vec<_> = paths
            .iter()
            .map(|path| format!("{} (UDP port {})", path.transport, path.port))
            .collect();
        let is_rejected = paths.iter().all(|path| path.outcome == Outcome::Rejected);
        let ports: BTreeSet<_> = paths.iter().map(|path| path.port.to_string()).collect();
        let ports = ports.into_iter().collect::<Vec<_>>().join(" and ");
        let (kind, what) = match is_rejected {
            true => ("udp_rejected", "a firewall rejects it, by ICMP"),
            false => ("udp_blocked", "nothing comes back"),
        };
        let is_pinned = paths
            .iter()
            .any(|path| path.transport == self.report.configured);
        let works: BTreeSet<_> = self.works().map(|path| path.transport.as_str()).collect();
        let works: Vec<_> = works.into_iter().collect();
        let rest = match (is_pinned, self.is_auto()) {
            (true, _) => "The configuration pins what does not get through.",
            (_, true) => "auto goes over TCP meanwhile, and tries UDP again by itself.",
            (_, false) => "Nothing has to be done for TCP.",
        };
        Finding {
            kind,
            text: format!(
                "UDP is blocked between here and the server: {}: {what}. What gets through: {}",
                names.join(", "),
                works.join(", ")
            ),
            advice: format!(
                "{rest} QUIC and KCP are better on links that lose packets: have UDP to port \
                 {ports} let through, both ways, on this network's firewall and the server's."
            ),
            config: self.auto_line().filter(|_| self.is_holdfast() || is_pinned),
        }
    }

    fn one_blocked(&self, path: &PathReport) -> Finding {
        let is_pinned = path.transport == self.report.configured;
        let (transport, address) = (&path.transport, &path.address);
        Finding {
            kind: "transport_blocked",
            text: format!(
                "{transport} does not get through to {address}: {}{}",
                outcome_words(path.outcome),
                match path.error.as_str() {
                    "" => String::new(),
                    error => format!(" ({error})"),
                }
            ),
            advice: match is_pinned {
                true => "The configuration pins it. Others get through.".to_owned(),
                false => "Others get through, so nothing has to be done.".to_owned(),
            },
            config: is_pinned.then(|| self.auto_line()).flatten(),
        }
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

    /// Loss of the link, told by what counts packets.
    fn judge_loss(&self, findings: &mut Vec<Finding>) {
        let mut worst: Option<(f64, &PathReport, &Measured)> = None;
        for (path, measured) in self.measured().filter(|(path, _)| path.is_udp) {
            let [out, back] = [measured.loss_out_pct, measured.loss_in_pct];
            let Some(loss) = out.into_iter().chain(back).reduce(f64::max) else {
                continue;
            };
            if worst.is_none_or(|(most, ..)| loss > most) {
                worst = Some((loss, path, measured));
            }
        }
        let Some((loss, path, measured)) = worst.filter(|(loss, ..)| *loss >= LOSS_PCT) else {
            return;
        };
        let pct =
            |loss: Option<f64>| loss.map_or_else(|| "?".to_owned(), |loss| format!("{loss:.0}"));
        let advice = match loss >= HEAVY_LOSS_PCT {
            true => {
                "TCP is slow on that with most systems. QUIC and KCP of Holdfast keep the \
                     link's rate; auto uses whichever is best."
            }
            false => "QUIC and KCP of Holdfast keep the link's rate; auto uses whichever is best.",
        };
        findings.push(Finding {
            kind: "loss",
            text: format!(
                "the link loses packets: {} % to the server and {} % back (of {} and {} probes \
                 over {})",
                pct(measured.loss_out_pct),
                pct(measured.loss_in_pct),
                measured.probes_out,
                measured.probes_in,
                path.transport
            ),
            advice: advice.to_owned(),
            config: self.auto_line().filter(|_| self.is_holdfast()),
        });
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
            let pin = tls
                .fingerprint
                .as_ref()
                .map_or_else(String::new, |fingerprint| {
                    format!(
                        " If this is your server ({fingerprint}), this line has it checked: \
                     transport.tls.pin = \"{fingerprint}\""
                    )
                });
            notes.push(format!(
                "TLS encrypts, and nobody checks whose key that is, as in frp by default.{pin}"
            ));
        }
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
