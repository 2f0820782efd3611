//! A transport inside one process, for tests of everything above the contract.
//!
//! Clones of a [`MemoryTransport`] share one network: what one of them binds, all of them can
//! dial, by port and under whatever host name. [`MemoryTransport::lose_all`] and
//! [`MemoryTransport::set_reachable`] are what a bad path is on the real ones.
//! [`MemoryTransport::with_keys`] and [`MemoryTransport::with_datagrams`] give the carriers of a
//! transport what not all of them have.

mod extras;
mod link;
mod pipe;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{
    BindError, BoxFuture, BoxStream, Carrier, CarrierError, DatagramError, DialError, Endpoint,
    ExportError, Incoming, Listener, ListenerClosed, PathStats, Transport, TransportKind,
};

use extras::{Extras, MAX_DATAGRAM_LEN};
use link::{Link, MemoryStream, Side};

/// Carriers that wait to be accepted; a dial beyond them is refused.
const LISTEN_BACKLOG: usize = 1024;

/// From the accept to the login, as on the real transports.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Ports that are given out when port 0 is bound, and those of clients.
const FIRST_FREE_PORT: u16 = 20_000;

/// A transport whose carriers are in memory.
#[derive(Clone)]
pub struct MemoryTransport {
    network: Arc<Mutex<Network>>,
    is_multiplexed: bool,
    extras: Extras,
    login_timeout: Duration,
}

struct Network {
    listeners: HashMap<u16, mpsc::Sender<Incoming>>,
    links: Vec<(SocketAddr, Weak<Link>)>,
    next_port: u16,
    is_reachable: bool,
}

impl MemoryTransport {
    /// A transport whose carriers have any number of streams.
    pub fn new() -> Self {
        Self::with_multiplexing(true)
    }

    /// A transport whose carriers have one stream, as with `tcpMux = false`.
    pub fn single_stream() -> Self {
        Self::with_multiplexing(false)
    }

    fn with_multiplexing(is_multiplexed: bool) -> Self {
        let network = Network {
            listeners: HashMap::new(),
            links: Vec::new(),
            next_port: FIRST_FREE_PORT,
            is_reachable: true,
        };
        Self {
            network: Arc::new(Mutex::new(network)),
            is_multiplexed,
            extras: Extras::default(),
            login_timeout: LOGIN_TIMEOUT,
        }
    }

    /// The two ends of a carrier have keys in common, as with TLS.
    #[must_use]
    pub fn with_keys(mut self) -> Self {
        self.extras.has_keys = true;
        self
    }

    /// Carriers have this long from their accept to their login.
    #[must_use]
    pub fn with_login_timeout(mut self, timeout: Duration) -> Self {
        self.login_timeout = timeout;
        self
    }

    /// Carriers have datagrams.
    #[must_use]
    pub fn with_datagrams(mut self) -> Self {
        self.extras.has_datagrams = true;
        self
    }

    /// Whether datagrams of every carrier get lost, from here on.
    pub fn lose_datagrams(&self, is_lossy: bool) {
        let loses = &self.extras.loses_datagrams;
        loses.store(is_lossy, Ordering::Relaxed);
    }

    /// Breaks every carrier there is: both ends see a lost connection.
    pub fn lose_all(&self) {
        let links = std::mem::take(&mut self.network.lock().links);
        links
            .iter()
            .filter_map(|(_, link)| link.upgrade())
            .for_each(|link| link.lose());
    }

    /// Breaks the carrier of the client at `client`, if there is one.
    pub fn lose(&self, client: SocketAddr) {
        let link = {
            let network = self.network.lock();
            let mut links = network.links.iter();
            links
                .find(|(addr, _)| *addr == client)
                .and_then(|(_, link)| link.upgrade())
        };
        if let Some(link) = link {
            link.lose();
        }
    }

    /// Whether dials reach their listener, from here on.
    pub fn set_reachable(&self, is_reachable: bool) {
        self.network.lock().is_reachable = is_reachable;
    }
}

impl Default for MemoryTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTransport")
            .field("is_multiplexed", &self.is_multiplexed)
            .finish_non_exhaustive()
    }
}

impl Network {
    fn take_port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_FREE_PORT);
            if !self.listeners.contains_key(&port) {
                return port;
            }
        }
    }
}

impl Transport for MemoryTransport {
    fn kind(&self) -> TransportKind {
        TransportKind::Memory
    }

