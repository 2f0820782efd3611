//! What commands print for people: tables, colours on a terminal only, times and amounts in words,
//! and a page that is drawn again and again.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local};

/// Milliseconds since 1970, as documents have them.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// When `elapsed` ago was, in milliseconds since 1970.
pub fn ago_ms(elapsed: Duration) -> u64 {
    now_ms().saturating_sub(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// Colours, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paint {
    is_on: bool,
}

impl Paint {
    /// Colours on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
    pub fn for_stdout() -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            is_on: io::stdout().is_terminal() && !is_unwanted,
        }
    }

    /// No colours.
    pub fn off() -> Self {
        Self::default()
    }

    /// Well.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// To be looked at.
    pub fn warn(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Wrong.
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self.is_on {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}

/// Appends `rows` to `text`, the columns as wide as they have to be. The first row is the heading.
pub fn push_table<const N: usize>(text: &mut String, paint: Paint, rows: &[[String; N]]) {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0) + PADDING
    });
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:<width$}");
        }
        let line = line.trim_end();
        match index {
            0 => text.push_str(&paint.bold(line)),
            _ => text.push_str(line),
        }
        text.push('\n');
    }
}

/// Blanks between two columns.
const PADDING: usize = 2;

/// What a peer sent must not drive the terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// `2026-11-21 22:05:11`, in this host's time zone. Empty for a time that cannot be.
pub fn clock(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok();
    let at = at.and_then(DateTime::from_timestamp_millis);
    at.map(|at| at.with_timezone(&Local).format("%F %T").to_string())
        .unwrap_or_default()
}

/// `22:05:11 (4 min)`: since when, and for how long that is.
pub fn since(at_ms: u64, now_ms: u64) -> String {
    let elapsed = Duration::from_millis(now_ms.saturating_sub(at_ms));
    let clock = clock(at_ms);
    let is_long = elapsed >= Duration::from_secs(24 * 3600);
    let shown = match clock.split_once(' ') {
        Some((_, time)) if !is_long => time,
        _ => &clock,
    };
    format!("{shown} ({})", span(elapsed))
}

/// `4 min`, in the largest unit that fits twice.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `12.3 Mbit/s`, of bytes a second.
#[expect(clippy::cast_precision_loss, reason = "for people, three digits do")]
pub fn rate(bytes_per_second: u64) -> String {
    let bits = bytes_per_second as f64 * 8.0;
    match bits {
        1e9.. => format!("{:.1} Gbit/s", bits / 1e9),
        1e6.. => format!("{:.1} Mbit/s", bits / 1e6),
        1e3.. => format!("{:.0} kbit/s", bits / 1e3),
        _ => format!("{bits:.0} bit/s"),
    }
}

/// `1.2 MB`.
#[expect(clippy::cast_precision_loss, reason = "for people, three digits do")]
pub fn bytes(n: u64) -> String {
    let n = n as f64;
    match n {
        1e9.. => format!("{:.1} GB", n / 1e9),
        1e6.. => format!("{:.1} MB", n / 1e6),
        1e3.. => format!("{:.1} kB", n / 1e3),
        _ => format!("{n:.0} B"),
    }
}

/// What one look at something gave: the page, and the exit code that it means.
#[derive(Clone, Debug)]
pub struct Page {
    /// What is printed.
    pub text: String,
    /// 0 where all is well.
    pub code: u8,
}

/// Prints what `look` gives: once, or every so often until Ctrl-C, redrawn where standard output is
/// a terminal and `is_page` says that it is for people. Returns the exit code of the last look.
pub async fn show(
    every: Option<Duration>,
    is_page: bool,
    mut look: impl AsyncFnMut() -> Page,
) -> u8 {
    let Some(every) = every else {
        let page = look().await;
        print(&page.text);
        return page.code;
    };
    let is_redrawn = is_page && io::stdout().is_terminal();
    let mut code = 0;
    loop {
        let page = tokio::select! {
            page = look() => page,
            _ = tokio::signal::ctrl_c() => return code,
        };
        code = page.code;
        let text = match is_redrawn {
            true => format!("{HOME_AND_CLEAR}{}", page.text),
            false => page.text,
        };
        if !print(&text) {
            // Nobody reads any more.
            return code;
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = tokio::signal::ctrl_c() => return code,
        }
    }
}

/// The cursor to the first place, and everything away.
const HOME_AND_CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Prints to standard output. False when that is closed, which is the reader's choice.
pub fn print(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}

/// Prints a line about what goes on, on standard error. Where that is a terminal it takes the place
/// of the line before.
#[derive(Debug)]
pub struct Progress {
    is_terminal: bool,
    is_on: bool,
}

impl Progress {
    /// Progress is shown unless `is_quiet`.
    pub fn new(is_quiet: bool) -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
            is_on: !is_quiet,
        }
    }

    /// Says what goes on now.
    pub fn say(&self, what: &str) {
        if !self.is_on {
            return;
        }
        let text = match self.is_terminal {
            true => format!("\r\u{1b}[K{what}"),
            false => format!("{what}\n"),
        };
        // Nobody is left to tell when standard error is closed.
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// Takes the line away.
    pub fn done(&self) {
        if self.is_on && self.is_terminal {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_times_are_told_in_the_unit_that_fits() {
        assert_eq!(rate(2_500_000), "20.0 Mbit/s");
        assert_eq!(rate(12), "96 bit/s");
        assert_eq!(bytes(1_234_567), "1.2 MB");
        assert_eq!(span(Duration::from_secs(119)), "119 s");
        assert_eq!(span(Duration::from_secs(250)), "4 min");
        assert_eq!(span(Duration::from_secs(3600 * 50)), "2 days");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_colours_stay_out_of_pipes() {
        let mut text = String::new();
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        push_table(&mut text, Paint::off(), &[row("A", "B"), row("long", "x")]);
        assert_eq!(text, "A     B\nlong  x\n");
        assert_eq!(Paint::off().bad("x"), "x");
        assert_eq!(Paint { is_on: true }.bad("x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(printable("a\u{1b}[2J"), "a [2J");
    }
}
