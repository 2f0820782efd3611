//! What the proxies have carried: counters by day for the API, totals for the metrics.
//!
//! A proxy's numbers outlive it: they are kept under its name for a week after it was last there,
//! and go on when it comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Datelike, Local, NaiveDate, TimeDelta};
use frp_core::relay::Carried;
use parking_lot::Mutex;

/// The numbers of one server.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    proxies: Mutex<Remembered>,
    totals: Arc<Mutex<Traffic>>,
    /// Types that there have been proxies of.
    kinds: Mutex<BTreeSet<&'static str>>,
}

impl Stats {
    /// Notes that a proxy has started. Counting goes on where a proxy of that name and kind left
    /// off.
    pub(crate) fn start_proxy(
        &self,
        name: &str,
        kind: &'static str,
        owner: Owner,
    ) -> Arc<ProxyStats> {
        self.kinds.lock().insert(kind);
        let mut proxies = self.proxies.lock();
        let before = proxies
            .by_name
            .get(name)
            .filter(|proxy| proxy.kind == kind)
            .cloned();
        let proxy = before.unwrap_or_else(|| {
            Arc::new(ProxyStats {
                name: name.to_owned(),
                kind,
                totals: Arc::clone(&self.totals),
                carried: Carried::default(),
                n_failed: AtomicU64::new(0),
                state: Mutex::default(),
            })
        });
        {
            let mut state = proxy.state.lock();
            state.owner = owner;
            state.started = Some(Local::now());
            state.online = true;
        }
        proxies.by_name.insert(name.to_owned(), Arc::clone(&proxy));
        proxies.n_started += 1;
        if proxies.n_started >= CHECKED_EVERY {
            proxies.n_started = 0;
            proxies.forget_longest_gone();
        }
        proxy
    }

    /// Drops what has been gone for a week. Called every so often.
    pub(crate) fn forget_old(&self) {
        let now = Local::now();
        self.proxies.lock().by_name.retain(|_, proxy| {
            let state = proxy.state.lock();
            state.online || state.closed.is_none_or(|at| now - at < KEPT_FOR)
        });
    }

    /// Drops every proxy that is offline. Returns how many there were, and how many in all.
    pub(crate) fn forget_offline(&self) -> (usize, usize) {
        let mut proxies = self.proxies.lock();
        let n_before = proxies.by_name.len();
        proxies.by_name.retain(|_, proxy| proxy.state.lock().online);
        (n_before - proxies.by_name.len(), n_before)
    }

    /// The proxy of that name, there or gone.
    pub(crate) fn proxy(&self, name: &str) -> Option<Arc<ProxyStats>> {
        self.proxies.lock().by_name.get(name).cloned()
    }

    /// All proxies, there or gone, by name.
    pub(crate) fn proxies(&self) -> Vec<Arc<ProxyStats>> {
        self.proxies.lock().by_name.values().cloned().collect()
    }

    /// How many proxies of each type are there; 0 for types that have been there.
    pub(crate) fn n_by_kind(&self) -> BTreeMap<&'static str, usize> {
        let mut counts: BTreeMap<_, _> = self.kinds.lock().iter().map(|kind| (*kind, 0)).collect();
        for proxy in self
            .proxies
            .lock()
            .by_name
            .values()
            .filter(|proxy| proxy.state.lock().online)
        {
            *counts.entry(proxy.kind).or_default() += 1;
        }
        counts
    }

    /// Connections at the moment, over all proxies.
    pub(crate) fn n_conns(&self) -> usize {
        self.proxies
            .lock()
            .by_name
            .values()
            .map(|proxy| proxy.state.lock().n_conns)
            .sum()
    }

    /// Bytes of today over all proxies.
    pub(crate) fn today(&self) -> Bytes {
        self.totals.lock().history(Local::now().date_naive())[0]
    }
}

/// The proxies that are there, and those that were.
#[derive(Debug, Default)]
struct Remembered {
    by_name: BTreeMap<String, Arc<ProxyStats>>,
    /// Proxies started since the bounds were last looked at.
    n_started: usize,
}

impl Remembered {
    /// Keeps those that are there, and of the others the last ones within both bounds.
    fn forget_longest_gone(&mut self) {
        let (mut n_kept, mut text_len) = (0, 0);
        let mut gone = Vec::new();
        for proxy in self.by_name.values() {
            let state = proxy.state.lock();
            if state.online {
                n_kept += 1;
            } else {
                gone.push((state.closed, proxy.text_len(&state), Arc::clone(proxy)));
            }
        }
        gone.sort_unstable_by_key(|(closed, ..)| std::cmp::Reverse(*closed));
        for (_, len, proxy) in gone {
            n_kept += 1;
            text_len += len;
            if n_kept > MAX_PROXIES || text_len > MAX_GONE_TEXT_LEN {
                self.by_name.remove(&proxy.name);
            }
        }
    }
}

