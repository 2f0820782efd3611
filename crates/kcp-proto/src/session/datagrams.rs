//! Datagrams beside the stream: what is not to wait for anything that was lost.
//!
//! A datagram is the data of a segment that tells the window, which in frp has none and whose data
//! nobody looks at. Its number is where that segment has `ts` and `sn`, which mean nothing there
//! either. It leaves ahead of the stream's data, once or a few times, is never acknowledged, and
//! arrives or does not. An end that takes datagrams says so in each acknowledgement, by an `frg` of
//! [`TAKES_DATAGRAMS`]; nobody else looks at that.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Micros, whole_micros};
use crate::copies::{Copies, MAX_COPIES};
use crate::segment::Header;

/// What an acknowledgement has for `frg` if its sender takes datagrams.
pub(super) const TAKES_DATAGRAMS: u8 = 1;

/// Datagrams that wait to be sent, or sent again, at most: somebody's typing and some probes. At
/// the bound the oldest is dropped: on a path that slow the stream brings it as soon.
const MAX_OUTBOUND: usize = 64;

/// Datagrams that wait to be taken at most: more than arrive between two turns. At the bound the
/// oldest is dropped.
const MAX_INBOUND: usize = 256;

/// A datagram of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Which one. No two of a session that differ may have the same.
    pub number: u64,
    /// What it carries. Never empty.
    pub data: Bytes,
}

impl Datagram {
    /// Reads the datagram that a segment is, if it is one.
    pub(super) fn of(header: Header, data: Bytes) -> Option<Self> {
        let number = u64::from(header.ts) << 32 | u64::from(header.sn);
        (!data.is_empty()).then_some(Self { number, data })
    }

    /// Returns the `ts` and the `sn` of its segment.
    fn fields(&self) -> (u32, u32) {
        let [upper @ .., e, f, g, h] = self.number.to_be_bytes();
        (u32::from_be_bytes(upper), u32::from_be_bytes([e, f, g, h]))
    }
}

/// Datagrams of both directions.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    /// This end takes datagrams.
    pub(super) are_taken: bool,
    /// The peer does.
    pub(super) are_taken_there: bool,
    /// Bytes of datagrams that the pacer has counted while the stream had to wait for it.
    pub(super) n_ahead: usize,
    outbound: VecDeque<Outgoing>,
    inbound: VecDeque<Datagram>,
}

#[derive(Debug)]
struct Outgoing {
    datagram: Datagram,
    next_at: Micros,
    n_left: u32,
    spacing: Micros,
}

impl Datagrams {
    pub(super) fn push(&mut self, datagram: Datagram, copies: Copies, now: Micros) {
        if self.outbound.len() >= MAX_OUTBOUND {
            self.outbound.pop_front();
        }
        self.outbound.push_back(Outgoing {
            datagram,
            next_at: now,
            n_left: 1 + copies.n_extra.min(MAX_COPIES),
            spacing: whole_micros(copies.spacing),
        });
    }

    /// Returns what is to be sent now and fits into so many bytes: its segment, but for what every
    /// segment has.
    pub(super) fn pop(
        &mut self,
        blank: Header,
        max_len: usize,
        now: Micros,
    ) -> Option<(Header, Bytes)> {
        let at = (0..self.outbound.len())
            .filter(|&at| self.outbound[at].next_at <= now)
            .min_by_key(|&at| self.outbound[at].next_at)?;
        let outgoing = &mut self.outbound[at];
        let data = outgoing.datagram.data.clone();
        if Header::LEN + data.len() > max_len {
            return None;
        }
        let (ts, sn) = outgoing.datagram.fields();
        outgoing.n_left -= 1;
        outgoing.next_at = now.saturating_add(outgoing.spacing);
        if outgoing.n_left == 0 {
            self.outbound.remove(at);
        }
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        Some((
            Header {
                ts,
                sn,
                len,
                ..blank
            },
            data,
        ))
    }

    /// When the next is to be sent.
    pub(super) fn next_at(&self) -> Option<Micros> {
        self.outbound.iter().map(|outgoing| outgoing.next_at).min()
    }

    pub(super) fn handle_segment(&mut self, header: Header, data: Bytes) {
        let Some(datagram) = Datagram::of(header, data).filter(|_| self.are_taken) else {
            return;
        };
        if self.inbound.len() >= MAX_INBOUND {
            self.inbound.pop_front();
        }
        self.inbound.push_back(datagram);
    }

    pub(super) fn take(&mut self) -> Option<Datagram> {
        self.inbound.pop_front()
    }
}
