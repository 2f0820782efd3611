//! `frpc doctor`: tries every way to the server, and says what is blocked and what to configure.
//!
//! 1. [`names`]: what DNS says of the server, and how fast.
//! 2. [`reach`]: each transport at each address, all at once: whether it gets through, or how not.
//! 3. [`measure`]: a login over each that does, one after the other, and what the path is like.
//! 4. [`trust`]: the certificate that the server shows.
//! 5. [`verdict`]: what follows from all that; pure. [`page`]: the [`report`] for people.
//!
//! It logs in under an identity of its own, publishes nothing and keeps nothing, so that a frpc with
//! the same configuration is not disturbed. Every wait is bounded.

mod measure;
mod names;
mod page;
mod reach;
mod report;
mod target;
mod trust;
mod verdict;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frp_core::config::{ClientConfig, Protocol, load_client, resolve_token};
use frp_core::terminal::{Paint, Progress, now_ms, print};
use frp_core::transports::{Endpoint, TransportKind};

use crate::cli::{DoctorFlags, GlobalFlags};
use crate::context::{Context, hostname};
use crate::recovery::service::instance;
use crate::runtime::runtime;
use reach::Reach;
use report::{Outcome, PathReport, Report};
use target::Target;

/// The command line or the configuration makes no sense.
const USAGE: u8 = 2;

