//! Link profiles as files. `docs/lab.md` describes the format.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{CorruptChecksum, Loss, Profile, Way};
use crate::lab::one_way::TRAVELLING_MAX;

impl Profile {
    /// Reads a profile from a file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ProfileError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|error| ProfileError {
            path: path.to_owned(),
            line: None,
            problem: format!("cannot read it: {error}"),
        })?;
        Self::parse(&text, path)
    }

    /// Reads a profile from `text`. Errors name `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ProfileError> {
        let at = |span: Option<Range<usize>>, problem: String| ProfileError {
            path: path.to_owned(),
            line: span.map(|span| line_of(text, span.start)),
            problem,
        };
        let file: File =
            toml::from_str(text).map_err(|error| at(error.span(), error.message().to_owned()))?;

        let mut profile = Self::unlimited();
        let sections = [
            ("link", Some(&file.link), true, true),
            ("to_far", file.to_far.as_ref(), true, false),
            ("to_near", file.to_near.as_ref(), false, true),
        ];
        for (name, section, is_to_far, is_to_near) in sections {
            let Some(section) = section else { continue };
            section
                .check()
                .map_err(|(span, problem)| at(Some(span), format!("{name}.{problem}")))?;
            if is_to_far {
                section.apply(&mut profile.to_far);
            }
            if is_to_near {
                section.apply(&mut profile.to_near);
            }
        }
        for (name, way) in [("to_far", &profile.to_far), ("to_near", &profile.to_near)] {
            if way.jitter > way.delay {
                let problem = format!("{name}: jitter_ms must not be above delay_ms");
                return Err(at(None, problem));
            }
        }
        Ok(profile)
    }
}

