//! Both ends of a session, their programs, and what befalls them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use frp_proto::hold::datagram::Datagram;
use frp_proto::hold::frame::{Ack, Attached, Frame, ResetCode, put_data_header};
use frp_proto::hold::session::{AttachTo, Class, Config, Role};
use frp_proto::hold::stream::Event;
use frp_proto::hold::{
    Budget, CarrierId, Generation, HeldStream, MAX_WINDOW, Output, Route, Session,
};

use crate::app::App;
use crate::carrier::{Carrier, Item, Mux};
use crate::random::Random;

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// How long a run may take, in its own time: everything in it takes seconds.
const MAX_TIME: Duration = Duration::from_secs(3600);
const MAX_EVENTS: u64 = 3_000_000;

/// What a run is drawn from its seed.
pub struct Plan {
    n_streams: u64,
    n_faults: u64,
    process_bytes: u64,
    reset_percent: u64,
    datagram_percent: u64,
    restart_percent: u64,
}

impl Plan {
    pub fn random(random: &mut Random) -> Self {
        Self {
            n_streams: 1 + random.below(3),
            n_faults: random.below(10),
            process_bytes: random.pick(&[0, 50_000, 1 << 20, 1 << 30]),
            reset_percent: random.pick(&[0, 0, 20]),
            datagram_percent: random.pick(&[0, 30, 100]),
            restart_percent: random.pick(&[0, 0, 0, 10]),
        }
    }
}

/// How often things came up that a run is for.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    runs: u64,
    bytes: u64,
    ends: u64,
    resets: u64,
    attaches: u64,
    drains: u64,
    kills: u64,
    one_way_kills: u64,
    refused_attaches: u64,
    refused_frames: u64,
    datagrams: u64,
    restarts: u64,
    forgotten: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        for (sum, n) in self.fields().into_iter().zip(other.clone().fields()) {
            *sum += *n;
        }
    }

    pub fn assert_all_came_up(&mut self) {
        let fields = self.fields().map(|n| *n);
        assert!(fields.iter().all(|n| *n > 100), "{fields:?}");
    }

    fn fields(&mut self) -> [&mut u64; 13] {
        [
            &mut self.runs,
            &mut self.bytes,
            &mut self.ends,
            &mut self.resets,
            &mut self.attaches,
            &mut self.drains,
            &mut self.kills,
            &mut self.one_way_kills,
            &mut self.refused_attaches,
            &mut self.refused_frames,
            &mut self.datagrams,
            &mut self.restarts,
            &mut self.forgotten,
        ]
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    /// Something arrives at the end of a pipe.
    Arrive {
        mux: usize,
        direction: usize,
    },
    Datagram {
        carrier: usize,
        end: usize,
        bytes: Bytes,
    },
    /// An end learns that a carrier is gone.
    Notice {
        end: usize,
        carrier: usize,
    },
    /// A new carrier has joined, at the end.
    Joined {
        end: usize,
        carrier: usize,
        number: u64,
    },
    Use {
        carrier: usize,
        number: u64,
    },
    Write {
        end: usize,
        stream: u64,
    },
    Read {
        end: usize,
        stream: u64,
    },
    Timeout {
        end: usize,
        stream: u64,
    },
    /// The client finds a carrier for a stream that has none.
    Reattach {
        stream: u64,
    },
    Open,
    Fault,
}

struct End {
    session: Session,
    streams: BTreeMap<u64, HeldStream>,
    muxes: BTreeMap<(u64, Route), usize>,
    timers: BTreeMap<u64, Instant>,
    budget: Budget,
}

pub struct World {
    plan: Plan,
    random: Random,
    start: Instant,
    now: Instant,
    n_actions: u64,
    agenda: BinaryHeap<Reverse<(Instant, u64, Action)>>,
    carriers: Vec<Carrier>,
    muxes: Vec<Mux>,
    ends: [End; 2],
    apps: BTreeMap<u64, [Option<App>; 2]>,
    /// ATTACHes of long ago, to be said again.
    recorded: Vec<(u64, Bytes)>,
    is_connecting: bool,
    /// Everything is printed: `SEED=123 TRACE=1`.
    is_traced: bool,
    reattaching: BTreeSet<u64>,
    out: Output,
    seen: Seen,
}