/// The numbers of one proxy.
#[derive(Debug)]
pub(crate) struct ProxyStats {
    /// The proxy's name on the wire.
    pub(crate) name: String,
    /// Its type.
    pub(crate) kind: &'static str,
    totals: Arc<Mutex<Traffic>>,
    /// Bytes as they pass: from users first.
    pub(crate) carried: Carried,
    n_failed: AtomicU64,
    state: Mutex<ProxyState>,
}

#[derive(Debug, Default)]
struct ProxyState {
    owner: Owner,
    traffic: Traffic,
    /// `None` before the first byte.
    lifetime: Option<Bytes>,
    n_conns: usize,
    n_carried: u64,
    started: Option<DateTime<Local>>,
    closed: Option<DateTime<Local>>,
    online: bool,
}

impl ProxyStats {
    /// Counts bytes that pass one by one: `inbound` from users to the service, `outbound` back.
    pub(crate) fn add_traffic(&self, inbound: u64, outbound: u64) {
        self.carried.add(inbound, outbound);
        self.add_finished(inbound, outbound);
    }

    /// Counts a user that could not be connected to the client.
    pub(crate) fn count_failure(&self) {
        self.n_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The same of a connection that is over, whose bytes were added to `carried` as they passed.
    pub(crate) fn add_finished(&self, inbound: u64, outbound: u64) {
        let bytes = Bytes { inbound, outbound };
        let today = Local::now().date_naive();
        {
            let mut state = self.state.lock();
            state.traffic.add(today, bytes);
            state.lifetime.get_or_insert_default().add(bytes);
        }
        self.totals.lock().add(today, bytes);
    }

    /// Counts a connection until the guard is dropped.
    pub(crate) fn open_connection(self: &Arc<Self>) -> ConnGuard {
        let mut state = self.state.lock();
        state.n_conns += 1;
        state.n_carried += 1;
        drop(state);
        ConnGuard(Arc::clone(self))
    }

    /// Notes that the proxy is gone.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.online = false;
        state.closed = Some(Local::now());
    }

    /// Bytes of text that the client chose.
    fn text_len(&self, state: &ProxyState) -> usize {
        self.name.len() + state.owner.user.len() + state.owner.client_id.len()
    }

    /// Everything at one moment.
    pub(crate) fn snapshot(&self) -> ProxySnapshot {
        let state = self.state.lock();
        ProxySnapshot {
            owner: state.owner.clone(),
            history: state.traffic.history(Local::now().date_naive()),
            lifetime: state.lifetime,
            n_conns: (state.n_carried > 0).then_some(state.n_conns),
            n_carried: state.n_carried,
            n_failed: self.n_failed.load(Ordering::Relaxed),
            carried: self.carried.get(),
            started: state.started,
            closed: state.closed,
            online: state.online,
        }
    }
}

/// An open connection of a proxy; see [`ProxyStats::open_connection`].
#[derive(Debug)]
pub(crate) struct ConnGuard(Arc<ProxyStats>);

impl Drop for ConnGuard {
    fn drop(&mut self) {
        self.0.state.lock().n_conns -= 1;
    }
}

/// Whose proxy it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The login's user.
    pub(crate) user: String,
    /// The login's client id, else its run id.
    pub(crate) client_id: String,
}

/// One proxy's numbers at one moment.
#[derive(Clone, Debug)]
pub(crate) struct ProxySnapshot {
    /// Whose proxy it is, or was.
    pub(crate) owner: Owner,
    /// Bytes by day, today first.
    pub(crate) history: [Bytes; N_DAYS],
    /// Bytes since the server started; `None` before the first.
    pub(crate) lifetime: Option<Bytes>,
    /// Connections at the moment; `None` before the first.
    pub(crate) n_conns: Option<usize>,
    /// Connections since the server started.
    pub(crate) n_carried: u64,
    /// Users that could not be connected to the client.
    pub(crate) n_failed: u64,
    /// Bytes from users and to them, those of open connections included.
    pub(crate) carried: (u64, u64),
    /// When it started last.
    pub(crate) started: Option<DateTime<Local>>,
    /// When it ended last.
    pub(crate) closed: Option<DateTime<Local>>,
    /// Whether it is there.
    pub(crate) online: bool,
}

/// Bytes each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    /// From users to the service.
    pub(crate) inbound: u64,
    /// From the service to users.
    pub(crate) outbound: u64,
}

impl Bytes {
    fn add(&mut self, more: Self) {
        self.inbound = self.inbound.saturating_add(more.inbound);
        self.outbound = self.outbound.saturating_add(more.outbound);
    }
}

/// Bytes by local day, for a week.
#[derive(Debug, Default)]
struct Traffic {
    /// The day of `days[0]`, counted from year 1.
    day: i32,
    days: [Bytes; N_DAYS],
}

impl Traffic {
    fn add(&mut self, today: NaiveDate, bytes: Bytes) {
        self.days = self.history(today);
        self.day = self.day.max(today.num_days_from_ce());
        self.days[0].add(bytes);
    }

    /// The days as seen from `today`. A clock that was set back counts on the later day.
    fn history(&self, today: NaiveDate) -> [Bytes; N_DAYS] {
        let n_passed = usize::try_from(today.num_days_from_ce() - self.day).unwrap_or(0);
        let mut history = [Bytes::default(); N_DAYS];
        if n_passed < N_DAYS {
            history[n_passed..].copy_from_slice(&self.days[..N_DAYS - n_passed]);
        }
        history
    }
}

