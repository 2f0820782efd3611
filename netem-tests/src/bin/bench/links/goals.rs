//! The numbers to reach, and what has been reached.

mod row;

use super::cell::{Kind, Way};
use super::link::Link;
use super::metric::Metric;
use super::stats::Spread;
use super::subject::Subject;
use super::summary::{Known, Summary};
use row::{Bound, Reached, Unit, best, worst};
pub(crate) use row::{Row, head};

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
        let value = |subject: &Subject| goodput(summary, subject, link, way);
        Row {
            what: format!("bulk {}, {}", way_words(way), link.name),
            goal: Bound::share(0.97),
            least: Bound::share(least),
            unit: Unit::Share,
            reached: best(summary.ours(), Unit::Share, value),
            peer: best(summary.peers(), Unit::Share, value),
        }
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
        let value = |subject: &Subject| {
            let n_stalled = sum(subject, Metric::NStalled)?;
            Spread::of(&[n_stalled], false)
        };
        Some(Row {
            what: format!("starts that stall, of {n:.0}, {}", link.name),
            goal: Bound::count(0.0),
            least: Bound::count((n * 0.02).floor()),
            unit: Unit::Count,
            reached: best(summary.ours(), Unit::Count, value),
            peer: best(summary.peers(), Unit::Count, value),
        })
    };
    summary.links.iter().filter_map(row).collect()
}

/// On how many links and ways the best of ours moves more than the best of frp's.
fn ahead(summary: &Summary<'_>) -> Option<Row> {
    let mut n_all = 0;
    let mut n_behind = 0;
    for (link, way) in summary
        .links
        .iter()
        .flat_map(|link| Way::BOTH.map(|way| (link, way)))
    {
        let value = |subject: &Subject| goodput(summary, subject, link, way);
        let ours = best(summary.ours(), Unit::Share, value);
        let peer = best(summary.peers(), Unit::Share, value);
        if let (Some(ours), Some(peer)) = (ours, peer) {
            n_all += 1;
            n_behind += u32::from(ours.value.median <= peer.value.median);
        }
    }
    (n_all > 0).then(|| Row {
        what: format!("bulk behind frp's best transport, of {n_all} links and ways"),
        goal: Bound::count(0.0),
        least: Bound::count(1.0),
        unit: Unit::Count,
        reached: Spread::of(&[f64::from(n_behind)], false).map(|value| Reached {
            value,
            by: String::new(),
        }),
        peer: None,
    })
}

fn echo_alone(summary: &Summary<'_>) -> Vec<Row> {
    let goals = [
        ("loss-1", 1.1, 1.5),
        ("loss-10", 1.5, 2.5),
        ("loss-30", 2.0, 4.0),
    ];
    let row = |(name, goal, least)| {
        let link = summary.link(name)?;
        let rtt = link.rtt_ms();
        Some(Row {
            what: format!("echo on an idle connection, p99 ms, {name}"),
            goal: Bound::round_trips(goal, rtt),
            least: Bound::round_trips(least, rtt),
            ..latency(summary, link, Kind::Echo)
        })
    };
    goals.into_iter().filter_map(row).collect()
}

fn echo_beside(summary: &Summary<'_>, way: Way) -> Vec<Row> {
    let kind = Kind::EchoBeside(way);
    let row = |name: &str, bounds: &dyn Fn(f64) -> (Bound, Bound)| {
        let link = summary.link(name)?;
        let (goal, least) = bounds(link.rtt_ms());
        // Who moves next to nothing has nothing to keep out of the way of.
        let value = |subject: &Subject| {
            let moved = summary.relative(subject.name(), link, kind, Metric::GoodputMbit, way);
            let is_bulk = moved.value()?.median >= MIN_BESIDE;
            is_bulk.then(|| p99(summary, subject, link, kind)).flatten()
        };
        Some(Row {
            what: format!("echo beside bulk {}, p99 ms, {name}", way_words(way)),
            goal,
            least,
            unit: Unit::Ms,
            reached: best(summary.ours(), Unit::Ms, value),
            peer: best(summary.peers(), Unit::Ms, value),
        })
    };
    let rows = [
        row("clean", &|rtt| {
            (Bound::after(14.0, rtt), Bound::after(50.0, rtt))
        }),
        row("loss-5", &|rtt| {
            (Bound::round_trips(2.0, rtt), Bound::round_trips(4.0, rtt))
        }),
        row("loss-10", &|rtt| {
            (Bound::round_trips(3.0, rtt), Bound::round_trips(6.0, rtt))
        }),
    ];
    rows.into_iter().flatten().collect()
}

