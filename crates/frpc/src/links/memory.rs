//! What a client remembers of its server, in the state directory: so that its next process gets its
//! ports back at once, dials first what worked last, and notices when the server is another one.
//!
//! One file for each server and client, under a lock: two processes with the same configuration
//! must not take each other's sessions for their own. The second one remembers nothing.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frp_core::config::ClientConfig;
use frp_core::proto::hold::key::{ResumeKey, SessionId};
use frp_core::proto::ids;
use frp_core::proto::policy::{Config as PolicyConfig, Health};
use frp_core::state::StateDir;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::context::unix_now;

/// What is remembered of one server. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// None: nothing is written.
    place: Option<Place>,
    record: Mutex<Record>,
    /// Held while the file is written, so that an older state never replaces a newer one.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct Place {
    dir: StateDir,
    name: String,
    /// Keeps other processes away for as long as this one lives.
    _lock: Option<File>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    /// Of the last session.
    run_id: String,
    /// Of the last held session, base64.
    session_id: String,
    /// What proves it in the next life, base64.
    resume_key: String,
    /// The server has shown that it is a Holdfast.
    is_holdfast: bool,
    /// Where else the server can be reached.
    endpoints: Vec<(String, u16)>,
    /// The policy's, as JSON in a string.
    health: String,
    /// When `health` was so, in seconds since 1970.
    saved_at: u64,
    /// When the last session was logged in to, in seconds since 1970.
    logged_in_at: i64,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("run_id", &ids::Short(&self.run_id))
            .field("is_holdfast", &self.is_holdfast)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// What is known of the server of `config`. `identity` tells clients of one server and one
    /// state directory apart: their configuration file, say.
    pub fn open(dir: StateDir, config: &ClientConfig, identity: &str) -> Self {
        let name = file_name(config, identity);
        let lock = match dir.path() {
            Some(path) => match lock(&path.join(format!("{name}.lock"))) {
                Ok(lock) => Some(lock),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    tracing::warn!("cannot lock state file {name}: {error}: nothing is remembered");
                    return Self::forgetful();
                }
                Err(error) => {
                    tracing::debug!("another frpc uses {name}: nothing is remembered: {error}");
                    return Self::forgetful();
                }
            },
            None => None,
        };
        let record = match dir.read(&name) {
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!("state file {name} makes no sense and is not used: {error}");
                Record::default()
            }),
            Ok(None) => Record::default(),
            Err(error) => {
                tracing::warn!("cannot read state file {name}: {error}");
                Record::default()
            }
        };
        Self::with(
            Some(Place {
                dir,
                name,
                _lock: lock,
            }),
            record,
        )
    }

    /// Remembers until the process ends.
    pub fn forgetful() -> Self {
        Self::with(None, Record::default())
    }

    fn with(place: Option<Place>, record: Record) -> Self {
        Self {
            inner: Arc::new(Inner {
                place,
                record: Mutex::new(record),
                writing: Mutex::new(()),
            }),
        }
    }

    /// The last session's run id, or nothing.
    pub(crate) fn run_id(&self) -> String {
        let record = self.inner.record.lock();
        // It comes from a file.
        match ids::is_acceptable(&record.run_id) {
            true => record.run_id.clone(),
            false => String::new(),
        }
    }

    /// When the last session was logged in to, in seconds since 1970; 0 without one.
    pub(crate) fn logged_in_at(&self) -> i64 {
        self.inner.record.lock().logged_in_at
    }

    /// What proves the last held session.
    pub(crate) fn previous(&self) -> Option<(SessionId, ResumeKey)> {
        let record = self.inner.record.lock();
        let session_id = STANDARD.decode(&record.session_id).ok()?;
        let key = STANDARD.decode(&record.resume_key).ok()?;
        Some((
            session_id.try_into().ok()?,
            ResumeKey::from_bytes(key.try_into().ok()?),
        ))
    }

    /// Whether the server has been a Holdfast.
    pub(crate) fn is_holdfast(&self) -> bool {
        self.inner.record.lock().is_holdfast
    }

    /// From here on a server that does not show that it is a Holdfast is none that was known.
    pub fn expect_holdfast(&self) {
        self.inner.record.lock().is_holdfast = true;
    }

    /// Where the server said it can be reached.
    pub(crate) fn endpoints(&self) -> Vec<(String, u16)> {
        self.inner.record.lock().endpoints.clone()
    }

    /// What is left of what the policy knew.
    pub(crate) fn health(&self, config: &PolicyConfig) -> Health {
        let (text, saved_at) = {
            let record = self.inner.record.lock();
            (record.health.clone(), record.saved_at)
        };
        // A clock that went back makes it fresh: at worst a transport is tried a moment later.
        let age = Duration::from_secs(now().saturating_sub(saved_at));
        let health = Health::from_json(text.as_bytes()).unwrap_or_default();
        health.aged(config, age)
    }

    /// A session has begun.
    pub(crate) fn set_session(
        &self,
        run_id: &str,
        held: Option<(SessionId, ResumeKey)>,
        welcome: Option<Vec<(String, u16)>>,
    ) {
        {
            let mut record = self.inner.record.lock();
            run_id.clone_into(&mut record.run_id);
            record.logged_in_at = unix_now();
            let (session_id, key) = held
                .map(|(id, key)| (STANDARD.encode(id), STANDARD.encode(key.to_bytes())))
                .unwrap_or_default();
            // Only who holds streams has proven anything. A server that was one stays one here:
            // that it no longer shows it is what is noticed.
            record.is_holdfast |= !key.is_empty();
            record.session_id = session_id;
            record.resume_key = key;
            if let Some(endpoints) = welcome {
                record.endpoints = endpoints;
            }
        }
        self.save();
    }

    /// The policy has learnt something.
    pub(crate) fn set_health(&self, health: &Health) {
        let text = String::from_utf8_lossy(&health.to_json()).into_owned();
        {
            let mut record = self.inner.record.lock();
            record.saved_at = now();
            if record.health == text {
                return;
            }
            record.health = text;
        }
        self.save();
    }

    /// Writes beside the caller: a disk that hangs must hold up nobody.
    fn save(&self) {
        if self.inner.place.is_none() {
            return;
        }
        let inner = self.inner.clone();
        let write = move || {
            let Some(place) = &inner.place else {
                return;
            };
            let _writing = inner.writing.lock();
            let record = inner.record.lock().clone();
            let written = serde_json::to_vec(&record)
                .map_err(io::Error::from)
                .and_then(|bytes| place.dir.write_whole(&place.name, &bytes));
            if let Err(error) = written {
                tracing::warn!("cannot write state file {}: {error}", place.name);
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(write)),
            Err(_) => write(),
        }
    }
}

