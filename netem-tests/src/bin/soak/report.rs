//! What is told at the end: on the terminal, and in a document with plots.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::health::Sample;
use super::plot::{Line, Plot};
use super::world::Chapter;

/// Everything that has been written down.
pub(crate) struct Report {
    seed: u64,
    length: Duration,
    chapters: Vec<Chapter>,
}

impl Report {
    pub(crate) fn new(seed: u64, length: Duration, chapters: Vec<Chapter>) -> Self {
        Self {
            seed,
            length,
            chapters,
        }
    }

    /// Says whether nothing happened that must not happen.
    pub(crate) fn is_good(&self) -> bool {
        let is_there = !self.chapters.is_empty();
        is_there
            && self
                .chapters
                .iter()
                .all(|chapter| chapter.failures.is_empty() && chapter.is_over)
    }

    /// Returns the table and the failures.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!(
            "{:.0} min, SEED={}: {}.\n\n",
            self.length.as_secs_f64() / 60.0,
            self.seed,
            if self.is_good() {
                "not one byte wrong, no connection lost, nothing grew"
            } else {
                "FAILED"
            }
        );
        text.push_str(
            "| lab | transport | users whole | refused | ended with a program | GiB | faults | \
             switches | frps MiB: first, most, last | frpc MiB | descriptors, last |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        );
        for chapter in &self.chapters {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {:.2} | {} | {} | {} | {} | {} |",
                chapter.lab,
                chapter.transport.name(),
                chapter.n_whole,
                chapter.n_refused,
                chapter.n_ended_with_program,
                chapter.n_bytes as f64 / (1024.0 * 1024.0 * 1024.0),
                chapter.events.len(),
                chapter.n_switches,
                memory(&chapter.samples, 0),
                memory(&chapter.samples, 1),
                chapter.samples.last().map_or("–".to_owned(), |last| {
                    format!("{} / {}", last.n_descriptors[0], last.n_descriptors[1])
                }),
            );
        }
        text.push_str(
            "\n*Users whole*: who came, said and got what they wanted, each byte checked. Memory is that \
             at the chapter's first look, the most, and at its end; descriptors are those of frps / \
             frpc at its end, when nobody is there any more.\n",
        );
        text.push_str(&self.mishaps());
        for chapter in &self.chapters {
            let name = chapter.transport.name();
            for standstill in &chapter.standstills {
                let _ = writeln!(
                    text,
                    "\nStood still in {}, {name}: {standstill}",
                    chapter.lab
                );
            }
            for failure in &chapter.failures {
                let _ = writeln!(text, "\nFAILED in {}, {name}: {failure}", chapter.lab);
            }
        }
        text
    }

    /// Returns what has gone wrong with the links and programs, and how often.
    fn mishaps(&self) -> String {
        let mut counts: BTreeMap<&str, (usize, Duration)> = BTreeMap::new();
        for event in self.chapters.iter().flat_map(|one| &one.events) {
            // The digits of a time are different each time.
            let end = event.what.find(|letter: char| letter.is_ascii_digit());
            let is_time = event.what.ends_with(" s");
            let what = match end {
                Some(end) if is_time => event.what[..end].trim_end_matches(" after "),
                _ => &event.what,
            };
            let (n, time) = counts.entry(what).or_default();
            *n += 1;
            *time += event.end.min(self.length).saturating_sub(event.begin);
        }
        let mut text =
            "\n| what went wrong | times | seconds in all |\n| --- | ---: | ---: |\n".to_owned();
        for (what, (n, time)) in counts {
            let _ = writeln!(text, "| {what} | {n} | {:.0} |", time.as_secs_f64());
        }
        text
    }

    /// Writes the document with its plots, and returns where it is.
    pub(crate) fn write(&self, is_for_docs: bool) -> Result<PathBuf> {
        let dir = Path::new(if is_for_docs { "docs" } else { OWN_DIR });
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut text = format!(
            "# Soak\n\n`make soak` writes this. Two labs side by side: in *steady*, the programs run in \
             `auto` from beginning to end and only the link suffers; in *restless*, the transport \
             changes and programs are killed and stopped too. Users come and go, and each checks every \
             byte both ways. *Refused*: came while there was no way through. Shaded: something is \
             wrong with the link (the picture itself says what, under the mouse).\n\n{}",
            self.summary()
        );
        let mut labs: Vec<&str> = self.chapters.iter().map(|one| one.lab).collect();
        labs.dedup();
        for lab in labs {
            let chapters: Vec<&Chapter> =
                self.chapters.iter().filter(|one| one.lab == lab).collect();
            for (name, title, panel) in PANELS {
                let file = format!("soak-{lab}-{name}.svg");
                let svg = self.draw(&chapters, &format!("{lab}: {title}"), panel);
                fs::write(dir.join(&file), svg)?;
                let _ = write!(text, "\n![{title}, {lab}]({file})\n");
            }
        }
        let path = dir.join("soak.md");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn draw(&self, chapters: &[&Chapter], title: &str, panel: Panel) -> String {
        let samples: Vec<Sample> = chapters
            .iter()
            .flat_map(|one| one.samples.iter().copied())
            .collect();
        let events: Vec<_> = chapters
            .iter()
            .flat_map(|one| one.events.iter().cloned())
            .collect();
        let of = |value: &dyn Fn(&Sample) -> f64| {
            let points = samples.iter().map(|sample| (sample.at, value(sample)));
            points.collect::<Vec<_>>()
        };
        let both = |value: &dyn Fn(&Sample, usize) -> f64| {
            vec![
                line("frps", SERVER_COLOUR, of(&|sample| value(sample, 0))),
                line("frpc", CLIENT_COLOUR, of(&|sample| value(sample, 1))),
            ]
        };
        let lines = match panel {
            Panel::Memory => both(&|sample, side| sample.rss_kib[side] as f64 / 1024.0),
            Panel::Descriptors => both(&|sample, side| sample.n_descriptors[side] as f64),
            Panel::Tasks => vec![line(
                "frps",
                SERVER_COLOUR,
                of(&|sample| sample.n_tasks as f64),
            )],
            Panel::Users => vec![line(
                "users",
                CLIENT_COLOUR,
                of(&|sample| sample.n_users as f64),
            )],
        };
        let plot = Plot {
            title,
            length: self.length,
            lines,
            events: &events,
        };
        plot.draw()
    }
}

/// What is drawn.
#[derive(Clone, Copy)]
enum Panel {
    Memory,
    Descriptors,
    Tasks,
    Users,
}

fn line<'a>(label: &'a str, colour: &'static str, points: Vec<(Duration, f64)>) -> Line<'a> {
    Line {
        label,
        colour,
        points,
    }
}

fn memory(samples: &[Sample], side: usize) -> String {
    let mib = |kib: u64| kib as f64 / 1024.0;
    let all = || samples.iter().map(|sample| sample.rss_kib[side]);
    match (all().next(), all().max(), all().next_back()) {
        (Some(first), Some(most), Some(last)) => {
            format!("{:.0}, {:.0}, {:.0}", mib(first), mib(most), mib(last))
        }
        _ => "–".to_owned(),
    }
}

const PANELS: [(&str, &str, Panel); 4] = [
    ("memory", "memory, MiB", Panel::Memory),
    ("descriptors", "descriptors", Panel::Descriptors),
    ("tasks", "tasks", Panel::Tasks),
    ("users", "users at once", Panel::Users),
];

const SERVER_COLOUR: &str = "#0b7a75";
const CLIENT_COLOUR: &str = "#b5651d";

/// Where the report goes unless it is for the documents. Git ignores it.
const OWN_DIR: &str = "target/soak";
