//! The tables of values: a row for each subject, a column for each link.

use super::super::cell::{Kind, Way};
use super::super::link::Link;
use super::super::metric::Metric;
use super::super::stats::Spread;
use super::super::subject::Subject;
use super::Report;

/// Returns all tables, in the order in which they are shown.
pub(super) fn all() -> Vec<Table> {
    let mut tables = Vec::new();
    for way in Way::BOTH {
        tables.push(Table {
            title: format!("Bulk {}", way_words(way)),
            text: "Goodput of one connection from second 2 to second 8, in units of \
                   (1 - loss) x rate, and half the distance between its fastest and its \
                   slowest run. –: nothing moved.",
            value: Box::new(move |report, subject, link| {
                report.relative(subject, link, Kind::Bulk(way), Metric::GoodputMbit, way)
            }),
            write: share_with_spread,
        });
        tables.push(Table {
            title: format!("The first two seconds {}", way_words(way)),
            text: "Of the same transfers, from the user's connect on, on a tunnel that has \
                   carried nothing yet.",
            value: Box::new(move |report, subject, link| {
                let metric = Metric::FirstTwoSecondsMbit;
                report.relative(subject, link, Kind::Bulk(way), metric, way)
            }),
            write: share_with_spread,
        });
    }
    for (title, kind, text) in [
        (
            "Echo on an idle connection",
            Kind::Echo,
            "64 bytes every 20 ms, p50 / p99 in ms.",
        ),
        (
            "New connections",
            Kind::Connect,
            "Ten a second: from connect to the first byte back, p50 / p99 in ms.",
        ),
    ] {
        tables.push(times(title.to_owned(), kind, text));
    }
    for way in Way::BOTH {
        tables.push(times(
            format!("Echo beside bulk {}", way_words(way)),
            Kind::EchoBeside(way),
            "64 bytes every 20 ms on one connection while another moves as much as goes, \
             p50 / p99 in ms.",
        ));
        tables.push(Table {
            title: format!("What bulk {} moves beside the echo", way_words(way)),
            text: "In units of (1 - loss) x rate.",
            value: Box::new(move |report, subject, link| {
                let metric = Metric::GoodputMbit;
                report.relative(subject, link, Kind::EchoBeside(way), metric, way)
            }),
            write: share_with_spread,
        });
    }
    for way in Way::BOTH {
        tables.push(Table {
            title: format!("Wire {}", way_words(way)),
            text: "IP bytes sent in the data's direction x (1 - loss) / bytes delivered.",
            value: Box::new(move |report, subject, link| {
                let ratio = report.known(subject, link, Kind::Bulk(way), Metric::WireRatio);
                ratio.map(|ratio| vec![ratio.scaled(link.pass_share(way))])
            }),
            write: |values| format!("{:.2}", values[0].median),
        });
    }
    tables.extend(costs());
    tables.push(Table {
        title: "Queue".to_owned(),
        text: "Packets dropped by the full queue in front of the bottleneck, in % of all that \
               a bulk transfer to the user sends from its first packet on / the most packets \
               that stood in the queue.",
        value: Box::new(|report, subject, link| {
            let kind = Kind::Bulk(Way::Down);
            let overflow = report.known(subject, link, kind, Metric::OverflowPct)?;
            let queue = report.known(subject, link, kind, Metric::QueuePacketsMax)?;
            Some(vec![overflow, queue])
        }),
        write: |values| format!("{:.1} / {:.0}", values[0].median, values[1].median),
    });
    tables.push(starts());
    for way in Way::BOTH {
        tables.push(Table {
            title: format!("Beside one Cubic flow {}", way_words(way)),
            text: "The tunnel's share of what both move in 15 s / the smaller share of the two.",
            value: Box::new(move |report, subject, link| {
                let summary = report.summary;
                let share = report.known(subject, link, Kind::Fairness(way), Metric::Share)?;
                let smaller = summary.smaller_share(subject.name(), &link.name, way)?;
                Some(vec![share, smaller])
            }),
            write: |values| format!("{:.2} / {:.2}", values[0].median, values[1].median),
        });
    }
    tables
}

/// A table with a row for each subject and a column for each link.
pub(super) struct Table {
    pub(super) title: String,
    pub(super) text: &'static str,
    value: Box<CellValues>,
    write: fn(&[Spread]) -> String,
}

