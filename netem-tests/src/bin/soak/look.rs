//! A look into both programs at a moment when something is wrong: later they know less.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use netem_tests::Pair;
use serde_json::Value;

/// The looks of one chapter.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    n: u32,
    /// When and where the last one was.
    last: Option<(Instant, String)>,
}

impl Looks {
    /// Writes down what the programs know, in the folder of `place`. Returns what is in use, what they
    /// have said last, a while before `since` or after it, and where there is more.
    pub(crate) fn take(
        &mut self,
        pair: &Pair,
        place: &str,
        start: Instant,
        since: Instant,
    ) -> String {
        let last = self.last.as_ref();
        if let Some((_, path)) = last.filter(|(at, _)| at.elapsed() < SAME_LOOK) {
            return format!("\n    as in {path}");
        }
        if self.n == MOST_LOOKS {
            return "\n    nobody looked any more".to_owned();
        }
        self.n += 1;
        let links = pair.client_page_within("/api/links", PATIENCE);
        let links = links.unwrap_or_else(|error| format!("frpc does not answer: {error:#}"));
        let metrics = pair.server_metrics();
        let metrics = metrics.unwrap_or_else(|error| format!("frps does not answer: {error:#}"));
        let mut all = format!(
            "at {:.1} s\n\nfrpc, /api/links:\n{links}\n\nfrps, /metrics:\n{metrics}\n",
            start.elapsed().as_secs_f64()
        );
        let mut text = format!("\n    carriers: {}", carriers(&links));
        for (name, program) in [("frps", pair.server()), ("frpc", pair.client())] {
            let lines = program.map(|program| program.lines()).unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = writeln!(all, "\n{name}:");
            for (at, line) in &lines[lines.len().saturating_sub(LINES_KEPT)..] {
                let at = at.saturating_duration_since(start).as_secs_f64();
                let _ = writeln!(all, "{at:8.1} {line}");
            }
            // Requests to them are ours.
            let is_of_interest = |(at, line): &&(Instant, String)| {
                *at + LATELY >= since && !line.contains("] http re")
            };
            let told: Vec<_> = lines.iter().filter(is_of_interest).collect();
            for (at, line) in &told[told.len().saturating_sub(LINES_TOLD)..] {
                let ago = at.elapsed().as_secs_f64();
                let _ = write!(text, "\n    {name}, {ago:.1} s ago: {line}");
            }
        }
        let dir = format!("target/soak/{place}");
        let path = format!("{dir}/look-{}.txt", self.n);
        let written = fs::create_dir_all(&dir).and_then(|()| fs::write(&path, all));
        let _ = match written {
            Ok(()) => write!(text, "\n    more is in {path}"),
            Err(error) => write!(text, "\n    {path} cannot be written: {error}"),
        };
        self.last = Some((Instant::now(), path));
        text
    }
}

/// The carriers that a client tells of, in a few words.
fn carriers(links: &str) -> String {
    let Ok(links) = serde_json::from_str::<Value>(links) else {
        return links.to_owned();
    };
    let text = |value: &Value| match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    };
    let all = links["carriers"].as_array().map_or(&[][..], Vec::as_slice);
    let describe = |one: &Value| {
        let what = ["transport", "in_use", "srtt_ms", "packet_loss_pct", "rate"];
        what.map(|key| format!("{key} {}", text(&one[key])))
            .join(", ")
    };
    let all: Vec<_> = all.iter().map(describe).collect();
    format!("{} ({})", text(&links["state"]), all.join("; "))
}

/// Looks of one chapter at most: beyond it they would say the same again.
const MOST_LOOKS: u32 = 20;

/// Within this time one look is enough for all that happens.
const SAME_LOOK: Duration = Duration::from_secs(5);

/// How long the client may take to say what it knows.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many of a program's last lines are kept with each, ...
const LINES_KEPT: usize = 300;

/// ... and told at once, of those that it said lately.
const LINES_TOLD: usize = 5;
const LATELY: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carriers_are_told_in_a_few_words_and_a_client_that_is_away_in_its_own() {
        let links = r#"{"state":"connected","carriers":[{"transport":"kcp","in_use":true,"srtt_ms":5.5,"rate":7}]}"#;
        assert_eq!(
            carriers(links),
            "connected (transport kcp, in_use true, srtt_ms 5.5, packet_loss_pct null, rate 7)"
        );
        assert_eq!(
            carriers("frpc does not answer: gone"),
            "frpc does not answer: gone"
        );
    }
}
