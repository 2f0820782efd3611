//! A link with a service behind it, and the way to the service that a cell measures.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netem_tests::lab::BackEnd;
use netem_tests::{Lab, Link, Pair, PairBuilder, Profile, Proxy, Service};

use super::subject::Route;

/// Users and `frps` on the near side of a link, `frpc` and the service on its far side.
pub(crate) struct Site {
    // Fields drop in this order: the programs end before the link does that they use.
    pub(crate) pair: Option<Pair>,
    pub(crate) service: Service,
    pub(crate) lab: Lab,
}

impl Site {
    /// Makes the link, with a service and nothing else.
    pub(crate) fn new(name: &str, profile: &Profile, seed: u64) -> Result<Self> {
        // In user space, where a seed repeats the losses and nothing about the kernel is asked.
        let lab = Lab::start_on(BackEnd::UserSpace, name, profile, seed)?;
        let service = start_service(&lab)?;
        Ok(Self {
            pair: None,
            service,
            lab,
        })
    }

    /// Starts the programs of `route`, if it has any, and waits until users can connect. Returns how
    /// long the client took.
    pub(crate) fn open(&mut self, route: &Route) -> Result<Duration> {
        let Some(builder) = builder(route, self.service.port()) else {
            return Ok(Duration::ZERO);
        };
        // Each tunnel has ports of its own, so that none gets what is still under way to the last.
        let pair = builder.in_lab(&self.lab).start_server()?;
        // Kept also when the client does not come up: the logs say why.
        let pair = self.pair.insert(pair);
        let start = Instant::now();
        pair.start_client()?;
        Ok(start.elapsed())
    }

    /// Connects as a user does: to `frps` when there is a tunnel, else over the link.
    pub(crate) fn connect(&self, patience: Duration) -> Result<TcpStream> {
        let address = self.user_address()?;
        self.lab.near().enter(|| connect(address, patience))
    }

    /// Returns where users connect to.
    pub(crate) fn user_address(&self) -> Result<SocketAddr> {
        Ok(match &self.pair {
            Some(pair) => SocketAddr::from((Ipv4Addr::LOCALHOST, pair.port(PROXY)?)),
            None => SocketAddr::new(self.lab.far().address(), self.service.port()),
        })
    }

    /// Returns the CPU time that both programs have used.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        self.pair
            .as_ref()
            .map_or(Ok(Duration::ZERO), Pair::cpu_time)
    }
}

/// Starts a service on the far side, for `frpc` and for users without a tunnel.
pub(crate) fn start_service(lab: &Lab) -> Result<Service> {
    let anywhere = Ipv4Addr::UNSPECIFIED.into();
    lab.far().enter(|| Service::start_at(anywhere))
}

/// Connects with the settings of every user here.
pub(crate) fn connect(address: SocketAddr, patience: Duration) -> Result<TcpStream> {
    let conn = TcpStream::connect_timeout(&address, patience)
        .with_context(|| format!("cannot connect to {address}"))?;
    conn.set_nodelay(true)?;
    Ok(conn)
}

/// Says why the programs of `route` cannot be started with its transport, or nothing.
pub(crate) fn refusal(route: &Route) -> Result<Option<String>> {
    let Some(builder) = builder(route, 1) else {
        return Ok(None);
    };
    builder.configure()?.refusal()
}

/// Returns the tunnel of `route` to the service at `service_port`, if there is one.
fn builder(route: &Route, service_port: u16) -> Option<PairBuilder> {
    let Route::Tunnel(sides, transport) = route else {
        return None;
    };
    let link = Link {
        transport: *transport,
        ..Link::DEFAULT
    };
    let proxy = Proxy::tcp(PROXY, service_port);
    Some(PairBuilder::new(sides).link(link).quiet().proxy(proxy))
}

const PROXY: &str = "bench";