/// A profile that cannot be used.
#[derive(Debug)]
pub struct ProfileError {
    path: PathBuf,
    line: Option<usize>,
    problem: String,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for ProfileError {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    link: Section,
    to_far: Option<Section>,
    to_near: Option<Section>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    rate_mbit: Option<Spanned<f64>>,
    delay_ms: Option<Spanned<f64>>,
    jitter_ms: Option<Spanned<f64>>,
    queue_packets: Option<Spanned<usize>>,
    loss_pct: Option<Spanned<f64>>,
    gilbert_elliott: Option<Spanned<GilbertElliott>>,
    reorder_pct: Option<Spanned<f64>>,
    duplicate_pct: Option<Spanned<f64>>,
    corrupt_pct: Option<Spanned<f64>>,
    corrupt_checksum: Option<CorruptChecksum>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GilbertElliott {
    p_pct: f64,
    r_pct: f64,
}

impl Section {
    fn check(&self) -> Result<(), (Range<usize>, String)> {
        for (key, value) in [
            ("loss_pct", &self.loss_pct),
            ("reorder_pct", &self.reorder_pct),
            ("duplicate_pct", &self.duplicate_pct),
            ("corrupt_pct", &self.corrupt_pct),
        ] {
            check(
                value.as_ref(),
                |pct| is_percentage(*pct),
                key,
                "from 0 to 100",
            )?;
        }
        for (key, value) in [("delay_ms", &self.delay_ms), ("jitter_ms", &self.jitter_ms)] {
            let is_right = |ms: &f64| (0.0..=DELAY_MS_MAX).contains(ms);
            check(value.as_ref(), is_right, key, "from 0 to 60000")?;
        }
        let is_rate = |rate: &f64| (RATE_MBIT_MIN..=RATE_MBIT_MAX).contains(rate);
        check(
            self.rate_mbit.as_ref(),
            is_rate,
            "rate_mbit",
            "from 0.001 to 100000",
        )?;
        let is_length = |len: &usize| (1..=TRAVELLING_MAX).contains(len);
        check(
            self.queue_packets.as_ref(),
            is_length,
            "queue_packets",
            "from 1 to 50000",
        )?;
        let is_model = |model: &GilbertElliott| {
            is_percentage(model.p_pct) && is_percentage(model.r_pct) && model.r_pct > 0.0
        };
        let model = self.gilbert_elliott.as_ref();
        check(
            model,
            is_model,
            "gilbert_elliott",
            "two percentages, r_pct above 0",
        )?;
        if let (Some(_), Some(model)) = (&self.loss_pct, model) {
            let problem = "gilbert_elliott: there is loss_pct already, and only one can hold";
            return Err((model.span(), problem.to_owned()));
        }
        Ok(())
    }

    fn apply(&self, way: &mut Way) {
        let ms = |value: &Spanned<f64>| Duration::from_secs_f64(value.get_ref() / 1000.0);
        if let Some(rate) = &self.rate_mbit {
            way.rate_mbit = Some(*rate.get_ref());
        }
        if let Some(delay) = &self.delay_ms {
            way.delay = ms(delay);
        }
        if let Some(jitter) = &self.jitter_ms {
            way.jitter = ms(jitter);
        }
        if let Some(len) = &self.queue_packets {
            way.queue_packets = *len.get_ref();
        }
        if let Some(pct) = &self.loss_pct {
            way.loss = Loss::Random {
                pct: *pct.get_ref(),
            };
        }
        if let Some(model) = &self.gilbert_elliott {
            let GilbertElliott { p_pct, r_pct } = *model.get_ref();
            way.loss = Loss::GilbertElliott { p_pct, r_pct };
        }
        for (value, field) in [
            (&self.reorder_pct, &mut way.reorder_pct),
            (&self.duplicate_pct, &mut way.duplicate_pct),
            (&self.corrupt_pct, &mut way.corrupt_pct),
        ] {
            if let Some(pct) = value {
                *field = *pct.get_ref();
            }
        }
        if let Some(checksum) = self.corrupt_checksum {
            way.corrupt_checksum = checksum;
        }
    }
}

fn check<T>(
    value: Option<&Spanned<T>>,
    is_right: impl Fn(&T) -> bool,
    key: &str,
    range: &str,
) -> Result<(), (Range<usize>, String)> {
    match value {
        Some(value) if !is_right(value.get_ref()) => {
            Err((value.span(), format!("{key}: must be {range}")))
        }
        _ => Ok(()),
    }
}

fn is_percentage(value: f64) -> bool {
    (0.0..=100.0).contains(&value)
}

fn line_of(text: &str, position: usize) -> usize {
    let before = text.get(..position).unwrap_or(text);
    before.matches('\n').count() + 1
}

/// A minute each way: further than any link of this world.
const DELAY_MS_MAX: f64 = 60_000.0;
/// A packet takes 12 s at this rate.
const RATE_MBIT_MIN: f64 = 0.001;
/// More than the machine can carry: whoever wants no limit leaves the key out.
const RATE_MBIT_MAX: f64 = 100_000.0;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Profile, String> {
        Profile::parse(text, Path::new("my.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_says_what_the_builder_says() {
        let profile = parse(
            "[link]\nrate_mbit = 20\ndelay_ms = 40\nloss_pct = 1.5\n\
             [to_near]\ngilbert_elliott = { p_pct = 1, r_pct = 10 }\n",
        );

        // A direction's own model of loss takes the place of the link's.
        let built = Profile::delay_ms(40)
            .rate_mbit(20)
            .loss_pct(1.5)
            .to_near(|link| link.gilbert_elliott(1, 10));
        assert_eq!(profile.unwrap(), built);
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let error = parse("[link]\ndelay_ms = 1\n\nloss_pct = 101\n").unwrap_err();
        assert_eq!(error, "my.toml:4: link.loss_pct: must be from 0 to 100");

        let error = parse("[link]\nrate = 10\n").unwrap_err();
        assert!(
            error.starts_with("my.toml:2: unknown field `rate`"),
            "{error}"
        );

        let error = parse("[link]\ndelay_ms = \"far\"\n").unwrap_err();
        assert!(error.starts_with("my.toml:2: invalid type"), "{error}");

        let error = parse("[link]\njitter_ms = 5\n").unwrap_err();
        assert!(
            error.contains("jitter_ms must not be above delay_ms"),
            "{error}"
        );
    }

    #[test]
    fn two_models_of_loss_in_one_section_are_refused() {
        let text = "[link]\nloss_pct = 1\ngilbert_elliott = { p_pct = 1, r_pct = 10 }\n";

        let error = parse(text).unwrap_err();

        assert!(
            error.starts_with("my.toml:3: link.gilbert_elliott"),
            "{error}"
        );
    }
}
