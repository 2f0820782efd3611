//! Nothing gets through.

use super::*;

impl Case<'_> {
    /// Nothing gets through: the one reason that explains most.
    pub(super) fn judge_nothing(&self) -> Option<Finding> {
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
                    "Check serverPort; a proxy or another program may be there, or only one end has \
                         TLS (transport.tls) or multiplexing (transport.tcpMux)."
                        .to_owned(),
                config: None,
            });
        }
        if let Some(finding) = self.pinned_udp_is_silent() {
            return Some(finding);
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
                advice: format!(
                    "Check that frps runs and that serverPort is its {}; a firewall that rejects \
                     looks the same.",
                    port_key(&self.report.configured)
                ),
                config: None,
            }
        })
    }

    /// The host is there, since it refuses TCP, and what the configuration wants goes over UDP. That
    /// TCP is refused means nothing: frp has another port for it.
    fn pinned_udp_is_silent(&self) -> Option<Finding> {
        let mut paths = self.report.paths.iter();
        let is_pinned = |path: &&PathReport| path.transport == self.report.configured;
        let pinned = paths.find(|path| is_pinned(path) && path.is_udp)?;
        let mut paths = self.report.paths.iter();
        let is_host_there = paths.any(|path| path.outcome == Outcome::Refused);
        if pinned.outcome != Outcome::Silent || !is_host_there {
            return None;
        }
        let PathReport {
            transport,
            address,
            port,
            ..
        } = pinned;
        Some(Finding {
            kind: "silent",
            text: format!(
                "nothing comes back over {transport} from {address} (UDP), and the host is there: \
                 it refuses TCP at that port"
            ),
            advice: format!(
                "A firewall drops UDP on the way, or frps does not run, or {port} is not its {}. \
                 frp has TCP at a port of its own (bindPort): `frpc doctor --server HOST:BINDPORT \
                 --transport tcp` says whether that gets through.",
                port_key(transport)
            ),
            config: None,
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
}