impl World {
    pub fn new(plan: Plan, random: Random) -> Self {
        let start = Instant::now();
        let ends = [Role::Client, Role::Server].map(|role| End::new(role, &plan));
        Self {
            plan,
            random,
            start,
            now: start,
            n_actions: 0,
            agenda: BinaryHeap::new(),
            carriers: Vec::new(),
            muxes: Vec::new(),
            ends,
            apps: BTreeMap::new(),
            recorded: Vec::new(),
            is_connecting: false,
            is_traced: std::env::var_os("TRACE").is_some(),
            reattaching: BTreeSet::new(),
            out: Output::default(),
            seen: Seen {
                runs: 1,
                ..Seen::default()
            },
        }
    }

    pub fn run(mut self) -> Seen {
        self.connect();
        for _ in 0..self.plan.n_streams {
            let at = self.random.pick(&[0, 50_000, 600_000]);
            self.plan_in(at, Action::Open);
        }
        for _ in 0..self.plan.n_faults {
            let at = self.random.pick(&[1, 50_000, 400_000, 1_500_000]);
            let at = self.random.below(at);
            self.plan_in(at, Action::Fault);
        }
        while let Some(Reverse((at, _, action))) = self.agenda.pop() {
            self.now = at;
            self.n_actions += 1;
            assert!(
                at - self.start < MAX_TIME && self.n_actions < MAX_EVENTS,
                "it goes on for ever"
            );
            self.act(action);
        }
        self.check_the_end();
        self.seen
    }

    fn act(&mut self, action: Action) {
        if self.is_traced {
            eprintln!("{:?} {action:?}", self.now - self.start);
        }
        match action {
            Action::Arrive { mux, direction } => self.arrive(mux, direction),
            Action::Datagram {
                carrier,
                end,
                bytes,
            } => self.receive_datagram(carrier, end, bytes),
            Action::Notice { end, carrier } => self.notice(end, carrier),
            Action::Joined {
                end,
                carrier,
                number,
            } => self.join(end, carrier, number),
            Action::Use { carrier, number } => {
                // It may have been overtaken, or the carrier be gone.
                let _ = self.ends[SERVER]
                    .session
                    .handle_use(id(carrier), Generation(number));
            }
            Action::Write { end, stream } => self.write(end, stream),
            Action::Read { end, stream } => self.read(end, stream),
            Action::Timeout { end, stream } => {
                if let Some(held) = self.ends[end].streams.get_mut(&stream) {
                    held.handle_timeout(self.now);
                    self.pump(end, stream);
                }
            }
            Action::Reattach { stream } => self.reattach(stream),
            Action::Open => self.open(),
            Action::Fault => self.fault(),
        }
    }

    fn plan_in(&mut self, micros: u64, action: Action) {
        self.plan_at(self.now + Duration::from_micros(micros), action);
    }

    fn plan_at(&mut self, at: Instant, action: Action) {
        self.n_actions += 1;
        self.agenda.push(Reverse((at, self.n_actions, action)));
    }

    // Carriers.

    fn connect(&mut self) {
        self.is_connecting = true;
        let carrier = Carrier::new(&mut self.random, self.now);
        let rtt = carrier.rtt().as_micros() as u64;
        self.carriers.push(carrier);
        let carrier = self.carriers.len() - 1;
        let number = self.ends[CLIENT].session.next_generation().0;
        self.plan_in(
            rtt / 2,
            Action::Joined {
                end: SERVER,
                carrier,
                number,
            },
        );
        self.plan_in(
            rtt,
            Action::Joined {
                end: CLIENT,
                carrier,
                number,
            },
        );
    }

    fn join(&mut self, end: usize, carrier: usize, number: u64) {
        let is_refused = end == CLIENT && !self.carriers[carrier].is_trusted[SERVER];
        let joined = self.ends[end]
            .session
            .handle_join(id(carrier), Generation(number));
        if end == SERVER {
            self.carriers[carrier].is_trusted[SERVER] = joined.is_ok();
            return;
        }
        self.is_connecting = false;
        if is_refused {
            // It was overtaken by a switch, or the server has restarted since.
            self.ends[CLIENT]
                .session
                .handle_carrier_lost(id(carrier), self.now);
            self.kill(carrier, true);
            self.connect();
            return;
        }
        self.carriers[carrier].is_trusted[CLIENT] = true;
        if self.ends[CLIENT].session.in_use().is_none() || self.random.percent(50) {
            self.switch(carrier, true);
        }
    }

