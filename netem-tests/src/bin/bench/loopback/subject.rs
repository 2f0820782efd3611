//! Who is measured.

use anyhow::{Context, Result};
use netem_tests::{Link, Pair, PairBuilder, Programs, Proxy, Service, Sides, Tls};

/// A way from a user to the service.
pub(crate) struct Subject {
    /// The key in the results.
    pub(crate) name: &'static str,
    /// The head of a column.
    pub(crate) title: &'static str,
    route: Route,
}

enum Route {
    /// No tunnel: the user connects to the service.
    Bare,
    Tunnel(Sides, Tls),
}

impl Subject {
    /// The bare connection, ours, and Go frp when it is at hand.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let mut subjects = vec![Self {
            name: BARE,
            title: "no tunnel",
            route: Route::Bare,
        }];
        let ours = Programs::ours()?;
        subjects.push(Self::tunnel(OURS, "Holdfast", &ours, Tls::Default));
        let peer = Programs::peer()?;
        if let Some(peer) = &peer {
            subjects.push(Self::tunnel(PEER, "frp", peer, Tls::Default));
        }
        subjects.push(Self::tunnel(
            OURS_PLAIN,
            "Holdfast, no TLS",
            &ours,
            Tls::Off,
        ));
        if let Some(peer) = &peer {
            subjects.push(Self::tunnel(PEER_PLAIN, "frp, no TLS", peer, Tls::Off));
        }
        Ok(subjects)
    }

    /// Starts a service, and a tunnel to it if this is one.
    pub(crate) fn start(&self) -> Result<Running> {
        let service = Service::start()?;
        let (pair, port) = match &self.route {
            Route::Bare => (None, service.port()),
            Route::Tunnel(sides, tls) => {
                let link = Link {
                    tls: *tls,
                    ..Link::DEFAULT
                };
                let pair = PairBuilder::new(sides)
                    .link(link)
                    .quiet()
                    .proxy(Proxy::tcp("bench", service.port()))
                    .start()
                    .context("cannot start the tunnel")?;
                let port = pair.port("bench")?;
                (Some(pair), port)
            }
        };
        Ok(Running {
            pair,
            service,
            port,
        })
    }

    fn tunnel(name: &'static str, title: &'static str, programs: &Programs, tls: Tls) -> Self {
        let sides = Sides {
            server: programs.clone(),
            client: programs.clone(),
        };
        Self {
            name,
            title,
            route: Route::Tunnel(sides, tls),
        }
    }
}

/// A subject at work.
pub(crate) struct Running {
    /// The tunnel's two programs.
    pub(crate) pair: Option<Pair>,
    /// What is behind it.
    pub(crate) service: Service,
    /// Where users connect.
    pub(crate) port: u16,
}

pub(crate) const BARE: &str = "bare";
pub(crate) const OURS: &str = "holdfast";
pub(crate) const OURS_PLAIN: &str = "holdfast-plain";
pub(crate) const PEER: &str = "frp";
pub(crate) const PEER_PLAIN: &str = "frp-plain";
