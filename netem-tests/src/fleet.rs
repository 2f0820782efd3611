//! Two tunnels with users over one bad link, and a Prometheus that scrapes all four programs.
//!
//! One client chooses its transport; the other has KCP with its error correction, and no other way.

use std::time::Duration;

use anyhow::Result;

use crate::observe::{FreshConns, NumberedStream, Rates, Typist};
use crate::prometheus::{Prometheus, Target};
use crate::{CLIENT_METRICS, Lab, Link, Pair, PairBuilder, Profile, Proxy, Service, Sides};

/// What is watched. Dropping it ends all.
#[derive(Debug)]
pub struct Fleet {
    // Fields drop in this order: the users go first and the network last.
    users: Vec<(NumberedStream, Typist, FreshConns)>,
    /// Scrapes it.
    pub prometheus: Prometheus,
    /// The client that chooses.
    pub chooser: Pair,
    /// The client over KCP.
    pub pinned: Pair,
    service: Service,
    /// The link under both.
    pub lab: Lab,
}

/// The clients, as frps and the dashboards call them.
pub const CLIENTS: [&str; 2] = ["chooser", "pinned"];

/// The proxy with the users.
pub const PROXY: &str = "web";

impl Fleet {
    /// Starts everything but the users.
    pub fn start(name: &str, profile: &Profile, interval: Duration) -> Result<Self> {
        let lab = Lab::start(name, profile)?;
        let service = lab.far().enter(Service::start)?;
        let chooser = pair(&lab, &service, Link::AUTO, CLIENTS[0])?;
        let pinned = pair(&lab, &service, Link::KCP, CLIENTS[1])?;
        let mut targets = Vec::new();
        for (pair, client) in [&chooser, &pinned].into_iter().zip(CLIENTS) {
            targets.push(Target {
                job: "frps",
                port: pair.metrics_port()?,
                client: None,
            });
            targets.push(Target {
                job: "frpc",
                port: pair.port(CLIENT_METRICS)?,
                client: Some(client.to_owned()),
            });
        }
        let prometheus = Prometheus::start(Some(lab.near()), interval, &targets)?;
        Ok(Self {
            users: Vec::new(),
            prometheus,
            chooser,
            pinned,
            service,
            lab,
        })
    }

    /// Lets users begin at both: a stream at these rates, one who types, and fresh connections.
    pub fn traffic_begins(&mut self, rates: Rates) -> Result<()> {
        for (id, pair) in (1..).zip([&self.chooser, &self.pinned]) {
            let port = pair.port(PROXY)?;
            let service = &self.service;
            let users = pair.as_user(|| -> Result<_> {
                let stream = NumberedStream::open(service, port, id, rates)?;
                Ok((stream, Typist::open(port)?, FreshConns::start(port)))
            });
            self.users.push(users?);
        }
        Ok(())
    }
}

fn pair(lab: &Lab, service: &Service, link: Link, name: &str) -> Result<Pair> {
    PairBuilder::new(&Sides::ours()?)
        .in_lab(lab)
        .link(link)
        .with_metrics()?
        .with_client_metrics()?
        .client_option(&format!("clientID = \"{name}\""))
        .proxy(Proxy::tcp(PROXY, service.port()))
        .start()
}
