//! A real Prometheus on loopback, which scrapes what a test or a picture needs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;

use crate::{PATIENCE, Place, Process, free_port, traffic};

/// A running Prometheus. Dropping it ends it, and its data is gone.
#[derive(Debug)]
pub struct Prometheus {
    _process: Process,
    port: u16,
    place: Option<Place>,
    _dir: TempDir,
}

/// Something to scrape, at a port of loopback.
#[derive(Clone, Debug)]
pub struct Target {
    /// `frps` or `frpc`, as in `configs/prometheus/prometheus.yml`.
    pub job: &'static str,
    /// Where its web server is.
    pub port: u16,
    /// The label `client`, as frps knows it; for frpc.
    pub client: Option<String>,
}

/// One line of an answer: its labels, and values by time in seconds since 1970.
#[derive(Clone, Debug)]
pub struct Series {
    /// Without the name of the metric.
    pub labels: BTreeMap<String, String>,
    /// In the order of time.
    pub points: Vec<(f64, f64)>,
}

/// A stretch of time for a query.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// In seconds since 1970.
    pub from: f64,
    /// Likewise.
    pub until: f64,
    /// Between two points.
    pub step: Duration,
}

impl Prometheus {
    /// Says whether `program` (`prometheus` or `promtool`) is there, and says loudly on standard
    /// error that `what` is skipped when it is not.
    pub fn is_available_for(program: &str, what: &str) -> bool {
        let found = Command::new(program).arg("--version").output();
        let is_there = found.is_ok_and(|output| output.status.success());
        if !is_there {
            let bar = "*".repeat(78);
            let notice = format!(
                "\n{bar}\n***  SKIPPED: {what}\n***  There is no {program}: make setup installs it \
                 where it can.\n{bar}\n"
            );
            // Straight to the file: the print macros are what the test runner catches.
            let _ = io::stderr().write_all(notice.as_bytes());
        }
        is_there
    }

    /// Starts it in a place of a lab if there is one, and waits until it answers.
    pub fn start(place: Option<&Place>, interval: Duration, targets: &[Target]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("holdfast-").tempdir()?;
        let config = config(interval, targets);
        fs::write(dir.path().join("prometheus.yml"), config)?;
        let port = free_port()?;
        let address = format!("--web.listen-address=127.0.0.1:{port}");
        let args = [
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            address.as_str(),
        ];
        let program = which("prometheus")?;
        let process = Process::start_in(place, "prometheus", &program, &args, dir.path())?;
        process.wait_for_line("Server is ready to receive web requests")?;
        Ok(Self {
            _process: process,
            port,
            place: place.cloned(),
            _dir: dir,
        })
    }

    /// Asks for what is now.
    pub fn query(&self, expression: &str) -> Result<Vec<Series>> {
        self.ask("query", &[("query", expression)])
    }

    /// Asks for what was.
    pub fn query_range(&self, expression: &str, range: Range) -> Result<Vec<Series>> {
        let (from, until) = (range.from.to_string(), range.until.to_string());
        let step = range.step.as_secs_f64().to_string();
        let args = [
            ("query", expression),
            ("start", &from),
            ("end", &until),
            ("step", &step),
        ];
        self.ask("query_range", &args)
    }

    /// Waits until `expression` has an answer.
    pub fn wait_for(&self, expression: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.query(expression)?.is_empty() {
            ensure!(Instant::now() < deadline, "{expression}: never answered");
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn ask(&self, what: &str, args: &[(&str, &str)]) -> Result<Vec<Series>> {
        let mut path = format!("/api/v1/{what}?");
        for (name, value) in args {
            let _ = write!(path, "{name}={}&", encoded(value));
        }
        let get = || get(self.port, &path);
        let body = match &self.place {
            Some(place) => place.enter(get)?,
            None => get()?,
        };
        let answer: Answer = serde_json::from_str(&body).with_context(|| body.clone())?;
        if answer.status != "success" {
            bail!("{args:?}: {}", answer.error);
        }
        answer
            .data
            .result
            .into_iter()
            .map(Series::try_from)
            .collect()
    }
}

/// Fetches a page at a port of loopback.
pub fn get(port: u16, path: &str) -> Result<String> {
    get_within(port, path, PATIENCE)
}

/// The same from somebody who may not answer.
pub(crate) fn get_within(port: u16, path: &str, patience: Duration) -> Result<String> {
    let mut conn = traffic::connect(port)?;
    conn.set_read_timeout(Some(patience))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    conn.write_all(request.as_bytes())?;
    let mut text = String::new();
    conn.read_to_string(&mut text)?;
    let (_, body) = text.split_once("\r\n\r\n").context("no body")?;
    Ok(body.to_owned())
}

fn config(interval: Duration, targets: &[Target]) -> String {
    let millis = interval.as_millis();
    let mut text = format!("global: {{scrape_interval: {millis}ms}}\nscrape_configs:\n");
    for job in ["frps", "frpc"] {
        let _ = writeln!(text, "- job_name: {job}\n  static_configs:");
        for target in targets.iter().filter(|target| target.job == job) {
            let _ = writeln!(text, "  - targets: ['127.0.0.1:{}']", target.port);
            if let Some(client) = &target.client {
                let _ = writeln!(text, "    labels: {{client: '{client}'}}");
            }
        }
    }
    text
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => encoded.push(char::from(byte)),
            byte => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

fn which(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").context("no PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| is_file(file))
        .with_context(|| format!("no {program} in PATH"))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

#[derive(Debug, Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    data: Data,
}

#[derive(Debug, Default, Deserialize)]
struct Data {
    #[serde(default)]
    result: Vec<Line>,
}

#[derive(Debug, Deserialize)]
struct Line {
    metric: BTreeMap<String, String>,
    /// Of a query for now.
    value: Option<(f64, String)>,
    /// Of a query for a range.
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl TryFrom<Line> for Series {
    type Error = anyhow::Error;

    fn try_from(line: Line) -> Result<Self> {
        let mut labels = line.metric;
        labels.remove("__name__");
        let points = line.value.into_iter().chain(line.values);
        let read = |(at, value): (f64, String)| -> Result<(f64, f64)> { Ok((at, value.parse()?)) };
        Ok(Self {
            labels,
            points: points.map(read).collect::<Result<_>>()?,
        })
    }
}

/// Between two looks at what has been scraped.
const LOOK: Duration = Duration::from_millis(200);
