//! Is there a better one? Questions, windows, and the return to what is preferred.
//!
//! A *question* compares the carrier in use with another one over windows in which both are
//! probed at the same pace. It begins when the carrier in use looks bad, or when a preferred one
//! has been good for long enough. It ends with a switch or with a notice that says why not.

use std::time::{Duration, Instant};

use super::Policy;
use super::carrier::Carrier;
use super::score;
use super::window::{
    Sums, Window, lose_differently, loses_too_many, one_way_loss, rate, recent_loss,
};
use super::words::{CarrierId, Cause, Decision, Family, Measured, Notice};
use crate::path::{Pace, PaddingHead, PathReport};

/// A comparison that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    from: CarrierId,
    to: CarrierId,
    is_return: bool,
    started: Instant,
    /// Windows that do not count yet: the carrier is adapting to its loss.
    n_skipped: u32,
    n_wins: u32,
    n_losses: u32,
    window: Window,
}

/// After a question without a switch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pause {
    until: Option<Instant>,
    wait: Duration,
    /// Heartbeat loss at the last question.
    loss: f64,
}

/// A question that gets no windows full is dropped: one carrier has fallen silent.
const QUESTION_MAX: Duration = Duration::from_secs(60);
/// Loss that has grown by so much since the last question does not wait for the next.
const WORSE_BY: f64 = 0.15;
/// A loss that differs by less needs no other congestion control or redundancy.
const ADAPT_STEP: f64 = 0.05;
/// A transport that is returned to may be so much slower: preference has its reasons.
const RETURN_SLACK: f64 = 0.9;
/// And its interactive time so much longer, by share and in time.
const RETURN_SLACK_TIME: (f64, Duration) = (1.25, Duration::from_millis(10));
/// A comparison takes as many probes as minutes of an idle tunnel. One that finds the carrier in use
/// as good as the preferred one is put off twice as long each time, to this at most: as long as a
/// transport that is closed. A carrier in use that becomes bad is compared without that.
const VAIN_RETURN_WAIT_MAX: Duration = Duration::from_secs(300);
/// The same without users, who bring the other one with them: two dozen a day are half a megabyte of
/// the two that an idle client may cost.
const VAIN_RETURN_WAIT_MAX_QUIET: Duration = Duration::from_secs(3_600);
/// What a UDP carrier may lose of its data packets while bulk waits. Congestion control that lossy
/// links need loses less where the link is full. What is above is a policer or a link that loses as
/// much of everything, and probes, few and small, pass the former as if there was none: the rates of
/// both carriers tell them apart.
const UDP_LOSS_MAX: f64 = 0.25;
/// Of a UDP carrier that loses more of its packets, nothing that it could adapt is waited for: it
/// counts from the first window on.
const HOPELESS_LOSS: f64 = 0.5;
/// From this share of what slow start (and repairs) allow, a burst was held back by them and not by
/// the path: half, because the other carrier takes its part of the path meanwhile.
const SLOW_START_SHARE: f64 = 0.5;
/// A link that has carried less than this share of a burst of padding in each second of the last
/// minute has no bulk on it, whose rate would be of interest: an idle tunnel that compares its carriers
/// would send more padding in a day than all else.
const MEASURED_FROM: f64 = 0.1;
/// How long a burst of padding over TCP may keep the link busy. UDP gets all that is configured, which
/// is more than what policers let through; TCP has none to pass, and on a link of 10 Mbit/s as much
/// would take a fifth of a second from bulk each time.
const TCP_BURST: Duration = Duration::from_millis(100);
/// The same for UDP where a TCP carrier is bad, unless that is less than what is configured: the
/// longer a burst, the faster the policers that it tells from slow start and repairs.
const UDP_BURST: Duration = Duration::from_millis(100);
/// Fewer bytes show no rate.
const TCP_BURST_MIN: u64 = 16 * 1024;
/// A UDP carrier that is measured beside bulk, and gets so much of what that leaves of the link,
/// would have the link to itself ...
const LEFT_SHARE: f64 = 0.8;
/// ... if that is no less than so much of what it could carry: of little nothing can be told.
const LEFT_MIN: f64 = 0.2;
/// Of two carriers of unequal preference, at start.
const START_SLACK: f64 = 1.25;

