//! Two sessions and the carriers between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use frp_core::hold::{CarrierId, HeldSession};
use frp_proto::hold::Budget;
use frp_proto::hold::key::SessionKey;
use frp_proto::hold::session::{Config, Role};
use tokio::sync::{Mutex, mpsc};
use transports::memory::MemoryTransport;
use transports::{BoxStream, Carrier, Endpoint, Listener, Transport};

use super::faults::{Fault, Faulty};

/// For what has to happen, and has no event to wait for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Pair {
    pub(crate) client: Arc<HeldSession>,
    pub(crate) server: Arc<HeldSession>,
    pub(crate) budgets: [Budget; 2],
    pub(crate) network: MemoryTransport,
    listener: Box<dyn Listener>,
    /// Held streams that the server was given.
    accepted: Mutex<mpsc::UnboundedReceiver<BoxStream>>,
    accepting: mpsc::UnboundedSender<BoxStream>,
    next_id: AtomicU64,
}

/// A carrier at both ends.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) id: CarrierId,
    pub(crate) client: Arc<dyn Carrier>,
    pub(crate) server: Arc<dyn Carrier>,
    /// What goes wrong on the way to the server, and to the client.
    pub(crate) faults: [Arc<Fault>; 2],
}

impl Pair {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let network = MemoryTransport::new();
        let listener = network
            .bind(SocketAddr::from(([127, 0, 0, 1], 7000)))
            .await
            .unwrap();
        let mut config = Config {
            role: Role::Client,
            instance: [1; 16],
            grace: Duration::from_secs(60),
            max_streams: 5000,
            max_bytes: 64 << 20,
        };
        change(&mut config);
        let budgets = [Budget::new(1 << 30), Budget::new(1 << 30)];
        let session = |role, budget| {
            let key = SessionKey::derive(&[1; 32], &[2; 32], &[3; 32], b"token");
            HeldSession::new(Config { role, ..config }, [7; 16], key, budget)
        };
        let (accepting, accepted) = mpsc::unbounded_channel();
        Self {
            client: session(Role::Client, &budgets[0]),
            server: session(Role::Server, &budgets[1]),
            budgets,
            network,
            listener,
            accepted: Mutex::new(accepted),
            accepting,
            next_id: AtomicU64::new(1),
        }
    }

    /// With a carrier in use.
    pub(crate) async fn connected() -> (Self, Path) {
        let pair = Self::new().await;
        let path = pair.connect().await;
        pair.switch(&path, false);
        (pair, path)
    }

    /// A carrier that has joined.
    pub(crate) async fn connect(&self) -> Path {
        let path = self.dial().await;
        self.join(&path);
        path
    }

    /// A carrier that has not joined.
    pub(crate) async fn dial(&self) -> Path {
        let server = Endpoint {
            host: "server".to_owned(),
            port: 7000,
        };
        let client = self.network.dial(&server).await.unwrap();
        let server = self.listener.accept().await.unwrap().carrier;
        server.admit();
        let faults = [Arc::default(), Arc::default()];
        let client = Faulty::over(client, &faults[0]);
        let server = Faulty::over(server, &faults[1]);
        Path {
            faults,
            ..self.path(client, server)
        }
    }

    /// Over carriers of whichever transport.
    pub(crate) fn path(&self, client: Arc<dyn Carrier>, server: Arc<dyn Carrier>) -> Path {
        Path {
            id: CarrierId(self.next_id.fetch_add(1, Ordering::Relaxed)),
            client,
            server,
            faults: Default::default(),
        }
    }

    /// Joins both sessions, and serves what the client opens.
    pub(crate) fn join(&self, path: &Path) {
        let generation = self.client.next_generation();
        self.server
            .add_carrier(path.id, generation, Arc::clone(&path.server))
            .unwrap();
        self.client
            .add_carrier(path.id, generation, Arc::clone(&path.client))
            .unwrap();
        self.serve(path);
    }

    pub(crate) fn serve(&self, path: &Path) {
        let (session, accepting) = (Arc::clone(&self.server), self.accepting.clone());
        let (id, carrier) = (path.id, Arc::clone(&path.server));
        tokio::spawn(async move {
            while let Ok(Some(stream)) = carrier.accept_stream().await {
                let (session, accepting) = (Arc::clone(&session), accepting.clone());
                tokio::spawn(async move {
                    if let Ok(Some(conn)) = session.accept_route(id, stream).await {
                        let _ = accepting.send(conn);
                    }
                });
            }
        });
    }

    pub(crate) fn switch(&self, path: &Path, is_planned: bool) {
        let generation = self.client.use_carrier(path.id, is_planned).unwrap();
        // The word itself may come late, or after the first ATTACH.
        let _ = self.server.handle_use(path.id, generation);
    }

    /// A new carrier in use instead of the one before.
    pub(crate) async fn replace(&self, before: &Path, is_planned: bool) -> Path {
        let path = self.connect().await;
        self.switch(&path, is_planned);
        if !is_planned {
            before.cut();
        }
        path
    }

    /// A stream from the client to the server.
    pub(crate) async fn open(&self) -> (BoxStream, BoxStream) {
        let ours = self.client.open_stream().unwrap();
        (ours, self.accept().await)
    }

    pub(crate) async fn accept(&self) -> BoxStream {
        let mut accepted = self.accepted.lock().await;
        let next = tokio::time::timeout(PATIENCE, accepted.recv()).await;
        next.expect("a stream arrives").unwrap()
    }

    /// Waits until nothing is left of any stream.
    pub(crate) async fn wait_for_nothing(&self) {
        wait_until(|| {
            let n = |session: &HeldSession| session.stats().n_streams;
            n(&self.client) + n(&self.server) == 0
        })
        .await;
        for budget in &self.budgets {
            assert_eq!(budget.used(), 0);
        }
    }
}

impl Path {
    /// Both ends see the carrier break.
    pub(crate) fn cut(&self) {
        self.client.close();
    }
}

/// Waits for what has no event.
pub(crate) async fn wait_until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it comes to that");
}