/// Days of traffic kept, as in frp.
pub(crate) const N_DAYS: usize = 7;

/// How long a proxy that is gone is remembered, as in frp.
const KEPT_FOR: TimeDelta = TimeDelta::days(7);

/// Proxies remembered, there or gone: names are the clients' choice. Those longest gone go.
const MAX_PROXIES: usize = 20_000;

/// Bytes of text remembered of proxies that are gone, since a name may fill a message: as much as
/// [`MAX_PROXIES`] with long names have.
const MAX_GONE_TEXT_LEN: usize = 4 * 1024 * 1024;

/// Proxies started between two looks at the bounds: a look goes through all of them. At most this
/// many names of a message's length are remembered too much, some 10 MB.
const CHECKED_EVERY: usize = 128;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn day(n: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, n).unwrap()
    }

    fn bytes(n: u64) -> Bytes {
        Bytes {
            inbound: n,
            outbound: 2 * n,
        }
    }

    #[test]
    fn traffic_moves_down_a_place_each_day() {
        let mut traffic = Traffic::default();
        traffic.add(day(1), bytes(1));
        traffic.add(day(2), bytes(10));
        traffic.add(day(2), bytes(10));
        let history = traffic.history(day(4));
        assert_eq!(history[..2], [Bytes::default(); 2]);
        assert_eq!(history[2..4], [bytes(20), bytes(1)]);
    }

    #[test]
    fn traffic_is_forgotten_after_a_week() {
        let mut traffic = Traffic::default();
        traffic.add(day(1), bytes(1));
        assert_eq!(traffic.history(day(7))[6], bytes(1));
        assert_eq!(traffic.history(day(8)), [Bytes::default(); N_DAYS]);
    }

    #[test]
    fn a_clock_that_is_set_back_loses_nothing() {
        let mut traffic = Traffic::default();
        traffic.add(day(5), bytes(1));
        traffic.add(day(3), bytes(1));
        assert_eq!(traffic.history(day(5))[0], bytes(2));
    }

    #[test]
    fn a_proxy_that_comes_back_counts_on() {
        let stats = Stats::default();
        stats
            .start_proxy("a", "tcp", Owner::default())
            .add_traffic(5, 6);
        stats.proxy("a").unwrap().close();
        assert!(!stats.proxy("a").unwrap().snapshot().online);

        stats
            .start_proxy("a", "tcp", Owner::default())
            .add_traffic(1, 1);
        let snapshot = stats.proxy("a").unwrap().snapshot();
        assert!(snapshot.online);
        assert_eq!(
            snapshot.history[0],
            Bytes {
                inbound: 6,
                outbound: 7
            }
        );
        assert_eq!(
            stats.today(),
            Bytes {
                inbound: 6,
                outbound: 7
            }
        );
    }

    #[test]
    fn a_proxy_of_another_type_starts_from_nothing() {
        let stats = Stats::default();
        stats
            .start_proxy("a", "tcp", Owner::default())
            .add_traffic(5, 6);
        stats.start_proxy("a", "udp", Owner::default());
        assert_eq!(
            stats.proxy("a").unwrap().snapshot().history[0],
            Bytes::default()
        );
    }

    #[test]
    fn connections_are_counted_while_they_are_open() {
        let stats = Stats::default();
        let proxy = stats.start_proxy("a", "tcp", Owner::default());
        let conn = proxy.open_connection();
        assert_eq!(proxy.snapshot().n_conns, Some(1));
        drop(conn);
        assert_eq!(proxy.snapshot().n_conns, Some(0));
    }

    #[test]
    fn what_is_remembered_of_gone_proxies_is_bounded_in_number_and_in_text() {
        for (n, name_len) in [(MAX_PROXIES + 5_000, 8), (3_000, 60_000)] {
            let stats = Stats::default();
            stats.start_proxy("still there", "tcp", Owner::default());
            for i in 0..n {
                let name = format!("{i:0name_len$}");
                stats.start_proxy(&name, "tcp", Owner::default()).close();
            }
            let kept = stats.proxies();
            let text_len: usize = kept.iter().map(|proxy| proxy.name.len()).sum();
            assert!(kept.len() <= MAX_PROXIES + CHECKED_EVERY, "{}", kept.len());
            assert!(text_len <= MAX_GONE_TEXT_LEN + CHECKED_EVERY * name_len);
            assert!(stats.proxy("still there").is_some());
            let last = format!("{:0name_len$}", n - 1);
            assert!(stats.proxy(&last).is_some(), "the last ones stay");
        }
    }

    #[test]
    fn only_offline_proxies_are_forgotten() {
        let stats = Stats::default();
        stats.start_proxy("a", "tcp", Owner::default()).close();
        stats.start_proxy("b", "tcp", Owner::default());
        assert_eq!(stats.forget_offline(), (1, 2));
        assert!(stats.proxy("a").is_none() && stats.proxy("b").is_some());
    }
}
