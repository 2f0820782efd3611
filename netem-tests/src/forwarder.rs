//! A place between client and server where connections can be cut and UDP can be stopped, without
//! a lab: it passes on what arrives at its port, of TCP and of UDP.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

/// A running forwarder on a free port of loopback, the same of TCP and UDP.
#[derive(Debug)]
pub struct Forwarder {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    passes_tcp: AtomicBool,
    passes_udp: AtomicBool,
    stopping: AtomicBool,
    conns: Mutex<Vec<TcpStream>>,
}

/// Free ports of TCP whose UDP side is looked at.
const N_PORTS: usize = 20;

/// How often a thread that waits for a datagram looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// The longest datagram of UDP.
const MAX_DATAGRAM: usize = 64 * 1024;

impl Forwarder {
    /// Passes on to `server_port` on loopback.
    pub fn start(server_port: u16) -> Result<Self> {
        let (listener, socket) = bind()?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            server: (Ipv4Addr::LOCALHOST, server_port).into(),
            passes_tcp: AtomicBool::new(true),
            passes_udp: AtomicBool::new(true),
            stopping: AtomicBool::new(false),
            conns: Mutex::default(),
        });
        let state = Arc::clone(&shared);
        thread::spawn(move || {
            for conn in listener.incoming().flatten() {
                if state.stopping.load(Ordering::Relaxed) {
                    return;
                }
                // A connection that fails is seen by its client.
                let _ = state.pass_tcp(conn);
            }
        });
        let state = Arc::clone(&shared);
        thread::spawn(move || {
            // A socket that fails is seen by who sends to it.
            let _ = state.pass_udp(&socket);
        });
        Ok(Self { port, shared })
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection of TCP that there is, and returns how many. New ones pass.
    pub fn cut_tcp(&self) -> usize {
        let conns = std::mem::take(&mut *self.shared.conns());
        for conn in &conns {
            // It may have ended by itself.
            let _ = conn.shutdown(Shutdown::Both);
        }
        conns.len() / 2
    }

    /// Whether datagrams pass, from here on. Those that do not are dropped without a word.
    pub fn set_udp(&self, passes: bool) {
        self.shared.passes_udp.store(passes, Ordering::Relaxed);
    }

    /// Whether new connections of TCP pass, from here on. Those that do not are closed at once.
    pub fn set_tcp(&self, passes: bool) {
        self.shared.passes_tcp.store(passes, Ordering::Relaxed);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.cut_tcp();
        // The accept loop looks once more.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn conns(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.conns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_tcp(&self, client: TcpStream) -> io::Result<()> {
        if !self.passes_tcp.load(Ordering::Relaxed) {
            return Ok(());
        }
        let server = TcpStream::connect(self.server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
            thread::spawn(move || {
                // Either end's end is the end of both.
                let _ = io::copy(&mut from, &mut to);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        self.conns().extend([client, server]);
        Ok(())
    }

    fn pass_udp(self: &Arc<Self>, socket: &UdpSocket) -> io::Result<()> {
        socket.set_read_timeout(Some(LOOK))?;
        let mut clients: HashMap<SocketAddr, UdpSocket> = HashMap::new();
        let mut buf = vec![0; MAX_DATAGRAM];
        while !self.stopping.load(Ordering::Relaxed) {
            let Ok((len, client)) = socket.recv_from(&mut buf) else {
                continue;
            };
            if !self.passes_udp.load(Ordering::Relaxed) {
                continue;
            }
            let upstream = match clients.entry(client) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                    upstream.connect(self.server)?;
                    let (state, socket) = (Arc::clone(self), socket.try_clone()?);
                    let back = upstream.try_clone()?;
                    thread::spawn(move || state.pass_udp_back(&back, &socket, client));
                    new.insert(upstream)
                }
            };
            // Lost, as datagrams are.
            let _ = upstream.send(&buf[..len]);
        }
        Ok(())
    }

    fn pass_udp_back(&self, upstream: &UdpSocket, socket: &UdpSocket, client: SocketAddr) {
        let mut buf = vec![0; MAX_DATAGRAM];
        if upstream.set_read_timeout(Some(LOOK)).is_err() {
            return;
        }
        while !self.stopping.load(Ordering::Relaxed) {
            let Ok(len) = upstream.recv(&mut buf) else {
                continue;
            };
            if self.passes_udp.load(Ordering::Relaxed) {
                let _ = socket.send_to(&buf[..len], client);
            }
        }
    }
}

fn bind() -> Result<(TcpListener, UdpSocket)> {
    for _ in 0..N_PORTS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok((listener, socket));
        }
    }
    bail!("no port is free of TCP and of UDP")
}
