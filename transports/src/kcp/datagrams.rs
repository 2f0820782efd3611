//! Datagrams of a carrier over KCP: sealed, since the session carries them outside of TLS.
//!
//! The keys come of the TLS session inside, one for each direction, and a datagram's number is its
//! nonce. Anyone can send packets again, so what has arrived is remembered by its number: a copy,
//! and what a stranger repeats, is dropped.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::Bytes;
use kcp_proto::{Config, Datagram, Session};

use crate::info::Exporter;
use crate::mux::Role;
use crate::{DatagramError, ExportError};

/// The datagrams of one session.
pub(super) struct Datagrams {
    sealing: LessSafeKey,
    opening: LessSafeKey,
    n_sealed: u64,
    seen: Seen,
    outbound: VecDeque<(Datagram, bool)>,
    inbound: VecDeque<Bytes>,
    reader: Option<Waker>,
}

impl Datagrams {
    /// Those of the end with this role in the TLS session that `exporter` belongs to.
    pub(super) fn new(exporter: &dyn Exporter, role: Role) -> Result<Self, ExportError> {
        let mut keys = [0; 2 * KEY_LEN];
        exporter.export(&mut keys, LABEL, b"")?;
        let (of_client, of_server) = keys.split_at(KEY_LEN);
        let key = |bytes| UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new);
        let (sealing, opening) = match role {
            Role::Client => (key(of_client), key(of_server)),
            Role::Server => (key(of_server), key(of_client)),
        };
        Ok(Self {
            sealing: sealing.map_err(|_| ExportError)?,
            opening: opening.map_err(|_| ExportError)?,
            n_sealed: 0,
            seen: Seen::default(),
            outbound: VecDeque::new(),
            inbound: VecDeque::new(),
            reader: None,
        })
    }

    /// Takes a datagram to be sent, which somebody may wait for.
    pub(super) fn send(&mut self, data: &[u8], is_awaited: bool) -> Result<(), DatagramError> {
        if data.len() > MAX_LEN {
            return Err(DatagramError::TooLong);
        }
        let number = self.n_sealed;
        self.n_sealed += 1;
        let mut sealed = Vec::with_capacity(data.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(data);
        let is_sealed =
            (self.sealing).seal_in_place_append_tag(nonce(number), Aad::empty(), &mut sealed);
        if is_sealed.is_ok() {
            if self.outbound.len() >= MAX_WAITING {
                self.outbound.pop_front();
            }
            let data = sealed.into();
            self.outbound
                .push_back((Datagram { number, data }, is_awaited));
        }
        Ok(())
    }

    /// Takes what has arrived, or waits for it.
    pub(super) fn poll_receive(&mut self, cx: &Context<'_>) -> Poll<Bytes> {
        match self.inbound.pop_front() {
            Some(data) => Poll::Ready(data),
            None => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Hands over what is to be sent, and takes what has arrived.
    pub(super) fn exchange(&mut self, session: &mut Session, now: std::time::Instant) {
        session.accept_datagrams();
        for (datagram, is_awaited) in self.outbound.drain(..) {
            session.send_datagram(datagram, is_awaited, now);
        }
        while let Some(datagram) = session.take_own_datagram() {
            self.open(datagram);
        }
    }

    /// Whoever is to hear that something has arrived.
    pub(super) fn woken(&mut self) -> Option<Waker> {
        match self.inbound.is_empty() {
            true => None,
            false => self.reader.take(),
        }
    }

    fn open(&mut self, Datagram { number, data }: Datagram) {
        if self.seen.has(number) {
            return;
        }
        let mut sealed = Vec::from(data);
        let opened = (self.opening).open_in_place(nonce(number), Aad::empty(), &mut sealed);
        let Ok(len) = opened.map(|data| data.len()) else {
            metrics::counter!("holdfast_kcp_datagrams_refused_total").increment(1);
            return;
        };
        self.seen.insert(number);
        sealed.truncate(len);
        if self.inbound.len() >= MAX_WAITING {
            self.inbound.pop_front();
        }
        self.inbound.push_back(sealed.into());
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Which numbers have arrived: the highest, and which of those before it.
#[derive(Debug, Default)]
struct Seen {
    next: u64,
    /// A bit for each of the last [`SPAN`] numbers, in turn.
    map: [u64; N_WORDS],
}

/// Numbers before the highest of which it is known whether they have arrived; older ones are
/// dropped. A user's datagrams at 100 Mbit/s on a path that delays some by 100 ms more than others,
/// and copies that leave while many others do.
const SPAN: u64 = (N_WORDS as u64 - 1) * WORD_BITS;

/// The last numbers begin and end within a word, so there is one more than they fill.
const N_WORDS: usize = 17;

const WORD_BITS: u64 = 64;

impl Seen {
    /// Whether it has arrived, or is so old that nobody knows.
    fn has(&self, number: u64) -> bool {
        match self.next.checked_sub(number) {
            None | Some(0) => false,
            Some(1..=SPAN) => self.map[word(number)] & bit(number) != 0,
            Some(_) => true,
        }
    }

    fn insert(&mut self, number: u64) {
        if number >= self.next {
            let new = self.next.div_ceil(WORD_BITS)..=number / WORD_BITS;
            for first in new.take(N_WORDS) {
                self.map[word(first * WORD_BITS)] = 0;
            }
            // The last number there is will never be sent: there are too many before it.
            self.next = number.saturating_add(1);
        }
        if let Some(1..=SPAN) = self.next.checked_sub(number) {
            self.map[word(number)] |= bit(number);
        }
    }
}

fn word(number: u64) -> usize {
    // A remainder is less than the number of words.
    usize::try_from(number / WORD_BITS % N_WORDS as u64).unwrap_or(0)
}

fn bit(number: u64) -> u64 {
    1 << (number % WORD_BITS)
}

/// The longest datagram: a whole segment, less the seal.
const MAX_LEN: usize = Config::FRP_MTU - kcp_proto::segment::Header::LEN - 16;

/// Datagrams that wait for the session, or for their reader. At the bound the oldest is dropped: it
/// was best effort, and the newest tells more.
const MAX_WAITING: usize = 256;

const KEY_LEN: usize = 32;

/// What the keys are exported for: the client's, then the server's.
const LABEL: &[u8] = b"EXPORTER-holdfast-kcp-datagrams";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn each_number_is_taken_once_in_whatever_order_they_come() {
        let mut seen = Seen::default();
        for number in [0, 2, 1, SPAN + 2, 3, SPAN + 1, 5 * SPAN, 4 * SPAN + 1] {
            assert!(!seen.has(number), "{number}");
            seen.insert(number);
            assert!(seen.has(number), "{number}");
        }
        assert!(!seen.has(5 * SPAN - 1));
        assert!(seen.has(4 * SPAN - 1), "too old to be known");
        seen.insert(u64::MAX - 1);
        assert!(seen.has(u64::MAX - 1) && seen.has(SPAN + 2));
        assert!(!seen.has(u64::MAX - 2));
    }

    #[test]
    fn what_has_arrived_is_known_wherever_the_last_numbers_begin() {
        let mut seen = Seen::default();
        for number in 0..5 * SPAN {
            // Every third is lost.
            if number % 3 > 0 {
                assert!(!seen.has(number));
                seen.insert(number);
            }
            let oldest = number.saturating_sub(SPAN - 2);
            assert!((oldest..=number).all(|n| seen.has(n) == (n % 3 > 0)));
        }
    }

    /// As if both ends had the same TLS session.
    struct Shared;

    impl Exporter for Shared {
        fn export(&self, out: &mut [u8], _: &[u8], _: &[u8]) -> Result<(), ExportError> {
            out.iter_mut().zip(0..).for_each(|(byte, n)| *byte = n);
            Ok(())
        }
    }

    #[test]
    fn only_the_peer_can_send_and_each_datagram_arrives_once() {
        let mut client = Datagrams::new(&Shared, Role::Client).unwrap();
        let mut server = Datagrams::new(&Shared, Role::Server).unwrap();
        client.send(b"hello", true).unwrap();
        let (datagram, _) = client.outbound.pop_front().unwrap();
        assert!(!datagram.data.windows(5).any(|part| part == b"hello"));

        client.open(datagram.clone());
        assert!(client.inbound.is_empty(), "sent back to where it is from");
        server.open(Datagram {
            number: 7,
            ..datagram.clone()
        });
        assert!(server.inbound.is_empty(), "under another number");
        server.open(datagram.clone());
        server.open(datagram);
        assert_eq!(server.inbound, [Bytes::from_static(b"hello")]);
    }

    #[test]
    fn what_nobody_reads_is_bounded() {
        let mut client = Datagrams::new(&Shared, Role::Client).unwrap();
        let mut server = Datagrams::new(&Shared, Role::Server).unwrap();
        for _ in 0..3 * MAX_WAITING {
            client.send(b"x", false).unwrap();
        }
        assert_eq!(client.outbound.len(), MAX_WAITING);
        for (datagram, _) in client.outbound.drain(..) {
            server.open(datagram.clone());
        }
        assert_eq!(server.inbound.len(), MAX_WAITING);
        assert_eq!(
            client.send(&[0; MAX_LEN + 1], false),
            Err(DatagramError::TooLong)
        );
    }
}
