//! The versions of the configuration that were applied, kept in the state directory.
//!
//! Each version is one file, written whole and readable by its owner only: it has the texts of the
//! configuration, secrets included, when and why it was applied, and whether it has shown that it
//! works. A disk that takes nothing costs the memory of these versions and nothing else: they are
//! kept in memory, written as soon as that works again, and the failure is counted, said once and
//! shown in the status.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use frp_core::config::{ClientTexts, LoadOptions};
use frp_core::state::StateDir;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Versions that are kept. At the bound the oldest goes, but never the last one that works.
pub const MAX_VERSIONS: usize = 32;

/// What all versions together may take, in bytes of their texts. At the bound the oldest goes.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The largest texts that are kept: ten thousand proxies come to about a megabyte.
const MAX_TEXTS_LEN: usize = 4 * 1024 * 1024;

/// The largest file that is read: texts of that length with all that JSON puts around and into them.
const MAX_FILE_LEN: u64 = 6 * MAX_TEXTS_LEN as u64;

/// Why a version was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// The program was started with it.
    Start,
    /// Somebody asked the admin API to reload.
    Api,
    /// `frpc reload` did.
    Command,
    /// It was gone back to.
    Rollback,
}

impl Why {
    /// As it is shown.
    pub fn text(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Api => "reload by API",
            Self::Command => "frpc reload",
            Self::Rollback => "rollback",
        }
    }
}

/// What is known of a version, without its texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Counts up from 1.
    pub number: u64,
    /// When it was applied, in seconds since 1970.
    pub applied_at: u64,
    /// Why it was.
    pub why: Why,
    /// The version that was gone back to, if this is a rollback.
    #[serde(default)]
    pub of: Option<u64>,
    /// When it had shown that it works, in seconds since 1970.
    #[serde(default)]
    pub confirmed_at: Option<u64>,
    /// Why it was taken back.
    #[serde(default)]
    pub taken_back: Option<String>,
    /// A reload changes proxies and visitors only, and this one had other changes too: those have
    /// not been tried.
    #[serde(default)]
    pub only_services: bool,
    /// Whether it was read strictly.
    #[serde(default)]
    pub strict: bool,
    /// The proxies that ran when it was confirmed.
    #[serde(default)]
    pub running: Vec<String>,
    /// How long its texts are, in bytes.
    #[serde(default)]
    pub bytes: usize,
    /// Tells texts apart without reading them.
    #[serde(default)]
    pub hash: u64,
}

impl Version {
    /// Whether a program could be started with it.
    pub fn works_whole(&self) -> bool {
        self.confirmed_at.is_some() && self.taken_back.is_none() && !self.only_services
    }

    /// How it is read again.
    pub fn options(&self, options: &LoadOptions) -> LoadOptions {
        LoadOptions {
            strict: self.strict,
            ..options.clone()
        }
    }
}

/// A version with its texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What is known of it.
    #[serde(flatten)]
    pub version: Version,
    /// What its files said.
    pub texts: ClientTexts,
}

/// All versions of one configuration file.
#[derive(Debug)]
pub struct History {
    dir: StateDir,
    prefix: String,
    inner: Mutex<Inner>,
    /// Held while files are written, so that an older state never replaces a newer one.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    versions: BTreeMap<u64, Version>,
    /// Those that are not written yet, as they are now; without texts where only what is known of
    /// them has changed.
    unwritten: BTreeMap<u64, Option<ClientTexts>>,
    /// Files of versions that are not kept any more.
    dropped: Vec<u64>,
    n_failures: u64,
    error: Option<String>,
}

impl History {
    /// What is in `dir` of the configuration file at `path`. What cannot be read is left alone.
    pub fn open(dir: StateDir, path: &Path) -> Arc<Self> {
        let prefix = prefix(path);
        let history = Self {
            dir,
            prefix,
            inner: Mutex::default(),
            writing: Mutex::default(),
        };
        match history.dir.list(&history.prefix) {
            Ok(names) => names.iter().for_each(|name| history.read_meta(name)),
            Err(error) => history.fail("list the versions of the configuration", &error),
        }
        Arc::new(history)
    }

