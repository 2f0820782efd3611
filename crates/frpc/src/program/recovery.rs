//! `frpc config` and `frpc recovery`: they ask the frpc that runs, and read the state directory
//! where none does.

use std::sync::Arc;
use std::time::Duration;

use frp_core::config::{
    ClientConfig, ClientTexts, TextFile, load_client_from_texts, load_client_with_texts,
};
use frp_core::state::StateDir;
use serde::Serialize;
use similar::TextDiff;

use super::{Failure, print, print_line};
use crate::admin::replace_file;
use crate::admin_client::{AdminClient, AdminError};
use crate::cli::{ConfigCommand, GlobalFlags, RecoveryArgs, RecoveryCommand};
use crate::recovery::history::{History, Kept, Version};
use crate::recovery::service::state_dir_in;
use crate::recovery::status::{self, RecoveryStatus};
use crate::runtime::runtime;

/// `frpc config`.
pub(super) fn config(global: &GlobalFlags, command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::History { json, flags } => {
            let source = Source::of(global, flags.api_timeout);
            let versions = source.versions()?;
            let running = source.running();
            if *json {
                return print_json(&Shown { running, versions });
            }
            print(&status::render_history(&versions, running));
            Ok(())
        }
        ConfigCommand::Diff { a, b, api_timeout } => {
            let source = Source::of(global, *api_timeout);
            diff(&source, a.as_deref(), b.as_deref())
        }
        ConfigCommand::Rollback {
            number,
            write,
            api_timeout,
        } => {
            let source = Source::of(global, *api_timeout);
            roll_back(&source, *number, *write)
        }
    }
}

/// `frpc recovery`.
pub(super) fn recovery(global: &GlobalFlags, args: &RecoveryArgs) -> Result<(), Failure> {
    let source = Source::of(global, args.api_timeout);
    let (part, on) = match &args.command {
        None => {
            let status: RecoveryStatus = source.get("/api/recovery")?;
            return match args.json {
                true => print_json(&status),
                false => {
                    print(&status::render(&status));
                    Ok(())
                }
            };
        }
        Some(RecoveryCommand::On { part }) => (part, true),
        Some(RecoveryCommand::Off { part }) => (part, false),
    };
    let encoded: String = url::form_urlencoded::byte_serialize(part.as_bytes()).collect();
    source.post(&format!("/api/recovery?part={encoded}&on={on}"))?;
    let word = if on { "on" } else { "off" };
    print_line(&format_args!("{part} is {word}"));
    Ok(())
}

/// What `frpc config history --json` prints.
#[derive(Serialize)]
struct Shown {
    running: Option<u64>,
    versions: Vec<Version>,
}

/// Where versions come from.
struct Source<'a> {
    global: &'a GlobalFlags,
    timeout: Duration,
    config: Option<ClientConfig>,
    history: Option<Arc<History>>,
    /// The file as it is, if it can be used.
    file: Result<ClientTexts, String>,
}

impl<'a> Source<'a> {
    fn of(global: &'a GlobalFlags, timeout: Duration) -> Self {
        let options = global.load_options();
        let (loaded, texts) = load_client_with_texts(&global.config, &options);
        let loaded = loaded.map(|loaded| loaded.config);
        let state_dir = match &loaded {
            Ok(config) => config.state_dir.clone(),
            Err(_) => state_dir_in(&global.config),
        };
        let dir = StateDir::existing(state_dir.as_deref(), "frpc");
        let history = dir.map(|dir| History::open(dir, &global.config));
        // A file that is broken is when one wants to know what there was before.
        let before = || -> Option<ClientConfig> {
            let history = history.as_ref()?;
            let kept = history.get(history.last_working()?.number)?;
            let options = kept.version.options(&options);
            Some(load_client_from_texts(&kept.texts, &options).ok()?.config)
        };
        let config = loaded.as_ref().ok().cloned().or_else(before);
        Self {
            global,
            timeout,
            config,
            history,
            file: loaded.map(|_| texts).map_err(|errors| errors.to_string()),
        }
    }