/// Returns the values of one cell of a table, if they are known.
type CellValues = dyn Fn(&Report<'_>, &Subject, &Link) -> Option<Vec<Spread>>;

impl Table {
    /// Returns its rows, or nothing when there is nothing to show. Columns and rows without any
    /// value are left out.
    pub(super) fn rows(&self, report: &Report<'_>) -> Option<Vec<Vec<String>>> {
        let summary = report.summary;
        let cell = |subject: &Subject, link: &Link| {
            (self.value)(report, subject, link).map(|values| (self.write)(&values))
        };
        let links: Vec<&Link> = summary
            .links
            .iter()
            .filter(|link| {
                let has_value = |subject: &Subject| cell(subject, link).is_some();
                summary.subjects.iter().any(has_value)
            })
            .collect();
        if links.is_empty() {
            return None;
        }
        let mut rows = vec![vec![String::new()]];
        rows[0].extend(links.iter().map(|link| link.name.clone()));
        for subject in summary.subjects {
            let cells: Vec<Option<String>> = links.iter().map(|link| cell(subject, link)).collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let mut row = vec![subject.title().to_owned()];
            row.extend(
                cells
                    .into_iter()
                    .map(|cell| cell.unwrap_or_else(|| "–".to_owned())),
            );
            rows.push(row);
        }
        Some(rows)
    }
}

fn times(title: String, kind: Kind, text: &'static str) -> Table {
    Table {
        title,
        text,
        value: Box::new(move |report, subject, link| {
            Some(vec![
                report.known(subject, link, kind, Metric::P50Ms)?,
                report.known(subject, link, kind, Metric::P99Ms)?,
            ])
        }),
        write: |values| format!("{:.0} / {:.0}", values[0].median, values[1].median),
    }
}

/// What the tunnel takes for it.
fn costs() -> [Table; 2] {
    [
        Table {
            title: "CPU".to_owned(),
            text: "CPU seconds of both programs for each GiB delivered, to the user / to the \
                   service. –: less than a tenth of what the link carries was delivered.",
            value: Box::new(|report, subject, link| {
                let costs = Way::BOTH.map(|way| {
                    let kind = Kind::Bulk(way);
                    let goodput = report.relative(subject, link, kind, Metric::GoodputMbit, way)?;
                    let is_bulk = goodput[0].median >= MIN_FOR_CPU;
                    report
                        .known(subject, link, kind, Metric::CpuPerGib)
                        .filter(|_| is_bulk)
                });
                let is_known = costs.iter().any(Option::is_some);
                // A value below zero stands for none.
                let or_none = |cost: Option<Spread>| cost.or(Spread::of(&[-1.0], false));
                let costs: Option<Vec<Spread>> = costs.into_iter().map(or_none).collect();
                costs.filter(|_| is_known)
            }),
            write: |values| {
                let write = |value: &Spread| match value.median {
                    cost if cost < 0.0 => "–".to_owned(),
                    cost => format!("{cost:.1}"),
                };
                format!("{} / {}", write(&values[0]), write(&values[1]))
            },
        },
        Table {
            title: "Memory".to_owned(),
            text: "The most that `frps` / `frpc` held during a bulk transfer to the user, MiB.",
            value: Box::new(|report, subject, link| {
                let kind = Kind::Bulk(Way::Down);
                Some(vec![
                    report.known(subject, link, kind, Metric::FrpsPeakMib)?,
                    report.known(subject, link, kind, Metric::FrpcPeakMib)?,
                ])
            }),
            write: |values| format!("{:.0} / {:.0}", values[0].median, values[1].median),
        },
    ]
}

fn starts() -> Table {
    Table {
        title: "Starts".to_owned(),
        text: "Fresh tunnels that stalled for over a second: in the login (counted from six round \
               trips on) or in the first two seconds of a transfer / of them in the login / all.",
        value: Box::new(|report, subject, link| {
            let sum = |metric| {
                let sum = report
                    .summary
                    .sum(subject.name(), &link.name, Kind::Starts, metric)?;
                Spread::of(&[sum], false)
            };
            Some(vec![
                sum(Metric::NStalled)?,
                sum(Metric::NStalledLogins)?,
                sum(Metric::NStarts)?,
            ])
        }),
        write: |values| {
            let [stalled, logins, all] = [0, 1, 2].map(|index: usize| values[index].median);
            format!("{stalled:.0} / {logins:.0} / {all:.0}")
        },
    }
}

fn share_with_spread(values: &[Spread]) -> String {
    let value = values[0];
    let text = format!("{:.2}", value.median);
    if value.n < 2 {
        return text;
    }
    format!("{text} ±{:.2}", (value.max - value.min) / 2.0)
}

fn way_words(way: Way) -> &'static str {
    match way {
        Way::Down => "to the user",
        Way::Up => "to the service",
    }
}

/// In units of (1 - loss) x rate: who moves less spends its time on waiting, not on bytes.
const MIN_FOR_CPU: f64 = 0.1;