impl Policy {
    /// A new report of `carrier` has come.
    pub(crate) fn weigh(&mut self, now: Instant, carrier: CarrierId) {
        if self.in_use == Some(carrier)
            && let Some(entry) = self.carriers.get(&carrier)
        {
            let loss = entry
                .report
                .packets
                .map_or(0.0, |_| recent_loss(entry, now));
            self.capacity.add(now, entry.delivered(), loss);
        }
        let can_ask = self.doubt.is_none() && self.outage.is_none() && self.measure_until.is_none();
        if !can_ask {
            return;
        }
        match self.question.take() {
            Some(question) => self.go_on(now, carrier, question),
            None if self.in_use == Some(carrier) => self.look_for_questions(now, carrier),
            None => {}
        }
    }

    pub(crate) fn is_left_in_question(&self) -> bool {
        self.question
            .as_ref()
            .is_some_and(|question| !question.is_return)
    }

    /// Ends a question, if there is one. One that changed nothing makes the next one wait.
    pub(crate) fn end_question(&mut self, now: Instant, has_changed: bool) {
        let Some(question) = self.question.take() else {
            return;
        };
        self.set_pace(question.from, Pace::InUse);
        if self.carriers.contains_key(&question.to) {
            self.set_pace(question.to, Pace::Standby);
        }
        if has_changed {
            self.pause = Pause::default();
        } else if !question.is_return {
            let config = &self.config;
            let wait =
                (self.pause.wait * 2).clamp(config.question_pause, config.question_pause_max);
            self.pause.wait = wait;
            self.pause.until = Some(now + wait);
        }
    }

    /// The one to use of those that were measured at start, when it is not `in_use`.
    pub(crate) fn best_measured(&self, now: Instant, in_use: CarrierId) -> Option<CarrierId> {
        let other = self.best_live(now, |_| true)?;
        let reports = [in_use, other].map(|id| self.carriers.get(&id).map(|entry| &entry.report));
        let [Some(mine), Some(its)] = reports else {
            return None;
        };
        if mine.srtt.is_zero() || its.srtt.is_zero() {
            return None;
        }
        let share_loss = self.share_a_path(in_use, other) && !lose_differently(mine, its);
        // To begin anew on the other one costs a transfer that is under way a second or two.
        if share_loss && self.carriers.get(&in_use).is_some_and(Carrier::has_bulk) {
            return None;
        }
        // Which of two that share a path has lost more of a dozen probes, or had them vary more, is
        // chance.
        let pooled = |report: &PathReport| match share_loss {
            true => PathReport {
                outbound: mine.outbound.and(&its.outbound),
                inbound: mine.inbound.and(&its.inbound),
                rttvar: mine.rttvar.min(its.rttvar),
                ..*report
            },
            false => *report,
        };
        let time = |carrier, report| {
            let report = pooled(report);
            let loss = report.outbound.share().max(report.inbound.share());
            let spread_rtt = report.srtt + report.rttvar * 2;
            let family = self.family(carrier);
            score::interactive(family, spread_rtt, report.srtt, loss, Duration::ZERO).as_secs_f64()
        };
        let (mine, its) = (time(in_use, mine), time(other, its));
        let is_better = match self.is_preferred(other, in_use) {
            true => its <= mine * START_SLACK,
            false => its * START_SLACK <= mine,
        };
        is_better.then_some(other)
    }

    /// Whether both go over UDP, and over the same version of IP: what the path loses, it takes from
    /// both.
    fn share_a_path(&self, one: CarrierId, other: CarrierId) -> bool {
        [one, other]
            .iter()
            .all(|id| self.family(*id) == Family::Udp)
            && self.is_ipv6(one) == self.is_ipv6(other)
    }

    fn look_for_questions(&mut self, now: Instant, in_use: CarrierId) {
        if self.manual == Some(self.transport(in_use)) {
            return;
        }
        if let Some(preferred) = self.due_return(now, in_use) {
            self.ask(now, in_use, preferred, true);
            return;
        }
        let Some(entry) = self.carriers.get(&in_use) else {
            return;
        };
        let Some(loss) = self.looks_bad(now, entry) else {
            return;
        };
        let is_paused = self.pause.until.is_some_and(|until| now < until);
        let is_worse = loss >= self.pause.loss + WORSE_BY;
        let Some(standby) = self.standby(now).filter(|_| !is_paused || is_worse) else {
            return;
        };
        // A pinned transport is not left for its quality.
        let to = self.carriers.get(&standby).map(|entry| entry.place);
        if to.is_none_or(|place| self.places[place].candidate.is_fallback) {
            return;
        }
        self.pause.loss = loss;
        let stall = entry.stall(now);
        self.tell(Notice::Questioned {
            carrier: in_use,
            heartbeat_loss: loss,
            stall,
        });
        self.ask(now, in_use, standby, false);
    }