    /// The client decides for a carrier, and moves some or all of its streams.
    fn switch(&mut self, carrier: usize, is_planned: bool) {
        let session = &mut self.ends[CLIENT].session;
        let Ok(generation) = session.use_carrier(id(carrier)) else {
            return;
        };
        let delay = self.carriers[carrier].delay().as_micros() as u64;
        let number = generation.0;
        self.plan_in(delay, Action::Use { carrier, number });
        let streams = &self.ends[CLIENT].streams;
        let order = self.ends[CLIENT].session.moving_order(|stream| {
            match streams.get(&stream).is_some_and(HeldStream::is_bulk) {
                true => Class::Bulk,
                false => Class::Interactive,
            }
        });
        for stream in order {
            self.attach(stream, carrier, generation, is_planned);
        }
    }

    fn attach(&mut self, stream: u64, carrier: usize, generation: Generation, is_planned: bool) {
        let Some(held) = self.ends[CLIENT].streams.get_mut(&stream) else {
            return;
        };
        let route = Route {
            carrier: id(carrier),
            generation,
        };
        self.seen.attaches += 1;
        held.attach(route, is_planned, self.now);
        held.set_rtt(self.carriers[carrier].rtt());
        let mut mux = Mux::new(carrier);
        mux.routes[CLIENT] = Some((stream, route));
        self.muxes.push(mux);
        self.ends[CLIENT]
            .muxes
            .insert((stream, route), self.muxes.len() - 1);
        self.pump(CLIENT, stream);
    }

    fn reattach(&mut self, stream: u64) {
        self.reattaching.remove(&stream);
        let end = &mut self.ends[CLIENT];
        if !end
            .streams
            .get(&stream)
            .is_some_and(HeldStream::wants_route)
        {
            return;
        }
        match end.session.in_use() {
            Some(carrier) => {
                let generation = end.session.next_generation();
                self.attach(stream, carrier.0 as usize, generation, false);
            }
            None => {
                self.find_carrier();
                if self.reattaching.insert(stream) {
                    let later = 1 + self.random.below(200_000);
                    self.plan_in(later, Action::Reattach { stream });
                }
            }
        }
    }

    /// The client has no carrier in use.
    fn find_carrier(&mut self) {
        let standby = (0..self.carriers.len())
            .rev()
            .find(|carrier| self.carriers[*carrier].is_trusted[CLIENT]);
        match standby {
            Some(carrier) => self.switch(carrier, false),
            None if !self.is_connecting => self.connect(),
            None => {}
        }
    }

    fn kill(&mut self, carrier: usize, is_both_ways: bool) {
        let first = self.random.below(2) as usize;
        let directions = if is_both_ways {
            vec![0, 1]
        } else {
            vec![first]
        };
        for direction in directions {
            self.carriers[carrier].cut(direction, &mut self.random, self.now);
        }
        for end in [CLIENT, SERVER] {
            let later = self.random.pick(&[1_000, 100_000, 2_000_000]);
            let later = self.random.below(later);
            self.plan_in(later, Action::Notice { end, carrier });
        }
    }

    fn notice(&mut self, end: usize, carrier: usize) {
        self.carriers[carrier].is_trusted[end] = false;
        self.ends[end]
            .session
            .handle_carrier_lost(id(carrier), self.now);
        let lost: Vec<(u64, Route)> = self.ends[end]
            .muxes
            .iter()
            .filter(|((_, route), _)| route.carrier == id(carrier))
            .map(|(key, _)| *key)
            .collect();
        for (stream, route) in lost {
            self.end_route(end, stream, route, false);
        }
        // The server says nothing more on it: the other end finds out by itself.
        if end == CLIENT && self.ends[CLIENT].session.in_use().is_none() {
            self.find_carrier();
        }
    }