/// Runs the command and returns its exit code.
pub(crate) fn run(global: &GlobalFlags, flags: &DoctorFlags) -> u8 {
    let refuse = |error: &dyn std::fmt::Display| {
        print(&format!("{error}\n"));
        USAGE
    };
    let mut config = match load_client(&global.config, &global.load_options()) {
        Ok(loaded) => loaded.config,
        Err(errors) => return refuse(&errors),
    };
    if let Some(server) = &flags.server
        && let Err(error) = set_server(&mut config, server)
    {
        return refuse(&error);
    }
    let exam = match Exam::new(config, flags) {
        Ok(exam) => exam,
        Err(error) => return refuse(&error),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error),
    };
    let report = runtime.block_on(exam.run());
    // A name that is being resolved must not hold up the end.
    runtime.shutdown_background();
    match flags.json {
        true => {
            // Nothing in a report can fail to be written.
            let text = serde_json::to_string(&report).unwrap_or_default();
            print(&format!("{text}\n"));
        }
        false => {
            print(&page::page(&report, Paint::for_stdout()));
        }
    }
    report.exit_code()
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]:PORT`, or an address of IPv6 as it is.
fn set_server(config: &mut ClientConfig, server: &str) -> Result<(), String> {
    let bare = |text: &str| {
        text.trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned()
    };
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (server, None),
    };
    if bare(host).is_empty() {
        return Err(format!("--server {server}: there is no host in it"));
    }
    config.server_addr = bare(host);
    if let Some(port) = port {
        let parsed = port.parse().ok().filter(|port| *port != 0);
        config.server_port =
            parsed.ok_or_else(|| format!("--server {server}: {port:?} is no port"))?;
    }
    Ok(())
}

/// What is to be looked at.
struct Exam {
    config: ClientConfig,
    context: Arc<Context>,
    kinds: Vec<TransportKind>,
    is_quick: bool,
    progress: Progress,
}

impl Exam {
    fn new(mut config: ClientConfig, flags: &DoctorFlags) -> Result<Self, String> {
        let token = resolve_token(&config.auth).map_err(|error| error.to_string())?;
        // Nothing is published, and who logs in is nobody that the server knows.
        config.proxies.clear();
        config.visitors.clear();
        let configured = config.clone();
        config.client_id.clear();
        config.transport.pool_count = 0;
        config.transport.dial_server_timeout = DIAL_TIMEOUT;
        config.transport.auto.prober.cadence.in_use = PROBE_EVERY;
        if config.transport.tls.server_name.is_none() {
            // Addresses are dialled, and the certificate is for the name.
            config.transport.tls.server_name = Some(config.server_addr.clone());
        }
        let kinds = match flags.transport.is_empty() {
            true => ALL.to_vec(),
            false => flags.transport.clone(),
        };
        Ok(Self {
            config: configured,
            context: Arc::new(Context {
                config: Arc::new(config),
                token,
                hostname: hostname(),
                instance: instance()?,
                last_login: Default::default(),
                health: Default::default(),
            }),
            kinds,
            is_quick: flags.quick,
            progress: Progress::new(false),
        })
    }

    async fn run(&self) -> Report {
        let host = self.config.server_addr.clone();
        let mut report = Report {
            format: report::FORMAT,
            at_ms: now_ms(),
            server: Endpoint {
                host: host.clone(),
                port: self.config.server_port,
            }
            .to_string(),
            configured: match self.config.transport.protocol {
                Protocol::Auto => "auto".to_owned(),
                Protocol::Pinned(kind) => kind.to_string(),
            },
            ..Report::default()
        };
        self.progress.say(&format!("resolving {host}"));
        report.dns = names::resolve(&host).await;
        let targets = self.targets(&report.dns.addresses, &[]);
        let (later, now) = part_quic_beside_kcp(targets);
        report.paths = self.look_at(&now).await;
        self.measure(&mut report).await;
        self.look_at_quic(&mut report, later).await;
        self.look_elsewhere(&mut report).await;
        let place = |path: &PathReport| ALL.iter().position(|kind| kind.name() == path.transport);
        report.paths.sort_by_key(place);
        self.progress.say("looking at the certificate");
        report.tls = trust::look(&self.context.config, &report).await;
        self.progress.done();
        verdict::judge(&mut report, &self.config);
        report
    }

    /// Each transport at each address; only those at the ports that the server has told, if it has.
    fn targets(&self, addresses: &[String], told: &[(String, u16)]) -> Vec<Target> {
        let config = &self.context.config;
        let is_proxied = config.transport.proxy_url.is_some();
        let addresses = addresses.iter().take(MAX_ADDRESSES);
        let addresses: Vec<std::net::IpAddr> = addresses
            .filter_map(|address| address.parse().ok())
            .collect();
        let mut targets = Vec::new();
        for &kind in &self.kinds {
            let is_udp = matches!(kind, TransportKind::Quic | TransportKind::Kcp);
            let configured = config.transport.auto.endpoints.iter();
            let configured = configured.clone().find(|e| e.transport == kind);
            let guessed = configured.map_or(config.server_port, |e| e.port);
            let mut ports = BTreeSet::new();
            match told {
                [] => {
                    ports.insert(guessed);
                }
                told => ports.extend(
                    told.iter()
                        .filter(|(name, port)| name == kind.name() && *port != guessed)
                        .map(|(_, port)| *port),
                ),
            }
            for port in ports {
                if is_proxied && !is_udp {
                    // The proxy resolves the name.
                    targets.push(Target {
                        kind,
                        host: config.server_addr.clone(),
                        port,
                        address: None,
                    });
                    continue;
                }
                targets.extend(addresses.iter().map(|ip| Target {
                    kind,
                    // What stands before a server of the web wants to hear its name.
                    host: match addresses.len() {
                        1 => config.server_addr.clone(),
                        _ => ip.to_string(),
                    },
                    port,
                    address: Some(SocketAddr::new(*ip, port)),
                }));
            }
        }
        targets
    }

    /// QUIC at ports that were asked for KCP before. Where that is a server of frp and answers, QUIC
    /// is not there, and asking would be heard as the beginning of one more KCP session: for ten
    /// seconds frp's server then lets nobody else in over KCP.
    async fn look_at_quic(&self, report: &mut Report, later: Vec<Target>) {
        let is_go = report.peer.as_ref().is_some_and(|peer| !peer.is_holdfast);
        let is_asked_for = is_asked_for(&self.config, TransportKind::Quic.name());
        let mut targets = later;
        if is_go && !is_asked_for {
            let has_kcp = |target: &Target| {
                let mut paths = report.paths.iter().filter(|path| path.is_through());
                paths.any(|path| (path.target.as_ref()).is_some_and(|kcp| target.is_kcp_port(kcp)))
            };
            let (held_back, others): (Vec<_>, _) = targets.into_iter().partition(has_kcp);
            report.quic_held_back = held_back.iter().map(|target| target.port).collect();
            targets = others;
        }
        if targets.is_empty() {
            return;
        }
        let more = self.look_at(&targets).await;
        report.paths.extend(more);
        self.measure(report).await;
    }

    async fn look_at(&self, targets: &[Target]) -> Vec<PathReport> {
        let n = targets.len();
        self.progress.say(&format!("trying {n} ways to the server"));
        reach::all(&self.context.config, targets)
            .await
            .into_iter()
            .map(|reach| self.path(reach))
            .collect()
    }

    fn path(&self, reach: Reach) -> PathReport {
        let Reach {
            target,
            outcome,
            error,
            handshake,
        } = reach;
        PathReport {
            transport: target.kind.name().to_owned(),
            address: match target.address {
                Some(address) => address.to_string(),
                None => format!("{}:{} through the proxy", target.host, target.port),
            },
            port: target.port,
            is_ipv6: target.address.is_some_and(|address| address.is_ipv6()),
            is_udp: matches!(target.kind, TransportKind::Quic | TransportKind::Kcp),
            outcome,
            error,
            handshake_ms: handshake.map(report::millis),
            target: Some(target),
            ..PathReport::default()
        }
    }

    /// Logs in over every path that gets through, one after the other. What is measured of one with
    /// all its traffic is measured once for each transport and family.
    async fn measure(&self, report: &mut Report) {
        let mut done = BTreeSet::new();
        let n_reached = report.paths.iter().filter(|path| path.is_through()).count();
        let mut number = 0;
        for path in &mut report.paths {
            if !path.is_through() || path.measured.is_some() {
                continue;
            }
            number += 1;
            self.progress.say(&format!(
                "measuring {} at {} ({number} of {n_reached})",
                path.transport, path.address
            ));
            let is_first = done.insert((path.transport.clone(), path.is_ipv6));
            // WebSocket goes the way of TCP.
            let is_own = matches!(path.transport.as_str(), "quic" | "kcp" | "tcp");
            let depth = measure::Depth {
                has_rates: is_first && is_own && !self.is_quick,
                is_quick: self.is_quick || !is_own,
            };
            let looked = measure::measure(&self.context, path, depth);
            match tokio::time::timeout(PATH_TIMEOUT, Box::pin(looked)).await {
                Ok(Some(peer)) => report.peer = report.peer.take().or(Some(peer)),
                Ok(None) => {}
                Err(_) => {
                    path.outcome = Outcome::Silent;
                    "the measurement was not done in time".clone_into(&mut path.error);
                }
            }
        }
    }

    /// A Holdfast says where else it can be reached.
    async fn look_elsewhere(&self, report: &mut Report) {
        let told = report.peer.as_ref().map(|peer| peer.endpoints.clone());
        let told: Vec<_> = told.unwrap_or_default();
        if told.is_empty() {
            return;
        }
        let endpoints: Vec<_> = told.into_iter().map(|e| (e.transport, e.port)).collect();
        let targets = self.targets(&report.dns.addresses, &endpoints);
        if targets.is_empty() {
            return;
        }
        let more = self.look_at(&targets).await;
        report.paths.extend(more);
        self.measure(report).await;
    }
}

/// Parts the ways over QUIC whose port is tried for KCP as well from all others.
fn part_quic_beside_kcp(targets: Vec<Target>) -> (Vec<Target>, Vec<Target>) {
    let kcp: Vec<_> = targets
        .iter()
        .filter(|t| t.kind == TransportKind::Kcp)
        .cloned()
        .collect();
    targets.into_iter().partition(|target| {
        target.kind == TransportKind::Quic && kcp.iter().any(|kcp| target.is_kcp_port(kcp))
    })
}

/// Whether the configuration names a transport, so that it should get through.
fn is_asked_for(config: &ClientConfig, transport: &str) -> bool {
    let is_pinned = match config.transport.protocol {
        Protocol::Pinned(kind) => kind.name() == transport,
        Protocol::Auto => false,
    };
    let mut endpoints = config.transport.auto.endpoints.iter();
    is_pinned || endpoints.any(|endpoint| endpoint.transport.name() == transport)
}

/// In the order of the report.
const ALL: [TransportKind; 5] = [
    TransportKind::Quic,
    TransportKind::Kcp,
    TransportKind::Tcp,
    TransportKind::Websocket,
    TransportKind::Wss,
];

/// Addresses of a name that are tried. A name with more is one of a large service, and those say
/// enough.
const MAX_ADDRESSES: usize = 6;

/// For one attempt: TCP repeats its first packet after one second and after three.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two probes, so that a few seconds have enough of them to tell a percent from ten.
const PROBE_EVERY: Duration = Duration::from_millis(50);

/// For all that is measured of one path.
const PATH_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_be_named_with_its_port_or_without() {
        let parsed = |text: &str| {
            let mut config = ClientConfig::default();
            set_server(&mut config, text).map(|()| (config.server_addr, config.server_port))
        };
        let server = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(parsed("example.com"), server("example.com", 7000));
        assert_eq!(parsed("example.com:443"), server("example.com", 443));
        assert_eq!(parsed("2001:db8::1"), server("2001:db8::1", 7000));
        assert_eq!(parsed("[2001:db8::1]:443"), server("2001:db8::1", 443));
        assert!(parsed("example.com:x").is_err() && parsed(":7000").is_err());
    }
}
