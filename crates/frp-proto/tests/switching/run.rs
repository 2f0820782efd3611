//! A simulated session: the policy, its carriers and the link, in simulated time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use frp_proto::path::{Probe, Random};
use frp_proto::policy::{
    Candidate, CarrierId, Cause, Config, DeathCause, Decision, DialFailure, Family, Health, Notice,
    Policy, State, Transport,
};

use crate::candidates;
use crate::carrier::SimCarrier;
use crate::link::{IPV6, Link, Way};

/// What the users do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    Nothing,
    Interactive,
    Bulk,
}

pub(crate) struct Run {
    pub(crate) link: Link,
    pub(crate) policy: Policy,
    candidates: Vec<Candidate>,
    pub(crate) demand: Demand,
    /// Everything that the policy has told, with its time since the start.
    pub(crate) notices: Vec<(Duration, Notice)>,
    /// Bytes that probing has cost on the wire, both directions, headers and acknowledgements
    /// included.
    pub(crate) probe_bytes: u64,
    pub(crate) n_measured: u32,
    pub(crate) n_dials: u32,
    pub(crate) n_bursts: u32,
    pub(crate) delivered: u64,
    now: Instant,
    start: Instant,
    random: Random,
    carriers: BTreeMap<CarrierId, SimCarrier>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    n_events: u64,
    probes: BTreeMap<u64, Probe>,
    last_progress: Instant,
    longest_pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A datagram arrives.
    Datagram(CarrierId, usize, u64),
    /// A transmission of a reliable carrier begins.
    Try(CarrierId, usize, u64),
    /// It arrives.
    Segment(CarrierId, usize, u64),
    /// A round trip of a handshake begins: what is left, which attempt.
    Handshake(CarrierId, u32, u32),
    Login(CarrierId),
    DialFailed(CarrierId),
    Refused(CarrierId),
    Moved(CarrierId),
    Rate(CarrierId, u64),
    /// Counters are read and reports made.
    Tick(u64),
}

const TICK: Duration = Duration::from_millis(50);
/// Bytes a second of somebody who types.
const INTERACTIVE_RATE: f64 = 2000.0;

