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
    Tunnel(Sides, Tls, Holding),
}

/// Whether streams outlive their carrier, where both ends can do it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holding {
    On,
    Off,
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
        // Next to each other in each round, since a few percent are looked for.
        subjects.push(Self {
            name: OURS_NOT_HELD,
            title: "Holdfast, hold off",
            route: Route::Tunnel(both(&ours), Tls::Default, Holding::Off),
        });
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
            Route::Tunnel(sides, tls, holding) => {
                let link = Link {
                    tls: *tls,
                    ..Link::DEFAULT
                };
                let mut builder = PairBuilder::new(sides)
                    .link(link)
                    .quiet()
                    .proxy(Proxy::tcp("bench", service.port()));
                if *holding == Holding::Off {
                    builder = builder.server_option(HOLD_OFF).client_option(HOLD_OFF);
                }
                let pair = builder.start().context("cannot start the tunnel")?;
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
        Self {
            name,
            title,
            route: Route::Tunnel(both(programs), tls, Holding::On),
        }
    }
}

fn both(programs: &Programs) -> Sides {
    Sides {
        server: programs.clone(),
        client: programs.clone(),
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
/// Ours, with streams that end with their carrier as frp's do.
pub(crate) const OURS_NOT_HELD: &str = "holdfast-not-held";
pub(crate) const OURS_PLAIN: &str = "holdfast-plain";
pub(crate) const PEER: &str = "frp";
pub(crate) const PEER_PLAIN: &str = "frp-plain";

const HOLD_OFF: &str = "transport.hold.enable = false";
