//! Bounds on connections whose peer has not proven itself yet.
//!
//! Every accepted connection asks [`HalfOpen::enter`] for a place before anything of it is read. It
//! gets one at once, or waits for one, and its time for the login runs from the place on: beyond
//! the bounds a connection is delayed, not refused. The [`Place`] is given back by
//! [`Place::admit`] or by dropping it, and goes to the waiting address that has the fewest.
//!
//! One address cannot keep others waiting: it has a bound of its own, both for places and for
//! waiting. An address with an admitted carrier is a customer: its further connections (work
//! connections without multiplexing, visitors) are not counted. Where an address shows nothing,
//! since anyone can send in its name, these have bounds of their own: a crowd of strangers does not
//! keep customers out, and whoever uses a customer's name finds an end as well.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::info::Admission;

/// The bounds for half-open connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfOpenLimits {
    /// Places in all.
    pub total: usize,
    /// Places of one IPv4 address or IPv6 /64.
    pub per_address: usize,
    /// Connections that may wait for a place. Beyond it the address with the most waiting loses
    /// its oldest.
    pub waiting: usize,
    /// Connections of one address that may wait. Beyond it that address loses its oldest: a peer
    /// that goes on connecting is more likely to be behind its newest connections.
    pub waiting_per_address: usize,
    /// Places of customers, in all. Beyond it they are treated as strangers are.
    pub customers: usize,
    /// Places of one customer.
    pub per_customer: usize,
}

impl Default for HalfOpenLimits {
    /// With ten seconds to log in, 256 places are 25 silent connections a second, and 1,024
    /// waiting ones fit beside them into the usual limits on file descriptors.
    fn default() -> Self {
        Self {
            total: 256,
            per_address: 64,
            waiting: 1024,
            waiting_per_address: 512,
            // Whoever has connected over TCP, or has been asked by QUIC, has shown its address.
            customers: usize::MAX,
            per_customer: usize::MAX,
        }
    }
}

/// The half-open connections of one listener.
#[derive(Debug)]
pub struct HalfOpen {
    limits: HalfOpenLimits,
    table: Mutex<Table>,
}

impl HalfOpen {
    /// Creates an empty table. A bound of zero counts as one, since nobody could log in otherwise.
    pub fn new(limits: HalfOpenLimits) -> Arc<Self> {
        Arc::new(Self {
            limits: HalfOpenLimits {
                total: limits.total.max(1),
                per_address: limits.per_address.max(1),
                ..limits
            },
            table: Mutex::default(),
        })
    }

    /// Asks for a place for a connection from `ip`.
    pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Entry {
        let key = Key::of(ip);
        let mut table = self.table.lock();
        if let Some(standing) = table.try_take(&self.limits, key) {
            return Entry::Place(self.place(key, standing));
        }

        let id = table.next_id;
        table.next_id += 1;
        let (grant, granted) = oneshot::channel();
        let shed = table.make_room(&self.limits, key);
        if self.limits.waiting > 0 && self.limits.waiting_per_address > 0 {
            table.waiting.push_back(Waiter { id, key, grant });
            table.address(key).n_waiting += 1;
        }
        table.forget_if_unused(key);
        drop(table);
        if let Some(shed) = shed {
            metrics::counter!("holdfast_rejected_total", "cause" => "half-open waiting")
                .increment(1);
            drop(shed);
        }

        Entry::Waiting(Waiting {
            half_open: self.clone(),
            id,
            granted,
        })
    }

    /// Asks for a place that is free now, for a peer that asks again by itself.
    pub fn try_enter(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let key = Key::of(ip);
        let mut table = self.table.lock();
        let standing = table.try_take(&self.limits, key);
        table.forget_if_unused(key);
        Some(self.place(key, standing?))
    }

    /// Places taken at the moment.
    pub fn n_taken(&self) -> usize {
        self.table.lock().n_taken
    }

    /// Connections waiting for a place at the moment.
    pub fn n_waiting(&self) -> usize {
        self.table.lock().waiting.len()
    }

    fn place(self: &Arc<Self>, key: Key, standing: Standing) -> Place {
        Place {
            half_open: self.clone(),
            key,
            standing: Mutex::new(standing),
        }
    }