    /// The loss of heartbeats, when the last seconds are a reason to compare.
    fn looks_bad(&self, now: Instant, entry: &Carrier) -> Option<f64> {
        let config = &self.config;
        let before = entry.a_moment_ago(now)?;
        let heartbeats = entry.report.heartbeats.since(&before.heartbeats);
        let loses = loses_too_many(&heartbeats, config.loss_threshold);
        let has_bulk = entry.has_bulk();
        let family = self.places[entry.place].candidate.transport.family();
        let bulk_loss = entry.bulk_loss(before, config.window_samples);
        let crawls = match family {
            Family::Tcp => bulk_loss >= config.tcp_loss,
            Family::Udp => bulk_loss >= UDP_LOSS_MAX,
        };
        let stands_still = entry.stall(now) >= config.stall_max / 2;
        // A transfer needs some time to grow on a carrier that has just come into use.
        let has_grown = entry.has_been_used_for(now, config.window);
        let is_starved =
            has_bulk && has_grown && rate(entry.delivered()) < self.capacity.get() / 2.0;
        (loses || crawls || stands_still || is_starved).then(|| heartbeats.share())
    }

    /// A preferred carrier that has been good for long enough.
    fn due_return(&self, now: Instant, in_use: CarrierId) -> Option<CarrierId> {
        let vain_wait_max = match self.is_quiet(now) {
            true => VAIN_RETURN_WAIT_MAX_QUIET,
            false => VAIN_RETURN_WAIT_MAX,
        };
        let due = self.carriers.iter().filter(|(id, entry)| {
            let transport = self.transport(**id);
            let wait = self.stay.return_after(&self.config, transport);
            // Ten doublings are beyond the maximum.
            let doubled = self.config.return_after * (1 << entry.n_vain_returns.min(10));
            let wait = wait.max(doubled.min(vain_wait_max));
            entry.is_live()
                && !entry.is_silent
                && self.is_preferred(**id, in_use)
                && now.saturating_duration_since(entry.good_since) >= wait
                && self.stay.permits(&self.config, now, transport)
        });
        due.min_by_key(|(_, entry)| self.rank(entry.place))
            .map(|(id, _)| *id)
    }

    fn ask(&mut self, now: Instant, from: CarrierId, to: CarrierId, is_return: bool) {
        let Some(window) = self.new_window(now, from, to) else {
            return;
        };
        let n_skipped = if is_return {
            0
        } else {
            u32::from(self.adapt(now, from))
        };
        if let Some(entry) = self.carriers.get_mut(&to) {
            entry.measured_rate = None;
        }
        let question = Question {
            from,
            to,
            is_return,
            started: now,
            n_skipped,
            n_wins: 0,
            n_losses: 0,
            window,
        };
        for carrier in [from, to] {
            self.set_pace(carrier, Pace::Questioned);
        }
        self.measure_rate(&question);
        self.question = Some(question);
    }

    /// Without bulk in sight its rate decides nothing, and the link has shown none.
    fn measure_rate(&mut self, question: &Question) {
        let carrier = question.to;
        let most = self.config.measure_bytes;
        let capacity = self.capacity.get();
        if capacity < rate(most) * MEASURED_FROM {
            return;
        }
        let bytes = match self.family(carrier) {
            Family::Tcp => within(capacity * TCP_BURST.as_secs_f64()).clamp(TCP_BURST_MIN, most),
            Family::Udp if self.is_of_bad_tcp(question) => {
                let longest = PaddingHead::MAX_BYTES;
                within(capacity * UDP_BURST.as_secs_f64()).clamp(most.min(longest), longest)
            }
            Family::Udp => most,
        };
        if let Some(entry) = self.carriers.get_mut(&carrier) {
            entry.burst_bytes = bytes;
            self.decide(Decision::MeasureRate { carrier, bytes });
        }
    }

    /// On UDP congestion control and redundancy come first. Returns whether there was anything to
    /// change.
    fn adapt(&mut self, now: Instant, carrier: CarrierId) -> bool {
        let is_udp = self.family(carrier) == Family::Udp;
        let Some(entry) = self.carriers.get_mut(&carrier).filter(|_| is_udp) else {
            return false;
        };
        let loss = recent_loss(entry, now);
        if entry
            .adapted_to
            .is_some_and(|adapted| (adapted - loss).abs() < ADAPT_STEP)
        {
            return false;
        }
        entry.adapted_to = Some(loss);
        #[expect(clippy::cast_possible_truncation, reason = "a share is at most 1")]
        #[expect(clippy::cast_sign_loss, reason = "a share is at least 0")]
        let loss_pct = (loss * 100.0).round() as u8;
        self.decide(Decision::AdaptToLoss { carrier, loss_pct });
        true
    }

