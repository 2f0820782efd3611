//! The numbers to reach, and what has been reached.

mod row;

use super::cell::{Kind, Way};
use super::link::Link;
use super::metric::Metric;
use super::stats::Spread;
use super::subject::Subject;
use super::summary::{Known, Summary};
use row::{Bound, Reached, Unit, best, worst};
pub(crate) use row::{Row, Verdict, head};

/// Returns all rows for which the links are there.
pub(crate) fn rows(summary: &Summary<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for way in Way::BOTH {
        rows.extend(bulk(summary, way));
    }
    rows.extend(starts(summary));
    rows.extend(ahead(summary));
    rows.extend(echo_alone(summary));
    for way in Way::BOTH {
        rows.extend(echo_beside(summary, way));
    }
    rows.extend(new_connections(summary));
    rows.extend(wire(summary));
    rows.extend(restraint(summary));
    rows
}

fn bulk(summary: &Summary<'_>, way: Way) -> Vec<Row> {
    let links = summary.links.iter().filter(|link| !link.is_narrow());
    let row = |link: &Link| {
        let least = if link.is_one_of(&HARD_LINKS) || link.is_extra {
            0.88
        } else {
            0.93
        };
        let what = format!("bulk {}, {}", way_words(way), link.name);
        let bounds = [Bound::share(0.97), Bound::share(least)];
        best_row(summary, what, bounds, Unit::Share, |subject| {
            goodput(summary, subject, link, way)
        })
    };
    links.map(row).collect()
}

fn starts(summary: &Summary<'_>) -> Vec<Row> {
    let row = |link: &Link| {
        let sum = |subject: &Subject, metric| {
            summary.sum(subject.name(), &link.name, Kind::Starts, metric)
        };
        let n = summary
            .ours()
            .find_map(|subject| sum(subject, Metric::NStarts))?;
        let what = format!("starts that stall, of {n:.0}, {}", link.name);
        let bounds = [Bound::count(0.0), Bound::count((n * 0.02).floor())];
        Some(best_row(summary, what, bounds, Unit::Count, |subject| {
            let n_stalled = sum(subject, Metric::NStalled)?;
            Spread::of(&[n_stalled], false)
        }))
    };
    summary.links.iter().filter_map(row).collect()
}

/// On how many links and ways the best of frp's moves more than the best of ours, where that is not
/// all that the link has.
fn ahead(summary: &Summary<'_>) -> Option<Row> {
    let mut n_all = 0;
    let mut n_behind = 0;
    let mut n_auto_behind = 0;
    let mut is_auto_known = false;
    for (link, way) in summary.links_and_ways() {
        let value = |subject: &Subject| goodput(summary, subject, link, way);
        let ours = best(summary.ours(), Unit::Share, value);
        let auto = best(summary.auto(), Unit::Share, value);
        let peer = best(summary.peers(), Unit::Share, value);
        let (Some(ours), Some(peer)) = (ours, peer) else {
            continue;
        };
        let is_behind = |one: &Reached| !is_level(one.value.median, peer.value.median);
        n_all += 1;
        n_behind += u32::from(is_behind(&ours));
        n_auto_behind += u32::from(auto.as_ref().is_some_and(is_behind));
        is_auto_known |= auto.is_some();
    }
    let count = |n: u32| Reached {
        value: Spread {
            n: 1,
            median: n.into(),
            min: n.into(),
            max: n.into(),
        },
        by: String::new(),
    };
    (n_all > 0).then(|| Row {
        what: format!("bulk behind frp's best transport, of {n_all} links and ways"),
        goal: Bound::count(0.0),
        least: Bound::count(1.0),
        unit: Unit::Count,
        reached: Some(count(n_behind)),
        auto: is_auto_known.then(|| count(n_auto_behind)),
        peer: None,
    })
}

/// Says whether a goodput is as good as the `best` one: what is a few hundredths less, or all that
/// the link has, is a tie.
fn is_level(goodput: f64, best: f64) -> bool {
    goodput >= TIE * best || goodput >= FULL
}

fn echo_alone(summary: &Summary<'_>) -> Vec<Row> {
    let goals = [
        ("loss-1", 1.1, 1.5),
        ("loss-10", 1.5, 2.5),
        ("loss-30", 2.0, 4.0),
    ];
    let row = |(name, goal, least)| {
        let link = summary.link(name)?;
        let what = format!("echo on an idle connection, p99 ms, {name}");
        let bounds = [goal, least].map(|n| Bound::round_trips(n, link.rtt_ms()));
        Some(latency(summary, what, bounds, link, Kind::Echo))
    };
    goals.into_iter().filter_map(row).collect()
}