    /// Hands out what has become free.
    fn hand_out(self: &Arc<Self>, mut table: parking_lot::MutexGuard<'_, Table>) {
        let mut granted = Vec::new();
        while let Some((waiter, standing)) = table.next_grant(&self.limits) {
            granted.push((waiter.grant, self.place(waiter.key, standing)));
        }
        // A receiver that is gone gives its place back right here, which takes the lock again.
        drop(table);
        for (grant, place) in granted {
            let _ = grant.send(place);
        }
    }
}

/// The answer to [`HalfOpen::enter`].
#[derive(Debug)]
pub enum Entry {
    /// There was a place.
    Place(Place),
    /// All are taken, in total or for this address.
    Waiting(Waiting),
}

impl Entry {
    /// Waits for the place. `None` when too many wait and this connection was chosen to go.
    pub async fn place(self) -> Option<Place> {
        match self {
            Self::Place(place) => Some(place),
            Self::Waiting(mut waiting) => (&mut waiting.granted).await.ok(),
        }
    }
}

/// A connection that waits for a place. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Waiting {
    half_open: Arc<HalfOpen>,
    id: u64,
    granted: oneshot::Receiver<Place>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut table = self.half_open.table.lock();
        if let Some(idx) = table.waiting.iter().position(|w| w.id == self.id) {
            table.remove_waiter(idx);
        }
    }
}

/// The right of one connection to be there without having proven itself.
#[derive(Debug)]
pub struct Place {
    half_open: Arc<HalfOpen>,
    key: Key,
    standing: Mutex<Standing>,
}

impl Place {
    /// The peer has proven itself: gives the place back, and lifts the bounds for its address
    /// until this is dropped. Calling it again does nothing.
    pub fn admit(&self) {
        let mut standing = self.standing.lock();
        let before = std::mem::replace(&mut *standing, Standing::Admitted);
        if before == Standing::Admitted {
            return;
        }
        let mut table = self.half_open.table.lock();
        table.give_back(self.key, before);
        table.address(self.key).n_admitted += 1;
        self.half_open.hand_out(table);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.half_open.table.lock();
        table.give_back(self.key, *self.standing.get_mut());
        self.half_open.hand_out(table);
    }
}

impl Admission for Place {
    fn admit(&self) {
        Self::admit(self);
    }
}

/// What a [`Place`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Counts towards the bounds.
    Counted,
    /// Not proven yet, but its address has an admitted carrier.
    Customer,
    /// Proven.
    Admitted,
}

#[derive(Debug, Default)]
struct Table {
    n_taken: usize,
    n_of_customers: usize,
    addresses: HashMap<Key, Address>,
    waiting: VecDeque<Waiter>,
    next_id: u64,
}

impl Table {
    fn try_take(&mut self, limits: &HalfOpenLimits, key: Key) -> Option<Standing> {
        let standing = self.standing_of(limits, self.addresses.get(&key))?;
        let (n_in_all, n_of_address) = self.taken(key, standing)?;
        *n_in_all += 1;
        *n_of_address += 1;
        Some(standing)
    }

    /// What a place for one more connection of an address would stand for, if there is one.
    fn standing_of(&self, limits: &HalfOpenLimits, address: Option<&Address>) -> Option<Standing> {
        let none = Address::default();
        let address = address.unwrap_or(&none);
        if address.n_admitted > 0
            && self.n_of_customers < limits.customers
            && address.n_as_customer < limits.per_customer
        {
            return Some(Standing::Customer);
        }
        let has_room = self.n_taken < limits.total && address.n_taken < limits.per_address;
        has_room.then_some(Standing::Counted)
    }

    /// The numbers of places that one with this standing counts towards, in all and of its address.
    fn taken(&mut self, key: Key, standing: Standing) -> Option<(&mut usize, &mut usize)> {
        let address = self.addresses.entry(key).or_default();
        match standing {
            Standing::Counted => Some((&mut self.n_taken, &mut address.n_taken)),
            Standing::Customer => Some((&mut self.n_of_customers, &mut address.n_as_customer)),
            Standing::Admitted => None,
        }
    }

    fn give_back(&mut self, key: Key, standing: Standing) {
        match self.taken(key, standing) {
            Some((n_in_all, n_of_address)) => {
                *n_in_all -= 1;
                *n_of_address -= 1;
            }
            None => self.address(key).n_admitted -= 1,
        }
        self.forget_if_unused(key);
    }

