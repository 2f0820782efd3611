//! The dashboards in `configs/grafana`, as far as they are asked and drawn.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// One dashboard.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// By which links find it.
    pub uid: String,
    /// Its heading.
    pub title: String,
    /// In the order in which they stand there.
    pub panels: Vec<Panel>,
    /// What annotations ask.
    pub annotations: Vec<String>,
    /// The variables that are asked for: name and query.
    pub variables: Vec<(String, String)>,
    /// As it is in the file.
    pub model: Value,
}

/// One panel.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Its number in the dashboard.
    pub id: u64,
    /// Its heading.
    pub title: String,
    /// `timeseries`, `stat`, ...
    pub kind: String,
    /// As Grafana calls it: `s`, `bytes`, ...
    pub unit: String,
    /// What it asks.
    pub queries: Vec<Query>,
}

/// What one line of a panel asks.
#[derive(Clone, Debug)]
pub struct Query {
    /// With Grafana's variables in it.
    pub expression: String,
    /// The words for a series, with its labels in double braces.
    pub legend: String,
}

/// What takes the place of variables in a query.
#[derive(Clone, Copy, Debug)]
pub struct Variables<'a> {
    /// `$client`
    pub client: &'a str,
    /// `$proxy`
    pub proxy: &'a str,
    /// `$__rate_interval`
    pub rate_interval: &'a str,
}

impl Dashboard {
    /// All of them.
    pub fn load_all() -> Result<Vec<Self>> {
        let mut paths: Vec<PathBuf> = fs::read_dir(dir())?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        paths.sort();
        let load = |path: &PathBuf| Self::load(path).with_context(|| path.display().to_string());
        paths.iter().map(load).collect()
    }

    fn load(path: &Path) -> Result<Self> {
        let model: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        let panels = list(&model["panels"]).iter().map(Panel::read);
        let annotations = list(&model["annotations"]["list"]).iter();
        let variables = list(&model["templating"]["list"]).iter();
        Ok(Self {
            uid: text(&model["uid"]),
            title: text(&model["title"]),
            panels: panels.collect::<Result<_>>()?,
            annotations: annotations
                .filter_map(|annotation| annotation["expr"].as_str())
                .map(str::to_owned)
                .collect(),
            variables: variables
                .filter(|variable| variable["type"] == "query")
                .map(|variable| (text(&variable["name"]), text(&variable["query"]["query"])))
                .collect(),
            model,
        })
    }

    /// Everything that it asks, of its panels, annotations and variables.
    pub fn expressions(&self) -> impl Iterator<Item = &str> {
        let queries = self.panels.iter().flat_map(|panel| &panel.queries);
        let queries = queries.map(|query| query.expression.as_str());
        let variables = self.variables.iter().map(|(_, query)| query.as_str());
        queries
            .chain(self.annotations.iter().map(String::as_str))
            .chain(variables)
    }
}

impl Panel {
    fn read(model: &Value) -> Result<Self> {
        let queries = list(&model["targets"]).iter().map(|target| Query {
            expression: text(&target["expr"]),
            legend: text(&target["legendFormat"]),
        });
        let panel = Self {
            id: model["id"].as_u64().context("a panel without a number")?,
            title: text(&model["title"]),
            kind: text(&model["type"]),
            unit: text(&model["fieldConfig"]["defaults"]["unit"]),
            queries: queries.collect(),
        };
        ensure!(!panel.queries.is_empty(), "{} asks nothing", panel.title);
        Ok(panel)
    }
}

impl Variables<'_> {
    /// Puts them in.
    pub fn fill(&self, expression: &str) -> String {
        expression
            .replace("$__rate_interval", self.rate_interval)
            .replace("$client", self.client)
            .replace("$proxy", self.proxy)
    }
}

/// The metrics of ours and of frp's that an expression or a text names.
pub fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    words
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

/// The metric that a series belongs to: a histogram's have more than its name.
pub fn family(name: &str) -> &str {
    let is_histogram = name.contains("_seconds_");
    ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|end| name.strip_suffix(end).filter(|_| is_histogram))
        .unwrap_or(name)
}

fn dir() -> PathBuf {
    repository().join("configs/grafana/dashboards")
}

/// Where the repository is.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What names of metrics begin with.
const PREFIXES: [&str; 3] = ["holdfast_", "frp_server_", "process_"];
