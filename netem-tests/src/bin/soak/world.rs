//! One lab of the soak: a tunnel, its users, and what goes wrong around them.
//!
//! Everything that happens to the tunnel happens on one thread, in steps of a tenth of a second:
//! somebody comes, something breaks or mends, what the programs hold is written down. Life goes in
//! chapters, one for each transport; each begins with a look at programs that nobody has used much,
//! and ends with a look at programs that nobody uses any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netem_tests::{
    Lab, Link, PATIENCE, Pair, PairBuilder, Profile, Proxy, Service, Sides, Transport, events,
};

use super::dice::Dice;
use super::health::{self, Sample};
use super::is_stopped;
use super::look::Looks;
use super::mishap::{Mishap, Restart};
use super::users::{Counter, Fate, Users, Visit};

/// What a lab is to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// One chapter each.
    pub(crate) transports: Vec<Transport>,
    /// Whether programs are killed and stopped.
    pub(crate) has_restarts: bool,
    pub(crate) seed: u64,
    pub(crate) start: Instant,
    pub(crate) length: Duration,
}

/// A lab and what has been written down of it.
#[derive(Debug)]
pub(crate) struct World {
    plan: Plan,
    chapters: Mutex<Vec<Chapter>>,
}

/// Life with one transport.
#[derive(Clone, Debug)]
pub(crate) struct Chapter {
    pub(crate) lab: &'static str,
    pub(crate) transport: Transport,
    pub(crate) samples: Vec<Sample>,
    pub(crate) events: Vec<Event>,
    pub(crate) n_whole: u64,
    pub(crate) n_refused: u64,
    /// Those that ended because a program did.
    pub(crate) n_ended_with_program: u64,
    /// What must not have happened.
    pub(crate) failures: Vec<String>,
    /// What took too long, and got better.
    pub(crate) standstills: Vec<String>,
    pub(crate) n_bytes: u64,
    pub(crate) n_switches: usize,
    pub(crate) is_over: bool,
}

/// Something that went wrong.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
    pub(crate) what: String,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            chapters: Mutex::new(Vec::new()),
        }
    }

    /// Lives through all chapters.
    pub(crate) fn run(&self) -> Result<()> {
        let mut dice = Dice::new(self.plan.seed);
        let n = self.plan.transports.len();
        let each = self.plan.length.div_f64(n as f64).max(CHAPTER_MIN);
        for (number, transport) in self.plan.transports.iter().enumerate() {
            let world_end = self.plan.start + self.plan.length;
            let is_last = number + 1 == n;
            let end = match Instant::now() + each {
                end if !is_last && end < world_end => end,
                _ => world_end,
            };
            // A short soak has no time for all of them; another seed takes others.
            if is_stopped() || end.saturating_duration_since(Instant::now()) < CHAPTER_MIN / 2 {
                break;
            }
            let name = format!("soak, {}, {}", self.plan.name, transport.name());
            self.live(*transport, &mut dice, end).context(name)?;
        }
        Ok(())
    }

    /// Returns what is going on, in a few words.
    pub(crate) fn state(&self) -> String {
        let chapters = self.notes();
        let Some(last) = chapters.last() else {
            return format!("{}: starting", self.plan.name);
        };
        let whole: u64 = chapters.iter().map(|one| one.n_whole).sum();
        let bytes: u64 = chapters.iter().map(|one| one.n_bytes).sum();
        let failures: usize = chapters.iter().map(|one| one.failures.len()).sum();
        let now = self.plan.start.elapsed();
        let event = last.events.last().filter(|event| event.end > now);
        let sample = last.samples.last();
        format!(
            "{} {}: {whole} users whole, {failures} failures, {:.2} GiB, {} there, {}",
            self.plan.name,
            last.transport.name(),
            bytes as f64 / GIB,
            sample.map_or(0, |sample| sample.n_users),
            event.map_or("all is well", |event| event.what.as_str())
        )
    }

    /// Returns what has been written down.
    pub(crate) fn chapters(&self) -> Vec<Chapter> {
        self.notes().clone()
    }

    fn live(&self, transport: Transport, dice: &mut Dice, end: Instant) -> Result<()> {
        self.notes().push(Chapter::new(self.plan.name, transport));
        let mut life = Life::begin(self, transport, dice)?;
        let outcome = life.go_on(dice, end).and_then(|()| life.rest());
        self.tell(|chapter| chapter.is_over = true);
        if let Err(error) = outcome {
            let dir = format!("target/soak/{}-{}", self.plan.name, transport.name());
            // Logs that cannot be written are no reason to lose the error.
            let _ = life.pair.save_logs(dir.as_ref());
            return Err(error);
        }
        if self
            .notes()
            .last()
            .is_some_and(|one| !one.failures.is_empty())
        {
            let dir = format!("target/soak/{}-{}", self.plan.name, transport.name());
            life.pair.save_logs(dir.as_ref())?;
        }
        Ok(())
    }

    fn tell(&self, change: impl FnOnce(&mut Chapter)) {
        if let Some(chapter) = self.notes().last_mut() {
            change(chapter);
        }
    }

    fn notes(&self) -> MutexGuard<'_, Vec<Chapter>> {
        self.chapters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chapter {
    fn new(lab: &'static str, transport: Transport) -> Self {
        Self {
            lab,
            transport,
            samples: Vec::new(),
            events: Vec::new(),
            n_whole: 0,
            n_refused: 0,
            n_ended_with_program: 0,
            failures: Vec::new(),
            standstills: Vec::new(),
            n_bytes: 0,
            n_switches: 0,
            is_over: false,
        }
    }
}