    /// Chooses among the waiting, whose address may have one more, the one whose address has the
    /// fewest places; among equals the one that has waited longest.
    fn next_grant(&mut self, limits: &HalfOpenLimits) -> Option<(Waiter, Standing)> {
        let mut best: Option<(usize, usize)> = None;
        for (idx, waiter) in self.waiting.iter().enumerate() {
            let Some(address) = self.addresses.get(&waiter.key) else {
                continue;
            };
            let n_taken = match self.standing_of(limits, Some(address)) {
                Some(Standing::Counted) => address.n_taken,
                Some(_) => 0,
                None => continue,
            };
            if best.is_none_or(|(fewest, _)| n_taken < fewest) {
                best = Some((n_taken, idx));
            }
        }
        let (_, idx) = best?;
        let key = self.waiting.get(idx)?.key;
        let standing = self.try_take(limits, key)?;
        let waiter = self.remove_waiter(idx)?;
        Some((waiter, standing))
    }

    /// Takes a waiter out of the queue when one more from `key` would break a bound.
    fn make_room(&mut self, limits: &HalfOpenLimits, key: Key) -> Option<Waiter> {
        let loser = if self.address(key).n_waiting >= limits.waiting_per_address {
            key
        } else if self.waiting.len() >= limits.waiting {
            let most = self.addresses.iter().max_by_key(|(_, a)| a.n_waiting)?;
            *most.0
        } else {
            return None;
        };
        let idx = self.waiting.iter().position(|w| w.key == loser)?;
        self.remove_waiter(idx)
    }

    fn remove_waiter(&mut self, idx: usize) -> Option<Waiter> {
        let waiter = self.waiting.remove(idx)?;
        self.address(waiter.key).n_waiting -= 1;
        self.forget_if_unused(waiter.key);
        Some(waiter)
    }

    fn address(&mut self, key: Key) -> &mut Address {
        self.addresses.entry(key).or_default()
    }

