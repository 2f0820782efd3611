//! Who is measured: the bare link, ours over each transport, and Go frp when it is at hand.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::Hasher as _;

use anyhow::{Context, Result};
use netem_tests::{Programs, Sides, Transport};

/// A way from a user to the service.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    name: String,
    title: String,
    protocol: Option<&'static str>,
    route: Route,
    fingerprint: String,
}

/// What is between the two.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// No tunnel: the user connects to the service.
    Bare,
    /// Both programs.
    Tunnel(Sides, Transport),
}

impl Subject {
    /// Returns all of them, in the order of the report.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let mut subjects = vec![Self::bare()];
        subjects.extend(Self::over_each("", "Holdfast", &Programs::ours()?, &OURS)?);
        if let Some(peer) = Programs::peer()? {
            subjects.extend(Self::over_each(PEER_PREFIX, "frp", &peer, &PEERS)?);
        }
        Ok(subjects)
    }

    /// Returns ours, choosing the transport by itself.
    pub(crate) fn auto() -> Result<Self> {
        let ours = Programs::ours()?;
        let auto = Self::over_each("", "Holdfast", &ours, &[(AUTO, Transport::Auto)])?;
        auto.into_iter().next().context("one in, one out")
    }

    /// Returns bare TCP, and subjects of these names whose programs are not there.
    #[cfg(test)]
    pub(crate) fn without_programs(names: &[&'static str]) -> Vec<Self> {
        let mut subjects = vec![Self::bare()];
        subjects.extend(names.iter().map(|name| Self {
            name: (*name).to_owned(),
            title: (*name).to_owned(),
            protocol: Some(name.trim_start_matches(PEER_PREFIX)),
            // Only its name says that it is no bare link: nobody starts it.
            route: Route::Bare,
            fingerprint: String::new(),
        }));
        subjects
    }

    fn over_each(
        prefix: &str,
        who: &str,
        programs: &Programs,
        transports: &[(&'static str, Transport)],
    ) -> Result<Vec<Self>> {
        let fingerprint = fingerprint(programs)?;
        let sides = Sides {
            server: programs.clone(),
            client: programs.clone(),
        };
        let over = |(protocol, transport): &(&'static str, Transport)| Self {
            name: format!("{prefix}{protocol}"),
            title: format!("{who} {protocol}"),
            protocol: Some(protocol),
            route: Route::Tunnel(sides.clone(), *transport),
            fingerprint: fingerprint.clone(),
        };
        Ok(transports.iter().map(over).collect())
    }

    fn bare() -> Self {
        Self {
            name: BARE.to_owned(),
            title: "bare TCP".to_owned(),
            protocol: None,
            route: Route::Bare,
            fingerprint: String::new(),
        }
    }

    /// Returns the first part of its cells' names.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns what stands at the head of its row.
    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    pub(crate) fn route(&self) -> &Route {
        &self.route
    }

    /// Returns a text that differs between different builds of the programs.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns the name of its transport, as configurations have it.
    pub(crate) fn protocol(&self) -> Option<&'static str> {
        self.protocol
    }

    pub(crate) fn is_bare(&self) -> bool {
        self.protocol.is_none()
    }

    /// Says whether it chooses its transport by itself.
    pub(crate) fn is_auto(&self) -> bool {
        self.protocol == Some(AUTO)
    }

    /// Says whether the kernel does its congestion control.
    pub(crate) fn is_over_tcp(&self) -> bool {
        matches!(self.protocol, Some("tcp" | "websocket" | WSS))
    }

    pub(crate) fn is_peer(&self) -> bool {
        self.name.starts_with(PEER_PREFIX)
    }

    pub(crate) fn is_ours(&self) -> bool {
        !self.is_bare() && !self.is_peer()
    }
}

/// Hashes both programs.
fn fingerprint(programs: &Programs) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for program in [programs.frps(), programs.frpc()] {
        let bytes =
            fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        hasher.write(&bytes);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Ours, in the order of the report.
const OURS: [(&str, Transport); 6] = [
    ("tcp", Transport::Tcp),
    ("websocket", Transport::Websocket),
    (WSS, Transport::Wss),
    ("kcp", Transport::Kcp),
    ("quic", Transport::Quic),
    (AUTO, Transport::Auto),
];

/// frp's. Its server takes no wss without something in front of it.
const PEERS: [(&str, Transport); 4] = [
    ("tcp", Transport::Tcp),
    ("websocket", Transport::Websocket),
    ("kcp", Transport::Kcp),
    ("quic", Transport::Quic),
];

/// Whichever transport is best.
const AUTO: &str = "auto";

/// WebSocket inside of TLS.
pub(crate) const WSS: &str = "wss";

/// The name of the bare link.
pub(crate) const BARE: &str = "bare";

const PEER_PREFIX: &str = "frp-";
