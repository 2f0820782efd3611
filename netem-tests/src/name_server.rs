//! A name server with one answer, which can be changed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// Answers every question for an IPv4 address with the same one. Its thread lives as long as the
/// test's process.
#[derive(Debug)]
pub struct NameServer {
    ip: IpAddr,
    answer: Arc<Mutex<Ipv4Addr>>,
}

/// The port that resolvers ask.
const PORT: u16 = 53;

/// The longest question without extensions.
const MAX_LEN: usize = 512;

impl NameServer {
    /// Listens at port 53 of `ip`, an address of loopback.
    pub fn start(ip: Ipv4Addr, answer: Ipv4Addr) -> Result<Self> {
        let socket = UdpSocket::bind((ip, PORT)).context("cannot be a name server")?;
        let answer = Arc::new(Mutex::new(answer));
        let shared = Arc::clone(&answer);
        thread::spawn(move || {
            let mut question = [0; MAX_LEN];
            while let Ok((len, from)) = socket.recv_from(&mut question) {
                let answer = *shared.lock().unwrap_or_else(PoisonError::into_inner);
                reply(&socket, from, &question[..len], answer);
            }
        });
        Ok(Self {
            ip: ip.into(),
            answer,
        })
    }

    /// What a resolver's configuration says of it.
    pub fn resolv_conf(&self) -> String {
        format!("nameserver {}\noptions timeout:1 attempts:2\n", self.ip)
    }

    /// Answers with another address from here on.
    pub fn set(&self, answer: Ipv4Addr) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

/// Answers one question: RFC 1035, section 4.1.
fn reply(socket: &UdpSocket, from: SocketAddr, question: &[u8], answer: Ipv4Addr) {
    // Behind the header is the name, which ends with an empty label, and its type and class.
    let Some(name_len) = question.get(12..).and_then(|rest| {
        let end = rest.iter().position(|byte| *byte == 0)?;
        (rest.len() >= end + 5).then_some(end + 1)
    }) else {
        return;
    };
    let end = 12 + name_len + 4;
    let is_for_ipv4 = question[12 + name_len..12 + name_len + 2] == [0, 1];
    let mut text = question[..2].to_vec();
    // An answer, with recursion, and no error.
    text.extend([0x81, 0x80, 0, 1, 0, u8::from(is_for_ipv4), 0, 0, 0, 0]);
    text.extend(&question[12..end]);
    if is_for_ipv4 {
        // The name of the question, an IPv4 address, for a second.
        text.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        text.extend(answer.octets());
    }
    // Whoever has gone needs no answer.
    let _ = socket.send_to(&text, from);
}