fn new_connections(summary: &Summary<'_>) -> Option<Row> {
    let link = summary.link("loss-10")?;
    let rtt = link.rtt_ms();
    Some(Row {
        what: "new connection, first byte back, p99 ms, loss-10".to_owned(),
        goal: Bound::round_trips(3.0, rtt),
        least: Bound::round_trips(5.0, rtt),
        ..latency(summary, link, Kind::Connect)
    })
}

/// The link on which the fastest transport sends the most for what it delivers.
fn wire(summary: &Summary<'_>) -> Option<Row> {
    let worst_of = |subjects: &[&Subject]| {
        let links = summary.links.iter();
        let of_fastest = links
            .flat_map(|link| Way::BOTH.map(|way| (link, way)))
            .filter_map(|(link, way)| {
                let fastest = subjects
                    .iter()
                    .filter_map(|subject| Some((subject, goodput(summary, subject, link, way)?)))
                    .max_by(|(_, a), (_, b)| a.median.total_cmp(&b.median));
                let (subject, _) = fastest?;
                let kind = Kind::Bulk(way);
                let ratio = summary.known(subject.name(), &link.name, kind, Metric::WireRatio);
                Some(Reached {
                    value: ratio.value()?.scaled(link.pass_share(way)),
                    by: format!("{}, {} {way}", subject.protocol()?, link.name),
                })
            });
        of_fastest.max_by(|a, b| a.value.median.total_cmp(&b.value.median))
    };
    Some(Row {
        what: "bytes sent x (1 - loss) / bytes delivered, the worst link".to_owned(),
        goal: Bound::ratio(1.1),
        least: Bound::ratio(1.2),
        unit: Unit::Ratio,
        reached: worst_of(&summary.ours().collect::<Vec<_>>()),
        peer: worst_of(&summary.peers().collect::<Vec<_>>()),
    })
}

/// What must hold for each of our transports: the worst one counts.
fn restraint(summary: &Summary<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for way in Way::BOTH {
        let value = |subject: &Subject| {
            let kind = Kind::Fairness(way);
            let share = summary.known(subject.name(), "clean", kind, Metric::Share);
            let share = share.value()?;
            // The smaller of the two shares, whose ever it is.
            let of_smaller = |share: f64| share.min(1.0 - share);
            let runs = [share.min, share.median, share.max].map(of_smaller);
            Some(Spread {
                n: share.n,
                median: of_smaller(share.median),
                min: runs.iter().copied().fold(f64::INFINITY, f64::min),
                max: runs.iter().copied().fold(0.0, f64::max),
            })
        };
        rows.push(Row {
            what: format!(
                "beside one Cubic flow {}, smaller share, worst transport",
                way_words(way)
            ),
            goal: Bound::share(0.3),
            least: Bound::share(0.3),
            unit: Unit::Share,
            reached: worst(summary.ours(), Unit::Share, value),
            peer: None,
        });
    }
    let overflow = |subject: &Subject| {
        let overflows = summary.links.iter().filter(|link| !link.is_narrow());
        let overflows = overflows.flat_map(|link| {
            Way::BOTH.map(|way| {
                let kind = Kind::Bulk(way);
                summary
                    .known(subject.name(), &link.name, kind, Metric::OverflowPct)
                    .value()
            })
        });
        overflows
            .flatten()
            .max_by(|a, b| a.median.total_cmp(&b.median))
    };
    rows.push(Row {
        what: "packets dropped by the full queue, %, worst transport and link".to_owned(),
        goal: Bound::percent(10.0),
        least: Bound::percent(10.0),
        unit: Unit::Percent,
        reached: worst(summary.ours(), Unit::Percent, overflow),
        peer: worst(summary.peers(), Unit::Percent, overflow),
    });
    let narrow = summary.links.iter().find(|link| link.is_narrow());
    for way in Way::BOTH {
        let Some(link) = narrow else { continue };
        let value = |subject: &Subject| goodput(summary, subject, link, way);
        rows.push(Row {
            what: format!("bulk {}, {}, worst transport", way_words(way), link.name),
            goal: Bound::share(0.93),
            least: Bound::share(0.5),
            unit: Unit::Share,
            reached: worst(summary.ours(), Unit::Share, value),
            peer: None,
        });
    }
    rows
}

/// A row of 99th percentiles whose bounds the caller sets.
fn latency(summary: &Summary<'_>, link: &Link, kind: Kind) -> Row {
    let value = |subject: &Subject| p99(summary, subject, link, kind);
    Row {
        what: String::new(),
        goal: Bound::count(0.0),
        least: Bound::count(0.0),
        unit: Unit::Ms,
        reached: best(summary.ours(), Unit::Ms, value),
        peer: best(summary.peers(), Unit::Ms, value),
    }
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