/// A chapter while it lasts.
struct Life<'a> {
    world: &'a World,
    // The programs end before the network that they are in.
    pair: Pair,
    users: Users,
    counter: Counter,
    lab: Lab,
    transport: Transport,
    mends_at: Option<Instant>,
    breaks_at: Instant,
    /// When programs ended, and until when the link was last bad.
    restarts: Vec<Instant>,
    bad_until: Instant,
    next_sample: Instant,
    early: Option<Sample>,
    /// When users were looked at last.
    looked_at: Instant,
    looks: Looks,
}

impl<'a> Life<'a> {
    fn begin(world: &'a World, transport: Transport, dice: &mut Dice) -> Result<Self> {
        let plan = &world.plan;
        let name = format!("soak, {}, {}", plan.name, transport.name());
        let lab = Lab::start_seeded(&name, &Profile::default(), dice.below(u64::MAX))?;
        let service = Arc::new(lab.far().enter(Service::start)?);
        let link = Link {
            transport,
            ..Link::DEFAULT
        };
        let pair = PairBuilder::new(&Sides::ours()?)
            .link(link)
            .in_lab(&lab)
            .quiet()
            .proxy(Proxy::tcp(PROXY, service.port()))
            .with_metrics()?
            .server_option("webServer.pprofEnable = true")
            .start()?;
        let counter = Counter {
            near: lab.near().clone(),
            service,
            port: pair.port(PROXY)?,
        };
        let now = Instant::now();
        Ok(Self {
            world,
            pair,
            users: Users::default(),
            counter,
            lab,
            transport,
            mends_at: None,
            breaks_at: now + dice.seconds(3.0, 6.0),
            restarts: Vec::new(),
            bad_until: now,
            next_sample: now,
            early: None,
            looked_at: now,
            looks: Looks::default(),
        })
    }

    /// Lets users come and things go wrong until `end`.
    fn go_on(&mut self, dice: &mut Dice, end: Instant) -> Result<()> {
        self.warm_up(dice)?;
        while Instant::now() < end && !is_stopped() {
            self.tend(dice, true)?;
            let now = Instant::now();
            if self.mends_at.is_some_and(|at| now >= at) {
                self.mend()?;
                self.breaks_at = now + dice.seconds(4.0, 12.0);
            } else if self.mends_at.is_none() && now >= self.breaks_at {
                self.break_something(dice)?;
            }
            thread::sleep(STEP);
        }
        self.mend()
    }

    /// Lets some users come and go before the first look: what is allocated once is then there.
    fn warm_up(&mut self, dice: &mut Dice) -> Result<()> {
        let end = Instant::now() + WARM_UP;
        while Instant::now() < end && !is_stopped() {
            self.tend(dice, true)?;
            thread::sleep(STEP);
        }
        // Those that stay for minutes are still there, and count a little against the end.
        self.early = Some(self.sample()?);
        Ok(())
    }