    /// Remembers until the process ends.
    pub fn in_memory() -> Arc<Self> {
        Self::open(StateDir::in_memory(), Path::new(""))
    }

    /// All versions that are kept, the oldest first.
    pub fn versions(&self) -> Vec<Version> {
        self.inner.lock().versions.values().cloned().collect()
    }

    /// What is known of one.
    pub fn version(&self, number: u64) -> Option<Version> {
        self.inner.lock().versions.get(&number).cloned()
    }

    /// The newest version that a program could be started with.
    pub fn last_working(&self) -> Option<Version> {
        let inner = self.inner.lock();
        let mut newest_first = inner.versions.values().rev();
        newest_first.find(|version| version.works_whole()).cloned()
    }

    /// What could not be read or written so far: how often, and what is wrong at the moment.
    pub fn failures(&self) -> (u64, Option<String>) {
        let inner = self.inner.lock();
        (inner.n_failures, inner.error.clone())
    }

    /// A version with its texts. Reads a file.
    pub fn get(&self, number: u64) -> Option<Kept> {
        let texts = {
            let inner = self.inner.lock();
            inner.unwritten.get(&number).cloned().flatten()
        };
        let texts = match texts {
            Some(texts) => texts,
            None => match self.read(&self.file_name(number)) {
                Ok(kept) => kept?.texts,
                Err(error) => {
                    self.fail(&format!("read version {number}"), &error);
                    return None;
                }
            },
        };
        let version = self.version(number)?;
        Some(Kept { version, texts })
    }

    /// Keeps a new version and returns its number. It is written beside the caller.
    pub fn add(self: &Arc<Self>, version: Version, texts: ClientTexts) -> u64 {
        let bytes = texts.len();
        let is_too_long = bytes > MAX_TEXTS_LEN;
        let number = {
            let mut inner = self.inner.lock();
            let newest = inner.versions.keys().next_back();
            let number = newest.map_or(1, |newest| newest.saturating_add(1));
            let version = Version {
                number,
                bytes,
                hash: hash(&texts),
                ..version
            };
            inner.versions.insert(number, version);
            if !is_too_long {
                inner.unwritten.insert(number, Some(texts));
            }
            number
        };
        if is_too_long {
            let error = io::Error::from(io::ErrorKind::FileTooLarge);
            self.fail(&format!("keep the text of version {number}"), &error);
        }
        self.prune();
        self.save();
        number
    }

    /// Changes what is known of a version. That is written beside the caller.
    pub fn change(self: &Arc<Self>, number: u64, change: impl FnOnce(&mut Version)) {
        {
            let mut inner = self.inner.lock();
            let Some(version) = inner.versions.get_mut(&number) else {
                return;
            };
            change(version);
            if version.bytes <= MAX_TEXTS_LEN {
                inner.unwritten.entry(number).or_insert(None);
            }
        }
        self.save();
    }