    fn end_route(&mut self, end: usize, stream: u64, route: Route, is_orderly: bool) {
        if !is_orderly {
            self.ends[end].muxes.remove(&(stream, route));
        }
        if let Some(held) = self.ends[end].streams.get_mut(&stream) {
            held.handle_route_end(route, is_orderly);
            self.pump(end, stream);
        }
    }

    // Bytes.

    fn send(&mut self, mux: usize, direction: usize, item: Item) {
        let Mux { carrier, pipes, .. } = &mut self.muxes[mux];
        let len = match &item {
            Item::Chunks(chunks) => chunks.iter().map(Bytes::len).sum(),
            Item::End | Item::Reset => 1,
        };
        let at = self.carriers[*carrier].send(direction, len, self.now);
        pipes[direction].n_bytes += len;
        if let Some(at) = at {
            pipes[direction].items.push_back((at, item));
            self.plan_at(at, Action::Arrive { mux, direction });
        }
    }

    fn arrive(&mut self, mux: usize, direction: usize) {
        let (from, to) = (direction, 1 - direction);
        let Mux {
            carrier,
            pipes,
            routes,
            ..
        } = &mut self.muxes[mux];
        // A reset has taken the place of what was under way.
        let pipe = &mut pipes[direction];
        let is_due = pipe.items.front().is_some_and(|(at, _)| *at <= self.now);
        if !is_due || !self.carriers[*carrier].arrives(direction, self.now) {
            return;
        }
        let (_, item) = pipe.items.pop_front().unwrap();
        let len = match &item {
            Item::Chunks(chunks) => chunks.iter().map(Bytes::len).sum(),
            Item::End | Item::Reset => 1,
        };
        pipe.n_bytes = pipe.n_bytes.saturating_sub(len);
        if let Some((stream, _)) = routes[from] {
            self.pump(from, stream);
        }
        if is_closed_at(&self.muxes, mux, to) {
            return;
        }
        match item {
            Item::Chunks(chunks) => {
                for chunk in chunks {
                    self.receive(mux, to, chunk);
                }
            }
            Item::End | Item::Reset => {
                let is_orderly = matches!(item, Item::End);
                if !is_orderly {
                    self.muxes[mux].is_closed[to] = true;
                }
                if let Some((stream, route)) = self.muxes[mux].routes[to] {
                    self.end_route(to, stream, route, is_orderly);
                }
            }
        }
    }

    fn receive(&mut self, mux: usize, end: usize, mut input: Bytes) {
        loop {
            if is_closed_at(&self.muxes, mux, end) {
                return;
            }
            match self.muxes[mux].decoders[end].decode(&mut input) {
                Ok(None) => return,
                Ok(Some(frame)) => self.handle_frame(mux, end, frame),
                Err(_) => self.refuse(mux, end),
            }
        }
    }

    fn handle_frame(&mut self, mux: usize, end: usize, frame: Frame) {
        let Some((stream, route)) = self.muxes[mux].routes[end] else {
            match frame {
                Frame::Attach(attach) if end == SERVER => self.accept(mux, attach),
                _ => self.refuse(mux, end),
            }
            return;
        };
        let Some(held) = self.ends[end].streams.get_mut(&stream) else {
            return;
        };
        if self.is_traced {
            eprintln!("  {end} stream {stream} on {route:?}: {frame:?}");
        }
        let result = held.handle_frame(route, frame, self.now);
        match result {
            Ok(()) => self.pump(end, stream),
            Err(_) => self.refuse(mux, end),
        }
    }

    /// What came on a stream of a carrier makes no sense: the stream is reset.
    fn refuse(&mut self, mux: usize, end: usize) {
        self.seen.refused_frames += 1;
        self.reset_mux(mux, end);
        if let Some((stream, route)) = self.muxes[mux].routes[end] {
            self.end_route(end, stream, route, false);
        }
    }

    fn reset_mux(&mut self, mux: usize, end: usize) {
        if !std::mem::replace(&mut self.muxes[mux].is_closed[end], true) {
            self.muxes[mux].pipes[end].items.clear();
            self.send(mux, end, Item::Reset);
        }
    }

