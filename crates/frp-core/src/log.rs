//! Log lines in frp's format, or as JSON.
//!
//! `2026-11-21 06:44:39.405 [I] [frpc/control.rs:331] [4d63] [ssh] start proxy success`: local time,
//! level, caller, then the values of the span fields `run_id` and `proxy`, then the text. Further
//! fields of the event follow as `key=value`.

use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Local, NaiveDate};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{LogConfig, LogFormat, LogLevel, LogTarget};

/// Where log lines go and what they look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The file to append to; standard output when `None`.
    pub file: Option<PathBuf>,
    /// The least severe level that is written.
    pub level: LevelFilter,
    /// Days for which rotated files are kept; `None` keeps them for good.
    pub max_days: Option<u32>,
    /// Whether lines on standard output are coloured.
    pub color: bool,
    /// One JSON object a line instead of frp's format.
    pub json: bool,
}

impl From<&LogConfig> for LogOptions {
    fn from(config: &LogConfig) -> Self {
        Self {
            file: match &config.to {
                LogTarget::Console => None,
                LogTarget::File(path) => Some(path.clone()),
            },
            level: match config.level {
                LogLevel::Trace => LevelFilter::TRACE,
                LogLevel::Debug => LevelFilter::DEBUG,
                LogLevel::Info => LevelFilter::INFO,
                LogLevel::Warn => LevelFilter::WARN,
                LogLevel::Error => LevelFilter::ERROR,
            },
            max_days: u32::try_from(config.max_days).ok(),
            color: !config.disable_print_color,
            json: config.format == LogFormat::Json,
        }
    }
}

impl LogOptions {
    /// Whether lines are wrapped in colour codes. JSON never is: its readers are programs.
    fn is_coloured(&self) -> bool {
        self.color && !self.json
    }
}

/// Span fields that are printed as `[value]` before the text, in this order of nesting.
const PREFIX_FIELDS: [&str; 2] = ["run_id", "proxy"];

/// Our crates log at the configured level; libraries only what an operator should look at.
const OWN_TARGETS: [&str; 5] = ["frps", "frpc", "frp_core", "frp_proto", "transports"];

