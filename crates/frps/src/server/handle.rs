//! What whoever has started a server holds.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frp_core::task;
use frp_core::transports::Listener;
use frp_core::web::{self, local::LocalSocket};
use tokio::net::TcpListener;
use tracing::debug;

use super::Server;
use crate::admin;

/// A running server.
#[derive(Debug)]
pub struct Handle {
    pub(super) server: Arc<Server>,
    pub(super) web_addr: Option<SocketAddr>,
}

impl Handle {
    /// The address that clients connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr
    }

    /// The address of the API, if there is one.
    pub fn web_addr(&self) -> Option<SocketAddr> {
        self.web_addr
    }

    /// Where the server stands, in a line for whoever looks after it.
    pub fn summary(&self) -> Summary {
        Summary(Arc::clone(&self.server))
    }

    /// Accepts clients on one more listener, of whichever transport, until the server stops.
    pub fn serve_clients(&self, listener: Box<dyn Listener>) {
        let server = Arc::clone(&self.server);
        task::spawn("listener", server.accept_carriers(listener));
    }

    /// Answers requests to the API on `listener` until the server stops.
    pub fn serve_web(&mut self, listener: TcpListener) {
        self.web_addr = listener.local_addr().ok();
        let page = self
            .server
            .config
            .enable_prometheus
            .then(admin::install_metrics);
        let upkeep = page.as_ref().map(frp_core::metrics::keep_up);
        let serving = web::serve(listener, admin::router(&self.server, page));
        let stop = self.server.stop.clone();
        task::spawn("web server", async move {
            let _upkeep = upkeep;
            tokio::select! {
                () = stop.cancelled() => {}
                () = serving => {}
            }
        });
    }

    /// Answers requests on `socket`, for commands of the same user, until the server stops.
    pub fn serve_locally(&self, socket: LocalSocket) {
        let serving = socket.serve(admin::local_routes(), Arc::clone(&self.server));
        let stop = self.server.stop.clone();
        task::spawn("local server", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = serving => {}
            }
        });
    }

    /// Stops in good order: every client sees its carrier close, and its proxies are closed.
    pub async fn shut_down(self) {
        self.server.stop.cancel();
        let sessions = self.server.registry.close();
        let stopping = async {
            for session in &sessions {
                session.finished().await;
            }
            let links = self.server.links.lock().live();
            for link in &links {
                link.carrier.close();
            }
            for link in &links {
                link.carrier.closed().await;
            }
            if !links.is_empty() {
                // A carrier without a connection of the system's has to send its last packet
                // itself, and the program ends behind this.
                tokio::time::sleep(LAST_PACKET).await;
            }
        };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, stopping)
            .await
            .is_err()
        {
            debug!("not every client took its leave in time");
        }
    }
}

/// What [`Handle::summary`] tells, at the moment at which it is shown.
#[derive(Clone, Debug)]
pub struct Summary(Arc<Server>);

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(server) = self;
        let clients = server.clients.list();
        let n_clients = clients.iter().filter(|client| client.online()).count();
        let n_proxies: usize = server.stats.n_by_kind().values().sum();
        let n_users = server.stats.n_conns();
        write!(
            f,
            "{n_clients} clients, {n_proxies} proxies, {n_users} users' connections"
        )
    }
}

/// How long a stop may take: what a carrier needs to deliver its last bytes, and a bit.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long the last packet of a closed carrier takes to leave: the turns of a few tasks.
const LAST_PACKET: Duration = Duration::from_millis(20);
