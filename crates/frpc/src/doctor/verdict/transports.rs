//! Which transports get through, and why others do not.

use super::super::is_asked_for;
use super::*;

impl Case<'_> {
    /// Transports that get through nowhere, though the server has them or the configuration asks.
    pub(super) fn judge_transports(&self, findings: &mut Vec<Finding>, notes: &mut Vec<String>) {
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
        let mut elsewhere: Vec<&PathReport> = Vec::new();
        for (transport, paths) in by_transport {
            if paths.iter().any(|path| path.is_through()) {
                continue;
            }
            let is_told = told.iter().any(|endpoint| endpoint.transport == transport);
            let is_asked_for = is_asked_for(self.config, transport);
            // The last one is at the port that the server has told, if it has.
            let Some(path) = paths.last() else {
                continue;
            };
            if is_told || is_asked_for {
                blocked.push(path);
            } else if self.is_go() {
                elsewhere.push(path);
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
        self.note_elsewhere(&elsewhere, notes);
        let (udp, tcp): (Vec<_>, Vec<_>) = blocked.into_iter().partition(|path| path.is_udp);
        let has_udp = self.works().any(|path| path.is_udp);
        if !udp.is_empty() && !has_udp {
            findings.push(self.udp_blocked(&udp));
        } else {
            findings.extend(udp.iter().map(|path| self.one_blocked(path)));
        }
        findings.extend(tcp.iter().map(|path| self.one_blocked(path)));
    }

    /// A server of frp has a port for each, and says none of them.
    fn note_elsewhere(&self, paths: &[&PathReport], notes: &mut Vec<String>) {
        let (wss, others): (Vec<&PathReport>, Vec<&PathReport>) =
            paths.iter().partition(|path| path.transport == "wss");
        let mut names: Vec<_> = (others.iter())
            .map(|path| format!("{} ({})", path.transport, outcome_words(path.outcome)))
            .collect();
        for port in &self.report.quic_held_back {
            names.push(format!(
                "quic (not tried: kcp has UDP port {port}, and frp has no two of them on one port)"
            ));
        }
        if !names.is_empty() {
            notes.push(format!(
                "Not to be had at the ports that were tried: {}. frp has bindPort for tcp and \
                 websocket, kcpBindPort and quicBindPort, and does not say which they are. For one \
                 that this server has elsewhere, `frpc doctor --server HOST:PORT --transport NAME` \
                 looks there.",
                names.join(", ")
            ));
        }
        for path in wss {
            notes.push(format!(
                "wss does not get through ({}): frp has it only behind something that ends TLS, as \
                 a web server does.",
                outcome_words(path.outcome)
            ));
        }
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
            (true, _) => self.pinned_words(),
            (_, true) => "auto goes over TCP meanwhile, and tries UDP again by itself.".to_owned(),
            (_, false) => "Nothing has to be done for TCP.".to_owned(),
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
                true => format!("{} Others get through.", self.pinned_words()),
                false => "Others get through, so nothing has to be done.".to_owned(),
            },
            config: is_pinned.then(|| self.auto_line()).flatten(),
        }
    }

    /// What is to be said of a transport that is pinned and does not get through.
    fn pinned_words(&self) -> String {
        let pinned = "The configuration pins what does not get through.";
        match self.is_go() {
            true => format!(
                "{pinned} Check that serverPort is the server's {}.",
                port_key(&self.report.configured)
            ),
            false => pinned.to_owned(),
        }
    }
}
