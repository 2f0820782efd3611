//! A proxy between client and server, for `transport.proxyURL`: HTTP `CONNECT` and SOCKS5, told
//! apart by the first byte, both with a password.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

/// A running proxy on a free port of loopback.
#[derive(Debug)]
pub struct Detour {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    user: String,
    password: String,
    n_passed: AtomicU64,
    stopping: AtomicBool,
}

impl Detour {
    /// Starts one that lets `user` with `password` pass.
    pub fn start(user: &str, password: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            user: user.to_owned(),
            password: password.to_owned(),
            n_passed: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        });
        let state = Arc::clone(&shared);
        thread::spawn(move || {
            for conn in listener.incoming().flatten() {
                if state.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&state);
                // A client that is turned away sees its connection close; the test sees the client.
                thread::spawn(move || state.serve(&conn));
            }
        });
        Ok(Self { address, shared })
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns how many connections it has let pass.
    pub fn n_passed(&self) -> u64 {
        self.shared.n_passed.load(Ordering::Relaxed)
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, conn: &TcpStream) -> Result<()> {
        let mut first = [0];
        conn.peek(&mut first)?;
        let server = if first == [SOCKS_VERSION] {
            self.socks(conn)?
        } else {
            self.connect(conn)?
        };
        self.n_passed.fetch_add(1, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| copy_and_close(conn, &server));
            copy_and_close(&server, conn);
        });
        Ok(())
    }

    /// HTTP: one request, its headers, one answer.
    fn connect(&self, mut conn: &TcpStream) -> Result<TcpStream> {
        // A client sends nothing after its request until it is answered, so nothing is lost here.
        let mut lines = BufReader::new(conn).lines();
        let request = lines.next().context("no request")??;
        let target = request
            .strip_prefix("CONNECT ")
            .and_then(|rest| rest.strip_suffix(" HTTP/1.1"))
            .with_context(|| format!("not a CONNECT request: {request}"))?
            .to_owned();
        let credentials = base64(format!("{}:{}", self.user, self.password).as_bytes());
        let expected = format!("proxy-authorization: basic {credentials}").to_lowercase();
        let mut authorised = false;
        for line in lines {
            let line = line?;
            authorised |= line.to_lowercase() == expected;
            if line.is_empty() {
                break;
            }
        }
        if !authorised {
            conn.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")?;
            bail!("wrong password");
        }
        let server = TcpStream::connect(target)?;
        conn.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        Ok(server)
    }

    /// SOCKS5 with RFC 1929's password.
    fn socks(&self, mut conn: &TcpStream) -> Result<TcpStream> {
        let [_, n_methods] = read_array(conn)?;
        let methods = read_vec(conn, n_methods)?;
        ensure!(methods.contains(&SOCKS_PASSWORD), "no password offered");
        conn.write_all(&[SOCKS_VERSION, SOCKS_PASSWORD])?;

        let [_, len] = read_array(conn)?;
        let user = read_vec(conn, len)?;
        let [len] = read_array(conn)?;
        let password = read_vec(conn, len)?;
        let right = user == self.user.as_bytes() && password == self.password.as_bytes();
        conn.write_all(&[1, u8::from(!right)])?;
        ensure!(right, "wrong password");

        let [_, _connect, _, kind] = read_array(conn)?;
        let host = match kind {
            SOCKS_IPV4 => Ipv4Addr::from(read_array::<4>(conn)?).to_string(),
            SOCKS_NAME => {
                let [len] = read_array(conn)?;
                String::from_utf8(read_vec(conn, len)?)?
            }
            other => bail!("address kind {other}"),
        };
        let port = u16::from_be_bytes(read_array(conn)?);
        let server = TcpStream::connect((host, port))?;
        conn.write_all(&[SOCKS_VERSION, 0, 0, SOCKS_IPV4, 0, 0, 0, 0, 0, 0])?;
        Ok(server)
    }
}

fn copy_and_close(mut from: &TcpStream, mut to: &TcpStream) {
    // However the copying ends, the other side learns it from the closed connection.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}

fn read_array<const N: usize>(mut conn: &TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    conn.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_vec(mut conn: &TcpStream, len: u8) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(len)];
    conn.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for position in 0..4 {
            let six = (bits >> (18 - 6 * position)) & 63;
            let filled = position <= chunk.len();
            text.push(if filled {
                char::from(BASE64[six as usize])
            } else {
                '='
            });
        }
    }
    text
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const SOCKS_VERSION: u8 = 5;
const SOCKS_PASSWORD: u8 = 2;
const SOCKS_IPV4: u8 = 1;
const SOCKS_NAME: u8 = 3;