    fn forget_if_unused(&mut self, key: Key) {
        if self.addresses.get(&key).is_some_and(Address::is_unused) {
            self.addresses.remove(&key);
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Address {
    n_taken: usize,
    n_waiting: usize,
    n_as_customer: usize,
    n_admitted: usize,
}

impl Address {
    fn is_unused(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    key: Key,
    grant: oneshot::Sender<Place>,
}

/// What counts as one address: an IPv4 address, or an IPv6 /64, which is what one customer of an
/// access network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(IpAddr);

impl Key {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self(v4.into()),
            IpAddr::V6(v6) => {
                let prefix = v6.to_bits() & !u128::from(u64::MAX);
                Self(Ipv6Addr::from_bits(prefix).into())
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const C: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 3));

    #[test]
    fn one_address_at_its_bound_does_not_delay_another() {
        let half_open = table(10, 2);
        let _places = [at_once(&half_open, A), at_once(&half_open, A)];
        let mut third = waiting(&half_open, A);
        at_once(&half_open, B);
        assert!(third.granted().is_none());
    }

    #[test]
    fn a_place_given_back_goes_to_the_one_that_has_waited_longest() {
        let half_open = table(10, 1);
        let place = at_once(&half_open, A);
        let mut first = waiting(&half_open, A);
        let mut second = waiting(&half_open, A);
        drop(place);
        let _place = first.granted().unwrap();
        assert!(second.granted().is_none());
    }

    #[test]
    fn a_place_given_back_goes_to_the_address_with_the_fewest() {
        let half_open = table(3, 3);
        let _kept = [at_once(&half_open, A), at_once(&half_open, A)];
        let place = at_once(&half_open, B);
        let mut crowd = waiting(&half_open, A);
        let mut newcomer = waiting(&half_open, C);
        drop(place);
        let _place = newcomer.granted().unwrap();
        assert!(crowd.granted().is_none());
    }

    #[test]
    fn admitting_gives_the_place_back_and_lifts_the_bound_for_the_address() {
        let half_open = table(2, 1);
        let place = at_once(&half_open, A);
        let mut second = waiting(&half_open, A);
        place.admit();
        place.admit();
        assert!(second.granted().is_some());
        assert_eq!(half_open.n_taken(), 0);

        let _uncounted = [at_once(&half_open, A), at_once(&half_open, A)];
        drop(place);
        let _counted = at_once(&half_open, A);
        waiting(&half_open, A);
    }

    #[test]
    fn the_bound_in_all_holds_across_addresses() {
        let half_open = table(2, 2);
        let _a = at_once(&half_open, A);
        let b = at_once(&half_open, B);
        let mut c = waiting(&half_open, C);
        drop(b);
        assert!(c.granted().is_some());
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_ipv4_is_itself() {
        let half_open = table(10, 1);
        let _v6 = at_once(&half_open, "2001:db8::1".parse().unwrap());
        waiting(&half_open, "2001:db8::2:3".parse().unwrap());
        at_once(&half_open, "2001:db8:0:1::1".parse().unwrap());
        let _v4 = at_once(&half_open, A);
        waiting(&half_open, "::ffff:192.0.2.1".parse().unwrap());
    }

    #[test]
    fn an_address_that_goes_on_connecting_loses_its_oldest_waiting_connection() {
        let half_open = HalfOpen::new(HalfOpenLimits {
            total: 1,
            per_address: 1,
            waiting: 10,
            waiting_per_address: 2,
            ..HalfOpenLimits::default()
        });
        let _place = at_once(&half_open, A);
        let mut waiters: Vec<_> = (0..3).map(|_| waiting(&half_open, A)).collect();
        assert!(waiters[0].is_shed());
        assert!(!waiters[1].is_shed());
        assert!(!waiters[2].is_shed());
    }

    #[test]
    fn when_too_many_wait_in_all_the_address_with_the_most_loses_one() {
        let half_open = HalfOpen::new(HalfOpenLimits {
            total: 1,
            per_address: 1,
            waiting: 3,
            waiting_per_address: 3,
            ..HalfOpenLimits::default()
        });
        let _place = at_once(&half_open, A);
        let mut lone = waiting(&half_open, B);
        let mut crowd = [waiting(&half_open, A), waiting(&half_open, A)];
        let mut newcomer = waiting(&half_open, C);
        assert!(crowd[0].is_shed());
        assert!(!crowd[1].is_shed());
        assert!(!lone.is_shed());
        assert!(!newcomer.is_shed());
    }

    #[test]
    fn customers_have_bounds_of_their_own_where_anyone_can_use_their_name() {
        let half_open = HalfOpen::new(HalfOpenLimits {
            total: 1,
            per_address: 1,
            customers: 3,
            per_customer: 2,
            ..HalfOpenLimits::default()
        });
        let [_a, _b] = [A, B].map(|ip| {
            let place = half_open.try_enter(ip).unwrap();
            place.admit();
            place
        });
        let stranger = half_open.try_enter(C).unwrap();

        let of_a = [A; 2].map(|ip| half_open.try_enter(ip).unwrap());
        assert!(half_open.try_enter(A).is_none(), "it has its two");
        let _of_b = half_open.try_enter(B).unwrap();
        assert!(
            half_open.try_enter(B).is_none(),
            "customers have their three"
        );

        drop(of_a);
        let _more_of_b = half_open.try_enter(B).unwrap();
        drop(stranger);
        half_open
            .try_enter(B)
            .expect("beyond it there is a stranger's place");
    }

    #[test]
    fn nothing_is_remembered_of_those_that_are_gone() {
        let half_open = table(2, 1);
        let place = at_once(&half_open, A);
        let waiter = waiting(&half_open, A);
        let other = at_once(&half_open, B);
        other.admit();
        drop((waiter, other, place));
        let table = half_open.table.lock();
        assert!(table.addresses.is_empty());
        assert!(table.waiting.is_empty());
        assert_eq!(table.n_taken, 0);
    }

    fn table(total: usize, per_address: usize) -> Arc<HalfOpen> {
        HalfOpen::new(HalfOpenLimits {
            total,
            per_address,
            ..HalfOpenLimits::default()
        })
    }

    fn at_once(half_open: &Arc<HalfOpen>, ip: IpAddr) -> Place {
        match half_open.enter(ip) {
            Entry::Place(place) => place,
            Entry::Waiting(_) => panic!("{ip} has to wait"),
        }
    }

    fn waiting(half_open: &Arc<HalfOpen>, ip: IpAddr) -> Waiting {
        match half_open.enter(ip) {
            Entry::Place(_) => panic!("{ip} does not have to wait"),
            Entry::Waiting(waiting) => waiting,
        }
    }

    impl Waiting {
        fn granted(&mut self) -> Option<Place> {
            self.granted.try_recv().ok()
        }

        fn is_shed(&mut self) -> bool {
            matches!(
                self.granted.try_recv(),
                Err(oneshot::error::TryRecvError::Closed)
            )
        }
    }
}