    fn go_on(&mut self, now: Instant, carrier: CarrierId, mut question: Question) {
        let (Some(from), Some(to)) = (
            self.carriers.get(&question.from),
            self.carriers.get(&question.to),
        ) else {
            self.question = Some(question);
            self.end_question(now, true);
            return;
        };
        if carrier == question.from {
            question.window.from.add(now, from);
            question.window.n_bulk += u32::from(from.has_bulk());
        } else if carrier == question.to {
            question.window.to.add(now, to);
        }
        let is_full = question.window.is_full(now, from, to, &self.config);
        let is_stuck = now.saturating_duration_since(question.started) > QUESTION_MAX;
        let next = self.new_window(now, question.from, question.to);
        let (true, false, Some(mut next)) = (is_full, is_stuck, next) else {
            self.question = Some(question);
            if is_stuck {
                self.end_question(now, false);
            }
            return;
        };
        if self.family(question.to) == Family::Tcp {
            next.to.packets_from = question.window.to.packets_from;
        }
        let window = std::mem::replace(&mut question.window, next);
        self.decide_by(now, &window, question);
    }

    /// A window is full.
    fn decide_by(&mut self, now: Instant, window: &Window, mut question: Question) {
        let is_bulk = window.n_bulk * 2 > window.from.n_reports;
        let (Some(from), Some(to)) = (
            self.measure(&window.from, &question, question.from, is_bulk),
            self.measure(&window.to, &question, question.to, false),
        ) else {
            self.question = Some(question);
            return;
        };
        if question.n_skipped > 0 {
            question.n_skipped -= 1;
            if from.packet_loss <= HOPELESS_LOSS {
                self.question = Some(question);
                return;
            }
        }
        let verdict = match question.is_return {
            true => self.worth_return(&from, &to).then_some(Cause::Return),
            false => self.worth_leaving(&from, &to, is_bulk, question.from),
        };
        match verdict {
            Some(_) => question.n_wins += 1,
            None => {
                question.n_wins = 0;
                question.n_losses += 1;
                if !question.is_return {
                    // One burst can have bad luck, and it would count in the next window as well.
                    self.measure_rate(&question);
                }
            }
        }
        let needed = if question.is_return {
            1
        } else {
            self.config.wins
        };
        let transport = self.transport(question.to);
        let is_permitted = self.stay.permits(&self.config, now, transport);
        // A bar that falls soon is waited for: the next windows are as good as these.
        let bar_ends = self.stay.permitted_at(&self.config, transport);
        let is_barred_long = bar_ends.is_some_and(|at| at > now + self.config.min_stay);
        let (n_wins, n_losses, target) = (question.n_wins, question.n_losses, question.to);
        let is_return = question.is_return;
        self.question = Some(question);
        match verdict {
            Some(cause) if n_wins >= needed && is_permitted => {
                self.promote(now, target, cause, Some((from, to)));
            }
            Some(_) if n_wins < needed || !is_barred_long => {}
            None if n_losses < self.config.wins && !is_return => {}
            _ => {
                if is_return && let Some(entry) = self.carriers.get_mut(&target) {
                    // It has to be good anew for as long.
                    entry.good_since = now;
                    entry.n_vain_returns = entry.n_vain_returns.saturating_add(1);
                }
                self.tell(Notice::Stayed {
                    from,
                    to,
                    is_barred: verdict.is_some(),
                });
                self.end_question(now, false);
            }
        }
    }

    /// Why the carrier in use should be left for the other one, if it should.
    fn worth_leaving(
        &self,
        from: &Measured,
        to: &Measured,
        is_bulk: bool,
        in_use: CarrierId,
    ) -> Option<Cause> {
        let config = &self.config;
        let is_tcp = self.family(in_use) == Family::Tcp;
        let is_starved = is_bulk && from.bulk_rate < self.capacity.get() / 2.0;
        let loss_max = if is_tcp {
            config.tcp_loss
        } else {
            UDP_LOSS_MAX
        };
        let cause = if from.stall >= config.stall_max {
            Cause::Stall
        } else if from.heartbeat_loss > config.loss_threshold {
            Cause::Loss
        } else if is_starved || (is_bulk && from.packet_loss >= loss_max) {
            Cause::Slow
        } else {
            return None;
        };
        let better_by = 1.0 + config.better_by;
        let is_better = match is_bulk {
            true => to.bulk_rate >= from.bulk_rate * better_by,
            false => to.interactive.mul_f64(better_by) <= from.interactive,
        };
        is_better.then_some(cause)
    }

