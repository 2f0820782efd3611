//! What the programs at both ends do.

use super::*;

impl World {
    pub(super) fn open(&mut self) {
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

    pub(super) fn write(&mut self, end: usize, stream: u64) {
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

    pub(super) fn read(&mut self, end: usize, stream: u64) {
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
}
