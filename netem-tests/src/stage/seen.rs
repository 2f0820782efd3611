//! What the users of a stage have seen.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Span, Stage, Users};
use crate::events::Switch;
use crate::observe::{End, FreshEnd, Ledger};

/// What the users have seen since something broke.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whether everything that was sent on the stream came, once and in order, up to the end.
    pub is_intact: bool,
    /// Why not.
    pub flaw: Option<String>,
    /// Whether bytes came that were not those that had to come.
    pub is_wrong: bool,
    /// How long after the fault's beginning the stream was broken, if it was.
    pub broken_after: Option<Duration>,
    /// The longest time in which nothing came on the stream, in the worse direction.
    pub stall: Duration,
    /// From the fault's end until bytes came in both directions, where it has an end.
    pub back: Option<Duration>,
    /// The longest time without an echo for the one who types.
    pub typing_stall: Duration,
    /// What came of fresh connections.
    pub fresh: FreshCounts,
    /// From the fault's end until the first fresh connection was served. Where it has no end: from
    /// its beginning to the end of the longest time in which nobody was served.
    pub fresh_back: Option<Duration>,
    /// From the fault's beginning until the client said anything of it.
    pub noticed: Option<Duration>,
    /// What arrived at the user each second since the fault's beginning, in Mbit/s.
    pub goodput_mbit: Vec<f64>,
    /// The switches that the client told of, before the fault as well.
    pub switches: Vec<Switch>,
    /// How many further ones a client told of that was started again.
    pub n_switches_before: usize,
    /// From the fault's beginning until users' open connections were closed.
    pub closed_after: Option<Duration>,
    /// From the restart until every proxy had served somebody.
    pub proxies_back: Option<Duration>,
    /// How often a proxy's port was still used by the program before.
    pub n_conflicts: usize,
    /// What both programs hold, in KiB: the server, the client.
    pub rss_kib: [u64; 2],
    /// What both have logged.
    pub logs: [String; 2],
}

/// What came of the fresh connections that began after something broke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreshCounts {
    /// Those that got their echo.
    pub n_served: usize,
    /// Those that were refused or closed.
    pub n_refused: usize,
    /// Those that nobody answered.
    pub n_unanswered: usize,
    /// The longest that one waited that was served.
    pub longest: Duration,
}

impl Seen {
    /// Fails unless the stream went on whole.
    pub fn check_intact(&self) -> Result<()> {
        ensure!(
            self.is_intact,
            "the stream did not survive: {}; the client said:\n{}",
            self.flaw.as_deref().unwrap_or("it did not go on"),
            crate::events::decisions(self.logs[1].lines())
        );
        Ok(())
    }

    /// Returns the mean of what arrived at the user between two times after the fault's beginning.
    pub fn mean_goodput_mbit(&self, from: Duration, until: Duration) -> Option<f64> {
        let first = usize::try_from(from.as_secs()).ok()?;
        let end = usize::try_from(until.as_secs()).ok()?;
        let seconds = self.goodput_mbit.get(first..end)?;
        Some(seconds.iter().sum::<f64>() / seconds.len() as f64)
    }

    /// Returns the number of switches since the fault's beginning.
    pub fn n_switches(&self) -> usize {
        self.switches.len() + self.n_switches_before
    }

    /// Returns the most switches within any period of this length.
    pub fn most_switches_within(&self, period: Duration) -> usize {
        let within = |first: &Switch| {
            let inside = self.switches.iter().filter(|other| {
                other.at >= first.at && other.at.saturating_duration_since(first.at) < period
            });
            inside.count()
        };
        self.switches.iter().map(within).max().unwrap_or(0)
    }
}