fn echo_beside(summary: &Summary<'_>, way: Way) -> Vec<Row> {
    let kind = Kind::EchoBeside(way);
    let row = |name: &str, bounds: &dyn Fn(f64) -> [Bound; 2]| {
        let link = summary.link(name)?;
        let what = format!("echo beside bulk {}, p99 ms, {name}", way_words(way));
        let bounds = bounds(link.rtt_ms());
        // Who moves next to nothing has nothing to keep out of the way of.
        Some(best_row(summary, what, bounds, Unit::Ms, |subject| {
            let moved = summary.relative(subject.name(), link, kind, Metric::GoodputMbit, way);
            let is_bulk = moved.value()?.median >= MIN_BESIDE;
            is_bulk.then(|| p99(summary, subject, link, kind)).flatten()
        }))
    };
    let rows = [
        row("clean", &|rtt| [14.0, 50.0].map(|ms| Bound::after(ms, rtt))),
        row("loss-5", &|rtt| {
            [2.0, 4.0].map(|n| Bound::round_trips(n, rtt))
        }),
        row("loss-10", &|rtt| {
            [3.0, 6.0].map(|n| Bound::round_trips(n, rtt))
        }),
    ];
    rows.into_iter().flatten().collect()
}

fn new_connections(summary: &Summary<'_>) -> Option<Row> {
    let link = summary.link("loss-10")?;
    let what = "new connection, first byte back, p99 ms, loss-10".to_owned();
    let bounds = [3.0, 5.0].map(|n| Bound::round_trips(n, link.rtt_ms()));
    Some(latency(summary, what, bounds, link, Kind::Connect))
}

/// The link on which the best transport sends the most for what it delivers: of those that move as
/// much as any, the one that sends the least. Beside it, what none has to use: the worst transport.
fn wire(summary: &Summary<'_>) -> Option<Row> {
    let of = |subject: &Subject, link: &Link, way: Way| {
        let kind = Kind::Bulk(way);
        let ratio = summary.known(subject.name(), &link.name, kind, Metric::WireRatio);
        Some(Reached {
            value: ratio.value()?.scaled(link.pass_share(way)),
            by: format!("{}, {} {way}", subject.protocol()?, link.name),
        })
    };
    let by_ratio = |a: &Reached, b: &Reached| a.value.median.total_cmp(&b.value.median);
    let worst_link = |subjects: &[&Subject]| {
        let of_best = summary.links_and_ways().filter_map(|(link, way)| {
            let moved = |subject: &Subject| Some(goodput(summary, subject, link, way)?.median);
            let most = subjects.iter().filter_map(|subject| moved(subject));
            let most = most.max_by(f64::total_cmp)?;
            let is_best = |subject: &Subject| moved(subject).is_some_and(|one| is_level(one, most));
            let best = subjects.iter().filter(|subject| is_best(subject));
            best.filter_map(|subject| of(subject, link, way))
                .min_by(by_ratio)
        });
        of_best.max_by(by_ratio)
    };
    let worst_of_all = |subjects: &[&Subject]| {
        let all = summary.links_and_ways();
        all.flat_map(|(link, way)| subjects.iter().filter_map(move |one| of(one, link, way)))
            .max_by(by_ratio)
    };
    let with_worst = |subjects: Vec<&Subject>| {
        let mut reached = worst_link(&subjects)?;
        let worst = worst_of_all(&subjects).filter(|worst| worst.by != reached.by);
        if let Some(worst) = worst {
            let (ratio, by) = (worst.value.median, worst.by);
            reached.by += &format!(" (any transport: {ratio:.2} {by})");
        }
        Some(reached)
    };
    Some(Row {
        what: "bytes sent x (1 - loss) / bytes delivered, each link's best transport, worst link"
            .to_owned(),
        goal: Bound::ratio(1.1),
        least: Bound::ratio(1.2),
        unit: Unit::Ratio,
        reached: with_worst(summary.ours().collect()),
        auto: worst_link(&summary.auto().collect::<Vec<_>>()),
        peer: with_worst(summary.peers().collect()),
    })
}