    /// Asks the frpc that runs.
    fn ask<T>(
        &self,
        request: impl AsyncFnOnce(AdminClient) -> Result<T, AdminError>,
    ) -> Result<T, Asked> {
        let Some(config) = &self.config else {
            let text = self.file.as_ref().err().map_or("", String::as_str);
            return Err(Asked::Nobody(text.to_owned()));
        };
        let client = AdminClient::of(config, &self.global.config, self.timeout)
            .map_err(|error| Asked::Nobody(error.to_string()))?;
        let runtime = runtime().map_err(Asked::Refused)?;
        runtime
            .block_on(request(client))
            .map_err(|error| match error {
                AdminError::Request { .. } | AdminError::NotThere { .. } => {
                    Asked::Nobody(error.to_string())
                }
                // A frpc that is older than this one.
                AdminError::Status(404) => Asked::Nobody(error.to_string()),
                error => Asked::Refused(error.to_string()),
            })
    }

    fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        Ok(self.ask(async |client| client.get(path).await)?)
    }

    fn post(&self, path: &str) -> Result<String, Failure> {
        let answer = self.ask(async |client| client.post(path).await)?;
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }

    fn versions(&self) -> Result<Vec<Version>, Failure> {
        let asked = self.ask(async |client| client.get("/api/config/history").await);
        match (asked, &self.history) {
            (Ok(versions), _) => Ok(versions),
            (Err(Asked::Nobody(_)), Some(history)) => Ok(history.versions()),
            (Err(error), _) => Err(error.into()),
        }
    }

    /// The version that runs.
    fn running(&self) -> Option<u64> {
        let status: RecoveryStatus = self.get("/api/recovery").ok()?;
        Some(status.version)
    }

    fn kept(&self, number: u64) -> Result<Kept, Failure> {
        let path = format!("/api/config/version?number={number}");
        let asked = self.ask(async |client| client.get(&path).await);
        let none = || format!("there is no version {number}: see frpc config history");
        match (asked, &self.history) {
            (Ok(kept), _) => Ok(kept),
            (Err(Asked::Nobody(_)), Some(history)) => history.get(number).ok_or_else(none),
            (Err(Asked::Nobody(_)), None) => Err(none()),
            (Err(error), _) => Err(error.into()),
        }
    }

    fn texts(&self, word: &str) -> Result<ClientTexts, Failure> {
        if word == FILE {
            return self.file.clone();
        }
        let number = word
            .parse()
            .map_err(|_| format!("{word:?} is no version: a number, or \"{FILE}\""))?;
        Ok(self.kept(number)?.texts)
    }
}

/// The file, in the place of a version's number.
const FILE: &str = "file";

/// Why the frpc that runs has not answered.
enum Asked {
    /// None runs, or it cannot be reached.
    Nobody(Failure),
    /// It does not do it.
    Refused(Failure),
}

impl From<Asked> for Failure {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Nobody(text) | Asked::Refused(text) => text,
        }
    }
}

fn diff(source: &Source<'_>, a: Option<&str>, b: Option<&str>) -> Result<(), Failure> {
    let numbers: Vec<u64> = match (a, b) {
        (Some(_), Some(_)) => Vec::new(),
        _ => source
            .versions()?
            .iter()
            .map(|version| version.number)
            .collect(),
    };
    let newest = |skip: usize| {
        let number = numbers.iter().rev().nth(skip);
        let number = number.map(ToString::to_string);
        number.ok_or_else(|| "there are not two versions yet".to_owned())
    };
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a.to_owned(), b.to_owned()),
        (Some(a), None) => (a.to_owned(), newest(0)?),
        (None, _) => (newest(1)?, newest(0)?),
    };
    let (old, new) = (source.texts(&a)?, source.texts(&b)?);
    print(&diff_texts(&old, &new, (&a, &b)));
    Ok(())
}