    /// Writes beside the caller: a disk that hangs must hold up nobody.
    fn save(self: &Arc<Self>) {
        let history = self.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || history.write_all())),
            Err(_) => history.write_all(),
        }
    }

    /// Returns when all that has happened so far is written, or could not be.
    pub(crate) async fn written(self: &Arc<Self>) {
        let history = self.clone();
        // A panic in it is counted where it happens, and there is nothing to wait for.
        let _ = tokio::task::spawn_blocking(move || history.write_all()).await;
    }

    /// Writes what is not written yet. What fails is tried again with the next change.
    fn write_all(&self) {
        let _writing = self.writing.lock();
        let dropped = std::mem::take(&mut self.inner.lock().dropped);
        for number in dropped {
            if let Err(error) = self.dir.remove(&self.file_name(number)) {
                self.fail(&format!("remove version {number}"), &error);
            }
        }
        let mut is_all_well = true;
        loop {
            let next = {
                let inner = self.inner.lock();
                let mut next = inner.unwritten.iter();
                next.next().map(|(number, texts)| (*number, texts.clone()))
            };
            let Some((number, texts)) = next else { break };
            let version = self.version(number);
            match self.get(number).map(|kept| self.write(&kept)) {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    self.fail(&format!("write version {number}"), &error);
                    return;
                }
                // Gone from the disk meanwhile, or broken there: it is not made up.
                None => is_all_well = false,
            }
            let mut inner = self.inner.lock();
            // It may have changed in the meantime.
            if inner.versions.get(&number) == version.as_ref()
                && inner.unwritten.get(&number) == Some(&texts)
            {
                inner.unwritten.remove(&number);
            }
        }
        if is_all_well && self.inner.lock().error.take().is_some() {
            tracing::info!("the history of the configuration is kept again");
        }
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        let bytes = serde_json::to_vec(kept)?;
        let name = self.file_name(kept.version.number);
        self.dir.write_whole(&name, &bytes)
    }

    /// Drops the oldest versions beyond the bounds.
    fn prune(&self) {
        let keep = self.last_working().map(|version| version.number);
        let mut inner = self.inner.lock();
        let newest = inner.versions.keys().next_back().copied();
        let mut n_bytes: usize = inner.versions.values().map(|version| version.bytes).sum();
        let numbers: Vec<u64> = inner.versions.keys().copied().collect();
        for number in numbers {
            if inner.versions.len() <= MAX_VERSIONS && n_bytes <= MAX_BYTES {
                break;
            }
            if Some(number) == keep || Some(number) == newest {
                continue;
            }
            if let Some(version) = inner.versions.remove(&number) {
                n_bytes -= version.bytes;
            }
            inner.unwritten.remove(&number);
            inner.dropped.push(number);
        }
    }

    fn read_meta(&self, name: &str) {
        match self.read(name) {
            Ok(Some(kept)) if self.file_name(kept.version.number) == name => {
                let mut inner = self.inner.lock();
                inner.versions.insert(kept.version.number, kept.version);
            }
            Ok(_) => {}
            Err(error) => self.fail(&format!("read {name}"), &error),
        }
    }

    fn read(&self, name: &str) -> io::Result<Option<Kept>> {
        let Some(bytes) = self.dir.read_up_to(name, MAX_FILE_LEN)? else {
            return Ok(None);
        };
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    fn file_name(&self, number: u64) -> String {
        format!("{}{number:06}.json", self.prefix)
    }

    /// Counts, and says it once until it works again.
    fn fail(&self, what: &str, error: &io::Error) {
        metrics::counter!("holdfast_config_history_failures_total").increment(1);
        let text = format!("cannot {what}: {error}");
        let mut inner = self.inner.lock();
        inner.n_failures += 1;
        if inner.error.is_none() {
            tracing::warn!(
                "{text}; the history of the configuration is kept in memory until that works"
            );
        }
        inner.error = Some(text);
    }
}

/// Tells texts apart.
pub fn hash(texts: &ClientTexts) -> u64 {
    // A structure of strings always has a JSON.
    crate::links::memory::hash(&serde_json::to_vec(texts).unwrap_or_default())
}

