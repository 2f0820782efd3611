//! Pictures of the dashboards with real data: `make pictures`.
//!
//! Two tunnels run over a bad link on which things go wrong; a real Prometheus scrapes them, and the
//! panels are drawn from the dashboards' own queries.

#![expect(clippy::print_stdout, reason = "it tells what it does")]

mod draw;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use netem_tests::dashboards::{Dashboard, Panel, Variables, repository};
use netem_tests::fleet::{CLIENTS, Fleet, PROXY};
use netem_tests::observe::Rates;
use netem_tests::prometheus::{Range, Series};
use netem_tests::{Fault, Lab, Profile, Prometheus, words};

use draw::{Chart, Line, Picture, Span};

fn main() -> ExitCode {
    if let Some(answered) = words::answer(HELP) {
        return answered;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("pictures: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const HELP: &str = "\
Draws the panels of the dashboards with real data: two tunnels run over a bad link on which things go
wrong, and a real Prometheus scrapes them. Takes three minutes and no settings.

Needs root, /dev/net/tun and Prometheus (`make setup` installs it), and frps and frpc beside it
(`make pictures` builds all three). The pictures go to docs/.
";

fn run() -> Result<()> {
    let what = "making pictures";
    if !Lab::is_available_for(what) || !Prometheus::is_available_for("prometheus", what) {
        return Ok(());
    }
    let good = Profile::delay_ms(30).rate_mbit(20).loss_pct(2);
    let mut fleet = Fleet::start("pictures", &good, SCRAPE_INTERVAL)?;
    fleet.traffic_begins(Rates::both(3.0))?;
    fleet.prometheus.wait_for("frp_server_traffic_in > 0")?;
    let (from, spans) = play(&fleet, &good)?;
    let range = Range {
        from,
        until: now(),
        step: SCRAPE_INTERVAL,
    };
    for dashboard in Dashboard::load_all()? {
        let picture = picture(&fleet.prometheus, &dashboard, range, &spans)?;
        let name = dashboard.uid.replace("holdfast-", "observe-");
        write(&name, &picture.draw())?;
    }
    Ok(())
}

/// What goes wrong, one thing after the other. Returns when it began.
fn play(fleet: &Fleet, good: &Profile) -> Result<(f64, Vec<Span>)> {
    let from = now();
    let mut spans = Vec::new();
    let mut during = |what: &str, time: u64| {
        println!("{what} for {time} s");
        let begin = now();
        thread::sleep(Duration::from_secs(time));
        spans.push(Span {
            begin,
            end: now(),
            what: what.to_owned(),
        });
    };
    thread::sleep(QUIET);
    fleet.lab.set_link(&good.clone().loss_pct(15))?;
    during("15 % loss", 20);
    fleet.lab.set_link(good)?;
    thread::sleep(QUIET);
    fleet.lab.fault(Fault::drop_udp())?;
    during("no UDP", 20);
    fleet.lab.clear_faults()?;
    thread::sleep(QUIET);
    fleet.lab.fault(Fault::drop_all())?;
    during("nothing passes", 8);
    fleet.lab.clear_faults()?;
    thread::sleep(QUIET);
    Ok((from, spans))
}

fn picture(
    prometheus: &Prometheus,
    dashboard: &Dashboard,
    range: Range,
    spans: &[Span],
) -> Result<Picture> {
    let variables = Variables {
        client: CLIENTS[0],
        proxy: PROXY,
        rate_interval: "5s",
    };
    let over_time = |panel: &&Panel| panel.kind == "timeseries" || panel.kind == "state-timeline";
    let mut charts = Vec::new();
    for panel in dashboard.panels.iter().filter(over_time) {
        let mut lines = Vec::new();
        for query in &panel.queries {
            let answer = prometheus.query_range(&variables.fill(&query.expression), range)?;
            lines.extend(answer.into_iter().map(|series| Line {
                label: legend(&query.legend, &series),
                points: series.points,
            }));
        }
        charts.push(Chart {
            title: panel.title.clone(),
            unit: panel.unit.clone(),
            is_state: panel.kind == "state-timeline",
            lines,
        });
    }
    let mut marks = Vec::new();
    for expression in &dashboard.annotations {
        let answer = prometheus.query_range(&variables.fill(expression), range)?;
        for series in answer {
            let text = legend("{{from}} to {{to}}: {{cause}}", &series);
            let mut times: Vec<f64> = series.points.iter().map(|(_, at)| at / 1e3).collect();
            times.dedup();
            marks.extend(times.into_iter().map(|at| (at, text.clone())));
        }
    }
    let subject = match dashboard.variables.first().map(|(name, _)| name.as_str()) {
        Some("client") => format!(" ({})", variables.client),
        Some("proxy") => format!(" ({})", variables.proxy),
        _ => String::new(),
    };
    Ok(Picture {
        title: format!("{}{subject}", dashboard.title),
        from: range.from,
        until: range.until,
        charts,
        spans: spans.to_vec(),
        marks,
    })
}

/// Puts the labels of a series into the words for it.
fn legend(words: &str, series: &Series) -> String {
    let mut text = words.to_owned();
    for (name, value) in &series.labels {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    text
}

/// Writes a PNG, or the SVG where nothing is there that makes one of it.
fn write(name: &str, svg: &str) -> Result<()> {
    let docs = repository().join("docs");
    let (from, to) = (
        docs.join(format!("{name}.svg")),
        docs.join(format!("{name}.png")),
    );
    fs::write(&from, svg)?;
    match convert(&from, &to) {
        Ok(()) => {
            fs::remove_file(&from)?;
            println!("wrote {}", to.display());
        }
        Err(error) => println!("wrote {} ({error:#})", from.display()),
    }
    Ok(())
}

fn convert(from: &Path, to: &Path) -> Result<()> {
    let output = Command::new("rsvg-convert")
        .arg(from)
        .arg("-o")
        .arg(to)
        .output();
    let output = output.context("no rsvg-convert, which is in Debian's librsvg2-bin")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "rsvg-convert: {said}");
    Ok(())
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// Between two points of a line.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// Before, between and after what goes wrong.
const QUIET: Duration = Duration::from_secs(15);
