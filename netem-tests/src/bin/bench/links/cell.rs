//! What is measured: names, and which of them belong to a run.

use std::fmt;

use netem_tests::lab::Direction;

use super::link::Link;
use super::subject::{Subject, WSS};
use crate::settings::{Part, Settings};

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// From the service to the user.
    Down,
    /// From the user to the service.
    Up,
}

impl Way {
    pub(crate) const BOTH: [Self; 2] = [Self::Down, Self::Up];

    /// Returns the direction of the link in which the data travels.
    pub(crate) fn direction(self) -> Direction {
        match self {
            Self::Down => Direction::ToNear,
            Self::Up => Direction::ToFar,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Up => "up",
        })
    }
}

/// What is looked at. Every one of them starts programs of its own on a link of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Bare TCP over the link without its faults: the unit of all goodput.
    Rate(Way),
    /// As much as goes through one new connection.
    Bulk(Way),
    /// Small messages on an idle connection.
    Echo,
    /// Small messages on one connection while another moves as much as it can.
    EchoBeside(Way),
    /// New connections, one after the other, each for one byte there and back.
    Connect,
    /// Fresh tunnels, each with the first two seconds of a transfer.
    Starts,
    /// One transfer beside one Cubic TCP transfer over the same link.
    Fairness(Way),
}

impl Kind {
    /// Everything, in the order of a round.
    pub(crate) const ALL: [Self; 11] = [
        Self::Rate(Way::Down),
        Self::Rate(Way::Up),
        Self::Bulk(Way::Down),
        Self::Bulk(Way::Up),
        Self::EchoBeside(Way::Down),
        Self::EchoBeside(Way::Up),
        Self::Fairness(Way::Down),
        Self::Fairness(Way::Up),
        Self::Echo,
        Self::Connect,
        Self::Starts,
    ];

    /// How much of the machine a cell takes, in parts of [`Kind::CAPACITY`]: what moves much data
    /// has the machine to itself, what waits for single packets runs side by side.
    pub(crate) fn weight(self) -> usize {
        match self {
            Self::Echo | Self::Connect => 1,
            _ => Self::CAPACITY,
        }
    }

    /// How many of the lightest cells run side by side, each on a link of its own.
    pub(crate) const CAPACITY: usize = 4;
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(way) => write!(f, "rate-{way}"),
            Self::Bulk(way) => write!(f, "bulk-{way}"),
            Self::Echo => f.write_str("echo"),
            Self::EchoBeside(way) => write!(f, "echo-beside-{way}"),
            Self::Connect => f.write_str("connect"),
            Self::Starts => f.write_str("starts"),
            Self::Fairness(way) => write!(f, "fairness-{way}"),
        }
    }
}

/// Who, over which link, what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) link: &'a Link,
    pub(crate) kind: Kind,
}

impl Cell<'_> {
    /// Returns the name that `ONLY` looks at.
    pub(crate) fn name(&self) -> String {
        name(self.subject.name(), &self.link.name, self.kind)
    }
}

/// Returns the name of a cell.
pub(crate) fn name(subject: &str, link: &str, kind: Kind) -> String {
    format!("{subject}/{link}/{kind}")
}

/// Returns the cells of one round. What `ONLY` names is measured even where a whole run leaves it
/// out; the rates that it is compared with come along.
pub(crate) fn plan<'a>(
    settings: &Settings,
    subjects: &'a [Subject],
    links: &'a [Link],
) -> Vec<Cell<'a>> {
    let mut cells = Vec::new();
    for kind in Kind::ALL {
        for link in links {
            for subject in subjects {
                let cell = Cell {
                    subject,
                    link,
                    kind,
                };
                if !cell.is_possible() {
                    continue;
                }
                let is_wanted = match &settings.only {
                    Some(_) => settings.wants(&cell.name()),
                    None if settings.part == Part::Other => cell.is_usual_elsewhere(),
                    None if settings.quick => cell.is_quick(),
                    None => cell.is_usual(),
                };
                if is_wanted {
                    cells.push(cell);
                }
            }
        }
    }
    add_rates(&mut cells, subjects, links);
    cells
}

impl Cell<'_> {
    /// Says whether there is such a thing.
    fn is_possible(&self) -> bool {
        match self.kind {
            Kind::Rate(_) => self.subject.is_bare(),
            Kind::EchoBeside(_) | Kind::Starts | Kind::Fairness(_) => !self.subject.is_bare(),
            Kind::Bulk(_) | Kind::Echo | Kind::Connect => true,
        }
    }

    /// Says whether a whole run measures it.
    fn is_usual(&self) -> bool {
        let link = self.link;
        if self.subject.protocol() == Some(WSS) {
            // The same TCP and TLS as WebSocket's, the other way round.
            return false;
        }
        match self.kind {
            Kind::Rate(_) => false,
            Kind::Bulk(_) => !link.is_narrow() || !self.subject.is_peer(),
            Kind::Echo | Kind::Connect | Kind::EchoBeside(Way::Down) => !link.is_narrow(),
            Kind::EchoBeside(Way::Up) => self.subject.is_ours() && link.is_one_of(&BESIDE_UP),
            Kind::Starts => self.subject.is_ours() && (link.is_one_of(&STARTS) || link.is_extra),
            Kind::Fairness(_) => link.name == "clean",
        }
    }

    /// Says whether a run over the links that no goal names measures it: what bad links are for.
    fn is_usual_elsewhere(&self) -> bool {
        let is_asked = matches!(self.subject.protocol(), Some("kcp" | "quic" | "auto"));
        let is_cheap = !matches!(
            self.kind,
            Kind::Starts | Kind::Fairness(_) | Kind::EchoBeside(Way::Up)
        );
        is_asked && self.subject.is_ours() && is_cheap
    }

    /// Says whether a short look measures it.
    fn is_quick(&self) -> bool {
        self.is_usual()
            && self.link.is_one_of(&QUICK_LINKS)
            && matches!(self.kind, Kind::Bulk(Way::Down) | Kind::Echo)
    }
}