/// What must hold for each of our transports: the worst one counts.
fn restraint(summary: &Summary<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for way in Way::BOTH {
        rows.extend(fairness(summary, way));
    }
    let overflow = |subject: &Subject| {
        let links = summary.links_and_ways();
        let overflows = links
            .filter(|(link, _)| !link.is_narrow())
            .filter_map(|(link, way)| {
                let kind = Kind::Bulk(way);
                let overflow = summary.known(subject.name(), &link.name, kind, Metric::OverflowPct);
                overflow.value()
            });
        overflows.max_by(|a, b| a.median.total_cmp(&b.median))
    };
    rows.push(worst_row(
        summary,
        "packets dropped by the full queue, %, worst transport and link".to_owned(),
        [10.0, 10.0].map(Bound::percent),
        Unit::Percent,
        |_| true,
        overflow,
    ));
    let narrow = summary.links.iter().find(|link| link.is_narrow());
    for way in Way::BOTH {
        let Some(link) = narrow else { continue };
        rows.push(worst_row(
            summary,
            format!("bulk {}, {}, worst transport", way_words(way), link.name),
            [0.93, 0.5].map(Bound::share),
            Unit::Share,
            |_| true,
            |subject| goodput(summary, subject, link, way),
        ));
    }
    rows
}

/// The smaller of the two shares, whose ever it is: of what holds back by itself, and of what leaves
/// that to the kernel.
fn fairness(summary: &Summary<'_>, way: Way) -> [Row; 2] {
    [
        (false, "worst of kcp, quic and auto"),
        (true, "worst over tcp (the kernel's own)"),
    ]
    .map(|(is_over_tcp, whose)| {
        worst_row(
            summary,
            format!(
                "beside one Cubic flow {}, smaller share, {whose}",
                way_words(way)
            ),
            [0.3, 0.3].map(Bound::share),
            Unit::Share,
            |subject| subject.is_over_tcp() == is_over_tcp,
            |subject| summary.smaller_share(subject.name(), "clean", way),
        )
    })
}

/// A row in which the best of ours, `auto` and the best of frp's stand beside each other.
fn best_row(
    summary: &Summary<'_>,
    what: String,
    [goal, least]: [Bound; 2],
    unit: Unit,
    value: impl Fn(&Subject) -> Option<Spread>,
) -> Row {
    Row {
        what,
        goal,
        least,
        unit,
        reached: best(summary.ours(), unit, &value),
        auto: best(summary.auto(), unit, &value),
        peer: best(summary.peers(), unit, &value),
    }
}

/// A row in which the worst of those of ours and of frp's that `is_asked` names stand.
fn worst_row(
    summary: &Summary<'_>,
    what: String,
    [goal, least]: [Bound; 2],
    unit: Unit,
    is_asked: impl Fn(&Subject) -> bool,
    value: impl Fn(&Subject) -> Option<Spread>,
) -> Row {
    let asked = |subject: &&Subject| is_asked(subject);
    Row {
        what,
        goal,
        least,
        unit,
        reached: worst(summary.ours().filter(asked), unit, &value),
        auto: worst(summary.auto().filter(asked), unit, &value),
        peer: worst(summary.peers().filter(asked), unit, &value),
    }
}

/// A row of 99th percentiles.
fn latency(
    summary: &Summary<'_>,
    what: String,
    bounds: [Bound; 2],
    link: &Link,
    kind: Kind,
) -> Row {
    best_row(summary, what, bounds, Unit::Ms, |subject| {
        p99(summary, subject, link, kind)
    })
}

fn p99(summary: &Summary<'_>, subject: &Subject, link: &Link, kind: Kind) -> Option<Spread> {
    let metric = Metric::P99Ms;
    counted(
        summary.known(subject.name(), &link.name, kind, metric),
        metric,
    )
}

fn goodput(summary: &Summary<'_>, subject: &Subject, link: &Link, way: Way) -> Option<Spread> {
    let (kind, metric) = (Kind::Bulk(way), Metric::GoodputMbit);
    counted(
        summary.relative(subject.name(), link, kind, metric, way),
        metric,
    )
}

/// Where nothing moved, that is what has been reached.
fn counted(known: Known, metric: Metric) -> Option<Spread> {
    match known {
        Known::Value(value) => Some(value),
        Known::Stalled => Spread::of(&[metric.of_a_stall()?], metric.more_is_better()),
        Known::Nothing => None,
    }
}

fn way_words(way: Way) -> &'static str {
    match way {
        Way::Down => "to the user",
        Way::Up => "to the service",
    }
}

/// Of which less is asked: slow, long, or out of order.
const HARD_LINKS: [&str; 3] = ["slow", "far", "jitter"];

/// In units of (1 - loss) x rate: what a transfer must move for the echoes beside it to count.
const MIN_BESIDE: f64 = 0.5;

/// Goodput that is this share of another one is level with it: rounds differ by as much.
pub(crate) const TIE: f64 = 0.98;

/// In units of (1 - loss) x rate: the goal for the link's whole rate, which nobody is behind.
pub(crate) const FULL: f64 = 0.97;