    fn worth_return(&self, from: &Measured, to: &Measured) -> bool {
        let (share, time) = RETURN_SLACK_TIME;
        let loses = to.heartbeat_loss > self.config.loss_threshold.max(from.heartbeat_loss);
        let is_slow = to.interactive > from.interactive.mul_f64(share) + time;
        let is_thin = to.bulk_rate < from.bulk_rate * RETURN_SLACK;
        !loses && !is_slow && !is_thin
    }

    /// What a carrier was like in a window, and what bulk can expect of it. `is_bulk` says that
    /// what it delivered is all that it can.
    fn measure(
        &self,
        sums: &Sums,
        question: &Question,
        carrier: CarrierId,
        is_bulk: bool,
    ) -> Option<Measured> {
        let entry = self.carriers.get(&carrier)?;
        let family = self.family(carrier);
        let report = &entry.report;
        let heartbeat_loss = report.heartbeats.since(&sums.base.heartbeats).share();
        let samples = self.config.window_samples;
        let mut packet_loss = sums.packet_loss(entry, family, samples);
        if is_bulk {
            packet_loss = packet_loss.max(entry.bulk_loss(&sums.base, samples));
        }
        let n_reports = sums.n_reports.max(1);
        let spread_rtt = sums.spread_rtt / n_reports;
        let one_way = one_way_loss(report, &sums.base);

        let known = self.capacity.get();
        let measured = entry.measured_rate.filter(|_| !is_bulk);
        let slow_start = score::slow_start_rate(entry.burst_bytes, report.min_rtt);
        // Probes are too few to be what a policer drops.
        let repaired = score::repaired_rate(entry.burst_bytes, one_way, report.srtt);
        let may_be_slow_start = self.is_of_bad_tcp(question);
        let by_burst = measured.map_or(0.0, |rate| rate / (1.0 - packet_loss.min(0.95)));
        let capacity = known.max(by_burst);
        let by_model =
            score::bulk_rate(family, entry.control(), capacity, packet_loss, report.srtt);
        let left = by_model - self.bulk_beside(carrier).unwrap_or(by_model);
        let shown = measured.map(|rate| match family {
            // Where slow start was the limit, the link is: what it has shown, and a round more.
            Family::Tcp if rate >= slow_start * SLOW_START_SHARE => {
                (rate * 2.0).max(self.capacity.arrived())
            }
            Family::Udp if may_be_slow_start && rate >= repaired * SLOW_START_SHARE => by_model,
            // It had what the transfer beside it left of the link, so the link was its limit.
            Family::Udp if left >= by_model * LEFT_MIN && rate >= left * LEFT_SHARE => by_model,
            _ => rate,
        });
        let bulk_rate = match is_bulk {
            true => by_model.min(sums.delivered / f64::from(n_reports)),
            false => shown.map_or(by_model, |rate| by_model.min(rate)),
        };
        Some(Measured {
            heartbeat_loss,
            packet_loss,
            srtt: report.srtt,
            stall: sums.stall,
            bulk_rate,
            interactive: score::interactive(family, spread_rtt, report.srtt, one_way, sums.stall),
        })
    }

    /// Whether it is asked because TCP looks bad, about one that was not left of late. Else it is not
    /// worth the risk of taking a policer for slow start.
    fn is_of_bad_tcp(&self, question: &Question) -> bool {
        !question.is_return
            && self.family(question.from) == Family::Tcp
            && !self.stay.has_left(self.transport(question.to))
    }

    /// What bulk gets over the carrier in use while another one is measured, in bytes a second.
    fn bulk_beside(&self, carrier: CarrierId) -> Option<f64> {
        let in_use = self.in_use.filter(|in_use| *in_use != carrier)?;
        let entry = self.carriers.get(&in_use)?;
        entry.has_bulk().then(|| rate(entry.delivered()))
    }

    fn new_window(&self, now: Instant, from: CarrierId, to: CarrierId) -> Option<Window> {
        Some(Window {
            start: now,
            from: Sums::new(self.carriers.get(&from)?),
            to: Sums::new(self.carriers.get(&to)?),
            n_bulk: 0,
        })
    }
}

impl Question {
    pub(crate) fn is_about(&self, carrier: CarrierId) -> bool {
        self.from == carrier || self.to == carrier
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a burst needs no more precision"
)]
#[expect(clippy::cast_sign_loss, reason = "a rate is at least 0")]
fn within(bytes: f64) -> u64 {
    bytes as u64
}