impl Run {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, Config::default(), &candidates::two(), Link::new(seed))
    }

    pub(crate) fn with(seed: u64, config: Config, candidates: &[Candidate], link: Link) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an origin for simulated time")]
        let start = Instant::now();
        let policy = Policy::new(config, candidates, &Health::default(), seed, start);
        let mut run = Self {
            link,
            policy,
            candidates: candidates.to_vec(),
            demand: Demand::Interactive,
            notices: Vec::new(),
            probe_bytes: 0,
            n_measured: 0,
            n_dials: 0,
            n_bursts: 0,
            delivered: 0,
            now: start,
            start,
            random: Random::new(seed),
            carriers: BTreeMap::new(),
            events: BinaryHeap::new(),
            n_events: 0,
            probes: BTreeMap::new(),
            last_progress: start,
            longest_pause: Duration::ZERO,
        };
        run.push(Duration::ZERO, Event::Tick(0));
        run.follow();
        run
    }

    /// Runs until the session uses this transport; fails after half a minute.
    pub(crate) fn on(mut self, transport: Transport) -> Self {
        while self.transport() != Some(transport) {
            self.run_for(Duration::from_millis(50));
            assert!(
                self.elapsed() < Duration::from_secs(120),
                "never on {transport}"
            );
        }
        self
    }

    pub(crate) fn with_demand(mut self, demand: Demand) -> Self {
        self.demand = demand;
        self
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        let mut n_at_once = 0;
        while let Some(at) = self.next_time().filter(|at| *at <= end) {
            n_at_once = if at > self.now { 0 } else { n_at_once + 1 };
            assert!(n_at_once < 1000, "somebody wakes up for nothing");
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    pub(crate) fn run_secs(&mut self, secs: u64) {
        self.run_for(Duration::from_secs(secs));
    }

    /// Forgets pauses and notices so far.
    pub(crate) fn mark(&mut self) {
        self.notices.clear();
        self.last_progress = self.now;
        self.longest_pause = Duration::ZERO;
        self.delivered = 0;
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn transport(&self) -> Option<Transport> {
        self.policy.transport_of(self.policy.in_use()?)
    }

    /// Whether what is in use goes over IPv6.
    pub(crate) fn is_ipv6(&self) -> Option<bool> {
        let candidate = self.policy.candidate_of(self.policy.in_use()?)?;
        Some(self.candidates[candidate].is_ipv6)
    }

    /// The longest time without a byte delivered over the carrier in use.
    pub(crate) fn longest_pause(&self) -> Duration {
        self.longest_pause.max(self.now - self.last_progress)
    }

    pub(crate) fn pause_below(&self, most: Duration) {
        let pause = self.longest_pause();
        let told: Vec<_> = self
            .notices
            .iter()
            .map(|told| format!("{told:?}"))
            .collect();
        assert!(pause < most, "paused for {pause:?}:\n{}", told.join("\n"));
    }

    pub(crate) fn is_moving(&self) -> bool {
        self.now - self.last_progress <= TICK * 2
    }

    pub(crate) fn switches(&self) -> Vec<(Duration, Transport, Cause)> {
        let switch = |(at, notice): &(Duration, Notice)| match notice {
            Notice::Switched { to, cause, .. } => Some((*at, *to, *cause)),
            _ => None,
        };
        self.notices.iter().filter_map(switch).collect()
    }

    /// Switches from one transport to another.
    pub(crate) fn n_changes(&self) -> usize {
        let is_change = |(_, notice): &&(Duration, Notice)| matches!(notice, Notice::Switched { from: Some(from), to, .. } if from != to);
        self.notices.iter().filter(is_change).count()
    }

    /// Carriers that were declared dead for their silence.
    pub(crate) fn n_silent_deaths(&self) -> usize {
        let switches = self.switches();
        let is_silent = |cause: &Cause| matches!(cause, Cause::Died(DeathCause::Silent(_)));
        switches
            .iter()
            .filter(|(_, _, cause)| is_silent(cause))
            .count()
    }

    /// When something was first told, since the start.
    pub(crate) fn first(&self, is_it: impl Fn(&Notice) -> bool) -> Option<Duration> {
        self.notices
            .iter()
            .find(|(_, notice)| is_it(notice))
            .map(|(at, _)| *at)
    }

    pub(crate) fn kill_in_use(&mut self, cause: DeathCause) {
        let carrier = self.policy.in_use().unwrap();
        self.carriers.remove(&carrier);
        self.policy.handle_died(self.now, carrier, cause);
        self.follow();
    }

    pub(crate) fn tell_policy(&mut self, tell: impl FnOnce(&mut Policy, Instant)) {
        tell(&mut self.policy, self.now);
        self.follow();
    }

    /// The client has another address. Where the old one is gone for certain, what cannot move
    /// along is dead at once, the carrier in use last.
    pub(crate) fn change_address(&mut self, is_told: bool) {
        self.link.address += 1;
        let live = self.carriers.iter().filter(|(_, c)| c.ends.is_some());
        let mut moved: Vec<_> = live.map(|(id, c)| (*id, c.transport)).collect();
        let in_use = self.policy.in_use();
        moved.sort_by_key(|(id, _)| in_use == Some(*id));
        let stuck = moved.iter().filter(|(_, kind)| *kind != Transport::Quic);
        for (id, _) in stuck.filter(|_| is_told) {
            self.carriers.remove(id);
            self.policy
                .handle_died(self.now, *id, DeathCause::AddressGone);
            self.follow();
        }
        let moved: Vec<_> = moved.into_iter().map(|(id, _)| id).collect();
        self.policy.handle_network_change(self.now, &moved);
        self.follow();
    }

    fn next_time(&self) -> Option<Instant> {
        let event = self.events.peek().map(|Reverse((at, ..))| *at);
        let probers = self
            .carriers
            .values()
            .flat_map(|carrier| carrier.ends.iter().flatten());
        let prober = probers
            .filter_map(|prober| prober.poll_timeout(self.now))
            .min();
        let policy = self.policy.poll_timeout(self.now);
        [event, prober, policy].into_iter().flatten().min()
    }

    fn step(&mut self) {
        while let Some(Reverse((at, ..))) = self.events.peek() {
            if *at > self.now {
                break;
            }
            if let Some(Reverse((_, _, event))) = self.events.pop() {
                self.handle(event);
            }
        }
        let policy_due = self
            .policy
            .poll_timeout(self.now)
            .is_some_and(|at| at <= self.now);
        if policy_due {
            self.policy.handle_timeout(self.now);
        }
        self.run_probers();
        self.follow();
    }

    fn run_probers(&mut self) {
        let ids: Vec<_> = self.carriers.keys().copied().collect();
        for id in ids {
            for end in 0..2 {
                let mut out = Vec::new();
                let Some(carrier) = self.carriers.get_mut(&id) else {
                    break;
                };
                let Some(ends) = &mut carrier.ends else {
                    break;
                };
                let prober = &mut ends[end];
                if prober
                    .poll_timeout(self.now)
                    .is_some_and(|at| at <= self.now)
                {
                    prober.handle_timeout(self.now);
                }
                while let Some(probe) = prober.poll_transmit(self.now) {
                    out.push(probe);
                }
                let mut events = Vec::new();
                while let Some(event) = prober.poll_event() {
                    events.push(event);
                }
                for probe in out {
                    self.transmit(id, end, probe);
                }
                for event in events.into_iter().filter(|_| end == 0) {
                    self.policy.handle_prober_event(self.now, id, event);
                    self.follow();
                }
            }
        }
    }

    fn transmit(&mut self, id: CarrierId, end: usize, probe: Probe) {
        let Some(carrier) = self.carriers.get_mut(&id) else {
            return;
        };
        let mut bytes = Vec::new();
        probe.encode(&mut bytes);
        assert_eq!(Probe::decode(&bytes).map(|p| p.number), Ok(probe.number));
        self.probe_bytes += bytes.len() as u64 + overhead(carrier.family());
        if self.link.udp_rejected && end == 0 && carrier.family() == Family::Udp {
            self.push(self.link.rtt(), Event::Refused(id));
        }
        let Some(carrier) = self.carriers.get_mut(&id) else {
            return;
        };
        match carrier.is_ordered() {
            false => {
                let key = self.n_events;
                self.probes.insert(key, probe);
                let delay = self.link.send(Family::Udp, WAYS[end], carrier.address);
                match delay {
                    Some(delay) => self.push(delay, Event::Datagram(id, end, key)),
                    None => drop(self.probes.remove(&key)),
                }
            }
            true => {
                let number = carrier.pipes[end].push(probe);
                self.push(Duration::ZERO, Event::Try(id, end, number));
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Datagram(id, end, key) => {
                let probe = self.probes.remove(&key);
                if let Some(probe) = probe {
                    self.receive(id, end, probe);
                }
            }
            Event::Try(id, end, number) => self.try_segment(id, end, number),
            Event::Segment(id, end, number) => {
                let Some(carrier) = self.carriers.get_mut(&id) else {
                    return;
                };
                let (delivered, given_away) = carrier.pipes[end].arrive(number);
                for number in given_away {
                    self.push(self.link.rtt(), Event::Try(id, end, number));
                }
                for probe in delivered {
                    self.receive(id, end, probe);
                }
            }
            Event::Handshake(id, left, attempt) => self.handshake(id, left, attempt),
            Event::Login(id) => {
                let seed = self.random.bits();
                if let Some(carrier) = self.carriers.get_mut(&id) {
                    carrier.log_in(now, seed);
                    self.policy.handle_dialed(now, id);
                }
            }
            Event::DialFailed(id) => {
                self.carriers.remove(&id);
                self.policy
                    .handle_dial_failed(now, id, DialFailure::Refused);
            }
            Event::Refused(id) => {
                self.policy.handle_refused(now, id);
                if self.policy.transport_of(id).is_none() {
                    self.carriers.remove(&id);
                }
            }
            Event::Moved(id) => self.policy.handle_promoted(now, id),
            Event::Rate(id, bytes) => {
                let Some(carrier) = self.carriers.get_mut(&id) else {
                    return;
                };
                let rate = carrier.burst(bytes, &self.link, &mut self.random);
                self.policy.handle_measured_rate(now, id, rate as u64);
            }
            Event::Tick(n) => {
                self.tick(n);
                let is_idle = self.demand == Demand::Nothing;
                let tick = if is_idle { TICK * 20 } else { TICK };
                self.push(tick, Event::Tick(n + 1));
            }
        }
        self.follow();
    }

    fn receive(&mut self, id: CarrierId, from: usize, probe: Probe) {
        let Some(carrier) = self.carriers.get_mut(&id) else {
            return;
        };
        if let Some(ends) = &mut carrier.ends {
            ends[1 - from].handle_probe(self.now, &probe);
        }
    }

    fn try_segment(&mut self, id: CarrierId, end: usize, number: u64) {
        let rtt = self.link.rtt();
        let Some(carrier) = self.carriers.get_mut(&id) else {
            return;
        };
        if !carrier.pipes[end].waiting.contains_key(&number) {
            return;
        }
        let (family, transport) = (carrier.family(), carrier.transport);
        match self.link.send(family, WAYS[end], carrier.address) {
            Some(delay) => self.push(delay, Event::Segment(id, end, number)),
            None => {
                if let Some(wait) = carrier.pipes[end].lost(number, rtt, transport) {
                    self.push(wait, Event::Try(id, end, number));
                }
            }
        }
    }

    fn handshake(&mut self, id: CarrierId, left: u32, attempt: u32) {
        let Some(carrier) = self.carriers.get(&id) else {
            return;
        };
        let (family, address) = (carrier.family(), carrier.address);
        if self.link.udp_rejected && family == Family::Udp {
            return self.push(self.link.rtt(), Event::DialFailed(id));
        }
        let there = self.link.send(family, Way::ToServer, address);
        let back = self.link.send(family, Way::ToClient, address);
        match (there, back) {
            (Some(there), Some(back)) if left == 1 => self.push(there + back, Event::Login(id)),
            (Some(there), Some(back)) => {
                self.push(there + back, Event::Handshake(id, left - 1, 0));
            }
            _ => {
                let first = match (family, left) {
                    (Family::Udp, _) => Duration::from_millis(300),
                    (Family::Tcp, 4) => Duration::from_secs(1),
                    (Family::Tcp, _) => Duration::from_millis(200),
                };
                self.push(
                    first * (1 << attempt),
                    Event::Handshake(id, left, attempt + 1),
                );
            }
        }
    }

    /// Data moves, counters are read, reports are made.
    fn tick(&mut self, n: u64) {
        let now = self.now;
        let in_use = self.policy.in_use();
        let unit = self.random.unit();
        let demand = self.demand;
        for (id, carrier) in &mut self.carriers {
            if carrier.ends.is_none() {
                continue;
            }
            if Some(*id) != in_use || demand == Demand::Nothing {
                carrier.count(now, false, self.link.tcp);
                continue;
            }
            let is_bulk = demand == Demand::Bulk;
            let rate = if is_bulk {
                self.link.rate
            } else {
                INTERACTIVE_RATE
            };
            let arrived = carrier.transfer(&self.link, rate, TICK, unit);
            carrier.count(now, is_bulk, self.link.tcp);
            if arrived > 0 {
                self.delivered += arrived;
                self.longest_pause = self.longest_pause.max(now - self.last_progress);
                self.last_progress = now;
                if let Some([_, server]) = &mut carrier.ends
                    && demand != Demand::Nothing
                {
                    server.handle_traffic(now);
                }
            }
        }
        if n.is_multiple_of(5) {
            self.report(n);
        }
    }

    fn report(&mut self, n: u64) {
        let now = self.now;
        let n_users = usize::from(self.demand != Demand::Nothing);
        self.policy.handle_users(now, n_users);
        let reports: Vec<_> = self
            .carriers
            .iter_mut()
            .filter_map(|(id, carrier)| {
                let address = carrier.address;
                let family = carrier.family();
                let ends = carrier.ends.as_mut()?;
                ends[0].handle_users(now, n_users);
                let is_cut = self.link.is_cut(family, Way::ToClient, address);
                let peer = (n.is_multiple_of(20) && !is_cut).then(|| ends[1].report(now, id.0));
                Some((*id, ends[0].report(now, id.0), peer))
            })
            .collect();
        for (id, own, peer) in reports {
            self.policy.handle_path(now, id, &own);
            self.follow();
            if let Some(peer) = peer {
                self.policy.handle_peer_path(now, id, &peer);
                self.follow();
            }
        }
    }

    /// Does what the policy has decided.
    fn follow(&mut self) {
        let now = self.now;
        while let Some(decision) = self.policy.poll_decision() {
            match decision {
                Decision::Dial {
                    carrier, candidate, ..
                } => {
                    self.n_dials += 1;
                    let transport = self.candidates[candidate].transport;
                    let round_trips = match transport {
                        Transport::Quic => 2,
                        Transport::Kcp => 3,
                        _ => 4,
                    };
                    let ip = match self.candidates[candidate].is_ipv6 {
                        true => IPV6,
                        false => 0,
                    };
                    let entry = SimCarrier::new(transport, self.link.address | ip);
                    self.carriers.insert(carrier, entry);
                    self.push(Duration::ZERO, Event::Handshake(carrier, round_trips, 0));
                }
                Decision::Abandon { carrier } | Decision::Rest { carrier } => {
                    self.carriers.remove(&carrier);
                }
                Decision::Burst { carrier, n_probes } => {
                    self.n_bursts += 1;
                    self.client(carrier, |prober| prober.start_burst(now, n_probes));
                }
                Decision::Probe { carrier, pace } => {
                    self.client(carrier, |prober| prober.set_pace(now, pace));
                }
                Decision::MeasureRate { carrier, bytes } => {
                    self.n_measured += 1;
                    let time = self.link.rtt() + Duration::from_millis(200);
                    self.push(time, Event::Rate(carrier, bytes));
                }
                Decision::Rebind { carrier } => {
                    if let Some(entry) = self.carriers.get_mut(&carrier) {
                        entry.address = self.link.address | (entry.address & IPV6);
                    }
                }
                Decision::Promote { carrier, .. } => {
                    self.push(self.link.rtt(), Event::Moved(carrier));
                }
                Decision::AdaptToLoss { .. } => {}
            }
        }
        while let Some(notice) = self.policy.poll_notice() {
            self.notices.push((self.now - self.start, notice));
        }
    }

    fn client(&mut self, carrier: CarrierId, act: impl FnOnce(&mut frp_proto::path::Prober)) {
        let ends = self
            .carriers
            .get_mut(&carrier)
            .and_then(|entry| entry.ends.as_mut());
        if let Some([client, _]) = ends {
            act(client);
        }
    }

    fn push(&mut self, after: Duration, event: Event) {
        self.n_events += 1;
        self.events
            .push(Reverse((self.now + after, self.n_events, event)));
    }

    pub(crate) fn state(&self) -> State {
        self.policy.state()
    }
}

const WAYS: [Way; 2] = [Way::ToServer, Way::ToClient];

/// Around one probe on the wire, over IPv6: for UDP the IP and UDP headers, QUIC's short header,
/// tag and frame, and half of the exchange's one separate acknowledgement; for TCP the headers
/// with timestamps, TLS's record, yamux's header and half of an acknowledgement.
fn overhead(family: Family) -> u64 {
    match family {
        Family::Udp => 48 + 11 + 16 + 2 + 7 + (48 + 33) / 2,
        Family::Tcp => 72 + 22 + 12 + 2 + 72 / 2,
    }
}
