//! The local services behind the tunnel.
//!
//! One TCP service does all that tests ask for. A user says what he wants in a fixed request
//! ([`Op`], a length, a seed), and no operation depends on half-closed connections: with frp, as
//! soon as either side closes, both are closed.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::bursts::Pausing;
use crate::observe::{self, Ledger};
use crate::{Pattern, bulk};

/// What a user asks of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Send back what comes in, until the user closes.
    Echo = b'e',
    /// Send the pattern of the seed.
    Download = b'd',
    /// Read the pattern of the seed, then answer with [`RECEIVED`].
    Upload = b'u',
    /// Send the pattern of the seed in bursts with pauses between them ([`crate::bursts`]).
    BurstDownload = b'p',
    /// Upload and download at the same time, then answer with [`RECEIVED`].
    Both = b'b',
    /// Send numbered words at the rate that the length says, in bits per second (0: as fast as
    /// possible), and check those that come in ([`crate::observe::NumberedStream`]).
    Numbered = b'q',
    /// Send zeros as fast as possible until the user closes: for measuring.
    Source = b's',
    /// Read as fast as possible until the user closes: for measuring.
    Sink = b'n',
}

impl Op {
    /// Returns the request: the operation, a length and a seed.
    pub fn request(self, len: u64, seed: u64) -> [u8; REQUEST_LEN] {
        let mut request = [0; REQUEST_LEN];
        request[0] = self as u8;
        request[1..9].copy_from_slice(&len.to_be_bytes());
        request[9..].copy_from_slice(&seed.to_be_bytes());
        request
    }
}

/// A TCP service on a free port, with a thread for each connection.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    listener: TcpListener,
    books: Arc<Books>,
    stopping: Arc<AtomicBool>,
}

/// What the service writes down.
#[derive(Debug, Default)]
struct Books {
    /// How many bytes [`Op::Sink`] has taken.
    n_received: AtomicU64,
    /// What has come in on each numbered stream.
    ledgers: Mutex<BTreeMap<u64, Arc<Ledger>>>,
}

impl Books {
    fn ledger(&self, id: u64) -> Arc<Ledger> {
        let mut ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(ledgers.entry(id).or_default())
    }
}

impl Service {
    /// Starts it on loopback.
    pub fn start() -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into())
    }

    /// Starts it at `ip`.
    pub fn start_at(ip: IpAddr) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0))?;
        let address = listener.local_addr()?;
        let handle = listener.try_clone()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let books = Arc::new(Books::default());
        let own_books = Arc::clone(&books);
        thread::spawn(move || {
            for conn in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(conn) = conn else { continue };
                let books = Arc::clone(&own_books);
                let spawned = thread::Builder::new()
                    .stack_size(CONNECTION_STACK_LEN)
                    // A user who goes away is no error here: the user's side reports it.
                    .spawn(move || serve(&conn, &books));
                drop(spawned);
            }
        });
        Ok(Self {
            address,
            listener: handle,
            books,
            stopping,
        })
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns how many bytes all its [`Op::Sink`] connections have taken.
    pub fn n_received(&self) -> u64 {
        self.books.n_received.load(Ordering::Relaxed)
    }

    /// Returns what has come in on the numbered stream `id`, which need not have begun.
    pub(crate) fn ledger(&self, id: u64) -> Arc<Ledger> {
        self.books.ledger(id)
    }

    /// Forgets what has come in on the numbered stream `id`.
    pub fn forget(&self, id: u64) {
        let ledgers = self.books.ledgers.lock();
        ledgers.unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, so that it sees the flag and lets go of the port. Dropping
        // may happen outside of the lab that the service is in: connecting would not reach it.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

/// A UDP service on a free port of loopback that sends every datagram back.
#[derive(Debug)]
pub struct UdpEcho {
    port: u16,
    stopping: Arc<AtomicBool>,
}

impl UdpEcho {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(UDP_STOP_INTERVAL))?;
        let port = socket.local_addr()?.port();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        thread::spawn(move || {
            let mut datagram = vec![0; usize::from(u16::MAX)];
            while !stop.load(Ordering::Relaxed) {
                // A time-out, or the ICMP answer to an earlier reply: go on.
                let Ok((n, from)) = socket.recv_from(&mut datagram) else {
                    continue;
                };
                let _ = socket.send_to(&datagram[..n], from);
            }
        });
        Ok(Self { port, stopping })
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

fn serve(conn: &TcpStream, books: &Books) -> Result<()> {
    conn.set_nodelay(true)?;
    let mut stream = conn;
    let mut request = [0; REQUEST_LEN];
    stream.read_exact(&mut request)?;
    let [op, numbers @ ..] = request;
    let (len, seed) = numbers.split_at(8);
    let len = u64::from_be_bytes(len.try_into()?);
    let seed = u64::from_be_bytes(seed.try_into()?);

    match op {
        op if op == Op::Echo as u8 => echo(conn)?,
        op if op == Op::Download as u8 => Pattern::new(seed).send(len, &mut stream)?,
        op if op == Op::BurstDownload as u8 => {
            Pattern::new(seed).send(len, &mut Pausing::new(stream))?;
        }
        op if op == Op::Upload as u8 => {
            Pattern::new(seed).receive(len, &mut stream)?;
            stream.write_all(RECEIVED)?;
        }
        op if op == Op::Both as u8 => {
            thread::scope(|scope| {
                let upload = scope.spawn(|| Pattern::new(seed).receive(len, &mut &*conn));
                Pattern::new(!seed).send(len, &mut stream)?;
                upload.join().ok().context("the receiver panicked")?
            })?;
            stream.write_all(RECEIVED)?;
        }
        op if op == Op::Numbered as u8 => observe::serve(conn, len, seed, &books.ledger(seed))?,
        op if op == Op::Source as u8 => bulk::pour(conn)?,
        op if op == Op::Sink as u8 => bulk::drain(conn, &books.n_received)?,
        other => bail!("unknown operation {other}"),
    }
    // Whoever closes first may cut off what the other has not read: the user closes first.
    while stream.read(&mut request)? > 0 {}
    Ok(())
}

fn echo(mut conn: &TcpStream) -> io::Result<()> {
    let mut block = vec![0; ECHO_BLOCK_LEN];
    loop {
        let n = conn.read(&mut block)?;
        if n == 0 {
            return Ok(());
        }
        conn.write_all(&block[..n])?;
    }
}

/// What the service answers when an upload was intact to its last byte.
pub(crate) const RECEIVED: &[u8; 8] = b"RECEIVED";

/// The length of a request: operation, length, seed.
pub(crate) const REQUEST_LEN: usize = 1 + 8 + 8;

/// Several thousand idle connections fit into memory with this.
const CONNECTION_STACK_LEN: usize = 128 * 1024;

/// Echo connections are many and their messages small.
const ECHO_BLOCK_LEN: usize = 4 * 1024;

/// How often the UDP service looks whether it should end.
const UDP_STOP_INTERVAL: Duration = Duration::from_millis(200);