pub(super) fn sum_up(
    stage: &Stage,
    users: Users,
    fault: Span,
    switches: Vec<Switch>,
) -> Result<Seen> {
    let now = Instant::now();
    let Users {
        stream,
        typist,
        fresh,
    } = users;
    let begin = fault.begin;
    // Where the fault has no end, what counts is whether things move when all is over.
    let well_since = fault.end.unwrap_or(now - STILL_MOVING);
    let ledgers = stream.ledgers();
    let broken = stream.broken();
    let first_after = |ledger: &Ledger| ledger.first_after(well_since);
    // The later of the two, and none if one direction is still silent.
    let back = ledgers
        .map(first_after)
        .into_iter()
        .collect::<Option<Vec<_>>>();
    let back = back.and_then(|both| both.into_iter().max());
    let stall = ledgers.map(|ledger| ledger.longest_gap(begin, now));
    let goodput_mbit = stream.down().by_time(begin, now, Duration::from_secs(1));
    let rss_kib = [
        stage.pair.server()?.rss_kib()?,
        stage.pair.client()?.rss_kib()?,
    ];
    let noticed = first_word(stage, begin)?;

    let broken_after = broken
        .as_ref()
        .map(|(at, _)| at.saturating_duration_since(begin));
    let is_wrong = broken
        .as_ref()
        .is_some_and(|(_, end)| matches!(end, End::Wrong(_)));
    let mut flaw = broken.map(|(_, end)| end.to_string());
    let mut seen = Seen {
        is_intact: false,
        flaw: None,
        is_wrong,
        broken_after,
        stall: stall.into_iter().max().unwrap_or_default(),
        back: back
            .filter(|_| fault.end.is_some())
            .map(|at| at.saturating_duration_since(well_since)),
        typing_stall: typist.echoes().longest_gap(begin, now),
        fresh: count(&fresh.between(begin, now)),
        fresh_back: match fault.end {
            Some(end) => since(fresh.first_served_after(end), end),
            None => since(fresh.served_again(begin, now), begin),
        },
        noticed,
        goodput_mbit: goodput_mbit
            .iter()
            .map(|bytes| *bytes as f64 * 8.0 / 1e6)
            .collect(),
        switches: switches.into_iter().filter(|one| one.at >= begin).collect(),
        n_switches_before: stage.restarts.n_switches_before,
        closed_after: stage.restarts.closed_after,
        proxies_back: stage.restarts.proxies_back,
        n_conflicts: stage.restarts.n_conflicts,
        rss_kib,
        logs: [stage.pair.server()?.log(), stage.pair.client()?.log()],
    };
    if flaw.is_none() && back.is_some() {
        match stream.finish(FINISH_PATIENCE) {
            Ok(()) => seen.is_intact = true,
            Err(error) => flaw = Some(format!("{error:#}")),
        }
    }
    if let Some((_, End::Wrong(what))) = typist.echoes().end() {
        seen.is_wrong = true;
        seen.is_intact = false;
        flaw.get_or_insert(what);
    }
    seen.flaw = flaw;
    Ok(seen)
}

fn since(at: Option<Instant>, start: Instant) -> Option<Duration> {
    at.map(|at| at.saturating_duration_since(start))
}

/// Returns when the client said something for the first time after `begin`.
fn first_word(stage: &Stage, begin: Instant) -> Result<Option<Duration>> {
    let lines = stage.pair.client()?.lines_after(stage.log_begin);
    let word = lines
        .iter()
        .find(|(at, line)| *at > begin && crate::events::tells_of_trouble(line));
    Ok(word.map(|(at, _)| at.saturating_duration_since(begin)))
}

fn count(conns: &[crate::observe::FreshConn]) -> FreshCounts {
    let mut counts = FreshCounts::default();
    for conn in conns {
        match conn.end {
            FreshEnd::Served => {
                counts.n_served += 1;
                let took = conn.over.saturating_duration_since(conn.start);
                counts.longest = counts.longest.max(took);
            }
            FreshEnd::Refused => counts.n_refused += 1,
            FreshEnd::Unanswered => counts.n_unanswered += 1,
        }
    }
    counts
}

/// Something comes within this time on a stream that moves.
const STILL_MOVING: Duration = Duration::from_secs(2);

/// How long what is under way may take to arrive once nothing more is sent.
const FINISH_PATIENCE: Duration = Duration::from_secs(20);