/// What differs, file by file.
fn diff_texts(old: &ClientTexts, new: &ClientTexts, (a, b): (&str, &str)) -> String {
    let all = |texts: &ClientTexts| -> Vec<TextFile> {
        let files = std::iter::once(&texts.main).chain(&texts.included);
        files.cloned().collect()
    };
    let (old, new) = (all(old), all(new));
    let mut text = String::new();
    let find = |files: &[TextFile], path: &str| {
        let file = files.iter().find(|file| file.path == path);
        file.map_or("", |file| file.text.as_str()).to_owned()
    };
    let mut paths: Vec<&str> = old
        .iter()
        .chain(&new)
        .map(|file| file.path.as_str())
        .collect();
    paths.dedup();
    let mut shown: Vec<&str> = Vec::new();
    for path in paths {
        if shown.contains(&path) {
            continue;
        }
        shown.push(path);
        let (old, new) = (find(&old, path), find(&new, path));
        if old == new {
            continue;
        }
        let diff = TextDiff::configure()
            .timeout(DIFF_TIMEOUT)
            .diff_lines(&old, &new);
        let (from, to) = (
            format!("{path} (version {a})"),
            format!("{path} (version {b})"),
        );
        text.push_str(&diff.unified_diff().header(&from, &to).to_string());
    }
    text
}

/// For large texts that have little in common: what is found later is no shorter by much.
const DIFF_TIMEOUT: Duration = Duration::from_secs(2);

fn roll_back(source: &Source<'_>, number: Option<u64>, write: bool) -> Result<(), Failure> {
    let number = match number {
        Some(number) => number,
        None => {
            let (versions, running) = (source.versions()?, source.running());
            let current = running.or_else(|| versions.last().map(|version| version.number));
            let mut newest_first = versions.iter().rev();
            let before = newest_first.find(|version| {
                version.confirmed_at.is_some()
                    && version.taken_back.is_none()
                    && current.is_none_or(|current| version.number < current)
            });
            before
                .map(|version| version.number)
                .ok_or("no version before what runs has been confirmed")?
        }
    };
    if write {
        let kept = source.kept(number)?;
        if !kept.texts.included.is_empty() {
            print_line(&format_args!(
                "WARNING: only {} is written, not what it includes",
                source.global.config.display()
            ));
        }
        replace_file(
            source.global.config.clone(),
            kept.texts.main.text.as_bytes(),
        )
        .map_err(|error| format!("cannot write {}: {error}", source.global.config.display()))?;
        print_line(&format_args!(
            "{} has the text of version {number}",
            source.global.config.display()
        ));
    }
    let path = format!("/api/config/rollback?number={number}");
    match source.ask(async |client| client.post(&path).await) {
        Ok(answer) => {
            let text: String = serde_json::from_slice(&answer).unwrap_or_default();
            print_line(&text);
            Ok(())
        }
        Err(Asked::Nobody(error)) if write => {
            print_line(&format_args!("no frpc was told: {error}"));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    print_line(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &[(&str, &str)]) -> ClientTexts {
        let mut files = files.iter().map(|(path, text)| TextFile {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        });
        ClientTexts {
            main: files.next().unwrap_or_default(),
            included: files.collect(),
        }
    }

    #[test]
    fn what_differs_is_shown_file_by_file() {
        let old = texts(&[
            ("frpc.toml", "a = 1\nb = 2\n"),
            ("same", "x\n"),
            ("gone", "y\n"),
        ]);
        let new = texts(&[
            ("frpc.toml", "a = 1\nb = 3\n"),
            ("same", "x\n"),
            ("new", "z\n"),
        ]);
        let text = diff_texts(&old, &new, ("1", "2"));
        for part in [
            "--- frpc.toml (version 1)",
            "+++ frpc.toml (version 2)",
            " a = 1\n-b = 2\n+b = 3\n",
            "-y\n",
            "+z\n",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(!text.contains("same"), "{text}");
        assert_eq!(diff_texts(&old, &old, ("1", "1")), "");
    }
}
