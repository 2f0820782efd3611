//! Finds the session that a datagram is for.
//!
//! A session is known by its peer's address and its conversation, as in kcp-go. Parity packets name
//! no conversation: they go to the session that the address has been heard of last, and one that
//! they do not belong to ignores them.

use std::collections::HashMap;
use std::net::SocketAddr;

use kcp_proto::fec::{DATA_HEADER_LEN, Framing};
use kcp_proto::segment::{Command, Header, Segments};

/// The sessions of a listener, by their peers.
#[derive(Debug, Default)]
pub(super) struct Table {
    peers: HashMap<SocketAddr, Vec<(u32, usize)>>,
}

/// Where a datagram belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// To a session.
    Member(usize),
    /// It may begin this conversation, with error correction or without.
    New { conv: u32, has_fec: bool },
    /// To a conversation that is no more.
    Lost(Header),
    /// Nowhere.
    Nowhere,
}

impl Table {
    /// Finds where `datagram` belongs.
    pub(super) fn look_up(&mut self, peer: SocketAddr, datagram: &[u8]) -> Lookup {
        let sessions = self.peers.get_mut(&peer);
        let (payload, has_fec) = match Framing::of(datagram) {
            None => return Lookup::Nowhere,
            Some(Framing::Plain) => (datagram, false),
            Some(Framing::Data { .. }) => (&datagram[DATA_HEADER_LEN..], true),
            Some(Framing::Parity { .. }) => {
                let latest = sessions.and_then(|sessions| sessions.last());
                return latest.map_or(Lookup::Nowhere, |&(_, id)| Lookup::Member(id));
            }
        };
        let Ok(first) = Header::decode(payload) else {
            return Lookup::Nowhere;
        };
        let n_sessions = sessions.as_ref().map_or(0, |sessions| sessions.len());
        if let Some(sessions) = sessions
            && let Some(idx) = sessions.iter().position(|&(conv, _)| conv == first.conv)
        {
            let last = sessions.len() - 1;
            sessions.swap(idx, last);
            return Lookup::Member(sessions[last].1);
        }
        if n_sessions < MAX_SESSIONS_PER_PEER && can_begin(payload, first) {
            Lookup::New {
                conv: first.conv,
                has_fec,
            }
        } else if is_of_the_past(payload, first) {
            Lookup::Lost(first)
        } else {
            Lookup::Nowhere
        }
    }

    pub(super) fn insert(&mut self, peer: SocketAddr, conv: u32, id: usize) {
        self.peers.entry(peer).or_default().push((conv, id));
    }

    pub(super) fn remove(&mut self, peer: SocketAddr, id: usize) {
        let Some(sessions) = self.peers.get_mut(&peer) else {
            return;
        };
        sessions.retain(|&(_, other)| other != id);
        if sessions.is_empty() {
            self.peers.remove(&peer);
        }
    }
}

/// Whether a conversation can begin like this: with data from near the beginning, by a client that
/// has received nothing. What an old conversation still sends does not look like it, once the
/// server has said anything in it.
fn can_begin(payload: &[u8], first: Header) -> bool {
    first.cmd == Command::Push
        && first.una == 0
        && first.sn < MAX_FIRST_SN
        && first.len > 0
        && Segments::new(payload, first.conv).all(|segment| segment.is_ok())
}

/// Whether this belongs to a conversation that has been forgotten, or was another's at this address:
/// its sender has heard of it, and wants an answer.
fn is_of_the_past(payload: &[u8], first: Header) -> bool {
    let wants_answer = match first.cmd {
        Command::Push | Command::AskWindow => true,
        // A datagram of our own: probes are, and who sends them waits for theirs.
        Command::TellWindow => first.len > 0,
        Command::Ack => false,
    };
    first.una > 0
        && wants_answer
        && Segments::new(payload, first.conv).all(|segment| segment.is_ok())
}

/// Conversations of one address and port. frp's clients take a port for each; the few more are for
/// one that is opened again while the old one lingers.
const MAX_SESSIONS_PER_PEER: usize = 8;

/// Segments before this one can be the first that arrives, when others are lost or late.
const MAX_FIRST_SN: u32 = super::member::STRANGER_WINDOW;
