//! Two sessions, and a network over which carriers join them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use frp_core::hold::join::{
    First, JoinFailure, JoinRefused, SessionStream, answer_join, join, sort,
};
use frp_core::hold::watch::{CarrierWatch, WatchConfig, WatchEvent, answer_padding};
use frp_core::hold::{CarrierId, HeldSession};
use frp_proto::hold::Budget;
use frp_proto::hold::key::SessionKey;
use frp_proto::hold::session::{Config, Role};
use frp_proto::path::{self, Pace, ProberConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use transports::memory::MemoryTransport;
use transports::{BoxStream, Carrier, Endpoint, Listener, Transport};

/// For what has to happen, on a clock that does not wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Pair {
    pub(crate) client: Arc<HeldSession>,
    pub(crate) server: Arc<HeldSession>,
    pub(crate) network: MemoryTransport,
    listener: Box<dyn Listener>,
}

/// One end of a carrier that is watched.
pub(crate) struct End {
    pub(crate) carrier: Arc<dyn Carrier>,
    pub(crate) watch: CarrierWatch,
    pub(crate) events: mpsc::Receiver<WatchEvent>,
}

pub(crate) fn session(role: Role, token: &[u8]) -> Arc<HeldSession> {
    let config = Config {
        role,
        instance: [1; 16],
        grace: Duration::from_secs(60),
        max_streams: 100,
        max_bytes: 1 << 20,
    };
    let key = SessionKey::derive(&[1; 32], &[2; 32], &[3; 32], token);
    HeldSession::new(config, [7; 16], key, &Budget::new(1 << 20))
}

impl Pair {
    pub(crate) async fn over(network: MemoryTransport) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], 7000));
        Self {
            client: session(Role::Client, b"token"),
            server: session(Role::Server, b"token"),
            listener: network.bind(addr).await.unwrap(),
            network,
        }
    }

    pub(crate) async fn new() -> Self {
        Self::over(MemoryTransport::new().with_keys().with_datagrams()).await
    }

    pub(crate) async fn dial(&self) -> (Arc<dyn Carrier>, Arc<dyn Carrier>) {
        let server = Endpoint {
            host: "server".to_owned(),
            port: 7000,
        };
        let client = self.network.dial(&server).await.unwrap();
        (client, self.listener.accept().await.unwrap().carrier)
    }

    /// Answers the first stream that comes on a carrier.
    pub(crate) async fn answer(
        &self,
        id: u64,
        carrier: &Arc<dyn Carrier>,
    ) -> Result<SessionStream, JoinRefused> {
        let stream = accept(carrier).await;
        let First::Join(stream) = sort(stream).await.unwrap() else {
            panic!("a join comes first");
        };
        let server = &self.server;
        let answered = answer_join(
            stream,
            carrier,
            CarrierId(id),
            async |session| (session == *server.id()).then(|| Arc::clone(server)),
            || (),
        );
        answered.await.map(|(_, stream)| stream)
    }

    /// Joins over a carrier, at both ends.
    pub(crate) async fn join(
        &self,
        id: u64,
        client: &Arc<dyn Carrier>,
        server: &Arc<dyn Carrier>,
    ) -> (
        Result<SessionStream, JoinFailure>,
        Result<SessionStream, JoinRefused>,
    ) {
        let joining = join(&self.client, CarrierId(id), client, PATIENCE);
        tokio::join!(joining, self.answer(id, server))
    }

    /// A carrier that has joined, is in use, and is watched at both ends.
    pub(crate) async fn watched(&self, id: u64) -> (End, End) {
        let (client, server) = self.dial().await;
        let (ours, theirs) = self.join(id, &client, &server).await;
        let client = watch(&self.client, id, &client, ours.unwrap(), path::Role::Asking);
        let server = self.watch_server(id, &server, theirs.unwrap());
        let (session, carrier) = (Arc::clone(&self.server), Arc::clone(&server.carrier));
        tokio::spawn(async move {
            while let Ok(Some(stream)) = carrier.accept_stream().await {
                match sort(stream).await {
                    Ok(First::Padding(stream)) => {
                        tokio::spawn(answer_padding(stream));
                    }
                    Ok(First::Route(stream)) => {
                        let opened = session.accept_route(CarrierId(id), stream).await;
                        if let Ok(Some(stream)) = opened {
                            tokio::spawn(echo(stream));
                        }
                    }
                    _ => {}
                }
            }
        });
        let generation = self.client.use_carrier(CarrierId(id), false).unwrap();
        client.watch.send_use(generation);
        (client, server)
    }

    /// Watches the server's end of a carrier that has joined.
    pub(crate) fn watch_server(
        &self,
        id: u64,
        carrier: &Arc<dyn Carrier>,
        stream: SessionStream,
    ) -> End {
        watch(&self.server, id, carrier, stream, path::Role::Answering)
    }
}

fn watch(
    session: &Arc<HeldSession>,
    id: u64,
    carrier: &Arc<dyn Carrier>,
    stream: SessionStream,
    role: path::Role,
) -> End {
    let config = WatchConfig {
        role,
        prober: ProberConfig::default(),
        pace: Pace::InUse,
    };
    let (watch, events) = CarrierWatch::start(session, CarrierId(id), carrier, stream, config);
    End {
        carrier: Arc::clone(carrier),
        watch,
        events,
    }
}

impl End {
    /// Waits for an event in which `pick` sees something.
    pub(crate) async fn event<T>(&mut self, pick: impl Fn(&WatchEvent) -> Option<T>) -> T {
        let picked = async {
            loop {
                let event = self.events.recv().await.expect("the event comes");
                if let Some(picked) = pick(&event) {
                    return picked;
                }
            }
        };
        let picked = tokio::time::timeout(PATIENCE, picked).await;
        picked.expect("the event comes in time")
    }

    /// Waits for the last event, and returns what it says.
    pub(crate) async fn closed(&mut self) -> String {
        let words = self.event(|event| match event {
            WatchEvent::Closed(words) => Some(words.clone()),
            _ => None,
        });
        let words = words.await;
        assert!(self.events.recv().await.is_none(), "it was the last");
        words
    }
}

/// A service behind a held stream.
async fn echo(mut stream: BoxStream) {
    let mut buf = [0; 1024];
    while let Ok(n @ 1..) = stream.read(&mut buf).await {
        stream.write_all(&buf[..n]).await.unwrap();
    }
}

pub(crate) async fn accept(carrier: &Arc<dyn Carrier>) -> BoxStream {
    let accepted = tokio::time::timeout(PATIENCE, carrier.accept_stream()).await;
    accepted.unwrap().unwrap().unwrap()
}
