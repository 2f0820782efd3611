//! Doing what a stream wants done.

use super::*;

impl World {
    /// Does what the stream wants done.
    pub(super) fn pump(&mut self, end: usize, stream: u64) {
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

    pub(super) fn transmit(&mut self, end: usize, stream: u64) {
        loop {
            let Some(held) = self.ends[end].streams.get_mut(&stream) else {
                return;
            };
            let Some(route) = held.route() else {
                return;
            };
            let mux = self.ends[end].muxes[&(stream, route)];
            let carrier = self.muxes[mux].carrier;
            while let Some(datagram) =
                held_mut(&mut self.ends[end], stream).poll_datagram(1200, self.now)
            {
                self.send_datagram(carrier, 1 - end, &datagram);
            }
            let Some(held) = self.ends[end].streams.get_mut(&stream) else {
                return;
            };
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
            if self.random.percent(self.plan.datagram_percent) {
                let plan = CopyPlan {
                    n_copies: self.random.pick(&[1, 1, 2, 5]),
                    spacing: Duration::from_micros(self.random.pick(&[0, 1_000, 5_000])),
                };
                let held = held_mut(&mut self.ends[end], stream);
                if held.uncopied() > 0 {
                    held.plan_copies(1200, plan, self.now);
                }
            }
            self.send(mux, end, Item::Chunks(chunks));
        }
    }

    /// Cuts somewhere, as carriers do.
    pub(super) fn cut_chunk(&mut self, chunks: &mut Vec<Bytes>) {
        let which = self.random.below(chunks.len() as u64) as usize;
        let at = self.random.below(chunks[which].len() as u64) as usize;
        if at > 0 {
            let front = chunks[which].split_to(at);
            chunks.insert(which, front);
        }
    }

    /// Datagrams are lost, repeated, and overtake each other and the frames.
    pub(super) fn send_datagram(&mut self, carrier: usize, end: usize, bytes: &Bytes) {
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

    pub(super) fn handle_event(&mut self, end: usize, stream: u64, event: Event) {
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
}