    fn accept(&mut self, mux: usize, attach: frp_proto::hold::frame::Attach) {
        let carrier = self.muxes[mux].carrier;
        let (stream, generation) = (attach.stream, attach.generation);
        let route = Route {
            carrier: id(carrier),
            generation,
        };
        let end = &mut self.ends[SERVER];
        let found = end.session.handle_attach(id(carrier), &attach);
        let result = match found {
            Err(status) => Err(status),
            Ok(AttachTo::New) => {
                let held = HeldStream::accept(stream, end.session.budget());
                let app = App::new(stream, SERVER, &mut self.random);
                let apps = self.apps.entry(stream).or_default();
                assert!(apps[SERVER].is_none(), "a stream is opened once");
                apps[SERVER] = Some(app);
                end.streams.insert(stream, held);
                self.plan_in(
                    0,
                    Action::Write {
                        end: SERVER,
                        stream,
                    },
                );
                Ok(())
            }
            Ok(AttachTo::Known) => Ok(()),
        };
        let result = result.and_then(|()| {
            let held = self.ends[SERVER].streams.get_mut(&stream).unwrap();
            held.handle_attach(route, &attach, self.now)
                .map_err(|error| error.attach_status())
        });
        match result {
            Ok(()) => {
                self.seen.drains += u64::from(attach.is_drain);
                let rtt = self.carriers[carrier].rtt();
                self.muxes[mux].routes[SERVER] = Some((stream, route));
                let end = &mut self.ends[SERVER];
                end.muxes.insert((stream, route), mux);
                end.streams.get_mut(&stream).unwrap().set_rtt(rtt);
            }
            Err(status) => {
                self.seen.refused_attaches += 1;
                let mut header = Vec::new();
                Frame::Attached(Attached::refusal(status, generation)).put_header(&mut header);
                self.send(mux, SERVER, Item::Chunks(vec![header.into()]));
                self.send(mux, SERVER, Item::End);
                self.muxes[mux].is_closed[SERVER] = true;
            }
        }
        self.pump(SERVER, stream);
    }

    fn receive_datagram(&mut self, carrier: usize, end: usize, bytes: Bytes) {
        if !self.carriers[carrier].is_trusted[end] {
            return;
        }
        let Ok(Datagram::Data {
            stream,
            offset,
            payload,
        }) = Datagram::decode(bytes)
        else {
            panic!("it was ours");
        };
        if let Some(held) = self.ends[end].streams.get_mut(&stream) {
            self.seen.datagrams += 1;
            held.handle_datagram(offset, payload, self.now).unwrap();
            self.pump(end, stream);
        }
    }

    // Programs.

    fn open(&mut self) {
        let end = &mut self.ends[CLIENT];
        let Ok(stream) = end.session.open_stream() else {
            panic!("there are few streams");
        };
        let held = HeldStream::open(stream, end.session.budget());
        end.streams.insert(stream, held);
        let app = App::new(stream, CLIENT, &mut self.random);
        let apps = self.apps.entry(stream).or_default();
        apps[CLIENT] = Some(app);
        self.plan_in(
            0,
            Action::Write {
                end: CLIENT,
                stream,
            },
        );
        self.reattach(stream);
    }

    fn write(&mut self, end: usize, stream: u64) {
        let apps = self.apps.get_mut(&stream).unwrap();
        let (Some(app), Some(held)) = (&mut apps[end], self.ends[end].streams.get_mut(&stream))
        else {
            return;
        };
        if app.is_done() || app.has_finished {
            return;
        }
        if self.random.percent(self.plan.reset_percent) && self.random.percent(10) {
            app.did_reset = true;
            held.reset(ResetCode::BROKEN);
            self.pump(end, stream);
            return;
        }
        let mut chunk = app.next_chunk(&mut self.random);
        let len = chunk.len();
        let n = held.write(&mut chunk);
        app.written += n as u64;
        app.is_waiting = n < len;
        if app.written == app.to_write {
            app.has_finished = true;
            held.finish();
        } else if !app.is_waiting {
            let pause = self.random.below(app.write_pause);
            self.plan_in(pause, Action::Write { end, stream });
        }
        self.pump(end, stream);
    }