/// Installs the process's logger. Later calls replace nothing and return an error, so that the
/// first service of a process decides.
pub fn init(options: &LogOptions) -> Result<(), InitError> {
    let sink = match &options.file {
        None => Sink::Console {
            color: options.is_coloured(),
        },
        Some(path) => {
            let file =
                RotatingFile::open(path, options.max_days).map_err(|source| InitError::File {
                    path: path.clone(),
                    source,
                })?;
            Sink::File(Mutex::new(file))
        }
    };
    let targets = OWN_TARGETS.iter().fold(
        Targets::new().with_default(LevelFilter::WARN.min(options.level)),
        |t, own| t.with_target(*own, options.level),
    );
    let layer = LineLayer {
        sink,
        json: options.json,
    }
    .with_filter(targets);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
        .map_err(|_| InitError::Installed)
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The log file cannot be appended to.
    #[error("cannot open log file {}: {source}", path.display())]
    File {
        /// `log.to`.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process has its logger already.
    #[error("logging is set up already")]
    Installed,
}

struct LineLayer {
    sink: Sink,
    json: bool,
}

/// The prefix values of a span, kept with it.
struct Prefixes(Vec<(&'static str, String)>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LineLayer {
    fn on_new_span(&self, attrs: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        attrs.record(&mut fields);
        let prefixes: Vec<_> = PREFIX_FIELDS
            .iter()
            .filter_map(|name| Some((*name, fields.take(name)?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        if let Some(span) = ctx.span(id).filter(|_| !prefixes.is_empty()) {
            span.extensions_mut().insert(Prefixes(prefixes));
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let mut prefixes = Vec::new();
        for span in ctx
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(Prefixes(values)) = span.extensions().get() {
                prefixes.extend(values.iter().cloned());
            }
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let now = Local::now();
        let line = if self.json {
            json_line(event.metadata(), now, prefixes, fields)
        } else {
            text_line(event.metadata(), now, &prefixes, fields)
        };
        self.sink.write(*event.metadata().level(), line, now);
    }
}

/// The recorded values of an event or span, as text.
#[derive(Default)]
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn take(&mut self, name: &str) -> Option<String> {
        let idx = self.0.iter().position(|(n, _)| *n == name)?;
        Some(self.0.remove(idx).1)
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}

fn level_letter(level: Level) -> char {
    match level {
        Level::TRACE => 'T',
        Level::DEBUG => 'D',
        Level::INFO => 'I',
        Level::WARN => 'W',
        Level::ERROR => 'E',
    }
}

/// `folder/file.rs:line`, short as frp's callers are.
fn caller(meta: &Metadata<'_>) -> String {
    let file = meta.file().unwrap_or_else(|| meta.target());
    let mut parts = file.rsplit('/').filter(|part| *part != "src");
    let name = parts.next().unwrap_or_default();
    let folder = parts.next().unwrap_or_default();
    format!("{folder}/{name}:{}", meta.line().unwrap_or_default())
}

fn text_line(
    meta: &Metadata<'_>,
    now: DateTime<Local>,
    prefixes: &[(&'static str, String)],
    mut fields: Fields,
) -> String {
    let time = now.format("%Y-%m-%d %H:%M:%S%.3f");
    let mut line = format!(
        "{time} [{}] [{}] ",
        level_letter(*meta.level()),
        caller(meta)
    );
    for (_, value) in prefixes {
        line.push('[');
        push_clean(&mut line, value);
        line.push_str("] ");
    }
    push_clean(&mut line, &fields.take("message").unwrap_or_default());
    for (name, value) in &fields.0 {
        // Writing to a String cannot fail.
        let _ = write!(line, " {name}=");
        push_clean(&mut line, value);
    }
    line.push('\n');
    line
}

/// What a peer or a file sent must not forge a line or drive a terminal.
fn push_clean(line: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\t' => line.push(c),
            '\n' => line.push(' '),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
        if line.len() >= MAX_LINE_LEN {
            line.push('…');
            return;
        }
    }
}

/// A line is cut here: names that a peer chooses end up in lines.
const MAX_LINE_LEN: usize = 8 * 1024;

fn json_line(
    meta: &Metadata<'_>,
    now: DateTime<Local>,
    prefixes: Vec<(&'static str, String)>,
    mut fields: Fields,
) -> String {
    let mut object = Map::new();
    let mut put = |name: &str, value: String| {
        object.insert(name.to_owned(), Value::String(value));
    };
    put(
        "time",
        now.to_rfc3339_opts(chrono::SecondsFormat::Millis, false),
    );
    put("level", meta.level().as_str().to_ascii_lowercase());
    put("caller", caller(meta));
    put("message", fields.take("message").unwrap_or_default());
    for (name, value) in prefixes.into_iter().chain(fields.0) {
        put(name, value);
    }
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line
}

enum Sink {
    Console { color: bool },
    File(Mutex<RotatingFile>),
}

impl Sink {
    /// Writes one line. An error (full disk, closed pipe) is dropped: there is nowhere to report
    /// it, and logging must not stop the service.
    fn write(&self, level: Level, line: String, now: DateTime<Local>) {
        let _ = match self {
            Self::Console { color } => {
                // frp's colours wrap the line with its end.
                let code = match level {
                    Level::TRACE => None,
                    Level::DEBUG => Some("36"),
                    Level::INFO => Some("34"),
                    Level::WARN => Some("33"),
                    Level::ERROR => Some("31"),
                };
                let line = match code.filter(|_| *color) {
                    Some(code) => format!("\x1b[1;{code}m{line}\x1b[0m"),
                    None => line,
                };
                io::stdout().lock().write_all(line.as_bytes())
            }
            Self::File(file) => file.lock().write(&line, now),
        };
    }
}

/// A log file that starts anew at local midnight.
struct RotatingFile {
    path: PathBuf,
    file: fs::File,
    day: NaiveDate,
    max_days: Option<u32>,
}

impl RotatingFile {
    fn open(path: &Path, max_days: Option<u32>) -> io::Result<Self> {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(parent)?;
        }
        let file = append_to(path)?;
        // A file of an earlier day that was left behind is rotated with the first line.
        let day = file.metadata()?.modified().map_or_else(
            |_| Local::now().date_naive(),
            |modified| DateTime::<Local>::from(modified).date_naive(),
        );
        Ok(Self {
            path: path.to_owned(),
            file,
            day,
            max_days,
        })
    }

    fn write(&mut self, line: &str, now: DateTime<Local>) -> io::Result<()> {
        let today = now.date_naive();
        if today != self.day {
            self.day = today;
            self.rotate(now)?;
        }
        self.file.write_all(line.as_bytes())
    }

    /// Renames the file to `name.YYYYMMDD-HHMMSS.ext` and deletes old ones.
    fn rotate(&mut self, now: DateTime<Local>) -> io::Result<()> {
        let stem = self
            .path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let ext = self
            .path
            .extension()
            .map(|e| format!(".{}", e.to_string_lossy()))
            .unwrap_or_default();
        let stamp = now.format("%Y%m%d-%H%M%S");
        fs::rename(
            &self.path,
            self.path.with_file_name(format!("{stem}.{stamp}{ext}")),
        )?;
        self.file = append_to(&self.path)?;
        if let Some(days) = self.max_days {
            self.delete_older_than(Duration::from_secs(u64::from(days) * 86_400), &stem, &ext)?;
        }
        Ok(())
    }

    fn delete_older_than(&self, age: Duration, stem: &str, ext: &str) -> io::Result<()> {
        let Some(oldest) = SystemTime::now().checked_sub(age) else {
            return Ok(());
        };
        let dir = self.path.parent().filter(|p| !p.as_os_str().is_empty());
        for entry in fs::read_dir(dir.unwrap_or(Path::new(".")))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_backup = name
                .strip_prefix(&format!("{stem}."))
                .and_then(|rest| rest.strip_suffix(ext))
                .is_some_and(is_stamp);
            let is_old = entry
                .metadata()
                .and_then(|m| m.modified())
                .is_ok_and(|t| t < oldest);
            if is_backup && is_old {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Whether `text` is `YYYYMMDD-HHMMSS`: other people's files beside the log are left alone.
fn is_stamp(text: &str) -> bool {
    text.len() == 15
        && text.bytes().enumerate().all(|(i, b)| {
            if i == 8 {
                b == b'-'
            } else {
                b.is_ascii_digit()
            }
        })
}

fn append_to(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Runs `log` with a logger of its own and returns what the file holds.
    fn logged(json: bool, level: LevelFilter, log: impl FnOnce()) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/frps.log");
        let sink = Sink::File(Mutex::new(RotatingFile::open(&path, Some(3)).unwrap()));
        let layer = LineLayer { sink, json }.with_filter(level);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, log);
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_line_has_the_format_of_frp() {
        let text = logged(false, LevelFilter::INFO, || {
            let control = tracing::info_span!("control", run_id = %"4d63");
            let proxy = tracing::info_span!(parent: &control, "proxy", proxy = %"ssh");
            let _entered = proxy.enter();
            tracing::info!("start proxy success");
            tracing::debug!("not written");
        });

        let (stamp, rest) = text.split_at("2026-11-21 06:44:39.405".len());
        assert!(chrono::NaiveDateTime::parse_from_str(stamp, "%Y-%m-%d %H:%M:%S%.3f").is_ok());
        assert!(rest.starts_with(" [I] [frp-core/log.rs:"), "{rest}");
        assert!(
            rest.ends_with("] [4d63] [ssh] start proxy success\n"),
            "{rest}"
        );
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn a_json_line_is_one_object() {
        let text = logged(true, LevelFilter::INFO, || {
            let span = tracing::info_span!("control", run_id = %"4d63");
            span.in_scope(|| tracing::warn!(port = 6000, "say \"{}\"", "no\nmore"));
        });

        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["level"], "warn");
        assert_eq!(object["run_id"], "4d63");
        assert_eq!(object["port"], "6000");
        assert_eq!(object["message"], "say \"no\nmore\"");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn a_json_line_has_no_colour_around_it() {
        let options = |format| {
            LogOptions::from(&LogConfig {
                format,
                ..LogConfig::default()
            })
        };

        assert!(options(LogFormat::Text).is_coloured(), "as in frp");
        assert!(!options(LogFormat::Json).is_coloured());
    }

    #[test]
    fn a_hostile_name_cannot_forge_a_line() {
        let text = logged(false, LevelFilter::INFO, || {
            tracing::info!("proxy [{}]", "a\nb\x1b[2J\r\u{85}");
            tracing::info!("{}", "x".repeat(100_000));
        });

        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\x1b') && !text.contains('\r'), "{text}");
        assert!(text.lines().all(|line| line.len() < MAX_LINE_LEN + 100));
    }

    #[test]
    fn a_new_day_starts_a_new_file_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frps.log");
        let old = dir.path().join("frps.20200101-000000.log");
        let foreign = dir.path().join("frps.notes.log");
        for file in [&old, &foreign] {
            fs::write(file, b"").unwrap();
            let long_ago = SystemTime::now() - Duration::from_secs(40 * 86_400);
            fs::File::options()
                .append(true)
                .open(file)
                .unwrap()
                .set_modified(long_ago)
                .unwrap();
        }
        let mut file = RotatingFile::open(&path, Some(3)).unwrap();
        let today = Local::now();
        file.write("today\n", today).unwrap();

        file.write("tomorrow\n", today + chrono::TimeDelta::days(1))
            .unwrap();

        assert_eq!(fs::read_to_string(&path).unwrap(), "tomorrow\n");
        assert!(!old.exists(), "older than the days to keep");
        assert!(foreign.exists(), "not one of ours");
        let n_rotated = fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .filter(|e| fs::read_to_string(e.path()).unwrap() == "today\n")
            .count();
        assert_eq!(n_rotated, 1);
    }
}
