//! A webhook's other end: takes what alerts send.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::PATIENCE;

/// Answers every request, and keeps its body.
#[derive(Debug)]
pub struct Webhook {
    port: u16,
    bodies: Receiver<Value>,
}

impl Webhook {
    /// Listens on loopback.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let (sender, bodies) = mpsc::channel();
        thread::spawn(move || {
            for conn in listener.incoming().flatten() {
                if take(&conn, &sender).is_none() {
                    return;
                }
            }
        });
        Ok(Self { port, bodies })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/holdfast", self.port)
    }

    /// Waits for a message about `key` in `state`, and returns it.
    pub fn wait_for(&self, key: &str, state: &str) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let body = self.bodies.recv_timeout(left);
            let body = body.with_context(|| format!("nobody was told that {key} is {state}"))?;
            if body["key"] == key && body["state"] == state {
                return Ok(body);
            }
        }
    }
}

/// Takes one request. `None` when nobody wants it any more.
fn take(conn: &TcpStream, bodies: &Sender<Value>) -> Option<()> {
    // What is no request is not looked at.
    let body = read(conn).unwrap_or_default();
    let mut answer = conn;
    let _ = answer.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    bodies.send(body).ok()
}

fn read(conn: &TcpStream) -> Result<Value> {
    conn.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(conn);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}