    fn read(&mut self, end: usize, stream: u64) {
        let apps = self.apps.get_mut(&stream).unwrap();
        let (Some(app), Some(held)) = (&mut apps[end], self.ends[end].streams.get_mut(&stream))
        else {
            return;
        };
        app.is_read_planned = false;
        if app.did_reset || app.saw_reset.is_some() {
            return;
        }
        let max = 1 + self.random.below(40_000) as usize;
        if let Some(bytes) = held.read(max, self.now) {
            app.check_read(&bytes);
        }
        if held.is_read_to_end() {
            app.saw_end = true;
            self.seen.ends += 1;
        } else if held.is_readable() {
            app.is_read_planned = true;
            let pause = self.random.below(app.read_pause);
            self.plan_in(pause, Action::Read { end, stream });
        }
        self.pump(end, stream);
    }

    // One stream at one end.

    /// Does what the stream wants done.
    fn pump(&mut self, end: usize, stream: u64) {
        self.transmit(end, stream);
        while let Some(event) = self.ends[end]
            .streams
            .get_mut(&stream)
            .and_then(HeldStream::poll_event)
        {
            self.handle_event(end, stream, event);
            self.transmit(end, stream);
        }
        let Some(held) = self.ends[end].streams.get_mut(&stream) else {
            return;
        };
        assert!(held.kept() <= 2 * MAX_WINDOW, "buffers are bounded");
        if held.is_over() {
            self.ends[end].streams.remove(&stream);
            self.ends[end].session.forget_stream(stream);
            return;
        }
        let wants_route = held.wants_route();
        if let Some(at) = held.poll_timeout() {
            // What is due and was not sent waits for room.
            let planned = self.ends[end].timers.insert(stream, at);
            if at > self.now && planned != Some(at) {
                self.plan_at(at, Action::Timeout { end, stream });
            }
        }
        if wants_route && self.reattaching.insert(stream) {
            let later = 1 + self.random.below(50_000);
            self.plan_in(later, Action::Reattach { stream });
        }
        let budget = &self.ends[end].budget;
        assert!(budget.used() <= budget.limit(), "budgets are bounds");
    }

    fn transmit(&mut self, end: usize, stream: u64) {
        loop {
            let Some(held) = self.ends[end].streams.get_mut(&stream) else {
                return;
            };
            let Some(route) = held.route() else {
                return;
            };
            let mux = self.ends[end].muxes[&(stream, route)];
            let carrier = self.muxes[mux].carrier;
            let room = self.carriers[carrier].room;
            let room = room.saturating_sub(self.muxes[mux].pipes[end].n_bytes);
            if room == 0 {
                return;
            }
            let wanted = held.wants_transmit(self.now);
            let has_some = held.poll_transmit(route, room, self.now, &mut self.out);
            assert_eq!(
                wanted, has_some,
                "it knows whether it has something to send"
            );
            if !has_some {
                return;
            }
            let mut chunks: Vec<Bytes> = self.out.take().collect();
            if chunks.len() == 1 && chunks[0][0] == 0x84 && self.recorded.len() < 20 {
                self.recorded.push((stream, chunks[0].clone()));
            }
            self.cut_chunk(&mut chunks);
            let datagram = self
                .random
                .percent(self.plan.datagram_percent)
                .then(|| held_mut(&mut self.ends[end], stream).poll_datagram(1200))
                .flatten();
            self.send(mux, end, Item::Chunks(chunks));
            if let Some(datagram) = datagram {
                self.send_datagram(carrier, 1 - end, &datagram);
            }
        }
    }

    /// Cuts somewhere, as carriers do.
    fn cut_chunk(&mut self, chunks: &mut Vec<Bytes>) {
        let which = self.random.below(chunks.len() as u64) as usize;
        let at = self.random.below(chunks[which].len() as u64) as usize;
        if at > 0 {
            let front = chunks[which].split_to(at);
            chunks.insert(which, front);
        }
    }

    /// Datagrams are lost, repeated, and overtake each other and the frames.
    fn send_datagram(&mut self, carrier: usize, end: usize, bytes: &Bytes) {
        if self.carriers[carrier].is_dead {
            return;
        }
        for _ in 0..self.random.pick(&[0, 1, 1, 2]) {
            let delay = self.carriers[carrier].delay().as_micros() as u64;
            let at = self.random.below(3 * delay + 1);
            let bytes = bytes.clone();
            self.plan_in(
                at,
                Action::Datagram {
                    carrier,
                    end,
                    bytes,
                },
            );
        }
    }