fn now() -> u64 {
    u64::try_from(unix_now()).unwrap_or_default()
}

/// Server and port for people, and a number that tells everything apart.
fn file_name(config: &ClientConfig, identity: &str) -> String {
    let parts = [
        config.server_addr.as_str(),
        &config.server_port.to_string(),
        &config.user,
        &config.client_id,
        identity,
    ];
    // What collides shares what it knows, which the lock and the server's own checks make harmless.
    let hash = hash(parts.join("\0").as_bytes());
    let host: String = config
        .server_addr
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || c == '.' || c == '-' => c,
            _ => '_',
        })
        .take(MAX_HOST_LEN)
        .collect();
    format!("server-{host}-{}-{hash:016x}.json", config.server_port)
}

/// FNV-1a: the same in every build.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Of the host's name in a file's name, which has 255 bytes.
const MAX_HOST_LEN: usize = 100;

fn lock(path: &std::path::Path) -> io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    file.try_lock().map_err(io::Error::from)?;
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use frp_core::proto::policy::Transport;

    fn open(dir: &std::path::Path) -> Memory {
        let dir = StateDir::open(Some(dir), "frpc");
        Memory::open(dir, &ClientConfig::default(), "frpc.toml")
    }

    #[test]
    fn the_next_process_knows_what_the_last_one_knew() {
        let dir = tempfile::tempdir().unwrap();
        let memory = open(dir.path());
        assert_eq!(
            (memory.run_id().as_str(), memory.is_holdfast()),
            ("", false)
        );
        let key = ResumeKey::from_bytes([7; 32]);
        let endpoints = vec![("quic".to_owned(), 7001)];
        memory.set_session("id", Some(([1; 16], key)), Some(endpoints.clone()));
        let health = Health {
            last_used: Some(Transport::Tcp),
            ..Health::default()
        };
        memory.set_health(&health);
        drop(memory);

        let memory = open(dir.path());
        assert_eq!(
            (memory.run_id().as_str(), memory.is_holdfast()),
            ("id", true)
        );
        assert_eq!(memory.endpoints(), endpoints);
        assert_eq!(memory.health(&PolicyConfig::default()), health);
        let (id, key) = memory.previous().unwrap();
        assert_eq!((id, key.to_bytes()), ([1; 16], [7; 32]));
    }

    #[test]
    fn a_second_process_with_the_same_configuration_remembers_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path());
        first.set_session("id", None, None);
        let second = open(dir.path());
        assert_eq!(second.run_id(), "");
        second.set_session("other", None, None);
        drop((first, second));
        assert_eq!(open(dir.path()).run_id(), "id");
    }

    #[test]
    fn a_server_that_was_a_holdfast_is_remembered_as_one() {
        let memory = Memory::forgetful();
        memory.set_session("id", None, Some(Vec::new()));
        assert!(!memory.is_holdfast(), "nothing was proven");
        let key = ResumeKey::from_bytes([7; 32]);
        memory.set_session("id", Some(([1; 16], key)), Some(Vec::new()));
        memory.set_session("id", None, None);
        assert!(memory.is_holdfast());
    }
}
