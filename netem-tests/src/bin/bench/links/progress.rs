//! Says what is being measured, what came of it, and how long it will take.

use std::time::{Duration, Instant};

use super::metric::Metric;
use super::records::{Outcome, Record};

/// The state of a run.
#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
    /// How long each batch should take.
    nominal: Vec<Duration>,
    n_batches_done: usize,
    n_jobs: usize,
    n_jobs_begun: usize,
}

impl Progress {
    /// Begins with batches that take `nominal` each, and have `n_jobs` jobs together.
    pub(crate) fn new(nominal: Vec<Duration>, n_jobs: usize) -> Self {
        let progress = Self {
            start: Instant::now(),
            nominal,
            n_batches_done: 0,
            n_jobs,
            n_jobs_begun: 0,
        };
        println!(
            "bench: {n_jobs} runs to do, about {}",
            in_words(progress.left(Duration::ZERO))
        );
        progress
    }

    /// Says what begins.
    pub(crate) fn announce(&mut self, jobs: impl Iterator<Item = (String, usize)>) {
        let left = in_words(self.left(self.start.elapsed()));
        for (name, round) in jobs {
            self.n_jobs_begun += 1;
            println!(
                "bench: {:4} of {}, {left} left, round {round}: {name}",
                self.n_jobs_begun, self.n_jobs
            );
        }
    }

    /// Says what came of a run.
    pub(crate) fn tell(&self, record: &Record) {
        let text = match &record.outcome {
            Outcome::Measured(values) => summary(|metric| values.get(metric.key()).copied()),
            Outcome::Stalled(why) => format!("– ({})", first_line(why)),
            Outcome::Refused(why) => format!("not there: {}", first_line(why)),
            Outcome::Failed(why) => format!("FAILED: {why}"),
        };
        println!("         {}: {text}", record.cell);
    }

    /// Counts the batch that was announced last as done.
    pub(crate) fn batch_done(&mut self) {
        self.n_batches_done += 1;
    }

    /// Returns how long the rest will take if it goes on as it has for `elapsed`.
    fn left(&self, elapsed: Duration) -> Duration {
        let (done, left) = self.nominal.split_at(self.n_batches_done);
        let (done, left): (Duration, Duration) = (done.iter().sum(), left.iter().sum());
        if done.is_zero() {
            return left;
        }
        left.mul_f64(elapsed.div_duration_f64(done))
    }
}

/// Returns the values that tell most, in a line.
fn summary(value: impl Fn(Metric) -> Option<f64>) -> String {
    let parts = [
        (Metric::GoodputMbit, "", 2, " Mbit/s"),
        (Metric::FirstTwoSecondsMbit, "first 2 s ", 2, ""),
        (Metric::Share, "share ", 2, ""),
        (Metric::WireRatio, "wire ", 3, ""),
        (Metric::OverflowPct, "overflow ", 2, " %"),
        (Metric::CpuPerGib, "CPU ", 1, " s/GiB"),
        (Metric::P50Ms, "p50 ", 1, ""),
        (Metric::P99Ms, "p99 ", 1, " ms"),
        (Metric::NMissing, "missing ", 0, ""),
        (Metric::NStarts, "starts ", 0, ""),
        (Metric::NStalled, "stalled ", 0, ""),
        (Metric::LoginMaxMs, "longest login ", 0, " ms"),
        (Metric::MissedPct, "missed by the machine ", 3, " %"),
    ];
    let shown = parts.iter().filter_map(|(metric, label, digits, unit)| {
        let value = value(*metric)?;
        let is_nothing = matches!(metric, Metric::NMissing | Metric::MissedPct) && value == 0.0;
        (!is_nothing).then(|| format!("{label}{value:.digits$}{unit}"))
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Says a time as people do.
pub(crate) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_reckoned_from_how_long_the_rest_took() {
        let seconds = Duration::from_secs;
        let mut progress = Progress::new(vec![seconds(10), seconds(30), seconds(20)], 3);
        assert_eq!(progress.left(Duration::ZERO), seconds(60));

        progress.batch_done();

        assert_eq!(progress.left(seconds(20)), seconds(100));
    }

    #[test]
    fn times_are_said_as_people_do() {
        assert_eq!(in_words(Duration::from_secs(42)), "42 s");
        assert_eq!(in_words(Duration::from_secs(192)), "3 min 12 s");
        assert_eq!(in_words(Duration::from_secs(7320)), "2 h 2 min");
    }
}