    /// Waits until all users have gone, and looks at what is left.
    fn rest(&mut self) -> Result<()> {
        let mut dice = Dice::new(0);
        self.users.ask_to_leave();
        let deadline = Instant::now() + REST_PATIENCE;
        while self.users.n_present() > 0 && Instant::now() < deadline {
            self.tend(&mut dice, false)?;
            thread::sleep(STEP);
        }
        let n_left = self.users.n_present();
        if n_left > 0 {
            let text = format!("{n_left} users did not get what was sent");
            self.world.tell(|chapter| chapter.failures.push(text));
        }
        self.be_calm(&mut dice)?;
        // A program that has been started again lately has nothing to show.
        let has_lived = self.restarts.is_empty();
        if let Some(early) = self.early.filter(|_| has_lived) {
            let deadline = Instant::now() + LINGERING;
            let mut grown = health::growth(&early, &self.sample()?);
            while !grown.is_empty() && Instant::now() < deadline {
                self.be_calm(&mut dice)?;
                grown = health::growth(&early, &self.sample()?);
            }
            self.world.tell(|chapter| chapter.failures.extend(grown));
        } else {
            self.sample()?;
        }
        self.count_switches()
    }

    /// Lets time pass in which nobody comes.
    fn be_calm(&mut self, dice: &mut Dice) -> Result<()> {
        let calm = Instant::now() + CALM;
        while Instant::now() < calm {
            self.tend(dice, false)?;
            thread::sleep(STEP);
        }
        Ok(())
    }

    fn tend(&mut self, dice: &mut Dice, may_come: bool) -> Result<()> {
        for visit in self.users.tend(dice, &self.counter, may_come) {
            self.judge(&visit);
        }
        self.look_for_standstills();
        if Instant::now() >= self.next_sample {
            self.next_sample = Instant::now() + SAMPLE_INTERVAL;
            self.sample()?;
        }
        Ok(())
    }

    fn look_for_standstills(&mut self) {
        let now = Instant::now();
        let step = now - self.looked_at;
        self.looked_at = now;
        // What was wrong until a moment ago may still be felt.
        let is_well = self.mends_at.is_none() && now >= self.bad_until + SETTLING;
        for standstill in self.users.standstills(step, is_well) {
            let known = self.look_into(&standstill.text, now - step);
            let text = format!("{}{known}", standstill.text);
            self.world.tell(|chapter| match standstill.is_failure {
                true => chapter.failures.push(text),
                false => chapter.standstills.push(text),
            });
        }
    }

    fn look_into(&mut self, who: &str, since: Instant) -> String {
        let plan = &self.world.plan;
        let place = format!("{}-{}", plan.name, self.transport.name());
        println!("soak: {place}: {who}");
        let known = self.looks.take(&self.pair, &place, plan.start, since);
        println!("soak: what the programs know of it:{known}");
        known
    }

    /// Writes down what came of a user.
    fn judge(&mut self, visit: &Visit) {
        let has_restarted = self
            .restarts
            .iter()
            // What breaks is noticed a little later by some.
            .any(|at| visit.begin <= *at + RESTART_SHADOW && visit.end >= *at);
        let was_bad = visit.begin <= self.bad_until + REFUSAL_SHADOW;
        let at = visit.begin.saturating_duration_since(self.world.plan.start);
        let is_failure = match visit.fate {
            Fate::Whole => false,
            Fate::Refused => !has_restarted && !was_bad,
            Fate::Broken(_) => !has_restarted,
            Fate::Wrong(_) => true,
        };
        let who = format!("user {} ({})", visit.id, visit.habits);
        let known = match is_failure {
            true => self.look_into(&format!("{who}: {:?}", visit.fate), visit.end),
            false => String::new(),
        };
        self.world.tell(|chapter| {
            chapter.n_bytes += visit.n_bytes;
            match &visit.fate {
                Fate::Whole => chapter.n_whole += 1,
                Fate::Refused if has_restarted || was_bad => chapter.n_refused += 1,
                Fate::Broken(_) if has_restarted => {
                    chapter.n_ended_with_program += 1;
                }
                Fate::Refused => chapter.failures.push(format!(
                    "{who}, who came at {:.1} s, was refused{known}",
                    at.as_secs_f64()
                )),
                Fate::Broken(why) | Fate::Wrong(why) => chapter.failures.push(format!(
                    "{who}, who came at {:.1} s, after {:.1} s and {} bytes: {why}{known}",
                    at.as_secs_f64(),
                    visit
                        .end
                        .saturating_duration_since(visit.begin)
                        .as_secs_f64(),
                    visit.n_bytes
                )),
            }
        });
    }

