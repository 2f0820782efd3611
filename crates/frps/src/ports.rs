//! Which public ports proxies may have, and who has which.
//!
//! A port is taken by binding it: [`PortManager::acquire`] hands out the bound socket together with
//! a [`PortLease`], and dropping the lease gives the port back. A port that was asked for as 0
//! ("any") is remembered for the proxy's name, so that a client that comes back within a day finds
//! its proxy where it was.

use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::seq::SliceRandom;

/// Hands out the ports of one protocol.
#[derive(Debug)]
pub(crate) struct PortManager {
    allowed: PortSet,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: PortSet,
    /// By proxy name: the port it has or had.
    reserved: HashMap<String, Reservation>,
}

#[derive(Debug)]
struct Reservation {
    port: u16,
    /// When the proxy gave the port back; `None` while it holds it.
    released: Option<Instant>,
}

impl PortManager {
    /// Allows the ports of `ranges`, or every port without any range.
    pub(crate) fn new(ranges: Option<&[RangeInclusive<u16>]>) -> Arc<Self> {
        let mut allowed = PortSet::default();
        match ranges {
            None => (1..=u16::MAX).for_each(|port| allowed.insert(port)),
            Some(ranges) => {
                for port in ranges.iter().cloned().flatten().filter(|port| *port != 0) {
                    allowed.insert(port);
                }
            }
        }
        Arc::new(Self {
            allowed,
            state: Mutex::default(),
        })
    }

    /// Takes `port` for the proxy `name` by calling `bind` with it; 0 means any.
    ///
    /// `port` is as it came from the peer, and may be any number.
    pub(crate) fn acquire<S>(
        self: &Arc<Self>,
        name: &str,
        port: i64,
        bind: impl Fn(u16) -> io::Result<S>,
    ) -> Result<(PortLease, S), PortError> {
        let mut state = self.state.lock();
        let (port, socket) = if port == 0 {
            self.acquire_any(&state, name, bind)?
        } else {
            let port = u16::try_from(port).map_err(|_| PortError::NotAllowed)?;
            if state.used.contains(port) {
                return Err(PortError::AlreadyUsed);
            }
            if !self.allowed.contains(port) {
                return Err(PortError::NotAllowed);
            }
            (port, bind(port).map_err(|_| PortError::Unavailable)?)
        };
        state.used.insert(port);
        state.reserve(name, port, Instant::now());
        drop(state);
        let lease = PortLease {
            manager: Arc::clone(self),
            name: name.to_owned(),
            port,
        };
        Ok((lease, socket))
    }

    /// The port that `name` had lately, else one of a few picked at random.
    fn acquire_any<S>(
        &self,
        state: &State,
        name: &str,
        bind: impl Fn(u16) -> io::Result<S>,
    ) -> Result<(u16, S), PortError> {
        let now = Instant::now();
        let own = state
            .reserved
            .get(name)
            .filter(|r| r.is_valid(now))
            .map(|r| r.port);
        let mut others = PortSet::default();
        state
            .reserved
            .values()
            .filter(|r| r.is_valid(now))
            .for_each(|r| others.insert(r.port));

        let free = |port: &u16| self.allowed.contains(*port) && !state.used.contains(*port);
        let mut open: Vec<u16> = (1..=u16::MAX)
            .filter(free)
            .filter(|port| !others.contains(*port))
            .collect();
        let (picked, _) = open.partial_shuffle(&mut rand::rng(), MAX_RANDOM_TRIES);
        // Ports kept for other names come last: better than none.
        let kept = (1..=u16::MAX)
            .filter(free)
            .filter(|port| others.contains(*port));
        own.filter(|port| free(port))
            .into_iter()
            .chain(picked.iter().copied().chain(kept).take(MAX_RANDOM_TRIES))
            .find_map(|port| bind(port).ok().map(|socket| (port, socket)))
            .ok_or(PortError::NoneAvailable)
    }

    /// The name of the proxy that has the port.
    pub(crate) fn name_at(&self, port: u16) -> Option<String> {
        let state = self.state.lock();
        let has_it = |r: &Reservation| r.port == port && r.released.is_none();
        let found = state.reserved.iter().find(|(_, r)| has_it(r));
        found.map(|(name, _)| name.clone())
    }

    fn release(&self, name: &str, port: u16) {
        let mut state = self.state.lock();
        state.used.remove(port);
        if let Some(reservation) = state.reserved.get_mut(name)
            && reservation.port == port
        {
            reservation.released = Some(Instant::now());
        }
    }
}

impl State {
    fn reserve(&mut self, name: &str, port: u16, now: Instant) {
        if self.reserved.len() >= MAX_RESERVATIONS && !self.reserved.contains_key(name) {
            self.reserved.retain(|_, r| r.is_valid(now));
            if self.reserved.len() >= MAX_RESERVATIONS {
                self.forget_oldest();
            }
        }
        // At the bound with every reservation in use the name is simply not remembered.
        if self.reserved.len() < MAX_RESERVATIONS || self.reserved.contains_key(name) {
            self.reserved.insert(
                name.to_owned(),
                Reservation {
                    port,
                    released: None,
                },
            );
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .reserved
            .iter()
            .filter_map(|(name, r)| r.released.map(|at| (at, name)))
            .min()
            .map(|(_, name)| name.clone());
        if let Some(name) = oldest {
            self.reserved.remove(&name);
        }
    }
}

impl Reservation {
    fn is_valid(&self, now: Instant) -> bool {
        self.released
            .is_none_or(|at| now.saturating_duration_since(at) < RESERVED_FOR)
    }
}

/// A port in use by a proxy. Dropping it gives the port back.
#[derive(Debug)]
pub(crate) struct PortLease {
    manager: Arc<PortManager>,
    name: String,
    port: u16,
}

impl PortLease {
    /// The port, never 0.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        self.manager.release(&self.name, self.port);
    }
}

