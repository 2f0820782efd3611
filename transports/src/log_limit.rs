//! Keeps strangers from filling the log.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Allows some lines in each period, and none beyond.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    period: Mutex<Option<(Instant, u32)>>,
}

impl LogLimit {
    /// Whether one more line may be logged.
    pub(crate) fn allows(&self) -> bool {
        let now = Instant::now();
        let mut period = self.period.lock();
        match &mut *period {
            Some((start, n_lines)) if now - *start < LOG_PERIOD => {
                *n_lines = n_lines.saturating_add(1);
                if *n_lines == MAX_LOG_LINES + 1 {
                    tracing::warn!("more connections are refused; they are counted, not logged");
                }
                *n_lines <= MAX_LOG_LINES
            }
            _ => {
                *period = Some((now, 1));
                true
            }
        }
    }
}

/// Refusals logged in each period of one listener. Enough to see who comes, and a few MB a day.
const MAX_LOG_LINES: u32 = 20;
const LOG_PERIOD: Duration = Duration::from_secs(60);
