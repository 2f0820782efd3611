//! Carriers come, are decided for, and go.

use super::*;

impl World {
    pub(super) fn connect(&mut self) {
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

    pub(super) fn join(&mut self, end: usize, carrier: usize, number: u64) {
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
    pub(super) fn switch(&mut self, carrier: usize, is_planned: bool) {
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

    pub(super) fn attach(
        &mut self,
        stream: u64,
        carrier: usize,
        generation: Generation,
        is_planned: bool,
    ) {
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

    pub(super) fn reattach(&mut self, stream: u64) {
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
    pub(super) fn find_carrier(&mut self) {
        let standby = (0..self.carriers.len())
            .rev()
            .find(|carrier| self.carriers[*carrier].is_trusted[CLIENT]);
        match standby {
            Some(carrier) => self.switch(carrier, false),
            None if !self.is_connecting => self.connect(),
            None => {}
        }
    }

    pub(super) fn kill(&mut self, carrier: usize, is_both_ways: bool) {
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

    pub(super) fn notice(&mut self, end: usize, carrier: usize) {
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

    pub(super) fn end_route(&mut self, end: usize, stream: u64, route: Route, is_orderly: bool) {
        if !is_orderly {
            self.ends[end].muxes.remove(&(stream, route));
        }
        if let Some(held) = self.ends[end].streams.get_mut(&stream) {
            held.handle_route_end(route, is_orderly);
            self.pump(end, stream);
        }
    }
}