/// Why a proxy does not get its port. The texts are frp's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PortError {
    /// Another proxy of this server has it.
    #[error("port already used")]
    AlreadyUsed,
    /// It is outside `allowPorts`, or no port number at all.
    #[error("port not allowed")]
    NotAllowed,
    /// Something else on this host has it.
    #[error("port unavailable")]
    Unavailable,
    /// None of the ports that were tried could be bound.
    #[error("no available port")]
    NoneAvailable,
}

impl PortError {
    /// Whether the port would be had if that other proxy closed.
    pub(crate) fn is_taken(self) -> bool {
        self == Self::AlreadyUsed
    }
}

/// A set of port numbers, as bits.
struct PortSet(Box<[u64; PORT_WORDS]>);

impl PortSet {
    fn insert(&mut self, port: u16) {
        self.0[usize::from(port / 64)] |= 1 << (port % 64);
    }

    fn remove(&mut self, port: u16) {
        self.0[usize::from(port / 64)] &= !(1 << (port % 64));
    }

    fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port / 64)] & (1 << (port % 64)) != 0
    }
}

impl Default for PortSet {
    fn default() -> Self {
        Self(Box::new([0; PORT_WORDS]))
    }
}

impl std::fmt::Debug for PortSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        write!(f, "PortSet({n} ports)")
    }
}

/// 65,536 bits.
const PORT_WORDS: usize = 65_536 / 64;

/// How many ports are tried for "any", as in frp.
const MAX_RANDOM_TRIES: usize = 5;

/// How long a port stays with a proxy's name after the proxy is gone, as in frp.
const RESERVED_FOR: Duration = Duration::from_secs(24 * 3600);

/// Names are the clients' choice, so their number is bounded; the one longest gone is forgotten.
const MAX_RESERVATIONS: usize = 16_384;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn always(port: u16) -> io::Result<u16> {
        Ok(port)
    }

    fn never(_port: u16) -> io::Result<u16> {
        Err(io::ErrorKind::AddrInUse.into())
    }

    #[test]
    fn a_port_has_one_owner_at_a_time() {
        let ports = PortManager::new(None);
        let (lease, _) = ports.acquire("a", 6000, always).unwrap();
        assert_eq!(
            ports.acquire("b", 6000, always).unwrap_err(),
            PortError::AlreadyUsed
        );
        drop(lease);
        assert_eq!(ports.acquire("b", 6000, always).unwrap().0.port(), 6000);
    }

    #[test]
    fn numbers_that_are_no_port_are_not_allowed() {
        let ports = PortManager::new(None);
        for port in [-1, 65_536, i64::MIN, i64::MAX] {
            assert_eq!(
                ports.acquire("a", port, always).unwrap_err(),
                PortError::NotAllowed
            );
        }
    }

    #[test]
    fn only_allowed_ports_are_given() {
        let ports = PortManager::new(Some(&[2000..=2001, 3000..=3000]));
        assert_eq!(
            ports.acquire("a", 2002, always).unwrap_err(),
            PortError::NotAllowed
        );
        let leases: Vec<_> = (0..3)
            .map(|i| ports.acquire(&i.to_string(), 0, always).unwrap().0)
            .collect();
        let mut given: Vec<u16> = leases.iter().map(PortLease::port).collect();
        given.sort_unstable();
        assert_eq!(given, [2000, 2001, 3000]);
        assert_eq!(
            ports.acquire("d", 0, always).unwrap_err(),
            PortError::NoneAvailable
        );
    }

    #[test]
    fn a_range_that_ends_before_it_starts_allows_nothing() {
        #[expect(clippy::reversed_empty_ranges, reason = "that is the case")]
        let ports = PortManager::new(Some(&[3000..=2000]));
        assert_eq!(
            ports.acquire("a", 2500, always).unwrap_err(),
            PortError::NotAllowed
        );
    }

    #[test]
    fn a_port_that_cannot_be_bound_is_unavailable() {
        let ports = PortManager::new(None);
        assert_eq!(
            ports.acquire("a", 6000, never).unwrap_err(),
            PortError::Unavailable
        );
        assert_eq!(
            ports.acquire("a", 0, never).unwrap_err(),
            PortError::NoneAvailable
        );
        assert_eq!(ports.acquire("a", 6000, always).unwrap().0.port(), 6000);
    }

    #[test]
    fn a_name_finds_its_random_port_again() {
        let ports = PortManager::new(None);
        let (lease, port) = ports.acquire("a", 0, always).unwrap();
        drop(lease);
        for _ in 0..10 {
            let (_lease, again) = ports.acquire("a", 0, always).unwrap();
            assert_eq!(again, port);
        }
    }

    #[test]
    fn a_port_kept_for_another_name_is_given_last() {
        let ports = PortManager::new(Some(&[2000..=2001]));
        let (lease, kept) = ports.acquire("a", 0, always).unwrap();
        drop(lease);
        let (_first, port) = ports.acquire("b", 0, always).unwrap();
        assert_ne!(port, kept);
        let (_second, port) = ports.acquire("c", 0, always).unwrap();
        assert_eq!(port, kept);
    }

    #[test]
    fn the_names_remembered_are_bounded() {
        let ports = PortManager::new(None);
        for i in 0..MAX_RESERVATIONS + 100 {
            ports.acquire(&i.to_string(), 6000, always).unwrap();
        }
        assert!(ports.state.lock().reserved.len() <= MAX_RESERVATIONS);
    }
}