/// Adds the rate of each link whose goodput is measured, once for links that differ only in their
/// faults.
fn add_rates<'a>(cells: &mut Vec<Cell<'a>>, subjects: &'a [Subject], links: &'a [Link]) {
    let Some(bare) = subjects.iter().find(|subject| subject.is_bare()) else {
        return;
    };
    let mut rates: Vec<Cell<'a>> = Vec::new();
    for cell in cells.iter() {
        let Kind::Bulk(way) = cell.kind else { continue };
        let rate = Cell {
            subject: bare,
            link: cell.link.rate_link(links),
            kind: Kind::Rate(way),
        };
        let is_known = |known: &&Cell<'_>| known.name() == rate.name();
        if rates.iter().chain(cells.iter()).find(is_known).is_none() {
            rates.push(rate);
        }
    }
    cells.splice(0..0, rates);
}

/// Where starts stall if they do: the worst loss, and bursts.
const STARTS: [&str; 2] = ["loss-30", "burst"];

/// Where echoes beside an upload are measured as well: the links that have a goal.
const BESIDE_UP: [&str; 3] = ["clean", "loss-5", "loss-10"];

/// What a short look looks at.
const QUICK_LINKS: [&str; 2] = ["clean", "loss-10"];

#[cfg(test)]
mod tests {
    use netem_tests::Profile;

    use super::*;
    use crate::settings::Pattern;

    #[test]
    fn cells_that_only_names_come_with_the_rate_they_are_compared_with() {
        let (subjects, links) = matrix();

        let names = planned(&only("quic/loss-10/bulk-*"), &subjects, &links);

        assert_eq!(
            names,
            [
                "bare/clean/rate-down",
                "bare/clean/rate-up",
                "quic/loss-10/bulk-down",
                "quic/loss-10/bulk-up"
            ]
        );
    }

    #[test]
    fn a_whole_run_leaves_out_what_nobody_compares() {
        let (subjects, links) = matrix();

        let names = planned(&Settings::default(), &subjects, &links);

        for there in [
            "bare/clean/echo",
            "frp-quic/loss-10/connect",
            "quic/clean/fairness-up",
            "quic/loss-30/starts",
        ] {
            assert!(names.iter().any(|name| name == there), "{there}");
        }
        for absent in [
            "bare/clean/starts",
            "frp-quic/loss-30/starts",
            "quic/loss-10/fairness-up",
            "wss/clean/bulk-down",
        ] {
            assert!(!names.iter().any(|name| name == absent), "{absent}");
        }
    }

    #[test]
    fn over_other_links_goes_what_bad_links_are_for() {
        let (subjects, links) = matrix();
        let settings = Settings {
            part: Part::Other,
            ..Settings::default()
        };

        let names = planned(&settings, &subjects, &links[1..2]);

        assert!(names.iter().any(|name| name == "quic/loss-10/bulk-up"));
        assert!(!names.iter().any(|name| name.starts_with("frp-")));
        assert!(!names.iter().any(|name| name.ends_with("starts")));
    }

    #[test]
    fn a_rate_is_measured_once_for_all_links_that_share_it() {
        let (subjects, links) = matrix();

        let names = planned(&Settings::default(), &subjects, &links);

        let n_rates = names.iter().filter(|name| name.contains("/rate-")).count();
        assert_eq!(n_rates, 2, "one for each way");
    }

    #[test]
    fn what_only_names_is_measured_although_a_whole_run_leaves_it_out() {
        let (subjects, links) = matrix();

        let names = planned(&only("wss/loss-10/echo"), &subjects, &links);

        assert_eq!(names, ["wss/loss-10/echo"]);
    }

    fn planned(settings: &Settings, subjects: &[Subject], links: &[Link]) -> Vec<String> {
        plan(settings, subjects, links)
            .iter()
            .map(Cell::name)
            .collect()
    }

    fn only(pattern: &str) -> Settings {
        Settings {
            only: Some(Pattern::new(pattern)),
            ..Settings::default()
        }
    }

    fn matrix() -> (Vec<Subject>, Vec<Link>) {
        let links = ["clean", "loss-10", "loss-30"].map(|name| {
            let pct: f64 = name.trim_start_matches("loss-").parse().unwrap_or(0.0);
            Link::of_profile(name, Profile::default().loss_pct(pct))
        });
        let subjects = Subject::without_programs(&["quic", "wss", "frp-quic"]);
        (subjects, links.to_vec())
    }
}