/// Tells the versions of one file from those of another.
fn prefix(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let hash = crate::links::memory::hash(path.display().to_string().as_bytes());
    format!("config-{hash:016x}-")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use frp_core::config::TextFile;
    use std::os::unix::fs::PermissionsExt;

    fn version() -> Version {
        Version {
            number: 0,
            applied_at: 1_700_000_000,
            why: Why::Start,
            of: None,
            confirmed_at: None,
            taken_back: None,
            only_services: false,
            strict: true,
            running: Vec::new(),
            bytes: 0,
            hash: 0,
        }
    }

    fn texts(text: &str) -> ClientTexts {
        ClientTexts {
            main: TextFile {
                path: "frpc.toml".to_owned(),
                text: text.to_owned(),
            },
            included: Vec::new(),
        }
    }

    fn open(dir: &Path) -> Arc<History> {
        History::open(
            StateDir::open(Some(dir), "frpc"),
            Path::new("/etc/frpc.toml"),
        )
    }

    #[test]
    fn the_next_process_knows_the_versions_and_which_of_them_work() {
        let dir = tempfile::tempdir().unwrap();
        let history = open(dir.path());
        assert_eq!(history.add(version(), texts("user = \"a\"")), 1);
        history.change(1, |version| version.confirmed_at = Some(5));
        assert_eq!(history.add(version(), texts("user = \"b\"")), 2);

        let history = open(dir.path());
        let numbers: Vec<_> = history.versions().iter().map(|v| v.number).collect();
        assert_eq!(numbers, [1, 2]);
        assert_eq!(history.last_working().unwrap().number, 1);
        assert_eq!(history.get(2).unwrap().texts, texts("user = \"b\""));
        assert_eq!(history.failures(), (0, None));
    }

    #[test]
    fn only_the_owner_may_read_a_version() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).add(version(), texts("auth.token = \"secret\""));
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn beyond_the_bounds_the_oldest_go_and_the_last_that_works_stays() {
        let dir = tempfile::tempdir().unwrap();
        let history = open(dir.path());
        history.add(version(), texts("works"));
        history.change(1, |version| version.confirmed_at = Some(5));
        for n in 0..MAX_VERSIONS + 3 {
            history.add(version(), texts(&n.to_string()));
        }
        let numbers: Vec<_> = history.versions().iter().map(|v| v.number).collect();
        assert_eq!(numbers.len(), MAX_VERSIONS);
        assert_eq!(numbers[0], 1);
        assert_eq!(open(dir.path()).versions(), history.versions());

        let large = "#".repeat(MAX_TEXTS_LEN - 100);
        for _ in 0..4 {
            history.add(version(), texts(&large));
        }
        let n_bytes: usize = history.versions().iter().map(|v| v.bytes).sum();
        assert!(n_bytes <= MAX_BYTES, "{n_bytes}");
        assert_eq!(history.last_working().unwrap().number, 1);
    }

    #[test]
    fn what_cannot_be_written_is_kept_in_memory_and_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let history = open(dir.path());
        // Instead of a full disk: a folder in the place of the file is not replaced.
        let obstacle = dir.path().join(history.file_name(1)).join("x");
        std::fs::create_dir_all(&obstacle).unwrap();
        history.add(version(), texts("first"));
        let (n_failures, error) = history.failures();
        assert_eq!(n_failures, 1);
        assert!(error.unwrap().contains("cannot write version 1"));
        assert_eq!(history.get(1).unwrap().texts, texts("first"));

        std::fs::remove_dir_all(obstacle.parent().unwrap()).unwrap();
        history.add(version(), texts("second"));
        assert_eq!(history.failures(), (1, None));
        assert_eq!(open(dir.path()).get(1).unwrap().texts, texts("first"));
    }

    #[test]
    fn what_makes_no_sense_is_counted_and_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let name = open(dir.path()).file_name(3);
        std::fs::write(dir.path().join(name), b"{ not json").unwrap();
        let history = open(dir.path());
        assert_eq!(history.failures().0, 1);
        assert!(history.versions().is_empty());
        assert_eq!(history.add(version(), texts("x")), 1);
    }

    #[test]
    fn a_reload_of_more_than_services_is_nothing_to_start_with() {
        let history = History::in_memory();
        history.add(version(), texts("a"));
        history.change(1, |version| {
            version.confirmed_at = Some(1);
            version.only_services = true;
        });
        assert_eq!(history.last_working(), None);
    }
}
