//! What is sent arrives, late or never.

use super::*;

impl World {
    pub(super) fn send(&mut self, mux: usize, direction: usize, item: Item) {
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

    pub(super) fn arrive(&mut self, mux: usize, direction: usize) {
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

    pub(super) fn receive(&mut self, mux: usize, end: usize, mut input: Bytes) {
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

    pub(super) fn handle_frame(&mut self, mux: usize, end: usize, frame: Frame) {
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
    pub(super) fn refuse(&mut self, mux: usize, end: usize) {
        self.seen.refused_frames += 1;
        self.reset_mux(mux, end);
        if let Some((stream, route)) = self.muxes[mux].routes[end] {
            self.end_route(end, stream, route, false);
        }
    }

    pub(super) fn reset_mux(&mut self, mux: usize, end: usize) {
        if !std::mem::replace(&mut self.muxes[mux].is_closed[end], true) {
            self.muxes[mux].pipes[end].items.clear();
            self.send(mux, end, Item::Reset);
        }
    }

    pub(super) fn accept(&mut self, mux: usize, attach: frp_proto::hold::frame::Attach) {
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

    pub(super) fn receive_datagram(&mut self, carrier: usize, end: usize, bytes: Bytes) {
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
}