    fn handle_event(&mut self, end: usize, stream: u64, event: Event) {
        if self.is_traced {
            eprintln!("  {end} stream {stream}: {event:?}");
        }
        let app = self.apps.get_mut(&stream).unwrap()[end].as_mut().unwrap();
        match event {
            Event::Readable => {
                if !std::mem::replace(&mut app.is_read_planned, true) {
                    let pause = self.random.below(app.read_pause);
                    self.plan_in(pause, Action::Read { end, stream });
                }
            }
            Event::Writable => {
                assert!(app.is_waiting, "only who waits is told");
                app.is_waiting = false;
                self.plan_in(0, Action::Write { end, stream });
            }
            Event::Reset(code) => {
                app.saw_reset = Some(code);
                self.seen.resets += 1;
                self.seen.forgotten += u64::from(code == ResetCode::FORGOTTEN);
            }
            Event::FinishRoute(route) => {
                if let Some(&mux) = self.ends[end].muxes.get(&(stream, route)) {
                    self.send(mux, end, Item::End);
                }
            }
            Event::DropRoute(route) => {
                if let Some(mux) = self.ends[end].muxes.remove(&(stream, route)) {
                    self.reset_mux(mux, end);
                }
            }
        }
    }

    // Faults.

    fn fault(&mut self) {
        let trusted: Vec<usize> = (0..self.carriers.len())
            .filter(|carrier| self.carriers[*carrier].is_trusted[CLIENT])
            .collect();
        let in_use = self.ends[CLIENT].session.in_use();
        match (self.random.below(10), in_use) {
            (0, Some(carrier)) => {
                self.seen.kills += 1;
                self.kill(carrier.0 as usize, true);
            }
            (1, Some(carrier)) => {
                self.seen.one_way_kills += 1;
                self.kill(carrier.0 as usize, false);
            }
            (2, _) => {
                for carrier in trusted {
                    self.seen.kills += 1;
                    self.kill(carrier, true);
                }
            }
            (3 | 4, _) if !self.is_connecting => self.connect(),
            (5 | 6, Some(_)) => {
                for _ in 0..=self.random.below(2) {
                    let carrier = self.random.pick(&trusted);
                    let is_planned = self.random.percent(80);
                    self.switch(carrier, is_planned);
                }
            }
            (7, _) => self.reset_a_mux(),
            (8, Some(carrier)) => self.say_nonsense(carrier.0 as usize),
            (9, _) if self.random.percent(self.plan.restart_percent) => self.restart(),
            _ => {}
        }
    }

    fn reset_a_mux(&mut self) {
        let end = self.random.below(2) as usize;
        let muxes: Vec<usize> = self.ends[end].muxes.values().copied().collect();
        if muxes.is_empty() {
            return;
        }
        let mux = self.random.pick(&muxes);
        self.reset_mux(mux, end);
        if let Some((stream, route)) = self.muxes[mux].routes[end] {
            self.end_route(end, stream, route, false);
        }
    }

    /// Something that no peer may say, or what it said long ago.
    fn say_nonsense(&mut self, carrier: usize) {
        let mut bytes = Vec::new();
        match self.random.below(6) {
            0 => bytes.push(0x00),
            1 => {
                let (received, window) = (1 << 40, 0);
                Frame::Ack(Ack { received, window }).put_header(&mut bytes);
            }
            2 => {
                put_data_header(1 << 41, 4, &mut bytes);
                bytes.extend(b"evil");
            }
            3 => Frame::Fin { offset: 1 << 42 }.put_header(&mut bytes),
            4 => Frame::Gone.put_header(&mut bytes),
            _ => {
                if self.recorded.is_empty() {
                    return;
                }
                let at = self.random.below(self.recorded.len() as u64) as usize;
                let (_, attach) = self.recorded[at].clone();
                self.muxes.push(Mux::new(carrier));
                let mux = self.muxes.len() - 1;
                self.muxes[mux].is_closed[CLIENT] = true;
                self.send(mux, CLIENT, Item::Chunks(vec![attach]));
                return;
            }
        }
        let muxes: Vec<usize> = self.ends[CLIENT].muxes.values().copied().collect();
        if !muxes.is_empty() {
            let mux = self.random.pick(&muxes);
            let direction = if bytes[0] == 0x86 {
                CLIENT
            } else {
                self.random.below(2) as usize
            };
            if !self.muxes[mux].is_closed[direction] {
                self.send(mux, direction, Item::Chunks(vec![bytes.into()]));
            }
        }
    }