    fn sample(&self) -> Result<Sample> {
        let start = self.world.plan.start;
        let sample = Sample::take(start, &self.pair, self.users.n_present())?;
        self.world.tell(|chapter| chapter.samples.push(sample));
        Ok(sample)
    }

    fn break_something(&mut self, dice: &mut Dice) -> Result<()> {
        let may_restart = self.world.plan.has_restarts;
        let (mishap, time) = Mishap::roll(dice, self.transport, may_restart);
        let begin = self.world.plan.start.elapsed();
        self.world.tell(|chapter| {
            chapter.events.push(Event {
                begin,
                end: begin + time,
                what: mishap.to_string(),
            });
        });
        self.bad_until = Instant::now() + time;
        match &mishap {
            Mishap::Broken(_, fault) => self.lab.fault(fault.clone())?,
            Mishap::Bad(_, profile) => self.lab.set_link(profile)?,
            Mishap::Moved(gap) => {
                self.lab.change_far_address(*gap)?;
                self.bad_until = Instant::now();
            }
            Mishap::SwitchedByHand(to) => {
                // It may be refused, when nothing of that kind can be reached at the moment.
                let _ = self.pair.frpc_with("switch", &[to.name()])?;
            }
            Mishap::Restarted(restart) => self.restart(*restart)?,
        }
        self.mends_at = Some(Instant::now() + time);
        Ok(())
    }

    fn mend(&mut self) -> Result<()> {
        self.mends_at = None;
        self.lab.clear_faults()?;
        self.lab.set_link(&Profile::default())
    }

    fn restart(&mut self, restart: Restart) -> Result<()> {
        self.restarts.push(Instant::now());
        match restart {
            Restart::KilledServer => {
                self.pair.kill_server();
                self.pair.start_server()?;
            }
            Restart::KilledClient => {
                self.count_switches()?;
                self.pair.kill_client();
                self.pair.start_client()?;
            }
            Restart::StoppedClient => {
                self.count_switches()?;
                self.pair.client()?.terminate()?;
                self.pair.client_mut()?.wait_for_exit()?;
                self.pair.start_client()?;
            }
        }
        // Those who come before everything stands again may be refused.
        self.bad_until = Instant::now();
        Ok(())
    }

    /// Adds the switches that the running client has told of.
    fn count_switches(&self) -> Result<()> {
        let n = events::switches(&self.pair.client()?.lines()).len();
        self.world.tell(|chapter| chapter.n_switches += n);
        Ok(())
    }
}

const PROXY: &str = "soak";

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// How long after a fault its consequences may last: what the switch policy promises, and some.
const SETTLING: Duration = Duration::from_secs(3);

/// How often somebody may come and something may break.
const STEP: Duration = Duration::from_millis(100);

/// How often it is written down what the programs hold.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);

/// How long users come before the first look.
const WARM_UP: Duration = Duration::from_secs(15);

/// A chapter has to hold its start, a fault or two and its rest.
const CHAPTER_MIN: Duration = Duration::from_secs(60);

/// How long users may take to go: as long as what they sent may be under way.
const REST_PATIENCE: Duration = Duration::from_secs(130);

/// How long the programs have nothing to do before the last look.
const CALM: Duration = Duration::from_secs(8);

/// How long what an outage has left half open may stay: the other side of an attempt that was given
/// up while nothing got through learns it by silence only.
const LINGERING: Duration = Duration::from_secs(90);

/// How long after a restart users may still find out that theirs has ended with the program.
const RESTART_SHADOW: Duration = Duration::from_secs(5);

/// How long after a fault somebody may still be refused who came during it or right behind: a
/// server keeps users waiting for 10 s.
const REFUSAL_SHADOW: Duration = PATIENCE;
