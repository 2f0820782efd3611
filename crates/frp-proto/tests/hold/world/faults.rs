//! What befalls a run.

use super::*;

impl World {
    pub(super) fn fault(&mut self) {
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

    pub(super) fn reset_a_mux(&mut self) {
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
    pub(super) fn say_nonsense(&mut self, carrier: usize) {
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
    pub(super) fn restart(&mut self) {
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
}