    /// One of the programs starts anew, and the other one learns of it. Nothing is left.
    fn restart(&mut self) {
        self.seen.restarts += 1;
        for carrier in 0..self.carriers.len() {
            self.carriers[carrier].cut(0, &mut self.random, self.now);
            self.carriers[carrier].cut(1, &mut self.random, self.now);
            self.carriers[carrier].is_trusted = [false; 2];
        }
        let streams = std::mem::take(&mut self.apps);
        for apps in streams.into_values() {
            check_prefix(&apps);
        }
        self.agenda
            .retain(|Reverse((_, _, action))| matches!(action, Action::Open | Action::Fault));
        for mux in &mut self.muxes {
            mux.is_closed = [true; 2];
        }
        self.recorded.clear();
        self.reattaching.clear();
        for end in &mut self.ends {
            end.streams.clear();
            assert_eq!(end.budget.used(), 0, "what ends gives back what it had");
        }
        self.ends = [Role::Client, Role::Server].map(|role| End::new(role, &self.plan));
        self.connect();
    }

    fn check_the_end(&mut self) {
        for (stream, apps) in &self.apps {
            let was_reset = check_prefix(apps);
            for (end, app) in apps.iter().enumerate() {
                let held = self.ends[end].streams.get(stream);
                if was_reset {
                    // An end that was at its own end already need not have heard of it.
                    let is_known = app.as_ref().is_none_or(App::is_done);
                    assert!(is_known, "stream {stream} hangs at {end}: {app:?} {held:?}");
                } else {
                    let app = app.as_ref().expect("both ends know the stream");
                    assert!(app.saw_end, "no end of {stream} at {end}: {app:?} {held:?}");
                }
                self.seen.bytes += app.as_ref().map_or(0, |app| app.read);
                assert!(held.is_none(), "kept for ever: {app:?} {held:?}");
            }
        }
        for end in &self.ends {
            assert_eq!(end.budget.used(), 0, "what ends gives back what it had");
        }
    }
}

/// The bytes were compared as they were read. True when somebody reset the stream.
fn check_prefix(apps: &[Option<App>; 2]) -> bool {
    for (reader, writer) in [(&apps[0], &apps[1]), (&apps[1], &apps[0])] {
        let Some(reader) = reader else {
            continue;
        };
        let (written, has_finished) = writer
            .as_ref()
            .map_or((0, false), |writer| (writer.written, writer.has_finished));
        assert!(reader.read <= written, "more was read than was written");
        if reader.saw_end {
            assert!(has_finished && reader.read == written, "a false end");
        }
    }
    let was_reset = apps.iter().flatten().any(|app| app.did_reset);
    let saw_reset = apps.iter().flatten().any(|app| app.saw_reset.is_some());
    assert!(!saw_reset || was_reset, "nobody reset it: {apps:?}");
    was_reset
}

impl End {
    fn new(role: Role, plan: &Plan) -> Self {
        let budget = Budget::new(plan.process_bytes);
        let config = Config {
            role,
            instance: [1; 16],
            grace: MAX_TIME,
            max_streams: 100,
            max_bytes: plan.process_bytes,
        };
        Self {
            session: Session::new(config, &budget),
            streams: BTreeMap::new(),
            muxes: BTreeMap::new(),
            timers: BTreeMap::new(),
            budget,
        }
    }
}

fn held_mut(end: &mut End, stream: u64) -> &mut HeldStream {
    end.streams.get_mut(&stream).unwrap()
}

fn is_closed_at(muxes: &[Mux], mux: usize, end: usize) -> bool {
    muxes[mux].is_closed[end]
}

fn id(carrier: usize) -> CarrierId {
    CarrierId(carrier as u64)
}
