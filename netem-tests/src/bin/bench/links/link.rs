//! The links of a run: the profiles of `configs/links`, or of its folder `other`, and those of
//! `LINKS`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netem_tests::lab::{Loss, MTU, Profile};

use super::cell::Way;

/// A profile with a name.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// The name of its file.
    pub(crate) name: String,
    pub(crate) profile: Profile,
    /// Whether it is none of those that goals name.
    pub(crate) is_extra: bool,
}

impl Link {
    /// Reads all of them, in the order of the report.
    pub(crate) fn all(extra: &[PathBuf]) -> Result<Vec<Self>> {
        let mut links = Vec::new();
        for name in ORDER {
            let path = Path::new(LINKS_DIR).join(format!("{name}.toml"));
            if path.exists() {
                links.push(Self::load(&path, false)?);
            }
        }
        add(&mut links, extra)?;
        Ok(links)
    }

    /// Reads those that no goal names, in the order of their names, and `extra`.
    pub(crate) fn others(extra: &[PathBuf]) -> Result<Vec<Self>> {
        let entries = fs::read_dir(OTHERS_DIR)
            .with_context(|| format!("cannot read the link profiles of {OTHERS_DIR}"))?;
        let mut paths = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        paths.sort();
        let mut links = Vec::new();
        add(&mut links, &paths)?;
        add(&mut links, extra)?;
        Ok(links)
    }

    /// Returns the share of the packets that get through, in the direction of `way`.
    pub(crate) fn pass_share(&self, way: Way) -> f64 {
        1.0 - self.loss_pct(way) / 100.0
    }

    /// Returns how many percent of the packets get lost in the direction of `way`.
    pub(crate) fn loss_pct(&self, way: Way) -> f64 {
        self.profile.way(way.direction()).loss.mean_pct()
    }

    /// Returns the time there and back of a small packet.
    pub(crate) fn rtt_ms(&self) -> f64 {
        self.profile.round_trip().as_secs_f64() * 1000.0
    }

    /// Returns the time there and back of a packet that finds one of the queues full.
    pub(crate) fn longest_round_trip(&self) -> Duration {
        let queueing = |way: Way| {
            let way = self.profile.way(way.direction());
            let queued_bits = way.queue_packets as f64 * MTU as f64 * 8.0;
            let rate = way.rate_mbit.map(|rate| rate * 1e6)?;
            Duration::try_from_secs_f64(queued_bits / rate).ok()
        };
        let longest = Way::BOTH.into_iter().filter_map(queueing).max();
        self.profile.round_trip() + longest.unwrap_or_default()
    }

    /// Says whether only bulk makes sense on it.
    pub(crate) fn is_narrow(&self) -> bool {
        self.name == NARROW
    }

    pub(crate) fn is_one_of(&self, names: &[&str]) -> bool {
        names.contains(&self.name.as_str())
    }

    /// Returns the link on which this one's rate is measured: the first of `links` that is the same
    /// but for its faults.
    pub(crate) fn rate_link<'a>(&'a self, links: &'a [Self]) -> &'a Self {
        let own = self.without_faults();
        links
            .iter()
            .find(|other| other.without_faults() == own)
            .unwrap_or(self)
    }

    /// Returns rate, delay and queue alone.
    pub(crate) fn without_faults(&self) -> Profile {
        self.profile
            .clone()
            .loss_pct(0.0)
            .jitter_ms(0.0)
            .reorder_pct(0.0)
            .duplicate_pct(0.0)
            .corrupt_pct(0.0)
    }

    /// Says in a few words what the link is like.
    pub(crate) fn describe(&self) -> String {
        let way = self.profile.way(Way::Down.direction());
        let rates = Way::BOTH.map(|way| self.profile.way(way.direction()).rate_mbit);
        let mut text = match rates {
            [Some(down), Some(up)] if down != up => format!("{down} / {up} Mbit/s, "),
            [Some(rate), _] => format!("{rate} Mbit/s, "),
            [None, _] => String::new(),
        };
        text += &format!(
            "RTT {:.0} ms, queue {} packets",
            self.rtt_ms(),
            way.queue_packets
        );
        match way.loss {
            Loss::Random { pct } if pct > 0.0 => text += &format!(", loss {pct} %"),
            Loss::Random { .. } => {}
            Loss::GilbertElliott { p_pct, r_pct } => {
                text += &format!(
                    ", bursts {p_pct} %/{r_pct} % (mean {:.1} %)",
                    way.loss.mean_pct()
                );
            }
        }
        if !way.jitter.is_zero() {
            text += &format!(", jitter ±{:.0} ms", way.jitter.as_secs_f64() * 1000.0);
        }
        for (pct, what) in [
            (way.reorder_pct, "reordered"),
            (way.duplicate_pct, "duplicated"),
            (way.corrupt_pct, "corrupted"),
        ] {
            if pct > 0.0 {
                text += &format!(", {pct} % {what}");
            }
        }
        text
    }

    /// Returns a link that no file describes.
    #[cfg(test)]
    pub(crate) fn of_profile(name: &str, profile: Profile) -> Self {
        Self {
            name: name.to_owned(),
            profile,
            is_extra: false,
        }
    }

    fn load(path: &Path, is_extra: bool) -> Result<Self> {
        let profile = Profile::load(path)
            .with_context(|| format!("cannot read the link profile {}", path.display()))?;
        let name = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        Ok(Self {
            name,
            profile,
            is_extra,
        })
    }
}

/// Adds the links of these files, which must have names of their own.
fn add(links: &mut Vec<Link>, paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let link = Link::load(path, true)?;
        let is_known = links.iter().any(|known| known.name == link.name);
        ensure!(!is_known, "there are two link profiles {}", link.name);
        links.push(link);
    }
    Ok(())
}

const LINKS_DIR: &str = "configs/links";
const OTHERS_DIR: &str = "configs/links/other";

/// A link on which a sender that does not hold back drowns itself.
const NARROW: &str = "narrow";

/// Those of the design's table, the mildest first.
const ORDER: [&str; 11] = [
    "clean", "loss-1", "loss-5", "loss-10", "loss-20", "loss-30", "burst", "slow", "far", "jitter",
    NARROW,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_profile_of_the_repository_that_a_run_names_is_there() {
        for name in ORDER {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            let path = root.join(LINKS_DIR).join(format!("{name}.toml"));
            Link::load(&path, false).unwrap();
        }
    }

    #[test]
    fn links_that_differ_only_in_their_faults_share_a_rate() {
        let links = [
            link("clean", Profile::default()),
            link("bad", Profile::default().loss_pct(10.0).jitter_ms(3.0)),
            link("slow", Profile::default().rate_mbit(10.0).loss_pct(5.0)),
        ];

        assert_eq!(links[1].rate_link(&links).name, "clean");
        assert_eq!(links[2].rate_link(&links).name, "slow");
        let full = links[0].longest_round_trip();
        assert_eq!(full, Duration::from_millis(50 + 60));
        assert!((links[1].pass_share(Way::Up) - 0.9).abs() < 1e-9);
        assert_eq!(
            links[1].describe(),
            "100 Mbit/s, RTT 50 ms, queue 500 packets, loss 10 %, jitter ±3 ms"
        );
    }

    fn link(name: &str, profile: Profile) -> Link {
        Link::of_profile(name, profile)
    }
}
