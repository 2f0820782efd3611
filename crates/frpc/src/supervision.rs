//! What a service manager is told of the clients: when they have started, and where they stand.

use std::sync::Arc;

use frp_core::service_manager;
use frp_core::task;
use tokio_util::task::AbortOnDropHandle;

use crate::client::Client;

/// Tells the service manager that the program has started as soon as `client` has, unless the
/// handle is dropped before.
///
/// With `loginFailExit` that is after the first login: until then the program may still end, and
/// what is ordered behind it may count on its proxies. Without, it is at once: a server that is out
/// of reach must not hold up the start of a machine.
pub(crate) fn ready_when_settled(client: &Arc<Client>) -> AbortOnDropHandle<()> {
    let client = client.clone();
    service_manager::changed();
    AbortOnDropHandle::new(task::spawn("readiness", async move {
        client.settled().await;
        service_manager::ready().await;
    }))
}

/// Where the clients stand, in a line.
pub(crate) fn text(clients: &[Arc<Client>]) -> String {
    let stands: Vec<_> = clients.iter().map(|client| Stand::of(client)).collect();
    describe(&stands)
}

/// Where one client stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stand {
    server: String,
    way: Way,
    n_proxies: usize,
    n_running: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// The session goes over this transport.
    Over(String),
    /// There is a session, and nothing that it goes over.
    Cut,
    NoSession,
}

impl Stand {
    fn of(client: &Client) -> Self {
        let config = client.config();
        let way = client.session().map_or(Way::NoSession, |session| {
            let paths = session.paths();
            let mut used = paths
                .iter()
                .filter(|(_, path)| path.live.iter().any(|carrier| carrier.is_in_use));
            used.next()
                .map_or(Way::Cut, |(kind, _)| Way::Over(kind.to_string()))
        });
        let proxies = client.proxies();
        Self {
            server: format!("{}:{}", config.server_addr, config.server_port),
            way,
            n_proxies: proxies.len(),
            n_running: proxies.iter().filter(|proxy| proxy.is_up).count(),
        }
    }
}

fn describe(stands: &[Stand]) -> String {
    if stands.is_empty() {
        return "starting".to_owned();
    }
    let [stand] = stands else {
        let is_connected = |stand: &&Stand| matches!(stand.way, Way::Over(_));
        let n_connected = stands.iter().filter(is_connected).count();
        let n_running: usize = stands.iter().map(|stand| stand.n_running).sum();
        return format!(
            "{n_connected} of {} clients connected, {n_running} proxies",
            stands.len()
        );
    };
    let Stand {
        server,
        way,
        n_proxies,
        n_running,
    } = stand;
    match way {
        Way::Over(transport) => {
            let proxies = if *n_proxies == 1 { "proxy" } else { "proxies" };
            let text = format!("connected over {transport}, {n_proxies} {proxies}");
            match n_proxies - n_running {
                0 => text,
                n_others => format!("{text}, {n_others} of them not running"),
            }
        }
        Way::Cut => format!("cut off from {server}, users' connections are held"),
        Way::NoSession => format!("trying to reach {server}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(way: Way, n_proxies: usize, n_running: usize) -> Stand {
        Stand {
            server: "frps.example:7000".to_owned(),
            way,
            n_proxies,
            n_running,
        }
    }

    fn over_quic(n_proxies: usize, n_running: usize) -> Stand {
        stand(Way::Over("quic".to_owned()), n_proxies, n_running)
    }

    #[test]
    fn one_client_tells_its_transport_and_what_is_wrong_with_its_proxies() {
        for (stand, text) in [
            (over_quic(3, 3), "connected over quic, 3 proxies"),
            (over_quic(1, 1), "connected over quic, 1 proxy"),
            (
                over_quic(3, 2),
                "connected over quic, 3 proxies, 1 of them not running",
            ),
            (
                stand(Way::Cut, 3, 3),
                "cut off from frps.example:7000, users' connections are held",
            ),
            (
                stand(Way::NoSession, 0, 0),
                "trying to reach frps.example:7000",
            ),
        ] {
            assert_eq!(describe(&[stand]), text);
        }
    }

    #[test]
    fn several_clients_are_counted() {
        let stands = [over_quic(3, 3), stand(Way::NoSession, 0, 0)];
        assert_eq!(describe(&stands), "1 of 2 clients connected, 3 proxies");
    }
}