    fn dial<'a>(
        &'a self,
        server: &'a Endpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Carrier>, DialError>> {
        Box::pin(async move {
            let refused = || DialError::Connect {
                addr: server.to_string(),
                source: io::ErrorKind::ConnectionRefused.into(),
            };
            let (listener, client_addr) = {
                let mut network = self.network.lock();
                let listener = network.listeners.get(&server.port).cloned();
                let listener = listener
                    .filter(|_| network.is_reachable)
                    .ok_or_else(refused)?;
                (listener, localhost(network.take_port()))
            };
            let link = Link::new(self.extras.clone());
            let mut only = [None, None];
            if !self.is_multiplexed {
                only = link.only_stream();
                only.iter_mut()
                    .flatten()
                    .for_each(|stream| stream.is_only = true);
            }
            let [client_only, server_only] = only;
            let carrier = |side, only, local_addr, peer_addr| -> Arc<dyn Carrier> {
                Arc::new(MemoryCarrier {
                    link: Arc::clone(&link),
                    side,
                    is_multiplexed: self.is_multiplexed,
                    only: Mutex::new(only),
                    local_addr,
                    peer_addr,
                })
            };
            let server_addr = localhost(server.port);
            let incoming = Incoming {
                carrier: carrier(Side::Server, server_only, server_addr, client_addr),
                login_deadline: Instant::now() + self.login_timeout,
            };
            let dialled = carrier(Side::Client, client_only, client_addr, server_addr);
            listener.try_send(incoming).map_err(|_| refused())?;
            let mut network = self.network.lock();
            network.links.retain(|(_, link)| link.strong_count() > 0);
            network.links.push((client_addr, Arc::downgrade(&link)));
            Ok(dialled)
        })
    }

    fn bind(&self, addr: SocketAddr) -> BoxFuture<'_, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            let mut network = self.network.lock();
            let port = if addr.port() == 0 {
                network.take_port()
            } else {
                addr.port()
            };
            let in_use = network
                .listeners
                .get(&port)
                .is_some_and(|queue| !queue.is_closed());
            if in_use {
                return Err(BindError {
                    transport: TransportKind::Memory,
                    addr,
                    source: io::ErrorKind::AddrInUse.into(),
                });
            }
            let (sender, queue) = mpsc::channel(LISTEN_BACKLOG);
            network.listeners.insert(port, sender);
            let listener: Box<dyn Listener> = Box::new(MemoryListener {
                queue: tokio::sync::Mutex::new(queue),
                local_addr: SocketAddr::new(addr.ip(), port),
            });
            Ok(listener)
        })
    }
}

/// A bound port.
#[derive(Debug)]
struct MemoryListener {
    queue: tokio::sync::Mutex<mpsc::Receiver<Incoming>>,
    local_addr: SocketAddr,
}

impl Listener for MemoryListener {
    fn accept(&self) -> BoxFuture<'_, Result<Incoming, ListenerClosed>> {
        Box::pin(async { self.queue.lock().await.recv().await.ok_or(ListenerClosed) })
    }

    fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

/// One end of a carrier in memory.
#[derive(Debug)]
struct MemoryCarrier {
    link: Arc<Link>,
    side: Side,
    is_multiplexed: bool,
    /// Without multiplexing, the one stream until somebody takes it.
    only: Mutex<Option<MemoryStream>>,
    local_addr: SocketAddr,
    peer_addr: SocketAddr,
}

impl Carrier for MemoryCarrier {
    fn kind(&self) -> TransportKind {
        TransportKind::Memory
    }

    fn is_multiplexed(&self) -> bool {
        self.is_multiplexed
    }

    fn open_stream(&self) -> BoxFuture<'_, Result<BoxStream, CarrierError>> {
        Box::pin(async {
            if self.is_multiplexed {
                return Ok(Box::new(self.link.open(self.side)?) as BoxStream);
            }
            if let Some(reason) = self.link.end(self.side).ended.get() {
                return Err(reason.clone());
            }
            let stream = self.only.lock().take();
            let stream = stream.ok_or(CarrierError::NoStream("the carrier has only one"))?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn accept_stream(&self) -> BoxFuture<'_, Result<Option<BoxStream>, CarrierError>> {
        Box::pin(async {
            let stream = if self.is_multiplexed {
                self.link.accept(self.side).await?
            } else {
                match self.link.end(self.side).ended.get() {
                    None | Some(CarrierError::ClosedByPeer) => self.only.lock().take(),
                    Some(reason) => return Err(reason.clone()),
                }
            };
            Ok(stream.map(|stream| Box::new(stream) as BoxStream))
        })
    }

    fn path_stats(&self) -> PathStats {
        let end = self.link.end(self.side);
        PathStats {
            rtt: None,
            bytes_sent: end.bytes_sent.load(Ordering::Relaxed),
            bytes_received: end.bytes_received.load(Ordering::Relaxed),
            n_streams: self.link.n_streams(),
            ..PathStats::default()
        }
    }

    fn send_datagram(&self, data: Bytes) -> Result<(), DatagramError> {
        if let Some(reason) = self.link.end(self.side).ended.get() {
            return Err(reason.clone().into());
        }
        if !self.link.extras.has_datagrams {
            return Err(DatagramError::Unsupported);
        }
        if data.len() > MAX_DATAGRAM_LEN {
            return Err(DatagramError::TooLong);
        }
        let peer = self.link.end(self.side.peer());
        peer.datagrams.push(data, &self.link.extras);
        Ok(())
    }

    fn unsent_datagrams(&self) -> Option<usize> {
        self.link.extras.has_datagrams.then_some(0)
    }

    fn recv_datagram(&self) -> BoxFuture<'_, Result<Bytes, DatagramError>> {
        Box::pin(async {
            if !self.link.extras.has_datagrams {
                return Err(DatagramError::Unsupported);
            }
            let end = self.link.end(self.side);
            tokio::select! {
                biased;
                reason = end.ended.wait() => Err(reason.into()),
                datagram = end.datagrams.next() => Ok(datagram),
            }
        })
    }

    fn export_keying_material(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportError> {
        let keys = self.link.keys.as_ref().ok_or(ExportError)?;
        keys.export(out, label, context);
        Ok(())
    }

    fn admit(&self) {
        self.link.admit();
    }

    fn drain(&self) {
        let unused = self.only.lock().take();
        if self.is_multiplexed || unused.is_some() {
            self.link.drain(self.side);
        }
    }

    fn close(&self) {
        self.link.close(self.side);
    }

    fn closed(&self) -> BoxFuture<'_, CarrierError> {
        Box::pin(self.link.end(self.side).ended.wait())
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.local_addr)
    }

    fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }
}

impl Drop for MemoryCarrier {
    fn drop(&mut self) {
        self.link.leave(self.side);
    }
}

fn localhost(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
